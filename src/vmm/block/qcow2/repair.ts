// Counting all references of an image anew: for one with the dirty bit, whose counts were not kept up ("lazy refcounts"), before it is
// written again. Walks every table that refers to clusters, those of snapshots too; every offset in them is checked.
import type { HostFile } from '../host-file.ts';
import { imageError } from '../host-file.ts';
import { u64, type Qcow2Header } from './header.ts';
import { COMPRESSED_HIGH, COPIED_HIGH, tableOffset } from './mapping.ts';
import { Corruption, MetadataMap } from './metadata.ts';
import { Refcounts } from './refcounts.ts';
import { readSnapshots } from './snapshots.ts';

/** More clusters than this are not counted here: 8 TiB in clusters of 64 KiB. */
const MOST_CLUSTERS = 2 ** 27;

/** How often each cluster of the file is referred to. Throws Corruption, VitrineError. */
export function countReferences(file: HostFile, header: Qcow2Header): Uint32Array {
  const cs = header.clusterBytes;
  const clusters = Math.ceil(file.size() / cs);
  if (clusters > MOST_CLUSTERS) throw imageError('open the disk image', file.path, 'its reference counts must be made anew, and it is too large for that here.', 'Do it with: qemu-img check -r all', 'image-dirty');
  const counts = new Uint32Array(clusters);
  const add = (what: string, offset: number, bytes: number): void => {
    const last = Math.ceil((offset + bytes) / cs);
    if (!Number.isFinite(offset) || last > clusters) throw new Corruption(`${what} at ${offset} lies past the end of the file`);
    for (let cluster = Math.floor(offset / cs); cluster < last; cluster++) counts[cluster]!++;
  };
  const aligned = (what: string, offset: number): void => {
    if (offset % cs !== 0) throw new Corruption(`${what} is said to lie at ${offset}`);
  };
  const l2 = (offset: number): void => {
    aligned('an L2 table', offset);
    add('an L2 table', offset, cs);
    const view = new DataView(file.readNow(offset, cs).buffer);
    for (let at = 0; at < cs; at += 8) {
      const high = view.getUint32(at);
      if ((high & COMPRESSED_HIGH) !== 0) {
        const shift = 30 - (header.clusterBits - 8);
        const upper = high & 0x3fff_ffff;
        const host = (upper & (2 ** shift - 1)) * 2 ** 32 + view.getUint32(at + 4);
        // The last sectors may lie past the end of the file.
        const end = Math.min(host + ((upper >>> shift) + 1) * 512 - (host % 512), clusters * cs);
        add('a compressed cluster', host, end - host);
        continue;
      }
      const host = tableOffset(view, at);
      if (host === 0) continue;
      aligned('data', host);
      add('data', host, cs);
    }
  };
  const l1 = (offset: number, entries: number): void => {
    if (entries === 0) return;
    add('an L1 table', offset, entries * 8);
    const view = new DataView(file.readNow(offset, entries * 8).buffer);
    for (let i = 0; i < entries; i++) {
      const table = tableOffset(view, i * 8);
      if (table !== 0) l2(table);
    }
  };
  add('the header', 0, cs);
  l1(header.l1Offset, header.l1Entries);
  const snapshots = readSnapshots(file, header);
  if (snapshots.bytes > 0) add('the table of snapshots', header.snapshotsOffset, snapshots.bytes);
  for (const snapshot of snapshots.list) l1(snapshot.l1Offset, snapshot.l1Entries);
  add('the refcount table', header.reftableOffset, header.reftableClusters * cs);
  const table = new DataView(file.readNow(header.reftableOffset, header.reftableClusters * cs).buffer);
  for (let at = 0; at < table.byteLength; at += 8) {
    const block = u64(table, at);
    if (block === 0) continue;
    aligned('a refcount block', block);
    add('a refcount block', block, cs);
  }
  return counts;
}

/** Makes the counts on disk those that `countReferences` finds. Throws Corruption, SystemError, VitrineError. */
export function repairRefcounts(file: HostFile, header: Qcow2Header): void {
  const counts = countReferences(file, header);
  const metadata = new MetadataMap(header.clusterBytes);
  metadata.add('header', 0, header.clusterBytes);
  const refcounts = new Refcounts(file, header, metadata);
  // Counts in blocks that exist first: then what is taken for new blocks is really free. Past the end it is in any case.
  refcounts.allocateAtEnd();
  for (let cluster = 0; cluster < counts.length; cluster++) {
    if (refcounts.hasBlock(cluster) && refcounts.get(cluster) !== counts[cluster]) refcounts.set(cluster, counts[cluster]!);
  }
  refcounts.clearFrom(counts.length);
  refcounts.allocateAtEnd();
  for (let cluster = 0; cluster < counts.length; cluster++) if (counts[cluster] !== 0 && !refcounts.hasBlock(cluster)) refcounts.set(cluster, counts[cluster]!);
  refcounts.writeBack();
  file.syncNow();
  clearCopied(file, header, counts);
}

/** An entry that says "ours alone" of a cluster that others refer to, too, must not say so. */
function clearCopied(file: HostFile, header: Qcow2Header, counts: Uint32Array): void {
  const cs = header.clusterBytes;
  const correct = (view: DataView): boolean => {
    let changed = false;
    for (let at = 0; at + 8 <= view.byteLength; at += 8) {
      const high = view.getUint32(at);
      const host = tableOffset(view, at);
      if ((high & COPIED_HIGH) === 0 || (high & COMPRESSED_HIGH) !== 0 || (counts[host / cs] ?? 0) <= 1) continue;
      view.setUint32(at, (high & ~COPIED_HIGH) >>> 0);
      changed = true;
    }
    return changed;
  };
  const l1 = new DataView(file.readNow(header.l1Offset, header.l1Entries * 8).buffer);
  for (let i = 0; i < header.l1Entries; i++) {
    const offset = tableOffset(l1, i * 8);
    if (offset === 0) continue;
    const table = new DataView(file.readNow(offset, cs).buffer);
    if (correct(table)) file.writeNow(offset, new Uint8Array(table.buffer));
  }
  if (correct(l1)) file.writeNow(header.l1Offset, new Uint8Array(l1.buffer));
  file.syncNow();
}

