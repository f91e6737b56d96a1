// The registers that a vCPU starts with, as the structures that KVM takes: after reset (Intel SDM volume 3, §10.1.1), and at the entry of a
// kernel that is booted directly (Linux Documentation/arch/x86/boot.rst; Xen docs/misc/pvh; Multiboot 0.6.96 §3.2).
// Control registers, APIC base and the like that an entry does not name are taken from KVM_GET_SREGS of a vCPU after reset.
import { BOOT_CODE_SELECTOR, BOOT_DATA_SELECTOR, type BootEntry } from '../boot/entry.ts';
import { KVM_DEBUGREGS, KVM_DTABLE, KVM_FPU, KVM_REGS, KVM_SEGMENT, KVM_SREGS, KVM_VCPU_EVENTS, KVM_XCR, KVM_XCRS } from './layouts.ts';

/** Values of kvm_mp_state (KVM_MP_STATE_*): a first vCPU runs. */
export const MP_STATE_RUNNABLE = 0;
/** Waits for INIT and SIPI. */
export const MP_STATE_UNINITIALIZED = 1;

export const CR0_PE = 0x0000_0001;
export const CR0_ET = 0x0000_0010;
const CR0_NW = 0x2000_0000;
const CR0_CD = 0x4000_0000;
export const CR0_PG = 0x8000_0000;
export const CR4_PAE = 0x20;
const EFER_LME = 0x100;
const EFER_LMA = 0x400;
const RFLAGS_FIXED = 0x2;

const APIC_BASE_ADDRESS = 0xfee0_0000;
const APIC_BASE_BSP = 0x100;
const APIC_BASE_ENABLE = 0x800;

// Segment types of system and code or data segments.
const TYPE_DATA = 3; // read, write, accessed
const TYPE_CODE = 11; // execute, read, accessed
const TYPE_LDT = 2;
const TYPE_TSS_BUSY = 11; // 32 and 64 bits alike

const RESET_CODE_BASE = 0xffff_0000;
const RESET_CODE_SELECTOR = 0xf000;
const RESET_IP = 0xfff0;
const REAL_LIMIT = 0xffff;
const TSS_LIMIT = 0x67;

const FCW_DEFAULT = 0x37f;
const MXCSR_DEFAULT = 0x1f80;
const XCR0_X87 = 1;
const DR6_RESET = 0xffff_0ff0;
const DR7_RESET = 0x400;

// kvm_vcpu_events.flags: which parts of the structure count.
const EVENTS_NMI_PENDING = 0x01;
const EVENTS_SIPI_VECTOR = 0x02;
const EVENTS_SHADOW = 0x04;

type General = Partial<Record<Exclude<keyof typeof KVM_REGS, 'size'>, number>>;

interface Segment {
  readonly base?: number;
  /** In bytes, less one. */
  readonly limit: number;
  readonly selector: number;
  readonly type: number;
  /** 1 for code and data, 0 for system segments. */
  readonly s: 0 | 1;
  readonly db?: 0 | 1;
  readonly l?: 0 | 1;
  readonly g?: 0 | 1;
}

/** Writes an unsigned integer below 2^53 as 64 bits. */
function put64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value % 2 ** 32, true);
  view.setUint32(offset + 4, Math.floor(value / 2 ** 32), true);
}

function putSegment(view: DataView, offset: number, segment: Segment): void {
  put64(view, offset + KVM_SEGMENT.base, segment.base ?? 0);
  view.setUint32(offset + KVM_SEGMENT.limit, segment.limit, true);
  view.setUint16(offset + KVM_SEGMENT.selector, segment.selector, true);
  view.setUint8(offset + KVM_SEGMENT.type, segment.type);
  view.setUint8(offset + KVM_SEGMENT.present, 1);
  view.setUint8(offset + KVM_SEGMENT.dpl, 0);
  view.setUint8(offset + KVM_SEGMENT.db, segment.db ?? 0);
  view.setUint8(offset + KVM_SEGMENT.s, segment.s);
  view.setUint8(offset + KVM_SEGMENT.l, segment.l ?? 0);
  view.setUint8(offset + KVM_SEGMENT.g, segment.g ?? 0);
  view.setUint8(offset + KVM_SEGMENT.avl, 0);
  view.setUint8(offset + KVM_SEGMENT.unusable, 0);
}

function putTable(view: DataView, offset: number, base: number, limit: number): void {
  put64(view, offset + KVM_DTABLE.base, base);
  view.setUint16(offset + KVM_DTABLE.limit, limit, true);
}

function regs(values: General): Uint8Array {
  const view = new DataView(new ArrayBuffer(KVM_REGS.size));
  for (const [name, value] of Object.entries(values)) put64(view, KVM_REGS[name as keyof typeof KVM_REGS], value);
  put64(view, KVM_REGS.rflags, RFLAGS_FIXED);
  return new Uint8Array(view.buffer);
}

/** kvm_regs of the first vCPU at a kernel's entry. Interrupts are off. */
export function entryRegs(entry: BootEntry): Uint8Array {
  switch (entry.kind) {
    case 'linux64':
      return regs({ rip: entry.rip, rsi: entry.rsi, rsp: entry.rsp });
    case 'pvh':
      return regs({ rip: entry.eip, rbx: entry.ebx, rsp: entry.esp });
    case 'multiboot':
      return regs({ rip: entry.eip, rax: entry.eax, rbx: entry.ebx, rsp: entry.esp });
  }
}

/**
 * kvm_sregs of the first vCPU at a kernel's entry: flat segments of 4 GiB; long mode with paging for 64-bit Linux, protected mode without
 * paging for the others; caches on; an empty interrupt table.
 * @param current kvm_sregs of the vCPU after reset; not changed.
 */
