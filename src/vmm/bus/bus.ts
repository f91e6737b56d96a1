// One address space of exits, ports or memory: which handler answers an address. The table of ranges is in the arena, in two copies: a writer
// (who holds the topology lock) fills the one that is not in use and steps the version; each thread keeps a private copy of its own and takes
// it anew when the version has moved. So a lookup costs one atomic load and a binary search, and nothing is ever freed under a reader.
//
// A lookup is believed only after the region's mutex is held and the version has not moved meanwhile; else it is repeated. Who removes or
// moves a region holds its mutex while publishing, so that no access reaches a region after its removal, and none is lost.
//
// The bus cuts accesses: 8 bytes into two of 4, low half first; odd lengths, and what reaches over a region's edge, into bytes.
import { allOnes } from './handler.ts';
import type { Handler, Width } from './handler.ts';
import type { Arena } from '../sync/arena.ts';
import type { Mutex } from '../sync/mutex.ts';
import type { Space } from '../pci/device.ts';

export const MAX_RANGES = 4096;
const MAX_HANDLERS = 2048;
const NAME_BYTES = 64;

// Words of the slice `bus.SPACE.control`.
const VERSION = 0;
const COUNT = 1; // and 2: of the even and the odd copy
const HANDLERS = 3;
const CONTROL_WORDS = 4;

/** A run of addresses as the table has it. Ranges are ascending and disjoint. */
export interface Range {
  readonly start: number;
  readonly size: number;
  /** From `register`. */
  readonly handler: number;
  /** Address of the handler's offset 0; at or below `start`. */
  readonly base: number;
}

interface Region {
  readonly handler: Handler;
  readonly mutex: Mutex;
}

export class Bus {
  readonly space: Space;
  #control: Int32Array;
  #names: Uint8Array;
  #namesLock: Mutex;
  /** Even and odd copy of the shared table: start, end and base of each range, and its handler. */
  #shared: { numbers: Float64Array; handlers: Int32Array }[];
  #regions: (Region | undefined)[] = [];
  // The private copy.
  #version: number;
  #count = 0;
  #starts = new Float64Array(MAX_RANGES).fill(Infinity);
  #ends = new Float64Array(MAX_RANGES);
  #bases = new Float64Array(MAX_RANGES);
  #handlers = new Int32Array(MAX_RANGES);
  #last = 0;
  /** After a lookup that found nothing: the start of the next range above. */
  #above = Infinity;

