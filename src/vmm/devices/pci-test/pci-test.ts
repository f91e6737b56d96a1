// A PCI function made for tests, in the tree as a device like any other: every kind of BAR, both kinds of messages and a pin, memory that is
// mapped beside registers that trap, an eventfd's doorbell, and an activation that fails when it is told to. 1234:7e57, ours alone.
//
//   BAR 0   memory32, 8 KiB     registers from 0x000, doorbell at 0x100, counted area 0x800 to 0xfff, MSI-X table and PBA if they share
//   BAR 1   I/O, 256 ports      the same registers
//   BAR 2   memory64, prefetchable, 128 KiB or more: 62 KiB of host memory, mapped by whole pages; all behind it is counted area
//   BAR 4   memory32, 4 KiB     MSI-X table at 0, PBA at 0x800, unless they share BAR 0
//   BAR 5   memory32, 256 bytes of host memory that is neither a page nor aligned to one: always trapped
//   ROM     4 KiB, an option ROM without code, mapped for reading
//
// A read of the counted area gives INSTANCE << 16 | offset & 0xffff. Registers are dwords: reads of any width, writes of aligned dwords only.
// Left out: bus mastering of its own, power states.
import type { Handler, Width } from '../../bus/handler.ts';
import { signalEventfd, takeEventfd } from '../../kvm/libc.ts';
import { expressEndpoint, vendorCapability } from '../../pci/capability.ts';
import type { BarDescription, MsiSink, PciDevice } from '../../pci/device.ts';
import { PCI_STATUS, PciFunction, STATUS_INTERRUPT } from '../../pci/function.ts';
import { MsiCapability } from '../../pci/msi.ts';
import { MsixCapability } from '../../pci/msix.ts';
import type { Mutex } from '../../sync/mutex.ts';
import type { Platform } from '../device.ts';

export const VENDOR_ID = 0x1234;
export const DEVICE_ID = 0x7e57;
/** Class 0xff: fits no other. */
export const CLASS_CODE = 0xff_00_00;
export const MAGIC_VALUE = 0x5453_5456; // "VTST"

// Registers, in bytes from the start of BAR 0 and of BAR 1.
export const MAGIC = 0x00;
/** Where it is on the bus: slot << 3 | function. */
export const INSTANCE = 0x04;
export const SCRATCH = 0x08;
/** So many of the next activations fail; counts down. */
export const FAIL = 0x0c;
/** Counters, since reset: BARs that began and ceased to answer, and activations that failed. */
export const ACTIVATIONS = 0x10;
export const DEACTIVATIONS = 0x14;
export const FAILED = 0x18;
/** Configuration writes seen, each once; the last one's width << 16 | offset; and its value. */
export const CONFIG_WRITES = 0x1c;
export const CONFIG_LAST = 0x20;
export const CONFIG_VALUE = 0x24;
/** Accesses of the counted areas. Writable. */
export const READS = 0x28;
export const WRITES = 0x2c;
/** Which BAR, 0 to 6, the next two speak of: where it is now, as its registers say at this moment. All ones for none. */
export const BAR_SELECT = 0x30;
export const BAR_LOW = 0x34;
export const BAR_HIGH = 0x38;
/** Write N: sends the message of vector N, by MSI-X or MSI, whichever is on. Reads: messages asked for. */
export const RAISE = 0x3c;
/** The interrupt pin's level: 0 or 1. */
export const INTX = 0x40;
/** How often the doorbell was rung, by KVM or by the trapped access. */
export const DOORBELLS = 0x44;
const REGISTERS_END = 0x48;

/** In BAR 0: a write of 4 bytes, of any value, rings. */
export const DOORBELL = 0x100;
export const COUNTED = 0x800;
export const COUNTED_END = 0x1000;
const SHARED_TABLE = 0x1000;
const SHARED_PBA = 0x1800;
const OWN_PBA = 0x800;
export const BAR0_BYTES = 0x2000;
export const BAR1_PORTS = 0x100;
export const BAR4_BYTES = 0x1000;
export const BAR5_BYTES = 0x100;
export const ROM_BYTES = 0x1000;
export const VECTORS = 16;
const MSI_VECTORS = 4;

/** How its host memory is cut up, in bytes: BAR 2's part ends within a page, BAR 5's begins in one. */
export const BACKED_BYTES = 0xf800;
export const ROM_OFFSET = 0x1_0000;
export const BAR5_OFFSET = 0x1_1100;
export const MEMORY_BYTES = 0x1_2000;
export const LEAST_WINDOW = 0x2_0000;

const VENDOR_CONTENT = Uint8Array.from([0x56, 0x54, 0x53, 0x54, 0x01]); // "VTST", version 1
const VENDOR_WRITABLE = Uint8Array.from([0, 0, 0, 0, 0xff]);

/** Host memory of one function, the same in every thread, and the eventfd of its doorbell. */
export interface PciTestParts {
  readonly buffer: SharedArrayBuffer;
  /** Of the buffer's first byte. */
  readonly address: number;
  readonly doorbell: number;
}

