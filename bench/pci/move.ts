// A machine's buses and PCI alone, with so many devices, each with one BAR of 64 KiB: what one configuration write costs that moves a BAR.
import { Bus } from '../../src/vmm/bus/bus.ts';
import { Kvm } from '../../src/vmm/kvm/kvm.ts';
import { Vm } from '../../src/vmm/kvm/vm.ts';
import { KvmSlots } from '../../src/vmm/machine/kvm-slots.ts';
import { allocateWindow } from '../../src/vmm/memory/window.ts';
import type { MemorySlots, PciDevice } from '../../src/vmm/pci/device.ts';
import { PciFunction } from '../../src/vmm/pci/function.ts';
import { PciHost } from '../../src/vmm/pci/host.ts';
import { Topology } from '../../src/vmm/pci/topology.ts';
import { FakePlatform } from '../../src/vmm/testing/fake-platform.ts';

const ECAM = 0xb000_0000;
const ECAM_BYTES = 0x1000_0000;
const BAR_BYTES = 0x10000;
const WINDOW = { start: 0xc000_0000, end: 0xfec0_0000 };
const FIRST_SLOT = 1;
const MEMORY_DECODE = 2;
const COMMAND = 4;
const BAR0 = 0x10;

/** trapped: without memory. mapped: with memory, the slots only noted. kvm: with memory, in slots of KVM; no vCPU runs. */
export type MoveKind = 'trapped' | 'mapped' | 'kvm';

/** @returns a function that moves the first device's BAR to and fro, so many times. */
export function buildMover(kind: MoveKind, count: number): (moves: number) => void {
  const platform = new FakePlatform();
  const io = new Bus(platform.arena, 'io');
  const memory = new Bus(platform.arena, 'memory');
  const noted: MemorySlots = { set: () => {}, remove: () => {} };
  const slots = kind === 'kvm' ? new KvmSlots(platform.arena, new Vm(Kvm.open().createVm())) : noted;
  const topology = new Topology(platform, { io, memory, slots, parking: { parkOthers: () => {}, release: () => {} }, windows: { io: { start: 0x1000, end: 0xf000 }, memory: WINDOW } });
  const host = new PciHost(topology);
  topology.addRange('ecam', 'memory', ECAM, ECAM_BYTES, host.ecam, topology.lock);
  for (let index = 0; index < count; index++) {
    const label = `device ${index}`;
    const backing = kind === 'trapped' ? undefined : { hva: allocateWindow(BAR_BYTES).address, bytes: BAR_BYTES, dirtyLog: false };
    const config = new PciFunction(platform.arena, {
      label, vendorId: 1, deviceId: 1, classCode: 0xff0000,
      bars: [{ index: 0, kind: 'memory32', size: BAR_BYTES, handler: { read: () => 0, write: () => undefined }, backing }],
    });
    const device: PciDevice = { label, mutex: platform.arena.mutex(label), ranges: [], config, reset: () => {} };
    host.add(device, FIRST_SLOT + (index >> 3), index & 7);
  }
  host.reset();
  const configOf = (index: number): number => ECAM + (FIRST_SLOT * 8 + index) * 4096;
  for (let index = 0; index < count; index++) {
    memory.write(configOf(index) + BAR0, 4, WINDOW.start + index * 2 * BAR_BYTES);
    memory.write(configOf(index) + COMMAND, 2, MEMORY_DECODE);
  }
  const places = [WINDOW.start + BAR_BYTES, WINDOW.start];
  return (moves) => {
    for (let move = 0; move < moves; move++) memory.write(configOf(0) + BAR0, 4, places[move & 1]!);
    if (memory.read(places[1]!, 4) !== 0 || memory.read(places[0]!, 4) !== 0xffff_ffff) throw new Error('the BAR is not where it was moved to');
  };
}
