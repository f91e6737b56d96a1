// A 9P client for tests: messages as Linux's v9fs sends them, in memory at host addresses, cut into pieces as a driver's scatter lists are.
import { allocateWindow } from '../memory/window.ts';
import type { Window } from '../memory/window.ts';
import type { Bytes } from './bytes.ts';
import { HEADER_BYTES, NO_FID, RLERROR, TATTACH, TCLUNK, TGETATTR, TLCREATE, TLOPEN, TREAD, TREADDIR, TREADLINK, TVERSION, TWALK, TWRITE, VERSION } from './protocol.ts';
import { Reader, Writer } from './wire.ts';

interface Piece {
  readonly at: number;
  readonly length: number;
}

/** Pieces of a window. */
export class WindowBytes implements Bytes {
  readonly bytes: number;
  readonly #window: Window;
  readonly #all: Uint8Array;
  readonly #pieces: readonly Piece[];

  constructor(window: Window, pieces: readonly Piece[]) {
    this.#window = window;
    this.#all = new Uint8Array(window.buffer, 0, window.size);
    this.#pieces = pieces;
    this.bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
  }

  get pieces(): number {
    return this.#pieces.length;
  }

  hva(index: number): number {
    return this.#window.address + this.#pieces[index]!.at;
  }

  length(index: number): number {
    return this.#pieces[index]!.length;
  }

  #each(offset: number, length: number, visit: (from: number, bytes: Uint8Array) => void): number {
    let [skip, done] = [offset, 0];
    for (const piece of this.#pieces) {
      const n = Math.min(piece.length - skip, length - done);
      if (n > 0) {
        visit(done, this.#all.subarray(piece.at + skip, piece.at + skip + n));
        done += n;
      }
      skip = Math.max(0, skip - piece.length);
    }
    return done;
  }

  read(offset: number, into: Uint8Array): number {
    return this.#each(offset, into.length, (from, bytes) => into.set(bytes, from));
  }

  write(offset: number, from: Uint8Array): number {
    return this.#each(offset, from.length, (at, bytes) => bytes.set(from.subarray(at, at + bytes.length)));
  }

  slice(offset: number, length = this.bytes - offset): WindowBytes {
    const pieces: Piece[] = [];
    let [skip, left] = [offset, length];
    for (const piece of this.#pieces) {
      const n = Math.min(piece.length - skip, left);
      if (n > 0) pieces.push({ at: piece.at + skip, length: n });
      left -= Math.max(0, n);
      skip = Math.max(0, skip - piece.length);
    }
    return new WindowBytes(this.#window, pieces);
  }
}

/** An Rlerror. */
export class Refused extends Error {
  readonly errno: number;
  constructor(errno: number) {
    super(`error ${errno}`);
    this.errno = errno;
  }
}

export type Field = { u8: number } | { u16: number } | { u32: number } | { u64: number | bigint } | { s: string | Uint8Array } | { raw: Uint8Array };

export interface Qid {
  readonly type: number;
  readonly version: number;
  readonly path: bigint;
}

export interface Attributes {
  readonly qid: Qid;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly device: number;
  readonly size: number;
  /** Nanoseconds since 1970: access, modification, change. */
  readonly atime: bigint;
  readonly mtime: bigint;
  readonly ctime: bigint;
}

const HALF = 2 * 2 ** 20;
const REPLY_ROOM = 2 ** 20;
const encoder = new TextEncoder();
export const bytesOf = (text: string | Uint8Array): Uint8Array => (typeof text === 'string' ? encoder.encode(text) : text);
/** Names as one character a byte, so that any bytes make a string. */
export const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

/** A server, or a way to one. */
export interface Answering {
  answer(readable: Bytes, writable: Bytes): number;
}

export class Client {
  readonly server: Answering;
  readonly #window = allocateWindow(2 * HALF);
  readonly #all = new Uint8Array(this.#window.buffer, 0, this.#window.size);
  readonly #message = new Writer(new Uint8Array(HALF));
  readonly #answer = new Reader(new Uint8Array(HALF));
  /** Bytes of every piece but the last. */
  readonly #piece: number;
  #nextFid = 1;

  constructor(server: Answering, piece = 1000) {
    this.server = server;
    this.#piece = piece;
  }

