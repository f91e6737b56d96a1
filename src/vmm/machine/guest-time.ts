// Stopping the guest's time: kvmclock, the TSCs, the LAPIC timers and the PIT stand still while a machine is paused, so that the guest
// finds nothing missing. (Documentation/virt/kvm/api.rst 4.29 KVM_GET_CLOCK; devices/vcpu.rst, KVM_VCPU_TSC_OFFSET.) The RTC follows the host.
import type { Vm } from '../kvm/vm.ts';
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
    vcpu.setLapic(then.lapic);
    if (then.deadline !== undefined && then.deadline !== 0n) vcpu.setMsrs([[MSR_IA32_TSC_DEADLINE, then.deadline]]);
    vcpu.markStopped();
  });
  vm.setPit(stopped.pit);
}
