// The block device (virtio 1.3 §5.2): what its driver sees beside the transport. Left out: geometry, secure erase, zones, lifetime.
import type { VirtioConfigOf } from '../../../shared/machine-config.ts';
import { TYPE_BLOCK } from '../constants.ts';
import type { VirtioModel } from '../model.ts';

/** Feature numbers (§5.2.3). */
export const F_SIZE_MAX = 1;
export const F_SEG_MAX = 2;
export const F_RO = 5;
export const F_BLK_SIZE = 6;
export const F_FLUSH = 9;
export const F_TOPOLOGY = 10;
export const F_CONFIG_WCE = 11;
export const F_MQ = 12;
export const F_DISCARD = 13;
export const F_WRITE_ZEROES = 14;

/** struct virtio_blk_config (§5.2.4), up to what F_WRITE_ZEROES has. */
export const CAPACITY = 0;
export const SIZE_MAX = 8;
export const SEG_MAX = 12;
export const BLK_SIZE = 20;
export const PHYSICAL_BLOCK_EXP = 24;
export const MIN_IO_SIZE = 26;
export const OPT_IO_SIZE = 28;
export const WRITEBACK = 32;
export const NUM_QUEUES = 34;
export const MAX_DISCARD_SECTORS = 36;
export const MAX_DISCARD_SEG = 40;
export const DISCARD_SECTOR_ALIGNMENT = 44;
export const MAX_WRITE_ZEROES_SECTORS = 48;
export const MAX_WRITE_ZEROES_SEG = 52;
export const WRITE_ZEROES_MAY_UNMAP = 56;
const CONFIG_BYTES = 60;

const QUEUE_SIZE = 256;
/** Header and status take a descriptor each. */
const SEGMENTS = QUEUE_SIZE - 2;
const SEGMENT_BYTES = 4 * 2 ** 20;
/** Mass storage, other. */
const CLASS_CODE = 0x01_80_00;

export function blkModel(config: VirtioConfigOf<'virtio-blk'>): VirtioModel {
  const bytes = new Uint8Array(CONFIG_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(SIZE_MAX, SEGMENT_BYTES, true);
  view.setUint32(SEG_MAX, SEGMENTS, true);
  view.setUint16(NUM_QUEUES, config.queues, true);
  bytes[WRITEBACK] = 1;
  return {
    type: TYPE_BLOCK,
    name: 'virtio-blk',
    classCode: CLASS_CODE,
    queues: Array.from({ length: config.queues }, () => QUEUE_SIZE),
    features: [F_SIZE_MAX, F_SEG_MAX, F_BLK_SIZE, F_FLUSH, F_TOPOLOGY, F_CONFIG_WCE, F_MQ, ...(config.readonly ? [F_RO] : [F_DISCARD, F_WRITE_ZEROES])],
    config: bytes,
    configWrite(registers, offset, width, value) {
      if (offset !== WRITEBACK || width !== 1) return false;
      registers[WRITEBACK] = value & 1;
      return true;
    },
  };
}
