// What a guest says of its memory (virtio 1.3 §5.5.6.3): tag (2) and value (8) of each figure, in any order; the last of one kind counts.
import type { GuestMemoryStats } from '../../../shared/protocol/machine.ts';

const ENTRY = 10;
/** Tags that are of use here, by their number; the others are counts that nobody shows. */
const NAMES: Record<number, keyof GuestMemoryStats> = { 0: 'swapIn', 1: 'swapOut', 4: 'free', 5: 'total', 6: 'available', 7: 'caches' };
/** More than all the tags that there are. */
export const STATISTICS_BYTES = 64 * ENTRY;

/** Undefined when it has no total. Values are kept below 2 to the 53rd: they are a guest's. */
export function readStatistics(bytes: Uint8Array): GuestMemoryStats | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found: Partial<Record<keyof GuestMemoryStats, number>> = {};
  for (let at = 0; at + ENTRY <= bytes.length; at += ENTRY) {
    const name = NAMES[view.getUint16(at, true)];
    if (name !== undefined) found[name] = Math.min(Number.MAX_SAFE_INTEGER, view.getUint32(at + 6, true) * 2 ** 32 + view.getUint32(at + 2, true));
  }
  return found.total === undefined ? undefined : { ...found, total: found.total };
}
