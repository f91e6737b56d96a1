// A qcow2 image as a disk: where clusters lie is told by mapping.ts, which clusters are free by refcounts.ts; here data is moved and the order
// of things on stable storage is kept, so that the image is sound whenever process or computer stop (space may be lost to it, nothing else):
//   a cluster's count goes up, what it keeps is copied into it  <  an L2 entry names it      (synced before L2 tables are written)
//   the L2 entry that named a cluster is gone from stable storage  <  its count goes down  <  it is used again
// Data moves by FileIo; tables are read and written in the Worker's thread (they are few and cached). Refcounts are always exact: images
// with "lazy refcounts" never become dirty here. Left out: bitmaps (their autoclear bit is cleared), making snapshots.
import { complete } from '../../io/file-io.ts';
import { concatenate, fillZeros, scratchPool, zeros, type IoBuffers, type Scratch } from '../../io/io-buffers.ts';
import { SystemError } from '../../kvm/libc.ts';
import { checkRange, EINVAL, EIO, EROFS, gather, type DiskImage, type Done } from '../disk-image.ts';
import { imageError, type HostFile } from '../host-file.ts';
import { RangeLock } from '../range-lock.ts';
import { decompress } from './compressed.ts';
import { AUTOCLEAR, CORRUPT, DIRTY, DISK_SIZE, INCOMPATIBLE, L1_OFFSET, l1EntriesFor, L1_SIZE, MAX_L1_BYTES, readHeader, setU64, type Qcow2Header } from './header.ts';
import { Mapping, type Entry } from './mapping.ts';
import { Corruption, MetadataMap } from './metadata.ts';
import { Refcounts } from './refcounts.ts';
import { repairRefcounts } from './repair.ts';
import { readSnapshots, type Snapshot, type SnapshotTable } from './snapshots.ts';

const SECTOR = 512;
/** Tables are written back before more than this is changed in memory. */
const MOST_DIRTY = 16 * 2 ** 20;
const MOST_FREES = 65536;
const DECOMPRESSED = 4;

interface Free {
  readonly cluster: number;
  /** Gives the space back to the host, too. */
  readonly punch: boolean;
}

type Part = (done: Done) => void;

export interface Qcow2Options {
  readonly readonly: boolean;
  readonly log?: (text: string) => void;
}

export class Qcow2Image implements DiskImage {
  readonly format = 'qcow2';
  readonly readonly: boolean;
  readonly header: Qcow2Header;
  readonly snapshots: readonly Snapshot[];
  readonly #file: HostFile;
  readonly #backing: DiskImage | null;
  readonly #log: (text: string) => void;
  readonly #clusterBytes: number;
  readonly #metadata: MetadataMap;
  readonly #refcounts: Refcounts | null;
  readonly #mapping: Mapping;
  readonly #ranges = new RangeLock();
  readonly #entry: Entry = { kind: 'unallocated', host: 0, copied: false, compressedBytes: 0 };
  readonly #decompressed = new Map<number, Uint8Array>();
  /** As the header has it. */
  #size: number;
  #corrupt: boolean;
  #frees: Free[] = [];
  /** Something was written that must be on stable storage before an L2 table is: counts, and what was copied into a new cluster. No sync after
   * that has succeeded. */
  #syncFirst = false;
  /** Counts these writes, to tell one from a later one. */
  #firstWrites = 0;

  private constructor(file: HostFile, header: Qcow2Header, backing: DiskImage | null, options: Qcow2Options) {
    this.#file = file;
    this.header = header;
    this.#backing = backing;
    this.readonly = options.readonly;
    this.#log = options.log ?? (() => undefined);
    this.#clusterBytes = header.clusterBytes;
    this.#size = header.size;
    this.#corrupt = (header.incompatible & CORRUPT) !== 0;
    this.#metadata = new MetadataMap(header.clusterBytes);
    const snapshots = options.readonly ? readableSnapshots(file, header) : readSnapshots(file, header);
    this.snapshots = snapshots.list;
    this.#refcounts = null;
    if (!options.readonly) {
      this.#metadata.add('header', 0, header.clusterBytes);
      if (snapshots.bytes > 0) this.#metadata.add('snapshot table', header.snapshotsOffset, snapshots.bytes);
      for (const snapshot of snapshots.list) if (snapshot.l1Entries > 0) this.#metadata.add('snapshot\'s L1 table', snapshot.l1Offset, snapshot.l1Entries * 8);
      this.#refcounts = new Refcounts(file, header, this.#metadata);
    }
    this.#mapping = new Mapping(file, header, this.#metadata, this.#refcounts, (offset) => this.#freeLater(offset / this.#clusterBytes, false));
  }

