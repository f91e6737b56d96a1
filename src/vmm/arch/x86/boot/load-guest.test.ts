// Direct boot over plain guest memory: what each protocol finds where it looks, every bad file a clear error, and mutated headers harmless.
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readdirSync, existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { VitrineError } from '../../../../shared/errors.ts';
import { GuestMemory } from '../../../memory/guest-memory.ts';
import { BOOT_PARAMS, SETUP_HEADER } from './bzimage.ts';
import type { BootEntry } from './entry.ts';
import { loadGuest, type LoadOptions } from './load-guest.ts';
import { ACPI_TABLES, COMMAND_LINE, E820_RAM, E820_RESERVED, memoryMap } from './low-memory.ts';
import { MULTIBOOT_INFO } from './multiboot.ts';
import { START_INFO } from './pvh.ts';
import { placeHigh } from './initrd.ts';
import { SCREEN_INFO } from './screen-info.ts';
import { bzImage, elfFile, HEADER_START, multibootHeader, Scratch } from './test-kernels.ts';

const MIB = 2 ** 20;
const scratch = new Scratch();
after(() => scratch.remove());
const memory = GuestMemory.allocate(64 * MIB);
const ecam = { start: 0xb000_0000, size: 0x1000_0000 };
const framebuffer = { address: 0x1_2000_0000, size: 16 * MIB, width: 1280, height: 800, stride: 5120, bitsPerPixel: 32 } as const;

function load(kernel: string, more: Partial<LoadOptions> = {}): BootEntry {
  return loadGuest({ kernel, append: 'console=tty0', memory, framebuffer, acpiRsdp: ACPI_TABLES, ecam, rngSeed: new Uint8Array(32).fill(7), ...more });
}

function view(gpa: number, length: number, from = memory): DataView {
  const bytes = from.read(gpa, length);
  assert.ok(bytes !== null);
  return new DataView(bytes.buffer);
}

function text(gpa: number): string {
  const bytes = new Uint8Array(view(gpa, 256).buffer);
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}

function fails(code: string, pattern: RegExp, body: () => unknown): void {
  assert.throws(body, (error) => {
    assert.ok(error instanceof VitrineError, String(error));
    assert.equal(error.problem.code, code, error.message);
    assert.match(error.message, pattern);
    assert.ok(error.problem.remedy.length > 0 || code === 'kernel-unreadable');
    return true;
  });
}

