// The display adapter's registers: compatible with QEMU's bochs-display (docs/specs/standard-vga.rst, "MMIO area spec") and the Bochs
// VBE DISPI interface it took them from, so that SeaBIOS' VGA BIOS, OVMF's QemuVideoDxe and Linux's bochs driver work unchanged.
//
//   BAR 0  video memory, 32 MiB: Linux' driver offers a mode only if two of its pictures fit, and 2560x1600 has 15.6 MiB
//   BAR 2  4 KiB:  0x000 EDID, 0x400 VGA ports 0x3c0 to 0x3df, 0x500 DISPI registers of 16 bits, 0x600 extended registers
//
// One format: 32 bits a pixel, B G R X. Any other depth is refused: the register keeps its value, as drivers check. Registers keep
// what was written; what is shown is worked out from them when it is looked at, and is nothing unless all of it lies in the memory. Of the VGA
// there is only what Linux blanks the screen with, bit 5 of the attribute controller's index. Left out: port I/O, banks, hardware
// cursor, big-endian pixels, clearing the memory at mode set (bochs-display does not either).
import type { Handler, Width } from '../bus/handler.ts';
import type { FixedRange, Platform } from '../devices/device.ts';
import type { PciDevice } from '../pci/device.ts';
import { PciFunction } from '../pci/function.ts';
import type { Window } from '../memory/window.ts';
import type { Mutex } from '../sync/mutex.ts';
import { EDID_BYTES, buildEdid } from './edid.ts';
import type { Mode } from './edid.ts';

export const VRAM_BYTES = 32 * 2 ** 20;
export const MMIO_BYTES = 4096;
export const VENDOR_ID = 0x1234;
export const DEVICE_ID = 0x1111;
/** Linux reads the extended registers from revision 2 on. */
export const REVISION = 2;
/** Display controller, other: not VGA, it has no VGA ports. OVMF and Linux look for it so. */
export const CLASS_CODE = 0x03_80_00;
export const DEFAULT_MODE: Mode = { width: 1280, height: 800 };

const EDID_OFFSET = 0x000;
const VGA_OFFSET = 0x400;
const DISPI_OFFSET = 0x500;
const EXTENDED_OFFSET = 0x600;

/** DISPI registers, by index. */
export const ID = 0;
export const XRES = 1;
export const YRES = 2;
export const BPP = 3;
export const ENABLE = 4;
export const BANK = 5;
export const VIRT_WIDTH = 6;
export const VIRT_HEIGHT = 7;
export const X_OFFSET = 8;
export const Y_OFFSET = 9;
export const VIDEO_MEMORY_64K = 10;
const REGISTERS = 11;

export const ID5 = 0xb0c5;
export const ENABLED = 0x01;
/** XRES, YRES and BPP read as the largest possible while set. */
export const GETCAPS = 0x02;
export const LFB_ENABLED = 0x40;
export const NOCLEARMEM = 0x80;
const ENABLE_BITS = ENABLED | GETCAPS | LFB_ENABLED | NOCLEARMEM;

export const MAX_XRES = 4096;
export const MAX_YRES = 4096;
/** Smaller pictures are not shown, as with bochs-display. */
export const MIN_RES = 64;
const BITS_PER_PIXEL = 32;
const BYTES_PER_PIXEL = 4;

/** Extended registers: the size of their area, and the byte order of the picture, which is little-endian for ever. */
const EXTENDED_SIZE = 8;
const LITTLE_ENDIAN = 0x1e1e_1e1e;

/** VGA: attribute controller's index (written) and input status 1 (read: the next write to the controller is an index). */
const ATTRIBUTE_INDEX = 0x3c0 - 0x3c0;
const INPUT_STATUS_1 = 0x3da - 0x3c0;
/** The palette is shown: without it the screen is blank. */
const PALETTE_ADDRESS_SOURCE = 0x20;

/** Words of the shared slice beside the DISPI registers. */
const BLANK = REGISTERS;
const ATTRIBUTE_DATA_NEXT = REGISTERS + 1;
const WORDS = REGISTERS + 2;

export const PAGE_BYTES = 4096;
export const VRAM_PAGES = VRAM_BYTES / PAGE_BYTES;
/** Words of the shared marks beside the pages: some page is marked; everything is. */
const ANY = 0;
const ALL = 1;

/** The rectangle of video memory that is shown. Wholly inside of it: offset + (height - 1) * stride + width * 4 <= VRAM_BYTES. */
export interface Scanout extends Mode {
  /** Bytes from row to row. */
  readonly stride: number;
  /** Bytes from the start of video memory. */
  readonly offset: number;
  /** The guest turned the picture off; it comes back as it was. */
  readonly blank: boolean;
}

export class DisplayAdapter implements PciDevice {
  readonly label: string;
  readonly mutex: Mutex;
  /** None: all of the adapter lies in its BARs. */
  readonly ranges: readonly FixedRange[] = [];
  readonly config: PciFunction;
  /** BAR 2. */
  readonly mmio: Handler;
  /** BAR 0 where it is not a memslot just now: the same memory, and the pages written are marked. */
  readonly memory: Handler;
  /** Called on the control thread after the guest touched registers that decide what is shown. */
  onRegisters: (() => void) | null = null;

