// What a disk is to the devices that show it to a guest, whatever the format of its file.
import type { FileIo } from '../io/file-io.ts';
import type { IoBuffers } from '../io/io-buffers.ts';

/** 0, or the errno of what failed (positive). May be called before the call that asks returns. */
export type Done = (errno: number) => void;

/**
 * A disk. Requests may overlap in time and complete in any order; a device must not expect more than a drive gives: what was written is
 * there for good once a later `flush` is done. After asking, the caller submits its FileIo (one system call for all), and reaps it when its
 * eventfd is readable. Offsets and lengths are in bytes and multiples of `blockBytes`, or the request is slower; ranges that do not lie
 * wholly on the disk give EINVAL.
 */
export interface DiskImage {
  /** As a guest sees it: a multiple of 512. */
  readonly bytes: number;
  readonly readonly: boolean;
  readonly format: 'raw' | 'qcow2';
  /**
   * What a request should be aligned to: 512, or more where O_DIRECT asks for it. Never the size of a block that a guest sees, which is always
   * 512: partition tables count in those, and a guest must find its own whatever the cache and the host's drive.
   */
  readonly blockBytes: number;
  /** What the image allocates and discards by; 0 when there is no such unit. */
  readonly clusterBytes: number;
  /** The errno of a sync that failed for good, or 0: something written may be lost, and every later flush fails with it. To try again is no use. */
  readonly flushFailed: number;
  read(offset: number, buffers: IoBuffers, done: Done): void;
  write(offset: number, buffers: IoBuffers, done: Done): void;
  /** Everything whose `done` came before is on stable storage when this is done. */
  flush(done: Done): void;
  /** The contents of the range do not matter any more. It reads as zeros or as before. */
  discard(offset: number, bytes: number, done: Done): void;
  /** The range reads as zeros; space may be given back with `mayUnmap`. */
  writeZeroes(offset: number, bytes: number, mayUnmap: boolean, done: Done): void;
  /** Flushes, waits for it, and lets go of files and locks. No request may be under way. @returns 0 or the errno of the flush */
  close(): number;
}

export interface OpenOptions {
  readonly io: FileIo;
  readonly readonly: boolean;
  /** O_DIRECT: past the host's page cache. */
  readonly direct?: boolean;
  /** Flushes do nothing: what a power failure leaves is anything. */
  readonly unsafe?: boolean;
  /** Told what a person should know: an image marked corrupt, refcounts repaired. */
  readonly log?: (text: string) => void;
}

// <asm-generic/errno-base.h>, errno.h
export const EPERM = 1;
export const EIO = 5;
export const EINVAL = 22;
export const ENOSPC = 28;
export const EROFS = 30;
export const EOPNOTSUPP = 95;

/** 0, or why a request for this range is refused. */
export function checkRange(disk: { bytes: number; readonly: boolean }, offset: number, bytes: number, write: boolean): number {
  if (write && disk.readonly) return EROFS;
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(bytes) || offset < 0 || bytes < 0 || offset > disk.bytes - bytes) return EINVAL;
  return 0;
}

/** Calls `done` once, after `expect` parts have called the one that this returns, with the first error of theirs. */
export function gather(expect: number, done: Done): Done {
  let first = 0;
  let left = expect;
  return (errno) => {
    if (first === 0) first = errno;
    if (--left === 0) done(first);
  };
}
