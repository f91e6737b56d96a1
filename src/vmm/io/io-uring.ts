// io_uring (io_uring(7), linux/io_uring.h) from one thread: rings and entries in windows that JavaScript reads by Atomics.
// Kernels from 6.5 on take the windows as the rings' memory (IORING_SETUP_NO_MMAP) and allow no mapping at a chosen address; older ones
// (from 5.6) are mapped over the windows. 64 entries: ring and entries then fit into one page each, which kernels before 6.13 ask for.
// Left out: registered buffers and files, polling, linked requests.
import koffi from 'koffi';
import { close, EAGAIN, EBUSY, EINTR, errno, errnoName, eventfd, mapFixed, takeEventfd } from '../kvm/libc.ts';
import { allocateWindow, type Window } from '../memory/window.ts';
import type { FileIo, IoResult } from './file-io-interface.ts';
import type { IoBuffers } from './io-buffers.ts';
import { fillIovec, IOVEC_BYTES, MAX_PIECES } from './iovec.ts';
import { fallocateNow, readNow, syncNow, writeNow } from './now.ts';

const libc = koffi.load('libc.so.6');
type Setup = (number: number, entries: number, params: Uint8Array) => number | bigint;
type Enter = (number: number, fd: number, submit: number, complete: number, flags: number, signals: number, size: number) => number | bigint;
type Register = (number: number, fd: number, opcode: number, argument: Uint8Array, count: number) => number | bigint;
const cSetup = libc.func('syscall', 'int64_t', ['int64_t', 'int64_t', 'void *']) as Setup;
const cEnter = libc.func('syscall', 'int64_t', ['int64_t', 'int64_t', 'int64_t', 'int64_t', 'int64_t', 'int64_t', 'int64_t']) as Enter;
const cRegister = libc.func('syscall', 'int64_t', ['int64_t', 'int64_t', 'int64_t', 'void *', 'int64_t']) as Register;

// The numbers are the same on every architecture.
const SYS_IO_URING_SETUP = 425;
const SYS_IO_URING_ENTER = 426;
const SYS_IO_URING_REGISTER = 427;

const IORING_SETUP_NO_MMAP = 1 << 14;
const IORING_ENTER_GETEVENTS = 1;
const IORING_FEAT_SINGLE_MMAP = 1 << 0;
const IORING_FEAT_NODROP = 1 << 1;
const IORING_FEAT_SUBMIT_STABLE = 1 << 2;
const NEEDED_FEATURES = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE;
const IORING_REGISTER_EVENTFD = 4;
const IORING_REGISTER_PROBE = 8;
const IORING_OFF_SQES = 0x1000_0000;

export const IORING_OP_READV = 1;
export const IORING_OP_WRITEV = 2;
export const IORING_OP_FSYNC = 3;
export const IORING_OP_FALLOCATE = 17;
export const IORING_OP_READ = 22;
export const IORING_OP_WRITE = 23;
const IORING_FSYNC_DATASYNC = 1;
const IO_URING_OP_SUPPORTED = 1;

// struct io_uring_params: 40 bytes, then struct io_sqring_offsets and struct io_cqring_offsets of 40 each.
const PARAMS_BYTES = 120;
const PARAMS_SQ_ENTRIES = 0;
const PARAMS_CQ_ENTRIES = 4;
const PARAMS_FLAGS = 8;
const PARAMS_FEATURES = 20;
const SQ_OFF = 40;
const CQ_OFF = 80;
const OFF_TAIL = 4;
const OFF_MASK = 8;
const OFF_ARRAY = 24;   // of the submission ring; in the completion ring at 20 are the entries
const OFF_CQES = 20;
const OFF_USER_ADDR = 32;

const ENTRIES = 64;
const SQE_WORDS = 16;
const CQE_WORDS = 4;
/** Words for the iovecs of one batch. */
const IOVEC_WINDOW = MAX_PIECES * IOVEC_BYTES * 8;

interface Request {
  readonly opcode: number;
  readonly fd: number;
  readonly offset: number;
  readonly buffers: IoBuffers | null;
  /** fallocate's length and mode. */
  readonly length: number;
  readonly mode: number;
  readonly done: IoResult;
}

