// The configuration space of a host's device as its guest sees it. Three kinds of bits:
//   ours       kept and answered here: identity, BARs, command bits that move BARs, interrupts, capability links, what is hidden
//   device's   read through, and each write of the guest written through once, with the guest's own width
//   both       kept here because the machine must know them (decode, bus master, power state) and written through after it has acted
// What the device reports was recorded once, through VFIO, which virtualises some of it already (Linux drivers/vfio/pci/vfio_pci_config.c).
// The device sits on the root bus, so a PCI Express endpoint becomes a root complex integrated endpoint without link (PCIe 3.0 §7.8).
// Hidden: what would need more of the machine than this function has, or what Linux on the host keeps for itself.
import { BAR_REGISTER_FIRST } from '../pci/bar.ts';
import type { BarKind } from '../pci/device.ts';
import type { ConfigImage } from '../pci/config-image.ts';
import { CONFIG_BYTES } from '../pci/config-image.ts';
import { COMMAND_BUS_MASTER, COMMAND_INTX_DISABLE, PCI_CAPABILITIES, PCI_COMMAND, PCI_DEVICE_ID, PCI_HEADER_TYPE, PCI_INTERRUPT_LINE, PCI_INTERRUPT_PIN, PCI_REVISION, PCI_STATUS, PCI_SUBSYSTEM_ID, PCI_SUBSYSTEM_VENDOR_ID, PCI_VENDOR_ID } from '../pci/function.ts';

const COMMAND_OURS = 0x0003 | COMMAND_BUS_MASTER | 0x0040 | 0x0100 | COMMAND_INTX_DISABLE; // decode, bus master, parity, SERR, INTx
const STATUS_CAPABILITIES = 0x10;
const CIS_POINTER = 0x28;
const FIRST_CAPABILITY = 0x40;
const FIRST_EXTENDED = 0x100;
const MULTI_FUNCTION = 0x80;

// capabilities (PCI Code and ID Assignment Specification)
const ID_POWER = 0x01;
const ID_MSI = 0x05;
const ID_EXPRESS = 0x10;
const ID_MSIX = 0x11;

/** Bytes of the capabilities that are hidden; of others not asked. AGP, slot number, hot swap, hot plug, bridge's ids, AGP 8x, secure, enhanced allocation, flattening. */
const HIDDEN: Record<number, number | undefined> = { 0x02: 12, 0x04: 4, 0x06: 4, 0x0c: 8, 0x0d: 8, 0x0e: 12, 0x0f: 24, 0x14: 4, 0x15: 8 };

/** Bytes without which a capability is none; one that ends beyond the space is hidden. */
const LEAST: Record<number, number | undefined> = { [ID_POWER]: 8, [ID_MSI]: 10, [ID_EXPRESS]: 20, [ID_MSIX]: 12 };

// Of extended ones are hidden: those of links (an integrated endpoint has none), those that share out a device or its addresses (SR-IOV, ARI, ACS,
// ATS, PRI, PASID, multicast, resizable BARs), those of ports (DPC, PTM, root complex).
const HIDDEN_EXTENDED: ReadonlySet<number> = new Set([0x05, 0x06, 0x07, 0x08, 0x0a, 0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x12, 0x13, 0x15, 0x18, 0x19, 0x1b, 0x1d, 0x1e, 0x1f, 0x24, 0x25, 0x26, 0x27, 0x2a, 0x2b]);

// power management (PCI Power Management 1.2 §3.2)
const PM_CAPABILITIES = 2;
const PM_PME_SUPPORT = 0xf800;
const PM_CONTROL = 4;
/** State of the function in PM_CONTROL. */
export const POWER_STATE = 0x3;
export const POWER_D3 = 0x3;
export const POWER_PME_STATUS = 0x8000;

// PCI Express (PCIe 3.0 §7.8)
const EXP_FLAGS = 2;
const EXP_VERSION = 0x000f;
const EXP_TYPE = 0x00f0;
const EXP_TYPE_ENDPOINT = 0x0;
const EXP_TYPE_LEGACY_ENDPOINT = 0x10;
const EXP_TYPE_INTEGRATED = 0x90;
const EXP_SLOT = 0x0100;
const EXP_LINK = { offset: 0x0c, size: 8 };
const EXP_SLOT_AND_ROOT = { offset: 0x14, size: 0x10 };
const EXP_LINK2_AND_SLOT2 = { offset: 0x2c, size: 0x10 };

