// KVM_RUN as the vCPU's loop calls it (native/vcpu.c): one call without arguments, which also notes the vCPU's state and counts its exits.
import koffi from 'koffi';
import { nativeLibrary } from '../machine/entry.ts';

const native = koffi.load(nativeLibrary());

/** Says which vCPU the calling thread runs from now on: its descriptor, and the addresses of its kvm_run and of its words (vcpu-state.ts). */
export const bindVcpu = native.func('void vitrine_vcpu_bind(int fd, uintptr_t run, uintptr_t words)') as (fd: number, run: number, words: number) => void;

/** What `runVcpu` returns has this bit for one byte written to a port: the port from bit 8 on, the byte below it. */
export const BYTE_OUT = 1 << 30;

/** Runs the calling thread's vCPU until it leaves the guest. @returns the exit reason, or a BYTE_OUT, or minus the error number */
export const runVcpu = native.func('int vitrine_vcpu_run(void)') as () => number;
