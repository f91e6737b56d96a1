// From the disk's clusters to the file's: the L1 table (in memory as a whole) and a cache of L2 tables. Changes stay in memory until
// `writeBack`. A table that a snapshot shares (its L1 entry has no COPIED flag) is copied before its first change.
import type { HostFile } from '../host-file.ts';
import { setU64, type Qcow2Header } from './header.ts';
import { Corruption, type MetadataMap } from './metadata.ts';
import type { Refcounts } from './refcounts.ts';

// Bits of L1 and L2 entries, in the upper word; the offset has the bits 9 to 55.
export const COPIED_HIGH = 0x8000_0000;
export const COMPRESSED_HIGH = 0x4000_0000;
const OFFSET_HIGH = 0x00ff_ffff;
const OFFSET_LOW = 0xffff_fe00;
const ZERO_LOW = 1;
const RESERVED_HIGH = 0x7f00_0000;
const RESERVED_LOW = 0x1ff;

/** Bytes of L2 tables that are kept. 32 MiB map 256 GiB with clusters of 64 KiB. */
const CACHE = 32 * 2 ** 20;

export type Kind = 'unallocated' | 'data' | 'zero' | 'compressed';

export interface Entry {
  kind: Kind;
  /** Offset in the file: of data, or of what a zero cluster keeps allocated (else 0); for a compressed cluster of its first byte. */
  host: number;
  /** The cluster is ours alone and may be written in place. */
  copied: boolean;
  /** Bytes of a compressed cluster at most. */
  compressedBytes: number;
}

interface Table {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  dirty: boolean;
}

export class Mapping {
  readonly #file: HostFile;
  readonly #header: Qcow2Header;
  readonly #metadata: MetadataMap;
  readonly #refcounts: Refcounts | null;
  /** Frees a cluster once what referred to it is gone from the disk. */
  readonly #freeLater: (offset: number) => void;
  readonly #perTable: number;
  #l1: Float64Array;
  #l1Copied: Uint8Array;
  #l1Offset: number;
  readonly #dirtyL1 = new Set<number>();
  readonly #tables = new Map<number, Table>();
  #dirtyTables = 0;
  #last: { index: number; table: Table } | null = null;

