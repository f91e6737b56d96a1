// A CD-ROM drive (MMC-6): reads data discs of one track from an image, and has a tray whose medium can be changed while the guest runs.
// Left out: audio, writing, raw sectors, several sessions, multimedia's regions and keys.
import type { DiskImage } from '../block/disk-image.ts';
import { answer, failed, good, LogicalUnit, MODE_SENSE_10, MODE_SENSE_6, modeSense, PREVENT_ALLOW, putU16, putU32, START_STOP_UNIT, TEST_UNIT_READY, u16, u32, type Command, type Ended } from './logical-unit.ts';
import * as s from './sense.ts';

const READ_CAPACITY_10 = 0x25;
const READ_10 = 0x28;
const SEEK_10 = 0x2b;
const SYNCHRONIZE_CACHE_10 = 0x35;
const READ_TOC = 0x43;
const GET_CONFIGURATION = 0x46;
const GET_EVENT_STATUS = 0x4a;
const READ_DISC_INFORMATION = 0x51;
const READ_TRACK_INFORMATION = 0x52;
const READ_12 = 0xa8;
const SET_CD_SPEED = 0xbb;
const MECHANISM_STATUS = 0xbd;

const TYPE_CD = 0x05;
const BLOCK = 2048;
/** More than a CD holds: then it is a DVD. 80 minutes and some. */
const CD_BLOCKS = 450_000;
const LEAD_OUT = 0xaa;

const PROFILE_NONE = 0;
const PROFILE_CD = 0x0008;
const PROFILE_DVD = 0x0010;

/** Events of the media class (§6.6). */
const MEDIA_CLASS = 4;
const EVENT_NONE = 0;
const EVENT_EJECT_REQUEST = 1;
const EVENT_NEW_MEDIA = 2;
const EVENT_MEDIA_REMOVAL = 3;

export interface Medium {
  readonly path: string;
  readonly disk: DiskImage;
}

export class CdromDrive extends LogicalUnit {
  readonly #log: (text: string) => void;
  #medium: Medium | null;
  #open = false;
  #locked = false;
  /** One of each kind at most, the newest last: a guest that never asks for them makes the list no longer. */
  #events: number[] = [];

  constructor(medium: Medium | null, serial: string, log: (text: string) => void) {
    super(TYPE_CD, true, 'CD-ROM', serial);
    this.#medium = medium;
    this.#log = log;
  }

  get path(): string | null {
    return this.#medium?.path ?? null;
  }

  /** The guest keeps the tray shut: it has the medium in use. */
  get locked(): boolean {
    return this.#locked;
  }

