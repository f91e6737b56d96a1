// The socket device (virtio 1.3 §5.10): sockets between programs of the guest and of the host, each side addressed by a number (CID) and a port.
import { TYPE_VSOCK } from '../constants.ts';
import type { VirtioModel } from '../model.ts';

/** Feature (§5.10.3); streams need none. */
export const F_SEQPACKET = 1;

export const RECEIVE = 0;
export const TRANSMIT = 1;
/** Tells of a move to another host, which there is none of: the driver's room in it is never used. */
const QUEUES = 3;
const QUEUE_SIZE = 256;

/** Simple communication controller, other. */
const CLASS_CODE = 0x07_80_00;

export function vsockModel(cid: number): VirtioModel {
  const config = new Uint8Array(8);
  new DataView(config.buffer).setUint32(0, cid, true);
  return { type: TYPE_VSOCK, name: 'virtio-vsock', classCode: CLASS_CODE, queues: Array.from({ length: QUEUES }, () => QUEUE_SIZE), features: [], config };
}
