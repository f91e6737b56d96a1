// The smallest machine: RAM, a few vCPUs in 32-bit flat mode at the same code, each in a Worker, and a bus that counts. For tests of the
// vCPU loop, of kicks and of parking, without any device of ours.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { Kvm } from '../kvm/kvm.ts';
import { Vcpu } from '../kvm/vcpu.ts';
import { Vm } from '../kvm/vm.ts';
import { installKickHandler, signalThread } from '../machine/kick.ts';
import { VcpuStates } from '../machine/vcpu-state.ts';
import type { GuestStop } from '../machine/vcpu-loop.ts';
import { allocateWindow, type Window } from '../memory/window.ts';
import { Arena, type ArenaDescription } from '../sync/arena.ts';

export const CODE = 0x1000;
const RAM = 0x10000;

export interface TinyWorkerData {
  arena: ArenaDescription;
  id: number;
  fd: number;
  runs: SharedArrayBuffer[];
}

export interface TinyMachine {
  vm: Vm;
  vcpus: Vcpu[];
  states: VcpuStates;
  arena: Arena;
  ram: Window;
  /** Accesses seen by the bus: [port writes, port reads, memory writes, memory reads, sum of memory bytes written]. */
  counts: Int32Array;
  stops: { id: number; stop: GuestStop }[];
  /** Called for each stop. */
  onStop: (() => void) | null;
  start(): void;
  end(): Promise<void>;
}

/** @param code 32-bit machine code that every vCPU begins with; EBX holds the vCPU's number. */
export async function tinyMachine(code: readonly number[], cpus = 1): Promise<TinyMachine> {
  installKickHandler();
  const kvm = Kvm.open();
  const vm = new Vm(kvm.createVm());
  vm.placeSystemPages(0xfffbd000, 0xfffbc000);
  vm.createInterruptControllers();
  const ram = allocateWindow(RAM);
  new Uint8Array(ram.buffer, 0, RAM).set(code, CODE);
  vm.setMemoryRegion({ slot: 0, gpa: 0, size: RAM, hva: ram.address, dirtyLog: false, readonly: false });
  const cpuid = kvm.supportedCpuid();
  const vcpus = Array.from({ length: cpus }, (_, id) => new Vcpu(vm.createVcpu(id), id));
  const runs = vcpus.map((vcpu) => vcpu.mapRun(kvm.limits.runBytes));
  const arena = new Arena(65536);
  const states = new VcpuStates(arena, runs.map((run) => new Uint8Array(run.buffer, 1, 1)), signalThread);
  const counts = arena.int32('counts', 8);
  for (const vcpu of vcpus) {
    vcpu.setCpuid(cpuid);
    flatMode(vcpu);
    if (vcpu.id > 0) vcpu.setMpState(0);
  }
  const machine: TinyMachine = { vm, vcpus, states, arena, ram, counts, stops: [], onStop: null, start: () => states.resume(), end };
  states.holdBeforeStart();
  const workers = vcpus.map((vcpu) => {
    const data: TinyWorkerData = { arena: arena.describe(), id: vcpu.id, fd: vcpu.fd, runs: runs.map((run) => run.buffer) };
    const worker = new Worker(new URL('./tiny-vcpu-worker.ts', import.meta.url), { workerData: data });
    worker.on('message', (message: { stop: GuestStop }) => {
      machine.stops.push({ id: vcpu.id, stop: message.stop });
      machine.onStop?.();
    });
    return worker;
  });
  async function end(): Promise<void> {
    states.stop();
    await Promise.all(workers.map((worker) => (worker.threadId === -1 ? undefined : once(worker, 'exit'))));
    vm.close();
    kvm.close();
  }
  await Promise.all(workers.map((worker) => once(worker, 'online')));
  return machine;
}

/** 32-bit flat mode, paging off, at CODE. */
export function flatMode(vcpu: Vcpu): void {
  const sregs = vcpu.getSregs();
  const view = new DataView(sregs.buffer);
  for (let i = 0; i < 6; i++) {
    view.setBigUint64(i * 24, 0n, true);
    view.setUint32(i * 24 + 8, 0xffffffff, true);
    view.setUint16(i * 24 + 12, i === 0 ? 0x10 : 0x18, true);
    sregs.set([i === 0 ? 11 : 3, 1, 0, 1, 1, 0, 1, 0], i * 24 + 14);
  }
  view.setBigUint64(224, 1n, true);
  vcpu.setSregs(sregs);
  const regs = new DataView(new ArrayBuffer(144));
  regs.setBigUint64(8, BigInt(vcpu.id), true); // rbx
  regs.setBigUint64(6 * 8, 0x8000n, true);
  regs.setBigUint64(16 * 8, BigInt(CODE), true);
  regs.setBigUint64(17 * 8, 2n, true);
  vcpu.setRegs(new Uint8Array(regs.buffer));
}
