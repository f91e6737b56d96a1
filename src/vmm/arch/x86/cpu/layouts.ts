// Sizes and field offsets, in bytes, of KVM's x86 structures. Source: asm/kvm.h and linux/kvm.h (uapi); tested against the headers.
// All of them are little-endian.

export const KVM_REGS = {
  size: 144,
  rax: 0, rbx: 8, rcx: 16, rdx: 24, rsi: 32, rdi: 40, rsp: 48, rbp: 56,
  r8: 64, r9: 72, r10: 80, r11: 88, r12: 96, r13: 104, r14: 112, r15: 120,
  rip: 128, rflags: 136,
} as const;

export const KVM_SEGMENT = {
  size: 24,
  base: 0, limit: 8, selector: 12, type: 14, present: 15, dpl: 16, db: 17, s: 18, l: 19, g: 20, avl: 21, unusable: 22,
} as const;

export const KVM_DTABLE = { size: 16, base: 0, limit: 8 } as const;

export const KVM_SREGS = {
  size: 312,
  cs: 0, ds: 24, es: 48, fs: 72, gs: 96, ss: 120, tr: 144, ldt: 168,
  gdt: 192, idt: 208,
  cr0: 224, cr2: 232, cr3: 240, cr4: 248, cr8: 256, efer: 264, apic_base: 272, interrupt_bitmap: 280,
} as const;

export const KVM_FPU = {
  size: 416,
  fpr: 0, fcw: 128, fsw: 130, ftwx: 132, last_opcode: 134, last_ip: 136, last_dp: 144, xmm: 152, mxcsr: 408,
} as const;

export const KVM_LAPIC_STATE = { size: 1024, regs: 0 } as const;

/** The header before the entries. */
export const KVM_CPUID2 = { size: 8, nent: 0, entries: 8 } as const;
export const KVM_CPUID_ENTRY2 = { size: 40, function: 0, index: 4, flags: 8, eax: 12, ebx: 16, ecx: 20, edx: 24 } as const;

/** The header before the entries. */
export const KVM_MSRS = { size: 8, nmsrs: 0, entries: 8 } as const;
export const KVM_MSR_ENTRY = { size: 16, index: 0, data: 8 } as const;

export const KVM_MP_STATE = { size: 4, mp_state: 0 } as const;

export const KVM_VCPU_EVENTS = {
  size: 64,
  exception: 0, interrupt: 8, nmi: 12, sipi_vector: 16, flags: 20, smi: 24, triple_fault: 28, exception_has_payload: 55, exception_payload: 56,
} as const;

export const KVM_XCRS = { size: 392, nr_xcrs: 0, flags: 4, xcrs: 8 } as const;
export const KVM_XCR = { size: 16, xcr: 0, value: 8 } as const;

export const KVM_DEBUGREGS = { size: 128, db: 0, dr6: 32, dr7: 40, flags: 48 } as const;
