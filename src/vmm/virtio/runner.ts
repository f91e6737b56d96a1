// A virtio device in its I/O Worker: begins a driver's session when the registers say so, hands kicks to the backend, and stops it for a reset, a pause
// or a queue's reset, once nothing is in flight.
//
//   no driver ──DRIVER_OK──> running ──asked to stop──> stopping ──nothing in flight──> quiet ──reset──> no driver
//                               ^                                                          └──asked for nothing more──> running
import { EPOLLET, EPOLLIN, type EventLoop, type Loop } from '../io/event-loop.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';
import type { Backend, BackendHost, ConfigSpace, DriverSession } from './backend.ts';
import * as c from './constants.ts';
import type { DeviceNews } from './news.ts';
import type { VirtioPci } from './pci.ts';
import { PackedQueue } from './queue/packed-queue.ts';
import { SplitQueue } from './queue/split-queue.ts';
import { QueueError, type QueueOptions, type Virtqueue } from './queue/virtqueue.ts';
import { ASKED, IDLE } from './registers.ts';

export interface RunnerOptions {
  readonly device: VirtioPci;
  readonly loop: EventLoop;
  readonly ram: GuestMemory;
  /** Throws VitrineError when it cannot be. */
  readonly makeBackend: (host: BackendHost) => Backend;
  readonly tell: (news: DeviceNews) => void;
}

type State = 'no-driver' | 'running' | 'stopping' | 'quiet';

export class DeviceRunner {
  readonly device: VirtioPci;
  readonly #loop: EventLoop;
  readonly #ram: GuestMemory;
  readonly #backend: Backend;
  readonly #queues: (Virtqueue | undefined)[] = [];
  /** Queues that something was completed in during this turn. */
  readonly #touched = new Set<Virtqueue>();
  #state: State = 'no-driver';
  /** The driver broke the rules: nothing is done for it any more. */
  #broken = false;
  /** Whether the backend knows of the driver. */
  #started = false;
  #dropped: (() => void) | null = null;
  /** The backend has let go of everything. */
  #gone = false;

  /** Throws what makeBackend throws. */
  constructor({ device, loop, ram, makeBackend, tell }: RunnerOptions) {
    this.device = device;
    this.#loop = loop;
    this.#ram = ram;
    const { control, kicks } = device.wires;
    kicks.forEach((fd, index) => loop.watch(fd, EPOLLIN | EPOLLET, () => this.#kick(index)));
    this.#backend = this.#make(makeBackend, {
      label: device.label,
      loop: this.#guarded(),
      ram,
      config: this.#config(),
      offer: (feature, offered) => device.registers.offer(feature, offered),
      giveKick: (index) => {
        loop.unwatch(kicks[index]!);
        return kicks[index]!;
      },
      log: (text) => device.log(text),
      tell,
      broken: (why) => this.#break(why),
    });
    loop.watch(control, EPOLLIN | EPOLLET, () => this.#look());
    this.#look();
  }

  #make(makeBackend: RunnerOptions['makeBackend'], host: BackendHost): Backend {
    try {
      return makeBackend(host);
    } catch (thrown) {
      for (const fd of this.device.wires.kicks) this.#loop.unwatch(fd);
      throw thrown;
    }
  }

