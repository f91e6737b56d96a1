// The block device's work: requests of all its queues become requests to a disk image, any number at a time, one system call for a turn's.
// A request that fails by the host's fault is answered with an I/O error, or kept while the machine pauses and tried again when it goes on.
// A failed flush is never tried again: the host would say that it succeeded.
import { createHash } from 'node:crypto';
import { EPOLLIN } from '../../io/event-loop.ts';
import { openFileIo, type FileIo } from '../../io/file-io.ts';
import type { DiskImage, Done } from '../../block/disk-image.ts';
import { EIO, EOPNOTSUPP, gather } from '../../block/disk-image.ts';
import { hostTrouble, isHostTrouble } from '../../block/host-trouble.ts';
import { openDisk } from '../../block/open-disk.ts';
import { MAX_SERIAL } from '../../../shared/virtio-config.ts';
import type { VirtioConfigOf } from '../../../shared/machine-config.ts';
import type { Backend, BackendHost, DriverSession } from '../backend.ts';
import type { Chain, Virtqueue } from '../queue/virtqueue.ts';
import * as m from './model.ts';
import { MOST_SECTORS, MOST_SEGMENTS, readRequest, S_IOERR, S_OK, S_UNSUPP, type Request } from './request.ts';

const SECTOR = 512;
/** What a guest's file system should align to, whatever the blocks: the host's pages. */
const PHYSICAL_BLOCK = 4096;

export interface BlkOptions {
  readonly io: FileIo;
  readonly disk: DiskImage;
  /** For messages. */
  readonly path: string;
  readonly serial: string;
  readonly onError: 'report' | 'pause';
}

/** A serial number that stays the same for this place in this machine. */
export function madeSerial(machine: string, place: string): string {
  return `V${createHash('sha256').update(`${machine} ${place}`).digest('hex').slice(0, MAX_SERIAL - 1)}`;
}

/** Opens the file. Throws VitrineError. */
export function makeBlkBackend(config: VirtioConfigOf<'virtio-blk'>, machine: string, slot: number, host: BackendHost): BlkBackend {
  const io = openFileIo();
  try {
    const disk = openDisk(config.file, {
      io, format: config.format, readonly: config.readonly, direct: config.cache === 'none', unsafe: config.cache === 'unsafe', log: (text) => host.log(text),
    });
    return new BlkBackend(host, { io, disk, path: config.file, serial: config.serial ?? madeSerial(machine, `${slot}`), onError: config.onError });
  } catch (thrown) {
    io.close();
    throw thrown;
  }
}

interface Work {
  readonly queue: Virtqueue;
  readonly chain: Chain;
  readonly request: Request;
}

export class BlkBackend implements Backend {
  readonly #host: BackendHost;
  readonly #o: BlkOptions;
  #driver: DriverSession | null = null;
  #running = false;
  /** Requests that the disk works on. */
  #flying = 0;
  /** Requests that failed by the host's fault and wait for the machine to go on. */
  #kept: Work[] = [];
  #quiet: (() => void) | null = null;
  #submitting = false;

  constructor(host: BackendHost, options: BlkOptions) {
    this.#host = host;
    this.#o = options;
    const { disk, io } = options;
    const { bytes, view } = host.config;
    view.setBigUint64(m.CAPACITY, BigInt(disk.bytes / SECTOR), true);
    view.setUint32(m.BLK_SIZE, SECTOR, true);
    const physical = Math.max(PHYSICAL_BLOCK, disk.blockBytes);
    bytes[m.PHYSICAL_BLOCK_EXP] = Math.log2(physical / SECTOR);
    view.setUint16(m.MIN_IO_SIZE, physical / SECTOR, true);
    view.setUint32(m.OPT_IO_SIZE, disk.clusterBytes / SECTOR, true);
    view.setUint32(m.MAX_DISCARD_SECTORS, MOST_SECTORS, true);
    view.setUint32(m.MAX_DISCARD_SEG, MOST_SEGMENTS, true);
    view.setUint32(m.DISCARD_SECTOR_ALIGNMENT, Math.max(physical, disk.clusterBytes) / SECTOR, true);
    view.setUint32(m.MAX_WRITE_ZEROES_SECTORS, MOST_SECTORS, true);
    view.setUint32(m.MAX_WRITE_ZEROES_SEG, MOST_SEGMENTS, true);
    bytes[m.WRITE_ZEROES_MAY_UNMAP] = 1;
    host.loop.watch(io.eventFd, EPOLLIN, () => void io.reap());
  }

