// What is in files and folders: lopen, lcreate, read, write, readdir, fsync. Only regular files and folders are ever opened: a device or a fifo of the
// host is shown as what it is, and the guest's kernel makes its own of it.
import { constants as fsConstants } from 'node:fs';
import { constants } from 'node:os';
import { fdatasync, fsync, getdents, O_APPEND, O_CREAT, O_DIRECTORY, O_DSYNC, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR, O_SYNC, O_TRUNC, O_WRONLY, openBeneath, readInto, seekTo, writeFrom } from './files.ts';
import type { Fid } from './fids.ts';
import {
  OPEN_ACCESS, OPEN_APPEND, OPEN_DIRECTORY, OPEN_DSYNC, OPEN_EXCL, OPEN_RDWR, OPEN_SYNC, OPEN_TRUNC, OPEN_WRONLY, READ_HEADER_BYTES, WRITE_HEADER_BYTES,
} from './protocol.ts';
import type { Call } from './request.ts';
import { badName, isDotDot } from './share.ts';
import type { Share } from './share.ts';
import { putQid } from './status.ts';

const { EBADF, EEXIST, EFBIG, EINVAL, EIO, ELOOP, EMFILE, ENOENT, ENOTDIR, ENXIO, EROFS } = constants.errno;
const { S_IFDIR, S_IFLNK, S_IFREG, S_IFMT } = fsConstants;
const PERMISSIONS = 0o7777;

/**
 * The host's flags for those of the protocol. O_DIRECT and O_NOATIME are left out: hints, which the host's file may refuse. O_APPEND goes with O_WRONLY
 * alone: Linux with a cache opens what its programs append to for reading as well, and writes whole pages back at offsets of its own, which the host must keep.
 */
function hostFlags(flags: number): number {
  const access = flags & OPEN_ACCESS;
  return (access === OPEN_WRONLY ? O_WRONLY : access === OPEN_RDWR ? O_RDWR : O_RDONLY) |
    (flags & OPEN_TRUNC ? O_TRUNC : 0) | ((flags & OPEN_APPEND) !== 0 && access === OPEN_WRONLY ? O_APPEND : 0) | (flags & OPEN_DIRECTORY ? O_DIRECTORY : 0) |
    ((flags & OPEN_SYNC) === OPEN_SYNC ? O_SYNC : 0) | (flags & OPEN_DSYNC ? O_DSYNC : 0);
}

const writes = (flags: number): boolean => (flags & OPEN_ACCESS) === OPEN_WRONLY || (flags & OPEN_ACCESS) === OPEN_RDWR;

/** Opens what the fid is at. `share.status` is not the file's afterwards. @returns 0, or minus an error number */
function openFid(share: Share, fid: Fid, flags: number): number {
  const type = fid.place.type;
  if (type === S_IFLNK) return -ELOOP;
  if (type !== S_IFREG && type !== S_IFDIR) return -ENXIO;
  const file = share.open(fid.place, hostFlags(flags));
  if (file < 0) return file;
  fid.file = file;
  fid.writable = writes(flags);
  return 0;
}

/** Tlopen: fid[4] flags[4] -> qid[13] iounit[4]. */
export function lopen({ share, request, reply }: Call): number {
  const number = request.u32();
  const flags = request.u32();
  if (!request.whole()) return -EINVAL;
  const fid = share.fids.get(number);
  if (fid === undefined) return -EBADF;
  if (fid.file >= 0 || fid.attribute !== null) return -EINVAL;
  if (share.readonly && (writes(flags) || (flags & OPEN_TRUNC) !== 0)) return -EROFS;
  const failed = openFid(share, fid, flags);
  if (failed < 0) return failed;
  return putOpened(share, fid, reply);
}

function putOpened(share: Share, fid: Fid, reply: Call['reply']): number {
  const failed = share.look(fid.place);
  if (failed < 0) return failed;
  share.status.putQid(reply);
  reply.u32(0); // any size of a read or write that fits a message
  return 0;
}

/** How often a name is looked for and made before somebody who makes and removes it all the time has won. */
const CREATE_TRIES = 16;

