// Where an ELF kernel lies in memory, checked against the machine's RAM before a byte of it is written.
import type { BootFile } from '../../../boot/boot-file.ts';
import { MIB } from '../../../boot/boot-file.ts';
import type { Elf } from '../../../boot/elf.ts';
import type { GuestMemory } from '../../../memory/guest-memory.ts';
import { loadable, type ByteRange } from './low-memory.ts';

/** From the first to the last byte that is loaded. Throws "kernel-damaged", "kernel-too-big" and "kernel-address". */
export function checkSegments(file: BootFile, elf: Elf, memory: GuestMemory): ByteRange {
  if (elf.segments.length === 0) throw file.error('damaged', 'it has no ELF segment to load.', 'Fetch or build it again.');
  return checkLoad(file, elf.segments.map((s) => ({ start: s.paddr, size: s.memorySize })), memory);
}

/** The same for any pieces. */
export function checkLoad(file: BootFile, pieces: readonly ByteRange[], memory: GuestMemory): ByteRange {
  const start = Math.min(...pieces.map((p) => p.start));
  const end = Math.max(...pieces.map((p) => p.start + p.size));
  for (const piece of pieces) {
    if (loadable(memory, piece.start, piece.size)) continue;
    const last = piece.start + piece.size;
    if (piece.start < MIB) {
      throw file.error('address', `it wants to be loaded at 0x${piece.start.toString(16)}, below 1 MiB, where the machine keeps its own tables.`, 'Link the kernel to 1 MiB or higher.');
    }
    throw file.error('too-big', `this kernel takes memory up to ${Math.ceil(last / MIB)} MiB; the machine has ${memory.size / MIB} MiB.`, 'Give the machine more memory.');
  }
  return { start, size: end - start };
}
