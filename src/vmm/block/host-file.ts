// A file or block device of the host that holds an image: whole transfers out of the kernel's partial ones, alignment for O_DIRECT
// (open(2)), size and discard for both kinds. Beyond its end a file reads as zeros.
import { fstatSync, ftruncateSync } from 'node:fs';
import { close, errno, errnoName, ioctlStruct, open, setStatusFlags, SystemError } from '../kvm/libc.ts';
import type { FileIo, IoResult } from '../io/file-io.ts';
import { fillZeros, scratchPool, zeros, type IoBuffers } from '../io/io-buffers.ts';
import { VitrineError } from '../../shared/errors.ts';
import { EINVAL, EIO, EOPNOTSUPP, type Done } from './disk-image.ts';
import { lockImage, type Access } from './file-locks.ts';
import { RangeLock } from './range-lock.ts';

const O_RDONLY = 0;
const O_RDWR = 2;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_NONBLOCK = 0o4000;
const O_DIRECT = process.arch === 'arm64' ? 0o200000 : 0o40000;
const EINTR = 4;
const EAGAIN = 11;

// linux/fs.h
const BLKGETSIZE64 = 0x8008_1272;
const BLKSSZGET = 0x1268;
// linux/falloc.h
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
const FALLOC_FL_ZERO_RANGE = 16;

/** How often the kernel is asked again at once when it says EAGAIN or EINTR. */
const MOST_TRIES = 8;
/** The most that one bounce or one write of zeros takes at a time. */
const CHUNK = 2 ** 20;

/** Everything about images that a person reads. */
export function imageError(attempted: string, on: string, why: string, remedy: string, code: string): VitrineError {
  return new VitrineError({ attempted, on, why, remedy, code });
}

const OPENING = 'open the disk image';

function openError(thrown: unknown, path: string, write: boolean): VitrineError {
  const code = thrown instanceof SystemError ? thrown.code : '';
  const words: Record<string, [string, string]> = {
    ENOENT: ['there is no such file.', 'Check the path, or make the image first.'],
    EACCES: [write ? 'you may not write it.' : 'you may not read it.', 'Change its permissions, or give it read-only.'],
    EROFS: ['its file system is read-only.', 'Give the disk read-only, or copy it elsewhere.'],
    EISDIR: ['it is a folder.', 'Name a file or a block device.'],
    EBUSY: ['the host uses this block device: it is mounted, or part of something larger.', 'Unmount it first.'],
    EINVAL: ['its file system has no direct access (O_DIRECT).', 'Choose the cache "writeback".'],
    ETXTBSY: ['it is being run as a program.', ''],
  };
  const [why, remedy] = words[code] ?? [`${thrown instanceof Error ? thrown.message : String(thrown)}.`, ''];
  return imageError(OPENING, path, why, remedy, code === 'ENOENT' ? 'image-missing' : 'image-not-opened');
}

export interface HostFileOptions {
  readonly io: FileIo;
  readonly write: boolean;
  readonly direct?: boolean;
  /** Flushes do nothing. */
  readonly unsafe?: boolean;
  /** What to lock it for; 'none' for a look. */
  readonly lock: Access | 'none';
  /** Made new, and refused when it is there. */
  readonly create?: boolean;
}

export class HostFile {
  readonly path: string;
  readonly fd: number;
  readonly isDevice: boolean;
  /** Same for two names of one file. */
  readonly identity: string;
  /** What O_DIRECT wants offsets, lengths and addresses to be multiples of; 1 without it. */
  readonly alignment: number;
  readonly write: boolean;
  readonly io: FileIo;
  readonly unsafe: boolean;
  readonly #ranges = new RangeLock();
  #syncFailed = 0;
  #closed = false;

  private constructor(path: string, fd: number, options: HostFileOptions) {
    const stat = fstatSync(fd);
    this.path = path;
    this.fd = fd;
    this.isDevice = stat.isBlockDevice();
    this.identity = this.isDevice ? `device ${stat.rdev}` : `${stat.dev}:${stat.ino}`;
    this.write = options.write;
    this.io = options.io;
    this.unsafe = options.unsafe === true;
    this.alignment = options.direct === true ? directAlignment(this.io, fd, this.isDevice) : 1;
  }

