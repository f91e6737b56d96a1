// A SCSI disk (SBC-3) over a disk image. Left out: protection information, reservations, verifying against data, long reads.
import { EINVAL, EROFS, gather, ENOSPC, type DiskImage, type Done } from '../block/disk-image.ts';
import { scratchPool, type IoBuffers } from '../io/io-buffers.ts';
import { failed, good, LogicalUnit, MODE_SENSE_10, MODE_SENSE_6, modeSense, PREVENT_ALLOW, putU16, putU32, putU64, START_STOP_UNIT, TEST_UNIT_READY, u16, u32, u64, answer, type Command, type Ended } from './logical-unit.ts';
import * as s from './sense.ts';

const READ_6 = 0x08;
const WRITE_6 = 0x0a;
const READ_CAPACITY_10 = 0x25;
const READ_10 = 0x28;
const WRITE_10 = 0x2a;
const VERIFY_10 = 0x2f;
const SYNCHRONIZE_CACHE_10 = 0x35;
const WRITE_SAME_10 = 0x41;
const UNMAP = 0x42;
const READ_16 = 0x88;
const WRITE_16 = 0x8a;
const VERIFY_16 = 0x8f;
const SYNCHRONIZE_CACHE_16 = 0x91;
const WRITE_SAME_16 = 0x93;
const SERVICE_ACTION_IN_16 = 0x9e;
const READ_12 = 0xa8;
const WRITE_12 = 0xaa;
const READ_CAPACITY_16 = 0x10;

const FUA = 0x08;
/** Of WRITE SAME. */
const WS_UNMAP = 0x08;
const WS_ANCHOR = 0x10;
const WS_NO_DATA = 0x01;

const TYPE_DISK = 0x00;
/** A logical block, whatever the file wants. */
const BLOCK = 512;
const PHYSICAL_BLOCK = 4096;
/** Limits told to the guest: of one unmapping or WRITE SAME, in bytes, and of ranges in an UNMAP. */
const MOST_UNMAP = 2 ** 31;
const MOST_RANGES = 64;
/** Of what WRITE SAME repeats, at a time. */
const REPEAT = 2 ** 20;

export class ScsiDisk extends LogicalUnit {
  readonly path: string;
  readonly #disk: DiskImage;
  /** Bytes of a physical block. */
  readonly #physical: number;
  readonly #blocks: number;

  constructor(disk: DiskImage, path: string, serial: string) {
    super(TYPE_DISK, false, 'DISK', serial);
    this.path = path;
    this.#disk = disk;
    this.#physical = Math.max(PHYSICAL_BLOCK, disk.blockBytes);
    this.#blocks = disk.bytes / BLOCK;
  }

  close(): number {
    return this.#disk.close();
  }

