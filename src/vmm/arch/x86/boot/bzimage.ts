// Linux bzImage by the 64-bit entry (Documentation/arch/x86/boot.rst, "64-bit BOOT PROTOCOL"; struct boot_params in asm/bootparam.h).
// Left out: the 16- and 32-bit entries, so 32-bit kernels, and the EFI handover.
import type { BootFile } from '../../../boot/boot-file.ts';
import { MIB } from '../../../boot/boot-file.ts';
import { u64 } from '../../../boot/elf.ts';
import type { GuestMemory } from '../../../memory/guest-memory.ts';
import { writeCommandLine } from './command-line.ts';
import type { BootEntry } from './entry.ts';
import { loadInitrd } from './initrd.ts';
import { MAPPED, writeGdt, writePageTables } from './long-mode.ts';
import { BOOT_INFORMATION, BOOT_STACK_TOP, HIGH_MEMORY, loadable, SETUP_DATA, type MemoryRange } from './low-memory.ts';
import { screenInfo, type Framebuffer } from './screen-info.ts';

const SECTOR = 512;
export const BOOT_PARAMS_SIZE = 4096;

/** Offsets in struct boot_params; those of setup_header are the same in the file. */
export const BOOT_PARAMS = {
  screen_info: 0x000, acpi_rsdp_addr: 0x070, ext_ramdisk_image: 0x0c0, ext_ramdisk_size: 0x0c4, ext_cmd_line_ptr: 0x0c8, e820_entries: 0x1e8,
  hdr: 0x1f1, e820_table: 0x2d0,
} as const;
/** Offsets in struct setup_header, from the start of boot_params. */
export const SETUP_HEADER = {
  setup_sects: 0x1f1, syssize: 0x1f4, vid_mode: 0x1fa, boot_flag: 0x1fe, jump: 0x200, header: 0x202, version: 0x206, type_of_loader: 0x210,
  loadflags: 0x211, code32_start: 0x214, ramdisk_image: 0x218, ramdisk_size: 0x21c, cmd_line_ptr: 0x228, initrd_addr_max: 0x22c,
  kernel_alignment: 0x230, relocatable_kernel: 0x234, xloadflags: 0x236, cmdline_size: 0x238, setup_data: 0x250, pref_address: 0x258,
  init_size: 0x260,
} as const;
/** The header may grow to here; the EDD area follows. */
const HEADER_END = 0x290;
export const E820_ENTRY_SIZE = 20;
export const E820_MAX = 128;

const MAGIC_HDRS = 0x5372_6448;
const BOOT_FLAG = 0xaa55;
const VERSION_64BIT = 0x020c;
const LOADED_HIGH = 1 << 0;
const XLF_KERNEL_64 = 1 << 0;
const XLF_CAN_BE_LOADED_ABOVE_4G = 1 << 1;
/** "A loader without an id of its own." */
const LOADER_UNASSIGNED = 0xff;
const VID_MODE_NORMAL = 0xffff;
const ENTRY_64 = 0x200;

/** struct setup_data: next, type, len, data. */
export const SETUP_DATA_HEADER_SIZE = 16;
export const SETUP_RNG_SEED = 9;

export interface LinuxInput {
  readonly initrd?: string;
  readonly append: string;
  readonly memory: GuestMemory;
  readonly map: readonly MemoryRange[];
  readonly framebuffer: Framebuffer | null;
  readonly acpiRsdp: number;
  readonly rngSeed: Uint8Array;
}

/** True for a file with a Linux x86 boot header, whatever its version. */
export function isBzImage(head: Uint8Array): boolean {
  const data = new DataView(head.buffer, head.byteOffset, head.byteLength);
  return head.length >= SETUP_HEADER.version && data.getUint32(SETUP_HEADER.header, true) === MAGIC_HDRS && data.getUint16(SETUP_HEADER.boot_flag, true) === BOOT_FLAG;
}

interface Header {
  /** The bytes from setup_header's start to its end, as the file has them. */
  readonly bytes: Uint8Array;
  /** Of the part that is loaded. */
  readonly offset: number;
  readonly size: number;
  readonly address: number;
  /** RAM that the kernel needs from `address` on before it has read the memory map. */
  readonly needed: number;
  readonly commandLineLimit: number;
  /** One past the last address at which it can reach an initrd. */
  readonly initrdLimit: number;
}

