// A machine whose vCPUs read a register of a PCI test device for ever: each of a device of its own, or all of the same one.
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { SCRATCH } from '../../src/vmm/devices/pci-test/pci-test.ts';
import { PciTestStore } from '../../src/vmm/devices/pci-test/parts.ts';
import { equip } from '../../src/vmm/machine/plugged.ts';
import { CODE, flatMode } from '../../src/vmm/testing/tiny-machine.ts';
import { buildBenchMachine } from '../exit-cost/machine.ts';
import type { MmioWorkerData } from './worker.ts';

/** Of each vCPU: the address that it reads. */
const TABLE = 0x3000;
const FIRST_SLOT = 8;
const IN_A_ROW = 16;
const WARM_UP_MS = 1000;
const WINDOW_MS = 500;

const bytes32 = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
/** EBX holds the vCPU's number. */
const GUEST = [
  0x8b, 0x34, 0x9d, ...bytes32(TABLE), // mov esi, [ebx * 4 + TABLE]
  ...Array.from({ length: IN_A_ROW }, () => [0x8b, 0x06]).flat(), // mov eax, [esi]
  0xeb, 256 - (IN_A_ROW * 2 + 2), // jmp
];

/** Of all vCPUs together, one number for each window of time. */
export interface MmioSamples {
  /** Reads a second. */
  readonly rates: number[];
  /** Microseconds of processor time that one read takes, with all that is around it. */
  readonly costs: number[];
}

export async function measureMmio(cpus: number, same: boolean, windows: number): Promise<MmioSamples> {
  const store = new PciTestStore();
  const plugged = Array.from({ length: same ? 1 : cpus }, (_, index) => equip({ kind: 'pci-test', functions: 1, window: 128 * 1024, dirtyLog: false, sharedMsix: false }, FIRST_SLOT + index, store));
  const { description, vcpus, thread } = buildBenchMachine(cpus, plugged);
  const { devices, states } = thread;
  const tests = devices.host.functions().filter(({ slot }) => slot >= FIRST_SLOT && slot < FIRST_SLOT + plugged.length);
  const window = description.ram[0]!;
  const ram = new Uint8Array(window.buffer, window.offset, window.size);
  ram.set(GUEST, CODE);
  for (const vcpu of vcpus) {
    const { device } = tests[same ? 0 : vcpu.id]!;
    const { address } = devices.topology.run(() => devices.topology.whereIs(device, 0));
    ram.set(bytes32(address + SCRATCH), TABLE + vcpu.id * 4);
    flatMode(vcpu);
    if (vcpu.id > 0) vcpu.setMpState(0);
  }
  states.holdBeforeStart();
  const workers = vcpus.map(({ id, fd }) => new Worker(new URL('./worker.ts', import.meta.url), { workerData: { description, id, fd } satisfies MmioWorkerData }));
  await Promise.all(workers.map((worker) => once(worker, 'message')));
  states.resume();
  const count = (): number => vcpus.reduce((sum, { id }) => sum + states.exits(id).memory, 0);
  await sleep(WARM_UP_MS);
  const rates: number[] = [];
  const costs: number[] = [];
  for (let at = 0; at < windows; at++) {
    const before = count();
    const begin = performance.now();
    const used = process.cpuUsage();
    await sleep(WINDOW_MS);
    const reads = count() - before;
    const { user, system } = process.cpuUsage(used);
    rates.push((reads / (performance.now() - begin)) * 1000);
    costs.push((user + system) / reads);
  }
  const gone = workers.map((worker) => once(worker, 'exit'));
  states.stop();
  await Promise.all(gone);
  return { rates, costs };
}
