// FileIo by preadv(2) and pwritev(2), one request at a time in the calling thread: for kernels and containers that refuse io_uring.
// Requests run when they are submitted; their results are told at the next `reap`, as those of a ring are.
import { close, eventfd, signalEventfd, takeEventfd } from '../kvm/libc.ts';
import type { FileIo, IoResult } from './file-io-interface.ts';
import type { IoBuffers } from './io-buffers.ts';
import { fallocateNow, readNow, syncNow, writeNow } from './now.ts';

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

  readNow(fd: number, offset: number, buffers: IoBuffers): number {
    return readNow(fd, offset, buffers);
  }

  writeNow(fd: number, offset: number, buffers: IoBuffers): number {
    return writeNow(fd, offset, buffers);
  }

  syncNow(fd: number): number {
    return syncNow(fd);
  }

  fallocateNow(fd: number, mode: number, offset: number, length: number): number {
    return fallocateNow(fd, mode, offset, length);
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
