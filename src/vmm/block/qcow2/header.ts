// The header of a qcow2 image (QEMU's docs/interop/qcow2.txt): everything in it comes from a file that may be hostile, and is checked here.
// Refused in words: encryption, an external data file, extended L2 entries, and features that nobody here knows.
import { imageError, type HostFile } from '../host-file.ts';

export const MAGIC = 0x5146_49fb;

// Offsets in the header; all numbers are big-endian.
export const VERSION = 4;
export const BACKING_OFFSET = 8;
export const BACKING_SIZE = 16;
export const CLUSTER_BITS = 20;
export const DISK_SIZE = 24;
export const CRYPT_METHOD = 32;
export const L1_SIZE = 36;
export const L1_OFFSET = 40;
export const REFTABLE_OFFSET = 48;
export const REFTABLE_CLUSTERS = 56;
export const SNAPSHOTS = 60;
export const SNAPSHOTS_OFFSET = 64;
// Version 3
export const INCOMPATIBLE = 72;
export const COMPATIBLE = 80;
export const AUTOCLEAR = 88;
export const REFCOUNT_ORDER = 96;
export const HEADER_LENGTH = 100;
export const COMPRESSION = 104;

export const V2_LENGTH = 72;
export const V3_LENGTH = 104;

// Incompatible features
export const DIRTY = 1;
export const CORRUPT = 2;
const EXTERNAL_DATA = 4;
const COMPRESSION_TYPE = 8;
const EXTENDED_L2 = 16;
// Autoclear features
export const BITMAPS = 1;

// Header extensions
export const EXT_END = 0;
export const EXT_BACKING_FORMAT = 0xe279_2aca;
export const EXT_FEATURE_NAMES = 0x6803_f857;
export const EXT_BITMAPS = 0x2385_2875;

export const MIN_CLUSTER_BITS = 9;
export const MAX_CLUSTER_BITS = 21;
/** Bytes of the largest tables that are accepted, as in QEMU. */
export const MAX_L1_BYTES = 32 * 2 ** 20;
export const MAX_REFTABLE_BYTES = 8 * 2 ** 20;
const MAX_SNAPSHOTS = 65536;
const MAX_BACKING_NAME = 1023;

export interface Qcow2Header {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly clusterBytes: number;
  /** Of the disk, in bytes. */
  readonly size: number;
  readonly l1Entries: number;
  readonly l1Offset: number;
  readonly reftableOffset: number;
  readonly reftableClusters: number;
  readonly refcountOrder: number;
  readonly snapshots: number;
  readonly snapshotsOffset: number;
  readonly incompatible: number;
  readonly compatible: number;
  /** Whether any autoclear feature is set. */
  readonly autoclear: number;
  readonly autoclearHigh: number;
  readonly compression: 'deflate' | 'zstd';
  readonly backingFile: string | null;
  readonly backingFormat: string | null;
  /** The bitmaps extension, when it is there and valid by its autoclear bit. */
  readonly bitmaps: { readonly count: number; readonly directoryBytes: number; readonly directoryOffset: number } | null;
}

/** A 64-bit number; anything that a float64 does not hold exactly becomes Infinity, which no check lets through. */
export function u64(view: DataView, at: number): number {
  const value = view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
  return Number.isSafeInteger(value) ? value : Infinity;
}

export function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 2 ** 32));
  view.setUint32(at + 4, value % 2 ** 32);
}

/** Entries of the L1 table that a disk of this size needs. */
export function l1EntriesFor(size: number, clusterBits: number): number {
  return Math.ceil(size / 2 ** (2 * clusterBits - 3));
}

const REPAIR = 'Restore it from a copy, or look at it with: qemu-img check';

