// ACPI tables from the machine's registers as they stand: made at direct boot, and again whenever firmware reads them from fw_cfg.
// ACPI 6.5 §5.2 (RSDP, XSDT, FADT, FACS, MADT), PCI Firmware Specification 3.3 §4.1.2 (MCFG). The machine is always in ACPI mode: SMI_CMD is
// zero, and PM1a_CNT.SCI_EN must read one, so there is no switch to get wrong. Not hardware-reduced: PM1a, timer and GPE0 are ICH9's.
import { IOAPIC_BASE, IOAPIC_ID, LAPIC_BASE, PIT_GSI, RESET_PORT, SCI_GSI } from '../layout.ts';
import { dsdt } from './dsdt.ts';
import type { HotplugInput } from './hotplug.ts';

/** Guest-physical bytes or ports [start, end). */
export interface AddressWindow {
  readonly start: number;
  readonly end: number;
}

/** One row of _PRT. */
export interface PciRoute {
  readonly slot: number;
  /** 0 for INTA to 3 for INTD. */
  readonly pin: number;
  /** 0 for PIRQ A to 7 for PIRQ H: the link device in PIC mode. */
  readonly pirq: number;
  /** In APIC mode. */
  readonly gsi: number;
}

export interface AcpiInput {
  /** Where the tables lie: [start, end), start a multiple of 64; the RSDP comes first. */
  readonly area: AddressWindow;
  /** Where the FACS lies, a multiple of 64: memory that stays reserved. */
  readonly facs: number;
  /** By processor number. */
  readonly apicIds: readonly number[];
  /** Where PCIEXBAR points (1 MiB a bus), or null while it is off. */
  readonly ecam: { readonly start: number; readonly size: number } | null;
  /** What the allocator of PCI BARs uses. */
  readonly ioWindow: AddressWindow;
  readonly memoryWindow: AddressWindow;
  readonly highWindow: AddressWindow | null;
  /** Every pin of every slot of bus 0. */
  readonly routes: readonly PciRoute[];
  /** The power management block; `timer32` when its timer counts 32 bits and not 24. */
  readonly pm: { readonly base: number; readonly size: number; readonly timer32: boolean };
  /** SLP_TYP of S4 (null: none) and S5. */
  readonly sleep: { readonly s4: number | null; readonly s5: number };
  /** Slots of bus 0 in which devices come and go; null for none. */
  readonly hotplug: HotplugInput | null;
  /** Further ports that the chipset decodes, for nobody else. */
  readonly reservedPorts: readonly { readonly start: number; readonly size: number }[];
}

export interface AcpiBlob {
  readonly address: number;
  readonly bytes: Uint8Array;
}

const HEADER_SIZE = 36;
const RSDP_SIZE = 36;
const FACS_SIZE = 64;
const ALIGNMENT = 64;
const OEM_ID = 'VITRIN';
const OEM_TABLE_ID = 'VITRINE ';
const CREATOR_ID = 'VTRN';
const REVISION = 1;

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

/** The byte that makes all of `bytes` add up to zero. */
export function checksum(bytes: Uint8Array): number {
  return (256 - (bytes.reduce((sum, byte) => sum + byte, 0) % 256)) % 256;
}

/** A table: the header of §5.2.6 and `body`. */
export function table(signature: string, revision: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_SIZE + body.length);
  const data = new DataView(bytes.buffer);
  bytes.set(ascii(signature), 0);
  data.setUint32(4, bytes.length, true);
  data.setUint8(8, revision);
  bytes.set(ascii(OEM_ID), 10);
  bytes.set(ascii(OEM_TABLE_ID), 16);
  data.setUint32(24, REVISION, true);
  bytes.set(ascii(CREATOR_ID), 28);
  data.setUint32(32, REVISION, true);
  bytes.set(body, HEADER_SIZE);
  bytes[9] = checksum(bytes);
  return bytes;
}