test('a bzImage lies at its preferred address with everything that the 64-bit protocol promises', () => {
  const payload = Uint8Array.from({ length: 0x1804 }, (_, i) => i % 251);
  const initrd = scratch.file('initrd', new Uint8Array(10_000).fill(0x55));
  const entry = load(scratch.file('bz', bzImage({ payload })), { initrd });
  assert.ok(entry.kind === 'linux64');
  assert.equal(entry.rip, 0x100_0200);
  assert.deepEqual(memory.read(0x100_0000, payload.length), payload);

  const zero = view(entry.rsi, 4096);
  assert.equal(zero.getUint8(SETUP_HEADER.type_of_loader), 0xff);
  assert.equal(text(zero.getUint32(SETUP_HEADER.cmd_line_ptr, true)), 'console=tty0');
  const ramdisk = zero.getUint32(SETUP_HEADER.ramdisk_image, true);
  assert.equal(ramdisk, 64 * MIB - 12_288, 'as high as possible, on a page');
  assert.equal(zero.getUint32(SETUP_HEADER.ramdisk_size, true), 10_000);
  assert.deepEqual(memory.read(ramdisk, 10_000), new Uint8Array(10_000).fill(0x55));
  assert.equal(zero.getUint32(BOOT_PARAMS.acpi_rsdp_addr, true), ACPI_TABLES);

  assert.equal(zero.getUint8(SCREEN_INFO.orig_video_isVGA), 0x70);
  assert.equal(zero.getUint32(SCREEN_INFO.lfb_base, true), 0x2000_0000);
  assert.equal(zero.getUint32(SCREEN_INFO.ext_lfb_base, true), 1);
  assert.equal(zero.getUint32(SCREEN_INFO.lfb_size, true), 5120 * 800);
  assert.equal(zero.getUint16(SCREEN_INFO.lfb_linelength, true), 5120);

  const map = memoryMap(memory, ecam);
  assert.equal(zero.getUint8(BOOT_PARAMS.e820_entries), map.length);
  const last = BOOT_PARAMS.e820_table + (map.length - 1) * 20;
  assert.equal(zero.getBigUint64(last, true) + zero.getBigUint64(last + 8, true), 2n ** 32n);

  const seed = view(Number(zero.getBigUint64(SETUP_HEADER.setup_data, true)), 48);
  assert.deepEqual([seed.getBigUint64(0, true), seed.getUint32(8, true), seed.getUint32(12, true), seed.getUint8(16), seed.getUint8(47)], [0n, 9, 32, 7, 7]);

  const pml4 = view(entry.pageTable, 8).getUint32(0, true);
  const pdpt = view(Math.floor(pml4 / 4096) * 4096, 32);
  const directory = view(Math.floor(pdpt.getUint32(24, true) / 4096) * 4096, 4096);
  assert.equal(directory.getUint32(511 * 8, true), 0xffe0_0083, 'the last 2 MiB of 4 GiB are mapped one to one');
  const gdt = view(entry.gdt.base, entry.gdt.limit + 1);
  assert.deepEqual([gdt.getUint32(0x14, true), gdt.getUint32(0x1c, true)], [0x00af_9b00, 0x00cf_9300]);
});

test('the memory map tells every byte of RAM, has no overlap, and keeps the tables from the RAM', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 96 * 1024 }), (mib) => {
      const low = Math.min(mib * MIB, 0x8000_0000);
      const windows = [{ gpa: 0, size: low }];
      for (let gpa = 2 ** 32, left = mib * MIB - low; left > 0; gpa += 0x8000_0000, left -= 0x8000_0000) windows.push({ gpa, size: Math.min(left, 0x8000_0000) });
      const map = memoryMap({ windows } as unknown as GuestMemory, ecam);
      let at = 0;
      for (const { start, size } of map) {
        assert.ok(start >= at && size > 0);
        if (start > at) assert.ok(at >= low, 'a gap lies only where PCI may put BARs');
        at = start + size;
      }
      const ram = map.filter((r) => r.type === E820_RAM).reduce((sum, r) => sum + r.size, 0);
      assert.equal(ram, mib * MIB - (MIB - 0x9_fc00));
      assert.ok(map.some((r) => r.type === E820_RESERVED && r.start === ecam.start && r.size === ecam.size));
    }),
    { numRuns: 200 },
  );
});

test('an initrd is placed as high as the kernel reaches, never over it, and above 4 GiB only when it must', () => {
  const GIB = 2 ** 30;
  const six = { windows: [{ gpa: 0, size: 2 * GIB }, { gpa: 4 * GIB, size: 2 * GIB }, { gpa: 6 * GIB, size: 2 * GIB }] } as unknown as GuestMemory;
  const kernel = { start: 16 * MIB, size: 64 * MIB };
  assert.equal(placeHigh(six, 100 * MIB, Infinity, kernel), 2 * GIB - 100 * MIB);
  assert.equal(placeHigh(six, 100 * MIB, 0x3800_0000, kernel), 0x3800_0000 - 100 * MIB);
  assert.equal(placeHigh(six, 3 * GIB, Infinity, kernel), 5 * GIB, 'over two windows');
  assert.equal(placeHigh(six, 3 * GIB, 0x8000_0000, kernel), null);
  assert.equal(placeHigh(six, 10 * MIB, 85 * MIB, kernel), 6 * MIB, 'below the kernel when there is no room above');
});

