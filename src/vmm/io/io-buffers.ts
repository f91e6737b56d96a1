// Lists of pieces of host memory that the kernel reads and writes in place, seen from JavaScript too: guest RAM (a virtqueue's chain) and
// scratch memory have this one shape. An address is a float64 number; a piece never crosses the end of its window.
import { allocateWindow } from '../memory/window.ts';

/** Pieces of memory, in order; offsets count through them all. */
export interface IoBuffers {
  /** Sum of all lengths. */
  readonly bytes: number;
  readonly pieces: number;
  /** Host virtual address of piece `i`. */
  hva(i: number): number;
  /** Bytes of piece `i`; never 0. */
  length(i: number): number;
  /** The part [offset, offset + length) as a list of its own; without a length, up to the end. */
  slice(offset: number, length?: number): IoBuffers;
  /** Copies out, from `offset` on. @returns bytes copied */
  read(offset: number, into: Uint8Array): number;
  /** Copies in, from `offset` on. @returns bytes copied */
  write(offset: number, from: Uint8Array): number;
}

/** One piece of memory that JavaScript and the kernel both see. */
export interface Piece {
  readonly bytes: Uint8Array;
  /** Host virtual address of its first byte. */
  readonly hva: number;
}

/** A list of pieces. */
export class PieceList implements IoBuffers {
  readonly bytes: number;
  readonly pieces: number;
  readonly #list: readonly Piece[];

  constructor(list: readonly Piece[]) {
    this.#list = list.filter((piece) => piece.bytes.length > 0);
    this.pieces = this.#list.length;
    let bytes = 0;
    for (const piece of this.#list) bytes += piece.bytes.length;
    this.bytes = bytes;
  }

  hva(i: number): number {
    return this.#list[i]!.hva;
  }

  length(i: number): number {
    return this.#list[i]!.bytes.length;
  }

  slice(offset: number, length = this.bytes - offset): PieceList {
    const cut: Piece[] = [];
    let start = 0;
    for (const { bytes, hva } of this.#list) {
      const from = Math.max(offset - start, 0);
      const to = Math.min(offset + length - start, bytes.length);
      if (from < to) cut.push({ bytes: bytes.subarray(from, to), hva: hva + from });
      start += bytes.length;
    }
    return new PieceList(cut);
  }

  read(offset: number, into: Uint8Array): number {
    let done = 0;
    let start = 0;
    for (const { bytes } of this.#list) {
      const from = offset + done - start;
      if (from < bytes.length && done < into.length) {
        const n = Math.min(bytes.length - from, into.length - done);
        into.set(bytes.subarray(from, from + n), done);
        done += n;
      }
      start += bytes.length;
    }
    return done;
  }

  write(offset: number, from: Uint8Array): number {
    let done = 0;
    let start = 0;
    for (const { bytes } of this.#list) {
      const to = offset + done - start;
      if (to < bytes.length && done < from.length) {
        const n = Math.min(bytes.length - to, from.length - done);
        bytes.set(from.subarray(done, done + n), to);
        done += n;
      }
      start += bytes.length;
    }
    return done;
  }
}

/** Several lists, one after another, as one. */
export function concatenate(lists: readonly IoBuffers[]): IoBuffers {
  const kept = lists.filter((list) => list.bytes > 0);
  return kept.length === 1 ? kept[0]! : new Joined(kept);
}

class Joined implements IoBuffers {
  readonly bytes: number;
  readonly pieces: number;
  readonly #lists: readonly IoBuffers[];

  constructor(lists: readonly IoBuffers[]) {
    this.#lists = lists;
    this.bytes = lists.reduce((sum, list) => sum + list.bytes, 0);
    this.pieces = lists.reduce((sum, list) => sum + list.pieces, 0);
  }

  hva(i: number): number {
    for (const list of this.#lists) {
      if (i < list.pieces) return list.hva(i);
      i -= list.pieces;
    }
    throw new RangeError('no such piece');
  }

  length(i: number): number {
    for (const list of this.#lists) {
      if (i < list.pieces) return list.length(i);
      i -= list.pieces;
    }
    throw new RangeError('no such piece');
  }

  #cut(offset: number, length: number): IoBuffers[] {
    const parts: IoBuffers[] = [];
    let start = 0;
    for (const list of this.#lists) {
      const from = Math.max(offset - start, 0);
      const to = Math.min(offset + length - start, list.bytes);
      if (from < to) parts.push(list.slice(from, to - from));
      start += list.bytes;
    }
    return parts;
  }

  slice(offset: number, length = this.bytes - offset): IoBuffers {
    return concatenate(this.#cut(offset, length));
  }

  read(offset: number, into: Uint8Array): number {
    let done = 0;
    for (const part of this.#cut(offset, into.length)) done += part.read(0, into.subarray(done, done + part.bytes));
    return done;
  }

  write(offset: number, from: Uint8Array): number {
    let done = 0;
    for (const part of this.#cut(offset, from.length)) done += part.write(0, from.subarray(done, done + part.bytes));
    return done;
  }
}

const ZERO_BYTES = 65536;
let zeroPiece: Piece | null = null;

/** `length` zero bytes to write from: one window of zeros, named as often as needed. Never to be written to. */
export function zeros(length: number): PieceList {
  if (zeroPiece === null) {
    const window = allocateWindow(ZERO_BYTES);
    zeroPiece = { bytes: new Uint8Array(window.buffer, 0, ZERO_BYTES), hva: window.address };
  }
  const list: Piece[] = [];
  for (let left = length; left > 0; left -= ZERO_BYTES) {
    list.push(left >= ZERO_BYTES ? zeroPiece : { bytes: zeroPiece.bytes.subarray(0, left), hva: zeroPiece.hva });
  }
  return new PieceList(list);
}

/** Fills all of `buffers` with zeros, from `offset` on. */
export function fillZeros(buffers: IoBuffers, offset = 0, length = buffers.bytes - offset): void {
  const zero = new Uint8Array(Math.min(length, ZERO_BYTES));
  for (let done = 0; done < length; ) {
    const n = buffers.write(offset + done, zero.subarray(0, Math.min(zero.length, length - done)));
    if (n === 0) return;
    done += n;
  }
}

/** A piece of scratch memory; give it back when the kernel is done with it. */
export interface Scratch extends Piece {
  /** All of what was asked for, as a list. */
  readonly list: PieceList;
  giveBack(): void;
}

const SMALLEST = 4096;
const CHUNK = 2 ** 20;

/** Page-aligned scratch memory by sizes of powers of two. Windows are never freed, so what is given back is used again. */
export class ScratchPool {
  readonly #free = new Map<number, Piece[]>();

  /** At least `bytes`, page-aligned, shown as exactly `bytes`; contents are whatever was there. */
  take(bytes: number): Scratch {
    let size = SMALLEST;
    while (size < bytes) size *= 2;
    let free = this.#free.get(size);
    if (free === undefined) this.#free.set(size, (free = []));
    if (free.length === 0) {
      const total = Math.max(size, Math.min(CHUNK, size * 16));
      const window = allocateWindow(total);
      for (let at = 0; at + size <= total; at += size) free.push({ bytes: new Uint8Array(window.buffer, at, size), hva: window.address + at });
    }
    const whole = free.pop()!;
    const piece = { bytes: whole.bytes.subarray(0, bytes), hva: whole.hva };
    return { ...piece, list: new PieceList([piece]), giveBack: () => free.push(whole) };
  }
}

/** The Worker's own pool. */
export const scratchPool = new ScratchPool();
