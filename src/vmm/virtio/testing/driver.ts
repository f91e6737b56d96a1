// The driver's side of a virtqueue, split or packed, for tests: as Linux has it, and with doors for tests that break the rules.
import type { GuestMemory } from '../../memory/guest-memory.ts';

export interface DriverQueueOptions {
  readonly size: number;
  readonly packed: boolean;
  readonly eventIndex: boolean;
  readonly indirect: boolean;
}

/** A buffer of a request: guest-physical address and bytes. */
export interface Lent {
  readonly address: number;
  readonly length: number;
  /** The device may write it. */
  readonly writable?: boolean;
}

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
const AVAIL = 0x80;
const USED = 0x8000;

export class DriverQueue {
  /** Guest-physical: descriptor, driver and device area. */
  readonly areas: readonly [number, number, number];
  readonly size: number;
  readonly #o: DriverQueueOptions;
  readonly #ram: GuestMemory;
  readonly #view: DataView;
  readonly #allocate: (bytes: number, align: number) => number;
  /** Split: free descriptors. Packed: free ids. */
  readonly #free: number[];
  /** Slots that each request in flight takes, by head or id. */
  readonly #slots = new Map<number, number[]>();
  #available = 0;
  #used = 0;
  #availableWrap = true;
  #usedWrap = true;
  #room: number;

  constructor(ram: GuestMemory, allocate: (bytes: number, align: number) => number, options: DriverQueueOptions) {
    const { size, packed } = options;
    this.#o = options;
    this.#ram = ram;
    this.#allocate = allocate;
    this.size = size;
    this.#room = size;
    this.#free = Array.from({ length: size }, (_, i) => size - 1 - i);
    const window = ram.windows[0]!;
    this.#view = new DataView(window.buffer, window.offset, window.size);
    this.areas = packed ? [allocate(size * 16, 16), allocate(4, 4), allocate(4, 4)] : [allocate(size * 16, 16), allocate(6 + 2 * size, 2), allocate(6 + 8 * size, 4)];
    for (const [at, bytes] of [[this.areas[0], size * 16], [this.areas[1], packed ? 4 : 6 + 2 * size], [this.areas[2], packed ? 4 : 6 + 8 * size]] as const) ram.write(at, new Uint8Array(bytes));
  }

  get view(): DataView {
    return this.#view;
  }

  /** Entries that are free: with indirect tables, requests. */
  get room(): number {
    return this.#room;
  }

