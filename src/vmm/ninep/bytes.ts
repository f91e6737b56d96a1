// What the server is given of a request's and a reply's memory: pieces at host addresses, in guest RAM. The virtqueue's Buffers are such.

/** Memory for preadv and pwritev. */
export interface Pieces {
  readonly bytes: number;
  readonly pieces: number;
  /** Host virtual address of piece `index`. */
  hva(index: number): number;
  /** Bytes of piece `index`. */
  length(index: number): number;
}

export interface Bytes extends Pieces {
  /** Copies out of, and into, the pieces, from `offset` counted through them. @returns bytes copied */
  read(offset: number, into: Uint8Array): number;
  write(offset: number, from: Uint8Array): number;
  slice(offset: number, length?: number): Bytes;
}
