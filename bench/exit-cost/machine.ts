// A machine as src/vmm/machine/machine.ts builds it, all devices on their buses, but with the benchmark's guest and no server.
import { KVM_IDENTITY_MAP, KVM_TSS } from '../../src/vmm/arch/x86/layout.ts';
import { programForDirectBoot } from '../../src/vmm/arch/x86/chipset/chipset.ts';
import { CpuSetup } from '../../src/vmm/arch/x86/cpu/cpu-setup.ts';
import { VRAM_BYTES } from '../../src/vmm/display/adapter.ts';
import { Kvm } from '../../src/vmm/kvm/kvm.ts';
import { Vcpu } from '../../src/vmm/kvm/vcpu.ts';
import { Vm } from '../../src/vmm/kvm/vm.ts';
import { fwCfgItems } from '../../src/vmm/machine/direct-boot.ts';
import { installKickHandler } from '../../src/vmm/machine/kick.ts';
import type { PluggedDescription } from '../../src/vmm/machine/plugged.ts';
import { buildThread, type MachineThread, type ThreadDescription } from '../../src/vmm/machine/thread.ts';
import { GuestMemory } from '../../src/vmm/memory/guest-memory.ts';
import { allocateWindow } from '../../src/vmm/memory/window.ts';
import { Arena } from '../../src/vmm/sync/arena.ts';
import { LAST_PORT } from './guest.ts';

const MEMORY = 64 * 2 ** 20;
const REGISTERS_BAR = 2;
/** The DISPI registers YRES and BPP. */
const PLAIN_REGISTER = 0x504;
const STOP = 2;

export interface ExitMachine {
  readonly description: ThreadDescription;
  readonly fd: number;
  /** A guest-physical address with a 32-bit register behind it. */
  readonly registerAddress: number;
}

/** The device at LAST_PORT: has this thread's loop end. The same in every thread. */
export function addLastPort(thread: MachineThread, description: ThreadDescription): void {
  const wanted = thread.arena.int32('vcpu.wanted', 4);
  const immediateExit = new Uint8Array(description.runs[0], 1, 1);
  const write = (): void => {
    Atomics.store(wanted, STOP, 1);
    Atomics.store(immediateExit, 0, 1);
  };
  const mutex = thread.arena.mutex('bench.mutex');
  thread.devices.topology.addFixed({ label: 'bench', mutex, ranges: [{ space: 'io', start: LAST_PORT, size: 1, handler: { read: () => 0xff, write } }], reset: () => {} });
}

/** Lets the loop run again after addLastPort's device ended it. */
export function allowRun(thread: MachineThread): void {
  Atomics.store(thread.arena.int32('vcpu.wanted', 4), STOP, 0);
}

export interface BenchMachine {
  readonly description: ThreadDescription;
  readonly vcpus: readonly Vcpu[];
  /** The control thread's. */
  readonly thread: MachineThread;
}

/**
 * All devices placed, guest time running, and nothing in RAM.
 * @param prepare adds devices of the benchmark's own, before the first reset
 */
export function buildBenchMachine(cpuCount: number, plugged: readonly PluggedDescription[] = [], prepare?: (thread: MachineThread, description: ThreadDescription) => void): BenchMachine {
  installKickHandler();
  const kvm = Kvm.open();
  const vm = new Vm(kvm.createVm());
  vm.placeSystemPages(KVM_TSS, KVM_IDENTITY_MAP);
  vm.createInterruptControllers();
  const ram = GuestMemory.allocate(MEMORY);
  ram.windows.forEach((window, slot) => vm.setMemoryRegion({ slot, gpa: window.gpa, size: window.size, hva: ram.windowHva(slot), dirtyLog: false, readonly: false }));
  const vcpus = Array.from({ length: cpuCount }, (_, id) => new Vcpu(vm.createVcpu(id), id));
  const cpus = new CpuSetup(kvm, vcpus);
  cpus.setCpuids();
  const arena = new Arena();
  const description: ThreadDescription = {
    arena: arena.describe(),
    vm: vm.fd,
    ram: ram.windows,
    runs: vcpus.map((vcpu) => vcpu.mapRun(kvm.limits.runBytes).buffer),
    devices: {
      cpus: cpuCount,
      physicalBits: cpus.physicalBits,
      display: { width: 1280, height: 800, vram: allocateWindow(VRAM_BYTES).buffer },
      testDevices: true,
      plugged,
      fwCfg: fwCfgItems(MEMORY, cpuCount).describe(),
    },
  };
  const thread = buildThread(description, -1, () => {}, arena);
  prepare?.(thread, description);
  thread.clock.begin();
  const { devices } = thread;
  for (const device of devices.all) device.reset();
  devices.host.reset();
  programForDirectBoot(devices.host, devices.chipset);
  thread.clock.resume();
  return { description: { ...description, arena: arena.describe() }, vcpus, thread };
}

export function buildExitMachine(): ExitMachine {
  const { description, vcpus, thread } = buildBenchMachine(1, [], addLastPort);
  const { topology, display } = thread.devices;
  const { address } = topology.run(() => topology.whereIs(display!, REGISTERS_BAR));
  return { description, fd: vcpus[0]!.fd, registerAddress: address + PLAIN_REGISTER };
}
