// Multiboot 1 kernels (Multiboot Specification 0.6.96): the header in the first 8 KiB, ELF of 32 or 64 bits or the header's own addresses,
// entered in 32-bit mode with EAX = 0x2BADB002 and EBX = the information. Left out: symbols, drives, ROM configuration table, APM, VBE.
import { basename } from 'node:path';
import type { BootFile } from '../../../boot/boot-file.ts';
import { loadSegments, physicalEntry, readElf } from '../../../boot/elf.ts';
import type { GuestMemory } from '../../../memory/guest-memory.ts';
import { COMMAND_LINE_MAX, writeCommandLine } from './command-line.ts';
import { checkLoad, checkSegments } from './elf-span.ts';
import type { BootEntry } from './entry.ts';
import { loadInitrd } from './initrd.ts';
import { writeGdt } from './long-mode.ts';
import { BOOT_INFORMATION, BOOT_STACK_TOP, EBDA_START, HIGH_MEMORY, ramRanges, type ByteRange, type MemoryRange } from './low-memory.ts';
import type { Framebuffer } from './screen-info.ts';

const HEADER_MAGIC = 0x1bad_b002;
const LOADER_MAGIC = 0x2bad_b002;
/** The header lies wholly in this much of the file. */
const SEARCH = 8192;

/** Offsets in the header. */
const HEADER = { magic: 0, flags: 4, checksum: 8, header_addr: 12, load_addr: 16, load_end_addr: 20, bss_end_addr: 24, entry_addr: 28 } as const;
/** Bits 0 to 15 must be understood. Bits 0 to 2: page-aligned modules, memory, video mode; all are always given (video if there is a screen). */
const FLAGS_REQUIRED = 0xffff;
const FLAGS_KNOWN = 0x0007;
const FLAG_ADDRESSES = 1 << 16;

/** Offsets in the information structure. */
export const MULTIBOOT_INFO = {
  flags: 0, mem_lower: 4, mem_upper: 8, boot_device: 12, cmdline: 16, mods_count: 20, mods_addr: 24, mmap_length: 44, mmap_addr: 48,
  boot_loader_name: 64, framebuffer_addr: 88, framebuffer_pitch: 96, framebuffer_width: 100, framebuffer_height: 104, framebuffer_bpp: 108,
  framebuffer_type: 109, color_info: 110,
} as const;
const INFO_SIZE = 116;
const INFO_MEMORY = 1 << 0;
const INFO_CMDLINE = 1 << 2;
const INFO_MODS = 1 << 3;
const INFO_MMAP = 1 << 6;
const INFO_LOADER_NAME = 1 << 9;
const INFO_FRAMEBUFFER = 1 << 12;
const FRAMEBUFFER_RGB = 1;

/** Where the parts lie after the information structure. */
const MODULE = 0x80;
const LOADER_NAME = 0xa0;
const MMAP = 0x100;
const MMAP_ENTRY_SIZE = 24;
const KIB = 1024;

export interface MultibootInput {
  readonly initrd?: string;
  readonly append: string;
  readonly memory: GuestMemory;
  readonly map: readonly MemoryRange[];
  readonly framebuffer: Framebuffer | null;
}

export interface MultibootHeader {
  /** Of the header in the file. */
  readonly offset: number;
  readonly flags: number;
  readonly data: DataView;
}

/** The header, or null when there is none with a right checksum. */
export function findMultibootHeader(file: BootFile): MultibootHeader | null {
  const bytes = file.peek(0, SEARCH);
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let offset = 0; offset + 12 <= bytes.length; offset += 4) {
    if (data.getUint32(offset, true) !== HEADER_MAGIC) continue;
    const flags = data.getUint32(offset + HEADER.flags, true);
    if ((HEADER_MAGIC + flags + data.getUint32(offset + HEADER.checksum, true)) % 2 ** 32 !== 0) continue;
    return { offset, flags, data: new DataView(bytes.buffer, bytes.byteOffset + offset, bytes.length - offset) };
  }
  return null;
}

/** Puts the kernel, its initrd (as the one module), command line and information into guest RAM. Throws VitrineError. */
export function loadMultiboot(file: BootFile, header: MultibootHeader, input: MultibootInput): BootEntry {
  const { memory } = input;
  const unknown = header.flags & FLAGS_REQUIRED & ~FLAGS_KNOWN;
  if (unknown !== 0) throw file.error('multiboot-flags', `its Multiboot header asks for features that are not known here (bits 0x${unknown.toString(16)}).`, 'Build it for Multiboot 1.');
  // The first word is the program's name, as other loaders give it; kernels take it for argv[0].
  const name = basename(file.path).replace(/\s/g, '_');
  const cmdline = writeCommandLine(memory, file.path, input.append === '' ? name : `${name} ${input.append}`, COMMAND_LINE_MAX);
  const { kernel, eip } = (header.flags & FLAG_ADDRESSES) !== 0 ? loadByAddresses(file, header, memory) : loadElf(file, memory);
  if (eip < kernel.start || eip >= kernel.start + kernel.size) {
    throw file.error('damaged', `its entry point (0x${eip.toString(16)}) lies outside of what is loaded.`, 'Fetch or build it again.');
  }
  const initrd = input.initrd === undefined ? null : loadInitrd(input.initrd, memory, 2 ** 32, kernel);
  writeInformation(input, cmdline, initrd);
  return { kind: 'multiboot', eip, eax: LOADER_MAGIC, ebx: BOOT_INFORMATION, esp: BOOT_STACK_TOP, gdt: writeGdt(memory, 32) };
}

