// Whether the guest's pages may be given back to the host. A device that is passed through reaches guest RAM by itself: its pages are pinned where they
// are, and a page that was dropped after that would be another one for the CPU than for the device. Dropping before is fine: pinning brings pages back.
// Balloons drop in their Worker with the gate held; the control thread closes it before anything is pinned.
import { Mutex } from '../../sync/mutex.ts';

const LOCK = 0;
const CLOSED = 1;
const WORDS = 2;

export class DropGate {
  /** For a description that crosses to another thread. */
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #mutex: Mutex;

  constructor(buffer = new SharedArrayBuffer(4 * WORDS)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
    // Nobody fails with this lock held: there is no poison.
    this.#mutex = new Mutex(this.#words.subarray(LOCK, LOCK + 1), new Int32Array(1), 'the balloon\'s gate');
  }

  get closed(): boolean {
    return Atomics.load(this.#words, CLOSED) > 0;
  }

  /** Nothing is dropped any more when this returns, until every close has had its open. */
  close(): void {
    this.#mutex.run(() => Atomics.add(this.#words, CLOSED, 1));
  }

  open(): void {
    Atomics.sub(this.#words, CLOSED, 1);
  }

  /** Does `act` unless the gate is closed, which waits meanwhile. @returns whether it was done */
  pass(act: () => void): boolean {
    return this.#mutex.run(() => {
      if (this.closed) return false;
      act();
      return true;
    });
  }
}