  /** All of a descriptor but its last dword. @returns where that is */
  #descriptor(at: number, { address, length }: Lent): number {
    this.#view.setBigUint64(at, BigInt(address), true);
    this.#view.setUint32(at + 8, length, true);
    return at + 12;
  }

  /** Puts a request into the queue. @returns its number, as used() gives it back @param table through an indirect table */
  add(buffers: readonly Lent[], table = false): number {
    return this.#o.packed ? this.#addPacked(buffers, table) : this.#addSplit(buffers, table);
  }

  #table(buffers: readonly Lent[]): Lent {
    const address = this.#allocate(buffers.length * 16, 16);
    buffers.forEach((each, i) => {
      const flags = (each.writable === true ? WRITE : 0) | (!this.#o.packed && i + 1 < buffers.length ? NEXT : 0);
      const at = this.#descriptor(address + i * 16, each);
      this.#view.setUint16(at + (this.#o.packed ? 2 : 0), flags, true);
      if (!this.#o.packed) this.#view.setUint16(at + 2, i + 1, true);
    });
    return { address, length: buffers.length * 16 };
  }

  #addSplit(buffers: readonly Lent[], table: boolean): number {
    const list = table ? [this.#table(buffers)] : buffers;
    if (list.length > this.#free.length) throw new Error('the queue is full');
    const taken = list.map(() => this.#free.pop()!);
    this.#room -= taken.length;
    list.forEach((each, i) => {
      const flags = (table ? INDIRECT : 0) | (each.writable === true ? WRITE : 0) | (i + 1 < list.length ? NEXT : 0);
      const at = this.#descriptor(this.areas[0] + taken[i]! * 16, each);
      this.#view.setUint16(at, flags, true);
      this.#view.setUint16(at + 2, taken[i + 1] ?? 0, true);
    });
    const head = taken[0]!;
    this.#slots.set(head, taken);
    this.#view.setUint16(this.areas[1] + 4 + 2 * (this.#available % this.size), head, true);
    this.#available = (this.#available + 1) & 0xffff;
    this.#view.setUint16(this.areas[1] + 2, this.#available, true);
    return head;
  }

  #addPacked(buffers: readonly Lent[], table: boolean): number {
    const list = table ? [this.#table(buffers)] : buffers;
    if (list.length > this.#room) throw new Error('the queue is full');
    const id = this.#free.pop()!;
    this.#slots.set(id, Array.from({ length: list.length }, () => 0));
    this.#room -= list.length;
    const writes: (() => void)[] = [];
    list.forEach((each, i) => {
      const at = this.areas[0] + this.#available * 16;
      const flags = (table ? INDIRECT : 0) | (each.writable === true ? WRITE : 0) | (i + 1 < list.length ? NEXT : 0) | (this.#availableWrap ? AVAIL : USED);
      this.#view.setUint16(this.#descriptor(at, each), id, true);
      writes.push(() => this.#view.setUint16(at + 14, flags, true));
      if (++this.#available < this.size) return;
      this.#available = 0;
      this.#availableWrap = !this.#availableWrap;
    });
    for (const write of writes.reverse()) write(); // the first one last: it makes them all available
    return id;
  }

  /** Requests that the device has given back since the last call, in its order. */
  used(): { id: number; written: number }[] {
    const done: { id: number; written: number }[] = [];
    for (let next = this.#next(); next !== undefined; next = this.#next()) done.push(next);
    return done;
  }

  #next(): { id: number; written: number } | undefined {
    return this.#o.packed ? this.#nextPacked() : this.#nextSplit();
  }

  #nextSplit(): { id: number; written: number } | undefined {
    if (this.#view.getUint16(this.areas[2] + 2, true) === this.#used) return undefined;
    const at = this.areas[2] + 4 + 8 * (this.#used % this.size);
    const id = this.#view.getUint32(at, true);
    const taken = this.#slots.get(id);
    if (taken === undefined) throw new Error(`the device gave back request ${id}, which is not in flight`);
    this.#slots.delete(id);
    this.#free.push(...taken);
    this.#room += taken.length;
    this.#used = (this.#used + 1) & 0xffff;
    if (this.#o.eventIndex) this.#view.setUint16(this.areas[1] + 4 + 2 * this.size, this.#used, true);
    return { id, written: this.#view.getUint32(at + 4, true) };
  }

  #nextPacked(): { id: number; written: number } | undefined {
    const at = this.areas[0] + this.#used * 16;
    const flags = this.#view.getUint16(at + 14, true);
    if (((flags & AVAIL) !== 0) !== this.#usedWrap || ((flags & USED) !== 0) !== this.#usedWrap) return undefined;
    const id = this.#view.getUint16(at + 12, true);
    const taken = this.#slots.get(id);
    if (taken === undefined) throw new Error(`the device gave back request ${id}, which is not in flight`);
    this.#slots.delete(id);
    this.#free.push(id);
    this.#room += taken.length;
    this.#used += taken.length;
    if (this.#used >= this.size) {
      this.#used -= this.size;
      this.#usedWrap = !this.#usedWrap;
    }
    if (this.#o.eventIndex) {
      this.#view.setUint16(this.areas[1], this.#used | (this.#usedWrap ? 0x8000 : 0), true);
      this.#view.setUint16(this.areas[1] + 2, 2, true);
    }
    return { id, written: this.#view.getUint32(at + 8, true) };
  }

  /** Requests in flight. */
  get inFlight(): number {
    return this.#slots.size;
  }

  /** Bytes in guest RAM. */
  put(bytes: Uint8Array): Lent {
    const address = this.#allocate(Math.max(1, bytes.length), 16);
    this.#ram.write(address, bytes);
    return { address, length: bytes.length };
  }

  /** Room that the device may write. */
  lend(length: number): Lent {
    return { address: this.#allocate(Math.max(1, length), 16), length, writable: true };
  }

  get(lent: Lent): Uint8Array {
    return this.#ram.read(lent.address, lent.length)!;
  }
}
