// What direct boot hands to the one who sets up the first CPU: where it starts, in which mode, with which registers. Everything that
// these point to is in guest RAM already.

/** Selectors in the descriptor table at `gdt`: flat, 4 GiB (64-bit code for linux64). */
export const BOOT_CODE_SELECTOR = 0x10;
export const BOOT_DATA_SELECTOR = 0x18;

export interface DescriptorTable {
  readonly base: number;
  /** In bytes, less one. */
  readonly limit: number;
}

export type BootEntry =
  /** Long mode, paging on with `pageTable` in CR3 (4 GiB mapped one to one), interrupts off, RSI = boot_params. */
  | { readonly kind: 'linux64'; readonly rip: number; readonly rsi: number; readonly rsp: number; readonly pageTable: number; readonly gdt: DescriptorTable }
  /** 32-bit protected mode, paging off, EBX = hvm_start_info. */
  | { readonly kind: 'pvh'; readonly eip: number; readonly ebx: number; readonly esp: number; readonly gdt: DescriptorTable }
  /** 32-bit protected mode, paging off, EAX = 0x2BADB002, EBX = Multiboot information. */
  | { readonly kind: 'multiboot'; readonly eip: number; readonly eax: number; readonly ebx: number; readonly esp: number; readonly gdt: DescriptorTable };