// MSI (PCI 3.0 §6.8.1)
export const MSI_CONTROL = 2;
export const MSI_ENABLE = 0x1;
const MSI_CAPABLE_SHIFT = 1;
const MSI_CAPABLE = 0xe;
export const MSI_GRANTED = 0x70;
export const MSI_GRANTED_SHIFT = 4;
const MSI_64 = 0x80;
const MSI_MASKABLE = 0x100;

// MSI-X (PCI 3.0 §6.8.2)
export const MSIX_CONTROL = 2;
export const MSIX_ENABLE = 0x8000;
export const MSIX_MASK_ALL = 0x4000;
const MSIX_COUNT = 0x7ff;
const MSIX_TABLE = 4;
const MSIX_PBA = 8;
const BAR_INDICATOR = 0x7;

export interface MsiLayout {
  readonly offset: number;
  /** 1 to 32. */
  readonly vectors: number;
  readonly address64: boolean;
  /** Registers of message data, mask bits and pending bits. */
  readonly data: number;
  readonly mask?: number;
  readonly pending?: number;
  readonly bytes: number;
}

export interface MsixLayout {
  readonly offset: number;
  readonly vectors: number;
  readonly table: { readonly bar: number; readonly offset: number };
  readonly pba: { readonly bar: number; readonly offset: number };
}

export interface BarLayout {
  readonly index: number;
  readonly kind: Exclude<BarKind, 'rom'>;
  readonly size: number;
  readonly prefetchable: boolean;
}

export interface ConfigLayout {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly classCode: number;
  readonly revision: number;
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
  readonly pin: 0 | 1 | 2 | 3 | 4;
  readonly bars: readonly BarLayout[];
  /** Bits that are answered from the machine's copy; all others are the device's. 4096 bytes. */
  readonly ours: Uint8Array;
  /** 1 for a byte whose writes go to the device. 4096 bytes. */
  readonly through: Uint8Array;
  readonly msi?: MsiLayout;
  readonly msix?: MsixLayout;
  /** PMCSR. */
  readonly power?: number;
  /** Names of capabilities that the guest does not see, for the log. */
  readonly hidden: readonly string[];
  /** Lays all of it that is not the ordinary header into an image. */
  install(image: ConfigImage): void;
}

interface Found {
  readonly id: number;
  readonly offset: number;
}

/**
 * @param recorded 256 or 4096 bytes of the device's configuration space, as VFIO gives them
 * @param sizes of the BARs' regions, 0 for none
 */
