// Names are made and changed: mkdir, symlink, mknod, link, rename, renameat, unlinkat; and what a symbolic link says.
// A link's target is the guest's own text. The server never follows one.
import { constants as fsConstants } from 'node:fs';
import { constants } from 'node:os';
import { AT_REMOVEDIR, linkTo, mkdirAt, mknodAt, readlinkOf, renameAt, statxAt, symlinkAt, unlinkAt } from './files.ts';
import type { Place } from './fids.ts';
import { PATH_MAX, UNLINKAT_REMOVEDIR } from './protocol.ts';
import type { Call } from './request.ts';
import { badName } from './share.ts';
import type { Share } from './share.ts';
import { STATX_QID } from './status.ts';

const { EBADF, EINVAL, ENAMETOOLONG, ENOTDIR, EPERM, EROFS } = constants.errno;
const { S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } = { ...fsConstants };
const PERMISSIONS = 0o7777;
const S_ISGID = 0o2000;

/** The folder that a fid is at, for a change in it. @returns minus an error number when nothing may be changed there */
function folderOf(share: Share, number: number): Place | number {
  const fid = share.fids.get(number);
  if (fid === undefined || fid.attribute !== null) return -EBADF;
  if (share.readonly) return -EROFS;
  return fid.place.type === S_IFDIR ? fid.place : -ENOTDIR;
}

/** The qid of what was just made under a name, with the permissions that the guest asked for. */
function putMade({ share, reply }: Call, folder: Place, name: Uint8Array, type: number, mode: number): number {
  if (type === S_IFLNK || !share.cutsMode(mode)) {
    const failed = statxAt(folder.fd, name, STATX_QID, share.status.bytes);
    if (failed < 0) return failed;
  } else {
    const place = share.find(folder, name);
    if (typeof place === 'number') return place;
    if (place.type === type) share.restoreMode(place, mode, type === S_IFDIR ? share.status.mode & S_ISGID : 0);
    share.drop(place);
  }
  share.status.putQid(reply);
  return 0;
}

/** Tmkdir: dfid[4] name[s] mode[4] gid[4] -> qid[13]. */
export function mkdir(call: Call): number {
  const { share, request } = call;
  const number = request.u32();
  const name = request.string();
  const mode = request.u32() & PERMISSIONS;
  request.u32();
  if (!request.whole()) return -EINVAL;
  const folder = folderOf(share, number);
  if (typeof folder === 'number') return folder;
  const failed = badName(name) || mkdirAt(folder.fd, name, mode);
  return failed < 0 ? failed : putMade(call, folder, name, S_IFDIR, mode);
}

/** Tsymlink: dfid[4] name[s] symtgt[s] gid[4] -> qid[13]. */
export function symlink(call: Call): number {
  const { share, request } = call;
  const number = request.u32();
  const name = request.string();
  const target = request.string();
  request.u32();
  if (!request.whole() || target.includes(0)) return -EINVAL;
  const folder = folderOf(share, number);
  if (typeof folder === 'number') return folder;
  const failed = badName(name) || symlinkAt(target, folder.fd, name);
  return failed < 0 ? failed : putMade(call, folder, name, S_IFLNK, 0);
}

/** Tmknod: dfid[4] name[s] mode[4] major[4] minor[4] gid[4] -> qid[13]. Fifos, sockets, regular files; a device of the host is nothing that a guest makes. */
export function mknod(call: Call): number {
  const { share, request } = call;
  const number = request.u32();
  const name = request.string();
  const mode = request.u32();
  request.u32();
  request.u32();
  request.u32();
  if (!request.whole()) return -EINVAL;
  const folder = folderOf(share, number);
  if (typeof folder === 'number') return folder;
  const type = (mode & S_IFMT) === 0 ? S_IFREG : mode & S_IFMT;
  if (type !== S_IFREG && type !== S_IFIFO && type !== S_IFSOCK) return -EPERM;
  const failed = badName(name) || mknodAt(folder.fd, name, type | (mode & PERMISSIONS));
  return failed < 0 ? failed : putMade(call, folder, name, type, mode & PERMISSIONS);
}

/** Tlink: dfid[4] fid[4] name[s]. */
export function link({ share, request }: Call): number {
  const number = request.u32();
  const target = request.u32();
  const name = request.string();
  if (!request.whole()) return -EINVAL;
  const folder = folderOf(share, number);
  if (typeof folder === 'number') return folder;
  const fid = share.fids.get(target);
  if (fid === undefined || fid.attribute !== null) return -EBADF;
  if (fid.place.type === S_IFDIR) return -EPERM;
  return badName(name) || linkTo(share.procFd, fid.place.fd, folder.fd, name);
}

/** Trename: fid[4] dfid[4] name[s]. Linux sends Trenameat instead. */
export function rename({ share, request }: Call): number {
  const number = request.u32();
  const folderNumber = request.u32();
  const name = request.string();
  if (!request.whole()) return -EINVAL;
  const fid = share.fids.get(number);
  if (fid === undefined || fid.attribute !== null) return -EBADF;
  const folder = folderOf(share, folderNumber);
  if (typeof folder === 'number') return folder;
  const bad = badName(name);
  if (bad < 0) return bad;
  const where = share.locate(fid.place);
  if (typeof where === 'number') return where;
  const result = renameAt(where.folder.fd, where.name, folder.fd, name);
  share.drop(where.folder);
  return result;
}

/** Trenameat: olddirfid[4] oldname[s] newdirfid[4] newname[s]. */
export function renameat({ share, request }: Call): number {
  const number = request.u32();
  const name = request.string();
  const newNumber = request.u32();
  const newName = request.string();
  if (!request.whole()) return -EINVAL;
  const folder = folderOf(share, number);
  if (typeof folder === 'number') return folder;
  const newFolder = folderOf(share, newNumber);
  if (typeof newFolder === 'number') return newFolder;
  return badName(name) || badName(newName) || renameAt(folder.fd, name, newFolder.fd, newName);
}

/** Tunlinkat: dirfd[4] name[s] flags[4]. */
export function unlinkat({ share, request }: Call): number {
  const number = request.u32();
  const name = request.string();
  const flags = request.u32();
  if (!request.whole() || (flags & ~UNLINKAT_REMOVEDIR) !== 0) return -EINVAL;
  const folder = folderOf(share, number);
  if (typeof folder === 'number') return folder;
  return badName(name) || unlinkAt(folder.fd, name, flags === 0 ? 0 : AT_REMOVEDIR);
}

const target = new Uint8Array(PATH_MAX);

/** Treadlink: fid[4] -> target[s]. */
export function readlink({ share, request, reply }: Call): number {
  const number = request.u32();
  if (!request.whole()) return -EINVAL;
  const fid = share.fids.get(number);
  if (fid === undefined) return -EBADF;
  if (fid.place.type !== S_IFLNK) return -EINVAL;
  const length = readlinkOf(fid.place.fd, target);
  if (length < 0) return length;
  if (length === PATH_MAX) return -ENAMETOOLONG;
  reply.string(target.subarray(0, length));
  return 0;
}
