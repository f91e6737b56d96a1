// The vCPU's thread of bench/exit-cost.ts: three loops drive one vCPU by turns, the one in C, Vitrine's, and between the two the least that
// JavaScript can do, koffi's ioctl and a switch.
import koffi from 'koffi';
import { parentPort, workerData } from 'node:worker_threads';
import { Vcpu } from '../../src/vmm/kvm/vcpu.ts';
import * as k from '../../src/vmm/kvm/ioctls.ts';
import { EINTR, errno, ioctlValue } from '../../src/vmm/kvm/libc.ts';
import { threadId } from '../../src/vmm/machine/kick.ts';
import { buildThread, type ThreadDescription } from '../../src/vmm/machine/thread.ts';
import { VcpuLoop } from '../../src/vmm/machine/vcpu-loop.ts';
import { CODE, flatMode } from '../../src/vmm/testing/tiny-machine.ts';
import { exitKinds, exitLoop, LAST_PORT, POST_PORT, SCRATCH_PORT } from './guest.ts';
import { addLastPort, allowRun } from './machine.ts';

export interface ExitWorkerData {
  readonly description: ThreadDescription;
  readonly fd: number;
  readonly registerAddress: number;
  /** The library of exit-loop.c. */
  readonly library: string;
  /** Exits of a run, a multiple of 16. */
  readonly exits: number;
  readonly rounds: number;
  /** Rounds before those that count: code is compiled while it runs. */
  readonly warmUp: number;
}

/** Nanoseconds an exit, one of each a round. */
export interface ExitSamples {
  readonly name: string;
  readonly c: number[];
  readonly koffi: number[];
  readonly ours: number[];
}

const TOUCHES = 300;
const CMOS_INDEX = 0x70;
const CONFIG_ADDRESS = 0xcf8;

const { description, fd, registerAddress, library, exits, rounds, warmUp } = workerData as ExitWorkerData;
const thread = buildThread(description, 0, () => {});
addLastPort(thread, description);
const run = description.runs[0];
const bytes = new Uint8Array(run, 0, run.byteLength);
const halves = new Uint16Array(run, 0, run.byteLength / 2);
const words = new Uint32Array(run, 0, run.byteLength / 4);
const benchExits = koffi.load(library).func('int64_t bench_exits(int fd, uintptr_t run, uint32_t last_port)') as (fd: number, run: number, lastPort: number) => number;
const runAddress = Number(koffi.address(new Uint8Array(run, 0, 1)));
const vcpu = new Vcpu(fd, 0);
const loop = new VcpuLoop({
  id: 0, fd, run,
  states: thread.states,
  ports: thread.devices.io,
  memory: thread.devices.memory,
  stopped: (stop) => {
    throw new Error(`the benchmark's guest stopped: ${JSON.stringify(stop)}`);
  },
});

function runC(): void {
  const done = benchExits(fd, runAddress, LAST_PORT);
  if (done !== exits + 1) throw new Error(`the loop in C made ${done} exits instead of ${exits + 1}`);
}

function runKoffi(): void {
  for (;;) {
    if (ioctlValue(fd, k.KVM_RUN, 0) < 0) throw new Error(`KVM_RUN failed: ${errno()}`);
    switch (words[2]) {
      case k.KVM_EXIT_IO:
        if (bytes[32] === 0) bytes[words[10]] = 0xff;
        else if (halves[17] === LAST_PORT) {
          bytes[1] = 1;
          if (ioctlValue(fd, k.KVM_RUN, 0) === 0 || errno() !== EINTR) throw new Error('the last exit was not completed');
          bytes[1] = 0;
          return;
        }
        break;
      case k.KVM_EXIT_MMIO:
        words[10] = 0xffffffff;
        break;
      default:
        throw new Error(`exit reason ${words[2]}`);
    }
  }
}

const tid = threadId();
function runOurs(): void {
  const before = thread.states.exits(0);
  loop.run(tid);
  allowRun(thread);
  const after = thread.states.exits(0);
  const done = after.io - before.io + after.memory - before.memory;
  if (done !== exits + 1) throw new Error(`our loop made ${done} exits instead of ${exits + 1}`);
}

/** Accesses to every device, as in a guest's start: without them, compiled code would know only those that are measured. */
function touchDevices(): void {
  const { io, memory } = thread.devices;
  for (const bus of [io, memory]) {
    for (const { start } of bus.ranges()) for (let i = 0; i < TOUCHES; i++) bus.read(start, 1);
  }
  for (const port of [POST_PORT, SCRATCH_PORT, CMOS_INDEX]) for (let i = 0; i < TOUCHES; i++) io.write(port, 1, 0);
  for (let i = 0; i < TOUCHES; i++) io.write(CONFIG_ADDRESS, 4, 0x8000_0000);
}

function timed(body: () => void): number {
  const begin = process.hrtime.bigint();
  body();
  return Number(process.hrtime.bigint() - begin) / (exits + 1);
}

touchDevices();
for (const kind of exitKinds(registerAddress)) {
  const window = description.ram[0];
  new Uint8Array(window.buffer, window.offset, window.size).set(exitLoop(kind, exits), CODE);
  flatMode(vcpu);
  const samples: ExitSamples = { name: kind.name, c: [], koffi: [], ours: [] };
  const turns: [number[], () => void][] = [[samples.c, runC], [samples.koffi, runKoffi], [samples.ours, runOurs]];
  for (let round = 0; round < warmUp; round++) for (const [, body] of turns) body();
  for (let round = 0; round < rounds; round++) {
    for (const [list, body] of round % 2 === 0 ? turns : [...turns].reverse()) list.push(timed(body));
  }
  parentPort!.postMessage(samples);
}
