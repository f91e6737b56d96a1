// What a guest's CPUs say of themselves: from what KVM supports (KVM_GET_SUPPORTED_CPUID) to what each vCPU is given (KVM_SET_CPUID2).
// Sources: Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E; Linux Documentation/virt/kvm/x86/cpuid.rst.
//
// The topology is one package of N cores with one thread each. Features are KVM's, less those that need something from us which a machine
// does not have (a PMU unless it is asked for, SGX memory, memory encryption, AMX state without permission), and the monitor instructions.
import { KVM_CPUID2, KVM_CPUID_ENTRY2 } from './layouts.ts';

export interface CpuidEntry {
  readonly function: number;
  /** Subleaf; counts only with FLAG_SIGNIFICANT_INDEX. */
  readonly index: number;
  readonly flags: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

export const FLAG_SIGNIFICANT_INDEX = 1;

export interface CpuidOptions {
  /** vCPUs of the machine, 1 or more. */
  readonly cpus: number;
  /** This vCPU's APIC id. */
  readonly apicId: number;
  /** The guest's TSC frequency, 0 when unknown. */
  readonly tscKhz: number;
  /** Physical address bits of the guest; at most what KVM supports. */
  readonly physBits: number;
  /** KVM_CAP_TSC_DEADLINE_TIMER: not a part of what KVM_GET_SUPPORTED_CPUID says. */
  readonly tscDeadline: boolean;
  /** Show performance counters. */
  readonly pmu?: boolean;
}

// Leaf 1.
const ECX1_MONITOR = 1 << 3;
const ECX1_VMX = 1 << 5;
const ECX1_XSAVE = 1 << 26;
const ECX1_PDCM = 1 << 15;
const ECX1_X2APIC = 1 << 21;
const ECX1_TSC_DEADLINE = 1 << 24;
const ECX1_OSXSAVE = 1 << 27;
const ECX1_HYPERVISOR = 1 << 31;
const EDX1_HTT = 1 << 28;
const CLFLUSH_64 = 8 << 8;
const CLFLUSH_MASK = 0xff00;
// Leaf 7.
const EBX7_SGX = 1 << 2;
const ECX7_SGX_LC = 1 << 30;
const EDX7_HYBRID = 1 << 15;
const EDX7_AMX = (1 << 22) | (1 << 24) | (1 << 25);
const EAX7_1_AMX_FP16 = 1 << 21;
// Leaf 0xD, subleaf 0: state components.
const XCR0_TILE_DATA = 1 << 18;
// Levels of leaves 0xB and 0x1F.
const LEVEL_THREAD = 1 << 8;
const LEVEL_CORE = 2 << 8;
// Leaf 0x80000001.
const ECX_EXT_CMP_LEGACY = 1 << 1;
const ECX_EXT_TOPOLOGY = 1 << 22;
const ECX_EXT_PERF = (1 << 23) | (1 << 24) | (1 << 28);
const ECX_EXT_MONITORX = 1 << 29;

const LEAF_TOPOLOGY = 0xb;
const LEAF_TSC = 0x15;
const LEAF_FREQUENCY = 0x16;
const LEAF_TOPOLOGY_V2 = 0x1f;
const LEAF_KVM = 0x4000_0000;
const LEAF_KVM_FEATURES = 0x4000_0001;
const LEAF_HYPERVISOR_TIMING = 0x4000_0010;

/** Leaves that would speak of the host's topology, monitor, PMU, SGX or encryption. They are kept as zeros, so that no other leaf answers for them. */
const BLANK = new Set([0x5, 0x12, 0x1a, 0x8000_001f, 0x8000_0026]);
const BLANK_WITHOUT_PMU = new Set([0xa, 0x23, 0x8000_001b, 0x8000_0022]);
const BLANK_WITHOUT_AMX = new Set([0x1d, 0x1e]);

const SIGNATURE_KVM = { ebx: 0x4b4d_564b, ecx: 0x564b_4d56, edx: 0x0000_004d } as const; // KVMKVMKVM
const VENDOR_INTEL_EBX = 0x756e_6547; // "Genu"
const VENDOR_AMD_EBX = 0x6874_7541; // "Auth"
const VENDOR_HYGON_EBX = 0x6f67_7948; // "Hygo"

/** KVM's local APIC counts nanoseconds, whatever the host's crystal is. */
const APIC_BUS_KHZ = 1_000_000;

/** The entries of a kvm_cpuid2. */
export function parseCpuid(bytes: Uint8Array): CpuidEntry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const word = (at: number, field: keyof typeof KVM_CPUID_ENTRY2): number => view.getUint32(at + KVM_CPUID_ENTRY2[field], true);
  const room = Math.floor((bytes.length - KVM_CPUID2.size) / KVM_CPUID_ENTRY2.size);
  return Array.from({ length: Math.min(room, view.getUint32(KVM_CPUID2.nent, true)) }, (_, i) => {
    const at = KVM_CPUID2.entries + i * KVM_CPUID_ENTRY2.size;
    return {
      function: word(at, 'function'), index: word(at, 'index'), flags: word(at, 'flags'),
      eax: word(at, 'eax'), ebx: word(at, 'ebx'), ecx: word(at, 'ecx'), edx: word(at, 'edx'),
    };
  });
}

