// KVM_RUN as the vCPU's loop calls it (native/vcpu.c): one call without arguments, which also notes the vCPU's state and counts its exits.
import koffi from 'koffi';
import { nativeLibrary } from '../machine/entry.ts';

/** Says which vCPU the calling thread runs from now on: its descriptor, and the addresses of its kvm_run and of its words (vcpu-state.ts). */
export const bindVcpu = koffi.load(nativeLibrary()).func('void vitrine_vcpu_bind(int fd, uintptr_t run, uintptr_t words)') as (fd: number, run: number, words: number) => void;

/** What `runVcpu` returns has this bit for one byte written to a port: the port from bit 8 on, the byte below it. */
export const BYTE_OUT = 1 << 30;

// The library is a Node-API module too: the one call where that counts.
const native: { exports: { runVcpu?: () => number } } = { exports: {} };
process.dlopen(native, nativeLibrary());

/** Runs the calling thread's vCPU until it leaves the guest. @returns the exit reason, or a BYTE_OUT, or minus the error number */
export const runVcpu = native.exports.runVcpu!;
