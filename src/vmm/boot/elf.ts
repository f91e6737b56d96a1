// ELF executables, 32 and 64 bit, little-endian: program headers, notes, and loading by physical address (System V ABI, chapters 4 and 5).
// Sections, relocation and dynamic linking are left out: kernels need none of it.
import type { BootFile } from './boot-file.ts';
import { MIB } from './boot-file.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';

const ELFCLASS32 = 1;
const ELFCLASS64 = 2;
const ELFDATA2LSB = 1;
const PT_LOAD = 1;
const PT_NOTE = 4;
const MAX_NOTES = MIB;
/** Kernels have fewer than 20 program headers. */
const MAX_SEGMENTS = 1024;

export const EM_386 = 3;
export const EM_X86_64 = 62;

export interface ElfSegment {
  readonly offset: number;
  readonly vaddr: number;
  readonly paddr: number;
  readonly fileSize: number;
  readonly memorySize: number;
}

export interface ElfNote {
  readonly name: string;
  readonly type: number;
  readonly desc: Uint8Array;
}

export interface Elf {
  readonly bits: 32 | 64;
  readonly machine: number;
  /** As the header has it: virtual or physical. */
  readonly entry: number;
  /** PT_LOAD segments that take memory. */
  readonly segments: readonly ElfSegment[];
  readonly notes: readonly ElfNote[];
}

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** A 64-bit field as a float64. What is over 2^53 is rounded: callers only compare it with RAM, which is far below. */
export function u64(data: DataView, offset: number): number {
  return data.getUint32(offset, true) + data.getUint32(offset + 4, true) * 2 ** 32;
}

export function isElf(head: Uint8Array): boolean {
  return head.length >= 4 && head[0] === 0x7f && head[1] === 0x45 && head[2] === 0x4c && head[3] === 0x46;
}

/** The headers of an ELF file for x86; null when it is none (other machine, big-endian, unknown class). Throws "kernel-truncated" and "kernel-damaged". */
export function readElf(file: BootFile): Elf | null {
  const ident = file.peek(0, 20);
  if (ident.length < 20 || !isElf(ident) || ident[5] !== ELFDATA2LSB) return null;
  const wide = ident[4] === ELFCLASS64;
  if (!wide && ident[4] !== ELFCLASS32) return null;
  const machine = view(ident).getUint16(18, true);
  if (machine !== EM_386 && machine !== EM_X86_64) return null;

  const header = view(file.read(0, wide ? 64 : 52, 'the ELF header'));
  const entry = wide ? u64(header, 24) : header.getUint32(24, true);
  const phoff = wide ? u64(header, 32) : header.getUint32(28, true);
  const phentsize = header.getUint16(wide ? 54 : 42, true);
  const phnum = header.getUint16(wide ? 56 : 44, true);
  const least = wide ? 56 : 32;
  if (phnum > MAX_SEGMENTS || (phnum > 0 && phentsize < least)) {
    throw file.error('damaged', `its ELF header tells of ${phnum} program headers of ${phentsize} bytes.`, 'Fetch or build it again.');
  }
  const table = view(file.read(phoff, phnum * phentsize, 'the ELF program headers'));

  const segments: ElfSegment[] = [];
  const notes: ElfNote[] = [];
  for (let i = 0; i < phnum; i++) {
    const at = i * phentsize;
    const type = table.getUint32(at, true);
    const segment: ElfSegment = wide
      ? { offset: u64(table, at + 8), vaddr: u64(table, at + 16), paddr: u64(table, at + 24), fileSize: u64(table, at + 32), memorySize: u64(table, at + 40) }
      : { offset: table.getUint32(at + 4, true), vaddr: table.getUint32(at + 8, true), paddr: table.getUint32(at + 12, true), fileSize: table.getUint32(at + 16, true), memorySize: table.getUint32(at + 20, true) };
    if (type === PT_LOAD && segment.memorySize > 0) {
      if (segment.fileSize > segment.memorySize) throw file.error('damaged', 'an ELF segment is larger in the file than in memory.', 'Fetch or build it again.');
      if (segment.offset + segment.fileSize > file.size) throw file.truncated(`an ELF segment should reach to byte ${segment.offset + segment.fileSize}, but there are ${file.size}`);
      segments.push(segment);
    } else if (type === PT_NOTE) {
      parseNotes(file.read(segment.offset, Math.min(segment.fileSize, MAX_NOTES), 'the ELF notes'), notes);
    }
  }
  return { bits: wide ? 64 : 32, machine, entry, segments, notes };
}

/** Notes are aligned to 4 bytes, also in 64-bit files of Linux and Xen. What does not fit ends the list. */
function parseNotes(bytes: Uint8Array, notes: ElfNote[]): void {
  const data = view(bytes);
  const align = (n: number): number => Math.ceil(n / 4) * 4;
  for (let at = 0; at + 12 <= bytes.length; ) {
    const nameSize = data.getUint32(at, true);
    const descSize = data.getUint32(at + 4, true);
    const nameAt = at + 12;
    const descAt = nameAt + align(nameSize);
    if (descAt + descSize > bytes.length) return;
    const name = String.fromCharCode(...bytes.subarray(nameAt, nameAt + Math.min(nameSize, 64))).replace(/\0.*$/s, '');
    notes.push({ name, type: data.getUint32(at + 8, true), desc: bytes.subarray(descAt, descAt + descSize) });
    at = descAt + align(descSize);
  }
}

/** Physical address of the entry point: headers name it virtual or physical, a segment that holds it tells which. */
export function physicalEntry(elf: Elf): number {
  for (const s of elf.segments) if (elf.entry >= s.vaddr && elf.entry < s.vaddr + s.memorySize) return elf.entry - s.vaddr + s.paddr;
  return elf.entry;
}

/** Copies the segments to their physical addresses and zeroes what the file does not hold. The caller has checked that all of it is RAM. */
export function loadSegments(file: BootFile, elf: Elf, memory: GuestMemory): void {
  for (const s of elf.segments) {
    file.load(memory, s.paddr, s.offset, s.fileSize);
    const rest = memory.segments(s.paddr + s.fileSize, s.memorySize - s.fileSize);
    if (rest === null) throw new RangeError(`no RAM at ${s.paddr.toString(16)}, ${s.memorySize} bytes`);
    for (const piece of rest) piece.bytes.fill(0);
  }
}