  #cut(at: number, length: number): WindowBytes {
    const pieces: Piece[] = [];
    // A page between pieces: what is written over a piece's end shows.
    for (let done = 0; done < length; done += this.#piece) pieces.push({ at: at + done, length: Math.min(this.#piece, length - done) });
    return new WindowBytes(this.#window, pieces);
  }

  /** Sends bytes as they are. @returns the reply's bytes */
  raw(request: Uint8Array, room = REPLY_ROOM): Uint8Array {
    this.#all.set(request);
    const written = this.server.answer(this.#cut(0, request.length), this.#cut(HALF, room));
    return this.#all.slice(HALF, HALF + written);
  }

  message(type: number, fields: readonly Field[], tag = 1): Uint8Array {
    const message = this.#message;
    message.at = HEADER_BYTES;
    for (const field of fields) {
      if ('u8' in field) message.u8(field.u8);
      else if ('u16' in field) message.u16(field.u16);
      else if ('u32' in field) message.u32(field.u32);
      else if ('u64' in field) message.u64(Number(BigInt.asUintN(32, BigInt(field.u64))), Number(BigInt.asUintN(32, BigInt(field.u64) >> 32n)));
      else if ('s' in field) message.string(bytesOf(field.s));
      else message.raw(field.raw);
    }
    const end = message.at;
    message.at = 0;
    message.u32(end);
    message.u8(type);
    message.u16(tag);
    return message.bytes.slice(0, end);
  }

  /** Sends a message and gives the reply's fields. Throws Refused. */
  call(type: number, fields: readonly Field[], room = REPLY_ROOM): Reader {
    const reply = this.raw(this.message(type, fields, 7), room);
    const answer = this.#answer;
    answer.bytes.set(reply);
    answer.begin(0, reply.length);
    const size = answer.u32();
    const got = answer.u8();
    if (size !== reply.length || answer.u16() !== 7) throw new Error(`a reply of ${reply.length} bytes says ${size}`);
    if (got === RLERROR) throw new Refused(answer.u32());
    if (got !== type + 1) throw new Error(`reply ${got} to request ${type}`);
    return answer;
  }

  /** A number that no fid has. */
  fid(): number {
    return this.#nextFid++;
  }

  version(size = 512 * 1024, version = VERSION): { size: number; version: string } {
    const answer = this.call(TVERSION, [{ u32: size }, { s: version }]);
    return { size: answer.u32(), version: latin1(answer.string()) };
  }

  attach(folder = ''): number {
    const fid = this.fid();
    this.call(TATTACH, [{ u32: fid }, { u32: NO_FID }, { s: 'root' }, { s: folder }, { u32: 0 }]);
    return fid;
  }

  /** Version and attach. @returns the root's fid */
  mount(): number {
    this.version();
    return this.attach();
  }

  static qid(answer: Reader): Qid {
    const type = answer.u8();
    const version = answer.u32();
    const low = BigInt(answer.u32());
    return { type, version, path: low | (BigInt(answer.u32()) << 32n) };
  }

  /** Walks all the way. @returns a new fid. Throws Refused: with errno 0 when the walk ended early */
  walk(from: number, ...names: (string | Uint8Array)[]): number {
    const fid = this.fid();
    const answer = this.call(TWALK, [{ u32: from }, { u32: fid }, { u16: names.length }, ...names.map((s) => ({ s }))]);
    if (answer.u16() !== names.length) throw new Refused(0);
    return fid;
  }

  clunk(fid: number): void {
    this.call(TCLUNK, [{ u32: fid }]);
  }

  open(fid: number, flags = 0): number {
    this.call(TLOPEN, [{ u32: fid }, { u32: flags }]);
    return fid;
  }

  /** Makes a file in a folder. @returns a new fid, open */
  create(folder: number, name: string | Uint8Array, flags = 0o2, mode = 0o644): number {
    const fid = this.walk(folder);
    this.call(TLCREATE, [{ u32: fid }, { s: name }, { u32: flags }, { u32: mode }, { u32: 0 }]);
    return fid;
  }

  read(fid: number, offset: number, count: number): Uint8Array {
    const answer = this.call(TREAD, [{ u32: fid }, { u64: offset }, { u32: count }]);
    const got = answer.u32();
    return answer.bytes.slice(HEADER_BYTES + 4, HEADER_BYTES + 4 + got);
  }

  write(fid: number, offset: number, data: Uint8Array): number {
    return this.call(TWRITE, [{ u32: fid }, { u64: offset }, { u32: data.length }, { raw: data }]).u32();
  }

  attributes(fid: number): Attributes {
    const answer = this.call(TGETATTR, [{ u32: fid }, { u64: 0x7ff }]);
    answer.u64();
    const qid = Client.qid(answer);
    const [mode, uid, gid] = [answer.u32(), answer.u32(), answer.u32()];
    const [links, device, size] = [answer.u64(), answer.u64(), answer.u64()];
    answer.u64();
    answer.u64();
    const time = (): bigint => {
      const seconds = BigInt(answer.u32()) | (BigInt(answer.u32()) << 32n);
      return BigInt.asIntN(64, seconds) * 1_000_000_000n + BigInt(answer.u64());
    };
    return { qid, mode, uid, gid, links, device, size, atime: time(), mtime: time(), ctime: time() };
  }

  readlink(fid: number): Uint8Array {
    return this.call(TREADLINK, [{ u32: fid }]).string().slice();
  }

  /** All of an open folder, `.` and `..` too. */
  entries(fid: number, count = 8192): { name: string; type: number; qid: Qid; cookie: bigint }[] {
    const found: { name: string; type: number; qid: Qid; cookie: bigint }[] = [];
    for (let cookie = 0n; ;) {
      const answer = this.call(TREADDIR, [{ u32: fid }, { u64: cookie }, { u32: count }]);
      const end = answer.u32();
      if (end === 0) return found;
      if (end > count) throw new Error(`${end} bytes of entries, where ${count} were asked for`);
      for (let at = 0; at < end;) {
        const qid = Client.qid(answer);
        cookie = BigInt(answer.u32()) | (BigInt(answer.u32()) << 32n);
        const type = answer.u8();
        const name = answer.string();
        at += 24 + name.length;
        found.push({ name: latin1(name), type, qid, cookie });
      }
    }
  }
}
