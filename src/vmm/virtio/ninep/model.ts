// The 9P transport (virtio 1.3 has the device's number, 9, in §5 and no more; Linux's net/9p/trans_virtio.c and QEMU's hw/9pfs are what there is to
// go by): one queue of requests, each a 9P message in the readable part and room for its reply in the writable part. The configuration holds the tag.
import { TYPE_9P } from '../constants.ts';
import type { VirtioModel } from '../model.ts';

/** The configuration holds tag_len[2] and the tag, without a NUL. */
export const F_9P_MOUNT_TAG = 0;
/** What Linux's driver counts on for the size of its messages. */
const QUEUE_SIZE = 128;
/** Mass storage, other. */
const CLASS_CODE = 0x01_80_00;

/** @param tag what the guest mounts: ASCII */
export function ninepModel(tag: string): VirtioModel {
  const config = new Uint8Array(2 + tag.length);
  new DataView(config.buffer).setUint16(0, tag.length, true);
  config.set(new TextEncoder().encode(tag), 2);
  return { type: TYPE_9P, name: 'virtio-9p', classCode: CLASS_CODE, queues: [QUEUE_SIZE], features: [F_9P_MOUNT_TAG], config };
}
