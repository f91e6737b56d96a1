// A ring of small integers in shared slices: the queues of the devices (bytes sent to the host, key events, command replies).
// No locking of its own: whoever uses a device's queue holds that device's mutex.
import type { Arena } from '../sync/arena.ts';

const HEAD = 0;
const USED = 1;

export class Ring {
  readonly capacity: number;
  readonly #cells: Uint8Array | Int32Array;
  readonly #ends: Int32Array;

  constructor(cells: Uint8Array | Int32Array, ends: Int32Array) {
    this.#cells = cells;
    this.#ends = ends;
    this.capacity = cells.length;
  }

  /** A ring of `capacity` bytes. */
  static bytes(arena: Arena, name: string, capacity: number): Ring {
    return new Ring(arena.uint8(`${name}.cells`, capacity), arena.int32(`${name}.ends`, 2));
  }

  /** A ring of `capacity` integers that are not negative. */
  static words(arena: Arena, name: string, capacity: number): Ring {
    return new Ring(arena.int32(`${name}.cells`, capacity), arena.int32(`${name}.ends`, 2));
  }

  get used(): number {
    return this.#ends[USED];
  }

  get room(): number {
    return this.capacity - this.#ends[USED];
  }

  /** Appends `value`; false, and nothing done, when the ring is full. */
  push(value: number): boolean {
    const used = this.#ends[USED];
    if (used >= this.capacity) return false;
    this.#cells[(this.#ends[HEAD] + used) % this.capacity] = value;
    this.#ends[USED] = used + 1;
    return true;
  }

  /** The oldest value, left where it is; -1 when the ring is empty. */
  peek(): number {
    return this.#ends[USED] === 0 ? -1 : this.#cells[this.#ends[HEAD]];
  }

  /** Changes the oldest value, which must be there. */
  replaceFirst(value: number): void {
    this.#cells[this.#ends[HEAD]] = value;
  }

  /** Takes the oldest value; -1 when the ring is empty. */
  shift(): number {
    const used = this.#ends[USED];
    if (used === 0) return -1;
    const head = this.#ends[HEAD];
    this.#ends[HEAD] = (head + 1) % this.capacity;
    this.#ends[USED] = used - 1;
    return this.#cells[head];
  }

  /** Takes up to `most` of the oldest values as a private copy of bytes. */
  take(most: number): Uint8Array {
    const count = Math.min(most, this.#ends[USED]);
    const copy = new Uint8Array(count);
    const head = this.#ends[HEAD];
    const first = Math.min(count, this.capacity - head);
    copy.set(this.#cells.subarray(head, head + first));
    copy.set(this.#cells.subarray(0, count - first), first);
    this.#ends[HEAD] = (head + count) % this.capacity;
    this.#ends[USED] = this.#ends[USED] - count;
    return copy;
  }

  clear(): void {
    this.#ends[HEAD] = 0;
    this.#ends[USED] = 0;
  }
}
