// Descriptor and page tables for the CPU's state at entry (Intel SDM volume 3, §3.4.5 and §4.5). Pages of 2 MiB: those of 1 GiB are not in every CPU.
import type { GuestMemory } from '../../../memory/guest-memory.ts';
import { BOOT_GDT, PAGE_TABLES } from './low-memory.ts';
import type { DescriptorTable } from './entry.ts';

/** Flat segments of 4 GiB: present, ring 0, accessed; execute/read or read/write. */
const CODE32 = [0x0000_ffff, 0x00cf_9b00] as const;
const CODE64 = [0x0000_ffff, 0x00af_9b00] as const;
const DATA = [0x0000_ffff, 0x00cf_9300] as const;

const PTE_PRESENT_WRITABLE = 0x3;
const PTE_LARGE = 0x80;
const PAGE = 4096;
const LARGE_PAGE = 2 * 2 ** 20;
const ENTRIES = 512;
/** The page tables map this much, one to one. */
export const MAPPED = 4 * 2 ** 30;

/** Writes the descriptor table; selector 0x10 is code, 0x18 data. */
export function writeGdt(memory: GuestMemory, bits: 32 | 64): DescriptorTable {
  const table = new Uint32Array(8);
  table.set(bits === 64 ? CODE64 : CODE32, 4);
  table.set(DATA, 6);
  const bytes = new Uint8Array(table.buffer);
  memory.write(BOOT_GDT, bytes);
  return { base: BOOT_GDT, limit: bytes.length - 1 };
}

/** Writes page tables that map the first 4 GiB one to one. @returns the physical address for CR3. */
export function writePageTables(memory: GuestMemory): number {
  const directories = MAPPED / 2 ** 30;
  const tables = new DataView(new ArrayBuffer((2 + directories) * PAGE));
  const entry = (table: number, index: number, value: number): void => tables.setUint32(table * PAGE + index * 8, value, true);
  entry(0, 0, PAGE_TABLES + PAGE + PTE_PRESENT_WRITABLE);
  for (let d = 0; d < directories; d++) {
    entry(1, d, PAGE_TABLES + (2 + d) * PAGE + PTE_PRESENT_WRITABLE);
    for (let i = 0; i < ENTRIES; i++) entry(2 + d, i, (d * ENTRIES + i) * LARGE_PAGE + PTE_LARGE + PTE_PRESENT_WRITABLE);
  }
  memory.write(PAGE_TABLES, new Uint8Array(tables.buffer));
  return PAGE_TABLES;
}
