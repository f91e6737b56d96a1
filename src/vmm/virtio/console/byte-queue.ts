// Bytes in order, kept in the pieces in which they came.
export class ByteQueue {
  readonly #pieces: Uint8Array[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** The array is kept: its owner must not change it. */
  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#pieces.push(bytes);
    this.#length += bytes.length;
  }

  /** The first bytes, `most` at the most, as many as lie together; none when it is empty. */
  take(most: number): Uint8Array {
    const first = this.#pieces[0];
    if (first === undefined || most <= 0) return new Uint8Array(0);
    const bytes = first.subarray(0, most);
    if (bytes.length === first.length) this.#pieces.shift();
    else this.#pieces[0] = first.subarray(most);
    this.#length -= bytes.length;
    return bytes;
  }

  clear(): void {
    this.#pieces.length = 0;
    this.#length = 0;
  }
}