  /** Opens and locks. Throws VitrineError. */
  static open(path: string, options: HostFileOptions): HostFile {
    const flags = (options.write ? O_RDWR : O_RDONLY) | O_NONBLOCK | (options.direct === true ? O_DIRECT : 0) | (options.create === true ? O_CREAT | O_EXCL : 0);
    let fd: number;
    try {
      fd = open(path, flags, 0o644);
      if (options.write && fstatSync(fd).isBlockDevice()) { // exclusive: fails while the host has it mounted
        close(fd);
        fd = open(path, flags | O_EXCL);
      }
    } catch (thrown) {
      if (options.create === true && thrown instanceof SystemError && thrown.code === 'EEXIST') {
        throw imageError('make the disk image', path, 'there is such a file already.', 'Choose another name, or remove it first.', 'image-exists');
      }
      throw openError(thrown, path, options.write);
    }
    try {
      const stat = fstatSync(fd);
      if (stat.isDirectory()) throw openError(new SystemError('open', 21), path, options.write);
      if (!stat.isFile() && !stat.isBlockDevice()) throw imageError(OPENING, path, 'it is neither a file nor a block device.', '', 'image-not-opened');
      // O_NONBLOCK was for the opening, which of a pipe would wait. Left on, io_uring of kernels before 6.5 fails with EAGAIN where the block
      // layer has to wait (dm-crypt, LVM's thin volumes).
      setStatusFlags(fd, flags & O_DIRECT);
      if (options.lock !== 'none') {
        const who = lockImage(fd, options.lock);
        if (who !== null) {
          throw imageError(OPENING, path, `${who} has it open${options.lock === 'read' ? ' for writing' : ''}.`, 'Stop that first: a disk that two machines write is destroyed.', 'image-in-use');
        }
      }
      return new HostFile(path, fd, options);
    } catch (thrown) {
      close(fd);
      if (thrown instanceof SystemError) throw openError(thrown, path, options.write);
      throw thrown;
    }
  }

  /** The size in bytes as it is now. Throws SystemError. */
  size(): number {
    if (!this.isDevice) return fstatSync(this.fd).size;
    const size = new Uint8Array(8);
    if (ioctlStruct(this.fd, BLKGETSIZE64, size) < 0) throw new SystemError(`size of ${this.path}`, errno());
    return Number(new DataView(size.buffer).getBigUint64(0, true));
  }

