// The two directions of a pair of queues, as the backend has them: whatever the frames go to, a stream (stream-*.ts) or a TAP queue (tap-*.ts).
import { MAX_VECTORS } from '../../net/calls.ts';
import { HEADER_BYTES, type Offloads } from '../../net/vnet-header.ts';
import type { Chain, Virtqueue } from '../queue/virtqueue.ts';

/**
 * How a turn of work ended.
 * idle: nothing is left to do before the descriptor or the driver says so.
 * more: enough for one turn; something may be left.
 * starved (receiving): frames may wait, and the driver has lent no room for them.
 * full (sending): the host takes no more just now.
 * gone: the other end is not there any more.
 */
export type Turn = 'idle' | 'more' | 'starved' | 'full' | 'gone';

export interface Receiver {
  /** Frames from the descriptor into the driver's buffers. */
  run(queue: Virtqueue): Turn;
  /** Frames from the descriptor to nowhere, as a card without a driver or a cable has it. */
  discard(): Turn;
  /** Holds nothing of the driver's any more. @param queue to give back to what was taken and not used; undefined when the driver is gone */
  release(queue: Virtqueue | undefined): void;
}

export interface Transmitter {
  /** The driver's frames to the descriptor. */
  run(queue: Virtqueue): Turn;
  /** What is left of a frame that was half sent when the driver's buffers were given back. */
  finish(): Turn;
  /** As Receiver.release; what was half sent is kept for finish(). */
  release(queue: Virtqueue | undefined): void;
}

/** What driver and device agreed on, as it is just now; with every driver anew. */
export interface Agreed {
  /** Several chains may hold one frame that comes (VIRTIO_NET_F_MRG_RXBUF). */
  merged: boolean;
  /** The driver takes frames whose checksums were looked at, or are not made yet (VIRTIO_NET_F_GUEST_CSUM). */
  checksum: boolean;
  /** The driver takes frames that are not cut into segments yet. */
  segments: boolean;
  /** What it leaves undone in its own frames. */
  sends: Offloads;
}

/** Counts for the log: what a driver sent that no driver may, or that cannot be carried. */
export interface Refusals {
  refuse(why: string): void;
}

/** Frames in one turn: other descriptors wait meanwhile, and the driver hears of its frames at the turn's end. */
export const FRAMES_A_TURN = 128;

/** Whether a frame, or a part of one, can be read into this chain. @param first the header lies in the first one of a frame, whole */
export function usable({ writable }: Chain, first: boolean): boolean {
  return writable.bytes >= (first ? HEADER_BYTES : 1) && writable.pieces < MAX_VECTORS - 1;
}