function setup(params: DataView, window: { ring: Window; entries: Window } | null): number {
  new Uint8Array(params.buffer).fill(0);
  if (window !== null) {
    params.setUint32(PARAMS_FLAGS, IORING_SETUP_NO_MMAP, true);
    params.setBigUint64(SQ_OFF + OFF_USER_ADDR, BigInt(window.entries.address), true);
    params.setBigUint64(CQ_OFF + OFF_USER_ADDR, BigInt(window.ring.address), true);
  }
  const fd = Number(cSetup(SYS_IO_URING_SETUP, ENTRIES, new Uint8Array(params.buffer)));
  return fd < 0 ? -errno() : fd;
}

export class IoUring implements FileIo {
  readonly kind = 'io_uring';
  /** Whether the kernel took the windows as the ring's memory (from 6.5 on). */
  readonly noMmap: boolean;
  readonly eventFd: number;
  readonly #fd: number;
  readonly #ring: Int32Array;
  readonly #sqes: Int32Array;
  readonly #iovecs: Int32Array;
  readonly #iovecsAddress: number;
  readonly #sqTail: number;
  readonly #sqMask: number;
  readonly #sqArray: number;
  readonly #cqHead: number;
  readonly #cqTail: number;
  readonly #cqMask: number;
  readonly #cqes: number;
  readonly #cqEntries: number;

  /** What is in the kernel, by user_data. */
  readonly #flying: (Request | null)[] = [];
  readonly #freeSlots: number[] = [];
  #flyingCount = 0;
  /** Asked for and not yet submitted. */
  #queue: Request[] = [];
  #queueHead = 0;

  private constructor(fd: number, params: DataView, ring: Window, sqes: Window, noMmap: boolean) {
    const u32 = (at: number): number => params.getUint32(at, true);
    this.#fd = fd;
    this.noMmap = noMmap;
    this.#ring = new Int32Array(ring.buffer, 0, ring.size / 4);
    this.#sqes = new Int32Array(sqes.buffer, 0, sqes.size / 4);
    this.#sqTail = u32(SQ_OFF + OFF_TAIL) / 4;
    this.#sqMask = this.#ring[u32(SQ_OFF + OFF_MASK) / 4]!;
    this.#sqArray = u32(SQ_OFF + OFF_ARRAY) / 4;
    this.#cqHead = u32(CQ_OFF) / 4;
    this.#cqTail = u32(CQ_OFF + OFF_TAIL) / 4;
    this.#cqMask = this.#ring[u32(CQ_OFF + OFF_MASK) / 4]!;
    this.#cqes = u32(CQ_OFF + OFF_CQES) / 4;
    this.#cqEntries = u32(PARAMS_CQ_ENTRIES);
    const iovecs = allocateWindow(IOVEC_WINDOW);
    this.#iovecs = new Int32Array(iovecs.buffer, 0, IOVEC_WINDOW / 4);
    this.#iovecsAddress = iovecs.address;
    for (let slot = this.#cqEntries - 1; slot >= 0; slot--) {
      this.#flying.push(null);
      this.#freeSlots.push(slot);
    }
    this.eventFd = eventfd();
  }

