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

/** A range as a thread keeps it: what an access needs lies together. */
class Entry {
  readonly start: number;
  readonly end: number;
  readonly base: number;
  readonly id: number;
  readonly region: Region | undefined;

  constructor(start: number, end: number, base: number, id: number, region: Region | undefined) {
    this.start = start;
    this.end = end;
    this.base = base;
    this.id = id;
    this.region = region;
  }
}

/** Has no address in it. */
const NOWHERE = new Entry(Infinity, -Infinity, 0, -1, undefined);

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
  #entries: Entry[] = [];
  #last: Entry = NOWHERE;

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
    // A copy that was taken before knows the number without the handler.
    this.#entries = this.#entries.map((entry) => (entry.id === id ? new Entry(entry.start, entry.end, entry.base, id, this.#regions[id]) : entry));
    this.#last = NOWHERE;
    return id;
  }

  /** Forgets a handler in this thread: no range of it is published any more, and the number stays its name's. */
  unregister(id: number): void {
    this.#regions[id] = undefined;
    this.#entries = this.#entries.map((entry) => (entry.id === id ? new Entry(entry.start, entry.end, entry.base, id, undefined) : entry));
    this.#last = NOWHERE;
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
    return this.#entries.map(({ start, end, base, id }) => ({ start, size: end - start, handler: id, base }));
  }

  /** The name under which a handler was registered, by whichever thread. */
  nameOf(handler: number): string {
    const name = this.#names.slice(handler * NAME_BYTES, (handler + 1) * NAME_BYTES);
    const end = name.indexOf(0);
    return new TextDecoder().decode(end < 0 ? name : name.subarray(0, end));
  }

  #refresh(): void {
    for (;;) {
      const version = Atomics.load(this.#control, VERSION);
      const copy = version & 1;
      const { numbers, handlers } = this.#shared[copy]!;
      const count = Math.min(Math.max(this.#control[COUNT + copy]!, 0), MAX_RANGES);
      const entries: Entry[] = [];
      for (let at = 0; at < count; at++) {
        const id = handlers[at]!;
        entries.push(new Entry(numbers[3 * at]!, numbers[3 * at + 1]!, numbers[3 * at + 2]!, id, this.#regions[id]));
      }
      // A read-modify-write, so that no load above can move below it on any processor. This copy is written only for version + 2.
      if (Atomics.compareExchange(this.#control, VERSION, version, version) !== version) continue;
      this.#entries = entries;
      this.#last = NOWHERE;
      this.#version = version;
      return;
    }
  }

  /** The entry of the private copy that has `address`, or NOWHERE. Whoever uses it looks afterwards whether the copy was still the newest. */
  #find(address: number): Entry {
    const last = this.#last;
    if (address >= last.start && address < last.end) return last;
    const at = this.#after(address) - 1;
    const entry = at < 0 ? NOWHERE : this.#entries[at]!;
    if (address >= entry.end) return NOWHERE;
    this.#last = entry;
    return entry;
  }

  /** Index of the first entry that begins above `address`. */
  #after(address: number): number {
    const entries = this.#entries;
    let low = 0;
    let high = entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (entries[middle]!.start <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Whether an access that begins in no range reaches into the next. */
  #reaches(address: number, width: Width): boolean {
    const next = this.#entries[this.#after(address)];
    return next !== undefined && address + width > next.start;
  }

  /** Whether the private copy is the newest; if not, it is taken anew. */
  #current(): boolean {
    if (Atomics.load(this.#control, VERSION) === this.#version) return true;
    this.#refresh();
    return false;
  }

  /** @returns unsigned, `width` bytes; all ones where nothing answers. */
  read(address: number, width: Width): number {
    for (;;) {
      const { end, base, region } = this.#find(address);
      if (address + width > end || region === undefined) {
        if (!this.#current()) continue;
        return this.#readElse(address, width, end);
      }
      region.mutex.lock();
      if (Atomics.load(this.#control, VERSION) === this.#version) {
        const value = region.handler.read(address - base, width);
        region.mutex.unlock();
        return width === 4 ? value >>> 0 : width === 2 ? value & 0xffff : value & 0xff;
      }
      region.mutex.unlock();
      this.#refresh();
    }
  }

  /** @param value its low `width` bytes count; ignored where nothing answers. */
  write(address: number, width: Width, value: number): void {
    for (;;) {
      const { end, base, region } = this.#find(address);
      if (address + width > end || region === undefined) {
        if (!this.#current()) continue;
        this.#writeElse(address, width, value, end);
        return;
      }
      region.mutex.lock();
      if (Atomics.load(this.#control, VERSION) === this.#version) {
        region.handler.write(address - base, width, width === 4 ? value >>> 0 : width === 2 ? value & 0xffff : value & 0xff);
        region.mutex.unlock();
        return;
      }
      region.mutex.unlock();
      this.#refresh();
    }
  }

  /** Whether an access is to be cut: it crosses the end of the range that it begins in, or begins in none and reaches one. */
  #cut(address: number, width: Width, end: number): boolean {
    return end === NOWHERE.end ? this.#reaches(address, width) : address + width > end;
  }

  #readElse(address: number, width: Width, end: number): number {
    return this.#cut(address, width, end) ? this.#readBytewise(address, width) : allOnes(width);
  }

  #writeElse(address: number, width: Width, value: number, end: number): void {
    if (!this.#cut(address, width, end)) return;
    for (let byte = 0; byte < width; byte++) this.write(address + byte, 1, (value >>> (8 * byte)) & 0xff);
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
