// Whether a vCPU can never run again by itself: halted with interrupts off, or never started. An NMI aside, which nobody here sends.
import { KVM_MP_STATE_HALTED, KVM_MP_STATE_UNINITIALIZED } from '../kvm/ioctls.ts';
import type { Vcpu } from '../kvm/vcpu.ts';

const RFLAGS_LOW = 17 * 8;
const INTERRUPT_FLAG = 0x200;

/** The vCPU must be parked. */
export function guestHalted(vcpu: Vcpu): boolean {
  const state = vcpu.getMpState();
  if (state === KVM_MP_STATE_UNINITIALIZED) return true;
  return state === KVM_MP_STATE_HALTED && (new DataView(vcpu.getRegs().buffer).getUint32(RFLAGS_LOW, true) & INTERRUPT_FLAG) === 0;
}
