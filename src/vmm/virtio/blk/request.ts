// One request of the block device's driver (virtio 1.3 §5.2.6), copied out of guest RAM and checked: what is to be done, or the status to answer.
import type { Buffers } from '../buffers.ts';
import { QueueError, type Chain } from '../queue/virtqueue.ts';

export const T_IN = 0;
export const T_OUT = 1;
export const T_FLUSH = 4;
export const T_GET_ID = 8;
export const T_DISCARD = 11;
export const T_WRITE_ZEROES = 13;

export const S_OK = 0;
export const S_IOERR = 1;
export const S_UNSUPP = 2;

const HEADER_BYTES = 16;
const SEGMENT_BYTES = 16;
const SECTOR = 512;
/** Of struct virtio_blk_discard_write_zeroes. */
const FLAG_UNMAP = 1;

/** What one segment of a discard may be at most, in sectors, and how many there may be. */
export const MOST_SECTORS = 2 ** 22;
export const MOST_SEGMENTS = 16;

export interface Range {
  /** In bytes. */
  readonly offset: number;
  readonly bytes: number;
  readonly unmap: boolean;
}

export type Request =
  | { kind: 'read' | 'write'; offset: number; data: Buffers }
  | { kind: 'flush' }
  | { kind: 'id'; data: Buffers }
  | { kind: 'discard' | 'zero'; ranges: readonly Range[] }
  | { kind: 'refused'; status: number };

const refused = (status: number): Request => ({ kind: 'refused', status });

/** Throws QueueError for a chain that has no header or no room for the status. */
export function readRequest(queue: number, { readable, writable }: Chain, features: { readonly trim: boolean }): Request {
  const header = new Uint8Array(HEADER_BYTES);
  if (readable.read(0, header) < HEADER_BYTES) throw new QueueError(queue, 'a request has no header');
  if (writable.bytes === 0) throw new QueueError(queue, 'a request has no room for its status');
  const view = new DataView(header.buffer);
  const room = writable.bytes - 1;
  const type = view.getUint32(0, true);
  switch (type) {
    case T_IN:
    case T_OUT: {
      const data = type === T_IN ? writable.slice(0, room) : readable.slice(HEADER_BYTES);
      if (data.bytes % SECTOR !== 0) return refused(S_IOERR);
      return { kind: type === T_IN ? 'read' : 'write', offset: sectorAt(view, 8), data };
    }
    case T_FLUSH: return { kind: 'flush' };
    case T_GET_ID: return { kind: 'id', data: writable.slice(0, room) };
    case T_DISCARD:
    case T_WRITE_ZEROES: return features.trim ? readRanges(readable, type) : refused(S_UNSUPP);
    default: return refused(S_UNSUPP);
  }
}

/** A sector's number as an offset in bytes; what no disk can have becomes one that none has. */
function sectorAt(view: DataView, at: number): number {
  return Math.min((view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true)) * SECTOR, Number.MAX_SAFE_INTEGER);
}

function readRanges(readable: Buffers, type: number): Request {
  const bytes = readable.bytes - HEADER_BYTES;
  if (bytes === 0 || bytes % SEGMENT_BYTES !== 0 || bytes / SEGMENT_BYTES > MOST_SEGMENTS) return refused(S_IOERR);
  const copy = new Uint8Array(bytes);
  readable.read(HEADER_BYTES, copy);
  const view = new DataView(copy.buffer);
  const ranges: Range[] = [];
  for (let at = 0; at < bytes; at += SEGMENT_BYTES) {
    const sectors = view.getUint32(at + 8, true);
    const flags = view.getUint32(at + 12, true);
    // §5.2.6.2: unmap has no meaning for a discard, and other flags are reserved.
    if ((flags & ~FLAG_UNMAP) !== 0 || (type === T_DISCARD && flags !== 0)) return refused(S_UNSUPP);
    if (sectors > MOST_SECTORS) return refused(S_IOERR);
    ranges.push({ offset: sectorAt(view, at), bytes: sectors * SECTOR, unmap: flags !== 0 });
  }
  return { kind: type === T_DISCARD ? 'discard' : 'zero', ranges };
}