  start(driver: DriverSession): void {
    this.#driver = driver;
    this.#running = true;
  }

  kicked(index: number): void {
    const queue = this.#driver!.queue(index)!;
    while (this.#running) {
      const chain = queue.take();
      if (chain === null) return;
      this.#begin({ queue, chain, request: readRequest(index, chain, { trim: !this.#o.disk.readonly }) });
    }
  }

  #begin(work: Work): void {
    this.#flying++;
    this.#submitLater();
    this.#perform(work, (errno) => {
      this.#flying--;
      this.#ended(work, errno);
      if (this.#flying === 0) this.#tellQuiet();
    });
  }

  /** Once for all that is asked in this turn. */
  #submitLater(): void {
    if (this.#submitting) return;
    this.#submitting = true;
    this.#host.loop.atEndOfTurn(() => {
      this.#submitting = false;
      this.#o.io.submit();
    });
  }

  #perform({ request }: Work, done: Done): void {
    const { disk } = this.#o;
    switch (request.kind) {
      case 'read': return disk.read(request.offset, request.data, done);
      case 'write': return disk.write(request.offset, request.data, this.#through(done));
      case 'flush': return disk.flush(done);
      case 'discard': {
        const part = gather(request.ranges.length, this.#through(done));
        for (const { offset, bytes } of request.ranges) disk.discard(offset, bytes, part);
        return;
      }
      case 'zero': {
        const part = gather(request.ranges.length, this.#through(done));
        for (const { offset, bytes, unmap } of request.ranges) disk.writeZeroes(offset, bytes, unmap, part);
        return;
      }
      case 'id': {
        const id = new Uint8Array(MAX_SERIAL); // shorter ones end with a zero (§5.2.6)
        new TextEncoder().encodeInto(this.#o.serial, id);
        request.data.write(0, id);
        return done(0);
      }
      default: return done(0);
    }
  }

  /** Where the driver wants no cache, or knows of none, what is written is on stable storage when it hears of it (§5.2.6.2). */
  #through(done: Done): Done {
    const driver = this.#driver!;
    const cached = driver.has(m.F_CONFIG_WCE) ? this.#host.config.bytes[m.WRITEBACK] === 1 : driver.has(m.F_FLUSH);
    return cached ? done : (errno) => (errno === 0 ? this.#o.disk.flush(done) : done(errno));
  }

  #ended(work: Work, errno: number): void {
    const lasting = errno !== 0 && work.request.kind !== 'read' && errno === this.#o.disk.flushFailed;
    if (this.#o.onError === 'pause' && isHostTrouble(errno) && !lasting) {
      this.#kept.push(work);
      if (this.#kept.length === 1) this.#host.tell({ kind: 'pause', problem: hostTrouble(errno, work.request.kind === 'read' ? 'read' : 'write', this.#o.path) });
      return;
    }
    if (errno === EIO || lasting) this.#host.log(`a request to ${work.request.kind} failed: the guest is told of an I/O error`);
    const { queue, chain, request } = work;
    const status = request.kind === 'refused' ? request.status : errno === 0 ? S_OK : errno === EOPNOTSUPP ? S_UNSUPP : S_IOERR;
    const { writable } = chain;
    writable.write(writable.bytes - 1, Uint8Array.of(status));
    queue.complete(chain, writable.bytes);
    this.#driver!.completed(queue);
  }

  quiesce(done: () => void): void {
    this.#running = false;
    this.#quiet = done;
    if (this.#flying === 0) this.#tellQuiet();
  }

  #tellQuiet(): void {
    const quiet = this.#quiet;
    this.#quiet = null;
    quiet?.();
  }

  resume(): void {
    this.#running = true;
    const again = this.#kept;
    this.#kept = [];
    for (const work of again) this.#begin(work);
  }

  stop(): void {
    this.#driver = null;
    this.#kept = [];
    this.#host.config.bytes[m.WRITEBACK] = 1; // as after power-on, for the next driver
  }

  dispose(): void {
    const { disk, io, path } = this.#o;
    this.#host.loop.unwatch(io.eventFd);
    const errno = disk.close();
    if (errno !== 0) this.#host.log(`${path} could not be closed in order: errno ${errno}`);
    io.close();
  }
}
