// Guest time: the host's monotonic clock less what was spent paused, the same in every thread.
import type { Arena } from '../sync/arena.ts';
import type { GuestClock } from '../devices/device.ts';

const OFFSET = 0; // host time at which guest time was 0
const FROZEN = 1; // guest time of the pause, or -1 while it runs

/** CLOCK_MONOTONIC in nanoseconds; float64 holds it exactly for 104 days of uptime and to a microsecond after that. */
export function hostNanoseconds(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e9 + nanoseconds;
}

export class SharedClock implements GuestClock {
  readonly #words: Float64Array;

  constructor(arena: Arena) {
    this.#words = arena.float64('clock', 2);
  }

  /** Guest time 0 is now; it stands still until `resume`. Control thread. */
  begin(): void {
    this.#words[OFFSET] = hostNanoseconds();
    this.#words[FROZEN] = 0;
  }

  now(): number {
    const frozen = this.#words[FROZEN]!;
    return frozen >= 0 ? frozen : hostNanoseconds() - this.#words[OFFSET]!;
  }

  /** Control thread, with every vCPU parked. */
  pause(): void {
    this.#words[FROZEN] = this.now();
  }

  resume(): void {
    const frozen = this.#words[FROZEN]!;
    if (frozen < 0) return;
    this.#words[OFFSET] = hostNanoseconds() - frozen;
    this.#words[FROZEN] = -1;
  }

  get paused(): boolean {
    return this.#words[FROZEN]! >= 0;
  }
}