// FADT (§5.2.9): flags and boot architecture flags.
const FADT_SIZE = 276;
const FADT_REVISION = 6;
const WBINVD = 1 << 0;
const PROC_C1 = 1 << 2;
/** No sleep button among the fixed features; bit 4 clear: there is a power button. */
const SLP_BUTTON = 1 << 5;
const TMR_VAL_EXT = 1 << 8;
const RESET_REG_SUP = 1 << 10;
const LEGACY_DEVICES = 1 << 0;
const KEYBOARD_8042 = 1 << 1;
const VGA_NOT_PRESENT = 1 << 2;
const PROFILE_DESKTOP = 1;
const RESET_VALUE = 6;
/** C2 and C3 are not supported: latencies above these limits say so. */
const NO_C2 = 101;
const NO_C3 = 1001;
const RTC_CENTURY = 0x32;

// ICH9's power management block (datasheet §13.8.3): offset and bytes.
const PM1A_EVENT = { offset: 0x00, size: 4 };
const PM1A_CONTROL = { offset: 0x04, size: 2 };
const PM_TIMER = { offset: 0x08, size: 4 };
const GPE0 = { offset: 0x20, size: 16 };

const SPACE_IO = 1;

/** Generic address structure (§5.2.3.2) of `size` bytes of ports, accessed `access` bytes at a time. */
function ioAddress(data: DataView, at: number, port: number, size: number, access: 1 | 2 | 4): void {
  data.setUint8(at, SPACE_IO);
  data.setUint8(at + 1, size * 8);
  data.setUint8(at + 3, { 1: 1, 2: 2, 4: 3 }[access]);
  data.setBigUint64(at + 4, BigInt(port), true);
}

function fadt(input: AcpiInput, facs: number, dsdtAddress: number): Uint8Array {
  const body = new Uint8Array(FADT_SIZE - HEADER_SIZE);
  const data = new DataView(body.buffer);
  const at = (offset: number): number => offset - HEADER_SIZE; // offsets below are the specification's
  const { base } = input.pm;
  data.setUint32(at(36), facs, true);
  data.setUint32(at(40), dsdtAddress, true);
  data.setUint8(at(45), PROFILE_DESKTOP);
  data.setUint16(at(46), SCI_GSI, true);
  data.setUint32(at(56), base + PM1A_EVENT.offset, true);
  data.setUint32(at(64), base + PM1A_CONTROL.offset, true);
  data.setUint32(at(76), base + PM_TIMER.offset, true);
  data.setUint32(at(80), base + GPE0.offset, true);
  data.setUint8(at(88), PM1A_EVENT.size);
  data.setUint8(at(89), PM1A_CONTROL.size);
  data.setUint8(at(91), PM_TIMER.size);
  data.setUint8(at(92), GPE0.size);
  data.setUint16(at(96), NO_C2, true);
  data.setUint16(at(98), NO_C3, true);
  data.setUint8(at(108), RTC_CENTURY);
  data.setUint16(at(109), LEGACY_DEVICES | KEYBOARD_8042 | VGA_NOT_PRESENT, true);
  data.setUint32(at(112), WBINVD | PROC_C1 | SLP_BUTTON | RESET_REG_SUP | (input.pm.timer32 ? TMR_VAL_EXT : 0), true);
  ioAddress(data, at(116), RESET_PORT, 1, 1);
  data.setUint8(at(128), RESET_VALUE);
  data.setUint8(at(131), 5); // minor revision: 6.5
  data.setBigUint64(at(140), BigInt(dsdtAddress), true);
  ioAddress(data, at(148), base + PM1A_EVENT.offset, PM1A_EVENT.size, 2);
  ioAddress(data, at(172), base + PM1A_CONTROL.offset, PM1A_CONTROL.size, 2);
  ioAddress(data, at(208), base + PM_TIMER.offset, PM_TIMER.size, 4);
  ioAddress(data, at(220), base + GPE0.offset, GPE0.size, 1);
  body.set(ascii('VITRINE'), at(268));
  return table('FACP', FADT_REVISION, body);
}

function facsTable(): Uint8Array {
  const bytes = new Uint8Array(FACS_SIZE);
  bytes.set(ascii('FACS'));
  bytes[4] = FACS_SIZE;
  bytes[32] = 2; // version
  return bytes;
}