test('an ELF kernel with a PVH note finds its start information', () => {
  const initrd = scratch.file('initrd2', 'hello');
  for (const bits of [32, 64] as const) {
    memory.write(0x30_0000, new Uint8Array(0x1000).fill(0xff));
    const payload = new Uint8Array(100).fill(0xf4);
    const entry = load(scratch.file('pvh', elfFile({ bits, payload, paddr: 0x30_0000, vaddr: bits === 64 ? 0x7fff_8000_0000 : 0xc030_0000, pvh: 0x30_0040, memorySize: 0x1000 })), { initrd });
    assert.ok(entry.kind === 'pvh');
    assert.equal(entry.eip, 0x30_0040);
    assert.deepEqual(memory.read(0x30_0000, 100), payload);
    assert.deepEqual(memory.read(0x30_0064, 0x1000 - 100), new Uint8Array(0x1000 - 100), 'what the file does not hold is zero');
    const info = view(entry.ebx, 56);
    assert.equal(info.getUint32(START_INFO.magic, true), 0x336e_c578);
    assert.equal(text(info.getUint32(START_INFO.cmdline_paddr, true)), 'console=tty0');
    assert.equal(info.getUint32(START_INFO.rsdp_paddr, true), ACPI_TABLES);
    const module = view(info.getUint32(START_INFO.modlist_paddr, true), 32);
    assert.equal(text(module.getUint32(0, true)).slice(0, 5), 'hello');
    assert.equal(module.getUint32(8, true), 5);
    const map = memoryMap(memory, ecam);
    assert.equal(info.getUint32(START_INFO.memmap_entries, true), map.length);
    const first = view(info.getUint32(START_INFO.memmap_paddr, true), 24);
    assert.deepEqual([first.getUint32(0, true), first.getUint32(8, true), first.getUint32(16, true)], [0, 0x9_fc00, E820_RAM]);
  }
});

test('a Multiboot kernel finds its information: ELF of both widths, virtual entry points, and plain addresses', () => {
  const payload = new Uint8Array(256).fill(0xf4);
  payload.set(multibootHeader(7));
  const flat = new Uint8Array(0x100 + 512).fill(0x90);
  flat.set(multibootHeader(1 << 16, [0x40_0100, 0x40_0000, 0x40_0200, 0x40_4000, 0x40_0120]), 0x100);
  const cases: [string, Uint8Array, number][] = [
    ['a 32.elf', elfFile({ bits: 32, payload, paddr: 0x40_0000, entry: 0x40_0020 }), 0x40_0020],
    ['b64.elf', elfFile({ bits: 64, payload, paddr: 0x40_0000, vaddr: 0xffff_8000_0000, entry: 0xffff_8000_0020 }), 0x40_0020],
    ['flat', flat, 0x40_0120],
  ];
  for (const [name, bytes, eip] of cases) {
    const entry = load(scratch.file(name, bytes), { initrd: scratch.file('module', 'module!') });
    assert.ok(entry.kind === 'multiboot');
    assert.equal(entry.eip, eip);
    assert.equal(entry.eax, 0x2bad_b002);
    const info = view(entry.ebx, 116);
    const field = (offset: number): number => info.getUint32(offset, true);
    assert.equal(text(field(MULTIBOOT_INFO.cmdline)), `${name.replace(' ', '_')} console=tty0`);
    assert.equal(text(field(MULTIBOOT_INFO.boot_loader_name)), 'Vitrine');
    assert.equal(field(MULTIBOOT_INFO.mem_upper), 63 * 1024);
    assert.equal(field(MULTIBOOT_INFO.mmap_length), memoryMap(memory, ecam).length * 24);
    assert.deepEqual([field(MULTIBOOT_INFO.framebuffer_addr), field(MULTIBOOT_INFO.framebuffer_addr + 4), field(MULTIBOOT_INFO.framebuffer_pitch)], [0x2000_0000, 1, 5120]);
    const module = view(field(MULTIBOOT_INFO.mods_addr), 12);
    assert.equal(module.getUint32(4, true) - module.getUint32(0, true), 7);
    assert.equal(text(module.getUint32(0, true)).slice(0, 7), 'module!');
  }
  assert.deepEqual(memory.read(0x40_0200, 0x1000), new Uint8Array(0x1000), 'the bss of the address form is zero');
});