export interface PciTestOptions {
  /** Bytes of BAR 2: a power of two, at least LEAST_WINDOW. */
  readonly window: number;
  /** BAR 2's memory is mapped with a dirty log. */
  readonly dirtyLog: boolean;
  /** MSI-X table and PBA lie in BAR 0, and there is no BAR 4. */
  readonly sharedMsix: boolean;
}

export class PciTest implements PciDevice {
  readonly label: string;
  readonly mutex: Mutex;
  readonly ranges = [];
  readonly config: PciFunction;
  readonly #msix: MsixCapability;
  readonly #msi: MsiCapability;
  readonly #place: number;
  readonly #parts: PciTestParts;
  /** A word for each register; RAISE and DOORBELLS count. */
  readonly #words: Uint32Array;
  readonly #bytes: Uint8Array;
  readonly #sharedMsix: boolean;

  /** @param place slot * 8 + function */
  constructor(platform: Platform, msi: MsiSink, place: number, parts: PciTestParts, options: PciTestOptions) {
    const slot = (place >> 3).toString(16).padStart(2, '0');
    const label = (this.label = `00:${slot}.${place & 7} pci-test`);
    this.mutex = platform.arena.mutex(`${label}.lock`);
    this.#words = platform.arena.uint32(`${label}.registers`, REGISTERS_END / 4);
    this.#place = place;
    this.#parts = parts;
    this.#bytes = new Uint8Array(parts.buffer, 0, MEMORY_BYTES);
    this.#sharedMsix = options.sharedMsix;
    const [table, pba] = options.sharedMsix ? [{ bar: 0, offset: SHARED_TABLE }, { bar: 0, offset: SHARED_PBA }] : [{ bar: 4, offset: 0 }, { bar: 4, offset: OWN_PBA }];
    this.#msix = new MsixCapability(platform.arena, label, msi, { vectors: VECTORS, table, pba });
    this.#msi = new MsiCapability(msi, { vectors: MSI_VECTORS, maskable: true });
    this.config = new PciFunction(platform.arena, {
      label, vendorId: VENDOR_ID, deviceId: DEVICE_ID, classCode: CLASS_CODE, revision: 1,
      interruptPin: (((place & 3) + 1) as 1 | 2 | 3 | 4),
      bars: this.#bars(parts.address, options),
      capabilities: [this.#msi, this.#msix, expressEndpoint(), vendorCapability(VENDOR_CONTENT, VENDOR_WRITABLE)],
    });
  }

  #bars(address: number, { window, dirtyLog, sharedMsix }: PciTestOptions): BarDescription[] {
    const registers: Handler = { read: (offset, width) => this.#readBar0(offset, width), write: (offset, width, value) => this.#writeBar0(offset, width, value) };
    const memory = (from: number, bytes: number): Handler => ({
      read: (offset, width) => (offset + width <= bytes ? this.#readMemory(from + offset, width) : this.#readCounted(offset, width)),
      write: (offset, width, value) => {
        if (offset + width <= bytes) this.#writeMemory(from + offset, width, value);
        else this.#words[WRITES / 4]! += 1;
      },
    });
    const rom: Handler = { read: (offset, width) => this.#readMemory(ROM_OFFSET + offset, width), write: () => undefined };
    const bars: BarDescription[] = [
      { index: 0, kind: 'memory32', size: BAR0_BYTES, handler: registers, ioeventfds: [{ offset: DOORBELL, length: 4, fd: this.#parts.doorbell }] },
      { index: 1, kind: 'io', size: BAR1_PORTS, handler: registers },
      { index: 2, kind: 'memory64', size: window, prefetchable: true, handler: memory(0, BACKED_BYTES), backing: { hva: address, bytes: BACKED_BYTES, dirtyLog } },
      { index: 5, kind: 'memory32', size: BAR5_BYTES, handler: memory(BAR5_OFFSET, BAR5_BYTES), backing: { hva: address + BAR5_OFFSET, bytes: BAR5_BYTES, dirtyLog: false } },
      { index: 6, kind: 'rom', size: ROM_BYTES, handler: rom, backing: { hva: address + ROM_OFFSET, bytes: ROM_BYTES, dirtyLog: false } },
    ];
    if (!sharedMsix) bars.push({ index: 4, kind: 'memory32', size: BAR4_BYTES, handler: { read: (offset, width) => this.#readMsix(offset, OWN_PBA, width), write: (offset, width, value) => this.#writeMsix(offset, OWN_PBA, width, value) } });
    return bars;
  }

  reset(): void {
    this.mutex.run(() => {
      this.#words.fill(0);
      this.#msix.reset();
      takeEventfd(this.#parts.doorbell);
      this.#bytes.fill(0, 0, BACKED_BYTES);
      this.#bytes.fill(0, BAR5_OFFSET, BAR5_OFFSET + BAR5_BYTES);
    });
  }

  /** As the guest's write to FAIL. */
  failActivations(count: number): void {
    this.mutex.run(() => (this.#words[FAIL / 4] = count));
  }

  /** What a guest would read in the register at `offset`. */
  register(offset: number): number {
    return this.mutex.run(() => this.#readRegister(offset));
  }

  /** As the guest's write to RAISE. @returns false if neither MSI-X nor MSI is on, or there is no such vector. */
  raise(vector: number): boolean {
    return this.mutex.run(() => this.#send(vector));
  }

  activate(bar: number): void {
    const words = this.#words;
    if (words[FAIL / 4]! > 0) {
      words[FAIL / 4]! -= 1;
      words[FAILED / 4]! += 1;
      throw new Error(`BAR ${bar} was told to fail`);
    }
    words[ACTIVATIONS / 4]! += 1;
  }

  deactivate(): void {
    this.#words[DEACTIVATIONS / 4]! += 1;
  }

  configWritten(offset: number, width: Width, value: number): void {
    this.#words[CONFIG_WRITES / 4]! += 1;
    this.#words[CONFIG_LAST / 4] = (width << 16) | offset;
    this.#words[CONFIG_VALUE / 4] = value;
  }

  #send(vector: number): boolean {
    this.#words[RAISE / 4]! += 1;
    if (this.#msix.enabled) return vector < VECTORS && this.#msix.send(vector);
    return vector < MSI_VECTORS && this.#msi.send(vector);
  }

  // BAR 0 and BAR 1.

  #readBar0(offset: number, width: Width): number {
    if (offset < REGISTERS_END) {
      if ((offset & 3) + width > 4) return 0;
      return cut(this.#readRegister(offset & ~3) >>> (8 * (offset & 3)), width);
    }
    if (offset >= COUNTED && offset < COUNTED_END) return this.#readCounted(offset, width);
    if (offset >= SHARED_TABLE && this.#sharedMsix) return this.#readMsix(offset - SHARED_TABLE, SHARED_PBA - SHARED_TABLE, width);
    return 0;
  }

  #writeBar0(offset: number, width: Width, value: number): void {
    if (offset >= COUNTED && offset < COUNTED_END) this.#words[WRITES / 4]! += 1;
    else if (offset >= SHARED_TABLE && this.#sharedMsix) this.#writeMsix(offset - SHARED_TABLE, SHARED_PBA - SHARED_TABLE, width, value);
    else if (width === 4 && offset === DOORBELL) signalEventfd(this.#parts.doorbell);
    else if (width === 4 && offset % 4 === 0 && offset < REGISTERS_END) this.#writeRegister(offset, value);
  }

  #readRegister(offset: number): number {
    switch (offset) {
      case MAGIC: return MAGIC_VALUE;
      case INSTANCE: return this.#place;
      case BAR_LOW: return (this.#barAddress() ?? 0xffff_ffff) % 2 ** 32;
      case BAR_HIGH: return Math.floor((this.#barAddress() ?? 2 ** 64 - 2 ** 32) / 2 ** 32);
      case INTX: return (this.config.read(PCI_STATUS, 2) & STATUS_INTERRUPT) === 0 ? 0 : 1;
      case DOORBELLS:
        this.#words[DOORBELLS / 4]! += takeEventfd(this.#parts.doorbell);
        return this.#words[DOORBELLS / 4]!;
      default: return this.#words[offset / 4] ?? 0;
    }
  }

  #writeRegister(offset: number, value: number): void {
    switch (offset) {
      case SCRATCH: case FAIL: case READS: case WRITES: case BAR_SELECT:
        this.#words[offset / 4] = value;
        break;
      case RAISE:
        this.#send(value);
        break;
      case INTX:
        this.config.setInterrupt((value & 1) !== 0);
        break;
      default: // the others say what happened
    }
  }

  /** Asked of the BAR's registers each time: whoever kept a copy would answer with the place where it was. */
  #barAddress(): number | undefined {
    const index = this.#words[BAR_SELECT / 4]!;
    return this.config.bars.some((bar) => bar.index === index) ? this.config.barAddress(index) : undefined;
  }

  #readCounted(offset: number, width: Width): number {
    this.#words[READS / 4]! += 1;
    return cut(((this.#place << 16) | (offset & 0xffff)) >>> 0, width);
  }

  #readMsix(offset: number, pba: number, width: Width): number {
    return offset < pba ? this.#msix.table.read(offset, width) : this.#msix.pba.read(offset - pba, width);
  }

  #writeMsix(offset: number, pba: number, width: Width, value: number): void {
    if (offset < pba) this.#msix.table.write(offset, width, value);
  }

  // Host memory, where it is not mapped.

  #readMemory(at: number, width: Width): number {
    let value = 0;
    for (let byte = width - 1; byte >= 0; byte--) value = value * 256 + this.#bytes[at + byte]!;
    return value;
  }

  #writeMemory(at: number, width: Width, value: number): void {
    for (let byte = 0; byte < width; byte++) this.#bytes[at + byte] = value >>> (8 * byte);
  }
}

function cut(value: number, width: Width): number {
  return width === 4 ? value : width === 2 ? value & 0xffff : value & 0xff;
}
