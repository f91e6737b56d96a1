// preadv(2), pwritev(2), fdatasync(2) and fallocate(2) in the calling thread, on host addresses. Results are bytes or 0, or a negative errno.
import koffi from 'koffi';
import { EINTR, errno } from '../kvm/libc.ts';
import type { IoBuffers } from './io-buffers.ts';
import { fillIovec, IOVEC_BYTES, MAX_PIECES } from './iovec.ts';

const libc = koffi.load('libc.so.6');
type Vector = (fd: number, iovec: Uint8Array, pieces: number, offset: number) => number | bigint;
const cPreadv = libc.func('preadv', 'int64_t', ['int', 'void *', 'int', 'int64_t']) as Vector;
const cPwritev = libc.func('pwritev', 'int64_t', ['int', 'void *', 'int', 'int64_t']) as Vector;
const cFdatasync = libc.func('fdatasync', 'int', ['int']) as (fd: number) => number;
const cFallocate = libc.func('fallocate', 'int', ['int', 'int', 'int64_t', 'int64_t']) as (fd: number, mode: number, offset: number, length: number) => number;


/** The call's result, or a negative errno; again when a signal came in between. */
function settle(call: () => number | bigint): number {
  for (;;) {
    const result = Number(call());
    if (result >= 0) return result;
    const number = errno();
    if (number !== EINTR) return -number;
  }
}

/** preadv in the calling thread. @returns bytes, or a negative errno */
export function readNow(fd: number, offset: number, buffers: IoBuffers): number {
  const iovec = new Uint8Array(Math.min(buffers.pieces, MAX_PIECES) * IOVEC_BYTES);
  const pieces = fillIovec(new Int32Array(iovec.buffer), 0, buffers, MAX_PIECES);
  return settle(() => cPreadv(fd, iovec, pieces, offset));
}

/** pwritev in the calling thread. @returns bytes, or a negative errno */
export function writeNow(fd: number, offset: number, buffers: IoBuffers): number {
  const iovec = new Uint8Array(Math.min(buffers.pieces, MAX_PIECES) * IOVEC_BYTES);
  const pieces = fillIovec(new Int32Array(iovec.buffer), 0, buffers, MAX_PIECES);
  return settle(() => cPwritev(fd, iovec, pieces, offset));
}

/** fdatasync in the calling thread. @returns 0 or a negative errno */
export function syncNow(fd: number): number {
  return settle(() => cFdatasync(fd));
}

/** fallocate in the calling thread. @returns 0 or a negative errno */
export function fallocateNow(fd: number, mode: number, offset: number, length: number): number {
  return settle(() => cFallocate(fd, mode, offset, length));
}