test('every file that is no kernel is refused in words that name what it is', () => {
  const folder = join(scratch.folder, 'folder');
  mkdirSync(folder);
  fails('kernel-missing', /there is no such file/, () => load(join(scratch.folder, 'nothing')));
  fails('kernel-missing', /there is no such file/, () => load(join(scratch.file('plain', 'x'), 'below')));
  fails('kernel-not-a-file', /folder/, () => load(folder));
  fails('kernel-not-a-file', /device/, () => load('/dev/null'));
  fails('kernel-empty', /empty/, () => load(scratch.file('empty', '')));
  const said = (name: string, bytes: Uint8Array | string, code: string, pattern: RegExp): void => fails(code, pattern, () => load(scratch.file(name, bytes)));
  const at = (offset: number, magic: string, size = 1024): Uint8Array => {
    const bytes = new Uint8Array(size).fill(0x80);
    bytes.set([...magic].map((c) => c.charCodeAt(0)), offset);
    return bytes;
  };
  said('gz', at(0, '\x1f\x8b\x08'), 'kernel-unrecognised', /gzip/);
  said('iso', at(0x8001, 'CD001', 0x9000), 'kernel-unrecognised', /ISO 9660/);
  said('qcow2', at(0, 'QFI\xfb'), 'kernel-unrecognised', /qcow2/);
  said('cpio', at(0, '070701'), 'kernel-unrecognised', /initrd/);
  said('text', 'Not found\n', 'kernel-unrecognised', /text file/);
  said('one', 'M', 'kernel-unrecognised', /text file/);
  said('zeros', new Uint8Array(4096), 'kernel-unrecognised', /zeros/);
  said('arm64', at(0x38, 'ARM\x64'), 'kernel-architecture', /arm64/);
  const pe = at(0, 'MZ');
  pe.set([0x40, 0], 0x3c);
  pe.set([0x50, 0x45, 0, 0, 0x64, 0xaa], 0x40);
  said('arm64.efi', pe, 'kernel-architecture', /arm64/);
  said('riscv.elf', elfFile({ bits: 64, machine: 243 }), 'kernel-architecture', /RISC-V/);
  said('bare.elf', elfFile({ bits: 64 }), 'kernel-unrecognised', /neither a PVH note nor a Multiboot header/);
  said('i386', bzImage({ xloadflags: 0 }), 'kernel-architecture', /32-bit/);
  said('old', bzImage({ version: 0x0209 }), 'kernel-architecture', /protocol 2\.09/);
  said('cut', bzImage().subarray(0, 4000), 'kernel-truncated', /ends too early/);
  said('cut2', bzImage().subarray(0, 600), 'kernel-truncated', /ends too early/);
  said('cut.elf', elfFile({ bits: 64, pvh: 0x20_0000 }).subarray(0, 100), 'kernel-truncated', /ends too early/);
  said('big', bzImage({ initSize: 64 * MIB }), 'kernel-too-big', /at least 80 MiB of memory to start; the machine has 64 MiB/);
  said('big.elf', elfFile({ bits: 32, pvh: 0x20_0000, memorySize: 100 * MIB }), 'kernel-too-big', /up to 102 MiB/);
  said('low.elf', elfFile({ bits: 32, pvh: 0x6000, paddr: 0x6000 }), 'kernel-address', /below 1 MiB/);
  said('bios.elf', elfFile({ bits: 32, pvh: 0x9_f000, paddr: 0x9_f000, memorySize: 4 * MIB }), 'kernel-address', /below 1 MiB/);
  said('flags.elf', multibootHeader(1 << 4), 'kernel-multiboot-flags', /0x10/);
});