  /** A ring, or why there is none: "refused by the system (EPERM)". */
  static open(): IoUring | string {
    const params = new DataView(new ArrayBuffer(PARAMS_BYTES));
    const windows = { ring: allocateWindow(65536), entries: allocateWindow(65536) };
    // Touched, so that the pages are there to be pinned.
    new Uint8Array(windows.ring.buffer, 0, 4096)[0] = 0;
    new Uint8Array(windows.entries.buffer, 0, 4096)[0] = 0;
    let fd = setup(params, windows);
    const noMmap = fd >= 0;
    if (!noMmap) fd = setup(params, null);
    if (fd < 0) return `refused by the system (${errnoName(-fd)})`;
    try {
      const features = params.getUint32(PARAMS_FEATURES, true);
      if ((features & NEEDED_FEATURES) !== NEEDED_FEATURES) throw new Error('the kernel is too old (before 5.5)');
      if (!noMmap) {
        const sq = params.getUint32(SQ_OFF + OFF_ARRAY, true) + params.getUint32(PARAMS_SQ_ENTRIES, true) * 4;
        const cq = params.getUint32(CQ_OFF + OFF_CQES, true) + params.getUint32(PARAMS_CQ_ENTRIES, true) * CQE_WORDS * 4;
        mapFixed(windows.ring.address, Math.max(sq, cq), fd, 0);
        mapFixed(windows.entries.address, params.getUint32(PARAMS_SQ_ENTRIES, true) * SQE_WORDS * 4, fd, IORING_OFF_SQES);
      }
      const missing = missingOperation(fd);
      if (missing !== null) throw new Error(`the kernel is too old (operation ${missing} is missing)`);
      const ring = new IoUring(fd, params, windows.ring, windows.entries, noMmap);
      const argument = new Uint8Array(new Int32Array([ring.eventFd]).buffer);
      if (Number(cRegister(SYS_IO_URING_REGISTER, fd, IORING_REGISTER_EVENTFD, argument, 1)) < 0) {
        const number = errno();
        close(ring.eventFd);
        throw new Error(`registering an eventfd failed (${errnoName(number)})`);
      }
      return ring;
    } catch (thrown) {
      close(fd);
      return (thrown as Error).message;
    }
  }

  get pending(): number {
    return this.#flyingCount + this.#queue.length - this.#queueHead;
  }

  readv(fd: number, offset: number, buffers: IoBuffers, done: IoResult): void {
    this.#queue.push({ opcode: IORING_OP_READV, fd, offset, buffers, length: 0, mode: 0, done });
  }

  writev(fd: number, offset: number, buffers: IoBuffers, done: IoResult): void {
    this.#queue.push({ opcode: IORING_OP_WRITEV, fd, offset, buffers, length: 0, mode: 0, done });
  }

  fdatasync(fd: number, done: IoResult): void {
    this.#queue.push({ opcode: IORING_OP_FSYNC, fd, offset: 0, buffers: null, length: 0, mode: 0, done });
  }

  fallocate(fd: number, mode: number, offset: number, length: number, done: IoResult): void {
    this.#queue.push({ opcode: IORING_OP_FALLOCATE, fd, offset, buffers: null, length, mode, done });
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
    while (this.#queueHead < this.#queue.length) {
      const filled = this.#fill();
      if (filled === 0) return; // as many as the completion ring holds are under way
      this.#enter(filled, 0);
    }
    this.#queue.length = 0;
    this.#queueHead = 0;
  }