/** Tlcreate: fid[4] name[s] flags[4] mode[4] gid[4] -> qid[13] iounit[4]. The fid, a folder's, becomes the open file's. */
export function lcreate({ share, request, reply }: Call): number {
  const number = request.u32();
  const name = request.string();
  const flags = request.u32();
  const mode = request.u32() & PERMISSIONS;
  request.u32();
  if (!request.whole()) return -EINVAL;
  const fid = share.fids.get(number);
  if (fid === undefined) return -EBADF;
  if (share.readonly) return -EROFS;
  if (fid.file >= 0 || fid.attribute !== null) return -EINVAL;
  if (fid.place.type !== S_IFDIR) return -ENOTDIR;
  const bad = badName(name);
  if (bad < 0) return bad;
  for (let tries = 0; tries < CREATE_TRIES; tries++) {
    if (!share.fids.mayOpen()) return -EMFILE;
    // Never without O_EXCL: what is there already might be no regular file, and is looked at before it is opened.
    const made = openBeneath(fid.place.fd, name, hostFlags(flags & ~OPEN_TRUNC) | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
    if (made >= 0) {
      share.fids.opened();
      const place = share.adopt(made);
      if (typeof place === 'number') return place;
      share.restoreMode(place, mode);
      share.fids.move(fid, place);
      fid.file = made;
      fid.writable = writes(flags);
      return putOpened(share, fid, reply);
    }
    if (made !== -EEXIST || (flags & OPEN_EXCL) !== 0) return made;
    const there = share.find(fid.place, name);
    if (there === -ENOENT) continue;
    if (typeof there === 'number') return there;
    const folder = fid.place;
    folder.fids++; // kept until the file is open
    share.fids.move(fid, there);
    const failed = openFid(share, fid, flags);
    if (failed < 0) share.fids.move(fid, folder);
    folder.fids--;
    share.drop(folder);
    return failed < 0 ? failed : putOpened(share, fid, reply);
  }
  return -EIO;
}

/** Tread: fid[4] offset[8] count[4] -> count[4] data[count]. From the file into guest memory, with no copy between. */
export function read(call: Call): number {
  const { share, request, reply, writable } = call;
  const number = request.u32();
  const offset = request.u64();
  const count = request.u32();
  if (!request.whole()) return -EINVAL;
  const fid = share.fids.get(number);
  if (fid === undefined) return -EBADF;
  if (writable.bytes < READ_HEADER_BYTES) return -EINVAL;
  const room = Math.min(count, writable.bytes - READ_HEADER_BYTES);
  let got = 0;
  if (fid.attribute !== null) {
    if (fid.attribute.name !== null) return -EINVAL;
    const value = fid.attribute.value;
    got = writable.write(READ_HEADER_BYTES, value.subarray(Math.min(offset, value.length), Math.min(offset + room, value.length)));
  } else {
    if (fid.file < 0) return -EBADF;
    if (!Number.isSafeInteger(offset)) return -EINVAL;
    if (room > 0) got = readInto(fid.file, writable.slice(READ_HEADER_BYTES, room), offset);
    if (got < 0) return got;
  }
  reply.u32(got);
  call.data = got;
  return 0;
}

/** Twrite: fid[4] offset[8] count[4] data[count] -> count[4]. From guest memory into the file. */
export function write({ share, request, reply, readable }: Call): number {
  const number = request.u32();
  const offset = request.u64();
  const count = request.u32();
  if (!request.whole() || count > readable.bytes - WRITE_HEADER_BYTES) return -EINVAL;
  const fid = share.fids.get(number);
  if (fid === undefined) return -EBADF;
  if (share.readonly) return -EROFS;
  if (fid.attribute !== null) {
    const { attribute } = fid;
    if (attribute.name === null || offset !== attribute.written || attribute.written + count > attribute.value.length) return -EINVAL;
    readable.read(WRITE_HEADER_BYTES, attribute.value.subarray(attribute.written, attribute.written + count));
    attribute.written += count;
    reply.u32(count);
    return 0;
  }
  if (fid.file < 0) return -EBADF;
  if (!Number.isSafeInteger(offset + count)) return -EFBIG;
  const put = count === 0 ? 0 : writeFrom(fid.file, readable.slice(WRITE_HEADER_BYTES, count), offset);
  if (put < 0) return put;
  reply.u32(put);
  return 0;
}

// struct linux_dirent64
const ENTRY_COOKIE = 8;
const ENTRY_LENGTH = 16;
const ENTRY_TYPE = 18;
const ENTRY_NAME = 19;
/** qid[13] offset[8] type[1] and the length of the name[s]. */
const REPLY_ENTRY_BYTES = 24;
/** The most that one Treaddir takes from the kernel. */
const ENTRIES_BYTES = 65536;
/** An entry of the kernel's becomes at most 7/6 as long in the reply: 24 bytes and a name of 4 become 28. */
const GROWTH = 7 / 6;
const entries = new Uint8Array(ENTRIES_BYTES);
const entriesView = new DataView(entries.buffer);

/** Bytes of the largest Rreaddir's fields. */
export const MAX_ENTRIES_REPLY = Math.ceil(ENTRIES_BYTES * GROWTH) + READ_HEADER_BYTES;

/** Treaddir: fid[4] offset[8] count[4] -> count[4] data[count]: qid[13] offset[8] type[1] name[s] each. The offset is the file system's own cookie. */
export function readdir({ share, request, reply, writable }: Call): number {
  const number = request.u32();
  const low = request.u32();
  const high = request.u32();
  const count = request.u32();
  if (!request.whole()) return -EINVAL;
  const fid = share.fids.get(number);
  if (fid === undefined || fid.file < 0) return -EBADF;
  if (fid.place.type !== S_IFDIR) return -ENOTDIR;
  const room = Math.floor(Math.min(count, writable.bytes - READ_HEADER_BYTES) / GROWTH);
  if (room < REPLY_ENTRY_BYTES) return -EINVAL;
  if (low !== fid.cookieLow || high !== fid.cookieHigh) {
    const failed = seekTo(fid.file, low, high);
    if (failed < 0) return failed;
  }
  const got = getdents(fid.file, entries, Math.min(room, ENTRIES_BYTES));
  if (got < 0) {
    [fid.cookieLow, fid.cookieHigh] = [low, high];
    return got;
  }
  const countAt = reply.at;
  reply.u32(0);
  const start = reply.at;
  let [lastLow, lastHigh] = [low, high];
  for (let at = 0; at < got; at += entriesView.getUint16(at + ENTRY_LENGTH, true)) {
    const end = entries.indexOf(0, at + ENTRY_NAME);
    const name = entries.subarray(at + ENTRY_NAME, end);
    const type = entries[at + ENTRY_TYPE]!;
    lastLow = entriesView.getUint32(at + ENTRY_COOKIE, true);
    lastHigh = entriesView.getUint32(at + ENTRY_COOKIE + 4, true);
    let [inodeLow, inodeHigh] = [entriesView.getUint32(at, true), entriesView.getUint32(at + 4, true)];
    if (isDotDot(name) && share.isRoot(fid.place)) [inodeLow, inodeHigh] = [share.status.inodeLow, share.status.inodeHigh]; // what is above is not the guest's
    putQid(reply, (type << 12) & S_IFMT, 0, inodeLow, inodeHigh, fid.place.prefix);
    reply.u64(lastLow, lastHigh);
    reply.u8(type);
    reply.string(name);
  }
  [fid.cookieLow, fid.cookieHigh] = [lastLow, lastHigh];
  const end = reply.at;
  reply.at = countAt;
  reply.u32(end - start);
  reply.at = end;
  return 0;
}

/** Tfsync: fid[4] datasync[4]. */
export function sync({ share, request }: Call): number {
  const number = request.u32();
  const dataOnly = request.u32();
  if (!request.whole()) return -EINVAL;
  const fid = share.fids.get(number);
  if (fid === undefined || fid.file < 0) return -EBADF;
  return dataOnly === 0 ? fsync(fid.file) : fdatasync(fid.file);
}

