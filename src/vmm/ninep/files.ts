// The system calls of a file server that never follows a path: every call takes a descriptor and at most one name of one component. Results are as
// the kernel's: 0 or more, or minus the error number. Sources: openat2(2), statx(2), symlink(7), proc_pid_fd(5).
//
// A file is held by an O_PATH descriptor: it names the file itself, opens nothing and asks for no permission. What needs a real descriptor goes
// through /proc/self/fd/N, which leads to that very file, never to another that has its name by now.
import koffi from 'koffi';
import { constants } from 'node:fs';
import { constants as osConstants } from 'node:os';
import type { Pieces } from './bytes.ts';
import { PATH_MAX } from './protocol.ts';

const libc = koffi.load('libc.so.6');

type Out = Uint8Array;
const cSyscallOpenat2 = libc.func('syscall', 'int64_t', ['int64_t', 'int64_t', 'void *', 'void *', 'uint64_t']) as (number: number, folder: number, name: Uint8Array, how: Uint8Array, size: number) => number;
const cOpenat = libc.func('openat', 'int', ['int', 'void *', 'int', 'uint32_t']) as (folder: number, name: Uint8Array, flags: number, mode: number) => number;
const cClose = libc.func('close', 'int', ['int']) as (fd: number) => number;
const cStatx = libc.func('statx', 'int', ['int', 'void *', 'int', 'uint32_t', 'void *']) as (folder: number, name: Uint8Array, flags: number, mask: number, out: Out) => number;
const cFstatfs = libc.func('fstatfs', 'int', ['int', 'void *']) as (fd: number, out: Out) => number;
const cMkdirat = libc.func('mkdirat', 'int', ['int', 'void *', 'uint32_t']) as (folder: number, name: Uint8Array, mode: number) => number;
const cMknodat = libc.func('mknodat', 'int', ['int', 'void *', 'uint32_t', 'uint64_t']) as (folder: number, name: Uint8Array, mode: number, device: number) => number;
const cSymlinkat = libc.func('symlinkat', 'int', ['void *', 'int', 'void *']) as (target: Uint8Array, folder: number, name: Uint8Array) => number;
const cReadlinkat = libc.func('readlinkat', 'int64_t', ['int', 'void *', 'void *', 'uint64_t']) as (folder: number, name: Uint8Array, out: Out, size: number) => number;
const cLinkat = libc.func('linkat', 'int', ['int', 'void *', 'int', 'void *', 'int']) as (from: number, name: Uint8Array, to: number, newName: Uint8Array, flags: number) => number;
const cRenameat = libc.func('renameat', 'int', ['int', 'void *', 'int', 'void *']) as (from: number, name: Uint8Array, to: number, newName: Uint8Array) => number;
const cUnlinkat = libc.func('unlinkat', 'int', ['int', 'void *', 'int']) as (folder: number, name: Uint8Array, flags: number) => number;
const cFchmodat = libc.func('fchmodat', 'int', ['int', 'void *', 'uint32_t', 'int']) as (folder: number, name: Uint8Array, mode: number, flags: number) => number;
const cFchownat = libc.func('fchownat', 'int', ['int', 'void *', 'uint32_t', 'uint32_t', 'int']) as (folder: number, name: Uint8Array, uid: number, gid: number, flags: number) => number;
const cUtimensat = libc.func('utimensat', 'int', ['int', 'void *', 'void *', 'int']) as (folder: number, name: Uint8Array, times: Uint8Array, flags: number) => number;
const cFtruncate = libc.func('ftruncate', 'int', ['int', 'int64_t']) as (fd: number, size: number) => number;
const cFsync = libc.func('fsync', 'int', ['int']) as (fd: number) => number;
const cFdatasync = libc.func('fdatasync', 'int', ['int']) as (fd: number) => number;
const cGetdents = libc.func('getdents64', 'int64_t', ['int', 'void *', 'uint64_t']) as (fd: number, out: Out, size: number) => number;
const cLseek = libc.func('lseek', 'int64_t', ['int', 'int64_t', 'int']) as (fd: number, offset: bigint, whence: number) => number | bigint;
const cPreadv = libc.func('preadv', 'int64_t', ['int', 'void *', 'int', 'int64_t']) as (fd: number, vector: Uint8Array, count: number, offset: number) => number;
const cPwritev = libc.func('pwritev', 'int64_t', ['int', 'void *', 'int', 'int64_t']) as (fd: number, vector: Uint8Array, count: number, offset: number) => number;
const cGetxattr = libc.func('getxattr', 'int64_t', ['void *', 'void *', 'void *', 'uint64_t']) as (path: Uint8Array, name: Uint8Array, out: Out, size: number) => number;
const cListxattr = libc.func('listxattr', 'int64_t', ['void *', 'void *', 'uint64_t']) as (path: Uint8Array, out: Out, size: number) => number;
const cSetxattr = libc.func('setxattr', 'int', ['void *', 'void *', 'void *', 'uint64_t', 'int']) as (path: Uint8Array, name: Uint8Array, value: Uint8Array, size: number, flags: number) => number;
const cRemovexattr = libc.func('removexattr', 'int', ['void *', 'void *']) as (path: Uint8Array, name: Uint8Array) => number;
const cGetrlimit = libc.func('getrlimit', 'int', ['int', 'void *']) as (resource: number, out: Out) => number;