  /** Moves requests from the queue into entries. @returns how many */
  #fill(): number {
    const ring = this.#ring;
    let tail = ring[this.#sqTail]!;
    let iovec = 0;
    let filled = 0;
    while (filled < ENTRIES && this.#queueHead < this.#queue.length && this.#freeSlots.length > 0) {
      const request = this.#queue[this.#queueHead]!;
      const pieces = request.buffers === null ? 0 : Math.min(request.buffers.pieces, MAX_PIECES);
      if (iovec + pieces * (IOVEC_BYTES / 4) > this.#iovecs.length) break;
      this.#queueHead++;
      const slot = this.#freeSlots.pop()!;
      this.#flying[slot] = request;
      this.#flyingCount++;
      const index = tail & this.#sqMask;
      this.#entry(index * SQE_WORDS, request, slot, pieces, iovec);
      if (pieces > 1) iovec += pieces * (IOVEC_BYTES / 4);
      ring[this.#sqArray + index] = index;
      tail = (tail + 1) | 0;
      filled++;
    }
    Atomics.store(ring, this.#sqTail, tail);
    if (this.#queueHead > 4096) {
      this.#queue = this.#queue.slice(this.#queueHead);
      this.#queueHead = 0;
    }
    return filled;
  }

  /** struct io_uring_sqe at word `w`: opcode, flags, ioprio, fd, off, addr, len, rw_flags or fsync_flags, user_data. */
  #entry(w: number, request: Request, slot: number, pieces: number, iovec: number): void {
    const sqes = this.#sqes;
    const { opcode, fd, offset, buffers } = request;
    let address = 0;
    let length = 0;
    let flags = 0;
    let operation = opcode;
    if (buffers !== null) {
      if (pieces === 1) { // no iovec needed
        operation = opcode === IORING_OP_READV ? IORING_OP_READ : IORING_OP_WRITE;
        address = buffers.hva(0);
        length = buffers.length(0);
      } else {
        fillIovec(this.#iovecs, iovec, buffers, pieces);
        address = this.#iovecsAddress + iovec * 4;
        length = pieces;
      }
    } else if (opcode === IORING_OP_FALLOCATE) {
      address = request.length;
      length = request.mode;
    } else {
      flags = IORING_FSYNC_DATASYNC;
    }
    sqes[w] = operation;
    sqes[w + 1] = fd;
    sqes[w + 2] = offset | 0;
    sqes[w + 3] = Math.floor(offset / 2 ** 32);
    sqes[w + 4] = address | 0;
    sqes[w + 5] = Math.floor(address / 2 ** 32);
    sqes[w + 6] = length;
    sqes[w + 7] = flags;
    sqes[w + 8] = slot;
    for (let k = 9; k < SQE_WORDS; k++) sqes[w + k] = 0;
  }

  /** io_uring_enter until the kernel has taken all `submit` entries; waits for `complete` completions. */
  #enter(submit: number, complete: number): void {
    for (;;) {
      const taken = Number(cEnter(SYS_IO_URING_ENTER, this.#fd, submit, complete, complete > 0 ? IORING_ENTER_GETEVENTS : 0, 0, 0));
      if (taken >= 0) {
        submit -= taken;
        if (submit <= 0) return;
        continue;
      }
      const number = errno();
      // EAGAIN: no memory for a request at the moment; EBUSY: completions must be taken first, which overflow handling does at the next enter.
      if (number !== EINTR && number !== EAGAIN && number !== EBUSY) throw new Error(`io_uring_enter failed (${errnoName(number)})`);
      if (submit === 0 && number === EINTR) return;
    }
  }

  reap(): number {
    takeEventfd(this.eventFd);
    const count = this.#takeCompletions();
    this.submit();
    return count;
  }

  #takeCompletions(): number {
    const ring = this.#ring;
    let count = 0;
    for (;;) {
      const head = ring[this.#cqHead]!;
      if (head === Atomics.load(ring, this.#cqTail)) return count;
      const cqe = this.#cqes + (head & this.#cqMask) * CQE_WORDS;
      const slot = ring[cqe]!;
      const result = ring[cqe + 2]!;
      Atomics.store(ring, this.#cqHead, (head + 1) | 0);
      const request = this.#flying[slot]!;
      this.#flying[slot] = null;
      this.#freeSlots.push(slot);
      this.#flyingCount--;
      count++;
      request.done(result);
    }
  }

  wait(): void {
    this.submit();
    if (this.#flyingCount > 0 && this.#ring[this.#cqHead] === Atomics.load(this.#ring, this.#cqTail)) this.#enter(0, 1);
    this.reap();
  }

  close(): void {
    while (this.pending > 0) this.wait();
    close(this.#fd);
    close(this.eventFd);
  }
}

/** The first operation of ours that the kernel lacks, or null. struct io_uring_probe: 16 bytes, then 8 for each operation. */
function missingOperation(fd: number): number | null {
  const probe = new Uint8Array(16 + 256 * 8);
  if (Number(cRegister(SYS_IO_URING_REGISTER, fd, IORING_REGISTER_PROBE, probe, 256)) < 0) return IORING_OP_READ;
  const view = new DataView(probe.buffer);
  for (const operation of [IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE, IORING_OP_READ, IORING_OP_WRITE]) {
    if ((view.getUint16(16 + operation * 8 + 2, true) & IO_URING_OP_SUPPORTED) === 0) return operation;
  }
  return null;
}
