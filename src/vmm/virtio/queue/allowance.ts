// How many chains a driver may have the device take. No more can be out than the ring has entries: a driver that makes more available breaks the rules,
// and would fill our memory with them. And no more in one go than some rounds of the ring: a driver that makes them as fast as they are completed would
// keep the I/O Worker for ever; it goes on with the others' work first, and comes back.
import { QueueError } from './virtqueue.ts';

const ROUNDS = 4;
const LEAST = 256;

export class Allowance {
  readonly #queue: number;
  readonly #size: number;
  readonly #exhausted: () => void;
  #left: number;
  #out = 0;
  #told = false;

  /** @param exhausted called once when no more may be taken in this go */
  constructor(queue: number, size: number, exhausted: () => void) {
    this.#queue = queue;
    this.#size = size;
    this.#exhausted = exhausted;
    this.#left = Math.max(LEAST, ROUNDS * size);
  }

  /** Another go. */
  refill(): void {
    this.#left = Math.max(LEAST, ROUNDS * this.#size);
    this.#told = false;
  }

  get some(): boolean {
    if (this.#left > 0) return true;
    if (!this.#told) {
      this.#told = true;
      this.#exhausted();
    }
    return false;
  }

  /** A chain that takes `slots` entries was taken. Throws QueueError. */
  take(slots: number): void {
    this.#left--;
    this.#out += slots;
    if (this.#out > this.#size) throw new QueueError(this.#queue, `more chains are with the device than its ${this.#size} entries hold`);
  }

  giveBack(slots: number): void {
    this.#out -= slots;
  }
}
