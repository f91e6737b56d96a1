// Stopping the guest's time: kvmclock, the TSCs, the LAPIC timers and the PIT stand still while a machine is paused, so that the guest
// finds nothing missing. (Documentation/virt/kvm/api.rst 4.29 KVM_GET_CLOCK; devices/vcpu.rst, KVM_VCPU_TSC_OFFSET.) The RTC follows the host.
// What devices raise meanwhile (a key, a byte at the serial port) stays: an edge that were taken back would never come again.
import type { Vm } from '../kvm/vm.ts';
import { LAPIC_LVT_TIMER } from '../arch/x86/cpu/lapic.ts';
import { MSR_IA32_TSC, MSR_IA32_TSC_DEADLINE, type Vcpu } from '../kvm/vcpu.ts';

interface VcpuTime {
  tsc: bigint;
  offset: bigint | null;
  lapic: Uint8Array;
  deadline: bigint | undefined;
}

/** Time as it stood when the last vCPU was parked. */
export interface StoppedTime {
  clock: bigint;
  pit: Uint8Array;
  vcpus: VcpuTime[];
}

// Intel SDM volume 3, §11.5.4: the timer's mode and vector in its entry of the local vector table, its counts; §11.8.4: requested interrupts.
const LAPIC_IRR = 0x200;
const IRR_STEP = 16;
const TIMER_INITIAL = 0x380;
const TIMER_CURRENT = 0x390;
const TIMER_MODE = 0x6_0000;
const MODE_DEADLINE = 0x4_0000;
const VECTOR = 0xff;

/**
 * The local APIC to go on with: as it is `now`, but its timer where it stood `then`, and not fired since. Null when there is nothing to put back:
 * the timer does not count, or goes by the TSC.
 */
export function resumedLapic(then: Uint8Array, now: Uint8Array): Uint8Array | null {
  const before = new DataView(then.buffer, then.byteOffset, then.byteLength);
  const entry = before.getUint32(LAPIC_LVT_TIMER, true);
  if ((entry & TIMER_MODE) === MODE_DEADLINE || before.getUint32(TIMER_INITIAL, true) === 0) return null;
  const page = now.slice();
  const view = new DataView(page.buffer);
  view.setUint32(TIMER_CURRENT, before.getUint32(TIMER_CURRENT, true), true);
  const vector = entry & VECTOR;
  const at = LAPIC_IRR + (vector >> 5) * IRR_STEP;
  const fired = 1 << (vector & 31);
  if ((before.getUint32(at, true) & fired) === 0) view.setUint32(at, view.getUint32(at, true) & ~fired, true);
  return page;
}

/** Every vCPU must be parked. */
export function stopTime(vm: Vm, vcpus: readonly Vcpu[]): StoppedTime {
  return {
    clock: vm.getClock(),
    pit: vm.getPit(),
    vcpus: vcpus.map((vcpu) => {
      const msrs = vcpu.getMsrs([MSR_IA32_TSC, MSR_IA32_TSC_DEADLINE]);
      return { tsc: msrs.get(MSR_IA32_TSC) ?? 0n, offset: vcpu.getTscOffset(), lapic: vcpu.getLapic(), deadline: msrs.get(MSR_IA32_TSC_DEADLINE) };
    }),
  };
}

/** Puts time back to where it stood; the vCPUs may run right after it. */
export function startTime(vm: Vm, vcpus: readonly Vcpu[], stopped: StoppedTime): void {
  vm.setClock(stopped.clock);
  const elapsed = vcpus.length > 0 ? (vcpus[0]!.getMsrs([MSR_IA32_TSC]).get(MSR_IA32_TSC) ?? 0n) - stopped.vcpus[0]!.tsc : 0n;
  vcpus.forEach((vcpu, i) => {
    const then = stopped.vcpus[i]!;
    // The offset moves all TSCs by exactly the same amount; writing the counter would let KVM guess that it is being synchronised.
    if (then.offset !== null) vcpu.setTscOffset(then.offset - elapsed);
    else vcpu.setMsrs([[MSR_IA32_TSC, then.tsc]]);
    const lapic = resumedLapic(then.lapic, vcpu.getLapic());
    if (lapic !== null) vcpu.setLapic(lapic);
    if (then.deadline !== undefined && then.deadline !== 0n) vcpu.setMsrs([[MSR_IA32_TSC_DEADLINE, then.deadline]]);
    vcpu.markStopped();
  });
  vm.setPit(stopped.pit);
}
