// A list of pieces of memory for readv and writev (struct iovec: address and length, 8 bytes each), and a little private memory that can be in it:
// length words and headers, which no guest can change while the kernel reads them.
import { allocateWindow } from '../memory/window.ts';
import { MAX_VECTORS, readVectors, writeVectors } from './calls.ts';

const VECTOR_BYTES = 16;
const WORD = 2 ** 32;

/** Checked pieces of guest RAM (virtio/buffers.ts is one). */
export interface Pieces {
  readonly bytes: number;
  readonly pieces: number;
  /** Host virtual address of piece `index`. */
  hva(index: number): number;
  /** Bytes of piece `index`. */
  length(index: number): number;
}

export class Vectors {
  /** Private memory: see `scratch`. */
  readonly scratch: Uint8Array;
  readonly scratchView: DataView;
  readonly #scratch: number;
  readonly #words: Uint32Array;
  readonly #address: number;
  #count = 0;
  #bytes = 0;

  /** @param scratch bytes of private memory beside the list */
  constructor(scratch = 0) {
    const list = MAX_VECTORS * VECTOR_BYTES;
    const window = allocateWindow(list + scratch);
    this.#words = new Uint32Array(window.buffer, 0, list / 4);
    this.#address = window.address;
    this.#scratch = window.address + list;
    this.scratch = new Uint8Array(window.buffer, list, scratch);
    this.scratchView = new DataView(window.buffer, list, scratch);
  }

  /** Vectors in the list. */
  get count(): number {
    return this.#count;
  }

  /** Bytes in the list. */
  get bytes(): number {
    return this.#bytes;
  }

  /** How many more there is room for. */
  get room(): number {
    return MAX_VECTORS - this.#count;
  }

  clear(): void {
    this.#count = 0;
    this.#bytes = 0;
  }

  /** Adds memory by its host address. Nothing happens for no bytes. There must be room. */
  add(address: number, length: number): void {
    if (length === 0) return;
    if (this.#count >= MAX_VECTORS) throw new RangeError(`more than ${MAX_VECTORS} vectors`);
    const at = this.#count++ * 4;
    this.#words[at] = address % WORD;
    this.#words[at + 1] = Math.floor(address / WORD);
    this.#words[at + 2] = length;
    this.#words[at + 3] = 0;
    this.#bytes += length;
  }

  /** Adds `length` bytes of the private memory from `offset` on. */
  addScratch(offset: number, length: number): void {
    this.add(this.#scratch + offset, length);
  }

  /** Adds `length` bytes of guest RAM from `offset` on, or as many as there are. @returns how many */
  addPieces(from: Pieces, offset: number, length: number): number {
    let skip = offset;
    let left = length;
    const { pieces } = from;
    for (let i = 0; i < pieces && left > 0; i++) {
      const has = from.length(i);
      if (skip >= has) {
        skip -= has;
        continue;
      }
      const bytes = Math.min(left, has - skip);
      this.add(from.hva(i) + skip, bytes);
      left -= bytes;
      skip = 0;
    }
    return length - left;
  }

  /** One readv into the list. @returns bytes, 0 at the end of a stream, or -1 with errno() */
  read(fd: number): number {
    return readVectors(fd, this.#address, this.#count);
  }

  /** One writev of the list. @returns bytes, or -1 with errno() */
  write(fd: number): number {
    return writeVectors(fd, this.#address, this.#count);
  }
}