const { EINTR, EINVAL, ENAMETOOLONG } = osConstants.errno;

// Flags and commands
export const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY, O_NOFOLLOW, O_SYNC, O_DSYNC } = constants;
export const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;
/** With every open: a file under a lease or a mandatory lock must not stop the server, nor a terminal become its own. */
const O_CAREFUL = O_CLOEXEC | constants.O_NONBLOCK | constants.O_NOCTTY;
export const AT_REMOVEDIR = 0x200;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_SYMLINK_FOLLOW = 0x400;
const AT_NO_AUTOMOUNT = 0x800;
const AT_EMPTY_PATH = 0x1000;
const AT_FDCWD = -100;
const SEEK_SET = 0;
const RLIMIT_NOFILE = 7;
export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;

const SYS_OPENAT2 = 437; // the same on every processor
const RESOLVE_NO_MAGICLINKS = 0x02;
const RESOLVE_NO_SYMLINKS = 0x04;
const RESOLVE_BENEATH = 0x08;
const OPEN_HOW_BYTES = 24;

/** What koffi hands back: a number, or a bigint when it is above 2^53. */
const result = (value: number): number => (value < 0 ? -koffi.errno() : value);

const empty = new Uint8Array(1);
const names = [new Uint8Array(PATH_MAX + 1), new Uint8Array(PATH_MAX + 1)] as const;

/** `bytes` with a NUL behind them, in scratch memory `which`; null when they are too long or hold a NUL themselves. */
function terminated(bytes: Uint8Array, which: 0 | 1 = 0): Uint8Array | null {
  if (bytes.length >= PATH_MAX || bytes.includes(0)) return null;
  const into = names[which];
  into.set(bytes);
  into[bytes.length] = 0;
  return into;
}

const decimal = new Uint8Array(16);

/** "17" with a NUL behind it, in scratch memory. */
function digits(number: number, into = decimal, from = 0): Uint8Array {
  let length = 1;
  for (let rest = number; rest >= 10; rest = Math.floor(rest / 10)) length++;
  into[from + length] = 0;
  for (let at = from + length - 1, rest = number; at >= from; at--, rest = Math.floor(rest / 10)) into[at] = 0x30 + (rest % 10);
  return into;
}

const FD_PATH = new TextEncoder().encode('/proc/self/fd/');
const fdPath = new Uint8Array(32);
fdPath.set(FD_PATH);

/** "/proc/self/fd/17" with a NUL behind it, in scratch memory: for the calls that know no descriptors of folders. */
const pathOf = (fd: number): Uint8Array => digits(fd, fdPath, FD_PATH.length);