/** Reads and checks the header. Throws VitrineError. */
export function readHeader(file: HostFile): Qcow2Header {
  const damaged = (why: string): never => {
    throw imageError('open the disk image', file.path, `it is damaged: ${why}.`, REPAIR, 'image-damaged');
  };
  const refuse = (why: string, remedy: string): never => {
    throw imageError('open the disk image', file.path, why, remedy, 'image-feature');
  };
  const fileSize = file.size();
  if (fileSize < V2_LENGTH) damaged('it ends within its header');
  const start = file.readNow(0, 112);
  const view = new DataView(start.buffer);
  if (view.getUint32(0) !== MAGIC) damaged('it does not begin as a qcow2 image does');
  const version = view.getUint32(VERSION);
  if (version !== 2 && version !== 3) refuse(`it is of qcow2's version ${version}, and versions 2 and 3 are known.`, '');
  const clusterBits = view.getUint32(CLUSTER_BITS);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) damaged(`its clusters are of 2 to the power of ${clusterBits} bytes`);
  const clusterBytes = 2 ** clusterBits;

  let headerLength = V2_LENGTH;
  let incompatible = 0;
  let compatible = 0;
  let autoclear = 0;
  let autoclearHigh = 0;
  let refcountOrder = 4;
  let compression = 0;
  if (version === 3) {
    headerLength = view.getUint32(HEADER_LENGTH);
    if (headerLength < V3_LENGTH || headerLength > clusterBytes || headerLength % 8 !== 0) damaged(`its header's length is ${headerLength}`);
    incompatible = view.getUint32(INCOMPATIBLE + 4);
    compatible = view.getUint32(COMPATIBLE + 4);
    autoclear = view.getUint32(AUTOCLEAR + 4);
    autoclearHigh = view.getUint32(AUTOCLEAR);
    refcountOrder = view.getUint32(REFCOUNT_ORDER);
    if (refcountOrder > 6) damaged(`its reference counts are of 2 to the power of ${refcountOrder} bits`);
    if (headerLength > COMPRESSION) compression = view.getUint8(COMPRESSION);
  }
  if (view.getUint32(CRYPT_METHOD) !== 0) refuse('it is encrypted.', `Decrypt it: qemu-img convert -O qcow2 … ${file.path} COPY`);
  if ((incompatible & EXTERNAL_DATA) !== 0) refuse('its data lies in a file of its own.', `Make one file of it: qemu-img convert -O qcow2 ${file.path} COPY`);
  if ((incompatible & EXTENDED_L2) !== 0) refuse('it has extended L2 entries (subclusters).', `Convert it: qemu-img convert -O qcow2 ${file.path} COPY`);
  const unknown = (incompatible & ~(DIRTY | CORRUPT | COMPRESSION_TYPE)) >>> 0;
  if (version === 3 && (unknown !== 0 || view.getUint32(INCOMPATIBLE) !== 0)) refuse('it has features that are not known here.', `Convert it: qemu-img convert -O qcow2 ${file.path} COPY`);
  if (compression > 1) refuse(`its clusters are compressed by method ${compression}; 0 (deflate) and 1 (zstd) are known.`, `Convert it: qemu-img convert -O qcow2 ${file.path} COPY`);
  if ((compression !== 0) !== ((incompatible & COMPRESSION_TYPE) !== 0)) damaged('its compression method contradicts its features');

  const inFile = (what: string, offset: number, bytes: number): void => {
    if (offset % clusterBytes !== 0 || offset < clusterBytes || offset >= fileSize || offset + bytes > 2 ** 53) damaged(`its ${what} is said to lie at ${offset}, in a file of ${fileSize} bytes`);
  };
  const size = u64(view, DISK_SIZE);
  if (!Number.isFinite(size)) damaged('its disk has an impossible size');
  const l1Entries = view.getUint32(L1_SIZE);
  if (l1Entries > MAX_L1_BYTES / 8) damaged(`its L1 table has ${l1Entries} entries`);
  if (l1Entries < l1EntriesFor(size, clusterBits)) damaged('its L1 table is too small for its size');
  const l1Offset = u64(view, L1_OFFSET);
  if (l1Entries > 0) inFile('L1 table', l1Offset, l1Entries * 8);
  const reftableOffset = u64(view, REFTABLE_OFFSET);
  const reftableClusters = view.getUint32(REFTABLE_CLUSTERS);
  if (reftableClusters === 0) damaged('it has no table of reference counts');
  if (reftableClusters > MAX_REFTABLE_BYTES / clusterBytes) damaged(`its table of reference counts has ${reftableClusters} clusters`);
  inFile('table of reference counts', reftableOffset, reftableClusters * clusterBytes);
  const snapshots = view.getUint32(SNAPSHOTS);
  const snapshotsOffset = u64(view, SNAPSHOTS_OFFSET);
  if (snapshots > MAX_SNAPSHOTS) damaged(`it claims ${snapshots} snapshots`);
  if (snapshots > 0) inFile('table of snapshots', snapshotsOffset, 1);

  const backingOffset = u64(view, BACKING_OFFSET);
  const backingSize = view.getUint32(BACKING_SIZE);
  let backingFile: string | null = null;
  if (backingOffset !== 0) {
    if (backingSize === 0 || backingSize > MAX_BACKING_NAME || backingOffset < headerLength || backingOffset + backingSize > clusterBytes) damaged('the name of its backing file lies outside its first cluster');
    backingFile = new TextDecoder().decode(file.readNow(backingOffset, backingSize));
    if (backingFile.includes('\0')) damaged('the name of its backing file has a zero byte');
  }
  const { backingFormat, bitmaps } = readExtensions(file, headerLength, backingOffset !== 0 ? backingOffset : clusterBytes, damaged);
  return {
    version: version as 2 | 3, clusterBits, clusterBytes, size, l1Entries, l1Offset, reftableOffset, reftableClusters, refcountOrder, snapshots, snapshotsOffset,
    incompatible, compatible, autoclear, autoclearHigh, compression: compression === 1 ? 'zstd' : 'deflate', backingFile, backingFormat,
    bitmaps: (autoclear & BITMAPS) !== 0 ? bitmaps : null,
  };
}

