// The table of internal snapshots: here only where their tables lie, so that they stay intact, and what is said of them.
import type { HostFile } from '../host-file.ts';
import { MAX_L1_BYTES, u64, type Qcow2Header } from './header.ts';
import { Corruption } from './metadata.ts';

/** Bytes of the largest table that is accepted, and of all snapshots' L1 tables together. */
const MAX_TABLE = 16 * 2 ** 20;
const MAX_L1_SUM = 64 * 2 ** 20;
const FIXED = 40;

export interface Snapshot {
  readonly id: string;
  readonly name: string;
  /** When it was made, in seconds since 1970. */
  readonly seconds: number;
  readonly l1Offset: number;
  readonly l1Entries: number;
  /** The disk's size then; null when the table does not say (version 2). */
  readonly diskBytes: number | null;
}

export interface SnapshotTable {
  readonly list: readonly Snapshot[];
  /** Bytes of the table in the file. */
  readonly bytes: number;
}

/** Throws Corruption for a table that cannot be. */
export function readSnapshots(file: HostFile, header: Qcow2Header): SnapshotTable {
  const list: Snapshot[] = [];
  if (header.snapshots === 0) return { list, bytes: 0 };
  const fileEnd = file.size();
  const most = Math.min(MAX_TABLE, fileEnd - header.snapshotsOffset);
  const bytes = file.readNow(header.snapshotsOffset, most);
  const view = new DataView(bytes.buffer);
  const text = new TextDecoder();
  let at = 0;
  let l1Sum = 0;
  for (let i = 0; i < header.snapshots; i++) {
    if (at + FIXED > most) throw new Corruption('the table of snapshots is longer than the file or than what is accepted');
    const l1Offset = u64(view, at);
    const l1Entries = view.getUint32(at + 8);
    const idBytes = view.getUint16(at + 12);
    const nameBytes = view.getUint16(at + 14);
    const extraBytes = view.getUint32(at + 36);
    const id = at + FIXED + extraBytes;
    if (id + idBytes + nameBytes > most) throw new Corruption('the table of snapshots is longer than the file or than what is accepted');
    l1Sum += l1Entries * 8;
    if (l1Entries * 8 > MAX_L1_BYTES || l1Sum > MAX_L1_SUM || l1Offset % header.clusterBytes !== 0 || (l1Entries > 0 && (l1Offset === 0 || l1Offset >= fileEnd))) {
      throw new Corruption(`snapshot ${i} has an impossible L1 table`);
    }
    list.push({
      id: text.decode(bytes.subarray(id, id + idBytes)),
      name: text.decode(bytes.subarray(id + idBytes, id + idBytes + nameBytes)),
      seconds: view.getUint32(at + 16),
      l1Offset, l1Entries,
      diskBytes: extraBytes >= 16 ? u64(view, at + FIXED + 8) : null,
    });
    at = Math.ceil((id + idBytes + nameBytes) / 8) * 8;
  }
  return { list, bytes: at };
}
