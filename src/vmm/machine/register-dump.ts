// The registers of a vCPU as text, for the log when a guest crashed.
import type { Vcpu } from '../kvm/vcpu.ts';

const GENERAL = ['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rsp', 'rbp', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'rip', 'rflags'];
const SEGMENTS = ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt'];
const SEGMENT_BYTES = 24;
const CONTROLS = ['cr0', 'cr2', 'cr3', 'cr4', 'cr8', 'efer'];
const CONTROLS_AT = 8 * SEGMENT_BYTES + 2 * 16;

const hex = (value: bigint, digits = 16): string => value.toString(16).padStart(digits, '0');

/** The last 16 bytes below 4 GiB: where a processor begins (SDM vol. 3A, 10.1.4). */
const RESET_RIP = 0xfff0n;
const RESET_CS_BASE = 0xffff_0000n;
/**
 * AMD's SVM leaves the registers undefined at a triple fault, and KVM then gives the CPU those of a reset (arch/x86/kvm/svm, SHUTDOWN
 * intercept).
 */
export const LOST = 'This processor does not keep the registers at a triple fault: these are those after its reset.';

/** Four registers a line, and words before them where they say nothing. The vCPU must not be running. */
export function dumpRegisters(vcpu: Vcpu): string[] {
  const regs = new DataView(vcpu.getRegs().buffer);
  const sregs = new DataView(vcpu.getSregs().buffer);
  const words = [
    ...GENERAL.map((name, i) => `${name} ${hex(regs.getBigUint64(i * 8, true))}`),
    ...CONTROLS.map((name, i) => `${name} ${hex(sregs.getBigUint64(CONTROLS_AT + i * 8, true))}`),
    ...SEGMENTS.map((name, i) => `${name} ${hex(BigInt(sregs.getUint16(i * SEGMENT_BYTES + 12, true)), 4)} base ${hex(sregs.getBigUint64(i * SEGMENT_BYTES, true))}`),
  ];
  const atReset = regs.getBigUint64(GENERAL.indexOf('rip') * 8, true) === RESET_RIP && sregs.getBigUint64(0, true) === RESET_CS_BASE;
  const lines: string[] = atReset ? [LOST] : [];
  for (let i = 0; i < words.length; i += 4) lines.push(words.slice(i, i + 4).join('  '));
  return lines;
}