export function layOutConfig(recorded: Uint8Array, sizes: readonly number[]): ConfigLayout {
  const from = new DataView(recorded.buffer, recorded.byteOffset, recorded.byteLength);
  const ours = new Uint8Array(CONFIG_BYTES);
  const through = new Uint8Array(CONFIG_BYTES);
  const steps: ((image: ConfigImage) => void)[] = [];
  /** Ours, with these bytes; the guest may write the bits of `writable`. */
  const own = (offset: number, bytes: 1 | 2 | 4, value: number, writable = 0): void => {
    ours.fill(0xff, offset, offset + bytes);
    through.fill(0, offset, offset + bytes);
    steps.push((image) => image.set(offset, bytes, value).allow(offset, bytes, writable));
  };
  const copy = (offset: number, bytes: number): void => {
    for (let at = offset; at < offset + bytes; at++) own(at, 1, recorded[at]!);
  };
  const blank = (offset: number, bytes: number): void => {
    const end = Math.min(offset + bytes, offset < FIRST_EXTENDED ? FIRST_EXTENDED : CONFIG_BYTES);
    for (let at = offset; at < end; at++) own(at, 1, 0);
  };

  // The header. Its BARs, ids and command bits PciFunction lays out by itself.
  ours.fill(0xff, 0, FIRST_CAPABILITY);
  through.fill(1, FIRST_CAPABILITY, 256);
  setBits(ours, PCI_COMMAND, COMMAND_OURS);
  setBits(ours, PCI_STATUS, STATUS_CAPABILITIES);
  through.fill(1, PCI_COMMAND, PCI_STATUS + 2);
  for (const at of [0x0c, 0x0d, 0x0f]) {
    // cache line, latency timer, self-test
    ours[at] = 0;
    through[at] = 1;
  }
  steps.push((image) => image.set(PCI_HEADER_TYPE, 1, recorded[PCI_HEADER_TYPE]! & ~MULTI_FUNCTION));
  for (const at of [CIS_POINTER, CIS_POINTER + 1, CIS_POINTER + 2, CIS_POINTER + 3, 0x3e, 0x3f]) copy(at, 1);

  const kept: Found[] = [];
  const hidden: string[] = [];
  const list = capabilityList(recorded);
  let msi: MsiLayout | undefined;
  let msix: MsixLayout | undefined;
  let power: number | undefined;
  for (const found of list) {
    const { id, offset } = found;
    const least = id === ID_MSI && offset + 4 <= 256 ? msiBytes(from.getUint16(offset + MSI_CONTROL, true)) : (LEAST[id] ?? 2);
    const length = HIDDEN[id] ?? (offset + least > 256 ? 256 - offset : undefined);
    if (length !== undefined) {
      blank(offset, Math.min(length, endOf(found, list, 256) - offset));
      hidden.push(`0x${id.toString(16).padStart(2, '0')}`);
      continue;
    }
    kept.push(found);
    own(offset, 1, id);
    if (id === ID_POWER) {
      power = offset + PM_CONTROL;
      // No PME arrives in the guest.
      setBits(ours, offset + PM_CAPABILITIES, PM_PME_SUPPORT, true);
      steps.push((image) => image.allow(offset + PM_CONTROL, 2, POWER_STATE));
    } else if (id === ID_MSI && msi === undefined) msi = layMsi(offset);
    else if (id === ID_MSIX && msix === undefined) msix = layMsix(offset);
    else if (id === ID_EXPRESS) layExpress(offset);
  }
  kept.forEach(({ offset }, index) => own(offset + 1, 1, kept[index + 1]?.offset ?? 0));
  own(PCI_CAPABILITIES, 1, kept[0]?.offset ?? 0);
  blank(PCI_CAPABILITIES + 1, 7);
  steps.push((image) => image.set(PCI_STATUS, 2, kept.length > 0 ? STATUS_CAPABILITIES : 0));
  layExtended();

  function layMsi(offset: number): MsiLayout {
    const control = from.getUint16(offset + MSI_CONTROL, true);
    const address64 = (control & MSI_64) !== 0;
    const maskable = (control & MSI_MASKABLE) !== 0;
    const data = offset + (address64 ? 12 : 8);
    const bytes = msiBytes(control);
    const vectors = 2 ** Math.min((control & MSI_CAPABLE) >> MSI_CAPABLE_SHIFT, 5);
    blank(offset + 2, Math.ceil(bytes / 4) * 4 - 2);
    own(offset + MSI_CONTROL, 2, control & (MSI_CAPABLE | MSI_64 | MSI_MASKABLE), MSI_ENABLE | MSI_GRANTED);
    own(offset + 4, 4, 0, 0xffff_fffc);
    if (address64) own(offset + 8, 4, 0, 0xffff_ffff);
    own(data, 2, 0, 0xffff);
    if (!maskable) return { offset, vectors, address64, data, bytes };
    own(data + 4, 4, 0, 2 ** vectors - 1);
    return { offset, vectors, address64, data, mask: data + 4, pending: data + 8, bytes };
  }

  function layMsix(offset: number): MsixLayout {
    const control = from.getUint16(offset + MSIX_CONTROL, true);
    const place = (at: number): { bar: number; offset: number } => {
      const dword = from.getUint32(at, true);
      return { bar: dword & BAR_INDICATOR, offset: (dword & ~BAR_INDICATOR) >>> 0 };
    };
    own(offset + MSIX_CONTROL, 2, control & MSIX_COUNT, MSIX_ENABLE | MSIX_MASK_ALL);
    copy(offset + MSIX_TABLE, 8);
    return { offset, vectors: (control & MSIX_COUNT) + 1, table: place(offset + MSIX_TABLE), pba: place(offset + MSIX_PBA) };
  }

  function layExpress(offset: number): void {
    const flags = from.getUint16(offset + EXP_FLAGS, true);
    const type = flags & EXP_TYPE;
    const endpoint = type === EXP_TYPE_ENDPOINT || type === EXP_TYPE_LEGACY_ENDPOINT;
    own(offset + EXP_FLAGS, 2, endpoint ? (flags & ~(EXP_TYPE | EXP_SLOT)) | EXP_TYPE_INTEGRATED : flags);
    if (endpoint) blank(offset + EXP_LINK.offset, EXP_LINK.size);
    if ((flags & EXP_VERSION) < 2) return;
    blank(offset + EXP_SLOT_AND_ROOT.offset, EXP_SLOT_AND_ROOT.size);
    blank(offset + EXP_LINK2_AND_SLOT2.offset, EXP_LINK2_AND_SLOT2.size);
  }

  function layExtended(): void {
    const extended = extendedList(recorded);
    if (extended.length === 0) {
      ours.fill(0xff, FIRST_EXTENDED, CONFIG_BYTES);
      return;
    }
    through.fill(1, FIRST_EXTENDED, CONFIG_BYTES);
    for (const found of extended) {
      const { id, offset } = found;
      const head = from.getUint32(offset, true);
      if (!HIDDEN_EXTENDED.has(id)) {
        copy(offset, 4);
        continue;
      }
      blank(offset, endOf(found, extended, CONFIG_BYTES) - offset);
      // The null capability: only a link to the next.
      own(offset, 4, (head & 0xfff0_0000) >>> 0);
      hidden.push(`extended 0x${id.toString(16).padStart(4, '0')}`);
    }
  }

  const pin = recorded[PCI_INTERRUPT_PIN]!;
  return {
    vendorId: from.getUint16(PCI_VENDOR_ID, true),
    deviceId: from.getUint16(PCI_DEVICE_ID, true),
    revision: recorded[PCI_REVISION]!,
    classCode: from.getUint32(PCI_REVISION, true) >>> 8,
    subsystemVendorId: from.getUint16(PCI_SUBSYSTEM_VENDOR_ID, true),
    subsystemId: from.getUint16(PCI_SUBSYSTEM_ID, true),
    pin: (pin <= 4 ? pin : 0) as ConfigLayout['pin'],
    bars: barLayouts(from, sizes),
    ours,
    through,
    msi,
    msix,
    power,
    hidden,
    install: (image) => {
      for (const step of steps) step(image);
      if (pin === 0) image.allow(PCI_INTERRUPT_LINE, 1, 0xff);
    },
  };
}