  constructor(arena: Arena, space: Space) {
    this.space = space;
    this.#control = arena.int32(`bus.${space}.control`, CONTROL_WORDS);
    this.#names = arena.uint8(`bus.${space}.names`, MAX_HANDLERS * NAME_BYTES);
    this.#namesLock = arena.mutex(`bus.${space}.names.lock`);
    this.#shared = [0, 1].map((copy) => ({
      numbers: arena.float64(`bus.${space}.ranges.${copy}`, 3 * MAX_RANGES),
      handlers: arena.int32(`bus.${space}.handlers.${copy}`, MAX_RANGES),
    }));
    this.#version = Atomics.load(this.#control, VERSION) - 1;
  }

  /**
   * Makes `handler` known to this thread under a name that is the same in every thread.
   * @param name at most 64 bytes.
   * @param mutex held around every call.
   * @returns the handler's number, the same in every thread.
   */
  register(name: string, handler: Handler, mutex: Mutex): number {
    const id = this.#idOf(name);
    if (this.#regions[id] !== undefined) throw new Error(`${this.space} handler ${name} is registered twice`);
    this.#regions[id] = { handler, mutex };
    return id;
  }

  #idOf(name: string): number {
    const wanted = new Uint8Array(NAME_BYTES);
    const bytes = new TextEncoder().encode(name);
    if (bytes.length > NAME_BYTES || bytes.length === 0) throw new RangeError(`"${name}" is no name for a handler: 1 to ${NAME_BYTES} bytes`);
    wanted.set(bytes);
    return this.#namesLock.run(() => {
      const known = this.#control[HANDLERS]!;
      for (let id = 0; id < known; id++) {
        const at = id * NAME_BYTES;
        if (wanted.every((byte, index) => this.#names[at + index] === byte)) return id;
      }
      if (known === MAX_HANDLERS) throw new RangeError(`no room for the ${this.space} handler ${name}: ${MAX_HANDLERS} are registered`);
      this.#names.set(wanted, known * NAME_BYTES);
      this.#control[HANDLERS] = known + 1;
      return known;
    });
  }

  /** Steps with every publication: what was worked out from the ranges is stale when it differs. */
  get version(): number {
    return Atomics.load(this.#control, VERSION);
  }

  /** Replaces the table, for all threads at once. With the topology lock held; `ranges` ascending and disjoint, at most MAX_RANGES. */
  publish(ranges: readonly Range[]): void {
    if (ranges.length > MAX_RANGES) throw new RangeError(`${ranges.length} ${this.space} ranges; the table holds ${MAX_RANGES}`);
    const version = Atomics.load(this.#control, VERSION);
    const next = (version + 1) & 1;
    const { numbers, handlers } = this.#shared[next]!;
    ranges.forEach((range, index) => {
      numbers[3 * index] = range.start;
      numbers[3 * index + 1] = range.start + range.size;
      numbers[3 * index + 2] = range.base;
      handlers[index] = range.handler;
    });
    this.#control[COUNT + next] = ranges.length;
    Atomics.store(this.#control, VERSION, version + 1);
  }

  /** The table as published. With the topology lock held. */
  ranges(): Range[] {
    this.#refresh();
    const list: Range[] = [];
    for (let at = 0; at < this.#count; at++) {
      list.push({ start: this.#starts[at]!, size: this.#ends[at]! - this.#starts[at]!, handler: this.#handlers[at]!, base: this.#bases[at]! });
    }
    return list;
  }

  #refresh(): void {
    for (;;) {
      const version = Atomics.load(this.#control, VERSION);
      const copy = version & 1;
      const { numbers, handlers } = this.#shared[copy]!;
      const count = Math.min(Math.max(this.#control[COUNT + copy]!, 0), MAX_RANGES);
      for (let at = 0; at < count; at++) {
        this.#starts[at] = numbers[3 * at]!;
        this.#ends[at] = numbers[3 * at + 1]!;
        this.#bases[at] = numbers[3 * at + 2]!;
        this.#handlers[at] = handlers[at]!;
      }
      if (count === 0) this.#starts[0] = Infinity;
      this.#count = count;
      this.#last = 0;
      // A read-modify-write, so that no load above can move below it on any processor. This copy is written only for version + 2.
      if (Atomics.compareExchange(this.#control, VERSION, version, version) === version) {
        this.#version = version;
        return;
      }
    }
  }

  /** Index in the private copy of the range that has `address`, or -1. */
  #find(address: number): number {
    if (Atomics.load(this.#control, VERSION) !== this.#version) this.#refresh();
    const starts = this.#starts;
    const last = this.#last;
    if (address >= starts[last]! && address < this.#ends[last]!) return last;
    let low = 0;
    let high = this.#count - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      if (starts[middle]! <= address) low = middle + 1;
      else high = middle - 1;
    }
    // `high` is the last range that begins at or below the address.
    if (high >= 0 && address < this.#ends[high]!) {
      this.#last = high;
      return high;
    }
    this.#above = low < this.#count ? starts[low]! : Infinity;
    return -1;
  }

  /** @returns unsigned, `width` bytes; all ones where nothing answers. */
  read(address: number, width: Width): number {
    for (;;) {
      const at = this.#find(address);
      if (at < 0) return address + width > this.#above ? this.#readBytewise(address, width) : allOnes(width);
      if (address + width > this.#ends[at]!) return this.#readBytewise(address, width);
      const region = this.#regions[this.#handlers[at]!];
      if (region === undefined) return allOnes(width);
      const mutex = region.mutex;
      mutex.lock();
      if (Atomics.load(this.#control, VERSION) === this.#version) {
        const value = region.handler.read(address - this.#bases[at]!, width);
        mutex.unlock();
        return width === 4 ? value >>> 0 : width === 2 ? value & 0xffff : value & 0xff;
      }
      mutex.unlock();
    }
  }

  /** @param value its low `width` bytes count; ignored where nothing answers. */
  write(address: number, width: Width, value: number): void {
    for (;;) {
      const at = this.#find(address);
      if (at < 0 ? address + width > this.#above : address + width > this.#ends[at]!) {
        for (let byte = 0; byte < width; byte++) this.write(address + byte, 1, (value >>> (8 * byte)) & 0xff);
        return;
      }
      if (at < 0) return;
      const region = this.#regions[this.#handlers[at]!];
      if (region === undefined) return;
      const mutex = region.mutex;
      mutex.lock();
      if (Atomics.load(this.#control, VERSION) === this.#version) {
        region.handler.write(address - this.#bases[at]!, width, width === 4 ? value >>> 0 : width === 2 ? value & 0xffff : value & 0xff);
        mutex.unlock();
        return;
      }
      mutex.unlock();
    }
  }

  #readBytewise(address: number, width: Width): number {
    let value = 0;
    for (let byte = width - 1; byte >= 0; byte--) value = value * 256 + this.read(address + byte, 1);
    return value;
  }

  /** An exit's read: `length` bytes (1 to 8) from `address` into `view` at `offset`, little endian. */
  readBytes(address: number, view: DataView, offset: number, length: number): void {
    if (length === 4) view.setUint32(offset, this.read(address, 4), true);
    else if (length === 1) view.setUint8(offset, this.read(address, 1));
    else if (length === 2) view.setUint16(offset, this.read(address, 2), true);
    else if (length === 8) {
      view.setUint32(offset, this.read(address, 4), true);
      view.setUint32(offset + 4, this.read(address + 4, 4), true);
    } else for (let byte = 0; byte < length; byte++) view.setUint8(offset + byte, this.read(address + byte, 1));
  }

  /** An exit's write: `length` bytes (1 to 8) of `view` from `offset` to `address`. */
  writeBytes(address: number, view: DataView, offset: number, length: number): void {
    if (length === 4) this.write(address, 4, view.getUint32(offset, true));
    else if (length === 1) this.write(address, 1, view.getUint8(offset));
    else if (length === 2) this.write(address, 2, view.getUint16(offset, true));
    else if (length === 8) {
      this.write(address, 4, view.getUint32(offset, true));
      this.write(address + 4, 4, view.getUint32(offset + 4, true));
    } else for (let byte = 0; byte < length; byte++) this.write(address + byte, 1, view.getUint8(offset + byte));
  }
}
