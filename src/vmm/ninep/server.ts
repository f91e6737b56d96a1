// A 9P2000.L server over one folder of the host, for a guest's v9fs. Synchronous: a message is answered when `answer` returns, so an order of requests
// is the order of their effects, and there is never a request in flight that Tflush could end.
//
// A message is copied into private memory once and checked there; what is read or written goes straight between the file and guest memory. Nothing
// that a guest sends makes the server throw: it gets an Rlerror. Left out: authentication, 9P2000 and 9P2000.u, locks against the host (locks.ts).
import { constants } from 'node:os';
import { getattr, setattr, statfs } from './attributes.ts';
import type { Bytes } from './bytes.ts';
import { lcreate, lopen, MAX_ENTRIES_REPLY, read, readdir, sync, write } from './content.ts';
import { getlock, lock } from './locks.ts';
import { link, mkdir, mknod, readlink, rename, renameat, symlink, unlinkat } from './naming.ts';
import {
  ERROR_BYTES, HEADER_BYTES, MAX_MSIZE, MIN_MSIZE, RLERROR, TATTACH, TAUTH, TCLUNK, TFLUSH, TFSYNC, TGETATTR, TGETLOCK, TLCREATE, TLINK, TLOCK, TLOPEN,
  TMKDIR, TMKNOD, TREAD, TREADDIR, TREADLINK, TREMOVE, TRENAME, TRENAMEAT, TSETATTR, TSTATFS, TSYMLINK, TUNLINKAT, TVERSION, TWALK, TWRITE, TXATTRCREATE,
  TXATTRWALK, VERSION, VERSION_UNKNOWN, WRITE_HEADER_BYTES,
} from './protocol.ts';
import type { Call, Handler } from './request.ts';
import { Share } from './share.ts';
import type { ShareOptions } from './share.ts';
import { attach, auth, clunk, remove, walk } from './walking.ts';
import { Reader, Writer } from './wire.ts';
import { xattrcreate, xattrwalk } from './xattr.ts';

const { EINVAL, EIO, EMSGSIZE, EOPNOTSUPP, EPROTO } = constants.errno;

/** Copied at first: all of most messages. */
const FIRST_BYTES = 128;
/** The longest request but for Twrite's data: a walk of 16 names of 255 bytes, or a link to 4095, and some way more. */
const REQUEST_BYTES = 16384;

/** Tflush: oldtag[2]. The old request was answered before this one was looked at. */
const flush: Handler = () => 0;

const handlers: readonly (Handler | undefined)[] = (() => {
  const table: (Handler | undefined)[] = Array.from({ length: 256 });
  const all: [number, Handler][] = [
    [TSTATFS, statfs], [TLOPEN, lopen], [TLCREATE, lcreate], [TSYMLINK, symlink], [TMKNOD, mknod], [TRENAME, rename], [TREADLINK, readlink],
    [TGETATTR, getattr], [TSETATTR, setattr], [TXATTRWALK, xattrwalk], [TXATTRCREATE, xattrcreate], [TREADDIR, readdir], [TFSYNC, sync], [TLOCK, lock],
    [TGETLOCK, getlock], [TLINK, link], [TMKDIR, mkdir], [TRENAMEAT, renameat], [TUNLINKAT, unlinkat], [TAUTH, auth], [TATTACH, attach],
    [TFLUSH, flush], [TWALK, walk], [TREAD, read], [TWRITE, write], [TCLUNK, clunk], [TREMOVE, remove],
  ];
  for (const [type, handler] of all) table[type] = handler;
  return table;
})();

export class NinepServer {
  readonly share: Share;
  readonly #requestBytes = new Uint8Array(REQUEST_BYTES);
  readonly #request = new Reader(this.#requestBytes);
  readonly #header = new DataView(this.#requestBytes.buffer);
  readonly #first = this.#requestBytes.subarray(0, FIRST_BYTES);
  readonly #reply = new Writer(new Uint8Array(MAX_ENTRIES_REPLY));
  readonly #call: Call;
  /** Agreed upon by Tversion; 0 before. */
  #messageSize = 0;