  readonly #platform: Platform;
  readonly #registers: Int32Array;
  readonly #pages: Int32Array;
  readonly #flags: Int32Array;
  readonly #vram: Uint8Array;
  readonly #view: DataView;
  readonly #edid: Uint8Array;

  /**
   * @param vram VRAM_BYTES of memory that the guest shares
   * @param preferred the monitor's native mode
   */
  constructor(platform: Platform, vram: Window, preferred: Mode = DEFAULT_MODE, label = 'display0') {
    this.label = label;
    this.#platform = platform;
    this.mutex = platform.arena.mutex(`${label}.mutex`);
    this.#registers = platform.arena.int32(`${label}.registers`, WORDS);
    this.#pages = platform.arena.int32(`${label}.pages`, VRAM_PAGES / 32);
    this.#flags = platform.arena.int32(`${label}.flags`, 2);
    this.#vram = new Uint8Array(vram.buffer, 0, VRAM_BYTES);
    this.#view = new DataView(vram.buffer, 0, VRAM_BYTES);
    this.#edid = buildEdid(preferred);
    this.mmio = { read: (offset, width) => this.#readMmio(offset, width), write: (offset, width, value) => this.#writeMmio(offset, width, value) };
    this.memory = { read: (offset, width) => this.#readMemory(offset, width), write: (offset, width, value) => this.#writeMemory(offset, width, value) };
    this.config = new PciFunction(platform.arena, {
      label, vendorId: VENDOR_ID, deviceId: DEVICE_ID, classCode: CLASS_CODE, revision: REVISION,
      bars: [
        { index: 0, kind: 'memory32', size: VRAM_BYTES, prefetchable: true, handler: this.memory, backing: { hva: vram.address, bytes: VRAM_BYTES, dirtyLog: true } },
        { index: 2, kind: 'memory32', size: MMIO_BYTES, handler: this.mmio },
      ],
    });
  }

  /** The video memory's slots were made or removed: what their dirty log held is gone. */
  remapped(bar: number): void {
    if (bar === 0) this.markAll();
  }

  /** Nothing is shown. The memory keeps what it has, as on a real reset. */
  reset(): void {
    this.#registers.fill(0);
    this.#registers[BPP] = BITS_PER_PIXEL;
    this.markAll();
    this.#changed();
  }

  service(): undefined {
    this.onRegisters?.();
  }

  /** Does what firmware would: shows a cleared picture of this size from the start of the memory. For direct boot. */
  setMode(mode: Mode): Scanout {
    this.mutex.run(() => {
      const registers = this.#registers;
      registers[XRES] = mode.width;
      registers[YRES] = mode.height;
      registers[BPP] = BITS_PER_PIXEL;
      registers[VIRT_WIDTH] = mode.width;
      registers[VIRT_HEIGHT] = mode.height;
      registers[X_OFFSET] = 0;
      registers[Y_OFFSET] = 0;
      registers[BLANK] = 0;
      registers[ENABLE] = ENABLED | LFB_ENABLED;
    });
    const scanout = this.scanout();
    if (scanout === null) throw new RangeError(`a display of ${mode.width}x${mode.height} cannot be shown`);
    this.#vram.fill(0, 0, scanout.stride * scanout.height);
    this.markAll();
    this.#changed();
    return scanout;
  }

  /** What is shown now, or null: the registers are read once, and whatever they hold, nothing outside of the memory is named. */
  scanout(): Scanout | null {
    this.mutex.lock();
    const registers = this.#registers;
    const enabled = (registers[ENABLE] & ENABLED) !== 0;
    const width = registers[XRES];
    const height = registers[YRES];
    const virtualWidth = registers[VIRT_WIDTH];
    const x = registers[X_OFFSET];
    const y = registers[Y_OFFSET];
    const blank = registers[BLANK] !== 0;
    this.mutex.unlock();
    if (!enabled || width < MIN_RES || height < MIN_RES || width > MAX_XRES || height > MAX_YRES) return null;
    const stride = Math.max(width, virtualWidth) * BYTES_PER_PIXEL;
    const offset = y * stride + x * BYTES_PER_PIXEL;
    if (offset + (height - 1) * stride + width * BYTES_PER_PIXEL > VRAM_BYTES) return null;
    return { width, height, stride, offset, blank };
  }

  /** Everything may have changed: the memory's slot was moved or removed, its dirty log with it. Any thread. */
  markAll(): void {
    Atomics.store(this.#flags, ALL, 1);
  }

  /** Whether `markAll` was called since the last time. Control thread. */
  takeAll(): boolean {
    return Atomics.exchange(this.#flags, ALL, 0) !== 0;
  }

  /** Adds the pages that were written through the trapped handler to `bitmap`, a bit each, and forgets them. False when there were none. */
  takeMarks(bitmap: Uint8Array): boolean {
    if (Atomics.exchange(this.#flags, ANY, 0) === 0) return false;
    const pages = this.#pages;
    for (let word = 0; word < pages.length; word++) {
      const bits = Atomics.exchange(pages, word, 0);
      for (let byte = 0; byte < 4; byte++) bitmap[word * 4 + byte] |= (bits >>> (byte * 8)) & 0xff;
    }
    return true;
  }

  #changed(): void {
    this.#platform.attention(this.label);
  }

  // BAR 0

  #readMemory(offset: number, width: Width): number {
    if (width === 4) return this.#view.getUint32(offset, true);
    return width === 2 ? this.#view.getUint16(offset, true) : this.#vram[offset];
  }

  #writeMemory(offset: number, width: Width, value: number): void {
    if (width === 4) this.#view.setUint32(offset, value, true);
    else if (width === 2) this.#view.setUint16(offset, value, true);
    else this.#vram[offset] = value;
    this.#mark(offset);
    this.#mark(offset + width - 1);
  }

  /** After the write: whoever takes the mark then sees what was written. */
  #mark(offset: number): void {
    const page = Math.floor(offset / PAGE_BYTES);
    Atomics.or(this.#pages, page >>> 5, 1 << (page & 31));
    Atomics.store(this.#flags, ANY, 1);
  }

  // BAR 2

  #readMmio(offset: number, width: Width): number {
    if (offset >= DISPI_OFFSET && offset < DISPI_OFFSET + REGISTERS * 2) {
      // Aligned 16-bit accesses are what the interface has; others are made of them.
      const low = this.#readRegister((offset - DISPI_OFFSET) >> 1);
      if (width === 4) return (low | (this.#readRegister(((offset - DISPI_OFFSET) >> 1) + 1) << 16)) >>> 0;
      return width === 2 ? low : (low >> ((offset & 1) * 8)) & 0xff;
    }
    let value = 0;
    for (let i = 0; i < width; i++) value += this.#readByte(offset + i) * 2 ** (8 * i);
    return value;
  }

  #readByte(offset: number): number {
    if (offset < EDID_OFFSET + EDID_BYTES) return this.#edid[offset - EDID_OFFSET];
    if (offset >= EXTENDED_OFFSET && offset < EXTENDED_OFFSET + EXTENDED_SIZE) {
      const word = offset < EXTENDED_OFFSET + 4 ? EXTENDED_SIZE : LITTLE_ENDIAN;
      return (word >> ((offset & 3) * 8)) & 0xff;
    }
    if (offset === VGA_OFFSET + INPUT_STATUS_1) this.#registers[ATTRIBUTE_DATA_NEXT] = 0;
    return 0;
  }

  #readRegister(index: number): number {
    const registers = this.#registers;
    const capabilities = (registers[ENABLE] & GETCAPS) !== 0;
    switch (index) {
      case ID: return ID5;
      case XRES: return capabilities ? MAX_XRES : registers[XRES];
      case YRES: return capabilities ? MAX_YRES : registers[YRES];
      case BPP: return BITS_PER_PIXEL;
      case VIDEO_MEMORY_64K: return VRAM_BYTES / 65536;
      default: return index < REGISTERS ? registers[index] : 0;
    }
  }

  #writeMmio(offset: number, width: Width, value: number): void {
    if (offset >= DISPI_OFFSET && offset < DISPI_OFFSET + REGISTERS * 2) {
      if (offset % 2 !== 0 || width === 1) return;
      this.#writeRegister((offset - DISPI_OFFSET) >> 1, value & 0xffff);
      if (width === 4) this.#writeRegister(((offset - DISPI_OFFSET) >> 1) + 1, value >>> 16);
      return;
    }
    if (offset === VGA_OFFSET + ATTRIBUTE_INDEX) this.#writeAttribute(value);
  }

  /** Port 0x3c0 takes index and data in turns. */
  #writeAttribute(value: number): void {
    const registers = this.#registers;
    const isIndex = registers[ATTRIBUTE_DATA_NEXT] === 0;
    registers[ATTRIBUTE_DATA_NEXT] = isIndex ? 1 : 0;
    if (!isIndex) return;
    registers[BLANK] = (value & PALETTE_ADDRESS_SOURCE) === 0 ? 1 : 0;
    this.#changed();
  }

  #writeRegister(index: number, value: number): void {
    const registers = this.#registers;
    switch (index) {
      case XRES:
        if (value > MAX_XRES) return;
        registers[XRES] = value;
        // A row is as long as the picture is wide, until the driver says otherwise.
        registers[VIRT_WIDTH] = value;
        break;
      case YRES:
        if (value > MAX_YRES) return;
        registers[YRES] = value;
        break;
      case ENABLE:
        if ((value & ENABLED) !== 0 && (registers[ENABLE] & ENABLED) === 0) {
          registers[X_OFFSET] = 0;
          registers[Y_OFFSET] = 0;
        }
        registers[ENABLE] = value & ENABLE_BITS;
        break;
      case BANK: case VIRT_WIDTH: case VIRT_HEIGHT: case X_OFFSET: case Y_OFFSET:
        registers[index] = value;
        break;
      default: // ID, depth and memory size are what they are; others do not exist
        return;
    }
    this.#changed();
  }
}
