// The local APIC's page as KVM_GET_LAPIC and KVM_SET_LAPIC hand it over: the state after reset, and the pins as firmware leaves them.
// Intel SDM volume 3, §11.4.7 (state after reset) and §11.5.1 (local vector table).
import { KVM_LAPIC_STATE } from './layouts.ts';

// Register offsets in bytes.
export const LAPIC_ID = 0x20;
export const LAPIC_VERSION = 0x30;
const LAPIC_DFR = 0xe0;
const LAPIC_SVR = 0xf0;
const LAPIC_LVT_CMCI = 0x2f0;
export const LAPIC_LVT_TIMER = 0x320;
const LAPIC_LVT_THERMAL = 0x330;
const LAPIC_LVT_PERFORMANCE = 0x340;
export const LAPIC_LVT_LINT0 = 0x350;
export const LAPIC_LVT_LINT1 = 0x360;
const LAPIC_LVT_ERROR = 0x370;

const ID_SHIFT = 24;
const DFR_FLAT = 0xffff_ffff;
const SVR_RESET = 0xff;
const LVT_MASKED = 0x1_0000;
const DELIVERY_MASK = 0x700;
const DELIVERY_NMI = 0x400;
const DELIVERY_EXTINT = 0x700;
const LOCAL_VECTOR_TABLE = [LAPIC_LVT_TIMER, LAPIC_LVT_THERMAL, LAPIC_LVT_PERFORMANCE, LAPIC_LVT_LINT0, LAPIC_LVT_LINT1, LAPIC_LVT_ERROR] as const;
/** Bits 23 to 16 of the version: the number of the last entry of the table; the seventh is CMCI. */
const VERSION_LAST_ENTRY_SHIFT = 16;
const CMCI_ENTRY = 6;

/**
 * The page after reset, in xAPIC form.
 * @param current the vCPU's page, for the version; not changed.
 */
export function resetLapic(current: Uint8Array, apicId: number): Uint8Array {
  const before = new DataView(current.buffer, current.byteOffset, KVM_LAPIC_STATE.size);
  const view = new DataView(new ArrayBuffer(KVM_LAPIC_STATE.size));
  const version = before.getUint32(LAPIC_VERSION, true);
  view.setUint32(LAPIC_ID, ((apicId & 0xff) << ID_SHIFT) >>> 0, true);
  view.setUint32(LAPIC_VERSION, version, true);
  view.setUint32(LAPIC_DFR, DFR_FLAT, true);
  view.setUint32(LAPIC_SVR, SVR_RESET, true);
  for (const entry of LOCAL_VECTOR_TABLE) view.setUint32(entry, LVT_MASKED, true);
  if (((version >>> VERSION_LAST_ENTRY_SHIFT) & 0xff) >= CMCI_ENTRY) view.setUint32(LAPIC_LVT_CMCI, LVT_MASKED, true);
  return new Uint8Array(view.buffer);
}

/** A copy with LINT0 taking the legacy interrupt controller's interrupts (ExtINT) and LINT1 the NMI, both unmasked, as direct boot needs it. */
export function legacyPins(page: Uint8Array): Uint8Array {
  const copy = page.slice();
  const view = new DataView(copy.buffer, copy.byteOffset, KVM_LAPIC_STATE.size);
  for (const [register, delivery] of [[LAPIC_LVT_LINT0, DELIVERY_EXTINT], [LAPIC_LVT_LINT1, DELIVERY_NMI]] as const) {
    view.setUint32(register, (view.getUint32(register, true) & ~(LVT_MASKED | DELIVERY_MASK)) | delivery, true);
  }
  return copy;
}
