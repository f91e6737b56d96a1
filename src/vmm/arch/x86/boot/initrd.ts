// The initial RAM disk: as high as the kernel can reach, on a page boundary, away from the kernel.
import { BootFile, MIB } from '../../../boot/boot-file.ts';
import type { GuestMemory } from '../../../memory/guest-memory.ts';
import { ramRanges, HIGH_MEMORY, type ByteRange } from './low-memory.ts';

const PAGE = 4096;
const FOUR_GIB = 2 ** 32;

/**
 * The highest page-aligned address at which `size` bytes of RAM are free. Memory below 4 GiB is preferred; what lies above is used only when
 * `limit` allows it.
 * @param limit one past the last address that the kernel can reach. @param taken the kernel. @returns null when it fits nowhere.
 */
export function placeHigh(memory: GuestMemory, size: number, limit: number, taken: ByteRange): number | null {
  const free: { start: number; end: number }[] = [];
  for (const ram of ramRanges(memory)) {
    const start = Math.max(ram.start, HIGH_MEMORY);
    const end = Math.min(ram.start + ram.size, limit);
    const from = taken.start;
    const to = taken.start + taken.size;
    if (to <= start || from >= end) free.push({ start, end });
    else free.push({ start, end: from }, { start: to, end });
  }
  free.sort((a, b) => Number(a.start >= FOUR_GIB) - Number(b.start >= FOUR_GIB) || b.end - a.end);
  for (const { start, end } of free) {
    const at = Math.floor((end - size) / PAGE) * PAGE;
    if (at >= start) return at;
  }
  return null;
}

/** Loads the file at `path`. Throws VitrineError "initrd-…". */
export function loadInitrd(path: string, memory: GuestMemory, limit: number, kernel: ByteRange): ByteRange {
  const file = BootFile.open('initrd', path);
  try {
    const start = placeHigh(memory, file.size, limit, kernel);
    if (start === null) {
      throw file.error(
        'too-big',
        `it is ${(file.size / MIB).toFixed(1)} MiB, and beside the kernel (${(kernel.size / MIB).toFixed(1)} MiB) the machine's ${memory.size / MIB} MiB of memory have no room for it.`,
        'Give the machine more memory.',
      );
    }
    file.load(memory, start, 0, file.size);
    return { start, size: file.size };
  } finally {
    file.close();
  }
}
