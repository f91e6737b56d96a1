// Guest RAM: windows at guest-physical addresses, and the one place where an address that a guest gave becomes bytes.
// Layout (x86): RAM from 0 up to the hole, the rest from 4 GiB on; the hole below 4 GiB holds the PCI windows, ECAM, the IOAPIC and the LAPIC.
import { allocateWindow, attachWindow, MAX_WINDOW, type Window } from './window.ts';

/** RAM ends here below 4 GiB; above lie ECAM and the PCI memory window. */
export const LOW_RAM_END = 0x8000_0000;
export const HIGH_RAM_START = 0x1_0000_0000;
const HUGE = 2 * 2 ** 20;

export interface RamWindow {
  /** Guest-physical address of the first byte. */
  readonly gpa: number;
  readonly size: number;
  readonly buffer: SharedArrayBuffer;
  /** Bytes from the start of the buffer to `gpa`: the slack that makes HVA and GPA congruent modulo 2 MiB. */
  readonly offset: number;
}

/** A piece of guest RAM inside one window. */
export interface Segment {
  readonly gpa: number;
  readonly bytes: Uint8Array;
  /** Host virtual address of the first byte. */
  readonly hva: number;
}

export class GuestMemory {
  readonly windows: readonly RamWindow[];
  /** Guest RAM in bytes. */
  readonly size: number;
  readonly #hva: number[];
  readonly #bytes: Uint8Array[];

  constructor(windows: readonly RamWindow[]) {
    this.windows = windows;
    this.size = windows.reduce((sum, w) => sum + w.size, 0);
    const attached: Window[] = windows.map((w) => attachWindow(w.buffer));
    this.#hva = attached.map((a, i) => a.address + windows[i]!.offset);
    this.#bytes = windows.map((w) => new Uint8Array(w.buffer, w.offset, w.size)); // explicit length: length-tracking views are far slower
  }

  /** Allocates `bytes` of RAM: below the hole first, then from 4 GiB on. */
  static allocate(bytes: number): GuestMemory {
    const windows: RamWindow[] = [];
    const add = (gpa: number, size: number): void => {
      for (let done = 0; done < size; done += MAX_WINDOW) {
        const length = Math.min(MAX_WINDOW, size - done);
        const window = allocateWindow(length + HUGE);
        const start = gpa + done;
        const offset = (((start - window.address) % HUGE) + HUGE) % HUGE;
        windows.push({ gpa: start, size: length, buffer: window.buffer, offset });
      }
    };
    const low = Math.min(bytes, LOW_RAM_END);
    add(0, low);
    if (bytes > low) add(HIGH_RAM_START, bytes - low);
    return new GuestMemory(windows);
  }

  /** Host virtual address of window `index`'s first byte of RAM. */
  windowHva(index: number): number {
    return this.#hva[index]!;
  }

  /** All of window `index`'s RAM. */
  windowBytes(index: number): Uint8Array {
    return this.#bytes[index]!;
  }

  /** The window that `gpa` lies in, or -1 when it is not RAM. */
  windowAt(gpa: number): number {
    const windows = this.windows;
    for (let i = 0; i < windows.length; i++) {
      const w = windows[i]!;
      if (gpa >= w.gpa && gpa < w.gpa + w.size) return i;
    }
    return -1;
  }

  /** All of `[gpa, gpa + length)` as pieces, in order; null when any byte of it is not RAM. `length` 0 gives an empty list. */
  segments(gpa: number, length: number): Segment[] | null {
    if (!Number.isSafeInteger(gpa) || !Number.isSafeInteger(length) || gpa < 0 || length < 0) return null;
    const found: Segment[] = [];
    let at = gpa;
    let left = length;
    while (left > 0) {
      const i = this.windowAt(at);
      if (i < 0) return null;
      const w = this.windows[i]!;
      const n = Math.min(left, w.gpa + w.size - at);
      found.push({ gpa: at, bytes: this.#bytes[i]!.subarray(at - w.gpa, at - w.gpa + n), hva: this.#hva[i]! + (at - w.gpa) });
      at += n;
      left -= n;
    }
    return found;
  }

  /** A private copy of `length` bytes at `gpa`, or null when it is not all RAM. */
  read(gpa: number, length: number): Uint8Array | null {
    const pieces = this.segments(gpa, length);
    if (pieces === null) return null;
    const copy = new Uint8Array(length);
    for (const piece of pieces) copy.set(piece.bytes, piece.gpa - gpa);
    return copy;
  }

  /** Writes all of `bytes` at `gpa`, or nothing and false when it is not all RAM. */
  write(gpa: number, bytes: Uint8Array): boolean {
    const pieces = this.segments(gpa, bytes.length);
    if (pieces === null) return false;
    for (const piece of pieces) piece.bytes.set(bytes.subarray(piece.gpa - gpa, piece.gpa - gpa + piece.bytes.length));
    return true;
  }
}
