// The system calls of networks, through koffi: scattered reads and writes on guest RAM, and pairs of sockets. Failures are -1 with `errno()`.
import koffi from 'koffi';
import { errno, SystemError } from '../kvm/libc.ts';

const libc = koffi.load('libc.so.6');
const cReadv = libc.func('readv', 'int64_t', ['int', 'uint64_t', 'int']) as (fd: number, vectors: number, count: number) => number;
const cWritev = libc.func('writev', 'int64_t', ['int', 'uint64_t', 'int']) as (fd: number, vectors: number, count: number) => number;
const cSocketpair = libc.func('socketpair', 'int', ['int', 'int', 'int', 'void *']) as (domain: number, type: number, protocol: number, pair: Int32Array) => number;
const cSetsockopt = libc.func('setsockopt', 'int', ['int', 'int', 'int', 'void *', 'uint32_t']) as (fd: number, level: number, name: number, value: Int32Array, length: number) => number;
const cFcntl = libc.func('fcntl', 'int', ['int', 'int', 'int']) as (fd: number, command: number, value: number) => number;

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_SEQPACKET = 5;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVLOWAT = 18;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;
const O_RDWR = 2;
const INT_BYTES = 4;

/** The most vectors of one call (IOV_MAX). */
export const MAX_VECTORS = 1024;

/** One system call on `count` vectors at the host address `vectors`. @returns bytes, or -1 with `errno()` */
export function readVectors(fd: number, vectors: number, count: number): number {
  return Number(cReadv(fd, vectors, count));
}

/** One system call on `count` vectors at the host address `vectors`. @returns bytes, or -1 with `errno()` */
export function writeVectors(fd: number, vectors: number, count: number): number {
  return Number(cWritev(fd, vectors, count));
}

/** Two connected sockets that no other program inherits. Both block until nonBlocking() says otherwise. Throws SystemError. */
export function socketPair(kind: 'stream' | 'packets' = 'stream'): [number, number] {
  const pair = new Int32Array(2);
  if (cSocketpair(AF_UNIX, (kind === 'stream' ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0, pair) !== 0) throw new SystemError('socketpair', errno());
  return [pair[0]!, pair[1]!];
}

/** Calls on `fd` give EAGAIN where they would wait. */
export function nonBlocking(fd: number): void {
  if (cFcntl(fd, F_SETFL, O_NONBLOCK | O_RDWR) !== 0) throw new SystemError('fcntl', errno());
}

/** Room for what was sent and not read yet; the kernel gives less where its limit is lower (net.core.wmem_max). */
export function sendRoom(fd: number, bytes: number): void {
  cSetsockopt(fd, SOL_SOCKET, SO_SNDBUF, new Int32Array([bytes]), INT_BYTES);
}

/**
 * A call on `fd` that may wait does so until all is there that it asks for, up to `bytes` (SO_RCVLOWAT). For Unix sockets alone: to poll(2) there is
 * something to read at the first byte still.
 */
export function readWhole(fd: number, bytes: number): void {
  cSetsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, new Int32Array([bytes]), INT_BYTES);
}