  /** The loop as the backend has it: a driver that breaks the rules ends its session, whoever notices it. */
  #guarded(): Loop {
    const loop = this.#loop;
    return {
      watch: (fd, events, handler) => loop.watch(fd, events, (happened) => this.#guard(() => handler(happened))),
      change: (fd, events) => loop.change(fd, events),
      unwatch: (fd) => loop.unwatch(fd),
      after: (milliseconds, act) => loop.after(milliseconds, () => this.#guard(act)),
      atEndOfTurn: (act) => loop.atEndOfTurn(() => this.#guard(act)),
    };
  }

  #guard(act: () => void): void {
    try {
      act();
    } catch (thrown) {
      if (!(thrown instanceof QueueError)) throw thrown;
      this.#break(thrown.message);
    }
  }

  #break(why: string): void {
    if (this.#broken) return;
    this.#broken = true;
    this.device.log(`${why}; it needs a reset`);
    this.device.registers.needReset();
    this.device.interrupt();
  }

  #config(): ConfigSpace {
    const { device } = this;
    const view = new DataView(device.bytes.buffer, device.bytes.byteOffset, device.bytes.length);
    return {
      bytes: device.bytes,
      view,
      hidden: device.hidden,
      update: (change) => {
        // The lock's holder may wait for this thread; then it does not look at these bytes.
        const locked = device.mutex.lockUnless(() => device.registers.reset.state !== IDLE);
        try {
          change(view);
          device.registers.bumpGeneration();
        } finally {
          if (locked) device.mutex.unlock();
        }
        if (this.#state !== 'no-driver') device.interrupt();
      },
    };
  }

  #kick(index: number): void {
    const queue = this.#queues[index];
    if (this.#state !== 'running' || this.#broken || queue === undefined) return;
    this.#guard(() => this.#backend.kicked(index));
  }

  #kickAll(): void {
    for (let index = 0; index < this.#queues.length; index++) this.#kick(index);
  }

  /** The registers may have changed. */
  #look(): void {
    if (this.#gone) return;
    const { registers } = this.device;
    const stop = this.#dropped !== null || registers.reset.state === ASKED || registers.pause.state !== IDLE || registers.queues.some(({ reset }) => reset.state === ASKED);
    if (this.#state === 'running') {
      if (stop) {
        this.#state = 'stopping';
        this.#quiesce();
        return;
      }
      this.#findQueues();
      if (this.#started) this.#backend.configWritten?.();
    }
    if (this.#state === 'quiet') this.#fromQuiet();
    if (this.#state === 'no-driver') {
      this.#backend.writtenEarly?.();
      this.#withoutDriver();
    }
  }

  #quiesce(): void {
    if (this.#started) this.#backend.quiesce(() => this.#isQuiet());
    else this.#isQuiet();
  }

  #isQuiet(): void {
    this.#state = 'quiet';
    // Never from within the backend's own call.
    this.#loop.atEndOfTurn(() => this.#look());
  }

  #fromQuiet(): void {
    const { registers } = this.device;
    if (this.#dropped !== null || registers.reset.state === ASKED) {
      if (this.#started) this.#backend.stop();
      this.#queues.length = 0;
      this.#touched.clear();
      this.#state = 'no-driver';
      return;
    }
    registers.queues.forEach(({ reset }, index) => {
      if (reset.state !== ASKED) return;
      if (this.#queues[index] !== undefined) this.#touched.delete(this.#queues[index]);
      this.#queues[index] = undefined;
      reset.finish();
    });
    registers.pause.finish();
    if (registers.pause.state !== IDLE) return;
    this.#state = 'running';
    this.#findQueues();
    if (this.#started && !this.#broken) this.#guard(() => this.#backend.resume());
    this.#kickAll();
  }

  #withoutDriver(): void {
    const { registers } = this.device;
    registers.reset.finish();
    if (this.#dropped !== null) {
      this.#dispose(this.#dropped);
      return;
    }
    registers.pause.finish();
    if (registers.pause.state === IDLE && registers.reset.state === IDLE && registers.session) this.#begin();
  }

  #begin(): void {
    this.#state = 'running';
    this.#broken = false;
    this.#started = false;
    this.#findQueues();
    if (this.#broken) return;
    this.#started = true;
    this.#guard(() => this.#backend.start(this.#session()));
    this.#kickAll();
  }

  #session(): DriverSession {
    const { registers } = this.device;
    return {
      has: (feature) => registers.negotiated(feature),
      queue: (index) => this.#queues[index],
      completed: (queue) => {
        if (this.#touched.size === 0) this.#loop.atEndOfTurn(() => this.#interrupt());
        this.#touched.add(queue);
      },
      interrupt: (index) => this.device.interrupt(index),
    };
  }

  #interrupt(): void {
    for (const queue of this.#touched) if (queue.wantsInterrupt()) this.device.interrupt(queue.index);
    this.#touched.clear();
  }

  /** Queues that the driver enabled. */
  #findQueues(): void {
    const { registers } = this.device;
    registers.queues.forEach((each, index) => {
      if (!each.enabled || each.reset.state !== IDLE || this.#queues[index] !== undefined || this.#broken) return;
      this.#guard(() => {
        const options: QueueOptions = {
          ram: this.#ram, index, size: each.size, descriptors: each.area(0), driver: each.area(1), device: each.area(2),
          eventIndex: registers.negotiated(c.F_RING_EVENT_IDX), indirect: registers.negotiated(c.F_RING_INDIRECT_DESC),
          turn: {
            began: () => this.#loop.atEndOfTurn(() => this.#queues[index]?.refill()),
            // A timer that is set now may fire in this very turn.
            exhausted: () => this.#loop.atEndOfTurn(() => void this.#loop.after(0, () => this.#kick(index))),
          },
        };
        this.#queues[index] = registers.negotiated(c.F_RING_PACKED) ? new PackedQueue(options) : new SplitQueue(options);
        if (this.#started) this.#kick(index);
      });
    });
  }

  /** A message of the control thread's. Throws VitrineError. */
  mail(message: unknown): unknown {
    let answer: unknown;
    this.#guard(() => (answer = this.#backend.mail?.(message)));
    return answer;
  }

  /** The device goes: `done` when its backend has let go of everything. */
  drop(done: () => void): void {
    this.#dropped = done;
    this.#look();
  }

  #dispose(done: () => void): void {
    this.#gone = true;
    const { control, kicks } = this.device.wires;
    this.#loop.unwatch(control);
    for (const fd of kicks) this.#loop.unwatch(fd);
    this.#backend.dispose();
    done();
  }
}
