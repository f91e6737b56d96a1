// What all SCSI devices share (SPC-4): INQUIRY with its pages, REPORT LUNS, REQUEST SENSE, unit attentions, mode pages; and the form in which a
// command is carried out. Everything in a command is the guest's and is checked here or in the device's own file.
import { createHash } from 'node:crypto';
import type { IoBuffers } from '../io/io-buffers.ts';
import * as s from './sense.ts';

export const TEST_UNIT_READY = 0x00;
export const REQUEST_SENSE = 0x03;
export const INQUIRY = 0x12;
export const MODE_SENSE_6 = 0x1a;
export const START_STOP_UNIT = 0x1b;
export const PREVENT_ALLOW = 0x1e;
export const MODE_SENSE_10 = 0x5a;
export const REPORT_LUNS = 0xa0;

const VERSION_SPC3 = 5;
const VENDOR = 'VITRINE ';
const REVISION = '1.0 ';

export interface Command {
  /** At least 16 bytes, with zeros behind the command itself. */
  readonly cdb: Uint8Array;
  /** What the guest sends. */
  readonly out: IoBuffers;
  /** Room for what it gets. */
  readonly in: IoBuffers;
}

export interface Result {
  readonly status: number;
  readonly sense: s.Sense | null;
  /** Bytes of `in` that were filled, or of `out` that were taken. */
  readonly moved: number;
  /** The command wants to move more than the guest gave room or data for. */
  readonly overrun: boolean;
  /** Why the host failed it; 0 when it did not. */
  readonly errno: number;
  /** To try it again is no use. */
  readonly lasting: boolean;
}

export type Ended = (result: Result) => void;

export const good = (moved = 0): Result => ({ status: s.GOOD, sense: null, moved, overrun: false, errno: 0, lasting: false });
export const failed = (sense: s.Sense, errno = 0, lasting = false): Result => ({ status: s.CHECK_CONDITION, sense, moved: 0, overrun: false, errno, lasting });

/** A device of one logical unit. */
export abstract class LogicalUnit {
  readonly serial: string;
  readonly #type: number;
  readonly #removable: boolean;
  readonly #product: string;
  /** Told by the next command that may tell, the first one first. */
  #attentions: s.Sense[] = [s.POWER_ON];

  constructor(type: number, removable: boolean, product: string, serial: string) {
    this.#type = type;
    this.#removable = removable;
    this.#product = product;
    this.serial = serial;
  }

  /** The path of its file, for messages; null without a medium. */
  abstract get path(): string | null;
  /** What is its own; throws a Sense object for what is refused. */
  protected abstract perform(command: Command, ended: Ended): void;
  /** Pages of vital product data beside 00h, 80h and 83h. */
  protected abstract vitalPages(): ReadonlyMap<number, Uint8Array>;
  /** Commands that work in spite of a unit attention. */
  protected unhindered(_opcode: number): boolean {
    return false;
  }
  /** A reset of the unit or the bus. */
  reset(): void {
    this.attention(s.BUS_RESET);
  }
  /** Lets go of files. @returns 0 or an errno */
  abstract close(): number;

