// The C library's calls that the VMM makes, through koffi. Failures come back as -1 with the error number in `errno()`.
import koffi from 'koffi';
import { constants as osConstants } from 'node:os';

const libc = koffi.load('libc.so.6');

/** ioctl with an integer or an address as its argument. */
export const ioctlValue = libc.func('ioctl', 'int', ['int', 'uint32_t', 'uint64_t']) as (fd: number, request: number, value: number) => number;
/** ioctl with a structure as its argument, read and written in place. */
export const ioctlStruct = libc.func('ioctl', 'int', ['int', 'uint32_t', 'void *']) as (fd: number, request: number, struct: Uint8Array) => number;
const cMmap = libc.func('mmap', 'uint64_t', ['uint64_t', 'uint64_t', 'int', 'int', 'int', 'int64_t']) as (
  address: number, length: number, protection: number, flags: number, fd: number, offset: number,
) => number | bigint;
const cMunmap = libc.func('munmap', 'int', ['uint64_t', 'uint64_t']) as (address: number, length: number) => number;
const cMadvise = libc.func('madvise', 'int', ['uint64_t', 'uint64_t', 'int']) as (address: number, length: number, advice: number) => number;
const cOpen = libc.func('open', 'int', ['str', 'int', 'int']) as (path: string, flags: number, mode: number) => number;
const cClose = libc.func('close', 'int', ['int']) as (fd: number) => number;
const cEventfd = libc.func('eventfd', 'int', ['uint32_t', 'int']) as (initial: number, flags: number) => number;
const cRead = libc.func('read', 'int64_t', ['int', 'void *', 'uint64_t']) as (fd: number, buffer: Uint8Array, length: number) => number;
const cWrite = libc.func('write', 'int64_t', ['int', 'void *', 'uint64_t']) as (fd: number, buffer: Uint8Array, length: number) => number;
const cPread = libc.func('pread', 'int64_t', ['int', 'void *', 'uint64_t', 'int64_t']) as (fd: number, buffer: Uint8Array, length: number, offset: number) => number;
const cPwrite = libc.func('pwrite', 'int64_t', ['int', 'void *', 'uint64_t', 'int64_t']) as (fd: number, buffer: Uint8Array, length: number, offset: number) => number;
const cPoll = libc.func('poll', 'int', ['void *', 'uint64_t', 'int']) as (fds: Uint8Array, count: number, timeout: number) => number;
const cFcntlInt = libc.func('fcntl', 'int', ['int', 'int', 'int']) as (fd: number, command: number, value: number) => number;
const cFlock = libc.func('flock', 'int', ['int', 'int']) as (fd: number, operation: number) => number;

export const errno = (): number => koffi.errno();

const names = new Map(Object.entries(osConstants.errno).map(([name, number]) => [number, name]));

/** "EACCES" for 13. */
export function errnoName(number: number): string {
  return names.get(number) ?? `errno ${number}`;
}

/** A system call that failed, with its number, for callers that turn it into words. */
export class SystemError extends Error {
  readonly errno: number;
  readonly code: string;
  constructor(what: string, number: number) {
    super(`${what}: ${errnoName(number)}`);
    this.name = 'SystemError';
    this.errno = number;
    this.code = errnoName(number);
  }
}

function check(result: number, what: string): number {
  if (result < 0) throw new SystemError(what, errno());
  return result;
}

export const O_RDWR = 2;
export const O_CLOEXEC = 0o2000000;
export const EPERM = 1;
export const ENXIO = 6;
export const EACCES = 13;
export const ENODEV = 19;
export const EADDRINUSE = 98;
export const EINTR = 4;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENOENT = 2;

/** Opens with O_CLOEXEC always. Throws SystemError. */
export function open(path: string, flags: number, mode = 0): number {
  return check(cOpen(path, flags | O_CLOEXEC, mode), `open ${path}`);
}

