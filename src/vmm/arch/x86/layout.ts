// Where things lie in a machine of ours: guest-physical addresses, ports and GSIs. A subset of Q35, because firmware and Linux look for it.
// Facts: Intel Q35 and ICH9 datasheets; the PC's legacy ports.

/**
 * ECAM as direct boot leaves it (PCIEXBAR moves and resizes it): 64 buses of 1 MiB each. Linux probes every slot of every bus that ECAM has, two
 * exits a slot, when it starts: with 256 buses that would be 16384 exits.
 */
export const ECAM_BASE = 0xb000_0000;
export const ECAM_SIZE = 0x400_0000;
/** The PCI memory window below 4 GiB: [start, end). */
export const PCI_MEMORY_START = 0xc000_0000;
export const PCI_MEMORY_END = 0xfec0_0000;
export const IOAPIC_BASE = 0xfec0_0000;
export const LAPIC_BASE = 0xfee0_0000;
/** Three pages that KVM wants on Intel, and one page of identity map below them; reserved in the memory map. */
export const KVM_TSS = 0xfffb_d000;
export const KVM_IDENTITY_MAP = 0xfffb_c000;
/** The PCI I/O window: [start, end). All ones ends outside. */
export const PCI_IO_START = 0x1000;
export const PCI_IO_END = 0xf000;
/** Least size of the PCI memory window above 4 GiB, which begins after RAM, aligned to its size. */
export const PCI_HIGH_SIZE = 64 * 2 ** 30;

/** Power management block (ICH9 PMBASE) as direct boot leaves it. */
export const PM_BASE = 0x600;
export const PM_SIZE = 0x80;
export const SCI_GSI = 9;
export const RESET_PORT = 0xcf9;

export const PIT_GSI = 2; // ISA IRQ 0 arrives at IOAPIC pin 2
export const KEYBOARD_GSI = 1;
export const SERIAL_GSI = 4;
export const RTC_GSI = 8;
export const MOUSE_GSI = 12;
/** PIRQ A to H arrive at these GSIs in APIC mode. */
export const PIRQ_GSI_FIRST = 16;
/** KVM's in-kernel IOAPIC has this many pins. */
export const IOAPIC_PINS = 24;
export const IOAPIC_ID = 0;

/** Slots on bus 0. */
export const SLOT_HOST_BRIDGE = 0;
export { DISPLAY_SLOT as SLOT_DISPLAY } from '../../../shared/machine-config.ts';
export const SLOT_LPC = 31;
