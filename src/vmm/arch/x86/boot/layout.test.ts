// The offsets that we write are those of the kernel's headers: C compiled against them prints the same numbers. hvm_start_info has no
// installed header; its offsets stand in Xen's public/arch-x86/hvm/start_info.h and are declared here anew.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { BOOT_PARAMS, BOOT_PARAMS_SIZE, E820_ENTRY_SIZE, E820_MAX, SETUP_DATA_HEADER_SIZE, SETUP_HEADER } from './bzimage.ts';
import { MULTIBOOT_INFO } from './multiboot.ts';
import { MEMMAP_ENTRY_SIZE, MODLIST_ENTRY_SIZE, START_INFO, START_INFO_SIZE } from './pvh.ts';
import { SCREEN_INFO, SCREEN_INFO_SIZE, VIDEO_CAPABILITY_64BIT_BASE, VIDEO_TYPE_EFI } from './screen-info.ts';
import { Scratch } from './test-kernels.ts';

const scratch = new Scratch();
after(() => scratch.remove());

/** Prints `expressions` from C. */
function compiled(declarations: string, expressions: readonly string[]): number[] {
  const source = scratch.file('layout.c', `#include <stdio.h>\n#include <stddef.h>\n#include <stdint.h>\n${declarations}\nint main(void) {\n${expressions.map((e) => `printf("%llu\\n", (unsigned long long)(${e}));`).join('\n')}\nreturn 0; }\n`);
  const binary = join(scratch.folder, 'layout');
  execFileSync('cc', ['-o', binary, source], { stdio: ['ignore', 'inherit', 'inherit'] });
  return execFileSync(binary, { encoding: 'utf8' }).trim().split('\n').map(Number);
}

function same(declarations: string, expected: Record<string, number>): void {
  const actual = compiled(declarations, Object.keys(expected));
  assert.deepEqual(Object.fromEntries(Object.keys(expected).map((key, i) => [key, actual[i]])), expected);
}

const offsets = (struct: string, table: Record<string, number>, skip: readonly string[] = [], base = 0): Record<string, number> =>
  Object.fromEntries(Object.entries(table).filter(([name]) => !skip.includes(name)).map(([name, value]) => [`offsetof(${struct}, ${name})`, value - base]));

test('boot_params, setup_header, setup_data and e820 entries are as asm/bootparam.h has them', () => {
  same('#include <asm/bootparam.h>', {
    'sizeof(struct boot_params)': BOOT_PARAMS_SIZE,
    ...offsets('struct boot_params', BOOT_PARAMS),
    ...offsets('struct setup_header', SETUP_HEADER, [], BOOT_PARAMS.hdr),
    'sizeof(struct boot_e820_entry)': E820_ENTRY_SIZE,
    E820_MAX_ENTRIES_ZEROPAGE: E820_MAX,
    'offsetof(struct setup_data, data)': SETUP_DATA_HEADER_SIZE,
    'offsetof(struct setup_data, type)': 8,
    'offsetof(struct setup_data, len)': 12,
    XLF_KERNEL_64: 1,
    XLF_CAN_BE_LOADED_ABOVE_4G: 2,
    LOADED_HIGH: 1,
  });
});

test('screen_info is as linux/screen_info.h has it', () => {
  same('#include <linux/screen_info.h>', { 'sizeof(struct screen_info)': SCREEN_INFO_SIZE, ...offsets('struct screen_info', SCREEN_INFO), VIDEO_TYPE_EFI, VIDEO_CAPABILITY_64BIT_BASE });
});

test('hvm_start_info is as Xen declares it', () => {
  const declared = `
    struct hvm_start_info { uint32_t magic, version, flags, nr_modules; uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr; uint32_t memmap_entries, reserved; };
    struct hvm_modlist_entry { uint64_t paddr, size, cmdline_paddr, reserved; };
    struct hvm_memmap_table_entry { uint64_t addr, size; uint32_t type, reserved; };`;
  same(declared, {
    'sizeof(struct hvm_start_info)': START_INFO_SIZE,
    'sizeof(struct hvm_modlist_entry)': MODLIST_ENTRY_SIZE,
    'sizeof(struct hvm_memmap_table_entry)': MEMMAP_ENTRY_SIZE,
    ...offsets('struct hvm_start_info', START_INFO),
  });
});

test('the Multiboot information is as the specification draws it', () => {
  const declared = `
    #pragma pack(push, 1)
    struct info { uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4], mmap_length, mmap_addr, drives_length, drives_addr,
      config_table, boot_loader_name, apm_table, vbe_control_info, vbe_mode_info; uint16_t vbe_mode, vbe_interface_seg, vbe_interface_off, vbe_interface_len;
      uint64_t framebuffer_addr; uint32_t framebuffer_pitch, framebuffer_width, framebuffer_height; uint8_t framebuffer_bpp, framebuffer_type, color_info[6]; };
    #pragma pack(pop)`;
  same(declared, offsets('struct info', MULTIBOOT_INFO));
});

