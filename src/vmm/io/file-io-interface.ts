// What io-uring.ts and plain-file-io.ts both do: reading and writing of files at host addresses, many requests at a time.
// Nothing here waits for Node's event loop: completions come by an eventfd for the Worker's epoll loop, or by `wait`.
import type { IoBuffers } from './io-buffers.ts';

/** Bytes transferred, 0 for what transfers none, or a negative errno. Called from `reap` or `wait`, never from the call that asked. */
export type IoResult = (result: number) => void;

export interface FileIo {
  readonly kind: 'io_uring' | 'preadv';
  /** Readable when completions wait to be reaped. */
  readonly eventFd: number;
  /** Requests whose result has not come. */
  readonly pending: number;
  /** Reads at `offset` into `buffers`; may transfer less than all of them. At most MAX_PIECES pieces count. */
  readv(fd: number, offset: number, buffers: IoBuffers, done: IoResult): void;
  writev(fd: number, offset: number, buffers: IoBuffers, done: IoResult): void;
  fdatasync(fd: number, done: IoResult): void;
  /** fallocate(2) with FALLOC_FL_… in `mode`. */
  fallocate(fd: number, mode: number, offset: number, length: number, done: IoResult): void;
  // The same in the calling thread, which waits: for the tables of images, which are few. Results as above.
  readNow(fd: number, offset: number, buffers: IoBuffers): number;
  writeNow(fd: number, offset: number, buffers: IoBuffers): number;
  syncNow(fd: number): number;
  fallocateNow(fd: number, mode: number, offset: number, length: number): number;
  /** Hands everything asked for to the kernel: one system call as a rule. */
  submit(): void;
  /** Runs what has completed, then submits what that asked for. @returns how many completed */
  reap(): number;
  /** As `reap`, but waits for at least one when any is pending. */
  wait(): void;
  /** Waits for all that is pending, then lets go of ring and eventfd. */
  close(): void;
}