  /** @param backing the open backing file that the header names, or null without one. The image closes both. Throws VitrineError. */
  static open(file: HostFile, header: Qcow2Header, backing: DiskImage | null, options: Qcow2Options): Qcow2Image {
    const write = !options.readonly;
    if (write && (header.incompatible & CORRUPT) !== 0) {
      throw imageError('open the disk image', file.path, 'it is marked as corrupt, and so is not written.', 'Give it read-only to save its data, or repair it: qemu-img check -r all', 'image-corrupt');
    }
    try {
      if (write && (header.incompatible & DIRTY) !== 0) {
        repairRefcounts(file, header);
        setFeatures(file, header.incompatible & ~DIRTY);
        options.log?.(`${file.path}: its reference counts were made anew, as it had not been closed`);
        header = readHeader(file);
      }
      const image = new Qcow2Image(file, header, backing, options);
      if (write && (header.autoclear !== 0 || header.autoclearHigh !== 0)) {
        file.writeNow(AUTOCLEAR, new Uint8Array(8)); // what they promise is not kept up here
        file.syncNow();
      }
      return image;
    } catch (thrown) {
      if (!(thrown instanceof Corruption)) throw thrown;
      if (write && header.version === 3) setFeatures(file, header.incompatible | CORRUPT);
      throw imageError('open the disk image', file.path, `it is damaged: ${thrown.message}.`, 'Give it read-only to save its data, or look at it with: qemu-img check', 'image-damaged');
    }
  }

