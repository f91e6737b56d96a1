// One folder of the host that a guest may use, and the ways to a file in it. No way leads out: a file is reached from the descriptor of a folder by
// one name (openat2 with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and RESOLVE_NO_MAGICLINKS), never by a path that a guest gave; `..` and the calls of
// the protocol that name a file by its fid alone ask the kernel where that file is now, and go there from the share's folder the same way.
//
// Files are made as the user who runs the machine, and owned by that user. Owners and groups are shown to the guest as they are, and nothing is
// mapped: what is 1000 on the host is 1000 in the guest. The host's kernel decides what that user may do; the guest's kernel decides before that,
// by the same numbers, what a process there may. A guest's chown does what that user's would: nobody but root gives files away (EPERM).
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { VitrineError } from '../../shared/errors.ts';
import { errnoName } from '../kvm/libc.ts';
import { Fids } from './fids.ts';
import type { FidLimits, Place } from './fids.ts';
import { chmodOf, close, currentPath, descriptorLimit, O_DIRECTORY, O_NOFOLLOW, O_PATH, openBeneath, openFolder, reopen, statfsOf, statxOf } from './files.ts';
import { NAME_MAX, PATH_MAX } from './protocol.ts';
import { Devices, Status, STATX_ALL, STATX_QID } from './status.ts';

const { EBUSY, EEXIST, EINVAL, EMFILE, ENAMETOOLONG, ENOENT, ENOSYS, EPERM } = constants.errno;

/** A share may have this part of the process's descriptors: a guest with several must not keep the machine itself from opening what it needs. */
const SHARE_OF_DESCRIPTORS = 16;
const MIN_DESCRIPTORS = 256;
const PROC_MAGIC = 0x9fa0;
const SLASH = 0x2f;
const DOT = 0x2e;
const DOT_NAME = new Uint8Array([DOT]);

export interface ShareOptions {
  /** The folder's path; symbolic links in it are followed, once, now. */
  readonly folder: string;
  readonly readonly: boolean;
  /** Less than what the process's limit of descriptors allows, for tests. */
  readonly limits?: Partial<FidLimits>;
}

export class Share {
  readonly readonly: boolean;
  readonly fids: Fids;
  readonly devices = new Devices();
  /** Of the file that was looked at last. */
  readonly status = new Status(this.devices);
  /** Of /proc/self/fd. */
  readonly procFd: number;
  readonly #other = new Status(this.devices);
  readonly #root: number;
  readonly #paths = [new Uint8Array(PATH_MAX), new Uint8Array(PATH_MAX)] as const;
  /** Permissions that the process takes from every file it makes: given back, the guest has applied its own umask. */
  readonly #umask: number;

  /** Throws VitrineError: no such folder, no permission, or a host that cannot keep a guest inside it. */
  constructor(options: ShareOptions) {
    this.readonly = options.readonly;
    const fail = (why: string, remedy: string, code: string): never => {
      throw new VitrineError({ attempted: 'share a folder', on: options.folder, why, remedy, code });
    };
    const room = descriptorLimit();
    this.fids = new Fids({ descriptors: Math.max(MIN_DESCRIPTORS, Math.floor(room / SHARE_OF_DESCRIPTORS)), fids: 2 ** 18, attributeBytes: 2 ** 20, ...options.limits });
    const root = openFolder(options.folder);
    if (root < 0) {
      const name = errnoName(-root);
      if (name === 'ENOENT') fail('there is no such folder.', 'Make the folder, or share another one.', 'share-missing');
      if (name === 'ENOTDIR') fail('this is no folder.', 'Share a folder.', 'share-no-folder');
      fail(`the folder cannot be opened (${name}).`, 'Give the user who runs the machine the right to enter it.', 'share-refused');
    }
    this.#root = root;
    this.procFd = openFolder('/proc/self/fd');
    const statfs = new Uint8Array(120);
    if (this.procFd < 0 || statfsOf(this.procFd, statfs) < 0 || new DataView(statfs.buffer).getUint32(0, true) !== PROC_MAGIC) {
      fail('/proc is not mounted.', 'Run Vitrine where /proc is the kernel\'s.', 'share-no-proc');
    }
    const probe = openBeneath(root, DOT_NAME, O_PATH | O_DIRECTORY);
    if (probe === -ENOSYS || probe === -EPERM) {
      fail('the kernel has no openat2, which keeps a guest inside the folder.', 'Use Linux 5.6 or newer, and a sandbox that permits openat2.', 'share-no-openat2');
    }
    if (probe >= 0) close(probe);
    statxOf(root, STATX_QID, this.status.bytes);
    this.devices.prefix(this.status.device); // the share's own file system is the first: its inode numbers are shown as they are
    this.#umask = Number.parseInt(/^Umask:\s*([0-7]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '022', 8);
  }

