// struct iovec { void *iov_base; size_t iov_len; } (readv(2)) as 32-bit words, little-endian.
import type { IoBuffers } from './io-buffers.ts';

export const IOVEC_BYTES = 16;
/** UIO_MAXIOV: the most pieces that one request takes. */
export const MAX_PIECES = 1024;
const WORDS = 4;

/** Writes at most `most` pieces of `buffers` at word `at` of `words`. @returns how many */
export function fillIovec(words: Int32Array, at: number, buffers: IoBuffers, most: number): number {
  const n = Math.min(buffers.pieces, most);
  for (let i = 0; i < n; i++) {
    const hva = buffers.hva(i);
    const w = at + i * WORDS;
    words[w] = hva | 0;
    words[w + 1] = Math.floor(hva / 2 ** 32);
    words[w + 2] = buffers.length(i);
    words[w + 3] = 0;
  }
  return n;
}
