// The files of direct boot (kernel, initrd): opened once, looked at, and streamed straight into guest RAM in pieces, so that a large
// initrd is never held twice. Every way in which a file can be wrong becomes a VitrineError in plain words.
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { VitrineError } from '../../shared/errors.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';

/** Bytes that one read takes: large enough that the calls do not show, small enough that a kick of the thread is not far. */
const PIECE = 8 * 2 ** 20;
export const MIB = 2 ** 20;

export type Role = 'kernel' | 'initrd';

/** The error of a file that cannot be booted from; `code` becomes "kernel-…" or "initrd-…". */
export function fileError(role: Role, path: string, code: string, why: string, remedy: string, cause?: unknown): VitrineError {
  return new VitrineError({ attempted: `load the ${role}`, on: path, why, remedy, code: `${role}-${code}` }, { cause });
}

export class BootFile {
  readonly role: Role;
  readonly path: string;
  /** In bytes, when it was opened. */
  readonly size: number;
  readonly #fd: number;

  private constructor(role: Role, path: string, size: number, fd: number) {
    this.role = role;
    this.path = path;
    this.size = size;
    this.#fd = fd;
  }

  /** Opens a regular file that is not empty. Throws VitrineError: "-missing", "-unreadable", "-not-a-file", "-empty". */
  static open(role: Role, path: string): BootFile {
    let fd: number;
    try {
      fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK); // non-blocking: opening a pipe would wait for a writer
    } catch (error) {
      throw openError(role, path, error);
    }
    try {
      const stat = fstatSync(fd);
      if (stat.isDirectory()) throw fileError(role, path, 'not-a-file', 'this is a folder, not a file.', `Choose the ${role} file in it.`);
      if (!stat.isFile()) throw fileError(role, path, 'not-a-file', 'this is a device or a pipe, not a regular file.', `Copy the ${role} into a file.`);
      if (stat.size === 0) throw fileError(role, path, 'empty', 'the file is empty.', 'It was probably never written in full: fetch or build it again.');
      return new BootFile(role, path, stat.size, fd);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  error(code: string, why: string, remedy: string): VitrineError {
    return fileError(this.role, this.path, code, why, remedy);
  }

  truncated(detail: string): VitrineError {
    return this.error('truncated', `the file ends too early: ${detail}.`, 'It was probably not copied or downloaded in full: fetch it again.');
  }

  /** At most `length` bytes at `offset`, fewer where the file ends. */
  peek(offset: number, length: number): Uint8Array {
    const wanted = Math.max(0, Math.min(length, this.size - offset));
    const bytes = new Uint8Array(wanted);
    return bytes.subarray(0, this.#fill(bytes, offset));
  }

  /** Exactly `length` bytes at `offset`. Throws "-truncated", which `what` names. */
  read(offset: number, length: number, what: string): Uint8Array {
    const bytes = this.peek(offset, length);
    if (bytes.length < length) throw this.truncated(`${what} should reach to byte ${offset + length}, but there are ${this.size}`);
    return bytes;
  }

  /** Streams `[offset, offset + length)` of the file to `gpa`. The caller has checked that this is RAM; RangeError if it is not. */
  load(memory: GuestMemory, gpa: number, offset: number, length: number): void {
    const segments = memory.segments(gpa, length);
    if (segments === null) throw new RangeError(`no RAM at ${gpa.toString(16)}, ${length} bytes`);
    let from = offset;
    for (const { bytes } of segments) {
      for (let done = 0; done < bytes.length; ) {
        const piece = bytes.subarray(done, Math.min(bytes.length, done + PIECE));
        const got = this.#fill(piece, from);
        if (got < piece.length) throw this.truncated(`it became shorter while it was read, at byte ${from + got}`);
        done += got;
        from += got;
      }
    }
  }

  #fill(bytes: Uint8Array, offset: number): number {
    let done = 0;
    try {
      while (done < bytes.length) {
        const got = readSync(this.#fd, bytes, done, bytes.length - done, offset + done);
        if (got === 0) break;
        done += got;
      }
    } catch (error) {
      throw fileError(this.role, this.path, 'unreadable', `reading failed: ${reason(error)}.`, 'Look at the disk it lies on.', error);
    }
    return done;
  }
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function openError(role: Role, path: string, error: unknown): VitrineError {
  const code = error instanceof Error && 'code' in error ? error.code : '';
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return fileError(role, path, 'missing', 'there is no such file.', `Choose the ${role} anew; it may have been moved or removed.`, error);
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return fileError(role, path, 'unreadable', 'you may not read this file.', `Copy it to where you can: sudo install -m 644 ${path} .`, error);
  }
  if (code === 'ENXIO') return fileError(role, path, 'not-a-file', 'this is a socket or a device, not a regular file.', `Choose the ${role} file.`, error);
  return fileError(role, path, 'unreadable', `it cannot be opened: ${reason(error)}.`, '', error);
}