/** The entries as a kvm_cpuid2. */
export function encodeCpuid(entries: readonly CpuidEntry[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(KVM_CPUID2.size + entries.length * KVM_CPUID_ENTRY2.size));
  view.setUint32(KVM_CPUID2.nent, entries.length, true);
  for (const [i, entry] of entries.entries()) {
    const at = KVM_CPUID2.entries + i * KVM_CPUID_ENTRY2.size;
    for (const field of ['function', 'index', 'flags', 'eax', 'ebx', 'ecx', 'edx'] as const) view.setUint32(at + KVM_CPUID_ENTRY2[field], entry[field], true);
  }
  return new Uint8Array(view.buffer);
}

function find(entries: readonly CpuidEntry[], leaf: number, index = 0): CpuidEntry | undefined {
  return entries.find((entry) => entry.function === leaf && ((entry.flags & FLAG_SIGNIFICANT_INDEX) === 0 || entry.index === index));
}

/** Physical address bits that KVM supports (leaf 0x80000008; 36 where there is none). */
export function supportedPhysBits(supported: readonly CpuidEntry[]): number {
  return (find(supported, 0x8000_0008)?.eax ?? 36) & 0xff;
}

/** EAX of leaf 1, which a reset leaves in EDX. */
export function signature(entries: readonly CpuidEntry[]): number {
  return find(entries, 1)?.eax ?? 0;
}

/** Whether a guest with these entries sees VMX. */
export function hasVmx(entries: readonly CpuidEntry[]): boolean {
  return ((find(entries, 1)?.ecx ?? 0) & ECX1_VMX) !== 0;
}

/** Whether a guest with these entries sees XSAVE, and so has XCR0. */
export function hasXsave(entries: readonly CpuidEntry[]): boolean {
  return ((find(entries, 1)?.ecx ?? 0) & ECX1_XSAVE) !== 0;
}

/** Bits that number `count` things. */
function bitsFor(count: number): number {
  return Math.ceil(Math.log2(count));
}

/**
 * Leaf 0x15 as crystal times fraction. The crystal also feeds the local APIC's timer, and guests multiply in 32 bits: so it must be
 * KVM's 1 GHz, and the fraction exact and small; null when there is none.
 */
function tscFraction(tscKhz: number): { denominator: number; numerator: number } | null {
  if (tscKhz <= 0) return null;
  let [a, b] = [tscKhz, APIC_BUS_KHZ];
  while (b !== 0) [a, b] = [b, a % b];
  const numerator = tscKhz / a;
  return numerator * APIC_BUS_KHZ < 2 ** 32 ? { denominator: APIC_BUS_KHZ / a, numerator } : null;
}