const how = new Uint8Array(OPEN_HOW_BYTES);
const howView = new DataView(how.buffer);

/**
 * openat2 of one name, or of a relative path, in a folder: never out of it, and over no symbolic link. With O_PATH and O_NOFOLLOW a link itself is opened.
 * The permissions' bits of `mode` are cut by the process's umask.
 */
export function openBeneath(folder: number, name: Uint8Array, flags: number, mode = 0): number {
  const cName = terminated(name);
  if (cName === null) return -ENAMETOOLONG;
  howView.setUint32(0, flags | (flags & O_PATH ? O_CLOEXEC : O_CAREFUL), true);
  howView.setUint32(8, mode, true);
  howView.setUint32(16, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS, true);
  return result(Number(cSyscallOpenat2(SYS_OPENAT2, folder, cName, how, OPEN_HOW_BYTES)));
}

/** An O_PATH descriptor of a folder by its whole path, which the user gave: symbolic links in it are followed. */
export function openFolder(path: string): number {
  return result(cOpenat(AT_FDCWD, new TextEncoder().encode(`${path}\0`), O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
}

/** Another descriptor of the file that `fd` is of, whatever has its name now. @param procFd of /proc/self/fd */
export function reopen(procFd: number, fd: number, flags: number): number {
  return result(cOpenat(procFd, digits(fd), flags | (flags & O_PATH ? O_CLOEXEC : O_CAREFUL), 0));
}

export function close(fd: number): void {
  cClose(fd);
}

/** Of the file that `fd` is of: STATX_BYTES into `out`. */
export function statxOf(fd: number, mask: number, out: Out): number {
  return result(cStatx(fd, empty, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, mask, out));
}

/** Of one name in a folder; a symbolic link is not followed. */
export function statxAt(folder: number, name: Uint8Array, mask: number, out: Out): number {
  const cName = terminated(name);
  if (cName === null) return -ENAMETOOLONG;
  return result(cStatx(folder, cName, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, mask, out));
}

/** struct statfs (120 bytes) of the file system that `fd` is in. */
export const statfsOf = (fd: number, out: Out): number => result(cFstatfs(fd, out));

export function mkdirAt(folder: number, name: Uint8Array, mode: number): number {
  const cName = terminated(name);
  return cName === null ? -ENAMETOOLONG : result(cMkdirat(folder, cName, mode));
}

export function mknodAt(folder: number, name: Uint8Array, mode: number): number {
  const cName = terminated(name);
  return cName === null ? -ENAMETOOLONG : result(cMknodat(folder, cName, mode, 0));
}

export function symlinkAt(target: Uint8Array, folder: number, name: Uint8Array): number {
  const cTarget = terminated(target, 1);
  const cName = terminated(name);
  return cTarget === null || cName === null ? -ENAMETOOLONG : result(cSymlinkat(cTarget, folder, cName));
}

/** The target of the symbolic link that `fd` is of. */
export const readlinkOf = (fd: number, out: Out): number => result(Number(cReadlinkat(fd, empty, out, out.length)));

/** The path by which the kernel knows the file that `fd` is of, at this moment. */
export const currentPath = (procFd: number, fd: number, out: Out): number => result(Number(cReadlinkat(procFd, digits(fd), out, out.length)));

/** Another name for the file that `fd` is of. */
export function linkTo(procFd: number, fd: number, folder: number, name: Uint8Array): number {
  const cName = terminated(name);
  return cName === null ? -ENAMETOOLONG : result(cLinkat(procFd, digits(fd), folder, cName, AT_SYMLINK_FOLLOW));
}

export function renameAt(from: number, name: Uint8Array, to: number, newName: Uint8Array): number {
  const cName = terminated(name);
  const cNewName = terminated(newName, 1);
  return cName === null || cNewName === null ? -ENAMETOOLONG : result(cRenameat(from, cName, to, cNewName));
}

export function unlinkAt(folder: number, name: Uint8Array, flags: number): number {
  const cName = terminated(name);
  return cName === null ? -ENAMETOOLONG : result(cUnlinkat(folder, cName, flags));
}

export const chmodOf = (procFd: number, fd: number, mode: number): number => result(cFchmodat(procFd, digits(fd), mode, 0));
/** An id of 2^32 - 1 stays as it is. */
export const chownOf = (fd: number, uid: number, gid: number): number => result(cFchownat(fd, empty, uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
/** @param times two timespec: access and modification */
export const utimensOf = (procFd: number, fd: number, times: Uint8Array): number => result(cUtimensat(procFd, digits(fd), times, 0));
export const truncate = (fd: number, size: number): number => result(cFtruncate(fd, size));
export const fsync = (fd: number): number => result(cFsync(fd));
export const fdatasync = (fd: number): number => result(cFdatasync(fd));

/** linux_dirent64 records. */
export const getdents = (fd: number, out: Out, size: number): number => result(Number(cGetdents(fd, out, size)));

/** Sets where getdents goes on: a cookie of 64 bits, as two halves. */
export function seekTo(fd: number, low: number, high: number): number {
  const at = BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low));
  return cLseek(fd, at, SEEK_SET) < 0 ? -koffi.errno() : 0;
}

/** Linux's limit of pieces in one preadv or pwritev. */
export const IOV_MAX = 1024;
const IOVEC_BYTES = 16;
const vectorBytes = new Uint8Array(IOV_MAX * IOVEC_BYTES);
const vectorWords = new Uint32Array(vectorBytes.buffer);

function fillVector(data: Pieces): number {
  const count = Math.min(data.pieces, IOV_MAX);
  for (let i = 0; i < count; i++) {
    const address = data.hva(i);
    vectorWords[i * 4] = address % 2 ** 32;
    vectorWords[i * 4 + 1] = Math.floor(address / 2 ** 32);
    vectorWords[i * 4 + 2] = data.length(i);
    vectorWords[i * 4 + 3] = 0;
  }
  return count;
}

/** Reads into memory at host addresses. @returns bytes, fewer at the file's end */
export function readInto(fd: number, data: Pieces, offset: number): number {
  const count = fillVector(data);
  for (;;) {
    const got = result(Number(cPreadv(fd, vectorBytes, count, offset)));
    if (got !== -EINTR) return got;
  }
}

/** Writes from memory at host addresses. @returns bytes, fewer on a full disk */
export function writeFrom(fd: number, data: Pieces, offset: number): number {
  const count = fillVector(data);
  for (;;) {
    const got = result(Number(cPwritev(fd, vectorBytes, count, offset)));
    if (got !== -EINTR) return got;
  }
}

export function getXattr(fd: number, name: Uint8Array, out: Out, size: number): number {
  const cName = terminated(name);
  return cName === null ? -EINVAL : result(Number(cGetxattr(pathOf(fd), cName, out, size)));
}

/** Names, each with a NUL behind it. */
export const listXattrs = (fd: number, out: Out, size: number): number => result(Number(cListxattr(pathOf(fd), out, size)));

export function setXattr(fd: number, name: Uint8Array, value: Uint8Array, flags: number): number {
  const cName = terminated(name);
  return cName === null ? -EINVAL : result(cSetxattr(pathOf(fd), cName, value.length === 0 ? empty : value, value.length, flags));
}

export function removeXattr(fd: number, name: Uint8Array): number {
  const cName = terminated(name);
  return cName === null ? -EINVAL : result(cRemovexattr(pathOf(fd), cName));
}

/** How many descriptors this process may have. */
export function descriptorLimit(): number {
  const out = new Uint8Array(16);
  if (cGetrlimit(RLIMIT_NOFILE, out) < 0) return 1024;
  const limit = new DataView(out.buffer).getBigUint64(0, true);
  return limit > 2n ** 31n ? 2 ** 31 : Number(limit);
}