  #aligned(offset: number, buffers: IoBuffers): boolean {
    const a = this.alignment;
    if (a === 1) return true;
    if (offset % a !== 0 || buffers.bytes % a !== 0) return false;
    for (let i = 0; i < buffers.pieces; i++) if (buffers.hva(i) % a !== 0 || buffers.length(i) % a !== 0) return false;
    return true;
  }

  /** Reads all of `buffers`; zeros where the file has ended. */
  read(offset: number, buffers: IoBuffers, done: Done): void {
    if (this.#aligned(offset, buffers)) this.#readAll(offset, buffers, done);
    else this.#bounceRead(offset, buffers, done);
  }

  #readAll(offset: number, buffers: IoBuffers, done: Done, tries = 1): void {
    if (buffers.bytes === 0) return done(0);
    this.io.readv(this.fd, offset, buffers, (result) => {
      if (result === -EINTR || result === -EAGAIN) {
        if (tries < MOST_TRIES) return this.#readAll(offset, buffers, done, tries + 1);
        result = this.io.readNow(this.fd, offset, buffers); // which waits
      }
      if (result === buffers.bytes) return done(0);
      if (result < 0) return done(-result);
      if (result === 0) {
        fillZeros(buffers);
        return done(0);
      }
      // O_DIRECT at the end of a file gives an odd length: there is no more.
      const rest = buffers.slice(result);
      if (result % this.alignment === 0) return this.#readAll(offset + result, rest, done);
      fillZeros(rest);
      done(0);
    });
  }

  #bounceRead(offset: number, buffers: IoBuffers, done: Done): void {
    const a = this.alignment;
    const start = Math.floor(offset / a) * a;
    const part = Math.min(buffers.bytes, CHUNK - (offset - start));
    const scratch = scratchPool.take(Math.ceil((offset + part) / a) * a - start);
    this.#readAll(start, scratch.list, (errno) => {
      if (errno === 0) buffers.write(0, scratch.bytes.subarray(offset - start, offset - start + part));
      scratch.giveBack();
      if (errno !== 0 || part === buffers.bytes) return done(errno);
      this.#bounceRead(offset + part, buffers.slice(part), done);
    });
  }

  /** Writes all of `buffers`. */
  writeAt(offset: number, buffers: IoBuffers, done: Done): void {
    if (this.alignment === 1) return this.#writeAll(offset, buffers, done);
    const a = this.alignment;
    const whole = offset % a === 0 && buffers.bytes % a === 0;
    const [start, end] = [Math.floor(offset / a) * a, Math.ceil((offset + buffers.bytes) / a) * a];
    this.#ranges.acquire(start, end, !whole, (release) => {
      const finish: Done = (errno) => {
        release();
        done(errno);
      };
      if (this.#aligned(offset, buffers)) this.#writeAll(offset, buffers, finish);
      else this.#bounceWrite(offset, buffers, finish);
    });
  }

  #writeAll(offset: number, buffers: IoBuffers, done: Done, tries = 1): void {
    if (buffers.bytes === 0) return done(0);
    this.io.writev(this.fd, offset, buffers, (result) => {
      if (result === -EINTR || result === -EAGAIN) {
        if (tries < MOST_TRIES) return this.#writeAll(offset, buffers, done, tries + 1);
        result = this.io.writeNow(this.fd, offset, buffers); // which waits
      }
      if (result === buffers.bytes) return done(0);
      if (result < 0) return done(-result);
      if (result === 0 || result % this.alignment !== 0) return done(EIO);
      this.#writeAll(offset + result, buffers.slice(result), done);
    });
  }

  /** Through aligned scratch memory; what lies around the ends in their blocks is read first and kept. */
  #bounceWrite(offset: number, buffers: IoBuffers, done: Done): void {
    const a = this.alignment;
    const start = Math.floor(offset / a) * a;
    const part = Math.min(buffers.bytes, CHUNK - (offset - start));
    const end = Math.ceil((offset + part) / a) * a;
    const scratch = scratchPool.take(end - start);
    const finish = (errno: number): void => {
      scratch.giveBack();
      if (errno !== 0 || part === buffers.bytes) return done(errno);
      this.#bounceWrite(offset + part, buffers.slice(part), done);
    };
    const fill = (errno: number): void => {
      if (errno !== 0) return finish(errno);
      buffers.read(0, scratch.bytes.subarray(offset - start, offset - start + part));
      this.#writeAll(start, scratch.list, finish);
    };
    if (start === offset && end === offset + part) fill(0);
    else this.#readAll(start, scratch.list, fill);
  }

  /**
   * The errno of the first sync that failed, or 0. Every later one fails alike: Linux has marked the pages that it could not write as clean, so
   * that another fdatasync would succeed though they are lost. Past the page cache nothing is marked.
   */
  get syncFailed(): number {
    return this.#syncFailed;
  }

  /** @param result of a sync @returns 0, or the errno that it is to fail with */
  #synced(result: number): number {
    if (this.#syncFailed === 0 && result < 0) {
      if (this.alignment !== 1) return -result;
      this.#syncFailed = -result;
    }
    return this.#syncFailed;
  }

  sync(done: Done, tries = 1): void {
    if (this.unsafe || !this.write) return done(0);
    if (this.#syncFailed !== 0) return done(this.#syncFailed);
    this.io.fdatasync(this.fd, (result) => {
      if (result === -EINTR) {
        if (tries < MOST_TRIES) return this.sync(done, tries + 1);
        result = this.io.syncNow(this.fd);
      }
      done(this.#synced(result));
    });
  }

  /** fallocate, but not between the reading and the writing of a block of which a part is written: that would bring back what was there. */
  #fallocate(mode: number, offset: number, bytes: number, done: IoResult): void {
    const a = this.alignment;
    if (a === 1) return this.io.fallocate(this.fd, mode, offset, bytes, done);
    this.#ranges.acquire(Math.floor(offset / a) * a, Math.ceil((offset + bytes) / a) * a, false, (release) => {
      this.io.fallocate(this.fd, mode, offset, bytes, (result) => {
        release();
        done(result);
      });
    });
  }

  /** Gives back the space of a range, which then reads as zeros or, where that cannot be had, as before. */
  discard(offset: number, bytes: number, done: Done): void {
    if (bytes === 0) return done(0);
    this.#fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes, (result) => {
      done(result === -EOPNOTSUPP || result === -EINVAL || result >= 0 ? 0 : -result);
    });
  }

  /** The range reads as zeros, by the cheapest way that the file has. */
  writeZeros(offset: number, bytes: number, mayUnmap: boolean, done: Done): void {
    if (bytes === 0) return done(0);
    const byHand = (): void => this.#writeZerosByHand(offset, bytes, done);
    const zeroRange = (): void => this.#fallocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, bytes, (result) => (result >= 0 ? done(0) : result === -EOPNOTSUPP || result === -EINVAL ? byHand() : done(-result)));
    if (!mayUnmap) return zeroRange();
    this.#fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes, (result) => (result >= 0 ? done(0) : result === -EOPNOTSUPP || result === -EINVAL ? zeroRange() : done(-result)));
  }

  #writeZerosByHand(offset: number, bytes: number, done: Done): void {
    const part = Math.min(bytes, CHUNK);
    this.writeAt(offset, zeros(part), (errno) => {
      if (errno !== 0 || part === bytes) return done(errno);
      this.#writeZerosByHand(offset + part, bytes - part, done);
    });
  }

  /** Reads metadata in the calling thread; zeros where the file has ended. Throws SystemError. */
  readNow(offset: number, bytes: number): Uint8Array {
    const a = this.alignment;
    const start = Math.floor(offset / a) * a;
    const into = new Uint8Array(bytes);
    let tries = 1;
    for (let at = start; at < offset + bytes; ) {
      const scratch = scratchPool.take(Math.min(CHUNK, Math.ceil((offset + bytes) / a) * a - at));
      const got = this.io.readNow(this.fd, at, scratch.list);
      if (got > 0) {
        const from = Math.max(at, offset);
        into.set(scratch.bytes.subarray(from - at, Math.min(got, offset + bytes - at)), from - offset);
      }
      const more = got === scratch.bytes.length;
      scratch.giveBack();
      if (got === -EAGAIN && tries++ < MOST_TRIES) continue;
      if (got < 0) throw new SystemError(`read ${this.path}`, -got);
      if (!more && (got === 0 || got % a !== 0)) break;
      at += got;
    }
    return into;
  }

  /** Writes metadata in the calling thread. Throws SystemError. */
  writeNow(offset: number, from: Uint8Array): void {
    const a = this.alignment;
    const start = Math.floor(offset / a) * a;
    const end = Math.ceil((offset + from.length) / a) * a;
    let tries = 1;
    for (let at = start; at < end; ) {
      const length = Math.min(CHUNK, end - at);
      const scratch = scratchPool.take(length);
      const [first, last] = [Math.max(at, offset), Math.min(at + length, offset + from.length)];
      if (last - first < length) scratch.bytes.set(this.readNow(at, length));
      scratch.bytes.set(from.subarray(first - offset, last - offset), first - at);
      const wrote = this.io.writeNow(this.fd, at, scratch.list);
      scratch.giveBack();
      if (wrote === -EAGAIN && tries++ < MOST_TRIES) continue;
      if (wrote < 0) throw new SystemError(`write ${this.path}`, -wrote);
      if (wrote === 0 || wrote % a !== 0) throw new SystemError(`write ${this.path}`, EIO);
      at += wrote;
    }
  }

  /** fdatasync in the calling thread. Throws SystemError. */
  syncNow(): void {
    if (this.unsafe || !this.write) return;
    const errno = this.#synced(this.#syncFailed === 0 ? this.io.syncNow(this.fd) : 0);
    if (errno !== 0) throw new SystemError(`fdatasync ${this.path}`, errno);
  }

  /** Gives back space in the calling thread, where the file system can. */
  punchNow(offset: number, bytes: number): void {
    this.io.fallocateNow(this.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
  }

  /** Throws Node's own error. */
  truncate(bytes: number): void {
    ftruncateSync(this.fd, bytes);
  }

  /** Lets go of the file and its lock; calling it again does nothing. */
  close(): void {
    if (!this.#closed) close(this.fd);
    this.#closed = true;
  }
}

/** 512 or what the device says; for a file the smallest that a read gets through with. */
function directAlignment(io: FileIo, fd: number, isDevice: boolean): number {
  if (isDevice) {
    const size = new Uint8Array(4);
    if (ioctlStruct(fd, BLKSSZGET, size) < 0) throw new SystemError('logical block size', errno());
    return new DataView(size.buffer).getInt32(0, true);
  }
  for (const size of [512, 4096]) {
    const scratch = scratchPool.take(size);
    const got = io.readNow(fd, 0, scratch.list);
    scratch.giveBack();
    if (got >= 0) return size;
    if (errnoName(-got) !== 'EINVAL') throw new SystemError('read', -got);
  }
  return 4096;
}