  /** The share's folder, or the folder `path` in it, for a fid. @returns a place with no fid yet, or minus an error number */
  attach(path: Uint8Array): Place | number {
    let from = 0;
    while (path[from] === SLASH) from++;
    const relative = from === path.length ? DOT_NAME : path.subarray(from);
    if (!this.fids.mayOpen()) return -EMFILE;
    const fd = openBeneath(this.#root, relative, O_PATH | O_DIRECTORY);
    return fd < 0 ? fd : this.#placeOf(fd);
  }

  /** The file `name` in a folder. `status` is then its. @returns a place with no fid yet, or minus an error number */
  find(folder: Place, name: Uint8Array): Place | number {
    if (!this.fids.mayOpen()) return -EMFILE;
    const fd = openBeneath(folder.fd, name, O_PATH | O_NOFOLLOW);
    return fd < 0 ? fd : this.#placeOf(fd);
  }

  /** What the file is like now, in `status`. @returns 0, or minus an error number */
  look(place: Place): number {
    return statxOf(place.fd, STATX_ALL, this.status.bytes);
  }

  /** Counts `fd` and makes a place of it; closes it when it cannot be looked at. */
  #placeOf(fd: number): Place | number {
    this.fids.opened();
    return this.adopt(fd);
  }

  /** A place for a descriptor that was counted. `status` is then its. */
  adopt(fd: number): Place | number {
    const failed = statxOf(fd, STATX_ALL, this.status.bytes);
    if (failed < 0) {
      this.fids.close(fd);
      return failed;
    }
    return this.fids.place(fd, this.status.type, this.status.devicePrefix);
  }

  /** Forgets a place that no fid has. */
  drop(place: Place): void {
    if (place.fids === 0) this.fids.close(place.fd);
  }

  /** Opens a regular file or a folder for reading or writing; counted. @returns a descriptor, or minus an error number */
  open(place: Place, flags: number): number {
    if (!this.fids.mayOpen()) return -EMFILE;
    const fd = reopen(this.procFd, place.fd, flags);
    if (fd >= 0) this.fids.opened();
    return fd;
  }

  /** Whether it is the share's own folder, whose name is the host's affair. */
  isRoot(place: Place): boolean {
    return statxOf(place.fd, STATX_QID, this.status.bytes) === 0 && statxOf(this.#root, STATX_QID, this.#other.bytes) === 0 && this.status.sameFile(this.#other);
  }

  /** The folder that a folder is in; of the share's folder, itself. */
  parent(folder: Place): Place | number {
    if (this.isRoot(folder)) return this.attach(DOT_NAME);
    const where = this.#where(folder);
    return typeof where === 'number' ? where : this.attach(where.folder);
  }

  /**
   * The folder that holds a file, and the file's name there: as they are now, whoever renamed what. A file that is gone has none.
   * The caller drops the folder. The name is scratch memory.
   */
  locate(place: Place): { folder: Place; name: Uint8Array } | number {
    if (this.isRoot(place)) return -EBUSY;
    const where = this.#where(place);
    if (typeof where === 'number') return where;
    const folder = this.attach(where.folder);
    if (typeof folder === 'number') return folder;
    const found = this.find(folder, where.name);
    if (typeof found !== 'number') {
      const same = statxOf(place.fd, STATX_QID, this.#other.bytes) === 0 && this.status.sameFile(this.#other);
      this.drop(found);
      if (same) return { folder, name: where.name };
    }
    this.drop(folder);
    return -ENOENT;
  }

  #where(place: Place): { folder: Uint8Array; name: Uint8Array } | number {
    const top = currentPath(this.procFd, this.#root, this.#paths[0]);
    const full = currentPath(this.procFd, place.fd, this.#paths[1]);
    if (top < 0 || full < 0) return Math.min(top, full);
    if (top === PATH_MAX || full === PATH_MAX) return -ENAMETOOLONG;
    const path = this.#paths[1].subarray(0, full);
    const from = top === 1 ? 0 : top; // "/" ends in its slash, no other folder does
    for (let i = 0; i < from; i++) if (path[i] !== this.#paths[0][i]) return -ENOENT;
    if (path[from] !== SLASH) return -ENOENT;
    const last = path.lastIndexOf(SLASH);
    return { folder: last === from ? DOT_NAME : path.subarray(from + 1, last), name: path.subarray(last + 1) };
  }

  /** Gives a file that was just made the permissions that the process's umask took from it. */
  restoreMode(place: Place, wanted: number, inherited = 0): void {
    if ((wanted & this.#umask) !== 0) chmodOf(this.procFd, place.fd, wanted | inherited);
  }

  /** Whether `restoreMode` would do something. */
  cutsMode(wanted: number): boolean {
    return (wanted & this.#umask) !== 0;
  }

  dispose(): void {
    this.fids.clear();
    close(this.#root);
    close(this.procFd);
  }
}

/** Whether a name may be made, removed or renamed: one component, and none that names a folder by its position. @returns 0, or minus an error number */
export function badName(name: Uint8Array): number {
  if (name.length === 0) return -ENOENT;
  if (name.length > NAME_MAX) return -ENAMETOOLONG;
  if (name.includes(SLASH) || name.includes(0)) return -EINVAL;
  return isDot(name) || isDotDot(name) ? -EEXIST : 0;
}

export const isDot = (name: Uint8Array): boolean => name.length === 1 && name[0] === DOT;
export const isDotDot = (name: Uint8Array): boolean => name.length === 2 && name[0] === DOT && name[1] === DOT;
