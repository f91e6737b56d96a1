// An I/O Worker: the loop in which the backends of one or several virtio devices live. It sits in epoll_wait; the control thread's letters come with
// an eventfd's signal.
import { parentPort, receiveMessageOnPort, workerData, type MessagePort } from 'node:worker_threads';
import { toProblem, type Problem } from '../../shared/errors.ts';
import { EventLoop, EPOLLET, EPOLLIN } from '../io/event-loop.ts';
import { IrqLines } from '../irq/irq-lines.ts';
import { Vm } from '../kvm/vm.ts';
import { Boots } from '../machine/boots.ts';
import { SharedClock } from '../machine/clock.ts';
import { Attention, ThreadPlatform, type ThreadMessage } from '../machine/thread-platform.ts';
import { GuestMemory, type RamWindow } from '../memory/guest-memory.ts';
import { IntxRouter } from '../pci/intx.ts';
import { Arena, type ArenaDescription, type Slices } from '../sync/arena.ts';
import { PoisonedError } from '../sync/mutex.ts';
import { makeBackend } from './backends.ts';
import { buildVirtio, type VirtioDescription } from './description.ts';
import type { DeviceNews } from './news.ts';
import { DeviceRunner } from './runner.ts';

export interface IoWorkerData {
  readonly name: string;
  readonly arena: ArenaDescription;
  readonly vm: number;
  readonly ram: readonly RamWindow[];
  readonly mail: MessagePort;
  /** Signalled when a letter comes. */
  readonly wake: number;
}

/** What the control thread asks; each is answered. */
export type IoMail =
  /** @param slices that came since the Worker began */
  | { kind: 'add'; device: VirtioDescription; slices: Slices }
  | { kind: 'drop'; slot: number }
  | { kind: 'device'; slot: number; message: unknown }
  /** Every device goes, then the Worker. */
  | { kind: 'end' };

export interface IoLetter {
  readonly number: number;
  readonly mail: IoMail;
}

export type IoMessage =
  | ThreadMessage
  | { kind: 'ready' }
  | { kind: 'answer'; number: number; value?: unknown; problem?: Problem }
  | { kind: 'tell'; slot: number; news: DeviceNews }
  /** A defect of ours: the machine is poisoned and ends. */
  | { kind: 'failed'; why: string };

const data = workerData as IoWorkerData;
const post = (message: IoMessage): void => parentPort!.postMessage(message);
const arena = Arena.attach(data.arena);
const vm = new Vm(data.vm);
const ram = new GuestMemory(data.ram);
const platform = new ThreadPlatform({
  arena, control: false, clock: new SharedClock(arena), lines: new IrqLines(arena, vm, false), attention: new Attention(arena), boots: new Boots(arena), post,
});
const router = new IntxRouter(platform);
const loop = new EventLoop();
const runners = new Map<number, DeviceRunner>();

function add(description: VirtioDescription, slices: Slices): void {
  arena.learn(slices);
  const { slot } = description;
  const device = buildVirtio(platform, { send: (address, value) => void vm.signalMsi(address, value) }, description);
  device.config.attachIntx(router.pin(device.config, slot, 0));
  const tell = (news: DeviceNews): void => post({ kind: 'tell', slot, news });
  runners.set(slot, new DeviceRunner({ device, loop, ram, tell, makeBackend: (host) => makeBackend(description, host) }));
}

function drop(slot: number, done: () => void): void {
  const runner = runners.get(slot);
  if (runner === undefined) return done();
  runner.drop(() => {
    runners.delete(slot);
    done();
  });
}

function obey(mail: IoMail, answer: (value?: unknown) => void): void {
  if (mail.kind === 'add') {
    add(mail.device, mail.slices);
    answer();
  } else if (mail.kind === 'drop') drop(mail.slot, answer);
  else if (mail.kind === 'device') {
    const runner = runners.get(mail.slot);
    if (runner === undefined) throw new Error(`slot ${mail.slot} has no virtio device`);
    answer(runner.mail(mail.message));
  } else {
    const slots = [...runners.keys()];
    let left = slots.length;
    const one = (): void => {
      if (--left > 0) return;
      answer();
      loop.stop();
    };
    if (slots.length === 0) {
      left = 1;
      one();
    }
    for (const slot of slots) drop(slot, one);
  }
}

function readMail(): void {
  for (let next = receiveMessageOnPort(data.mail); next !== undefined; next = receiveMessageOnPort(data.mail)) {
    const { number, mail } = next.message as IoLetter;
    try {
      obey(mail, (value) => post({ kind: 'answer', number, value }));
    } catch (thrown) {
      if (thrown instanceof PoisonedError) throw thrown;
      const words: Record<IoMail['kind'], string> = { add: 'add the device', drop: 'remove the device', device: 'change the device', end: 'end the device' };
      post({ kind: 'answer', number, problem: toProblem(thrown, words[mail.kind], 'device' in mail ? mail.device.config.kind : data.name) });
    }
  }
}

try {
  loop.watch(data.wake, EPOLLIN | EPOLLET, readMail);
  post({ kind: 'ready' });
  readMail();
  loop.run();
  loop.close();
} catch (thrown) {
  Atomics.store(arena.poison, 0, 1);
  if (!(thrown instanceof PoisonedError)) post({ kind: 'failed', why: thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown) });
}
