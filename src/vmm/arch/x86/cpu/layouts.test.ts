import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { cValues } from '../../../testing/c-values.ts';
import * as layouts from './layouts.ts';

/** Offsets of the first member where ours names an inner structure or a flexible array. */
const structures: Record<string, [struct: string, layout: Readonly<Record<string, number>>]> = {
  regs: ['kvm_regs', layouts.KVM_REGS],
  segment: ['kvm_segment', layouts.KVM_SEGMENT],
  dtable: ['kvm_dtable', layouts.KVM_DTABLE],
  sregs: ['kvm_sregs', layouts.KVM_SREGS],
  fpu: ['kvm_fpu', layouts.KVM_FPU],
  lapic: ['kvm_lapic_state', layouts.KVM_LAPIC_STATE],
  cpuid2: ['kvm_cpuid2', layouts.KVM_CPUID2],
  cpuid_entry2: ['kvm_cpuid_entry2', layouts.KVM_CPUID_ENTRY2],
  msrs: ['kvm_msrs', layouts.KVM_MSRS],
  msr_entry: ['kvm_msr_entry', layouts.KVM_MSR_ENTRY],
  mp_state: ['kvm_mp_state', layouts.KVM_MP_STATE],
  vcpu_events: ['kvm_vcpu_events', layouts.KVM_VCPU_EVENTS],
  xcrs: ['kvm_xcrs', layouts.KVM_XCRS],
  xcr: ['kvm_xcr', layouts.KVM_XCR],
  debugregs: ['kvm_debugregs', layouts.KVM_DEBUGREGS],
};

describe('layouts of KVM structures', () => {
  it('are those of the headers', () => {
    const expressions: Record<string, string> = {};
    const ours: Record<string, number> = {};
    for (const [name, [struct, layout]] of Object.entries(structures)) {
      for (const [field, value] of Object.entries(layout)) {
        ours[`${name}.${field}`] = value;
        expressions[`${name}.${field}`] = field === 'size' ? `sizeof(struct ${struct})` : `offsetof(struct ${struct}, ${field})`;
      }
    }
    assert.deepEqual(ours, cValues(['stddef.h', 'linux/kvm.h'], expressions));
    assert.equal(Object.keys(structures).length, Object.keys(layouts).length);
  });
});