export function entrySregs(entry: BootEntry, current: Uint8Array): Uint8Array {
  const bytes = current.slice();
  const view = new DataView(bytes.buffer, bytes.byteOffset, KVM_SREGS.size);
  const long = entry.kind === 'linux64';
  const flat = { limit: 0xffff_ffff, s: 1, g: 1 } as const;
  putSegment(view, KVM_SREGS.cs, { ...flat, selector: BOOT_CODE_SELECTOR, type: TYPE_CODE, l: long ? 1 : 0, db: long ? 0 : 1 });
  for (const data of [KVM_SREGS.ds, KVM_SREGS.es, KVM_SREGS.fs, KVM_SREGS.gs, KVM_SREGS.ss]) {
    putSegment(view, data, { ...flat, selector: BOOT_DATA_SELECTOR, type: TYPE_DATA, db: 1 });
  }
  putSegment(view, KVM_SREGS.tr, { limit: TSS_LIMIT, selector: 0, type: TYPE_TSS_BUSY, s: 0 });
  putSegment(view, KVM_SREGS.ldt, { limit: 0, selector: 0, type: TYPE_LDT, s: 0 });
  putTable(view, KVM_SREGS.gdt, entry.gdt.base, entry.gdt.limit);
  putTable(view, KVM_SREGS.idt, 0, 0);
  put64(view, KVM_SREGS.cr0, long ? CR0_PG + CR0_ET + CR0_PE : CR0_ET + CR0_PE);
  put64(view, KVM_SREGS.cr2, 0);
  put64(view, KVM_SREGS.cr3, long ? entry.pageTable : 0);
  put64(view, KVM_SREGS.cr4, long ? CR4_PAE : 0);
  put64(view, KVM_SREGS.cr8, 0);
  put64(view, KVM_SREGS.efer, long ? EFER_LME | EFER_LMA : 0);
  return bytes;
}

/** kvm_regs after reset. @param signature EAX of CPUID leaf 1, which a reset leaves in EDX. */
export function resetRegs(signature = 0): Uint8Array {
  return regs({ rip: RESET_IP, rdx: signature });
}

/** kvm_sregs after reset: real mode at 0xFFFFFFF0, caches off, the local APIC enabled at its usual place. For an AP too. */
export function resetSregs(bootProcessor: boolean): Uint8Array {
  const view = new DataView(new ArrayBuffer(KVM_SREGS.size));
  const real = { limit: REAL_LIMIT, s: 1 } as const;
  putSegment(view, KVM_SREGS.cs, { ...real, base: RESET_CODE_BASE, selector: RESET_CODE_SELECTOR, type: TYPE_CODE });
  for (const data of [KVM_SREGS.ds, KVM_SREGS.es, KVM_SREGS.fs, KVM_SREGS.gs, KVM_SREGS.ss]) {
    putSegment(view, data, { ...real, selector: 0, type: TYPE_DATA });
  }
  putSegment(view, KVM_SREGS.tr, { limit: REAL_LIMIT, selector: 0, type: TYPE_TSS_BUSY, s: 0 });
  putSegment(view, KVM_SREGS.ldt, { limit: REAL_LIMIT, selector: 0, type: TYPE_LDT, s: 0 });
  putTable(view, KVM_SREGS.gdt, 0, REAL_LIMIT);
  putTable(view, KVM_SREGS.idt, 0, REAL_LIMIT);
  put64(view, KVM_SREGS.cr0, CR0_CD + CR0_NW + CR0_ET);
  put64(view, KVM_SREGS.apic_base, APIC_BASE_ADDRESS + APIC_BASE_ENABLE + (bootProcessor ? APIC_BASE_BSP : 0));
  return new Uint8Array(view.buffer);
}

/** kvm_fpu after FNINIT: all registers empty, exceptions masked. */
export function initialFpu(): Uint8Array {
  const view = new DataView(new ArrayBuffer(KVM_FPU.size));
  view.setUint16(KVM_FPU.fcw, FCW_DEFAULT, true);
  view.setUint32(KVM_FPU.mxcsr, MXCSR_DEFAULT, true);
  return new Uint8Array(view.buffer);
}

/** kvm_xcrs after reset: XCR0 has x87 alone. */
export function initialXcrs(): Uint8Array {
  const view = new DataView(new ArrayBuffer(KVM_XCRS.size));
  view.setUint32(KVM_XCRS.nr_xcrs, 1, true);
  view.setUint32(KVM_XCRS.xcrs + KVM_XCR.xcr, 0, true);
  put64(view, KVM_XCRS.xcrs + KVM_XCR.value, XCR0_X87);
  return new Uint8Array(view.buffer);
}

/** kvm_debugregs after reset. */
export function initialDebugRegs(): Uint8Array {
  const view = new DataView(new ArrayBuffer(KVM_DEBUGREGS.size));
  put64(view, KVM_DEBUGREGS.dr6, DR6_RESET);
  put64(view, KVM_DEBUGREGS.dr7, DR7_RESET);
  return new Uint8Array(view.buffer);
}

/** kvm_vcpu_events with nothing pending, injected or masked. */
export function noEvents(): Uint8Array {
  const view = new DataView(new ArrayBuffer(KVM_VCPU_EVENTS.size));
  view.setUint32(KVM_VCPU_EVENTS.flags, EVENTS_NMI_PENDING | EVENTS_SIPI_VECTOR | EVENTS_SHADOW, true);
  return new Uint8Array(view.buffer);
}
