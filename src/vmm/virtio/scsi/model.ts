// The SCSI host device (virtio 1.3 §5.6): what its driver sees beside the transport. Left out: protection information, drives that come and go.
import { TYPE_SCSI } from '../constants.ts';
import type { VirtioModel } from '../model.ts';

/** Feature numbers (§5.6.3). */
export const F_CHANGE = 2;

/** struct virtio_scsi_config (§5.6.4). */
export const NUM_QUEUES = 0;
export const SEG_MAX = 4;
export const MAX_SECTORS = 8;
export const CMD_PER_LUN = 12;
export const EVENT_INFO_SIZE = 16;
export const SENSE_SIZE = 20;
export const CDB_SIZE = 24;
export const MAX_CHANNEL = 28;
export const MAX_TARGET = 30;
export const MAX_LUN = 32;
const CONFIG_BYTES = 36;

/** Queues (§5.6.2). */
export const CONTROL_QUEUE = 0;
export const EVENT_QUEUE = 1;
export const FIRST_REQUEST_QUEUE = 2;

export const EVENT_BYTES = 16;
export const DEFAULT_SENSE_SIZE = 96;
export const DEFAULT_CDB_SIZE = 32;
/** The most that a driver may make of these two. */
const MOST = 255;

const QUEUE_SIZE = 256;
const DRIVES = 64;
const MAX_TRANSFER_SECTORS = 0xffff;
/** Mass storage, SCSI. */
const CLASS_CODE = 0x01_00_00;

export function scsiModel(): VirtioModel {
  const bytes = new Uint8Array(CONFIG_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(NUM_QUEUES, 1, true);
  view.setUint32(SEG_MAX, QUEUE_SIZE - 2, true);
  view.setUint32(MAX_SECTORS, MAX_TRANSFER_SECTORS, true);
  view.setUint32(CMD_PER_LUN, 128, true);
  view.setUint32(EVENT_INFO_SIZE, EVENT_BYTES, true);
  view.setUint32(SENSE_SIZE, DEFAULT_SENSE_SIZE, true);
  view.setUint32(CDB_SIZE, DEFAULT_CDB_SIZE, true);
  view.setUint16(MAX_TARGET, DRIVES - 1, true);
  return {
    type: TYPE_SCSI,
    name: 'virtio-scsi',
    classCode: CLASS_CODE,
    queues: [QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE],
    features: [F_CHANGE],
    config: bytes,
    configWrite(registers, offset, width, value) {
      if ((offset !== SENSE_SIZE && offset !== CDB_SIZE) || width !== 4 || value > MOST) return false;
      new DataView(registers.buffer, registers.byteOffset).setUint32(offset, value, true);
      return false;
    },
  };
}
