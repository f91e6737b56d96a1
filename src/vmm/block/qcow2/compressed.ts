// Compressed clusters: raw deflate with a window of 4 KiB, or one zstd frame, of a whole cluster; bytes of others may follow.
import { inflateRawSync, zstdDecompressSync, constants } from 'node:zlib';
import { Corruption } from './metadata.ts';

/** The cluster of `clusterBytes` that these bytes begin with. Throws Corruption. */
export function decompress(method: 'deflate' | 'zstd', bytes: Uint8Array, clusterBytes: number): Uint8Array {
  let cluster: Uint8Array;
  try {
    cluster = method === 'deflate'
      ? inflateRawSync(bytes, { maxOutputLength: clusterBytes, finishFlush: constants.Z_SYNC_FLUSH })
      : zstdDecompressSync(bytes.subarray(0, zstdFrameBytes(bytes)), { maxOutputLength: clusterBytes });
  } catch (thrown) {
    throw new Corruption(`a compressed cluster cannot be read (${thrown instanceof Error ? thrown.message : String(thrown)})`);
  }
  if (cluster.length !== clusterBytes) throw new Corruption(`a compressed cluster has ${cluster.length} bytes, not ${clusterBytes}`);
  return cluster;
}

/** Bytes of the zstd frame at the start (RFC 8878 §3.1.1): frame header, blocks with a header of 3 bytes each, a checksum. */
function zstdFrameBytes(bytes: Uint8Array): number {
  const descriptor = bytes[4] ?? 0;
  const single = (descriptor >> 5) & 1;
  const contentSize = descriptor >> 6 === 0 ? single : 2 ** (descriptor >> 6);
  let at = 5 + (1 - single) + [0, 1, 2, 4][descriptor & 3]! + contentSize;
  for (let last = false; !last; ) {
    if (at + 3 > bytes.length) return bytes.length;
    const header = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16);
    last = (header & 1) === 1;
    const isRun = ((header >> 1) & 3) === 1;
    at += 3 + (isRun ? 1 : header >> 3);
  }
  return Math.min(at + ((descriptor >> 2) & 1) * 4, bytes.length);
}
