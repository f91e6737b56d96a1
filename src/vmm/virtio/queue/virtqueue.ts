// A virtqueue as the device has it, whatever the form of its ring (virtio 1.3 §2.6). Nothing that a driver writes is trusted: every index,
// descriptor and table entry is read once and checked; what no driver may do ends the queue with a QueueError.
import type { Buffers } from '../buffers.ts';
import type { GuestMemory } from '../../memory/guest-memory.ts';

/** The driver broke the rules of the queue: the device needs a reset (§2.1.2). Not an error of ours, and never caught by a device. */
export class QueueError extends Error {
  constructor(queue: number, why: string) {
    super(`the driver broke queue ${queue}: ${why}`);
    this.name = 'QueueError';
  }
}

/** What the driver lends to the device for one request. */
export interface Chain {
  /** Device-readable: what the driver says. */
  readonly readable: Buffers;
  /** Device-writable: room for what the device answers. */
  readonly writable: Buffers;
  /** The ring's own. */
  readonly id: number;
  /** Descriptors of the ring that it takes. */
  readonly slots: number;
}

export interface Virtqueue {
  readonly index: number;
  /** Entries of the ring. */
  readonly size: number;
  /** Where its parts are, for a kernel that serves it in place of us (vhost). */
  readonly place: QueuePlace;
  /**
   * The next chain that the driver made available, or null: then the driver is asked to kick when there is one. While chains are left, it is
   * asked not to. Throws QueueError. Null, too, when it took its portion in this turn of the loop: then the backend is kicked again in the next.
   */
  take(): Chain | null;
  /** Gives a chain back. @param written bytes of its writable part that hold something, from its start. Chains may go back in any order. */
  complete(chain: Chain, written: number): void;
  /**
   * Gives several chains back that are one thing to the driver (a frame in merged buffers, §5.1.6.4): it sees none of them before it sees all.
   * @param written of each chain, in the same order
   */
  completeTogether(chains: readonly Chain[], written: readonly number[]): void;
  /** Gives the chain that was taken last back as if it had not been: take() gives it again. For a device that has not got room for it. */
  untake(chain: Chain): void;
  /** For the runner: another turn. */
  refill(): void;
  /** Whether the driver wants an interrupt for what was completed since this was asked last. */
  wantsInterrupt(): boolean;
}

/** Where the driver put the parts of a queue, as its registers say. */
export interface QueuePlace {
  readonly index: number;
  readonly size: number;
  /** Guest-physical addresses of the descriptor area, driver area and device area (§2.6). */
  readonly descriptors: number;
  readonly driver: number;
  readonly device: number;
}

/** What a queue tells the loop that it lives in. */
export interface TurnOfLoop {
  /** The first chain of this turn was taken: `refill` is to be called at its end. */
  began(): void;
  /** No more may be taken in this turn: the queue is to be kicked again in the next. */
  exhausted(): void;
}

export interface QueueOptions extends QueuePlace {
  readonly ram: GuestMemory;
  readonly eventIndex: boolean;
  readonly indirect: boolean;
  /** A queue alone, in tests, has one turn until it is refilled. */
  readonly turn?: TurnOfLoop;
}

/** Of a descriptor (§2.7.5, §2.8.1). */
export const DESC_NEXT = 0x1;
export const DESC_WRITE = 0x2;
export const DESC_INDIRECT = 0x4;
export const DESC_BYTES = 16;

/** The most descriptors of an indirect table, whatever the queue's size. */
export const MAX_INDIRECT = 1024;

/** A part of a queue, as halves of words and as words. It must lie in one window of RAM: what a guest allocates never spans two. */
export class RingArea {
  readonly words: Uint32Array;
  readonly halves: Uint16Array;

  /** Throws QueueError when it is not all RAM, or not aligned as the specification wants (§2.7, §2.8). */
  constructor(ram: GuestMemory, queue: number, what: string, gpa: number, bytes: number, align: number) {
    const name = `its ${what} at ${gpa.toString(16)}`;
    if (gpa % align !== 0) throw new QueueError(queue, `${name} is not aligned to ${align} bytes`);
    const window = ram.windows[ram.windowAt(gpa)];
    if (window === undefined || gpa + bytes > window.gpa + window.size) throw new QueueError(queue, `${name} is not in RAM`);
    const start = window.offset + gpa - window.gpa;
    // A driver area may be aligned to 2 only, then no word of it is used.
    this.words = start % 4 === 0 ? new Uint32Array(window.buffer, start, bytes >>> 2) : new Uint32Array(0);
    this.halves = new Uint16Array(window.buffer, start, bytes >>> 1);
  }
}
