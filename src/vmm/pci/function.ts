// One PCI function's configuration space: the type 0 header (PCI 3.0 §6.1), its BARs and its capabilities, 4096 bytes in the arena (PCIe 3.0 §7.2).
// The bytes are read under the topology lock or the device's mutex and changed under both, so either is enough to see them whole.
// What a write means for the machine (BARs, decode) is host.ts's and topology.ts's business.
import { BAR_REGISTER_FIRST, barAddress, barDecodes, barRegister, barTypeBits, barWriteMasks, checkBars, decodeBit, ROM_REGISTER } from './bar.ts';
import { CONFIG_BYTES, ConfigImage } from './config-image.ts';
import type { Arena } from '../sync/arena.ts';
import type { Width } from '../bus/handler.ts';
import type { BarDescription } from './device.ts';
import type { IntxPin } from './intx.ts';

export const PCI_VENDOR_ID = 0x00;
export const PCI_DEVICE_ID = 0x02;
export const PCI_COMMAND = 0x04;
export const PCI_STATUS = 0x06;
export const PCI_REVISION = 0x08;
export const PCI_CACHE_LINE = 0x0c;
export const PCI_HEADER_TYPE = 0x0e;
export const PCI_SUBSYSTEM_VENDOR_ID = 0x2c;
export const PCI_SUBSYSTEM_ID = 0x2e;
export const PCI_CAPABILITIES = 0x34;
export const PCI_INTERRUPT_LINE = 0x3c;
export const PCI_INTERRUPT_PIN = 0x3d;

export const COMMAND_BUS_MASTER = 0x4;
const COMMAND_PARITY = 0x40;
const COMMAND_SERR = 0x100;
export const COMMAND_INTX_DISABLE = 0x400;
export const STATUS_INTERRUPT = 0x8;
const STATUS_CAPABILITIES = 0x10;
const STATUS_ERRORS = 0xf900;
const MULTI_FUNCTION = 0x80;
/** State of the function in PMCSR. */
const POWER_STATE = 0x3;
const POWER_D3 = 0x3;
const FIRST_CAPABILITY = 0x40;

/** A capability as a building block: it lays itself out and hears of writes to its own registers. */
export interface Capability {
  readonly id: number;
  /** Length with the two bytes of id and next pointer. */
  readonly bytes: number;
  /** Where it must lie; else after the one before. */
  readonly at?: number;
  /** Fills image from `offset + 2`. */
  install(image: ConfigImage, offset: number, config: PciFunction): void;
  /** A dword of it was written and differs now. Topology lock and device mutex are held. */
  changed?(register: number, before: number, after: number): void;
}

export interface FunctionDescription {
  /** As Device.label: names slices, log lines and errors. At most 40 characters. */
  readonly label: string;
  readonly vendorId: number;
  readonly deviceId: number;
  /** Base class, subclass and programming interface: 0x030000 is VGA. */
  readonly classCode: number;
  readonly revision?: number;
  /** 1af4:1100 unless told. */
  readonly subsystemVendorId?: number;
  readonly subsystemId?: number;
  /** 1 to 4 for INTA to INTD; none unless told. */
  readonly interruptPin?: 1 | 2 | 3 | 4;
  readonly bars?: readonly BarDescription[];
  readonly capabilities?: readonly Capability[];
  /** Device-specific registers: runs after all else is laid out. */
  readonly extra?: (image: ConfigImage) => void;
  /** The dword of PMCSR (PCI Power Management 1.2 §3.2.4): in D3 no BAR answers. None unless told. */
  readonly powerRegister?: number;
}

export class PciFunction {
  readonly label: string;
  readonly bars: readonly BarDescription[];
  readonly interruptPin: number;
  readonly powerRegister: number | undefined;
  #image = new ConfigImage();
  #dwords: Uint32Array;
  #initial: Uint32Array;
  #writable: Uint32Array;
  #clearable: Uint32Array;
  #capabilities: { capability: Capability; offset: number }[] = [];
  #intx: IntxPin | undefined;

  /** Allocates the slice `pci.config.LABEL` and leaves the bytes as they are there: reset() makes the power-on state. */
  constructor(arena: Arena, description: FunctionDescription) {
    this.label = description.label;
    this.bars = description.bars ?? [];
    this.interruptPin = description.interruptPin ?? 0;
    this.powerRegister = description.powerRegister;
    checkBars(this.label, this.bars);
    this.#dwords = arena.uint32(`pci.config.${this.label}`, CONFIG_BYTES / 4);
    this.#layHeader(description);
    this.#layCapabilities(description.capabilities ?? []);
    description.extra?.(this.#image);
    this.#initial = new Uint32Array(this.#image.initial.buffer);
    this.#writable = new Uint32Array(this.#image.writable.buffer);
    this.#clearable = new Uint32Array(this.#image.clearable.buffer);
  }

  #layHeader(of: FunctionDescription): void {
    const image = this.#image;
    image.set(PCI_VENDOR_ID, 2, of.vendorId).set(PCI_DEVICE_ID, 2, of.deviceId);
    const decode = this.bars.reduce((bits, bar) => bits | decodeBit(bar.kind), 0);
    image.allow(PCI_COMMAND, 2, decode | COMMAND_BUS_MASTER | COMMAND_PARITY | COMMAND_SERR | COMMAND_INTX_DISABLE);
    image.clearByOne(PCI_STATUS, 2, STATUS_ERRORS);
    image.set(PCI_REVISION, 4, (of.revision ?? 0) | (of.classCode << 8));
    image.allow(PCI_CACHE_LINE, 1, 0xff);
    image.set(PCI_SUBSYSTEM_VENDOR_ID, 2, of.subsystemVendorId ?? 0x1af4).set(PCI_SUBSYSTEM_ID, 2, of.subsystemId ?? 0x1100);
    image.set(PCI_INTERRUPT_PIN, 1, this.interruptPin);
    if (this.interruptPin !== 0) image.allow(PCI_INTERRUPT_LINE, 1, 0xff);
    for (const bar of this.bars) {
      const register = barRegister(bar.index);
      const masks = barWriteMasks(bar);
      image.set(register, 4, barTypeBits(bar)).allow(register, 4, masks.low);
      if (bar.kind === 'memory64') image.allow(register + 4, 4, masks.high);
    }
  }

