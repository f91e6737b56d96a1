// A list of pieces of guest RAM, checked once against the machine's memory: what a descriptor chain lends to the device. Headers are copied
// out (read) and checked there, because the guest may change its memory at any time; data is used in place, by host address or as bytes.
import type { GuestMemory } from '../memory/guest-memory.ts';

export class Buffers {
  readonly #ram: GuestMemory;
  readonly #windows: number[] = [];
  /** From the start of the window. */
  readonly #offsets: number[] = [];
  readonly #lengths: number[] = [];
  #bytes = 0;

  constructor(ram: GuestMemory) {
    this.#ram = ram;
  }

  /** All of it. */
  get bytes(): number {
    return this.#bytes;
  }

  get pieces(): number {
    return this.#lengths.length;
  }

  /** Adds `[gpa, gpa + length)`. @returns false, with nothing added, when not all of it is RAM */
  add(gpa: number, length: number): boolean {
    const before = this.pieces;
    let at = gpa;
    let left = length;
    while (left > 0) {
      const window = this.#ram.windowAt(at);
      if (window < 0) {
        this.#cut(before);
        return false;
      }
      const { gpa: start, size } = this.#ram.windows[window]!;
      const bytes = Math.min(left, start + size - at);
      this.#push(window, at - start, bytes);
      at += bytes;
      left -= bytes;
    }
    return true;
  }

  #push(window: number, offset: number, length: number): void {
    this.#windows.push(window);
    this.#offsets.push(offset);
    this.#lengths.push(length);
    this.#bytes += length;
  }

  #cut(pieces: number): void {
    for (const length of this.#lengths.splice(pieces)) this.#bytes -= length;
    this.#windows.length = pieces;
    this.#offsets.length = pieces;
  }

  /** Host virtual address of piece `index`, for the kernel. */
  hva(index: number): number {
    return this.#ram.windowHva(this.#windows[index]!) + this.#offsets[index]!;
  }

  /** Bytes of piece `index`. */
  length(index: number): number {
    return this.#lengths[index]!;
  }

  /** Piece `index` itself, not a copy: what is read there may be another the next time. */
  piece(index: number): Uint8Array {
    return this.#ram.windowBytes(this.#windows[index]!).subarray(this.#offsets[index]!, this.#offsets[index]! + this.#lengths[index]!);
  }

  /** The part from `offset` on, `length` bytes or as many as there are. */
  slice(offset: number, length = Infinity): Buffers {
    const part = new Buffers(this.#ram);
    let skip = offset;
    let left = length;
    for (let i = 0; i < this.pieces && left > 0; i++) {
      const has = this.#lengths[i]!;
      if (skip >= has) {
        skip -= has;
        continue;
      }
      const bytes = Math.min(left, has - skip);
      part.#push(this.#windows[i]!, this.#offsets[i]! + skip, bytes);
      left -= bytes;
      skip = 0;
    }
    return part;
  }

  /** Copies from `offset` on out of guest RAM. @returns how many bytes: `into` may be longer than what is there */
  read(offset: number, into: Uint8Array): number {
    return this.#copy(offset, into.length, (piece, at) => into.set(piece, at));
  }

  /** Copies `from` into guest RAM from `offset` on. @returns how many bytes found room */
  write(offset: number, from: Uint8Array): number {
    return this.#copy(offset, from.length, (piece, at) => piece.set(from.subarray(at, at + piece.length)));
  }

  fill(offset: number, length: number, value = 0): number {
    return this.#copy(offset, length, (piece) => void piece.fill(value));
  }

  #copy(offset: number, length: number, move: (piece: Uint8Array, at: number) => void): number {
    let done = 0;
    let skip = offset;
    for (let i = 0; i < this.pieces && done < length; i++) {
      const has = this.#lengths[i]!;
      if (skip >= has) {
        skip -= has;
        continue;
      }
      const bytes = Math.min(length - done, has - skip);
      const from = this.#offsets[i]! + skip;
      move(this.#ram.windowBytes(this.#windows[i]!).subarray(from, from + bytes), done);
      done += bytes;
      skip = 0;
    }
    return done;
  }
}