  attention(sense: s.Sense): void {
    if (!this.#attentions.some(({ asc, ascq }) => asc === sense.asc && ascq === sense.ascq)) this.#attentions.push(sense);
  }

  /** A new driver: it hears of power-on alone. */
  powerOn(): void {
    this.#attentions = [s.POWER_ON];
  }

  /** `ended` comes now or later. */
  execute(command: Command, ended: Ended): void {
    try {
      this.#execute(command, ended);
    } catch (thrown) {
      if (!isSense(thrown)) throw thrown;
      ended(failed(thrown));
    }
  }

  #execute(command: Command, ended: Ended): void {
    const { cdb } = command;
    const opcode = cdb[0]!;
    switch (opcode) {
      case INQUIRY: return ended(this.#inquiry(command));
      case REPORT_LUNS: {
        const luns = new Uint8Array(16); // one, number 0
        luns[3] = 8;
        return ended(answer(command, luns, u32(cdb, 6)));
      }
      case REQUEST_SENSE: {
        if ((cdb[1]! & 1) !== 0) throw s.INVALID_FIELD_IN_CDB; // descriptor format
        return ended(answer(command, s.senseBytes(this.#attentions.shift() ?? s.NOTHING), cdb[4]!));
      }
    }
    const attention = this.#attentions[0];
    if (attention !== undefined && !this.unhindered(opcode)) {
      this.#attentions.shift();
      throw attention;
    }
    this.perform(command, ended);
  }

  #inquiry(command: Command): Result {
    const { cdb } = command;
    const room = u16(cdb, 3);
    if ((cdb[1]! & 1) === 0) {
      if (cdb[2] !== 0) throw s.INVALID_FIELD_IN_CDB;
      const data = new Uint8Array(36);
      data[0] = this.#type;
      data[1] = this.#removable ? 0x80 : 0;
      data[2] = VERSION_SPC3;
      data[3] = 0x12; // hierarchical LUNs, format 2
      data[4] = data.length - 5;
      data[7] = 0x02; // commands are queued
      putText(data, 8, VENDOR, 8);
      putText(data, 16, this.#product, 16);
      putText(data, 32, REVISION, 4);
      return answer(command, data, room);
    }
    return answer(command, this.#vitalPage(cdb[2]!), room);
  }

  #vitalPage(number: number): Uint8Array {
    const own = this.vitalPages();
    const page = (body: Uint8Array): Uint8Array => Uint8Array.from([this.#type, number, body.length >> 8, body.length & 255, ...body]);
    const text = new TextEncoder();
    switch (number) {
      case 0x00: return page(Uint8Array.from([0x00, 0x80, 0x83, ...own.keys()].toSorted((a, b) => a - b)));
      case 0x80: return page(text.encode(this.serial));
      case 0x83: {
        const id = text.encode(VENDOR + this.serial);
        // A name that is assigned locally (NAA 3), from the serial number.
        const naa = createHash('sha256').update(this.serial).digest().subarray(0, 8);
        naa[0] = 0x30 | (naa[0]! & 0x0f);
        return page(Uint8Array.from([0x02, 0x01, 0, id.length, ...id, 0x01, 0x03, 0, 8, ...naa]));
      }
      default: {
        const body = own.get(number);
        if (body === undefined) throw s.INVALID_FIELD_IN_CDB;
        return page(body);
      }
    }
  }
}

function isSense(thrown: unknown): thrown is s.Sense {
  return typeof thrown === 'object' && thrown !== null && 'key' in thrown && 'asc' in thrown;
}

/** Gives data, at most `room` bytes of it (the allocation length): less is no error. */
export function answer({ in: into }: Command, data: Uint8Array, room: number): Result {
  return good(into.write(0, data.subarray(0, Math.min(room, data.length, into.bytes))));
}

/** Answers MODE SENSE (6) and (10). @param pages bodies by page code, @param parameter the device-specific byte */
export function modeSense(command: Command, pages: ReadonlyMap<number, Uint8Array>, mediumType: number, parameter: number): Result {
  const { cdb } = command;
  const long = cdb[0] === MODE_SENSE_10;
  const control = cdb[2]! >> 6;
  const wanted = cdb[2]! & 0x3f;
  if (control === 3) throw s.SAVING_NOT_SUPPORTED;
  if (cdb[3] !== 0 && cdb[3] !== 0xff) throw s.INVALID_FIELD_IN_CDB;
  const chosen = wanted === 0x3f ? [...pages.keys()].toSorted((a, b) => a - b) : [wanted];
  const body: number[] = [];
  for (const code of chosen) {
    const page = pages.get(code);
    if (page === undefined) throw s.INVALID_FIELD_IN_CDB;
    body.push(code, page.length, ...(control === 1 ? new Uint8Array(page.length) : page)); // 1: nothing can be changed
  }
  const header = long ? [0, 0, mediumType, parameter, 0, 0, 0, 0] : [0, mediumType, parameter, 0];
  const data = Uint8Array.from([...header, ...body]);
  if (long) putU16(data, 0, data.length - 2);
  else data[0] = data.length - 1;
  return answer(command, data, long ? u16(cdb, 7) : cdb[4]!);
}

export const u16 = (bytes: Uint8Array, at: number): number => bytes[at]! * 256 + bytes[at + 1]!;
export const u32 = (bytes: Uint8Array, at: number): number => u16(bytes, at) * 65536 + u16(bytes, at + 2);
/** Above 2^53 not exact; then it is larger than any disk. */
export const u64 = (bytes: Uint8Array, at: number): number => u32(bytes, at) * 2 ** 32 + u32(bytes, at + 4);

export function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = (value >> 8) & 255;
  bytes[at + 1] = value & 255;
}

export function putU32(bytes: Uint8Array, at: number, value: number): void {
  putU16(bytes, at, Math.floor(value / 65536));
  putU16(bytes, at + 2, value % 65536);
}

export function putU64(bytes: Uint8Array, at: number, value: number): void {
  putU32(bytes, at, Math.floor(value / 2 ** 32));
  putU32(bytes, at + 4, value % 2 ** 32);
}

function putText(bytes: Uint8Array, at: number, text: string, length: number): void {
  bytes.set(new TextEncoder().encode(text.padEnd(length).slice(0, length)), at);
}
