// What a thread of a machine is built from, and the building: the same for the control thread and for every vCPU Worker.
import { GsiRouting } from '../irq/routing.ts';
import { IrqLines } from '../irq/irq-lines.ts';
import type { InterruptWiring } from '../vfio/interrupts.ts';
import { Vm } from '../kvm/vm.ts';
import { GuestMemory, type RamWindow } from '../memory/guest-memory.ts';
import type { MsiSink } from '../pci/device.ts';
import { Arena, type ArenaDescription } from '../sync/arena.ts';
import { Boots } from './boots.ts';
import { SharedClock } from './clock.ts';
import { buildDevices, type Consumers, type DeviceOptions, type MachineDevices } from './devices.ts';
import { signalThread } from './kick.ts';
import { KvmIoEvents, KvmSlots } from './kvm-slots.ts';
import { Attention, ThreadPlatform, type ThreadMessage } from './thread-platform.ts';
import { VcpuStates } from './vcpu-state.ts';

/** Crosses to a Worker by structured clone; buffers are shared. */
export interface ThreadDescription {
  readonly arena: ArenaDescription;
  readonly vm: number;
  readonly ram: readonly RamWindow[];
  /** kvm_run of each vCPU. */
  readonly runs: readonly SharedArrayBuffer[];
  readonly devices: DeviceOptions;
}

export interface MachineThread {
  readonly arena: Arena;
  readonly vm: Vm;
  readonly ram: GuestMemory;
  readonly clock: SharedClock;
  readonly attention: Attention;
  readonly boots: Boots;
  readonly states: VcpuStates;
  readonly lines: IrqLines;
  readonly slots: KvmSlots;
  readonly msi: MsiSink;
  readonly interrupts: InterruptWiring;
  readonly platform: ThreadPlatform;
  readonly devices: MachineDevices;
}

/**
 * @param arena the control thread's own, or undefined to attach the described one
 * @param vcpu the vCPU that this thread runs, -1 for the control thread
 */
export function buildThread(description: ThreadDescription, vcpu: number, post: (message: ThreadMessage) => void, arena?: Arena, consumers?: Consumers): MachineThread {
  const control = vcpu < 0;
  const shared = arena ?? Arena.attach(description.arena);
  const vm = new Vm(description.vm);
  const ram = new GuestMemory(description.ram);
  const clock = new SharedClock(shared);
  const attention = new Attention(shared);
  const boots = new Boots(shared);
  const states = new VcpuStates(shared, description.runs.map((run) => new Uint8Array(run, 1, 1)), signalThread);
  const lines = new IrqLines(shared, vm, control);
  const slots = new KvmSlots(shared, vm);
  const platform = new ThreadPlatform({ arena: shared, clock, control, lines, attention, boots, post });
  const parking = { parkOthers: () => states.parkForCommit(vcpu), release: () => states.releaseCommit() };
  const msi: MsiSink = { send: (address, data) => void vm.signalMsi(address, data) };
  const routes = new GsiRouting(shared, (table) => vm.setRouting(table));
  const interrupts: InterruptWiring = { irqfd: (fd, gsi, options) => vm.irqfd(fd, gsi, options), routes };
  const devices = buildDevices(platform, ram, description.devices, { slots, parking, events: new KvmIoEvents(vm), msi, interrupts }, consumers);
  if (control) for (const device of devices.all) attention.register(device.label);
  return { arena: shared, vm, ram, clock, attention, boots, states, lines, slots, msi, interrupts, platform, devices };
}
