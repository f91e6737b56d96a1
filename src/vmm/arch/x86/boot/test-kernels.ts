// Small kernels for the tests, made from nothing: a bzImage whose header is right, ELF files with a PVH note or a Multiboot header.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BOOT_PARAMS, SETUP_HEADER } from './bzimage.ts';

/** A folder for one test file, removed at its end. */
export class Scratch {
  readonly folder = mkdtempSync(join(tmpdir(), 'vitrine-boot-'));
  file(name: string, bytes: Uint8Array | string): string {
    const path = join(this.folder, name);
    writeFileSync(path, bytes);
    return path;
  }
  remove(): void {
    rmSync(this.folder, { recursive: true });
  }
}

export interface BzImageShape {
  version?: number;
  xloadflags?: number;
  prefAddress?: number;
  initSize?: number;
  cmdlineSize?: number;
  initrdAddrMax?: number;
  payload?: Uint8Array;
  relocatable?: boolean;
}

/** A file that a boot loader takes for a 64-bit kernel: 4 setup sectors and `payload`. */
export function bzImage(shape: BzImageShape = {}): Uint8Array {
  const payload = shape.payload ?? new Uint8Array(0x1000).fill(0x90);
  const paragraphs = Math.ceil(payload.length / 16);
  const setup = 5 * 512;
  const file = new Uint8Array(setup + paragraphs * 16);
  const data = new DataView(file.buffer);
  const H = SETUP_HEADER;
  data.setUint8(H.setup_sects, 4);
  data.setUint32(H.syssize, paragraphs, true);
  data.setUint16(H.boot_flag, 0xaa55, true);
  data.setUint16(H.jump, 0x6ceb, true);
  file.set(new TextEncoder().encode('HdrS'), H.header);
  data.setUint16(H.version, shape.version ?? 0x020f, true);
  data.setUint8(H.loadflags, 1);
  data.setUint32(H.initrd_addr_max, shape.initrdAddrMax ?? 0x7fff_ffff, true);
  data.setUint32(H.kernel_alignment, 0x20_0000, true);
  data.setUint8(H.relocatable_kernel, shape.relocatable === false ? 0 : 1);
  data.setUint16(H.xloadflags, shape.xloadflags ?? 3, true);
  data.setUint32(H.cmdline_size, shape.cmdlineSize ?? 2047, true);
  data.setBigUint64(H.pref_address, BigInt(shape.prefAddress ?? 0x100_0000), true);
  data.setUint32(H.init_size, shape.initSize ?? 0x40_0000, true);
  file.set(payload, setup);
  return file;
}

export interface ElfShape {
  bits: 32 | 64;
  machine?: number;
  entry?: number;
  vaddr?: number;
  paddr?: number;
  memorySize?: number;
  /** The loaded bytes. */
  payload?: Uint8Array;
  /** A PVH note with this address. */
  pvh?: number;
}

/** An ELF executable with one PT_LOAD and, when asked for, a PT_NOTE. The payload lies at byte 0x200. */
export function elfFile(shape: ElfShape): Uint8Array {
  const payload = shape.payload ?? new Uint8Array(64).fill(0xf4);
  const wide = shape.bits === 64;
  const paddr = shape.paddr ?? 0x20_0000;
  const file = new Uint8Array(0x200 + payload.length);
  const data = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  data.setUint16(16, 2, true);
  data.setUint16(18, shape.machine ?? (wide ? 62 : 3), true);
  data.setUint32(20, 1, true);
  const word = (at: number, value: number): void => (wide ? data.setBigUint64(at, BigInt(value), true) : data.setUint32(at, value, true));
  const headerSize = wide ? 64 : 52;
  const entrySize = wide ? 56 : 32;
  word(24, shape.entry ?? paddr);
  word(wide ? 32 : 28, headerSize);
  data.setUint16(wide ? 54 : 42, entrySize, true);
  data.setUint16(wide ? 56 : 44, shape.pvh === undefined ? 1 : 2, true);
  const program = (index: number, type: number, offset: number, vaddr: number, address: number, fileSize: number, memorySize: number): void => {
    const at = headerSize + index * entrySize;
    data.setUint32(at, type, true);
    const fields = [offset, vaddr, address, fileSize, memorySize];
    fields.forEach((value, i) => (wide ? data.setBigUint64(at + 8 + i * 8, BigInt(value), true) : data.setUint32(at + 4 + i * 4, value, true)));
  };
  program(0, 1, 0x200, shape.vaddr ?? paddr, paddr, payload.length, shape.memorySize ?? payload.length);
  file.set(payload, 0x200);
  if (shape.pvh !== undefined) {
    const at = 0x1c0;
    program(1, 4, at, 0, 0, 20, 20);
    data.setUint32(at, 4, true);
    data.setUint32(at + 4, 4, true);
    data.setUint32(at + 8, 18, true);
    file.set(new TextEncoder().encode('Xen\0'), at + 12);
    data.setUint32(at + 16, shape.pvh, true);
  }
  return file;
}

/** A Multiboot header, as the first bytes of a payload. `addresses`: header, load, load end, bss end, entry. */
export function multibootHeader(flags: number, addresses: readonly number[] = []): Uint8Array {
  const words = [0x1bad_b002, flags, (2 ** 33 - 0x1bad_b002 - flags) % 2 ** 32, ...addresses];
  return new Uint8Array(Uint32Array.from(words).buffer);
}

/** The offset of setup_header, for tests that mutate it. */
export const HEADER_START = BOOT_PARAMS.hdr;
