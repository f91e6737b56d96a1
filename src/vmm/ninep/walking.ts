// Fids come and go: attach, walk, clunk, remove.
import { constants as fsConstants } from 'node:fs';
import { constants } from 'node:os';
import { AT_REMOVEDIR, setXattr, unlinkAt, removeXattr, XATTR_REPLACE } from './files.ts';
import type { Fid, Place } from './fids.ts';
import { MAX_WALK, NAME_MAX, NO_FID } from './protocol.ts';
import type { Call } from './request.ts';
import { isDot, isDotDot } from './share.ts';
import type { Share } from './share.ts';

const { EINVAL, EBADF, EIO, ENAMETOOLONG, ENOENT, ENOTDIR, EOPNOTSUPP, EROFS } = constants.errno;
const { S_IFDIR } = fsConstants;
const SLASH = 0x2f;

/** Tauth: fid[4] uname[s] aname[s] n_uname[4]. Nobody has to prove anything to a folder that was given to the machine. */
export function auth(): number {
  return -EOPNOTSUPP;
}

/** Tattach: fid[4] afid[4] uname[s] aname[s] n_uname[4] -> qid[13]. */
export function attach({ share, request, reply }: Call): number {
  const fid = request.u32();
  const afid = request.u32();
  request.string();
  const folder = request.string();
  request.u32();
  if (!request.whole() || fid === NO_FID || afid !== NO_FID) return -EINVAL;
  const place = share.attach(folder);
  if (typeof place === 'number') return place;
  const failed = share.fids.add(fid, place);
  if (failed < 0) {
    share.drop(place);
    return failed;
  }
  share.status.putQid(reply);
  return 0;
}

/** One step of a walk. `share.status` is then the file's. */
function step(share: Share, from: Place, name: Uint8Array): Place | number {
  if (from.type !== S_IFDIR) return -ENOTDIR;
  if (name.length > NAME_MAX) return -ENAMETOOLONG;
  if (name.length === 0 || isDot(name) || name.includes(SLASH) || name.includes(0)) return -ENOENT;
  return isDotDot(name) ? share.parent(from) : share.find(from, name);
}

/** Twalk: fid[4] newfid[4] nwname[2] nwname*(wname[s]) -> nwqid[2] nwqid*(qid[13]). A walk that gets part of the way says how far, and makes no fid. */
export function walk({ share, request, reply }: Call): number {
  const number = request.u32();
  const newNumber = request.u32();
  const names = request.u16();
  if (!request.whole() || names > MAX_WALK || newNumber === NO_FID) return -EINVAL;
  const fid = share.fids.get(number);
  if (fid === undefined) return -EBADF;
  if (fid.attribute !== null || (newNumber === number && fid.file >= 0)) return -EINVAL;
  if (newNumber !== number && share.fids.get(newNumber) !== undefined) return -EINVAL;
  const countAt = reply.at;
  reply.u16(0);
  let at = fid.place;
  for (let walked = 0; walked < names; walked++) {
    const name = request.string();
    const next = request.whole() ? step(share, at, name) : -EINVAL;
    share.drop(at);
    if (typeof next === 'number') return walked === 0 || !request.whole() ? next : 0;
    share.status.putQid(reply);
    const end = reply.at;
    reply.at = countAt;
    reply.u16(walked + 1);
    reply.at = end;
    at = next;
  }
  if (newNumber === number) {
    if (at !== fid.place) share.fids.move(fid, at);
    return 0;
  }
  const failed = share.fids.add(newNumber, at);
  if (failed < 0) share.drop(at);
  return failed;
}

/** Tclunk: fid[4]. An attribute that was written through the fid is set now. */
export function clunk({ share, request }: Call): number {
  const number = request.u32();
  const fid = request.whole() ? share.fids.get(number) : undefined;
  if (fid === undefined) return -EBADF;
  const result = setAttribute(fid);
  share.fids.remove(number);
  return result;
}

function setAttribute({ place, attribute }: Fid): number {
  if (attribute === null || attribute.name === null) return 0;
  if (attribute.written !== attribute.value.length) return -EIO;
  // Linux removes an attribute by replacing it with nothing.
  if (attribute.value.length === 0 && attribute.flags === XATTR_REPLACE) return removeXattr(place.fd, attribute.name);
  return setXattr(place.fd, attribute.name, attribute.value, attribute.flags);
}

/** Tremove: fid[4]. The fid is gone even when the file is not. Linux sends Tunlinkat instead. */
export function remove({ share, request }: Call): number {
  const number = request.u32();
  const fid = request.whole() ? share.fids.get(number) : undefined;
  if (fid === undefined) return -EBADF;
  const result = share.readonly ? -EROFS : fid.attribute !== null ? -EINVAL : unlink(share, fid.place);
  share.fids.remove(number);
  return result;
}

function unlink(share: Share, place: Place): number {
  const where = share.locate(place);
  if (typeof where === 'number') return where;
  const result = unlinkAt(where.folder.fd, where.name, place.type === S_IFDIR ? AT_REMOVEDIR : 0);
  share.drop(where.folder);
  return result;
}