/** The CPUID of one vCPU, sorted by leaf and subleaf. */
export function guestCpuid(supported: readonly CpuidEntry[], options: CpuidOptions): CpuidEntry[] {
  const { cpus, apicId } = options;
  const vendor = find(supported, 0)?.ebx ?? 0;
  const amd = vendor === VENDOR_AMD_EBX || vendor === VENDOR_HYGON_EBX;
  const coreBits = bitsFor(cpus);
  const amx = ((find(supported, 0xd)?.eax ?? 0) & XCR0_TILE_DATA) !== 0;
  const extendedTopology = ((find(supported, 0x8000_0001)?.ecx ?? 0) & ECX_EXT_TOPOLOGY) !== 0;
  const fraction = vendor === VENDOR_INTEL_EBX ? tscFraction(options.tscKhz) : null;
  const topologyV2 = (find(supported, 0)?.eax ?? 0) >= LEAF_TOPOLOGY_V2 && !amd;

  const result: CpuidEntry[] = [];
  const add = (leaf: number, index: number | null, values: Partial<Omit<CpuidEntry, 'function' | 'index' | 'flags'>>): void => {
    result.push({ function: leaf, index: index ?? 0, flags: index === null ? 0 : FLAG_SIGNIFICANT_INDEX, eax: 0, ebx: 0, ecx: 0, edx: 0, ...values });
  };

  for (const entry of supported) {
    const leaf = entry.function;
    if (leaf === LEAF_TOPOLOGY || leaf === LEAF_TOPOLOGY_V2 || leaf === LEAF_TSC || leaf === LEAF_FREQUENCY || leaf === LEAF_HYPERVISOR_TIMING) continue;
    if (BLANK.has(leaf) || (BLANK_WITHOUT_PMU.has(leaf) && options.pmu !== true) || (BLANK_WITHOUT_AMX.has(leaf) && !amx)) {
      result.push({ ...entry, eax: 0, ebx: 0, ecx: 0, edx: 0 });
      continue;
    }
    let { eax, ebx, ecx, edx } = entry;
    switch (leaf) {
      case 0:
        eax = Math.max(eax, LEAF_TOPOLOGY);
        break;
      case 1: {
        const line = (ebx & CLFLUSH_MASK) !== 0 ? ebx & CLFLUSH_MASK : CLFLUSH_64;
        const logical = Math.min(amd ? cpus : 1 << coreBits, 255);
        ebx = (ebx & 0xff) | line | (logical << 16) | ((apicId & 0xff) << 24);
        ecx = (ecx & ~(ECX1_MONITOR | ECX1_OSXSAVE | ECX1_TSC_DEADLINE)) | ECX1_HYPERVISOR | ECX1_X2APIC;
        if (options.tscDeadline) ecx |= ECX1_TSC_DEADLINE;
        if (options.pmu !== true) ecx &= ~ECX1_PDCM;
        edx = cpus > 1 ? edx | EDX1_HTT : edx & ~EDX1_HTT;
        break;
      }
      case 4:
        // Each core has its own caches of levels 1 and 2, all share the third.
        if ((eax & 0x1f) !== 0) {
          const ids = 1 << coreBits;
          const sharing = ((eax >> 5) & 7) >= 3 ? ids : 1;
          eax = (eax & 0x3fff) | (Math.min(sharing - 1, 0xfff) << 14) | (Math.min(ids - 1, 0x3f) << 26);
        }
        break;
      case 7:
        if (entry.index === 0) {
          ebx &= ~EBX7_SGX;
          ecx &= ~ECX7_SGX_LC;
          edx &= ~EDX7_HYBRID;
          if (!amx) edx &= ~EDX7_AMX;
        } else if (entry.index === 1 && !amx) {
          eax &= ~EAX7_1_AMX_FP16;
        }
        break;
      case LEAF_KVM:
        eax = options.tscKhz > 0 ? LEAF_HYPERVISOR_TIMING : LEAF_KVM_FEATURES;
        ({ ebx, ecx, edx } = SIGNATURE_KVM);
        break;
      case 0x8000_0001:
        if (amd) ecx = cpus > 1 ? ecx | ECX_EXT_CMP_LEGACY : ecx & ~ECX_EXT_CMP_LEGACY;
        if (amd && options.pmu !== true) ecx &= ~ECX_EXT_PERF;
        if (amd) ecx &= ~ECX_EXT_MONITORX;
        break;
      case 0x8000_0008:
        eax = (eax & ~0xff) | Math.min(eax & 0xff, options.physBits);
        if (amd) ecx = (ecx & ~0xf0ff) | ((cpus - 1) & 0xff) | (coreBits << 12);
        break;
      case 0x8000_001d:
        if ((eax & 0x1f) !== 0) {
          const sharing = ((eax >> 5) & 7) >= 3 ? cpus : 1;
          eax = (eax & 0x3fff) | (Math.min(sharing - 1, 0xfff) << 14);
        }
        break;
      case 0x8000_001e:
        // Core id in EBX with one thread a core; one node.
        [eax, ebx, ecx, edx] = amd && extendedTopology ? [apicId, apicId & 0xff, 0, 0] : [0, 0, 0, 0];
        break;
      default:
    }
    result.push({ ...entry, eax: eax >>> 0, ebx: ebx >>> 0, ecx: ecx >>> 0, edx: edx >>> 0 });
  }

  for (const leaf of topologyV2 ? [LEAF_TOPOLOGY, LEAF_TOPOLOGY_V2] : [LEAF_TOPOLOGY]) {
    add(leaf, 0, { eax: 0, ebx: 1, ecx: LEVEL_THREAD, edx: apicId });
    add(leaf, 1, { eax: coreBits, ebx: cpus, ecx: LEVEL_CORE | 1, edx: apicId });
    add(leaf, 2, { ecx: 2, edx: apicId });
  }
  if ((find(supported, 0)?.eax ?? 0) >= LEAF_TSC) add(LEAF_TSC, null, fraction === null ? {} : { eax: fraction.denominator, ebx: fraction.numerator, ecx: APIC_BUS_KHZ * 1000 });
  if ((find(supported, 0)?.eax ?? 0) >= LEAF_FREQUENCY) {
    const mhz = fraction === null ? 0 : Math.round(options.tscKhz / 1000);
    add(LEAF_FREQUENCY, null, { eax: mhz, ebx: mhz, ecx: mhz === 0 ? 0 : APIC_BUS_KHZ / 1000 });
  }
  if (options.tscKhz > 0 && find(supported, LEAF_KVM) !== undefined) add(LEAF_HYPERVISOR_TIMING, null, { eax: options.tscKhz, ebx: APIC_BUS_KHZ });
  return result.toSorted((a, b) => a.function - b.function || a.index - b.index);
}
