// Every number of ioctls.ts against the kernel's own headers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cValues } from '../testing/c-values.ts';
import * as ioctls from './ioctls.ts';

// offsets in kvm_run, which are no macros
const OFFSETS: Record<string, string> = {
  RUN_IMMEDIATE_EXIT: 'offsetof(struct kvm_run, immediate_exit)',
  RUN_EXIT_REASON: 'offsetof(struct kvm_run, exit_reason)',
  RUN_UNION: 'offsetof(struct kvm_run, io)',
};

test('ioctl numbers, capabilities, exit reasons and flags are those of linux/kvm.h', () => {
  const names = Object.keys(ioctls);
  const expressions = Object.fromEntries(names.map((name) => [name, OFFSETS[name] ?? name]));
  const values = cValues(['linux/kvm.h', 'stddef.h'], expressions);
  for (const name of names) assert.equal((ioctls as Record<string, number>)[name], values[name], name);
});

test('the fields that the vCPU loop reads lie where kvm_run has them', () => {
  const values = cValues(['linux/kvm.h', 'stddef.h'], {
    direction: 'offsetof(struct kvm_run, io.direction)', size: 'offsetof(struct kvm_run, io.size)', port: 'offsetof(struct kvm_run, io.port)',
    count: 'offsetof(struct kvm_run, io.count)', offset: 'offsetof(struct kvm_run, io.data_offset)',
    address: 'offsetof(struct kvm_run, mmio.phys_addr)', data: 'offsetof(struct kvm_run, mmio.data)', length: 'offsetof(struct kvm_run, mmio.len)', write: 'offsetof(struct kvm_run, mmio.is_write)',
    suberror: 'offsetof(struct kvm_run, internal.suberror)', ndata: 'offsetof(struct kvm_run, internal.ndata)', idata: 'offsetof(struct kvm_run, internal.data)', event: 'offsetof(struct kvm_run, system_event.type)',
  });
  assert.deepEqual(values, { direction: 32, size: 33, port: 34, count: 36, offset: 40, address: 32, data: 40, length: 48, write: 52, suberror: 32, ndata: 36, idata: 40, event: 32 });
});

test('structures have the sizes that their ioctls carry', () => {
  const sizes = cValues(['linux/kvm.h'], Object.fromEntries(
    ['kvm_userspace_memory_region', 'kvm_dirty_log', 'kvm_irq_level', 'kvm_irqchip', 'kvm_irqfd', 'kvm_pit_config', 'kvm_ioeventfd', 'kvm_clock_data', 'kvm_pit_state2', 'kvm_msi', 'kvm_device_attr', 'kvm_regs', 'kvm_sregs', 'kvm_fpu', 'kvm_lapic_state', 'kvm_mp_state', 'kvm_vcpu_events', 'kvm_debugregs', 'kvm_xcrs', 'kvm_irq_routing_entry', 'kvm_cpuid_entry2'].map((s) => [s, `sizeof(struct ${s})`]),
  ));
  assert.deepEqual(sizes, {
    kvm_userspace_memory_region: 32, kvm_dirty_log: 16, kvm_irq_level: 8, kvm_irqchip: 520, kvm_irqfd: 32, kvm_pit_config: 64, kvm_ioeventfd: 64, kvm_clock_data: 48, kvm_pit_state2: 112, kvm_msi: 32, kvm_device_attr: 24,
    kvm_regs: 144, kvm_sregs: 312, kvm_fpu: 416, kvm_lapic_state: 1024, kvm_mp_state: 4, kvm_vcpu_events: 64, kvm_debugregs: 128, kvm_xcrs: 392, kvm_irq_routing_entry: 48, kvm_cpuid_entry2: 40,
  });
});
