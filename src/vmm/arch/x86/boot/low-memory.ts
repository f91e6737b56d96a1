// Where direct boot puts its own things in the first MiB, and the memory map that it tells the guest.
// Address ranges and their types are those of ACPI 6.5 §15 (E820); PVH's and Multiboot's maps use the same numbers.
import type { GuestMemory } from '../../../memory/guest-memory.ts';

/** Descriptor table at entry; 64-bit Linux wants selectors 0x10 and 0x18 (Documentation/arch/x86/boot.rst). */
export const BOOT_GDT = 0x5000;
/** Zero page, hvm_start_info or Multiboot information, with the small tables that go with it. */
export const BOOT_INFORMATION = 0x6000;
export const BOOT_STACK_TOP = 0x8000;
/** PML4, PDPT and four page directories: 4 GiB in pages of 2 MiB. */
export const PAGE_TABLES = 0x8000;
export const SETUP_DATA = 0xf000;
export const COMMAND_LINE = 0x20000;
export const COMMAND_LINE_END = 0x30000;
/** What direct boot writes lies in [BOOT_AREA_START, BOOT_AREA_END); no segment of a kernel may. */
export const BOOT_AREA_START = 0x5000;
export const BOOT_AREA_END = COMMAND_LINE_END;

/** Conventional memory ends here; the extended BIOS data area and the adapters' area follow. */
export const EBDA_START = 0x9_fc00;
export const BIOS_AREA_START = 0xa_0000;
/** ACPI tables: RSDP first, where systems that are told nothing search for it (0xE0000 to 0xFFFFF). */
export const ACPI_TABLES = 0xe_0000;
/** The FACS, which stays in use; ACPI NVS. */
export const ACPI_NVS = 0xe_f000;
export const ACPI_END = 0xf_0000;
export const HIGH_MEMORY = 0x10_0000;
const FOUR_GIB = 2 ** 32;
/** IOAPIC, LAPIC, KVM's TSS and identity map, the firmware's flash: reserved to the end of the first 4 GiB. */
const TOP_RESERVED = 0xfec0_0000;

export const E820_RAM = 1;
export const E820_RESERVED = 2;
export const E820_ACPI = 3;
export const E820_NVS = 4;

export interface MemoryRange {
  readonly start: number;
  readonly size: number;
  /** E820_*. */
  readonly type: number;
}

export interface ByteRange {
  readonly start: number;
  readonly size: number;
}

/** RAM as few ranges, in order: windows that touch are one. */
export function ramRanges(memory: GuestMemory): ByteRange[] {
  const found: { start: number; size: number }[] = [];
  for (const w of memory.windows.toSorted((a, b) => a.gpa - b.gpa)) {
    const last = found.at(-1);
    if (last !== undefined && last.start + last.size === w.gpa) last.size += w.size;
    else found.push({ start: w.gpa, size: w.size });
  }
  return found;
}

/**
 * The memory map, in order of address. Every address below 4 GiB is told except those that PCI BARs may take; RAM above 4 GiB follows.
 * @param ecam where PCIEXBAR points, or null while it is off.
 */
export function memoryMap(memory: GuestMemory, ecam: ByteRange | null): MemoryRange[] {
  const map: MemoryRange[] = [
    { start: 0, size: EBDA_START, type: E820_RAM },
    { start: EBDA_START, size: ACPI_TABLES - EBDA_START, type: E820_RESERVED },
    { start: ACPI_TABLES, size: ACPI_NVS - ACPI_TABLES, type: E820_ACPI },
    { start: ACPI_NVS, size: ACPI_END - ACPI_NVS, type: E820_NVS },
    { start: ACPI_END, size: HIGH_MEMORY - ACPI_END, type: E820_RESERVED },
  ];
  for (const { start, size } of ramRanges(memory)) {
    const from = Math.max(start, HIGH_MEMORY);
    if (start + size > from) map.push({ start: from, size: start + size - from, type: E820_RAM });
  }
  if (ecam !== null) map.push({ start: ecam.start, size: ecam.size, type: E820_RESERVED });
  map.push({ start: TOP_RESERVED, size: FOUR_GIB - TOP_RESERVED, type: E820_RESERVED });
  return map.sort((a, b) => a.start - b.start);
}

/** True when all of `[start, start + size)` is RAM that a kernel may be loaded to: not the adapters' area, not what direct boot writes itself. */
export function loadable(memory: GuestMemory, start: number, size: number): boolean {
  const end = start + size;
  if (memory.segments(start, size) === null) return false;
  const clear = (from: number, to: number): boolean => end <= from || start >= to;
  return clear(0, 0x1000) && clear(BOOT_AREA_START, BOOT_AREA_END) && clear(EBDA_START, HIGH_MEMORY);
}
