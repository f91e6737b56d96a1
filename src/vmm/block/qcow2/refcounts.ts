// Reference counts of clusters: a table of blocks, each a cluster of counts of 1 to 64 bits. Kept in memory, written back by `writeBack`.
// A count goes up in memory when a cluster is taken and must be on disk before anything that refers to the cluster; it goes down only after
// what referred to it is gone from the disk (image.ts keeps that order).
import { SystemError } from '../../kvm/libc.ts';
import { ENOSPC } from '../disk-image.ts';
import type { HostFile } from '../host-file.ts';
import { MAX_REFTABLE_BYTES, REFTABLE_OFFSET, setU64, u64, type Qcow2Header } from './header.ts';
import { Corruption, type MetadataMap } from './metadata.ts';

const EFBIG = 27;
/** Bytes of clean blocks that are kept. */
const CACHE = 8 * 2 ** 20;

interface Block {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  dirty: boolean;
}

export class Refcounts {
  readonly #file: HostFile;
  readonly #metadata: MetadataMap;
  readonly #clusterBytes: number;
  readonly #order: number;
  /** Counts in a block. */
  readonly #perBlock: number;
  readonly #blocks = new Map<number, Block>();
  /** Offset of each block; 0 for none. */
  #table: Float64Array;
  #tableOffset: number;
  #tableClusters: number;
  #dirtyEntries = new Set<number>();
  #tableMoved = false;
  #dirtyBlocks = 0;
  /** No cluster below is free. */
  #hint = 0;
  /** The first cluster past everything; clusters from here on were never used. */
  #end: number;
  /** Clusters that are being taken as a run and not all counted yet. */
  readonly #reserved: { start: number; end: number }[] = [];
  /** Clusters that a table left behind; to be freed once the header names the new one on disk. */
  #abandoned: number[] = [];