export function close(fd: number): void {
  cClose(fd);
}

const F_SETFL = 4;

/** Sets the status flags of an open file (fcntl(2)): of O_APPEND, O_ASYNC, O_DIRECT, O_NOATIME and O_NONBLOCK those in `flags`. Throws SystemError. */
export function setStatusFlags(fd: number, flags: number): void {
  check(cFcntlInt(fd, F_SETFL, flags), 'set the flags of an open file');
}

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_FIXED = 0x10;

/** Maps `length` bytes of `fd` over a window at `address`. Throws SystemError. */
export function mapFixed(address: number, length: number, fd: number, offset = 0): void {
  const got = Number(cMmap(address, length, PROT_READ_WRITE, MAP_SHARED | MAP_FIXED, fd, offset));
  if (got !== address) throw new SystemError(`mmap ${length} bytes over a window`, errno());
}

const PROT_NONE = 0;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;

/**
 * A run of addresses that nothing else in the process gets, and nothing may touch until something is mapped over it.
 * @param align a power of two of whole pages @returns its address. Throws SystemError.
 */
export function reserve(length: number, align: number): number {
  const start = Number(cMmap(0, length + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (start < 0 || start >= 2 ** 63) throw new SystemError(`reserve ${length} bytes`, errno());
  const address = Math.ceil(start / align) * align;
  if (address > start) unmap(start, address - start);
  if (start + align > address) unmap(address + length, start + align - address);
  return address;
}

export function unmap(address: number, length: number): void {
  check(cMunmap(address, length), 'munmap');
}

export const MADV_DONTFORK = 10;
export const MADV_HUGEPAGE = 14;
export const MADV_DONTDUMP = 16;
export const MADV_DONTNEED = 4;

/** Advice is advice: a refusal is no failure. */
export function advise(address: number, length: number, advice: number): boolean {
  return cMadvise(address, length, advice) === 0;
}

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

export function eventfd(nonblocking = true): number {
  return check(cEventfd(0, EFD_CLOEXEC | (nonblocking ? EFD_NONBLOCK : 0)), 'eventfd');
}

const one = new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]);

/** Adds one to an eventfd's counter. */
export function signalEventfd(fd: number): void {
  cWrite(fd, one, 8);
}

/** Takes an eventfd's counter; 0 when nothing was signalled (nonblocking). */
export function takeEventfd(fd: number): number {
  const value = new Uint8Array(8);
  if (Number(cRead(fd, value, 8)) !== 8) return 0;
  return Number(new DataView(value.buffer).getBigUint64(0, true));
}

const POLLIN = 1;

/** Whether reading `fd` would give something at once; for an eventfd: whether it was signalled, which this does not take. */
export function readable(fd: number): boolean {
  const entry = new Uint8Array(8);
  const view = new DataView(entry.buffer);
  view.setInt32(0, fd, true);
  view.setInt16(4, POLLIN, true);
  return cPoll(entry, 1, 0) > 0 && (view.getInt16(6, true) & POLLIN) !== 0;
}

/** Reads at an offset of a file; exactly one system call. @returns bytes read, or -1 with `errno()`. */
export function readAt(fd: number, buffer: Uint8Array, length: number, offset: number): number {
  return Number(cPread(fd, buffer, length, offset));
}

/** Writes at an offset of a file; exactly one system call. @returns bytes written, or -1 with `errno()`. */
export function writeAt(fd: number, buffer: Uint8Array, length: number, offset: number): number {
  return Number(cPwrite(fd, buffer, length, offset));
}

export const LOCK_EX = 2;
export const LOCK_NB = 4;

/** Takes an exclusive flock without waiting; false when another process has it. */
export function tryLock(fd: number): boolean {
  if (cFlock(fd, LOCK_EX | LOCK_NB) === 0) return true;
  const number = errno();
  if (number === EAGAIN) return false;
  throw new SystemError('flock', number);
}
