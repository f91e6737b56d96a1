// Which life of the guest this is: its boots counted, from power-on over every reset. What a guest asks of the machine (reset, power-off) and
// what stops a vCPU is told to the control thread with the number of the boot in which it happened, because a guest that has asked for a reset
// runs on until the control thread stops it, and asks again in every way it knows (Linux writes the keyboard controller ten times): what was
// asked before a reset must not reset what comes after it. And it is told once a boot: a guest that asks in a loop, from all of its CPUs,
// would else fill the control thread's queue faster than it is read.
import type { Arena } from '../sync/arena.ts';

const NUMBER = 0;
/** The boot in which something was asked for last. */
const ASKED = 1;

export class Boots {
  readonly #words: Int32Array;

  constructor(arena: Arena) {
    this.#words = arena.int32('boots', 2);
  }

  /** 0 before the first. */
  get number(): number {
    return Atomics.load(this.#words, NUMBER);
  }

  /** Control thread, while every vCPU is parked. */
  next(): void {
    Atomics.add(this.#words, NUMBER, 1);
  }

  /** @returns whether nothing was asked for in this boot so far; then the caller tells the control thread. Any thread. */
  ask(): boolean {
    const boot = this.number;
    return Atomics.exchange(this.#words, ASKED, boot) !== boot;
  }
}
