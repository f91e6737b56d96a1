// How many chains a driver may have the device take. No more can be out than the ring has entries: a driver that makes more available breaks the rules,
// and would fill our memory with them. And no more in one turn of the loop than some rounds of the ring: a driver that makes them as fast as they are completed would
// keep the I/O Worker for ever; it goes on with the others' work first, and comes back.
import { QueueError, type TurnOfLoop } from './virtqueue.ts';

const ROUNDS = 4;
const LEAST = 256;

export class Allowance {
  readonly #queue: number;
  readonly #size: number;
  readonly #turn: TurnOfLoop;
  #left: number;
  #out = 0;
  #told = false;

  constructor(queue: number, size: number, turn: TurnOfLoop) {
    this.#queue = queue;
    this.#size = size;
    this.#turn = turn;
    this.#left = this.#most;
  }

  get #most(): number {
    return Math.max(LEAST, ROUNDS * this.#size);
  }

  /** Another turn. */
  refill(): void {
    this.#left = this.#most;
    this.#told = false;
  }

  get some(): boolean {
    if (this.#left > 0) return true;
    if (!this.#told) {
      this.#told = true;
      this.#turn.exhausted();
    }
    return false;
  }

  /** A chain that takes `slots` entries was taken. Throws QueueError. */
  take(slots: number): void {
    if (this.#left-- === this.#most) this.#turn.began();
    this.#out += slots;
    if (this.#out > this.#size) throw new QueueError(this.#queue, `more chains are with the device than its ${this.#size} entries hold`);
  }

  giveBack(slots: number): void {
    this.#out -= slots;
  }
}
