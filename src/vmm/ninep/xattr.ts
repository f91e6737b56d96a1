// Extended attributes: xattrwalk reads one, or their names; xattrcreate begins to write one, which Twrites fill and Tclunk sets.
// Only the user's own ("user.…") go through. What the host's kernel or its administrator keeps in others is not the guest's.
import { constants } from 'node:os';
import { getXattr, listXattrs, XATTR_CREATE, XATTR_REPLACE } from './files.ts';
import { NAME_MAX } from './protocol.ts';
import type { Call } from './request.ts';

const { EBADF, EINVAL, ENOSPC, EOPNOTSUPP, ERANGE, EROFS } = constants.errno;
const USER = new TextEncoder().encode('user.');
/** XATTR_SIZE_MAX and XATTR_LIST_MAX of linux/limits.h. */
const VALUE_MAX = 65536;
const scratch = new Uint8Array(VALUE_MAX);

const isUsers = (name: Uint8Array): boolean => name.length > USER.length && name.length <= NAME_MAX && !name.includes(0) && USER.every((byte, i) => name[i] === byte);

/** The names that are the user's, each with a NUL behind it. */
function usersOf(list: Uint8Array): Uint8Array {
  const kept: number[] = [];
  for (let at = 0; at < list.length;) {
    const end = list.indexOf(0, at);
    if (isUsers(list.subarray(at, end))) kept.push(...list.subarray(at, end + 1));
    at = end + 1;
  }
  return Uint8Array.from(kept);
}

/** Txattrwalk: fid[4] newfid[4] name[s] -> size[8]. newfid then reads the value of the attribute, or with no name, the names of all. */
export function xattrwalk({ share, request, reply }: Call): number {
  const number = request.u32();
  const newNumber = request.u32();
  const name = request.string();
  if (!request.whole()) return -EINVAL;
  const fid = share.fids.get(number);
  if (fid === undefined || fid.attribute !== null) return -EBADF;
  if (newNumber === number) return -EINVAL;
  if (name.length > 0 && !isUsers(name)) return -EOPNOTSUPP;
  const got = name.length === 0 ? listXattrs(fid.place.fd, scratch, VALUE_MAX) : getXattr(fid.place.fd, name, scratch, VALUE_MAX);
  if (got < 0) return got;
  const value = name.length === 0 ? usersOf(scratch.subarray(0, got)) : scratch.slice(0, got);
  const failed = share.fids.add(newNumber, fid.place);
  if (failed < 0) return failed;
  if (!share.fids.attach(share.fids.get(newNumber)!, { value, name: null, flags: 0, written: 0 })) {
    share.fids.remove(newNumber);
    return -ENOSPC;
  }
  reply.u64(value.length);
  return 0;
}

/** Txattrcreate: fid[4] name[s] attr_size[8] flags[4]. */
export function xattrcreate({ share, request }: Call): number {
  const number = request.u32();
  const name = request.string();
  const size = request.u64();
  const flags = request.u32();
  if (!request.whole()) return -EINVAL;
  const fid = share.fids.get(number);
  if (fid === undefined) return -EBADF;
  if (share.readonly) return -EROFS;
  if (fid.file >= 0 || fid.attribute !== null || (flags !== 0 && flags !== XATTR_CREATE && flags !== XATTR_REPLACE)) return -EINVAL;
  if (!isUsers(name)) return -EOPNOTSUPP;
  if (size > VALUE_MAX) return -ERANGE;
  return share.fids.attach(fid, { value: new Uint8Array(size), name: name.slice(), flags, written: 0 }) ? 0 : -ENOSPC;
}