  protected vitalPages(): ReadonlyMap<number, Uint8Array> {
    const limits = new Uint8Array(0x3c); // offsets are those of the page less 4
    limits[0] = 1; // WRITE SAME of no blocks is refused
    putU16(limits, 2, this.#physical / BLOCK);
    if (!this.#disk.readonly) {
      putU32(limits, 16, MOST_UNMAP / BLOCK);
      putU32(limits, 20, MOST_RANGES);
      putU32(limits, 24, Math.max(this.#physical, this.#disk.clusterBytes) / BLOCK);
      putU32(limits, 28, 0x8000_0000); // aligned to 0
      putU64(limits, 32, MOST_UNMAP / BLOCK);
    }
    const characteristics = new Uint8Array(0x3c);
    putU16(characteristics, 0, 1); // does not rotate
    // UNMAP and WRITE SAME unmap; thin.
    return new Map([[0xb0, limits], [0xb1, characteristics], [0xb2, this.#disk.readonly ? new Uint8Array(4) : Uint8Array.of(0, 0xe0, 2, 0)]]);
  }

  protected perform(command: Command, ended: Ended): void {
    const { cdb } = command;
    switch (cdb[0]) {
      case TEST_UNIT_READY: case PREVENT_ALLOW: return ended(good());
      case START_STOP_UNIT: return (cdb[4]! & 1) === 0 ? this.#flush(ended) : ended(good());
      case MODE_SENSE_6: case MODE_SENSE_10: return ended(modeSense(command, new Map([
        [0x08, Uint8Array.of(0x04, ...new Uint8Array(17))], // a write cache
        [0x0a, Uint8Array.of(0x02, 0x10, ...new Uint8Array(8))], // errors to all, any order
      ]), 0, (this.#disk.readonly ? 0x80 : 0) | 0x10));
      case READ_CAPACITY_10: {
        const data = new Uint8Array(8);
        putU32(data, 0, Math.min(this.#blocks - 1, 0xffff_ffff));
        putU32(data, 4, BLOCK);
        return ended(answer(command, data, 8));
      }
      case SERVICE_ACTION_IN_16: return this.#capacity16(command, ended);
      case READ_6: return this.#read(command, ((cdb[1]! & 0x1f) << 16) + u16(cdb, 2), cdb[4] === 0 ? 256 : cdb[4]!, ended);
      case READ_10: return this.#read(command, u32(cdb, 2), u16(cdb, 7), ended);
      case READ_12: return this.#read(command, u32(cdb, 2), u32(cdb, 6), ended);
      case READ_16: return this.#read(command, u64(cdb, 2), u32(cdb, 10), ended);
      case WRITE_6: return this.#write(command, ((cdb[1]! & 0x1f) << 16) + u16(cdb, 2), cdb[4] === 0 ? 256 : cdb[4]!, false, ended);
      case WRITE_10: return this.#write(command, u32(cdb, 2), u16(cdb, 7), (cdb[1]! & FUA) !== 0, ended);
      case WRITE_12: return this.#write(command, u32(cdb, 2), u32(cdb, 6), (cdb[1]! & FUA) !== 0, ended);
      case WRITE_16: return this.#write(command, u64(cdb, 2), u32(cdb, 10), (cdb[1]! & FUA) !== 0, ended);
      case VERIFY_10: return this.#verify(cdb, u32(cdb, 2), u16(cdb, 7), ended);
      case VERIFY_16: return this.#verify(cdb, u64(cdb, 2), u32(cdb, 10), ended);
      case SYNCHRONIZE_CACHE_10: case SYNCHRONIZE_CACHE_16: return this.#flush(ended);
      case WRITE_SAME_10: return this.#writeSame(command, u32(cdb, 2), u16(cdb, 7), ended);
      case WRITE_SAME_16: return this.#writeSame(command, u64(cdb, 2), u32(cdb, 10), ended);
      case UNMAP: return this.#unmap(command, ended);
      default: throw s.INVALID_OPCODE;
    }
  }

  #capacity16(command: Command, ended: Ended): void {
    const { cdb } = command;
    if ((cdb[1]! & 0x1f) !== READ_CAPACITY_16) throw s.INVALID_FIELD_IN_CDB;
    const data = new Uint8Array(32);
    putU64(data, 0, this.#blocks - 1);
    putU32(data, 8, BLOCK);
    data[13] = Math.log2(this.#physical / BLOCK);
    data[14] = this.#disk.readonly ? 0 : 0x80; // blocks may be unmapped; they then read as anything
    ended(answer(command, data, u32(cdb, 10)));
  }

  #check(lba: number, blocks: number): void {
    if (lba > this.#blocks || blocks > this.#blocks - lba) throw s.LBA_OUT_OF_RANGE;
  }

  #checkWrite(lba: number, blocks: number): void {
    if (this.#disk.readonly) throw s.WRITE_PROTECTED;
    this.#check(lba, blocks);
  }

  /** The end of a command that the disk did. */
  #done(ended: Ended, moved: number, fault: s.Sense): Done {
    return (errno) => {
      if (errno === 0) return ended(good(moved));
      const sense = errno === ENOSPC ? s.SPACE_EXHAUSTED : errno === EROFS ? s.WRITE_PROTECTED : errno === EINVAL ? s.LBA_OUT_OF_RANGE : fault;
      ended(failed(sense, errno, fault !== s.READ_ERROR && errno === this.#disk.flushFailed));
    };
  }

  #read({ in: into }: Command, lba: number, blocks: number, ended: Ended): void {
    this.#check(lba, blocks);
    const bytes = blocks * BLOCK;
    if (bytes > into.bytes) return ended({ ...good(), overrun: true });
    if (bytes === 0) return ended(good());
    this.#disk.read(lba * BLOCK, into.slice(0, bytes), this.#done(ended, bytes, s.READ_ERROR));
  }

  #write({ out }: Command, lba: number, blocks: number, through: boolean, ended: Ended): void {
    this.#checkWrite(lba, blocks);
    const bytes = blocks * BLOCK;
    if (bytes > out.bytes) return ended({ ...good(), overrun: true });
    if (bytes === 0) return ended(good());
    const done = this.#done(ended, bytes, s.WRITE_ERROR);
    this.#disk.write(lba * BLOCK, out.slice(0, bytes), through ? (errno) => (errno === 0 ? this.#disk.flush(done) : done(errno)) : done);
  }

  #verify(cdb: Uint8Array, lba: number, blocks: number, ended: Ended): void {
    if ((cdb[1]! & 0x06) !== 0) throw s.INVALID_FIELD_IN_CDB; // comparing is left out
    this.#check(lba, blocks);
    ended(good());
  }

  #flush(ended: Ended): void {
    this.#disk.flush(this.#done(ended, 0, s.WRITE_ERROR));
  }

  #writeSame({ cdb, out }: Command, lba: number, blocks: number, ended: Ended): void {
    const flags = cdb[1]!;
    const withoutData = cdb[0] === WRITE_SAME_16 && (flags & WS_NO_DATA) !== 0;
    if ((flags & WS_ANCHOR) !== 0 || blocks === 0 || blocks * BLOCK > MOST_UNMAP) throw s.INVALID_FIELD_IN_CDB;
    this.#checkWrite(lba, blocks);
    const pattern = new Uint8Array(BLOCK);
    if (!withoutData && out.read(0, pattern) < BLOCK) return ended({ ...good(), overrun: true });
    const moved = withoutData ? 0 : BLOCK;
    const done = this.#done(ended, moved, s.WRITE_ERROR);
    if (pattern.every((byte) => byte === 0)) return this.#disk.writeZeroes(lba * BLOCK, blocks * BLOCK, (flags & WS_UNMAP) !== 0, done);
    const scratch = scratchPool.take(Math.min(blocks * BLOCK, REPEAT));
    for (let at = 0; at < scratch.bytes.length; at += BLOCK) scratch.bytes.set(pattern, at);
    const next = (at: number): void => {
      const left = blocks * BLOCK - at;
      if (left === 0) {
        scratch.giveBack();
        return done(0);
      }
      const part: IoBuffers = scratch.list.slice(0, Math.min(left, REPEAT));
      this.#disk.write(lba * BLOCK + at, part, (errno) => {
        if (errno === 0) return next(at + part.bytes);
        scratch.giveBack();
        done(errno);
      });
    };
    next(0);
  }

  #unmap({ cdb, out }: Command, ended: Ended): void {
    if ((cdb[1]! & 1) !== 0) throw s.INVALID_FIELD_IN_CDB; // anchored
    if (this.#disk.readonly) throw s.WRITE_PROTECTED;
    const length = u16(cdb, 7);
    if (length === 0) return ended(good());
    const list = new Uint8Array(length);
    if (length < 8 || out.read(0, list) < length) throw s.PARAMETER_LIST_LENGTH;
    const ranges = Math.floor(Math.min(u16(list, 2), length - 8) / 16);
    if (ranges > MOST_RANGES) throw s.INVALID_FIELD_IN_PARAMETERS;
    const wanted: [number, number][] = [];
    for (let i = 0; i < ranges; i++) {
      const [lba, blocks] = [u64(list, 8 + i * 16), u32(list, 16 + i * 16)];
      this.#check(lba, blocks);
      if (blocks * BLOCK > MOST_UNMAP) throw s.INVALID_FIELD_IN_PARAMETERS;
      if (blocks > 0) wanted.push([lba, blocks]);
    }
    const done = this.#done(ended, length, s.WRITE_ERROR);
    if (wanted.length === 0) return done(0);
    const part = gather(wanted.length, done);
    for (const [lba, blocks] of wanted) this.#disk.discard(lba * BLOCK, blocks * BLOCK, part);
  }
}
