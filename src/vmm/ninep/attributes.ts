// What files are: getattr, setattr, statfs.
import { constants as fsConstants } from 'node:fs';
import { constants } from 'node:os';
import { chmodOf, chownOf, O_WRONLY, statfsOf, truncate, utimensOf } from './files.ts';
import type { Fid } from './fids.ts';
import {
  SETATTR_ATIME, SETATTR_ATIME_SET, SETATTR_CTIME, SETATTR_GID, SETATTR_MODE, SETATTR_MTIME, SETATTR_MTIME_SET, SETATTR_SIZE, SETATTR_UID, V9FS_MAGIC,
} from './protocol.ts';
import type { Call } from './request.ts';
import type { Share } from './share.ts';

const { EBADF, EFBIG, EINVAL, EISDIR, EROFS } = constants.errno;
const { S_IFDIR, S_IFREG } = fsConstants;
const PERMISSIONS = 0o7777;
/** chown: leave this id as it is. */
const UNCHANGED = 0xffff_ffff;
// utimensat: nanoseconds with a meaning of their own
const UTIME_NOW = 0x3fff_ffff;
const UTIME_OMIT = 0x3fff_fffe;
const NANOSECONDS = 1e9;

/** Tgetattr: fid[4] request_mask[8] -> all of Rgetattr, whatever was asked for. */
export function getattr({ share, request, reply }: Call): number {
  const number = request.u32();
  request.u64();
  if (!request.whole()) return -EINVAL;
  const fid = share.fids.get(number);
  if (fid === undefined) return -EBADF;
  const failed = share.look(fid.place);
  if (failed < 0) return failed;
  share.status.putAttributes(reply);
  return 0;
}

const times = new Uint8Array(32);
const timesView = new DataView(times.buffer);

/**
 * Tsetattr: fid[4] valid[4] mode[4] uid[4] gid[4] size[8] atime_sec[8] atime_nsec[8] mtime_sec[8] mtime_nsec[8].
 * Size first, since it changes the modification time, and the owner before the mode, since it takes setuid away. The first that fails ends it.
 */
export function setattr({ share, request }: Call): number {
  const number = request.u32();
  const valid = request.u32();
  const mode = request.u32() & PERMISSIONS;
  const uid = request.u32();
  const gid = request.u32();
  const size = request.u64();
  for (const at of [0, 16]) {
    timesView.setUint32(at, request.u32(), true);
    timesView.setUint32(at + 4, request.u32(), true);
    const nanoseconds = request.u64();
    const [asked, given] = at === 0 ? [SETATTR_ATIME, SETATTR_ATIME_SET] : [SETATTR_MTIME, SETATTR_MTIME_SET];
    const set = (valid & asked) === 0 ? UTIME_OMIT : (valid & given) === 0 ? UTIME_NOW : nanoseconds;
    if (set === nanoseconds && nanoseconds >= NANOSECONDS) return -EINVAL;
    timesView.setUint32(at + 8, set, true);
  }
  if (!request.whole()) return -EINVAL;
  const fid = share.fids.get(number);
  if (fid === undefined) return -EBADF;
  if (share.readonly) return -EROFS;
  const { fd } = fid.place;
  if ((valid & SETATTR_SIZE) !== 0) {
    const failed = resize(share, fid, size);
    if (failed < 0) return failed;
  }
  if ((valid & (SETATTR_UID | SETATTR_GID)) !== 0) {
    const failed = chownOf(fd, (valid & SETATTR_UID) === 0 ? UNCHANGED : uid, (valid & SETATTR_GID) === 0 ? UNCHANGED : gid);
    if (failed < 0) return failed;
  }
  if ((valid & SETATTR_MODE) !== 0) {
    const failed = chmodOf(share.procFd, fd, mode);
    if (failed < 0) return failed;
  }
  if ((valid & (SETATTR_ATIME | SETATTR_MTIME)) !== 0) return utimensOf(share.procFd, fd, times);
  // A change of nothing at all sets the time of the last change.
  return valid === SETATTR_CTIME ? chownOf(fd, UNCHANGED, UNCHANGED) : 0;
}

function resize(share: Share, fid: Fid, size: number): number {
  if (fid.place.type !== S_IFREG) return fid.place.type === S_IFDIR ? -EISDIR : -EINVAL;
  if (!Number.isSafeInteger(size)) return -EFBIG;
  if (fid.file >= 0 && fid.writable) return truncate(fid.file, size);
  const file = share.open(fid.place, O_WRONLY);
  if (file < 0) return file;
  const result = truncate(file, size);
  share.fids.close(file);
  return result;
}

// struct statfs, in 64-bit words
const WORD_BLOCK_SIZE = 1;
const WORD_FILE_SYSTEM_ID = 7;
const WORD_NAME_LENGTH = 8;
const statfsWords = new Uint32Array(30);
const statfsBytes = new Uint8Array(statfsWords.buffer);

/** Tstatfs: fid[4] -> type[4] bsize[4] blocks[8] bfree[8] bavail[8] files[8] ffree[8] fsid[8] namelen[4]. */
export function statfs({ share, request, reply }: Call): number {
  const number = request.u32();
  if (!request.whole()) return -EINVAL;
  const fid = share.fids.get(number);
  if (fid === undefined) return -EBADF;
  const failed = statfsOf(fid.place.fd, statfsBytes);
  if (failed < 0) return failed;
  reply.u32(V9FS_MAGIC);
  reply.u32(statfsWords[WORD_BLOCK_SIZE * 2]!);
  for (let word = WORD_BLOCK_SIZE + 1; word <= WORD_FILE_SYSTEM_ID; word++) reply.u64(statfsWords[word * 2]!, statfsWords[word * 2 + 1]!);
  reply.u32(statfsWords[WORD_NAME_LENGTH * 2]!);
  return 0;
}
