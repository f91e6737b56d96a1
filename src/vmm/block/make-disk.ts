// Making, overlaying, resizing and describing disk images: for the CLI and the app. Synchronous; quick but for a shrink of a large image.
import { rmSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { statSync } from 'node:fs';
import { SystemError } from '../kvm/libc.ts';
import type { FileIo } from '../io/file-io.ts';
import { PlainFileIo } from '../io/plain-file-io.ts';
import { VitrineError } from '../../shared/errors.ts';
import { probeFormat, type DiskFormat } from './formats.ts';
import { HostFile, imageError } from './host-file.ts';
import { backingFormat, backingPath, openDisk } from './open-disk.ts';
import { buildHeader, CORRUPT, DIRTY, MAX_CLUSTER_BITS, MIN_CLUSTER_BITS, readHeader, setU64 } from './qcow2/header.ts';
import { Qcow2Image } from './qcow2/image.ts';
import { Corruption } from './qcow2/metadata.ts';
import { readSnapshots } from './qcow2/snapshots.ts';

const SECTOR = 512;
const DEFAULT_CLUSTER = 65536;
const DEFAULT_REFCOUNT_BITS = 16;

export interface Qcow2Shape {
  /** A power of two from 512 to 2 MiB. */
  readonly clusterBytes?: number;
  readonly version?: 2 | 3;
  /** A power of two from 1 to 64; 16 in version 2. */
  readonly refcountBits?: number;
}

export interface NewDisk extends Qcow2Shape {
  readonly path: string;
  readonly format: DiskFormat;
  /** Of the disk; rounded up to 512. */
  readonly bytes: number;
}

export interface NewOverlay extends Qcow2Shape {
  readonly path: string;
  /** The image that is to stay as it is. */
  readonly backing: string;
  /** Found out when it is not said; recorded in any case. */
  readonly backingFormat?: DiskFormat;
  /** As large as the backing file's disk unless said. */
  readonly bytes?: number;
}

const MAKING = 'make the disk image';

function withIo<T>(attempted: string, path: string, body: (io: FileIo) => T): T {
  const io = new PlainFileIo();
  try {
    return body(io);
  } catch (thrown) {
    if (thrown instanceof Corruption) throw imageError(attempted, path, `it is damaged: ${thrown.message}.`, 'Look at it with: qemu-img check', 'image-damaged');
    const code = (thrown as NodeJS.ErrnoException).code;
    if (thrown instanceof VitrineError || code === undefined) throw thrown;
    const words: Record<string, string> = { ENOSPC: 'there is no room left on its file system.', EFBIG: 'a file of this size is not possible there.', EDQUOT: 'your quota is used up.', EACCES: 'you may not write there.', EROFS: 'its file system is read-only.', ENOENT: 'there is no such folder.' };
    throw imageError(attempted, path, words[code] ?? `the system says ${code}.`, '', 'image-io');
  } finally {
    io.close();
  }
}

function checkSize(path: string, bytes: number): number {
  const size = Math.ceil(bytes / SECTOR) * SECTOR;
  if (Number.isSafeInteger(size) && size > 0) return size;
  throw imageError(MAKING, path, `${bytes} bytes is no size for a disk.`, '', 'image-size');
}

/** Makes a new file; takes it away again when that fails half-way. */
function makeFile(path: string, body: (file: HostFile, io: FileIo) => void): void {
  withIo(MAKING, path, (io) => {
    const file = HostFile.open(path, { io, write: true, lock: 'write', create: true });
    let made = false;
    try {
      body(file, io);
      made = true;
    } finally {
      file.close();
      if (!made) rmSync(path, { force: true });
    }
  });
}

/** Makes a disk image that reads as zeros and takes no space yet. Throws VitrineError; an existing file is never touched. */
export function createDisk(disk: NewDisk): void {
  const bytes = checkSize(disk.path, disk.bytes);
  if (disk.format === 'raw') makeFile(disk.path, (file) => file.truncate(bytes));
  else makeQcow2(disk.path, bytes, disk, null);
}

/** Makes an image that shows another one, and takes all that is written. Throws VitrineError. */
export function createOverlay(overlay: NewOverlay): void {
  const backing = resolve(overlay.backing);
  const base = withIo(MAKING, overlay.path, (io) => {
    const disk = openDisk(backing, { io, readonly: true, format: overlay.backingFormat });
    const found = { bytes: disk.bytes, format: disk.format };
    disk.close();
    return found;
  });
  const path = resolve(overlay.path);
  // Two files in one folder may move together.
  const name = dirname(path) === dirname(backing) && !basename(backing).includes(':') ? basename(backing) : backing;
  makeQcow2(path, checkSize(path, overlay.bytes ?? base.bytes), overlay, { name, format: base.format });
}

function makeQcow2(path: string, bytes: number, shape: Qcow2Shape, backing: { name: string; format: DiskFormat } | null): void {
  const clusterBytes = shape.clusterBytes ?? DEFAULT_CLUSTER;
  const clusterBits = Math.log2(clusterBytes);
  const refcountOrder = Math.log2(shape.refcountBits ?? DEFAULT_REFCOUNT_BITS);
  const version = shape.version ?? 3;
  if (!Number.isInteger(clusterBits) || clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) throw imageError(MAKING, path, `clusters of ${clusterBytes} bytes are not possible.`, 'Take a power of two from 512 to 2097152.', 'image-shape');
  if (!Number.isInteger(refcountOrder) || refcountOrder < 0 || refcountOrder > 6 || (version === 2 && refcountOrder !== 4)) throw imageError(MAKING, path, `reference counts of ${shape.refcountBits} bits are not possible.`, 'Take 16.', 'image-shape');
  const length = backing === null ? 0 : new TextEncoder().encode(backing.name).length;
  if (length > 1023 || length + 160 > clusterBytes) throw imageError(MAKING, path, 'the path of the backing file is too long for the header.', 'Put both into one folder.', 'image-shape');
  makeFile(path, (file, io) => {
    // Header, table of refcounts, one block of refcounts; then it is a disk of no size, and grows as any other.
    const table = new Uint8Array(clusterBytes);
    setU64(new DataView(table.buffer), 0, 2 * clusterBytes);
    const counts = new Uint8Array(clusterBytes);
    for (let cluster = 0; cluster < 3; cluster++) setCount(counts, refcountOrder, cluster);
    file.writeNow(clusterBytes, table);
    file.writeNow(2 * clusterBytes, counts);
    file.writeNow(0, buildHeader({ version, clusterBits, refcountOrder, l1Offset: 0, reftableOffset: clusterBytes, backing }));
    const own = HostFile.open(path, { io, write: true, lock: 'none' });
    const image = Qcow2Image.open(own, readHeader(own), null, { readonly: false });
    let errno: number;
    try {
      image.resize(bytes);
    } finally {
      errno = image.close();
    }
    if (errno !== 0) throw new SystemError(`write ${path}`, errno);
  });
}

/** A count of 1. */
function setCount(block: Uint8Array, order: number, i: number): void {
  const bits = 2 ** order;
  if (bits < 8) block[Math.floor((i * bits) / 8)]! |= 1 << ((i * bits) % 8);
  else block[((i + 1) * bits) / 8 - 1] = 1;
}

export interface Resize {
  readonly path: string;
  readonly format?: DiskFormat;
  readonly bytes: number;
  /** What lies behind the new end is lost: that must be said. */
  readonly shrink?: boolean;
}

/** Changes the size of a disk that no machine has open. Throws VitrineError. */
export function resizeDisk(change: Resize): void {
  const attempted = 'change the size of the disk image';
  const { path } = change;
  const bytes = checkSize(path, change.bytes);
  withIo(attempted, path, (io) => {
    const disk = openDisk(path, { io, readonly: false, format: change.format });
    let errno: number;
    try {
      if (bytes < disk.bytes && change.shrink !== true) {
        throw imageError(attempted, path, `it has ${disk.bytes} bytes, and ${bytes} is less: what lies behind would be lost.`, 'Make the file systems in it smaller first, then say that it is to shrink.', 'image-shrink');
      }
      if (disk instanceof Qcow2Image) disk.resize(bytes);
      else resizeRaw(path, io, bytes, attempted);
    } finally {
      errno = disk.close();
    }
    if (errno !== 0) throw new SystemError(`write ${path}`, errno);
  });
}

/** The lock is held by the caller's open disk. */
function resizeRaw(path: string, io: FileIo, bytes: number, attempted: string): void {
  if (statSync(path).isBlockDevice()) throw imageError(attempted, path, 'it is a block device.', 'Change its size where it was made (LVM, the partition table).', 'image-not-resized');
  const file = HostFile.open(path, { io, write: true, lock: 'none' });
  try {
    file.truncate(bytes);
    file.syncNow();
  } finally {
    file.close();
  }
}

export interface DiskDescription {
  readonly path: string;
  readonly format: DiskFormat;
  /** Of the disk. */
  readonly bytes: number;
  /** What the file takes on its file system; null for a block device. */
  readonly allocatedBytes: number | null;
  readonly qcow2: null | {
    readonly version: 2 | 3;
    readonly clusterBytes: number;
    readonly refcountBits: number;
    readonly compression: 'deflate' | 'zstd';
    readonly dirty: boolean;
    readonly corrupt: boolean;
    readonly snapshots: readonly { readonly id: string; readonly name: string; readonly seconds: number }[];
    readonly backing: null | { readonly path: string; readonly format: DiskFormat | null };
  };
}

/** What an image is, without its lock: also of one that a machine has open. Throws VitrineError. */
export function describeDisk(path: string, format?: DiskFormat): DiskDescription {
  return withIo('look at the disk image', path, (io) => {
    const file = HostFile.open(path, { io, write: false, lock: 'none' });
    try {
      const found = format ?? probeFormat(file);
      const allocatedBytes = file.isDevice ? null : statSync(path).blocks * SECTOR;
      if (found === 'raw') return { path, format: found, bytes: Math.ceil(file.size() / SECTOR) * SECTOR, allocatedBytes, qcow2: null };
      const header = readHeader(file);
      return {
        path, format: found, bytes: Math.ceil(header.size / SECTOR) * SECTOR, allocatedBytes,
        qcow2: {
          version: header.version, clusterBytes: header.clusterBytes, refcountBits: 2 ** header.refcountOrder, compression: header.compression,
          dirty: (header.incompatible & DIRTY) !== 0, corrupt: (header.incompatible & CORRUPT) !== 0,
          snapshots: readSnapshots(file, header).list.map(({ id, name, seconds }) => ({ id, name, seconds })),
          backing: header.backingFile === null ? null : { path: backingPath(path, header), format: backingFormat(path, header) ?? null },
        },
      };
    } finally {
      file.close();
    }
  });
}