function msiBytes(control: number): number {
  return ((control & MSI_64) !== 0 ? 14 : 10) + ((control & MSI_MASKABLE) !== 0 ? 10 : 0);
}

function setBits(mask: Uint8Array, offset: number, bits: number, more = false): void {
  for (let at = 0; at < 2; at++) mask[offset + at] = (more ? mask[offset + at]! : 0) | (bits >>> (8 * at));
}

function barLayouts(from: DataView, sizes: readonly number[]): BarLayout[] {
  const bars: BarLayout[] = [];
  for (let index = 0; index < 6; index++) {
    const size = sizes[index] ?? 0;
    const low = from.getUint32(BAR_REGISTER_FIRST + 4 * index, true);
    const wide = (low & 0x7) === 0x4;
    if (size > 0) bars.push({ index, kind: (low & 1) !== 0 ? 'io' : wide ? 'memory64' : 'memory32', size, prefetchable: (low & 0x9) === 0x8 });
    if (wide) index++;
  }
  return bars;
}

/** The ordinary capabilities, in the order of the list. A list that leads outside or in a circle ends there. */
function capabilityList(recorded: Uint8Array): Found[] {
  const list: Found[] = [];
  const status = recorded[PCI_STATUS]! | (recorded[PCI_STATUS + 1]! << 8);
  if ((status & STATUS_CAPABILITIES) === 0) return list;
  for (let offset = recorded[PCI_CAPABILITIES]! & ~3; offset >= FIRST_CAPABILITY; offset = recorded[offset + 1]! & ~3) {
    if (list.some((found) => found.offset === offset) || recorded[offset] === 0xff) break;
    list.push({ id: recorded[offset]!, offset });
  }
  return list;
}

function extendedList(recorded: Uint8Array): Found[] {
  const list: Found[] = [];
  if (recorded.length < CONFIG_BYTES) return list;
  const from = new DataView(recorded.buffer, recorded.byteOffset, recorded.byteLength);
  for (let offset = FIRST_EXTENDED; offset >= FIRST_EXTENDED; ) {
    const head = from.getUint32(offset, true);
    if (head === 0 || head === 0xffff_ffff || list.some((found) => found.offset === offset)) break;
    list.push({ id: head & 0xffff, offset });
    offset = (head >>> 20) & ~3;
  }
  return list;
}

/** Where a capability ends at the latest: the next one's place. */
function endOf(found: Found, list: readonly Found[], limit: number): number {
  return list.reduce((end, { offset }) => (offset > found.offset && offset < end ? offset : end), limit);
}
