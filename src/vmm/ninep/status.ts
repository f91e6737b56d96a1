// What statx(2) says of a file, and what 9P says of it: qids, attributes. The 64-bit values go through as two halves, so none loses a bit.
import { constants } from 'node:fs';
import { GETATTR_BASIC, GETATTR_BTIME, QID_DIRECTORY, QID_FILE, QID_SYMLINK } from './protocol.ts';
import type { Writer } from './wire.ts';

const { S_IFMT, S_IFDIR, S_IFLNK, S_IFREG } = constants;

export const STATX_BYTES = 256;
/** Type, mode, inode, modification time and size: all that a qid is made of. */
export const STATX_QID = 0x0001 | 0x0040 | 0x0100 | 0x0200;
/** Also what chmod and a comparison of two files need. */
export const STATX_ALL = 0x07ff | 0x0800;
const STATX_BTIME = 0x0800;

// struct statx
const MASK = 0;
const BLOCK_SIZE = 4;
const LINKS = 16;
const UID = 20;
const GID = 24;
const MODE = 28;
const INODE = 32;
const SIZE = 40;
const BLOCKS = 48;
const ACCESS_TIME = 64;
const BIRTH_TIME = 80;
const CHANGE_TIME = 96;
const MODIFY_TIME = 112;
const SPECIAL_MAJOR = 128;
const SPECIAL_MINOR = 132;
const DEVICE_MAJOR = 136;
const DEVICE_MINOR = 140;
const NANOSECONDS = 8; // within a time

/** Numbers for the file systems of a share: inode numbers are only unique within one. */
export class Devices {
  readonly #prefixes = new Map<number, number>();

  /** 0 for the first file system asked for, then 1, 2, …; the 65,536th and all after it share the last. */
  prefix(device: number): number {
    const known = this.#prefixes.get(device);
    if (known !== undefined) return known;
    const next = Math.min(this.#prefixes.size, 0xffff);
    if (this.#prefixes.size < 0x1_0000) this.#prefixes.set(device, next);
    return next;
  }
}

export class Status {
  readonly bytes = new Uint8Array(STATX_BYTES);
  readonly #view = new DataView(this.bytes.buffer);
  readonly #devices: Devices;

  constructor(devices: Devices) {
    this.#devices = devices;
  }

  get mode(): number {
    return this.#view.getUint16(MODE, true);
  }

  /** S_IFREG and so on. */
  get type(): number {
    return this.mode & S_IFMT;
  }

  get isFolder(): boolean {
    return this.type === S_IFDIR;
  }

  get isFile(): boolean {
    return this.type === S_IFREG;
  }

  get device(): number {
    return this.#view.getUint32(DEVICE_MAJOR, true) * 2 ** 32 + this.#view.getUint32(DEVICE_MINOR, true);
  }

  get devicePrefix(): number {
    return this.#devices.prefix(this.device);
  }

  get inodeLow(): number {
    return this.#view.getUint32(INODE, true);
  }

  get inodeHigh(): number {
    return this.#view.getUint32(INODE + 4, true);
  }

  /** Whether both are of one file. */
  sameFile(other: Status): boolean {
    return this.device === other.device && this.inodeLow === other.inodeLow && this.inodeHigh === other.inodeHigh;
  }

  /** qid: type[1] version[4] path[8]. The version changes with the content: a guest that caches forgets what it has. */
  putQid(reply: Writer): void {
    const view = this.#view;
    const changed = view.getUint32(MODIFY_TIME, true) ^ view.getUint32(MODIFY_TIME + NANOSECONDS, true) ^ (view.getUint32(SIZE, true) << 8);
    putQid(reply, this.type, changed >>> 0, this.inodeLow, this.inodeHigh, this.devicePrefix);
  }

  #putTime(reply: Writer, at: number): void {
    reply.u64(this.#view.getUint32(at, true), this.#view.getUint32(at + 4, true));
    reply.u64(this.#view.getUint32(at + NANOSECONDS, true));
  }

  #put64(reply: Writer, at: number): void {
    reply.u64(this.#view.getUint32(at, true), this.#view.getUint32(at + 4, true));
  }

  /** All of Rgetattr. Statx was asked for STATX_ALL. */
  putAttributes(reply: Writer): void {
    const view = this.#view;
    const hasBirth = (view.getUint32(MASK, true) & STATX_BTIME) !== 0;
    reply.u64(GETATTR_BASIC | (hasBirth ? GETATTR_BTIME : 0));
    this.putQid(reply);
    reply.u32(this.mode);
    reply.u32(view.getUint32(UID, true));
    reply.u32(view.getUint32(GID, true));
    reply.u64(view.getUint32(LINKS, true));
    const major = view.getUint32(SPECIAL_MAJOR, true);
    const minor = view.getUint32(SPECIAL_MINOR, true);
    reply.u64(((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0); // new_encode_dev of linux/kdev_t.h
    this.#put64(reply, SIZE);
    reply.u64(view.getUint32(BLOCK_SIZE, true));
    this.#put64(reply, BLOCKS);
    this.#putTime(reply, ACCESS_TIME);
    this.#putTime(reply, MODIFY_TIME);
    this.#putTime(reply, CHANGE_TIME);
    if (hasBirth) this.#putTime(reply, BIRTH_TIME);
    else {
      reply.u64(0);
      reply.u64(0);
    }
    reply.u64(0); // generation
    reply.u64(0); // data version
  }
}

/** @param type S_IFDIR and so on @param prefix of the file system: lies in the inode number's upper bits, which file systems leave alone */
export function putQid(reply: Writer, type: number, version: number, inodeLow: number, inodeHigh: number, prefix: number): void {
  reply.u8(type === S_IFDIR ? QID_DIRECTORY : type === S_IFLNK ? QID_SYMLINK : QID_FILE);
  reply.u32(version);
  reply.u64(inodeLow, (inodeHigh ^ (prefix << 16)) >>> 0);
}