  /** Throws VitrineError when the folder cannot be shared. */
  constructor(options: ShareOptions) {
    this.share = new Share(options);
    const nothing: Bytes = { bytes: 0, pieces: 0, hva: () => 0, length: () => 0, read: () => 0, write: () => 0, slice: () => nothing };
    this.#call = { share: this.share, request: this.#request, reply: this.#reply, readable: nothing, writable: nothing, data: 0 };
  }

  /** Bytes of a message, agreed upon; 0 before. */
  get messageSize(): number {
    return this.#messageSize;
  }

  /**
   * Answers the request in `readable` into `writable`.
   * @returns bytes written; 0 when there is no room for any answer, or no request that an answer could name
   */
  answer(readable: Bytes, writable: Bytes): number {
    const bytes = this.#requestBytes;
    const copied = readable.read(0, readable.bytes < FIRST_BYTES ? bytes.subarray(0, readable.bytes) : this.#first);
    if (copied < HEADER_BYTES || writable.bytes < ERROR_BYTES) return 0;
    const size = this.#header.getUint32(0, true);
    const type = bytes[4]!;
    const tag = this.#header.getUint16(5, true);
    const reply = this.#reply;
    reply.at = HEADER_BYTES;
    const call = this.#call;
    call.data = 0;
    let result = this.#prepare(readable, copied, size, type);
    if (result === 0) {
      call.readable = readable;
      call.writable = this.#messageSize > 0 && writable.bytes > this.#messageSize ? writable.slice(0, this.#messageSize) : writable;
      const handler = handlers[type];
      if (type === TVERSION) result = this.#version();
      else if (this.#messageSize === 0) result = -EPROTO;
      else if (handler === undefined) result = -EOPNOTSUPP;
      else result = handler(call);
      if (result >= 0 && reply.at + call.data > call.writable.bytes) result = -EIO; // a driver that leaves no room for what it asked for
    }
    if (result < 0) {
      reply.at = HEADER_BYTES;
      call.data = 0;
      reply.u32(-result);
    }
    const end = reply.at;
    reply.at = 0;
    reply.u32(end + call.data);
    reply.u8(result < 0 ? RLERROR : type + 1);
    reply.u16(tag);
    writable.write(0, reply.bytes.subarray(0, end));
    return end + call.data;
  }

  /** Copies the rest of a request, and sets its fields' bounds. @returns 0, or minus an error number */
  #prepare(readable: Bytes, copied: number, size: number, type: number): number {
    if (size < HEADER_BYTES || size > readable.bytes) return -EINVAL;
    if (this.#messageSize > 0 && readable.bytes > this.#messageSize) return -EMSGSIZE;
    if (type === TWRITE) {
      // Linux up to 4.18 leaves the data out of the size: what is there counts.
      this.#request.begin(HEADER_BYTES, Math.min(copied, WRITE_HEADER_BYTES));
      return 0;
    }
    if (size > REQUEST_BYTES) return -EMSGSIZE;
    if (size > copied) readable.read(copied, this.#requestBytes.subarray(copied, size));
    this.#request.begin(HEADER_BYTES, size);
    return 0;
  }

  /** Tversion: msize[4] version[s] -> the same. Every fid is gone. */
  #version(): number {
    const asked = this.#request.u32();
    const version = new TextDecoder('latin1').decode(this.#request.string());
    if (!this.#request.whole()) return -EINVAL;
    this.reset();
    if (asked < MIN_MSIZE) return -EMSGSIZE;
    const size = Math.min(asked, MAX_MSIZE);
    if (version === VERSION) this.#messageSize = size;
    this.#reply.u32(size);
    this.#reply.string(new TextEncoder().encode(version === VERSION ? VERSION : VERSION_UNKNOWN));
    return 0;
  }

  /** The guest's driver is gone: so are its fids, until the next Tversion. */
  reset(): void {
    this.share.fids.clear();
    this.#messageSize = 0;
  }

  dispose(): void {
    this.share.dispose();
  }
}
