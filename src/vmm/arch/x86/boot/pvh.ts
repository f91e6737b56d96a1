// ELF kernels by PVH (Xen's docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h): entered in 32-bit mode at the address that
// an ELF note gives, EBX = hvm_start_info. Linux built with CONFIG_PVH=y carries the note in vmlinux. It has no place for a framebuffer.
import type { BootFile } from '../../../boot/boot-file.ts';
import { loadSegments, type Elf } from '../../../boot/elf.ts';
import type { GuestMemory } from '../../../memory/guest-memory.ts';
import { COMMAND_LINE_MAX, writeCommandLine } from './command-line.ts';
import { checkSegments } from './elf-span.ts';
import type { BootEntry } from './entry.ts';
import { loadInitrd } from './initrd.ts';
import { writeGdt } from './long-mode.ts';
import { BOOT_INFORMATION, BOOT_STACK_TOP, type MemoryRange } from './low-memory.ts';

const XEN_NOTE = 'Xen';
/** public/elfnote.h */
const XEN_ELFNOTE_PHYS32_ENTRY = 18;
export const XEN_HVM_START_MAGIC_VALUE = 0x336e_c578;
const START_INFO_VERSION = 1;

/** Offsets in struct hvm_start_info, version 1. */
export const START_INFO = {
  magic: 0, version: 4, flags: 8, nr_modules: 12, modlist_paddr: 16, cmdline_paddr: 24, rsdp_paddr: 32, memmap_paddr: 40, memmap_entries: 48,
} as const;
export const START_INFO_SIZE = 56;
/** struct hvm_modlist_entry: paddr, size, cmdline_paddr, reserved. */
export const MODLIST_ENTRY_SIZE = 32;
/** struct hvm_memmap_table_entry: addr, size, type, reserved. */
export const MEMMAP_ENTRY_SIZE = 24;
const MODLIST = 0x100;
const MEMMAP = 0x200;

export interface PvhInput {
  readonly initrd?: string;
  readonly append: string;
  readonly memory: GuestMemory;
  readonly map: readonly MemoryRange[];
  readonly acpiRsdp: number;
}

/** The physical address that the PVH note gives, or null when there is none. */
export function pvhEntry(elf: Elf): number | null {
  const note = elf.notes.find((n) => n.name === XEN_NOTE && n.type === XEN_ELFNOTE_PHYS32_ENTRY && n.desc.length >= 4);
  return note === undefined ? null : new DataView(note.desc.buffer, note.desc.byteOffset, 4).getUint32(0, true);
}

/** Puts the kernel, its initrd, command line and start information into guest RAM. Throws VitrineError. */
export function loadPvh(file: BootFile, elf: Elf, eip: number, input: PvhInput): BootEntry {
  const { memory } = input;
  const kernel = checkSegments(file, elf, memory);
  const cmdline = writeCommandLine(memory, file.path, input.append, COMMAND_LINE_MAX);
  loadSegments(file, elf, memory);
  const initrd = input.initrd === undefined ? null : loadInitrd(input.initrd, memory, 2 ** 32, kernel);

  const block = new Uint8Array(MEMMAP + input.map.length * MEMMAP_ENTRY_SIZE);
  const data = new DataView(block.buffer);
  const put64 = (at: number, value: number): void => data.setBigUint64(at, BigInt(value), true);
  data.setUint32(START_INFO.magic, XEN_HVM_START_MAGIC_VALUE, true);
  data.setUint32(START_INFO.version, START_INFO_VERSION, true);
  if (initrd !== null) {
    data.setUint32(START_INFO.nr_modules, 1, true);
    put64(START_INFO.modlist_paddr, BOOT_INFORMATION + MODLIST);
    put64(MODLIST, initrd.start);
    put64(MODLIST + 8, initrd.size);
  }
  put64(START_INFO.cmdline_paddr, cmdline);
  put64(START_INFO.rsdp_paddr, input.acpiRsdp);
  put64(START_INFO.memmap_paddr, BOOT_INFORMATION + MEMMAP);
  data.setUint32(START_INFO.memmap_entries, input.map.length, true);
  input.map.forEach((range, i) => {
    const at = MEMMAP + i * MEMMAP_ENTRY_SIZE;
    put64(at, range.start);
    put64(at + 8, range.size);
    data.setUint32(at + 16, range.type, true);
  });
  memory.write(BOOT_INFORMATION, block);
  return { kind: 'pvh', eip, ebx: BOOT_INFORMATION, esp: BOOT_STACK_TOP, gdt: writeGdt(memory, 32) };
}