  /** @param refcounts null when the image is only read */
  constructor(file: HostFile, header: Qcow2Header, metadata: MetadataMap, refcounts: Refcounts | null, freeLater: (offset: number) => void) {
    this.#file = file;
    this.#header = header;
    this.#metadata = metadata;
    this.#refcounts = refcounts;
    this.#freeLater = freeLater;
    this.#perTable = header.clusterBytes / 8;
    this.#l1Offset = header.l1Offset;
    this.#l1 = new Float64Array(header.l1Entries);
    this.#l1Copied = new Uint8Array(header.l1Entries);
    const view = new DataView(file.readNow(header.l1Offset, header.l1Entries * 8).buffer);
    if (refcounts !== null && header.l1Entries > 0) metadata.add('L1 table', header.l1Offset, header.l1Entries * 8);
    for (let i = 0; i < header.l1Entries; i++) {
      const high = view.getUint32(i * 8);
      const low = view.getUint32(i * 8 + 4);
      if (high === 0 && low === 0) continue;
      this.#l1[i] = (high & OFFSET_HIGH) * 2 ** 32 + ((low & OFFSET_LOW) >>> 0);
      this.#l1Copied[i] = (high & COPIED_HIGH) !== 0 ? 1 : 0;
      const bad = (high & RESERVED_HIGH) !== 0 || (low & RESERVED_LOW) !== 0;
      if (refcounts === null) {
        if (bad) this.#l1[i] = Infinity; // told when it is read
        continue;
      }
      if (bad) throw new Corruption(`entry ${i} of the L1 table has bits that have no meaning`);
      if (this.#l1[i] === 0) continue;
      this.#checkTableOffset(this.#l1[i]!);
      metadata.add('L2 table', this.#l1[i]!, header.clusterBytes);
    }
  }

  get dirty(): boolean {
    return this.#dirtyTables > 0 || this.#dirtyL1.size > 0;
  }

  get dirtyBytes(): number {
    return this.#dirtyTables * this.#header.clusterBytes;
  }

  get l1Offset(): number {
    return this.#l1Offset;
  }

  get l1Entries(): number {
    return this.#l1.length;
  }

  #checkTableOffset(offset: number): void {
    const { clusterBytes } = this.#header;
    const end = this.#refcounts === null ? this.#file.size() : this.#refcounts.end * clusterBytes;
    if (offset % clusterBytes !== 0 || offset < clusterBytes || offset >= end) throw new Corruption(`an L2 table is said to lie at ${offset}`);
  }

  /** The L2 table of an L1 entry, or null when there is none. Throws Corruption, SystemError. */
  #table(index: number): Table | null {
    if (this.#last?.index === index) return this.#last.table;
    let table = this.#tables.get(index);
    if (table === undefined) {
      if (index >= this.#l1.length) throw new Corruption('the L1 table is too small for the disk');
      const offset = this.#l1[index]!;
      if (offset === 0) return null;
      if (this.#refcounts === null) this.#checkTableOffset(offset);
      const bytes = this.#file.readNow(offset, this.#header.clusterBytes);
      table = { offset, bytes, view: new DataView(bytes.buffer), dirty: false };
    } else {
      this.#tables.delete(index); // to the end: the least recently used is first
    }
    this.#keep(index, table);
    return table;
  }

  #keep(index: number, table: Table): void {
    this.#tables.set(index, table);
    this.#last = { index, table };
    if (this.#tables.size * this.#header.clusterBytes <= CACHE) return;
    for (const [other, old] of this.#tables) {
      if (old.dirty || other === index) continue;
      this.#tables.delete(other);
      return;
    }
  }

  /** What cluster `cluster` of the disk is, into `entry`. Throws Corruption, SystemError. */
  look(cluster: number, entry: Entry): void {
    const table = this.#table(Math.floor(cluster / this.#perTable));
    entry.host = 0;
    entry.copied = false;
    entry.compressedBytes = 0;
    if (table === null) {
      entry.kind = 'unallocated';
      return;
    }
    const at = (cluster % this.#perTable) * 8;
    const high = table.view.getUint32(at);
    const low = table.view.getUint32(at + 4);
    if ((high & COMPRESSED_HIGH) !== 0) {
      // Bits 0 to x-1 are the offset, those up to 61 the number of further sectors; x = 62 - (cluster_bits - 8)
      const sectorBits = this.#header.clusterBits - 8;
      const shift = 30 - sectorBits;
      const upper = high & 0x3fff_ffff;
      entry.kind = 'compressed';
      entry.host = (upper & (2 ** shift - 1)) * 2 ** 32 + low;
      entry.compressedBytes = ((upper >>> shift) + 1) * 512 - (entry.host % 512);
      return;
    }
    const host = (high & OFFSET_HIGH) * 2 ** 32 + ((low & OFFSET_LOW) >>> 0);
    entry.host = host;
    entry.copied = (high & COPIED_HIGH) !== 0;
    if (host % this.#header.clusterBytes !== 0 || !Number.isSafeInteger(host)) throw new Corruption(`cluster ${cluster} of the disk is said to lie at ${host}`);
    if ((low & ZERO_LOW) !== 0) {
      if (this.#header.version < 3) throw new Corruption(`cluster ${cluster} of the disk is a zero cluster, which version 2 has not`);
      entry.kind = 'zero';
      return;
    }
    entry.kind = host === 0 ? 'unallocated' : 'data';
  }

  /** Whether this cluster's whole L2 table is missing: then the clusters up to the @returns one (exclusive) are unallocated. 0 if it is there. */
  missingUntil(cluster: number): number {
    const index = Math.floor(cluster / this.#perTable);
    return this.#l1[index] === 0 ? (index + 1) * this.#perTable : 0;
  }

  /** Makes the cluster's L2 table one that may be changed. Throws Corruption, SystemError. */
  prepare(cluster: number): void {
    this.#writable(Math.floor(cluster / this.#perTable));
  }

  #writable(index: number): Table {
    const refcounts = this.#refcounts!;
    const { clusterBytes } = this.#header;
    const old = this.#table(index);
    if (old !== null && this.#l1Copied[index] === 1) return old;
    const offset = refcounts.allocate(1).cluster * clusterBytes;
    const bytes = old === null ? new Uint8Array(clusterBytes) : old.bytes.slice();
    if (old !== null) {
      this.#metadata.remove(old.offset, clusterBytes);
      this.#freeLater(old.offset);
      this.#tables.delete(index);
    }
    this.#metadata.add('L2 table', offset, clusterBytes);
    const table: Table = { offset, bytes, view: new DataView(bytes.buffer), dirty: true };
    this.#dirtyTables++;
    this.#l1[index] = offset;
    this.#l1Copied[index] = 1;
    this.#dirtyL1.add(index);
    this.#keep(index, table);
    return table;
  }

  #set(cluster: number, high: number, low: number): void {
    const table = this.#writable(Math.floor(cluster / this.#perTable));
    const at = (cluster % this.#perTable) * 8;
    table.view.setUint32(at, high);
    table.view.setUint32(at + 4, low);
    if (table.dirty) return;
    table.dirty = true;
    this.#dirtyTables++;
  }

  setData(cluster: number, host: number): void {
    this.#set(cluster, (Math.floor(host / 2 ** 32) | COPIED_HIGH) >>> 0, host % 2 ** 32);
  }

  setUnallocated(cluster: number): void {
    this.#set(cluster, 0, 0);
  }

  /** @param host of the cluster that stays allocated, ours alone; 0 for none */
  setZero(cluster: number, host: number): void {
    this.#set(cluster, host === 0 ? 0 : (Math.floor(host / 2 ** 32) | COPIED_HIGH) >>> 0, (host % 2 ** 32) + ZERO_LOW);
  }

  /** Writes L2 tables, then what of the L1 table changed. The counts of their clusters must be on stable storage. Throws SystemError. */
  writeBack(): void {
    for (const table of this.#tables.values()) {
      if (!table.dirty) continue;
      this.#file.writeNow(table.offset, table.bytes);
      table.dirty = false;
      this.#dirtyTables--;
    }
    if (this.#dirtyL1.size === 0) return;
    this.#file.syncNow();
    for (const index of this.#dirtyL1) {
      const bytes = new Uint8Array(8);
      setU64(new DataView(bytes.buffer), 0, this.#l1[index]!);
      if (this.#l1Copied[index] === 1) bytes[0]! |= 0x80;
      this.#file.writeNow(this.#l1Offset + index * 8, bytes);
    }
    this.#dirtyL1.clear();
  }

  /** The L1 table as it is to lie on the disk, with zeros up to `entries`. */
  l1Bytes(entries: number): Uint8Array {
    const bytes = new Uint8Array(entries * 8);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < this.#l1.length; i++) {
      setU64(view, i * 8, this.#l1[i]!);
      if (this.#l1Copied[i] === 1) bytes[i * 8]! |= 0x80;
    }
    return bytes;
  }

  /** The L1 table lies elsewhere now and has more entries; the caller has written it. */
  moveL1(offset: number, entries: number): void {
    const l1 = new Float64Array(entries);
    l1.set(this.#l1);
    const copied = new Uint8Array(entries);
    copied.set(this.#l1Copied);
    this.#l1 = l1;
    this.#l1Copied = copied;
    this.#l1Offset = offset;
  }
}

/** The L2 entry of raw words as a number, for those who walk tables: 0 when nothing is allocated. */
export function tableOffset(view: DataView, at: number): number {
  return (view.getUint32(at) & OFFSET_HIGH) * 2 ** 32 + ((view.getUint32(at + 4) & OFFSET_LOW) >>> 0);
}