function readExtensions(file: HostFile, from: number, to: number, damaged: (why: string) => never): Pick<Qcow2Header, 'backingFormat' | 'bitmaps'> {
  let backingFormat: string | null = null;
  let bitmaps: Qcow2Header['bitmaps'] = null;
  const bytes = file.readNow(from, Math.max(to - from, 0));
  const view = new DataView(bytes.buffer);
  for (let at = 0; at + 8 <= bytes.length; ) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (type === EXT_END) break;
    at += 8;
    if (length > bytes.length - at) damaged('an extension of its header is longer than its first cluster');
    if (type === EXT_BACKING_FORMAT) {
      if (length > 15) damaged('the name of its backing file\'s format is too long');
      backingFormat = new TextDecoder().decode(bytes.subarray(at, at + length));
    }
    if (type === EXT_BITMAPS && length >= 24) bitmaps = { count: view.getUint32(at), directoryBytes: u64(view, at + 8), directoryOffset: u64(view, at + 16) };
    at += Math.ceil(length / 8) * 8;
  }
  return { backingFormat, bitmaps };
}

export interface NewHeader {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly refcountOrder: number;
  readonly l1Offset: number;
  readonly reftableOffset: number;
  readonly backing: { readonly name: string; readonly format: string } | null;
}

/** The first cluster of a new image of size 0. The name of the backing file has at most 1023 bytes. */
export function buildHeader(header: NewHeader): Uint8Array {
  const cluster = new Uint8Array(2 ** header.clusterBits);
  const view = new DataView(cluster.buffer);
  view.setUint32(0, MAGIC);
  view.setUint32(VERSION, header.version);
  view.setUint32(CLUSTER_BITS, header.clusterBits);
  setU64(view, L1_OFFSET, header.l1Offset);
  setU64(view, REFTABLE_OFFSET, header.reftableOffset);
  view.setUint32(REFTABLE_CLUSTERS, 1);
  let at = V2_LENGTH;
  if (header.version === 3) {
    view.setUint32(REFCOUNT_ORDER, header.refcountOrder);
    at = COMPRESSION + 8;
    view.setUint32(HEADER_LENGTH, at);
  }
  const { backing } = header;
  if (backing !== null) {
    const format = new TextEncoder().encode(backing.format);
    view.setUint32(at, EXT_BACKING_FORMAT);
    view.setUint32(at + 4, format.length);
    cluster.set(format, at + 8);
    at += 8 + Math.ceil(format.length / 8) * 8;
  }
  at += 8; // the end of the extensions
  if (backing !== null) {
    const name = new TextEncoder().encode(backing.name);
    if (name.length > MAX_BACKING_NAME || at + name.length > cluster.length) throw new RangeError('the name of the backing file is too long');
    setU64(view, BACKING_OFFSET, at);
    view.setUint32(BACKING_SIZE, name.length);
    cluster.set(name, at);
  }
  return cluster;
}