  constructor(file: HostFile, header: Qcow2Header, metadata: MetadataMap) {
    this.#file = file;
    this.#metadata = metadata;
    this.#clusterBytes = header.clusterBytes;
    this.#order = header.refcountOrder;
    this.#perBlock = (header.clusterBytes * 8) / 2 ** header.refcountOrder;
    this.#tableOffset = header.reftableOffset;
    this.#tableClusters = header.reftableClusters;
    const bytes = file.readNow(this.#tableOffset, this.#tableClusters * this.#clusterBytes);
    const view = new DataView(bytes.buffer);
    this.#table = new Float64Array(bytes.length / 8);
    this.#end = Math.ceil(file.size() / this.#clusterBytes);
    metadata.add('refcount table', this.#tableOffset, bytes.length);
    for (let i = 0; i < this.#table.length; i++) {
      const offset = u64(view, i * 8);
      if (offset === 0) continue;
      if (offset % this.#clusterBytes !== 0 || offset >= this.#end * this.#clusterBytes) throw new Corruption(`a refcount block is said to lie at ${offset}`);
      this.#table[i] = offset;
      metadata.add('refcount block', offset, this.#clusterBytes);
    }
    if (file.isDevice) this.#end = this.#lastUsed() + 1; // a device has no end that grows
  }

  /** The first cluster past everything that is used or was. */
  get end(): number {
    return this.#end;
  }

  /** Whether `writeBack` has anything to write. */
  get dirty(): boolean {
    return this.#dirtyBlocks > 0 || this.#dirtyEntries.size > 0 || this.#tableMoved;
  }

  get dirtyBytes(): number {
    return this.#dirtyBlocks * this.#clusterBytes;
  }

  #lastUsed(): number {
    for (let block = this.#table.length - 1; block >= 0; block--) {
      if (this.#table[block] === 0) continue;
      for (let i = this.#perBlock - 1; i >= 0; i--) if (this.get(block * this.#perBlock + i) > 0) return block * this.#perBlock + i;
    }
    return 0;
  }

  #load(index: number): Block {
    const cached = this.#blocks.get(index);
    if (cached !== undefined) return cached;
    const offset = this.#table[index]!;
    const bytes = this.#file.readNow(offset, this.#clusterBytes);
    return this.#keep(index, { offset, bytes, view: new DataView(bytes.buffer), dirty: false });
  }

  #keep(index: number, block: Block): Block {
    if (this.#blocks.size * this.#clusterBytes > CACHE) {
      for (const [other, old] of this.#blocks) {
        if (old.dirty) continue;
        this.#blocks.delete(other);
        break;
      }
    }
    this.#blocks.set(index, block);
    return block;
  }

  /** How many refer to this cluster. */
  get(cluster: number): number {
    const index = Math.floor(cluster / this.#perBlock);
    if (index >= this.#table.length || this.#table[index] === 0) return 0;
    const { bytes, view } = this.#load(index);
    const i = cluster % this.#perBlock;
    switch (this.#order) {
      case 6: return view.getUint32(i * 8) * 2 ** 32 + view.getUint32(i * 8 + 4);
      case 5: return view.getUint32(i * 4);
      case 4: return view.getUint16(i * 2);
      case 3: return bytes[i]!;
      default: {
        const bits = 2 ** this.#order;
        return (bytes[Math.floor((i * bits) / 8)]! >> ((i * bits) % 8)) & (2 ** bits - 1);
      }
    }
  }

  /** Sets a count; makes its block when there is none. */
  set(cluster: number, count: number): void {
    const index = Math.floor(cluster / this.#perBlock);
    this.#ensureBlock(index);
    const block = this.#load(index);
    const i = cluster % this.#perBlock;
    const bits = 2 ** this.#order;
    if (count > 2 ** bits - 1) throw new Corruption(`cluster ${cluster} is referred to ${count} times, and counts have ${bits} bits`);
    if (!block.dirty) {
      block.dirty = true;
      this.#dirtyBlocks++;
    }
    if (count === 0 && cluster < this.#hint) this.#hint = cluster;
    switch (this.#order) {
      case 6: return setU64(block.view, i * 8, count);
      case 5: return block.view.setUint32(i * 4, count);
      case 4: return block.view.setUint16(i * 2, count);
      case 3: block.bytes[i] = count; return;
      default: {
        const at = Math.floor((i * bits) / 8);
        const shift = (i * bits) % 8;
        block.bytes[at] = (block.bytes[at]! & ~((2 ** bits - 1) << shift)) | (count << shift);
      }
    }
  }

  /** One reference less. @returns how many are left */
  decrement(cluster: number): number {
    const count = this.get(cluster);
    if (count === 0) throw new Corruption(`cluster ${cluster} is in use, and its reference count is 0`);
    this.set(cluster, count - 1);
    return count - 1;
  }

  /** Takes at most `wanted` clusters that lie together. @returns the first and how many; `pristine`: never written, so they read as zeros. */
  allocate(wanted: number): { cluster: number; count: number; pristine: boolean } {
    for (;;) {
      const cluster = this.#findFree();
      const index = Math.floor(cluster / this.#perBlock);
      if (index >= this.#table.length || this.#table[index] === 0) {
        this.#ensureBlock(index); // it may take this very cluster for itself
        continue;
      }
      const pristine = cluster >= this.#end && !this.#file.isDevice;
      const limit = Math.min(wanted, (index + 1) * this.#perBlock - cluster);
      let count = 1;
      while (count < limit && this.#isFree(cluster + count) && (cluster + count >= this.#end && !this.#file.isDevice) === pristine) count++;
      this.#claim(cluster, count);
      return { cluster, count, pristine };
    }
  }

  #claim(cluster: number, count: number): void {
    this.#checkRoom(cluster + count);
    for (let i = 0; i < count; i++) {
      if (this.#metadata.has(cluster + i)) throw new Corruption(`cluster ${cluster + i} holds a table, and its reference count is 0`);
      this.set(cluster + i, 1);
    }
    this.#end = Math.max(this.#end, cluster + count);
    if (this.#hint === cluster) this.#hint = cluster + count;
  }

  #checkRoom(end: number): void {
    if (this.#file.isDevice && end * this.#clusterBytes > this.#file.size()) throw new SystemError(`a cluster of ${this.#file.path}`, ENOSPC);
  }

  #isFree(cluster: number): boolean {
    return this.get(cluster) === 0 && !this.#reserved.some(({ start, end }) => cluster >= start && cluster < end);
  }

  #findFree(): number {
    while (!this.#isFree(this.#hint)) this.#hint++;
    return this.#hint;
  }

  /** Takes `count` clusters that lie together, past everything: for tables. @returns the first */
  allocateRun(count: number): number {
    const start = this.#end;
    this.#checkRoom(start + count);
    this.#end = start + count;
    this.#reserved.push({ start, end: start + count });
    for (let i = 0; i < count; i++) this.set(start + i, 1);
    this.#reserved.pop();
    return start;
  }

  /** Only clusters past the end are taken from now on: for a repair, when counts cannot be trusted. */
  allocateAtEnd(): void {
    this.#hint = this.#end;
  }

  /** From the start again. */
  allocateAnywhere(): void {
    this.#hint = 0;
  }

  #ensureBlock(index: number): void {
    if (index >= this.#table.length) this.#growTable(index + 1);
    while (this.#table[index] === 0) {
      const cluster = this.#findFree();
      const home = Math.floor(cluster / this.#perBlock);
      if (home !== index && (home >= this.#table.length || this.#table[home] === 0)) {
        this.#ensureBlock(home);
        continue;
      }
      this.#checkRoom(cluster + 1);
      const offset = cluster * this.#clusterBytes;
      this.#metadata.add('refcount block', offset, this.#clusterBytes);
      const bytes = new Uint8Array(this.#clusterBytes);
      this.#table[index] = offset;
      this.#dirtyEntries.add(index);
      this.#keep(index, { offset, bytes, view: new DataView(bytes.buffer), dirty: true });
      this.#dirtyBlocks++;
      this.set(cluster, 1); // its own count may be in itself
      this.#end = Math.max(this.#end, cluster + 1);
    }
  }

  /** A larger table, past everything; the old one stays valid until the header on disk names the new one. */
  #growTable(entries: number): void {
    const start = this.#end;
    const perCluster = this.#clusterBytes / 8;
    let clusters = Math.ceil(Math.max(entries, this.#table.length * 1.5) / perCluster);
    // It must have room for the blocks that count its own clusters, and these blocks' clusters.
    while ((start + clusters + clusters * perCluster) / this.#perBlock + 1 > clusters * perCluster) clusters++;
    if (clusters * this.#clusterBytes > MAX_REFTABLE_BYTES) throw new SystemError(`a cluster of ${this.#file.path}`, EFBIG);
    this.#checkRoom(start + clusters);
    const table = new Float64Array(clusters * perCluster);
    table.set(this.#table);
    for (let i = 0; i < this.#tableClusters; i++) this.#abandoned.push(this.#tableOffset / this.#clusterBytes + i);
    this.#table = table;
    this.#tableOffset = start * this.#clusterBytes;
    this.#tableClusters = clusters;
    this.#tableMoved = true;
    this.#metadata.add('refcount table', this.#tableOffset, clusters * this.#clusterBytes);
    this.allocateRun(clusters);
  }

  /**
   * Writes counts, then the table. Both are on stable storage when the caller has synced the file once more. Throws SystemError; what is not
   * written stays to be written. @returns clusters that the header does not name any more
   */
  writeBack(): number[] {
    for (const block of this.#blocks.values()) {
      if (!block.dirty) continue;
      this.#file.writeNow(block.offset, block.bytes);
      block.dirty = false;
      this.#dirtyBlocks--;
    }
    if (this.#tableMoved) {
      this.#file.syncNow();
      this.#file.writeNow(this.#tableOffset, this.#tableBytes(0, this.#table.length));
      this.#file.syncNow();
      const field = new Uint8Array(12); // one write within one sector: offset and clusters
      setU64(new DataView(field.buffer), 0, this.#tableOffset);
      new DataView(field.buffer).setUint32(8, this.#tableClusters);
      this.#file.writeNow(REFTABLE_OFFSET, field);
      this.#tableMoved = false;
      this.#dirtyEntries.clear();
    } else if (this.#dirtyEntries.size > 0) {
      this.#file.syncNow();
      for (const index of this.#dirtyEntries) this.#file.writeNow(this.#tableOffset + index * 8, this.#tableBytes(index, index + 1));
      this.#dirtyEntries.clear();
    }
    const abandoned = this.#abandoned;
    this.#abandoned = [];
    for (const cluster of abandoned) this.#metadata.remove(cluster * this.#clusterBytes, this.#clusterBytes);
    return abandoned;
  }

  #tableBytes(from: number, to: number): Uint8Array {
    const bytes = new Uint8Array((to - from) * 8);
    const view = new DataView(bytes.buffer);
    for (let i = from; i < to; i++) setU64(view, (i - from) * 8, this.#table[i]!);
    return bytes;
  }

  /** Sets every count from cluster `from` on to 0, where there are counts. */
  clearFrom(from: number): void {
    for (let index = Math.floor(from / this.#perBlock); index < this.#table.length; index++) {
      if (this.#table[index] === 0) continue;
      const first = index * this.#perBlock;
      for (let cluster = Math.max(first, from); cluster < first + this.#perBlock; cluster++) if (this.get(cluster) !== 0) this.set(cluster, 0);
    }
  }

  /** Whether a block exists for this cluster's count. */
  hasBlock(cluster: number): boolean {
    const index = Math.floor(cluster / this.#perBlock);
    return index < this.#table.length && this.#table[index] !== 0;
  }
}
