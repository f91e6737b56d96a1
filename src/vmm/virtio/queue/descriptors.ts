// Descriptors become checked buffers: one at a time, direct or from an indirect table, with the rules that split and packed rings share
// (virtio 1.3 §2.7.4, §2.7.5, §2.8.5, §2.8.7).
import { Buffers } from '../buffers.ts';
import type { GuestMemory } from '../../memory/guest-memory.ts';
import { DESC_BYTES, DESC_INDIRECT, DESC_NEXT, DESC_WRITE, MAX_INDIRECT, QueueError } from './virtqueue.ts';

/** The most that one chain lends: Linux never comes near, and a length is 32 bits wide. */
const MAX_BYTES = 2 ** 32 - 1;

export class ChainBuilder {
  readonly readable: Buffers;
  readonly writable: Buffers;
  readonly #ram: GuestMemory;
  readonly #queue: number;
  readonly #indirect: boolean;

  constructor(ram: GuestMemory, queue: number, indirect: boolean) {
    this.#ram = ram;
    this.#queue = queue;
    this.#indirect = indirect;
    this.readable = new Buffers(ram);
    this.writable = new Buffers(ram);
  }

  fail(why: string): never {
    throw new QueueError(this.#queue, why);
  }

  /** A descriptor that is a buffer. */
  buffer(low: number, high: number, length: number, flags: number): void {
    const write = (flags & DESC_WRITE) !== 0;
    if (!write && this.writable.pieces > 0) this.fail('a buffer to read comes after one to write');
    const gpa = high * 2 ** 32 + low;
    const { readable, writable } = this;
    if (!(write ? writable : readable).add(gpa, length)) this.fail(`a buffer of ${length} bytes at ${gpa.toString(16)} is not in RAM`);
    if (readable.bytes + writable.bytes > MAX_BYTES) this.fail('a chain lends 4 GiB or more');
  }

  /** An indirect table, copied first. @param linked its descriptors name the next one (split rings), or simply follow each other (packed) */
  table(low: number, high: number, length: number, linked: boolean): void {
    if (!this.#indirect) this.fail('a descriptor is indirect, which was not negotiated');
    const count = length / DESC_BYTES;
    if (!Number.isInteger(count) || count < 1 || count > MAX_INDIRECT) this.fail(`an indirect table has ${length} bytes`);
    const copy = this.#ram.read(high * 2 ** 32 + low, length);
    if (copy === null) this.fail(`an indirect table at ${(high * 2 ** 32 + low).toString(16)} is not in RAM`);
    const view = new DataView(copy.buffer);
    let at = 0;
    for (let seen = 0; ; seen++) {
      if (seen === count) this.fail('an indirect table runs in a circle');
      const flags = view.getUint16(at * DESC_BYTES + (linked ? 12 : 14), true);
      if ((flags & DESC_INDIRECT) !== 0) this.fail('an indirect table has an indirect descriptor');
      this.buffer(view.getUint32(at * DESC_BYTES, true), view.getUint32(at * DESC_BYTES + 4, true), view.getUint32(at * DESC_BYTES + 8, true), flags);
      if (!linked) {
        if (++at === count) return;
        continue;
      }
      if ((flags & DESC_NEXT) === 0) return;
      at = view.getUint16(at * DESC_BYTES + 14, true);
      if (at >= count) this.fail(`an indirect table names descriptor ${at} of ${count}`);
    }
  }
}
