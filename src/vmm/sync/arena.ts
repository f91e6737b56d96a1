// The shared state of a machine: one SharedArrayBuffer cut into named slices. The control thread allocates every slice while it builds
// the devices; a Worker gets the table and builds the same devices over the same slices. So a device's registers are shared, whichever
// thread runs its handler, and everything that must be saved or reset lies in one place.
//
// A device that is added later is built on the control thread first, which notes the slices that it asks for; the others are told of them. A slice
// is never freed: who asks for its name again gets it again, so a device that comes and goes a thousand times takes its room once.
import { Mutex } from './mutex.ts';

/** Where named slices lie. */
export type Slices = Record<string, { offset: number; bytes: number }>;

/** What a Worker needs to attach: the buffer and where each named slice lies. */
export interface ArenaDescription {
  readonly buffer: SharedArrayBuffer;
  readonly table: Slices;
  readonly closed: boolean;
}

const ALIGN = 64; // a cache line, so that two devices never share one
const HEADER = 64; // word 0: poison

/** Named slices of one SharedArrayBuffer, zeroed at first. */
export class Arena {
  readonly buffer: SharedArrayBuffer;
  /** 0 while all is well; a thread that throws sets it, and every mutex wait then ends in an error. */
  readonly poison: Int32Array;
  #table: Slices;
  /** Room of slices that have been larger than they are now. */
  #room = new Map<string, number>();
  /** What was asked for since `record` began. */
  #asked: Slices | null = null;
  #next: number;
  #attached: boolean;

  constructor(bytes = 4 * 2 ** 20, from?: ArenaDescription) {
    this.buffer = from?.buffer ?? new SharedArrayBuffer(bytes);
    this.#table = from?.table ?? {};
    this.#next = HEADER;
    this.#attached = from !== undefined;
    this.poison = new Int32Array(this.buffer, 0, 1);
  }

  /** The arena as another thread sees it: slices are found, never made. */
  static attach(description: ArenaDescription): Arena {
    return new Arena(0, description);
  }

  describe(): ArenaDescription {
    return { buffer: this.buffer, table: this.#table, closed: true };
  }

  /** Byte offset of the slice `name`, allocated on first use. Throws when it exists with another size, or when an attached arena lacks it. */
  #slice(name: string, bytes: number): number {
    const known = this.#table[name];
    if (known !== undefined && known.bytes !== bytes && this.#asked === null) throw new Error(`shared slice ${name} has ${known.bytes} bytes, asked for ${bytes}`);
    if (known === undefined && this.#attached) throw new Error(`shared slice ${name} was not allocated by the control thread`);
    const room = this.#room.get(name) ?? known?.bytes ?? 0;
    const offset = known !== undefined && bytes <= room ? known.offset : this.#allocate(name, bytes);
    if (known === undefined || known.bytes !== bytes) {
      this.#room.set(name, Math.max(room, bytes));
      this.#table[name] = { offset, bytes };
    }
    if (this.#asked !== null) this.#asked[name] = { offset, bytes };
    return offset;
  }

  #allocate(name: string, bytes: number): number {
    const offset = this.#next;
    const next = Math.ceil((offset + bytes) / ALIGN) * ALIGN;
    if (next > this.buffer.byteLength) throw new Error(`the shared arena of ${this.buffer.byteLength} bytes is full at ${name}`);
    this.#next = next;
    return offset;
  }

  /**
   * Control thread: builds something that comes later, and notes the slices that it asks for. One that existed may have another size now, if nobody
   * uses it any more; its content is what it was.
   */
  record<T>(build: () => T): { built: T; slices: Slices } {
    const slices: Slices = (this.#asked = {});
    try {
      return { built: build(), slices };
    } finally {
      this.#asked = null;
    }
  }

  /** Attached: what the control thread's record() found. */
  learn(slices: Slices): void {
    Object.assign(this.#table, slices);
  }

  int32(name: string, length: number): Int32Array {
    return new Int32Array(this.buffer, this.#slice(name, length * 4), length);
  }

  uint32(name: string, length: number): Uint32Array {
    return new Uint32Array(this.buffer, this.#slice(name, length * 4), length);
  }

  uint8(name: string, length: number): Uint8Array {
    return new Uint8Array(this.buffer, this.#slice(name, length), length);
  }

  float64(name: string, length: number): Float64Array {
    return new Float64Array(this.buffer, this.#slice(name, length * 8), length);
  }

  mutex(name: string): Mutex {
    return new Mutex(this.int32(name, 1), this.poison, name);
  }
}