  #layCapabilities(capabilities: readonly Capability[]): void {
    const image = this.#image;
    let next = FIRST_CAPABILITY;
    let link = PCI_CAPABILITIES;
    for (const capability of capabilities) {
      const offset = capability.at ?? next;
      if (offset < next || offset + capability.bytes > 256) throw new RangeError(`${this.label}: no room for capability ${capability.id} at ${offset}`);
      image.set(link, 1, offset).set(offset, 1, capability.id);
      link = offset + 1;
      next = Math.ceil((offset + capability.bytes) / 4) * 4;
      this.#capabilities.push({ capability, offset });
      capability.install(image, offset, this);
    }
    if (capabilities.length > 0) image.set(PCI_STATUS, 2, STATUS_CAPABILITIES);
  }

  /** Function 0 of a device with several says so in its header. */
  markMultiFunction(): void {
    this.#image.set(PCI_HEADER_TYPE, 1, this.#image.initial[PCI_HEADER_TYPE]! | MULTI_FUNCTION);
  }

  attachIntx(pin: IntxPin): void {
    this.#intx = pin;
  }

  /** The aligned dword at `register` (bytes). */
  dword(register: number): number {
    return this.#dwords[register >>> 2]!;
  }

  /** Where BAR `index` is now, by its registers, whether it decodes or not: devices ask each time and keep no copy. Throws RangeError if there is none. */
  barAddress(index: number): number {
    const bar = this.bars.find((each) => each.index === index);
    if (bar === undefined) throw new RangeError(`${this.label} has no BAR ${index}`);
    return barAddress(bar, (register) => this.dword(register));
  }

  /** Whether a BAR decodes if the dwords are these: command, ROM enable, power state. */
  decodes(bar: BarDescription, dword: (register: number) => number): boolean {
    const inD3 = this.powerRegister !== undefined && (dword(this.powerRegister) & POWER_STATE) === POWER_D3;
    return !inD3 && barDecodes(bar, dword);
  }

  /** Whether a write to this register can change where BARs answer: command, BARs, ROM, power state. */
  movesBars(register: number): boolean {
    return register === PCI_COMMAND || (register >= BAR_REGISTER_FIRST && register < BAR_REGISTER_FIRST + 24) || register === ROM_REGISTER || register === this.powerRegister;
  }

  /** Its value after power-on. */
  initialDword(register: number): number {
    return this.#initial[register >>> 2]!;
  }

  /** `width` bytes at `offset`, all within one dword. */
  read(offset: number, width: Width): number {
    const value = this.#dwords[offset >>> 2]! >>> (8 * (offset & 3));
    return width === 4 ? value : width === 2 ? value & 0xffff : value & 0xff;
  }

  /** What the dword at `offset & ~3` becomes by this write: pure. `offset` and `width` within one dword. */
  merge(offset: number, width: Width, value: number): number {
    const index = offset >>> 2;
    const shift = 8 * (offset & 3);
    const lanes = (width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff) << shift;
    const bits = value << shift;
    const writable = this.#writable[index]! & lanes;
    const kept = (this.#dwords[index]! & ~writable) | (bits & writable);
    return (kept & ~(bits & lanes & this.#clearable[index]!)) >>> 0;
  }

  /** Puts a dword as it is, read-only bits included. Topology lock and device mutex, or the device mutex alone for its own status bits. */
  store(register: number, dword: number): void {
    this.#dwords[register >>> 2] = dword;
  }

  /**
   * Bits of `mask` become those of `dword`; the others stay as they are by now. For writes, which are worked out before the device's mutex is
   * held: its own status bits, like Interrupt Status beside the command register, may have changed since. Topology lock and device mutex.
   */
  change(register: number, mask: number, dword: number): void {
    this.#dwords[register >>> 2] = (this.#dwords[register >>> 2]! & ~mask) | (dword & mask);
  }

  /** After a write took effect: tells the capability that it hit, and the interrupt pin. */
  written(register: number, before: number, after: number): void {
    if (register === PCI_COMMAND) this.#intx?.refresh();
    for (const { capability, offset } of this.#capabilities) {
      if (register + 4 > offset && register < offset + capability.bytes) capability.changed?.(register, before, after);
    }
  }

  /** Power-on bytes; the interrupt pin low. BARs stop to answer by the host's commit, which calls this. */
  reset(): void {
    this.#dwords.set(this.#initial);
    this.#intx?.set(false);
  }

  get busMaster(): boolean {
    return (this.dword(PCI_COMMAND) & COMMAND_BUS_MASTER) !== 0;
  }

  get intxDisabled(): boolean {
    return (this.dword(PCI_COMMAND) & COMMAND_INTX_DISABLE) !== 0;
  }

  /**
   * The interrupt pin's level as the device wants it, with the device's mutex held: shows in Interrupt Status at once, and at the interrupt
   * controllers unless Interrupt Disable is set (PCI 3.0 §6.2.2 and §6.2.3).
   */
  setInterrupt(level: boolean): void {
    if (this.#intx === undefined) throw new Error(`${this.label} has no interrupt pin, or is in no slot yet`);
    this.#intx.set(level);
  }
}
