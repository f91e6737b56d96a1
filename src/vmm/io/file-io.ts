// Which way of I/O a Worker takes: io_uring, or preadv/pwritev where that is refused.
import type { FileIo } from './file-io-interface.ts';
import { IoUring } from './io-uring.ts';
import { PlainFileIo } from './plain-file-io.ts';

export type { FileIo, IoResult } from './file-io-interface.ts';

/** io_uring where the kernel has and allows it. `VITRINE_IO=preadv` takes the other one, for tests and for kernels that misbehave. */
export function openFileIo(kind: 'best' | 'io_uring' | 'preadv' = 'best'): FileIo {
  const wanted = kind === 'best' && process.env['VITRINE_IO'] === 'preadv' ? 'preadv' : kind;
  if (wanted !== 'preadv') {
    const ring = IoUring.open();
    if (typeof ring !== 'string') return ring;
    if (wanted === 'io_uring') throw new Error(`io_uring: ${ring}`);
  }
  return new PlainFileIo();
}

/** Runs one request to its end, and whatever else completes meanwhile. @returns what it gave to `done` */
export function complete(io: FileIo, start: (done: (result: number) => void) => void): number {
  const outcome: number[] = [];
  start((result) => outcome.push(result));
  while (outcome.length === 0) {
    if (io.pending === 0) throw new Error('a request waits for nothing');
    io.wait();
  }
  return outcome[0]!;
}
