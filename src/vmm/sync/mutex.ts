// A mutex between Workers in one shared word: free, held, held with waiters (U. Drepper, "Futexes are tricky", the third mutex).
// A wait looks at the poison word ten times a second, so that a thread that died inside a lock ends the machine instead of hanging it.

const FREE = 0;
const HELD = 1;
const CONTENDED = 2;
const LOOK_AGAIN_MS = 100;

/** Thrown by every wait after some thread of the machine failed; never caught inside a device. */
export class PoisonedError extends Error {
  constructor(lock: string) {
    super(`the machine ends: another thread failed while ${lock} was waited for`);
    this.name = 'PoisonedError';
  }
}

export class Mutex {
  readonly name: string;
  #word: Int32Array;
  #poison: Int32Array;

  constructor(word: Int32Array, poison: Int32Array, name: string) {
    this.#word = word;
    this.#poison = poison;
    this.name = name;
  }

  /** Takes the lock; waits while another thread holds it. Throws PoisonedError once the machine is poisoned. Not recursive. */
  lock(): void {
    if (Atomics.compareExchange(this.#word, 0, FREE, HELD) !== FREE) this.#wait();
  }

  /** As lock, but gives up once `giveUp` says so, asked every millisecond while another thread holds the lock. @returns whether the lock was taken */
  lockUnless(giveUp: () => boolean): boolean {
    if (Atomics.compareExchange(this.#word, 0, FREE, HELD) === FREE) return true;
    while (Atomics.exchange(this.#word, 0, CONTENDED) !== FREE) {
      if (giveUp()) return false;
      Atomics.wait(this.#word, 0, CONTENDED, 1);
      if (Atomics.load(this.#poison, 0) !== 0) throw new PoisonedError(this.name);
    }
    return true;
  }

  unlock(): void {
    if (Atomics.exchange(this.#word, 0, FREE) === CONTENDED) Atomics.notify(this.#word, 0, 1);
  }

  /** Runs `body` with the lock held. For paths that are not hot. */
  run<T>(body: () => T): T {
    this.lock();
    try {
      return body();
    } finally {
      this.unlock();
    }
  }

  #wait(): void {
    while (Atomics.exchange(this.#word, 0, CONTENDED) !== FREE) {
      Atomics.wait(this.#word, 0, CONTENDED, LOOK_AGAIN_MS);
      if (Atomics.load(this.#poison, 0) !== 0) throw new PoisonedError(this.name);
    }
  }
}
