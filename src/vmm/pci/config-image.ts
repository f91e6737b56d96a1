// A configuration space before it lives: power-on bytes, which bits a write changes, which bits a written 1 clears. Built alike in every thread
// from the device's description; the living bytes are in the arena (function.ts).

export const CONFIG_BYTES = 4096;

export class ConfigImage {
  /** Bytes after power-on. */
  readonly initial = new Uint8Array(CONFIG_BYTES);
  /** Bits that take the written value. */
  readonly writable = new Uint8Array(CONFIG_BYTES);
  /** Bits that a written 1 clears (W1C). */
  readonly clearable = new Uint8Array(CONFIG_BYTES);

  /** Power-on value of `bytes` (1, 2 or 4) at `offset`, little endian. */
  set(offset: number, bytes: 1 | 2 | 4, value: number): this {
    return this.#put(this.initial, offset, bytes, value);
  }

  /** Bits of `mask` take what is written. */
  allow(offset: number, bytes: 1 | 2 | 4, mask: number): this {
    return this.#put(this.writable, offset, bytes, mask);
  }

  /** Bits of `mask` are cleared by writing 1. */
  clearByOne(offset: number, bytes: 1 | 2 | 4, mask: number): this {
    return this.#put(this.clearable, offset, bytes, mask);
  }

  #put(into: Uint8Array, offset: number, bytes: number, value: number): this {
    for (let at = 0; at < bytes; at++) into[offset + at] = value >>> (8 * at);
    return this;
  }
}
