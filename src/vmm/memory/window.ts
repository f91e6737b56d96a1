// Windows: page-aligned, lazily committed host memory that JavaScript sees as a SharedArrayBuffer and the kernel as plain addresses.
// A growable SharedArrayBuffer reserves its maximum and is never moved, so its address can be given to KVM, io_uring or mmap(MAP_FIXED).
import koffi from 'koffi';

/** The most that one window holds: allowed inside V8's sandbox in every runtime that Vitrine runs on. */
export const MAX_WINDOW = 2 * 2 ** 30;
const GROW = 65536;

/** Strong references for the life of the process: a collected window would be freed guest RAM under a running vCPU. */
const pinned = new Set<SharedArrayBuffer>();

export interface Window {
  readonly buffer: SharedArrayBuffer;
  /** Host virtual address of byte 0. */
  readonly address: number;
  readonly size: number;
}

/** Reserves `bytes` (rounded up to 64 KiB) of zeroed memory; pages are committed when first touched. Throws RangeError over MAX_WINDOW plus slack. */
export function allocateWindow(bytes: number): Window {
  const size = Math.ceil(bytes / GROW) * GROW;
  const buffer = new SharedArrayBuffer(4096, { maxByteLength: size });
  buffer.grow(size);
  return attachWindow(buffer);
}

/** A window that another thread allocated. The reference is kept here too. */
export function attachWindow(buffer: SharedArrayBuffer): Window {
  pinned.add(buffer);
  const address = Number(koffi.address(new Uint8Array(buffer, 0, 1)));
  if (address % 4096 !== 0) throw new Error(`a window lies at ${address.toString(16)}, which is not page-aligned`);
  return { buffer, address, size: buffer.byteLength };
}