  get #loaded(): Medium | null {
    return this.#open ? null : this.#medium;
  }

  close(): number {
    return this.#medium?.disk.close() ?? 0;
  }

  override reset(): void {
    super.reset();
    this.#locked = false;
  }

  override powerOn(): void {
    super.powerOn();
    this.#locked = false;
    this.#events = [];
  }

  #happened(event: number): void {
    this.#events = [...this.#events.filter((each) => each !== event), event];
  }

  /** Asks the guest to give the medium back. */
  requestEject(): void {
    this.#happened(EVENT_EJECT_REQUEST);
  }

  /** Another medium, or none, in a closed tray. No command may be under way. The old one is closed. */
  change(medium: Medium | null): void {
    this.#medium?.disk.close();
    const had = this.#loaded !== null;
    this.#medium = medium;
    this.#open = false;
    this.#locked = false;
    if (had) this.#happened(EVENT_MEDIA_REMOVAL);
    if (medium !== null) {
      this.#happened(EVENT_NEW_MEDIA);
      this.attention(s.MEDIUM_CHANGED);
    }
  }

  protected vitalPages(): ReadonlyMap<number, Uint8Array> {
    return new Map();
  }

  protected override unhindered(opcode: number): boolean {
    return opcode === GET_CONFIGURATION || opcode === GET_EVENT_STATUS;
  }

  /** Blocks of what is in the drive; throws Sense when nothing is. */
  #blocks(): number {
    const medium = this.#loaded;
    if (medium === null) throw this.#open ? s.NO_MEDIUM_TRAY_OPEN : s.NO_MEDIUM_TRAY_CLOSED;
    return Math.floor(medium.disk.bytes / BLOCK);
  }

  #profile(): number {
    if (this.#loaded === null) return PROFILE_NONE;
    return this.#blocks() > CD_BLOCKS ? PROFILE_DVD : PROFILE_CD;
  }

  protected perform(command: Command, ended: Ended): void {
    const { cdb } = command;
    switch (cdb[0]) {
      case TEST_UNIT_READY: case SEEK_10: case SYNCHRONIZE_CACHE_10:
        this.#blocks();
        return ended(good());
      case SET_CD_SPEED: return ended(good());
      case READ_CAPACITY_10: {
        const data = new Uint8Array(8);
        putU32(data, 0, Math.max(this.#blocks() - 1, 0));
        putU32(data, 4, BLOCK);
        return ended(answer(command, data, 8));
      }
      case READ_10: return this.#read(command, u32(cdb, 2), u16(cdb, 7), ended);
      case READ_12: return this.#read(command, u32(cdb, 2), u32(cdb, 6), ended);
      case START_STOP_UNIT: return this.#startStop(cdb, ended);
      case PREVENT_ALLOW:
        this.#locked = (cdb[4]! & 1) !== 0;
        return ended(good());
      case READ_TOC: return ended(answer(command, this.#toc(cdb), u16(cdb, 7)));
      case GET_CONFIGURATION: return ended(answer(command, this.#configuration(cdb), u16(cdb, 7)));
      case GET_EVENT_STATUS: return ended(answer(command, this.#event(cdb), u16(cdb, 7)));
      case READ_DISC_INFORMATION: return ended(answer(command, this.#discInformation(cdb), u16(cdb, 7)));
      case READ_TRACK_INFORMATION: return ended(answer(command, this.#trackInformation(), u16(cdb, 7)));
      case MECHANISM_STATUS: return ended(answer(command, Uint8Array.of(0, this.#open ? 0x10 : 0, 0, 0, 0, 0, 0, 0), u16(cdb, 8)));
      case MODE_SENSE_6: case MODE_SENSE_10: return ended(modeSense(command, this.#modePages(), 0, 0));
      default: throw s.INVALID_OPCODE;
    }
  }

  #read({ in: into }: Command, lba: number, blocks: number, ended: Ended): void {
    const all = this.#blocks();
    if (lba > all || blocks > all - lba) throw s.LBA_OUT_OF_RANGE;
    const bytes = blocks * BLOCK;
    if (bytes > into.bytes) return ended({ ...good(), overrun: true });
    if (bytes === 0) return ended(good());
    this.#medium!.disk.read(lba * BLOCK, into.slice(0, bytes), (errno) => ended(errno === 0 ? good(bytes) : failed(s.READ_ERROR, errno)));
  }

  #startStop(cdb: Uint8Array, ended: Ended): void {
    const load = (cdb[4]! & 2) !== 0;
    const start = (cdb[4]! & 1) !== 0;
    if (load && !start && !this.#open) {
      if (this.#locked) throw s.MEDIUM_REMOVAL_PREVENTED;
      if (this.#medium !== null) this.#happened(EVENT_MEDIA_REMOVAL);
      this.#open = true;
      this.#log('the guest has opened the tray');
    } else if (load && start && this.#open) {
      this.#open = false;
      if (this.#medium !== null) {
        this.#happened(EVENT_NEW_MEDIA);
        this.attention(s.MEDIUM_CHANGED);
      }
    }
    ended(good());
  }

  /** Table of contents: one data track and the lead-out (format 0), or the one session (format 1). */
  #toc(cdb: Uint8Array): Uint8Array {
    const blocks = this.#blocks();
    const format = (cdb[2]! & 0x0f) === 0 ? cdb[9]! >> 6 : cdb[2]! & 0x0f;
    const address = (lba: number): number[] => {
      if ((cdb[1]! & 2) === 0) return [lba >>> 24, (lba >>> 16) & 255, (lba >>> 8) & 255, lba & 255];
      const frames = lba + 150; // minutes, seconds, frames
      return [0, Math.min(Math.floor(frames / 75 / 60), 255), Math.floor(frames / 75) % 60, frames % 75];
    };
    const track = (number: number, lba: number): number[] => [0, 0x14, number, 0, ...address(lba)];
    let body: number[];
    if (format === 0) {
      const first = cdb[6]!;
      if (first > 1 && first !== LEAD_OUT) throw s.INVALID_FIELD_IN_CDB;
      body = [1, 1, ...(first <= 1 ? track(1, 0) : []), ...track(LEAD_OUT, blocks)];
    } else if (format === 1) body = [1, 1, ...track(1, 0)];
    else throw s.INVALID_FIELD_IN_CDB;
    return Uint8Array.from([0, body.length, ...body]);
  }

  #configuration(cdb: Uint8Array): Uint8Array {
    const profile = this.#profile();
    const present = profile !== PROFILE_NONE ? 1 : 0;
    const request = cdb[1]! & 3;
    const from = u16(cdb, 2);
    const current = (wanted: number): number => (profile === wanted ? 1 : 0);
    // Feature code, version, persistent and current bits, data.
    const features: [number, number, boolean, number[]][] = [
      [0x0000, 0, true, [0, PROFILE_DVD, current(PROFILE_DVD), 0, 0, PROFILE_CD, current(PROFILE_CD), 0]],
      [0x0001, 2, true, [0, 0, 0, 1, 1, 0, 0, 0]], // core: SCSI
      [0x0002, 1, true, [2, 0, 0, 0]], // morphing: events
      [0x0003, 1, true, [0x29, 0, 0, 0]], // removable: tray, ejects, locks
      [0x0010, 0, present === 1, [0, 0, BLOCK >> 8, 0, 0, 1, 0, 0]], // random readable
      [0x001e, 2, profile === PROFILE_CD, [0, 0, 0, 0]],
      [0x001f, 0, profile === PROFILE_DVD, [0, 0, 0, 0]],
    ];
    const body: number[] = [];
    for (const [code, version, active, data] of features) {
      if (request === 2 ? code !== from : code < from || (request === 1 && !active)) continue;
      body.push(code >> 8, code & 255, (version << 2) | (code <= 3 ? 2 : 0) | (active ? 1 : 0), data.length, ...data);
    }
    const header = new Uint8Array(8);
    putU32(header, 0, body.length + 4);
    putU16(header, 6, profile);
    return Uint8Array.from([...header, ...body]);
  }

  #event(cdb: Uint8Array): Uint8Array {
    if ((cdb[1]! & 1) === 0) throw s.INVALID_FIELD_IN_CDB; // only by polling
    const supported = 1 << MEDIA_CLASS;
    if ((cdb[4]! & supported) === 0) return Uint8Array.of(0, 2, 0x80, supported);
    const event = this.#events.shift() ?? EVENT_NONE;
    return Uint8Array.of(0, 6, MEDIA_CLASS, supported, event, (this.#open ? 1 : 0) | (this.#loaded !== null ? 2 : 0), 0, 0);
  }

  #discInformation(cdb: Uint8Array): Uint8Array {
    if ((cdb[1]! & 7) !== 0) throw s.INVALID_FIELD_IN_CDB;
    this.#blocks();
    const data = new Uint8Array(34);
    putU16(data, 0, 32);
    data.set([0x0e, 1, 1, 1, 1, 0x20], 2); // complete, finalised, one session, one track, unrestricted
    data.fill(0xff, 16, 24); // no lead-in or lead-out to write
    return data;
  }

  #trackInformation(): Uint8Array {
    const data = new Uint8Array(36);
    putU16(data, 0, 34);
    data.set([1, 1, 0, 0x04, 0x01], 2); // track 1, session 1, data, mode 1
    putU32(data, 24, this.#blocks());
    return data;
  }

  #modePages(): ReadonlyMap<number, Uint8Array> {
    const capabilities = new Uint8Array(20);
    capabilities.set([0x3b, 0, 0, 0, 0x29 | (this.#locked ? 2 : 0)]); // reads CD-R, CD-RW and DVD; a tray that locks and ejects
    putU16(capabilities, 6, 0xb0 * 16);
    putU16(capabilities, 10, 512);
    return new Map([[0x01, new Uint8Array(10)], [0x1a, new Uint8Array(10)], [0x2a, capabilities]]);
  }
}