test('a bad initrd or command line is refused', () => {
  const kernel = scratch.file('good', bzImage({ cmdlineSize: 100 }));
  fails('initrd-missing', /no such file/, () => load(kernel, { initrd: join(scratch.folder, 'no') }));
  fails('initrd-empty', /empty/, () => load(kernel, { initrd: scratch.file('i0', '') }));
  fails('initrd-too-big', /Cannot load the initrd.*64 MiB of memory/, () => load(kernel, { initrd: scratch.file('i1', new Uint8Array(60 * MIB)) }));
  fails('command-line-too-long', /101 bytes long; this kernel takes at most 100/, () => load(kernel, { append: 'x'.repeat(101) }));
  fails('command-line-too-long', /102 bytes/, () => load(kernel, { append: 'ä'.repeat(51) }));
  fails('command-line-invalid', /NUL/, () => load(kernel, { append: 'a\0b' }));
  assert.equal(load(kernel, { append: 'y'.repeat(100) }).kind, 'linux64');
  assert.equal(text(COMMAND_LINE), 'y'.repeat(100));
});

test('a file that may not be read says so', { skip: process.getuid?.() === 0 ? 'permissions do not bind root' : false }, () => {
  const path = scratch.file('secret', bzImage());
  chmodSync(path, 0);
  fails('kernel-unreadable', /may not read/, () => load(path));
});

test('truncated and mutated kernels give an entry or a VitrineError, and touch no byte outside of what may be loaded', () => {
  const payload = new Uint8Array(0x300).fill(0xf4);
  payload.set(multibootHeader(7));
  const flat = new Uint8Array(1024).fill(0x90);
  flat.set(multibootHeader(1 << 16, [0x40_0000, 0x40_0000, 0x40_0200, 0x40_4000, 0x40_0020]));
  const originals = [bzImage(), elfFile({ bits: 64, pvh: 0x20_0000 }), elfFile({ bits: 32, payload }), flat];
  const interesting = [[HEADER_START, 0x290], [0, 0x200], [0, 0x240], [0, 32]] as const;
  const guard = { start: 0xa_0000, size: 0x4_0000 }; // nobody writes the adapters' area
  memory.write(guard.start, new Uint8Array(guard.size).fill(0xa5));
  fc.assert(
    fc.property(
      fc.nat(originals.length - 1),
      fc.array(fc.record({ at: fc.double({ min: 0, max: 1, noNaN: true }), value: fc.oneof(fc.constantFrom(0, 0xff, 0x80, 0x7f), fc.nat(255)), run: fc.constantFrom(1, 1, 2, 4, 8) }), { maxLength: 6 }),
      fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { freq: 3 }),
      (which, mutations, cut) => {
        let bytes = originals[which]!.slice();
        const [from, to] = interesting[which]!;
        for (const m of mutations) bytes.fill(m.value, from + Math.floor(m.at * (to - from)), from + Math.floor(m.at * (to - from)) + m.run);
        if (cut !== null) bytes = bytes.subarray(0, Math.floor(cut * bytes.length));
        try {
          load(scratch.file('fuzz', bytes));
        } catch (error) {
          if (!(error instanceof VitrineError)) throw error;
        }
      },
    ),
    { numRuns: 1500 },
  );
  assert.ok(memory.read(guard.start, guard.size)!.every((byte) => byte === 0xa5));
});

const cache = process.env['VITRINE_LAB_CACHE'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'vitrine', 'lab');
const kernels = existsSync(join(cache, 'kernels'))
  ? readdirSync(join(cache, 'kernels')).flatMap((release) => [`boot/vmlinuz-${release}`, 'vmlinux'].map((name) => join(cache, 'kernels', release, name)).filter((path) => existsSync(path)))
  : [];
test('the kernels of real distributions load', { skip: kernels.length === 0 ? 'no kernel has been fetched for the lab yet' : false }, () => {
  const large = GuestMemory.allocate(256 * MIB);
  for (const kernel of kernels) {
    const entry = load(kernel, { memory: large });
    assert.equal(entry.kind, kernel.endsWith('vmlinux') ? 'pvh' : 'linux64', kernel);
  }
});
