// The state of KVM's chips and vCPUs right after they were made: what a guest's reset brings back. Reading it once is simpler and truer than
// writing down what each of them resets to.
import { KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE } from '../kvm/ioctls.ts';
import type { Vcpu } from '../kvm/vcpu.ts';
import type { Vm } from '../kvm/vm.ts';

const CHIPS = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];

interface VcpuState {
  regs: Uint8Array;
  sregs: Uint8Array;
  fpu: Uint8Array;
  lapic: Uint8Array;
  events: Uint8Array;
  mpState: number;
}

export interface InitialState {
  chips: Uint8Array[];
  pit: Uint8Array;
  vcpus: VcpuState[];
}

export function readInitialState(vm: Vm, vcpus: readonly Vcpu[]): InitialState {
  return {
    chips: CHIPS.map((chip) => vm.getIrqchip(chip)),
    pit: vm.getPit(),
    vcpus: vcpus.map((vcpu) => ({
      regs: vcpu.getRegs(), sregs: vcpu.getSregs(), fpu: vcpu.getFpu(), lapic: vcpu.getLapic(), events: vcpu.getEvents(), mpState: vcpu.getMpState(),
    })),
  };
}

/** Every vCPU must be parked. Registers of their first instruction come after this. */
export function writeInitialState(vm: Vm, vcpus: readonly Vcpu[], initial: InitialState): void {
  for (const chip of initial.chips) vm.setIrqchip(chip);
  vm.setPit(initial.pit);
  vcpus.forEach((vcpu, i) => {
    const state = initial.vcpus[i]!;
    vcpu.setMpState(state.mpState);
    vcpu.setSregs(state.sregs);
    vcpu.setRegs(state.regs);
    vcpu.setFpu(state.fpu);
    vcpu.setLapic(state.lapic);
    vcpu.setEvents(state.events);
  });
}