function readHeader(file: BootFile): Header {
  const head = file.read(0, HEADER_END, 'the boot header');
  const data = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const H = SETUP_HEADER;
  const version = data.getUint16(H.version, true);
  const named = `${version >> 8}.${String(version & 0xff).padStart(2, '0')}`;
  if (version < VERSION_64BIT) {
    throw file.error('architecture', `this Linux kernel speaks boot protocol ${named}; the 64-bit entry needs 2.12 (Linux 3.8, 2013).`, 'Choose a newer 64-bit kernel.');
  }
  const xloadflags = data.getUint16(H.xloadflags, true);
  if ((xloadflags & XLF_KERNEL_64) === 0) throw file.error('architecture', 'this Linux kernel is for 32-bit x86 (i386) only.', 'Choose a kernel for x86-64 (amd64).');
  if ((head[H.loadflags]! & LOADED_HIGH) === 0) throw file.error('damaged', 'its boot header says that it loads below 1 MiB, which no 64-bit kernel does.', 'Fetch it again.');

  const offset = ((head[H.setup_sects]! || 4) + 1) * SECTOR;
  const size = data.getUint32(H.syssize, true) * 16;
  if (size === 0) throw file.error('damaged', 'its boot header says that the kernel is empty.', 'Fetch it again.');
  const present = file.size - offset;
  if (present <= size - 16) throw file.truncated(`the kernel should reach to byte ${offset + size}, but there are ${file.size}`); // syssize counts paragraphs, the last may be short

  const alignment = Math.max(1, data.getUint32(H.kernel_alignment, true));
  const preferred = Math.max(HIGH_MEMORY, u64(data, H.pref_address));
  // A relocatable kernel moves itself up to the alignment that it wants; placed there at once, it need not.
  const address = head[H.relocatable_kernel] === 0 ? preferred : Math.ceil(preferred / alignment) * alignment;
  const loaded = Math.min(size, present);
  const end = Math.min(HEADER_END, H.header + head[0x201]!); // the jump's operand is the header's length
  return {
    bytes: head.subarray(H.setup_sects, Math.max(end, H.init_size + 4)),
    offset,
    size: loaded,
    address,
    needed: Math.max(loaded, data.getUint32(H.init_size, true)),
    commandLineLimit: data.getUint32(H.cmdline_size, true),
    initrdLimit: (xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G) !== 0 ? Number.MAX_SAFE_INTEGER : data.getUint32(H.initrd_addr_max, true) + 1,
  };
}

/** Puts the kernel, its initrd, command line and zero page into guest RAM. Throws VitrineError. */
export function loadBzImage(file: BootFile, input: LinuxInput): BootEntry {
  const { memory } = input;
  const header = readHeader(file);
  const kernel = { start: header.address, size: header.needed };
  if (kernel.start + kernel.size > MAPPED || !loadable(memory, kernel.start, kernel.size)) {
    const least = Math.ceil((kernel.start + kernel.size) / MIB);
    throw file.error('too-big', `this kernel needs at least ${least} MiB of memory to start; the machine has ${memory.size / MIB} MiB.`, 'Give the machine more memory.');
  }
  const cmdline = writeCommandLine(memory, file.path, input.append, header.commandLineLimit);
  file.load(memory, kernel.start, header.offset, header.size);
  const initrd = input.initrd === undefined ? null : loadInitrd(input.initrd, memory, header.initrdLimit, kernel);

  const zeroPage = new Uint8Array(BOOT_PARAMS_SIZE);
  zeroPage.set(header.bytes, BOOT_PARAMS.hdr);
  const data = new DataView(zeroPage.buffer);
  const H = SETUP_HEADER;
  data.setUint8(H.type_of_loader, LOADER_UNASSIGNED);
  data.setUint16(H.vid_mode, VID_MODE_NORMAL, true);
  data.setUint32(H.code32_start, kernel.start, true);
  data.setUint32(H.cmd_line_ptr, cmdline, true);
  if (initrd !== null) {
    const low = (value: number): number => value % 2 ** 32;
    const high = (value: number): number => Math.floor(value / 2 ** 32);
    data.setUint32(H.ramdisk_image, low(initrd.start), true);
    data.setUint32(H.ramdisk_size, low(initrd.size), true);
    data.setUint32(BOOT_PARAMS.ext_ramdisk_image, high(initrd.start), true);
    data.setUint32(BOOT_PARAMS.ext_ramdisk_size, high(initrd.size), true);
  }
  if (input.framebuffer !== null) zeroPage.set(screenInfo(input.framebuffer), BOOT_PARAMS.screen_info);
  data.setBigUint64(BOOT_PARAMS.acpi_rsdp_addr, BigInt(input.acpiRsdp), true);
  data.setBigUint64(H.setup_data, BigInt(writeSeed(memory, input.rngSeed)), true);
  const map = input.map.slice(0, E820_MAX);
  data.setUint8(BOOT_PARAMS.e820_entries, map.length);
  map.forEach((range, i) => {
    const at = BOOT_PARAMS.e820_table + i * E820_ENTRY_SIZE;
    data.setBigUint64(at, BigInt(range.start), true);
    data.setBigUint64(at + 8, BigInt(range.size), true);
    data.setUint32(at + 16, range.type, true);
  });
  memory.write(BOOT_INFORMATION, zeroPage);
  return { kind: 'linux64', rip: kernel.start + ENTRY_64, rsi: BOOT_INFORMATION, rsp: BOOT_STACK_TOP, pageTable: writePageTables(memory), gdt: writeGdt(memory, 64) };
}

/** A setup_data chain of one: the seed of the guest's random numbers, which the kernel wipes. @returns its address. */
function writeSeed(memory: GuestMemory, seed: Uint8Array): number {
  const block = new Uint8Array(SETUP_DATA_HEADER_SIZE + seed.length);
  const data = new DataView(block.buffer);
  data.setUint32(8, SETUP_RNG_SEED, true);
  data.setUint32(12, seed.length, true);
  block.set(seed, SETUP_DATA_HEADER_SIZE);
  memory.write(SETUP_DATA, block);
  return SETUP_DATA;
}
