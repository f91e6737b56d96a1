// What a SCSI command ends with (SPC-4 §4.5, §5.3; SAM-5 §5.3): status, and sense data in fixed format.

export const GOOD = 0x00;
export const CHECK_CONDITION = 0x02;
export const BUSY = 0x08;

// Sense keys
export const NO_SENSE = 0x0;
export const NOT_READY = 0x2;
export const MEDIUM_ERROR = 0x3;
export const ILLEGAL_REQUEST = 0x5;
export const UNIT_ATTENTION = 0x6;
export const DATA_PROTECT = 0x7;

const SENSE_BYTES = 18;
const CURRENT_FIXED = 0x70;

/** Key, additional sense code and its qualifier. */
export interface Sense {
  readonly key: number;
  readonly asc: number;
  readonly ascq: number;
}

const sense = (key: number, asc: number, ascq = 0): Sense => ({ key, asc, ascq });

export const NOTHING = sense(NO_SENSE, 0);
export const READ_ERROR = sense(MEDIUM_ERROR, 0x11);
export const WRITE_ERROR = sense(MEDIUM_ERROR, 0x0c);
export const SPACE_EXHAUSTED = sense(DATA_PROTECT, 0x27, 0x07);
export const WRITE_PROTECTED = sense(DATA_PROTECT, 0x27);
export const INVALID_OPCODE = sense(ILLEGAL_REQUEST, 0x20);
export const LBA_OUT_OF_RANGE = sense(ILLEGAL_REQUEST, 0x21);
export const INVALID_FIELD_IN_CDB = sense(ILLEGAL_REQUEST, 0x24);
export const LUN_NOT_SUPPORTED = sense(ILLEGAL_REQUEST, 0x25);
export const INVALID_FIELD_IN_PARAMETERS = sense(ILLEGAL_REQUEST, 0x26);
export const PARAMETER_LIST_LENGTH = sense(ILLEGAL_REQUEST, 0x1a);
export const SAVING_NOT_SUPPORTED = sense(ILLEGAL_REQUEST, 0x39);
export const MEDIUM_REMOVAL_PREVENTED = sense(ILLEGAL_REQUEST, 0x53, 0x02);
export const NO_MEDIUM_TRAY_CLOSED = sense(NOT_READY, 0x3a, 0x01);
export const NO_MEDIUM_TRAY_OPEN = sense(NOT_READY, 0x3a, 0x02);
export const MEDIUM_CHANGED = sense(UNIT_ATTENTION, 0x28);
export const POWER_ON = sense(UNIT_ATTENTION, 0x29, 0x01);
export const BUS_RESET = sense(UNIT_ATTENTION, 0x29, 0x02);

export function senseBytes({ key, asc, ascq }: Sense): Uint8Array {
  const bytes = new Uint8Array(SENSE_BYTES);
  bytes[0] = CURRENT_FIXED;
  bytes[2] = key;
  bytes[7] = SENSE_BYTES - 8;
  bytes[12] = asc;
  bytes[13] = ascq;
  return bytes;
}
