// The state of KVM's interrupt chips and timer right after they were made: what a guest's reset brings back. Reading it once is simpler and
// truer than writing down what each of them resets to. The vCPUs' is worked out by arch/x86/cpu.
import { KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE } from '../kvm/ioctls.ts';
import type { Vm } from '../kvm/vm.ts';

const CHIPS = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];

export interface ChipState {
  chips: Uint8Array[];
  pit: Uint8Array;
}

export function readChips(vm: Vm): ChipState {
  return { chips: CHIPS.map((chip) => vm.getIrqchip(chip)), pit: vm.getPit() };
}

/** Every vCPU must be parked. */
export function writeChips(vm: Vm, { chips, pit }: ChipState): void {
  for (const chip of chips) vm.setIrqchip(chip);
  vm.setPit(pit);
}
