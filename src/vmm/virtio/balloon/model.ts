// The memory balloon (virtio 1.3 §5.5): the guest gives pages of its memory back to the host, as many as the host asks for, tells how it uses the rest,
// and reports pages that it does not use at the moment. Left out: free page hints, which serve migration alone.
import { TYPE_BALLOON } from '../constants.ts';
import type { VirtioModel } from '../model.ts';

// Feature bits (§5.5.3).
export const F_STATS_VQ = 1;
export const F_DEFLATE_ON_OOM = 2;
export const F_PAGE_POISON = 4;
export const F_REPORTING = 5;

// Queues (§5.5.2). Linux before 6.11 numbers them without gaps: without free page hints its reporting queue is number 3, without statistics 2.
export const INFLATE = 0;
export const DEFLATE = 1;
export const STATS = 2;
export const REPORTING = 4;
const QUEUES = 5;
const QUEUE_SIZE = 128;

// Configuration (§5.5.4).
export const NUM_PAGES = 0;
export const ACTUAL = 4;
export const POISON = 12;
const CONFIG_BYTES = 16;

/** Of the balloon, whatever the guest's own pages are (§5.5.6). */
export const PAGE = 4096;

/** Memory controller, other. */
const CLASS_CODE = 0x05_80_00;

export function balloonModel(): VirtioModel {
  return {
    type: TYPE_BALLOON, name: 'virtio-balloon', classCode: CLASS_CODE,
    queues: Array.from({ length: QUEUES }, () => QUEUE_SIZE),
    features: [F_STATS_VQ, F_DEFLATE_ON_OOM, F_PAGE_POISON, F_REPORTING],
    config: new Uint8Array(CONFIG_BYTES),
    configWrite: (bytes, offset, width, value) => {
      if (width !== 4 || (offset !== ACTUAL && offset !== POISON)) return false;
      new DataView(bytes.buffer, bytes.byteOffset, bytes.length).setUint32(offset, value, true);
      return offset === ACTUAL;
    },
  };
}