  get bytes(): number {
    return Math.ceil(this.#size / SECTOR) * SECTOR;
  }

  get blockBytes(): number {
    return Math.max(SECTOR, this.#file.alignment);
  }

  get flushFailed(): number {
    return this.#file.syncFailed;
  }

  get clusterBytes(): number {
    return this.#clusterBytes;
  }

  /** Runs `body`; what it throws becomes an errno for `done`, and a damaged image is marked. */
  #guard(done: Done, body: () => void): void {
    try {
      body();
    } catch (thrown) {
      done(this.#errnoOf(thrown));
    }
  }

  #errnoOf(thrown: unknown): number {
    if (thrown instanceof SystemError) return thrown.errno;
    if (!(thrown instanceof Corruption)) throw thrown;
    this.#markCorrupt(thrown.message);
    return EIO;
  }

  #markCorrupt(why: string): void {
    if (this.#corrupt) return;
    this.#corrupt = true;
    this.#log(`${this.#file.path} is damaged and is not written any more: ${why}`);
    if (this.readonly || this.header.version < 3) return;
    try {
      setFeatures(this.#file, this.header.incompatible | CORRUPT);
    } catch (thrown) {
      if (!(thrown instanceof SystemError)) throw thrown;
    }
  }

  // Reading

  read(offset: number, buffers: IoBuffers, done: Done): void {
    const refused = checkRange(this, offset, buffers.bytes, false);
    if (refused !== 0 || buffers.bytes === 0) return done(refused);
    this.#ranges.acquire(offset, offset + buffers.bytes, false, (release) => {
      this.#readRange(offset, buffers, (errno) => {
        release();
        done(errno);
      });
    });
  }

  /** Reads without a lock; may go up to the end of the last cluster. */
  #readRange(offset: number, buffers: IoBuffers, done: Done): void {
    this.#guard(done, () => {
      const parts: Part[] = [];
      for (let at = 0; at < buffers.bytes; ) {
        const { kind, host, bytes, compressedBytes } = this.#run(offset + at, buffers.bytes - at);
        const piece = at === 0 && bytes === buffers.bytes ? buffers : buffers.slice(at, bytes);
        const position = offset + at;
        if (kind === 'data') parts.push((partDone) => this.#file.read(host, piece, partDone));
        else if (kind === 'compressed') parts.push((partDone) => this.#readCompressed(host, compressedBytes, position % this.#clusterBytes, piece, partDone));
        else if (kind === 'zero') fillZeros(piece);
        else this.#readBacking(position, piece, parts);
        at += bytes;
      }
      runAll(parts, done);
    });
  }

  /** What the disk has at `offset`: for how many bytes (at most `most`) it is of one kind and, for data, together in the file. */
  #run(offset: number, most: number): { kind: Entry['kind']; host: number; copied: boolean; bytes: number; compressedBytes: number } {
    const cs = this.#clusterBytes;
    const entry = this.#entry;
    let cluster = Math.floor(offset / cs);
    const within = offset - cluster * cs;
    this.#mapping.look(cluster, entry);
    const { kind, host, copied, compressedBytes } = entry;
    let bytes = cs - within;
    if (kind !== 'compressed') {
      while (bytes < most) {
        const missing = kind === 'unallocated' ? this.#mapping.missingUntil(cluster) : 0;
        if (missing > 0) {
          bytes = missing * cs - offset;
          cluster = missing - 1;
          if (bytes >= most) break;
        }
        this.#mapping.look(++cluster, entry);
        if (entry.kind !== kind || entry.copied !== copied) break;
        if (kind === 'data' && entry.host !== host + within + bytes) break;
        bytes += cs;
      }
    }
    return { kind, host: kind === 'data' ? host + within : host, copied, bytes: Math.min(bytes, most), compressedBytes };
  }

  #readBacking(offset: number, buffers: IoBuffers, parts: Part[]): void {
    const backing = this.#backing;
    const there = backing === null ? 0 : Math.min(Math.max(backing.bytes - offset, 0), buffers.bytes);
    if (there < buffers.bytes) fillZeros(buffers, there);
    if (backing !== null && there > 0) parts.push((done) => backing.read(offset, there === buffers.bytes ? buffers : buffers.slice(0, there), done));
  }

  #readCompressed(host: number, bytes: number, within: number, buffers: IoBuffers, done: Done): void {
    const known = this.#decompressed.get(host);
    if (known !== undefined) {
      buffers.write(0, known.subarray(within, within + buffers.bytes));
      return done(0);
    }
    const scratch = scratchPool.take(bytes);
    this.#file.read(host, scratch.list, (errno) => {
      if (errno === 0) {
        try {
          const cluster = decompress(this.header.compression, scratch.bytes, this.#clusterBytes);
          if (this.#decompressed.size >= DECOMPRESSED) this.#decompressed.delete(this.#decompressed.keys().next().value!);
          this.#decompressed.set(host, cluster);
          buffers.write(0, cluster.subarray(within, within + buffers.bytes));
        } catch (thrown) {
          if (!(thrown instanceof Corruption)) throw thrown;
          this.#log(`${this.#file.path}: ${thrown.message}`);
          errno = EIO;
        }
      }
      scratch.giveBack();
      done(errno);
    });
  }

  // Writing

  #refuseChange(offset: number, bytes: number): number {
    return checkRange(this, offset, bytes, true) || (this.#corrupt ? EIO : 0);
  }

  write(offset: number, buffers: IoBuffers, done: Done): void {
    const refused = this.#refuseChange(offset, buffers.bytes);
    if (refused !== 0 || buffers.bytes === 0) return done(refused);
    this.#ranges.acquire(offset, offset + buffers.bytes, false, (release) => {
      const finish: Done = (errno) => {
        release();
        done(errno);
      };
      this.#guard(finish, () => {
        if (this.#isInPlace(offset, buffers.bytes)) return this.#writeRange(offset, buffers, finish);
        release();
        this.#alone(offset, buffers.bytes, done, (aloneDone) => this.#writeRange(offset, buffers, aloneDone));
      });
    });
  }

  /** Runs `body` while nobody else reads or writes the clusters of this range. */
  #alone(offset: number, bytes: number, done: Done, body: (done: Done) => void): void {
    const cs = this.#clusterBytes;
    this.#ranges.acquire(Math.floor(offset / cs) * cs, Math.ceil((offset + bytes) / cs) * cs, true, (release) => {
      const finish: Done = (errno) => {
        release();
        done(errno);
      };
      if (this.#corrupt) return finish(EIO);
      this.#guard(finish, () => {
        this.#relieve();
        body(finish);
      });
    });
  }

  #isInPlace(offset: number, bytes: number): boolean {
    for (let at = 0; at < bytes; ) {
      const run = this.#run(offset + at, bytes - at);
      if (run.kind !== 'data' || !run.copied) return false;
      at += run.bytes;
    }
    return true;
  }

  /** Writes; the caller has the lock that is needed. */
  #writeRange(offset: number, buffers: IoBuffers, done: Done): void {
    const cs = this.#clusterBytes;
    const parts: Part[] = [];
    const taken: number[] = [];
    try {
      for (let at = 0; at < buffers.bytes; ) {
        const position = offset + at;
        const run = this.#run(position, buffers.bytes - at);
        if (run.kind === 'data' && run.copied) {
          this.#checkInPlace(run.host, run.bytes);
          const piece = buffers.slice(at, run.bytes);
          parts.push((partDone) => this.#file.writeAt(run.host, piece, partDone));
          at += run.bytes;
          continue;
        }
        const cluster = Math.floor(position / cs);
        const last = Math.floor((position + run.bytes - 1) / cs);
        for (let next = cluster; next <= last; ) {
          this.#mapping.prepare(next);
          this.#mapping.look(next, this.#entry);
          const { kind, host, copied } = this.#entry;
          const kept = kind === 'zero' && host !== 0 && copied;
          const got = kept ? { cluster: host / cs, count: 1, pristine: false } : this.#refcounts!.allocate(last - next + 1);
          if (!kept) for (let i = 0; i < got.count; i++) taken.push(got.cluster + i);
          const [from, to] = [Math.max(position, next * cs), Math.min(position + run.bytes, (next + got.count) * cs)];
          const piece = buffers.slice(from - offset, to - from);
          const first = next;
          parts.push((partDone) => this.#writeNew(first, got.count, got.cluster * cs, kept, got.pristine, from, piece, partDone));
          if (kept) this.#checkInPlace(host, cs);
          next += got.count;
        }
        at += run.bytes;
      }
    } catch (thrown) {
      for (const cluster of taken) this.#freeLater(cluster, false); // nothing is written in part
      return done(this.#errnoOf(thrown));
    }
    runAll(parts, done);
  }

  #checkInPlace(host: number, bytes: number): void {
    this.#metadata.checkData(host, bytes);
    if (host + bytes > this.#refcounts!.end * this.#clusterBytes) throw new Corruption(`data is said to lie at ${host}, past the end of the file`);
  }

  /**
   * Writes `buffers` at `position` into `count` clusters at `host` that are to become those of the disk from `cluster` on; what of them is not
   * written is filled with what was there.
   * @param kept the cluster was allocated already, and read as zeros @param pristine the clusters read as zeros in the file
   */
  #writeNew(cluster: number, count: number, host: number, kept: boolean, pristine: boolean, position: number, buffers: IoBuffers, done: Done): void {
    const cs = this.#clusterBytes;
    const [start, end] = [cluster * cs, (cluster + count) * cs];
    const scratches: Scratch[] = [];
    const reads: Part[] = [];
    let copied = false;
    const old = (from: number, bytes: number): IoBuffers | null => {
      if (bytes === 0) return null;
      const run = this.#run(from, bytes);
      if (run.kind === 'zero' || (run.kind === 'unallocated' && (this.#backing === null || from >= this.#backing.bytes))) return pristine ? null : zeros(bytes);
      const scratch = scratchPool.take(bytes);
      scratches.push(scratch);
      reads.push((partDone) => this.#readRange(from, scratch.list, partDone));
      return scratch.list;
    };
    const finish: Done = (errno) => {
      for (const scratch of scratches) scratch.giveBack();
      if (errno === 0) return this.#guard(done, () => {
        if (copied) this.#wroteFirst(); // it may have been flushed where it was
        this.#name(cluster, count, host, kept);
        done(0);
      });
      if (!kept) for (let i = 0; i < count; i++) this.#freeLater(host / cs + i, false);
      done(errno);
    };
    this.#guard(finish, () => {
      this.#metadata.checkData(host, count * cs);
      const head = old(start, position - start);
      const tail = old(position + buffers.bytes, end - position - buffers.bytes);
      copied = head !== null || tail !== null;
      const all = concatenate([...(head === null ? [] : [head]), buffers, ...(tail === null ? [] : [tail])]);
      const at = head === null ? host + position - start : host;
      runAll(reads, (errno) => {
        if (errno !== 0) return finish(errno);
        this.#file.writeAt(at, all, finish);
      });
    });
  }

  /** The disk's clusters lie at `host` from now on. */
  #name(cluster: number, count: number, host: number, kept: boolean): void {
    const old: Entry = { kind: 'unallocated', host: 0, copied: false, compressedBytes: 0 };
    for (let i = 0; i < count; i++) {
      this.#mapping.look(cluster + i, old);
      this.#mapping.setData(cluster + i, host + i * this.#clusterBytes);
      if (!kept) this.#release(old, false);
    }
  }

  /** What an L2 entry referred to, it does no more. */
  #release(old: Entry, punch: boolean): void {
    const cs = this.#clusterBytes;
    if (old.kind === 'compressed') {
      this.#decompressed.delete(old.host);
      const last = Math.floor((old.host + old.compressedBytes - 1) / cs);
      for (let c = Math.floor(old.host / cs); c <= last; c++) this.#freeLater(c, false);
    } else if (old.host !== 0) {
      this.#freeLater(old.host / cs, punch);
    }
  }

  #freeLater(cluster: number, punch: boolean): void {
    this.#frees.push({ cluster, punch });
  }

  // Discarding

  discard(offset: number, bytes: number, done: Done): void {
    const refused = this.#refuseChange(offset, bytes);
    if (refused !== 0 || bytes === 0) return done(refused);
    // Without zero clusters an older content would come out of the backing file.
    if (this.header.version < 3 && this.#backing !== null) return done(0);
    this.#alone(offset, bytes, done, (aloneDone) => {
      const [first, end] = this.#wholeClusters(offset, bytes);
      for (let cluster = first; cluster < end; ) cluster = this.#clear(cluster, true);
      aloneDone(0);
    });
  }

  /** Clusters that the range covers wholly; the disk's last one may be smaller. */
  #wholeClusters(offset: number, bytes: number): [number, number] {
    const cs = this.#clusterBytes;
    const end = offset + bytes >= this.bytes ? Math.ceil((offset + bytes) / cs) : Math.floor((offset + bytes) / cs);
    return [Math.ceil(offset / cs), end];
  }

  #showsBacking(cluster: number): boolean {
    return this.#backing !== null && cluster * this.#clusterBytes < this.#backing.bytes;
  }

  /** Makes a cluster read as zeros by its entry alone. @returns the next one that may need it */
  #clear(cluster: number, unmap: boolean): number {
    const shows = this.#showsBacking(cluster);
    if (!shows) {
      const missing = this.#mapping.missingUntil(cluster);
      if (missing > 0) return missing;
    }
    const old: Entry = { kind: 'unallocated', host: 0, copied: false, compressedBytes: 0 };
    this.#mapping.look(cluster, old);
    const clear = old.kind === 'unallocated' ? !shows : old.kind === 'zero' && (old.host === 0 || !unmap);
    if (clear) return cluster + 1;
    if (!unmap && old.kind === 'data' && old.copied && this.header.version >= 3) {
      this.#mapping.setZero(cluster, old.host);
      return cluster + 1;
    }
    if (shows) this.#mapping.setZero(cluster, 0);
    else this.#mapping.setUnallocated(cluster);
    this.#release(old, true);
    return cluster + 1;
  }

  writeZeroes(offset: number, bytes: number, mayUnmap: boolean, done: Done): void {
    const refused = this.#refuseChange(offset, bytes);
    if (refused !== 0 || bytes === 0) return done(refused);
    this.#alone(offset, bytes, done, (aloneDone) => this.#zeroRange(offset, bytes, mayUnmap, aloneDone));
  }

  /** Makes a range read as zeros; the caller has it alone. It may go past the disk's end, up to the end of the L1 table's reach. */
  #zeroRange(offset: number, bytes: number, mayUnmap: boolean, done: Done): void {
    const cs = this.#clusterBytes;
    const [first, end] = this.#wholeClusters(offset, bytes);
    const parts: [number, number][] = [];
    if (first >= end) parts.push([offset, offset + bytes]);
    else {
      parts.push([offset, first * cs], [end * cs, offset + bytes]);
      if (this.header.version >= 3) {
        for (let cluster = first; cluster < end; ) cluster = this.#clear(cluster, mayUnmap);
      } else {
        for (let cluster = first; cluster < end; ) {
          if (this.#showsBacking(cluster)) parts.push([cluster * cs, ++cluster * cs]);
          else cluster = this.#clear(cluster, true);
        }
      }
    }
    const writes = parts.filter(([from, to]) => from < to && !this.#readsAsZeros(from, to - from));
    const next = (i: number): void => {
      if (i === writes.length) return done(0);
      const [from, to] = writes[i]!;
      this.#guard(done, () => this.#writeRange(from, zeros(to - from), (errno) => (errno === 0 ? next(i + 1) : done(errno))));
    };
    next(0);
  }

  #readsAsZeros(offset: number, bytes: number): boolean {
    for (let at = 0; at < bytes; ) {
      const run = this.#run(offset + at, bytes - at);
      if (run.kind !== 'zero' && (run.kind !== 'unallocated' || (this.#backing !== null && offset + at < this.#backing.bytes))) return false;
      at += run.bytes;
    }
    return true;
  }

  // Making it last

  flush(done: Done): void {
    if (this.readonly) return done(0);
    if (this.#corrupt) return done(EIO);
    this.#guard(done, () => {
      const frees = this.#writeBack();
      const writes = this.#firstWrites;
      this.#file.sync((errno) => {
        if (errno !== 0) {
          this.#frees = this.#frees.concat(frees);
          return done(errno);
        }
        if (writes === this.#firstWrites) this.#syncFirst = false;
        this.#guard(done, () => {
          this.#applyFrees(frees);
          done(0);
        });
      });
    });
  }

  #wroteFirst(): void {
    this.#syncFirst = true;
    this.#firstWrites++;
  }

  /** Writes all changed tables in the right order. @returns what may be freed once the file has been synced after this. Throws SystemError. */
  #writeBack(): Free[] {
    const refcounts = this.#refcounts!;
    if (refcounts.dirty) {
      this.#wroteFirst();
      for (const cluster of refcounts.writeBack()) this.#freeLater(cluster, false);
    }
    if (this.#mapping.dirty) {
      if (this.#syncFirst) {
        this.#file.syncNow();
        this.#syncFirst = false;
      }
      this.#mapping.writeBack();
    }
    const frees = this.#frees;
    this.#frees = [];
    return frees;
  }

  #applyFrees(frees: readonly Free[]): void {
    if (this.#corrupt) return;
    const punch: number[] = [];
    for (const free of frees) if (this.#refcounts!.decrement(free.cluster) === 0 && free.punch) punch.push(free.cluster);
    punch.sort((a, b) => a - b);
    for (let i = 0; i < punch.length; ) {
      let count = 1;
      while (punch[i + count] === punch[i]! + count) count++;
      this.#file.punchNow(punch[i]! * this.#clusterBytes, count * this.#clusterBytes);
      i += count;
    }
  }

  #writeBackAndSync(): void {
    const frees = this.#writeBack();
    this.#file.syncNow();
    this.#syncFirst = false;
    this.#applyFrees(frees);
  }

  /** Writes tables back when much of them waits for a flush. */
  #relieve(): void {
    if (this.#refcounts!.dirtyBytes + this.#mapping.dirtyBytes > MOST_DIRTY || this.#frees.length > MOST_FREES) this.#writeBackAndSync();
  }

  close(): number {
    let errno = 0;
    if (!this.readonly && !this.#corrupt) {
      // Frees make counts dirty again: a second time writes those.
      while (errno === 0 && (this.#refcounts!.dirty || this.#mapping.dirty || this.#frees.length > 0)) errno = complete(this.#file.io, (done) => this.flush(done));
      if (errno === 0) errno = complete(this.#file.io, (done) => this.flush(done));
    }
    this.#file.close();
    this.#backing?.close();
    return errno;
  }

  // Size

  /**
   * Changes the disk's size. What is new reads as zeros; what is cut off is lost. No request may be under way.
   * Throws VitrineError, SystemError.
   */
  resize(bytes: number): void {
    const refuse = (why: string, remedy: string): never => {
      throw imageError('change the size of the disk image', this.#file.path, why, remedy, 'image-not-resized');
    };
    if (this.readonly || this.#corrupt) throw new SystemError(`resize ${this.#file.path}`, this.readonly ? EROFS : EIO);
    if (!Number.isSafeInteger(bytes) || bytes < 0) throw new SystemError(`resize ${this.#file.path}`, EINVAL);
    if (this.snapshots.some((snapshot) => snapshot.diskBytes === null)) refuse('it has snapshots that do not say how large the disk was.', 'Remove them: qemu-img snapshot -d');
    if (l1EntriesFor(bytes, this.header.clusterBits) * 8 > MAX_L1_BYTES) refuse('an image with clusters of this size cannot be so large.', '');
    try {
      this.#resize(bytes);
    } catch (thrown) {
      if (!(thrown instanceof Corruption)) throw thrown;
      this.#markCorrupt(thrown.message);
      refuse(`it is damaged: ${thrown.message}.`, 'Look at it with: qemu-img check');
    }
  }

  #resize(bytes: number): void {
    const cs = this.#clusterBytes;
    const run = (what: (done: Done) => void): void => {
      const errno = complete(this.#file.io, what);
      if (errno !== 0) throw new SystemError(`resize ${this.#file.path}`, errno);
    };
    const old = this.#size;
    if (bytes > old) this.#growL1(l1EntriesFor(bytes, this.header.clusterBits));
    // Behind the smaller of both sizes nothing may come to light that was there before, in the file or in the backing file.
    const [from, to] = bytes > old ? [old, Math.min(bytes, Math.max(this.#backing?.bytes ?? 0, Math.ceil(old / cs) * cs))] : [bytes, old];
    if (from < to) {
      const end = bytes > old ? to : Math.ceil(to / cs) * cs;
      run((done) => this.#alone(from, end - from, done, (aloneDone) => {
        if (bytes > old) return this.#zeroRange(from, end - from, true, aloneDone);
        const tail = Math.min(Math.ceil(from / cs) * cs, end);
        for (let cluster = Math.ceil(from / cs); cluster < end / cs; ) cluster = this.#drop(cluster);
        this.#writeTail(from, tail, aloneDone);
      }));
    }
    this.#writeBackAndSync();
    const field = new Uint8Array(8);
    setU64(new DataView(field.buffer), 0, bytes);
    this.#file.writeNow(DISK_SIZE, field);
    this.#file.syncNow();
    this.#size = bytes;
  }

  /** Zeros from `from` to the end of its cluster, unless they are zeros already. */
  #writeTail(from: number, to: number, done: Done): void {
    if (from >= to || this.#readsAsZeros(from, to - from)) return done(0);
    this.#writeRange(from, zeros(to - from), done);
  }

  /** Forgets a cluster behind the new end of the disk. */
  #drop(cluster: number): number {
    const missing = this.#mapping.missingUntil(cluster);
    if (missing > 0) return missing;
    const old: Entry = { kind: 'unallocated', host: 0, copied: false, compressedBytes: 0 };
    this.#mapping.look(cluster, old);
    if (old.kind !== 'unallocated') {
      this.#mapping.setUnallocated(cluster);
      this.#release(old, true);
    }
    return cluster + 1;
  }

  #growL1(entries: number): void {
    if (entries <= this.#mapping.l1Entries) return;
    const cs = this.#clusterBytes;
    const clusters = Math.ceil((entries * 8) / cs);
    const offset = this.#refcounts!.allocateRun(clusters) * cs;
    this.#metadata.add('L1 table', offset, clusters * cs);
    this.#writeBackAndSync();
    const table = new Uint8Array(clusters * cs);
    table.set(this.#mapping.l1Bytes(entries));
    this.#file.writeNow(offset, table);
    this.#file.syncNow();
    // One write within one sector, from the number of entries to the offset.
    const fields = new Uint8Array(L1_OFFSET + 8 - L1_SIZE);
    const view = new DataView(fields.buffer);
    view.setUint32(0, entries);
    setU64(view, L1_OFFSET - L1_SIZE, offset);
    this.#file.writeNow(L1_SIZE, fields);
    this.#file.syncNow();
    const before = { offset: this.#mapping.l1Offset, bytes: this.#mapping.l1Entries * 8 };
    this.#mapping.moveL1(offset, entries);
    if (before.bytes === 0) return;
    this.#metadata.remove(before.offset, before.bytes);
    for (let i = 0; i < Math.ceil(before.bytes / cs); i++) this.#freeLater(before.offset / cs + i, false);
  }
}

/** Damaged snapshots do not keep anybody from reading the disk. */
function readableSnapshots(file: HostFile, header: Qcow2Header): SnapshotTable {
  try {
    return readSnapshots(file, header);
  } catch (thrown) {
    if (thrown instanceof Corruption) return { list: [], bytes: 0 };
    throw thrown;
  }
}

function setFeatures(file: HostFile, incompatible: number): void {
  const field = new Uint8Array(4);
  new DataView(field.buffer).setUint32(0, incompatible);
  file.writeNow(INCOMPATIBLE + 4, field);
  file.syncNow();
}

function runAll(parts: readonly Part[], done: Done): void {
  if (parts.length === 0) return done(0);
  if (parts.length === 1) return parts[0]!(done);
  const part = gather(parts.length, done);
  for (const run of parts) run(part);
}