// MADT (§5.2.12).
const PCAT_COMPAT = 1;
const ENABLED = 1;
const EDGE_AS_BUS = 0;
const LEVEL_HIGH = 0x0d;
const ALL_PROCESSORS = 0xff;
/** Local APIC ids beyond these need the x2APIC structures; 255 means all. */
const LAPIC_ID_LIMIT = 254;

function madt(apicIds: readonly number[]): Uint8Array {
  const bytes: number[] = [];
  const u16 = (n: number): number[] => [n % 256, Math.floor(n / 256) % 256];
  const u32 = (n: number): number[] => [...u16(n % 65536), ...u16(Math.floor(n / 65536))];
  bytes.push(...u32(LAPIC_BASE), ...u32(PCAT_COMPAT));
  apicIds.forEach((id, uid) => {
    if (id <= LAPIC_ID_LIMIT && uid <= LAPIC_ID_LIMIT) bytes.push(0, 8, uid, id, ...u32(ENABLED));
    else bytes.push(9, 16, 0, 0, ...u32(id), ...u32(ENABLED), ...u32(uid));
  });
  bytes.push(1, 12, IOAPIC_ID, 0, ...u32(IOAPIC_BASE), ...u32(0));
  bytes.push(2, 10, 0, 0, ...u32(PIT_GSI), ...u16(EDGE_AS_BUS));
  bytes.push(2, 10, 0, SCI_GSI, ...u32(SCI_GSI), ...u16(LEVEL_HIGH));
  bytes.push(4, 6, ALL_PROCESSORS, ...u16(EDGE_AS_BUS), 1); // NMI at LINT1
  if (apicIds.some((id) => id > LAPIC_ID_LIMIT)) bytes.push(10, 12, ...u16(EDGE_AS_BUS), ...u32(0xffff_ffff), 1, 0, 0, 0);
  return table('APIC', 5, Uint8Array.from(bytes));
}

function mcfg(ecam: { readonly start: number; readonly size: number }): Uint8Array {
  const data = new DataView(new ArrayBuffer(8 + 16));
  data.setBigUint64(8, BigInt(ecam.start), true);
  data.setUint8(19, ecam.size / 2 ** 20 - 1);
  return table('MCFG', 1, new Uint8Array(data.buffer));
}

function xsdt(addresses: readonly number[]): Uint8Array {
  return table('XSDT', 1, new Uint8Array(BigUint64Array.from(addresses, (address) => BigInt(address)).buffer));
}

function rsdp(xsdtAddress: number): Uint8Array {
  const bytes = new Uint8Array(RSDP_SIZE);
  const data = new DataView(bytes.buffer);
  bytes.set(ascii('RSD PTR '), 0);
  bytes.set(ascii(OEM_ID), 9);
  data.setUint8(15, 2);
  data.setUint32(20, RSDP_SIZE, true);
  data.setBigUint64(24, BigInt(xsdtAddress), true);
  bytes[8] = checksum(bytes.subarray(0, 20)); // of the part that ACPI 1.0 knew
  bytes[32] = checksum(bytes);
  return bytes;
}

/** All tables at their addresses. Throws RangeError when the area is too small for them. */
export function buildAcpi(input: AcpiInput): { rsdp: number; blobs: AcpiBlob[] } {
  const blobs: AcpiBlob[] = [];
  let next = input.area.start;
  const take = (size: number): number => {
    const address = next;
    next = Math.ceil((address + size) / ALIGNMENT) * ALIGNMENT;
    if (next > input.area.end) throw new RangeError(`the ACPI tables need more than the ${input.area.end - input.area.start} bytes that are kept for them`);
    return address;
  };
  const put = (bytes: Uint8Array): number => {
    const address = take(bytes.length);
    blobs.push({ address, bytes });
    return address;
  };
  const rsdpAddress = take(RSDP_SIZE);
  const dsdtAddress = put(table('DSDT', 2, dsdt(input)));
  blobs.push({ address: input.facs, bytes: facsTable() });
  const addresses = [put(fadt(input, input.facs, dsdtAddress)), put(madt(input.apicIds))];
  if (input.ecam !== null) addresses.push(put(mcfg(input.ecam)));
  blobs.push({ address: rsdpAddress, bytes: rsdp(put(xsdt(addresses))) });
  return { rsdp: rsdpAddress, blobs };
}
