// How many chains a driver may have the device take. No more can be out than the ring has entries: a driver that makes more available breaks the rules,
// and would fill our memory with them. And no more in one turn of the loop than the ring holds, or PORTION: a driver that makes them as fast as they are
// completed would keep the I/O Worker for ever, and with it a pause, a reset and the Worker's other devices; what is left comes in the next turn.
import { QueueError, type TurnOfLoop } from './virtqueue.ts';

/** Chains in one turn, of a ring with fewer entries. */
export const PORTION = 128;

export class Allowance {
  readonly #queue: number;
  readonly #size: number;
  readonly #turn: TurnOfLoop;
  readonly #most: number;
  #left: number;
  #out = 0;
  #told = false;

  constructor(queue: number, size: number, turn: TurnOfLoop) {
    this.#queue = queue;
    this.#size = size;
    this.#turn = turn;
    this.#most = Math.max(PORTION, size);
    this.#left = this.#most;
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