function loadElf(file: BootFile, memory: GuestMemory): { kernel: ByteRange; eip: number } {
  const elf = readElf(file);
  if (elf === null) throw file.error('unrecognised', 'it has a Multiboot header that gives no addresses, and is no ELF file for x86.', 'Build it as ELF for i386 or x86-64.');
  const kernel = checkSegments(file, elf, memory);
  loadSegments(file, elf, memory);
  return { kernel, eip: physicalEntry(elf) };
}

/** §3.1.3: load addresses in the header, for files that are not ELF. */
function loadByAddresses(file: BootFile, header: MultibootHeader, memory: GuestMemory): { kernel: ByteRange; eip: number } {
  if (header.data.byteLength < HEADER.entry_addr + 4) throw file.truncated('its Multiboot header is cut off');
  const field = (offset: number): number => header.data.getUint32(offset, true);
  const load = field(HEADER.load_addr);
  const offset = header.offset - (field(HEADER.header_addr) - load);
  const loadEnd = field(HEADER.load_end_addr);
  const size = loadEnd === 0 ? file.size - offset : loadEnd - load;
  const total = Math.max(size, field(HEADER.bss_end_addr) - load);
  if (offset < 0 || size <= 0) throw file.error('damaged', 'the addresses in its Multiboot header contradict each other.', 'Fetch or build it again.');
  if (offset + size > file.size) throw file.truncated(`the kernel should reach to byte ${offset + size}, but there are ${file.size}`);
  const kernel = checkLoad(file, [{ start: load, size: total }], memory);
  file.load(memory, load, offset, size);
  for (const piece of memory.segments(load + size, total - size)!) piece.bytes.fill(0);
  return { kernel, eip: field(HEADER.entry_addr) };
}

function writeInformation(input: MultibootInput, cmdline: number, initrd: ByteRange | null): void {
  const { memory, map, framebuffer } = input;
  const block = new Uint8Array(MMAP + map.length * MMAP_ENTRY_SIZE);
  const data = new DataView(block.buffer);
  const put = (at: number, value: number): void => data.setUint32(at, value, true);
  const I = MULTIBOOT_INFO;
  const upper = ramRanges(memory)[0]!;
  put(I.flags, INFO_MEMORY | INFO_CMDLINE | INFO_MMAP | INFO_LOADER_NAME | (initrd === null ? 0 : INFO_MODS) | (framebuffer === null ? 0 : INFO_FRAMEBUFFER));
  put(I.mem_lower, Math.floor(EBDA_START / KIB));
  put(I.mem_upper, Math.max(0, Math.floor((upper.start + upper.size - HIGH_MEMORY) / KIB)));
  put(I.cmdline, cmdline);
  if (initrd !== null) {
    put(I.mods_count, 1);
    put(I.mods_addr, BOOT_INFORMATION + MODULE);
    put(MODULE, initrd.start);
    put(MODULE + 4, initrd.start + initrd.size);
    put(MODULE + 8, BOOT_INFORMATION + INFO_SIZE); // an empty string: the zeros behind the structure
  }
  put(I.boot_loader_name, BOOT_INFORMATION + LOADER_NAME);
  block.set(new TextEncoder().encode('Vitrine\0'), LOADER_NAME);
  put(I.mmap_length, map.length * MMAP_ENTRY_SIZE);
  put(I.mmap_addr, BOOT_INFORMATION + MMAP);
  map.forEach((range, i) => {
    const at = MMAP + i * MMAP_ENTRY_SIZE;
    put(at, MMAP_ENTRY_SIZE - 4); // the size of an entry does not count itself
    data.setBigUint64(at + 4, BigInt(range.start), true);
    data.setBigUint64(at + 12, BigInt(range.size), true);
    put(at + 20, range.type);
  });
  if (framebuffer !== null) {
    data.setBigUint64(I.framebuffer_addr, BigInt(framebuffer.address), true);
    put(I.framebuffer_pitch, framebuffer.stride);
    put(I.framebuffer_width, framebuffer.width);
    put(I.framebuffer_height, framebuffer.height);
    data.setUint8(I.framebuffer_bpp, framebuffer.bitsPerPixel);
    data.setUint8(I.framebuffer_type, FRAMEBUFFER_RGB);
    block.set([16, 8, 8, 8, 0, 8], I.color_info); // position and size of red, green, blue
  }
  memory.write(BOOT_INFORMATION, block);
}
