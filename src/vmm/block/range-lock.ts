// Locks on ranges of a disk between requests of one thread: whoever moves data excludes whoever reads or writes where it was.
// First come, first served among those that overlap, so nobody starves.

interface Claim {
  readonly start: number;
  readonly end: number;
  readonly exclusive: boolean;
  readonly run: (release: () => void) => void;
}

const conflict = (a: Claim, b: Claim): boolean => a.start < b.end && b.start < a.end && (a.exclusive || b.exclusive);

export class RangeLock {
  readonly #held = new Set<Claim>();
  #waiting: Claim[] = [];

  /** Runs `run` once [start, end) is free for it: at once or when others release. It must call `release` once. */
  acquire(start: number, end: number, exclusive: boolean, run: (release: () => void) => void): void {
    const claim: Claim = { start, end, exclusive, run };
    if (this.#blocked(claim, this.#waiting.length)) this.#waiting.push(claim);
    else this.#grant(claim);
  }

  /** Claims that run or wait. */
  get size(): number {
    return this.#held.size + this.#waiting.length;
  }

  #blocked(claim: Claim, before: number): boolean {
    for (const held of this.#held) if (conflict(held, claim)) return true;
    for (let i = 0; i < before; i++) if (conflict(this.#waiting[i]!, claim)) return true;
    return false;
  }

  #grant(claim: Claim): void {
    this.#held.add(claim);
    this.#start(claim);
  }

  #start(claim: Claim): void {
    claim.run(() => {
      if (!this.#held.delete(claim)) throw new Error('a range was released twice');
      if (this.#waiting.length > 0) this.#next();
    });
  }

  #next(): void {
    const granted: Claim[] = [];
    for (let i = 0; i < this.#waiting.length; ) {
      const claim = this.#waiting[i]!;
      if (this.#blocked(claim, i)) {
        i++;
        continue;
      }
      this.#waiting.splice(i, 1);
      this.#held.add(claim);
      granted.push(claim);
    }
    for (const claim of granted) this.#start(claim);
  }
}
