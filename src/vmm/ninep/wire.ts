// Fields of 9P messages: little-endian integers, and strings as length[2] and bytes. Strings stay bytes: Linux's names need not be UTF-8.

const NONE = new Uint8Array(0);

/** Takes a message's fields one after the other. Reading over its end makes the message malformed and gives zeros; look at `whole()` before acting. */
export class Reader {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  #end = 0;
  #malformed = false;

  /** @param bytes private memory, where messages are copied to before they are read */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Starts at `at` of a message that ends at `end`. */
  begin(at: number, end: number): void {
    this.#at = at;
    this.#end = end;
    this.#malformed = end > this.bytes.length;
  }

  /** Every field so far lay inside the message. */
  whole(): boolean {
    return !this.#malformed;
  }

  /** @returns where a field of `bytes` begins, or -1. */
  #take(bytes: number): number {
    const at = this.#at;
    if (this.#malformed || at + bytes > this.#end) {
      this.#malformed = true;
      return -1;
    }
    this.#at = at + bytes;
    return at;
  }

  u8(): number {
    const at = this.#take(1);
    return at < 0 ? 0 : this.#view.getUint8(at);
  }

  u16(): number {
    const at = this.#take(2);
    return at < 0 ? 0 : this.#view.getUint16(at, true);
  }

  u32(): number {
    const at = this.#take(4);
    return at < 0 ? 0 : this.#view.getUint32(at, true);
  }

  /** As a float64: not exact from 2^53 on. */
  u64(): number {
    const low = this.u32();
    return low + this.u32() * 2 ** 32;
  }

  /** A string's bytes, in place: gone with the next message. */
  string(): Uint8Array {
    const length = this.u16();
    const at = this.#take(length);
    return at < 0 ? NONE : this.bytes.subarray(at, at + length);
  }
}

/** Puts a reply's fields one after the other into private memory, which must be large enough. */
export class Writer {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u8(value: number): void {
    this.#view.setUint8(this.at, value);
    this.at += 1;
  }

  u16(value: number): void {
    this.#view.setUint16(this.at, value, true);
    this.at += 2;
  }

  u32(value: number): void {
    this.#view.setUint32(this.at, value, true);
    this.at += 4;
  }

  /** Of two halves, so that all 64 bits are kept. */
  u64(low: number, high = 0): void {
    this.u32(low);
    this.u32(high);
  }

  raw(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.at);
    this.at += bytes.length;
  }

  string(bytes: Uint8Array): void {
    this.u16(bytes.length);
    this.raw(bytes);
  }
}
