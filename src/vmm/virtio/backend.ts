// The part of a virtio device that does the work, in an I/O Worker: what it is told, and what it is given. Everything is called from the Worker's
// loop, one at a time; nothing here may wait for Node's own loop. Throwing QueueError says that the driver broke the rules; anything else that is
// thrown is a defect of ours and ends the machine.
import type { Loop } from '../io/event-loop.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';
import type { DeviceNews } from './news.ts';
import type { Virtqueue } from './queue/virtqueue.ts';

/** What the Worker gives to a backend. */
export interface BackendHost {
  /** "00:05.0 virtio-blk" */
  readonly label: string;
  readonly loop: Loop;
  readonly ram: GuestMemory;
  readonly config: ConfigSpace;
  /** While it is built, before any driver: the device offers feature number `feature`, or does not. */
  offer(feature: number, offered?: boolean): void;
  /** The eventfd by which the driver kicks queue `index`: for a kernel that serves the queue in place of us. kicked() does not come for it from now on. */
  giveKick(index: number): number;
  /** A line for the machine's log. */
  log(text: string): void;
  tell(news: DeviceNews): void;
  /** The driver broke the rules in a way that only the backend sees, or the device cannot go on: DEVICE_NEEDS_RESET. */
  broken(why: string): void;
}

/** The device-specific configuration. */
export interface ConfigSpace {
  /** As it is; written through `update` alone, and while the backend is built. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** What VirtioModel.configWrite left there: words that the driver does not see. */
  readonly hidden: Int32Array;
  /** Changes the configuration as one, with a new generation, and interrupts the driver. */
  update(change: (view: DataView) => void): void;
}

/** One driver, from DRIVER_OK to reset. */
export interface DriverSession {
  /** Whether feature number `feature` was negotiated. */
  has(feature: number): boolean;
  /** Undefined where the driver enabled none. After a reset of one queue it is another object. */
  queue(index: number): Virtqueue | undefined;
  /** The driver hears at the end of the turn of what was completed in `queue`, if it wants to: call it after complete(). */
  completed(queue: Virtqueue): void;
  /** The driver hears of queue `index` at once, wanted or not: for a kernel that serves it and knows whether. */
  interrupt(index: number): void;
}

export interface Backend {
  /** A driver is ready. Queues that it filled already are told by kicked() right after. */
  start(driver: DriverSession): void;
  /** The driver made chains of queue `index` available, or may have: calls without reason are normal. Only between start and quiesce, or resume and quiesce. */
  kicked(index: number): void;
  /** Take no chain any more; `done` when none is in flight, now or later. Then resume() or stop() comes. Not called again before. */
  quiesce(done: () => void): void;
  /** After quiesce: go on with the same driver. A queue may have been reset: ask the session for it again. Every queue is told by kicked() right after. */
  resume(): void;
  /** After quiesce: the driver is gone. Forget everything of it. */
  stop(): void;
  /** VirtioModel.configWrite said that the backend must look, or may have. */
  configWritten?(): void;
  /** As configWritten, while there is no driver yet: for devices that take a write before one is there. */
  writtenEarly?(): void;
  /** A message of the control thread. @returns its answer (structured clone); throws VitrineError with what cannot be done */
  mail?(message: unknown): unknown;
  /** The end, after quiesce and stop if there was a driver: close everything. */
  dispose(): void;
}
