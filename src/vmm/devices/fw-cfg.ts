// The firmware configuration device of QEMU (docs/specs/fw_cfg in QEMU's tree): numbered items of bytes, some of them files with a name, read
// through a selector (port 0x510) and a data port (0x511), or by DMA (ports 0x514 to 0x51B). SeaBIOS and OVMF take ACPI tables, the memory
// map and their settings from it.
//
// Left out: items that the guest may write, so every DMA write fails; and the old write through the data port.
import type { Mutex } from '../sync/mutex.ts';
import { allOnes, type Handler, type Width } from '../bus/handler.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';
import type { Device, FixedRange, Platform } from './device.ts';
import type { FwCfgItems } from './fw-cfg-items.ts';

export const FW_CFG_PORT = 0x510;
const SELECTOR_PORTS = 2;
export const FW_CFG_DMA_PORT = 0x514;
const DMA_PORTS = 8;

/** "QEMU CFG", what the DMA address register reads as. */
const DMA_SIGNATURE = [0x51, 0x45, 0x4d, 0x55, 0x20, 0x43, 0x46, 0x47] as const;

// struct FWCfgDmaAccess { be32 control; be32 length; be64 address; }
const DMA_STRUCTURE = 16;
const DMA_LENGTH = 4;
const DMA_ADDRESS = 8;
const DMA_ERROR = 0x01;
const DMA_READ = 0x02;
const DMA_SKIP = 0x04;
const DMA_SELECT = 0x08;
const DMA_WRITE = 0x10;

const S_SELECTOR = 0;
const S_OFFSET = 1;
/** The high half of the DMA address, until the low half comes. */
const S_ADDRESS_HIGH = 2;
const STATE_WORDS = 3;

/** Bytes of a big-endian register as a little-endian access of `width` at `offset` sees them. */
function littleEndian(bytes: ArrayLike<number>, offset: number, width: Width): number {
  let value = 0;
  for (let i = width - 1; i >= 0; i--) value = value * 256 + (offset + i < bytes.length ? bytes[offset + i] : 0xff);
  return value;
}

function swap32(value: number): number {
  return (((value & 0xff) << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}

export class FwCfg implements Device {
  readonly label = 'fw_cfg';
  readonly mutex: Mutex;
  readonly ranges: readonly FixedRange[];
  readonly #items: FwCfgItems;
  readonly #memory: GuestMemory;
  readonly #s: Uint32Array;

  /** @param items sealed on the control thread, attached elsewhere. */
  constructor(platform: Platform, items: FwCfgItems, memory: GuestMemory) {
    this.#items = items;
    this.#memory = memory;
    this.mutex = platform.arena.mutex('fw_cfg.mutex');
    this.#s = platform.arena.uint32('fw_cfg.state', STATE_WORDS);
    const ports: Handler = {
      read: (offset, width) => (offset === 1 && width === 1 ? this.#nextByte() : allOnes(width)),
      write: (offset, width, value) => {
        if (offset === 0 && width === 2) this.#select(value);
      },
    };
    const dma: Handler = {
      read: (offset, width) => littleEndian(DMA_SIGNATURE, offset, width),
      write: (offset, width, value) => this.#writeAddress(offset, width, value),
    };
    this.ranges = [
      { space: 'io', start: FW_CFG_PORT, size: SELECTOR_PORTS, handler: ports },
      { space: 'io', start: FW_CFG_DMA_PORT, size: DMA_PORTS, handler: dma },
    ];
  }

  reset(): void {
    this.#s.fill(0);
  }

  #select(selector: number): void {
    this.#s[S_SELECTOR] = selector;
    this.#s[S_OFFSET] = 0;
  }

  /** The next byte of the selected item; zero past its end. */
  #nextByte(): number {
    const item = this.#items.bytes(this.#s[S_SELECTOR]);
    const offset = this.#s[S_OFFSET];
    if (item === undefined || offset >= item.length) return 0;
    this.#s[S_OFFSET] = offset + 1;
    return item[offset];
  }

  /** The address register is big-endian, of two dwords; writing the second one starts. */
  #writeAddress(offset: number, width: Width, value: number): void {
    if (width !== 4) return;
    if (offset === 0) {
      this.#s[S_ADDRESS_HIGH] = swap32(value);
    } else if (offset === 4) {
      const address = this.#s[S_ADDRESS_HIGH] * 2 ** 32 + swap32(value);
      this.#s[S_ADDRESS_HIGH] = 0;
      this.#transfer(address);
    }
  }

  /** Carries out the request at guest-physical `address`; where that is no RAM there is nowhere to say so. */
  #transfer(address: number): void {
    const request = this.#memory.read(address, DMA_STRUCTURE);
    if (request === null) return;
    const view = new DataView(request.buffer, request.byteOffset, DMA_STRUCTURE);
    const control = view.getUint32(0);
    const length = view.getUint32(DMA_LENGTH);
    const target = view.getUint32(DMA_ADDRESS) * 2 ** 32 + view.getUint32(DMA_ADDRESS + 4);
    if ((control & DMA_SELECT) !== 0) this.#select(control >>> 16);
    let failed = false;
    if ((control & DMA_READ) !== 0) failed = !this.#copyOut(target, length);
    else if ((control & DMA_WRITE) !== 0) failed = true;
    else if ((control & DMA_SKIP) !== 0) this.#advance(length);
    const result = new Uint8Array(4);
    result[3] = failed ? DMA_ERROR : 0;
    this.#memory.write(address, result);
  }

  #advance(length: number): void {
    this.#s[S_OFFSET] = Math.min(this.#s[S_OFFSET] + length, 0xffff_ffff);
  }

  /** Copies `length` bytes of the item to guest RAM, zeros past its end; false, and nothing written, when the target is not all RAM. */
  #copyOut(target: number, length: number): boolean {
    const pieces = this.#memory.segments(target, length);
    if (pieces === null) return false;
    const item = this.#items.bytes(this.#s[S_SELECTOR]);
    let offset = this.#s[S_OFFSET];
    for (const piece of pieces) {
      const there = item === undefined ? 0 : Math.max(0, Math.min(piece.bytes.length, item.length - offset));
      if (item !== undefined && there > 0) piece.bytes.set(item.subarray(offset, offset + there));
      piece.bytes.fill(0, there);
      offset += piece.bytes.length;
    }
    this.#advance(length);
    return true;
  }
}
