// FileIo by preadv(2) and pwritev(2), one request at a time in the calling thread: for kernels and containers that refuse io_uring.
// Requests run when they are submitted; their results are told at the next `reap`, as those of a ring are.
import koffi from 'koffi';
import { close, EINTR, errno, eventfd, signalEventfd, takeEventfd } from '../kvm/libc.ts';
import type { FileIo, IoResult } from './file-io-interface.ts';
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

export class PlainFileIo implements FileIo {
  readonly kind = 'preadv';
  readonly eventFd = eventfd();
  #queued: (() => void)[] = [];
  #completed: (() => void)[] = [];

  get pending(): number {
    return this.#queued.length + this.#completed.length;
  }

  #queue(call: () => number, done: IoResult): void {
    this.#queued.push(() => {
      const result = call();
      this.#completed.push(() => done(result));
    });
  }

  readv(fd: number, offset: number, buffers: IoBuffers, done: IoResult): void {
    this.#queue(() => readNow(fd, offset, buffers), done);
  }

  writev(fd: number, offset: number, buffers: IoBuffers, done: IoResult): void {
    this.#queue(() => writeNow(fd, offset, buffers), done);
  }

  fdatasync(fd: number, done: IoResult): void {
    this.#queue(() => syncNow(fd), done);
  }

  fallocate(fd: number, mode: number, offset: number, length: number, done: IoResult): void {
    this.#queue(() => fallocateNow(fd, mode, offset, length), done);
  }

  submit(): void {
    const queued = this.#queued;
    if (queued.length === 0) return;
    this.#queued = [];
    for (const run of queued) run();
    signalEventfd(this.eventFd);
  }

  reap(): number {
    takeEventfd(this.eventFd);
    const completed = this.#completed;
    this.#completed = [];
    for (const tell of completed) tell();
    this.submit();
    return completed.length;
  }

  wait(): void {
    this.submit();
    this.reap();
  }

  close(): void {
    while (this.pending > 0) this.wait();
    close(this.eventFd);
  }
}
