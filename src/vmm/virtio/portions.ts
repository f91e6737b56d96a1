// A backend's work on its queues in portions: a driver that makes chains available as fast as they are done must not keep the Worker's loop, and with it a
// pause, a reset and the other devices of the Worker, from their turn.
import type { Loop, Timer } from '../io/event-loop.ts';

/** Steps in a row, most of them one chain. */
export const PORTION = 128;

export class Portions {
  readonly #loop: Loop;
  /** What goes on in a turn to come, by queue. */
  readonly #rest = new Map<number, Timer>();

  constructor(loop: Loop) {
    this.#loop = loop;
  }

  /**
   * Does steps until one says that nothing is left, or the portion is done: then `again` is called in a turn to come, unless drop() comes first.
   * @param queue its number: there is one rest of each
   */
  run(queue: number, step: () => boolean, again: () => void): void {
    for (let done = 0; done < PORTION; done++) if (!step()) return;
    if (this.#rest.has(queue)) return;
    this.#rest.set(queue, this.#loop.after(0, () => {
      this.#rest.delete(queue);
      again();
    }));
  }

  /** For quiesce(): the driver may be another one afterwards, or a queue; if they are not, every queue is told by kicked(). */
  drop(): void {
    for (const timer of this.#rest.values()) timer.cancel();
    this.#rest.clear();
  }
}
