// The picture's inner loops in C (native/rows.c), by host addresses: whoever calls has checked that everything lies in its memory.
import koffi from 'koffi';
import { nativeLibrary } from '../machine/entry.ts';

const native = koffi.load(nativeLibrary());

/**
 * Compares a picture with its tight copy where `pages` (a bit per page of the memory) is set, and brings the copy up to date.
 * `changed` gets 1 for each tile that differed. @returns how many tiles were newly set
 */
export const compareRows = native.func('vitrine_compare', 'int', [
  'uintptr_t', 'uint64_t', 'uint64_t', 'uint32_t', 'uint32_t', 'uintptr_t', 'uintptr_t', 'uint32_t', 'uint32_t', 'uintptr_t',
]) as (
  memory: number, offset: number, stride: number, width: number, height: number, pages: number, shadow: number,
  tileWidth: number, tileHeight: number, changed: number,
) => number;

/** Packs rectangles (four u16 each, at `rectangles`) of a tight picture one after the other at `out`. @returns bytes written */
export const packRectangles = native.func('vitrine_pack', 'uint64_t', ['uintptr_t', 'uint32_t', 'uintptr_t', 'uint32_t', 'uintptr_t']) as (
  shadow: number, pictureWidth: number, rectangles: number, count: number, out: number,
) => number;

/** Copies a picture of memory to `out`, rows without gaps. */
export const copyPicture = native.func('vitrine_copy', 'void', ['uintptr_t', 'uint64_t', 'uint64_t', 'uint32_t', 'uint32_t', 'uintptr_t']) as (
  memory: number, offset: number, stride: number, width: number, height: number, out: number,
) => void;

/** Memory that C may write: an array and its address, which never changes while the array lives. */
export interface NativeBuffer {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly address: number;
}

/** Zeroed memory outside of V8's heap. */
export function allocateBuffer(length: number): NativeBuffer {
  const bytes = new Uint8Array(new ArrayBuffer(Math.max(length, 4096)), 0, length);
  return { bytes, address: Number(koffi.address(bytes)) };
}
