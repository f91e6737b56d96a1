// Model-specific registers as firmware leaves them, for the start of a vCPU and for each reset of the guest. Intel SDM volume 4; volume 3
// §12.11 (memory type range registers); Linux Documentation/virt/kvm/x86/msr.rst. A register that this KVM does not know is refused by
// KVM_SET_MSRS; that is no failure.

const IA32_FEATURE_CONTROL = 0x3a;
const IA32_SYSENTER_CS = 0x174;
const IA32_SYSENTER_ESP = 0x175;
const IA32_SYSENTER_EIP = 0x176;
const IA32_MISC_ENABLE = 0x1a0;
const IA32_DEBUGCTL = 0x1d9;
const MTRR_PHYS_BASE0 = 0x200;
const MTRR_FIX64K_00000 = 0x250;
const MTRR_FIX16K_80000 = 0x258;
const MTRR_FIX16K_A0000 = 0x259;
const MTRR_FIX4K_C0000 = 0x268; // to 0x26f
const IA32_PAT = 0x277;
export const MTRR_DEF_TYPE = 0x2ff;
const IA32_TSC_DEADLINE = 0x6e0;
const STAR = 0xc000_0081;
const LSTAR = 0xc000_0082;
const CSTAR = 0xc000_0083;
const SYSCALL_MASK = 0xc000_0084;
const KERNEL_GS_BASE = 0xc000_0102;
const TSC_AUX = 0xc000_0103;
const KVM_SYSTEM_TIME = 0x12;
const KVM_SYSTEM_TIME_NEW = 0x4b56_4d01;
const KVM_ASYNC_PF_EN = 0x4b56_4d02;
const KVM_STEAL_TIME = 0x4b56_4d03;
const KVM_PV_EOI_EN = 0x4b56_4d04;
const KVM_POLL_CONTROL = 0x4b56_4d05;
const KVM_ASYNC_PF_INT = 0x4b56_4d06;

const FAST_STRINGS = 0x1n;
/** Locked, VMX outside SMX allowed. */
const FEATURE_CONTROL_VMX = 0x5n;
/** WB, WT, UC-, UC, twice: as after reset. */
const PAT_RESET = 0x0007_0406_0007_0406n;
/** MTRRs on, the fixed ones too, write-back where none says otherwise. */
const DEF_TYPE_WRITE_BACK = 0xc06n;
const ALL_WRITE_BACK = 0x0606_0606_0606_0606n;
const ALL_UNCACHED = 0n;
const RANGE_UNCACHED = 0n;
const MASK_VALID = 0x800n;
const VARIABLE_RANGES = 8;
const FIXED_4K = 8;

export interface MsrOptions {
  /** Physical address bits of the guest's CPUs. */
  readonly physBits: number;
  /** Below 4 GiB RAM ends here and devices begin: a power of two, at least half of 4 GiB. */
  readonly hole: number;
  /** Whether the guest sees VMX. */
  readonly vmx: boolean;
}

/** What to set, in order. Pairs of index and value, as `Vcpu.setMsrs` takes them. */
export function initialMsrs(options: MsrOptions): [index: number, value: bigint][] {
  const address = (1n << BigInt(options.physBits)) - 1n;
  const hole = BigInt(options.hole);
  const holeMask = address & ~(0x1_0000_0000n - hole - 1n);
  const list: [number, bigint][] = [
    // Paravirtual areas first: while they are on, KVM writes into the guest's memory.
    ...[KVM_SYSTEM_TIME, KVM_SYSTEM_TIME_NEW, KVM_ASYNC_PF_EN, KVM_ASYNC_PF_INT, KVM_STEAL_TIME, KVM_PV_EOI_EN].map((index): [number, bigint] => [index, 0n]),
    [KVM_POLL_CONTROL, 1n],
    ...[IA32_SYSENTER_CS, IA32_SYSENTER_ESP, IA32_SYSENTER_EIP, STAR, LSTAR, CSTAR, SYSCALL_MASK, KERNEL_GS_BASE, TSC_AUX, IA32_DEBUGCTL, IA32_TSC_DEADLINE].map(
      (index): [number, bigint] => [index, 0n],
    ),
    [IA32_MISC_ENABLE, FAST_STRINGS],
    [IA32_PAT, PAT_RESET],
    // The adapters' area is uncached, the rest of the first MiB is RAM.
    [MTRR_FIX64K_00000, ALL_WRITE_BACK],
    [MTRR_FIX16K_80000, ALL_WRITE_BACK],
    [MTRR_FIX16K_A0000, ALL_UNCACHED],
  ];
  for (let i = 0; i < FIXED_4K; i++) list.push([MTRR_FIX4K_C0000 + i, ALL_WRITE_BACK]);
  // One variable range: from the end of low RAM to 4 GiB lie devices.
  list.push([MTRR_PHYS_BASE0, hole | RANGE_UNCACHED], [MTRR_PHYS_BASE0 + 1, holeMask | MASK_VALID]);
  for (let i = 1; i < VARIABLE_RANGES; i++) list.push([MTRR_PHYS_BASE0 + 2 * i, 0n], [MTRR_PHYS_BASE0 + 2 * i + 1, 0n]);
  list.push([MTRR_DEF_TYPE, DEF_TYPE_WRITE_BACK]);
  if (options.vmx) list.push([IA32_FEATURE_CONTROL, FEATURE_CONTROL_VMX]);
  return list;
}
