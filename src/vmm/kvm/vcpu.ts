// A vCPU's file descriptor and its state as KVM's structures. Whoever calls makes sure that the vCPU is not in KVM_RUN.
import * as k from './ioctls.ts';
import { must } from './kvm.ts';
import { errno, ioctlStruct, ioctlValue, mapFixed, SystemError } from './libc.ts';
import { allocateWindow, type Window } from '../memory/window.ts';

export const MSR_IA32_TSC = 0x10;
export const MSR_IA32_TSC_DEADLINE = 0x6e0;
const REGS = 144;
const SREGS = 312;
const FPU = 416;
const LAPIC = 1024;

/** One page for attributes that KVM takes by address. */
let attributePage: Window | undefined;

export class Vcpu {
  readonly fd: number;
  readonly id: number;

  constructor(fd: number, id: number) {
    this.fd = fd;
    this.id = id;
  }

  /** Maps kvm_run over a window; `bytes` is KVM_GET_VCPU_MMAP_SIZE. */
  mapRun(bytes: number): Window {
    const window = allocateWindow(bytes);
    mapFixed(window.address, bytes, this.fd);
    return window;
  }

  #get(request: number, bytes: number, what: string): Uint8Array {
    const state = new Uint8Array(bytes);
    must(ioctlStruct(this.fd, request, state), `${what} of CPU ${this.id}`);
    return state;
  }
  #set(request: number, state: Uint8Array, what: string): void {
    must(ioctlStruct(this.fd, request, state), `${what} of CPU ${this.id}`);
  }

  getRegs = (): Uint8Array => this.#get(k.KVM_GET_REGS, REGS, 'KVM_GET_REGS');
  setRegs = (state: Uint8Array): void => this.#set(k.KVM_SET_REGS, state, 'KVM_SET_REGS');
  getSregs = (): Uint8Array => this.#get(k.KVM_GET_SREGS, SREGS, 'KVM_GET_SREGS');
  setSregs = (state: Uint8Array): void => this.#set(k.KVM_SET_SREGS, state, 'KVM_SET_SREGS');
  getFpu = (): Uint8Array => this.#get(k.KVM_GET_FPU, FPU, 'KVM_GET_FPU');
  setFpu = (state: Uint8Array): void => this.#set(k.KVM_SET_FPU, state, 'KVM_SET_FPU');
  getLapic = (): Uint8Array => this.#get(k.KVM_GET_LAPIC, LAPIC, 'KVM_GET_LAPIC');
  setLapic = (state: Uint8Array): void => this.#set(k.KVM_SET_LAPIC, state, 'KVM_SET_LAPIC');
  setCpuid = (cpuid2: Uint8Array): void => this.#set(k.KVM_SET_CPUID2, cpuid2, 'KVM_SET_CPUID2');
  getEvents = (): Uint8Array => this.#get(k.KVM_GET_VCPU_EVENTS, 64, 'KVM_GET_VCPU_EVENTS');
  setEvents = (state: Uint8Array): void => this.#set(k.KVM_SET_VCPU_EVENTS, state, 'KVM_SET_VCPU_EVENTS');

  setXcrs = (state: Uint8Array): void => this.#set(k.KVM_SET_XCRS, state, 'KVM_SET_XCRS');

  getMpState(): number {
    return new DataView(this.#get(k.KVM_GET_MP_STATE, 4, 'KVM_GET_MP_STATE').buffer).getUint32(0, true);
  }
  setMpState(state: number): void {
    const bytes = new Uint8Array(4);
    bytes[0] = state;
    this.#set(k.KVM_SET_MP_STATE, bytes, 'KVM_SET_MP_STATE');
  }

  /** Reads MSRs; one that KVM does not know is left out. */
  getMsrs(indexes: readonly number[]): Map<number, bigint> {
    const found = new Map<number, bigint>();
    for (const index of indexes) {
      const bytes = new Uint8Array(8 + 16);
      const view = new DataView(bytes.buffer);
      view.setUint32(0, 1, true);
      view.setUint32(8, index, true);
      if (ioctlStruct(this.fd, k.KVM_GET_MSRS, bytes) === 1) found.set(index, view.getBigUint64(16, true));
    }
    return found;
  }

  /** Writes MSRs one by one. @returns the indexes that KVM refused. */
  setMsrs(msrs: Iterable<readonly [index: number, value: bigint]>): number[] {
    const refused: number[] = [];
    for (const [index, value] of msrs) {
      const bytes = new Uint8Array(8 + 16);
      const view = new DataView(bytes.buffer);
      view.setUint32(0, 1, true);
      view.setUint32(8, index, true);
      view.setBigUint64(16, value, true);
      if (ioctlStruct(this.fd, k.KVM_SET_MSRS, bytes) !== 1) refused.push(index);
    }
    return refused;
  }

  /** The guest's TSC frequency in kHz, 0 when KVM does not say. */
  tscKhz(): number {
    return Math.max(0, ioctlValue(this.fd, k.KVM_GET_TSC_KHZ, 0));
  }

  /** The offset between host and guest TSC (Linux 5.16 or newer), else null. */
  getTscOffset(): bigint | null {
    const value = (attributePage ??= allocateWindow(4096));
    const attribute = this.#tscAttribute(value.address);
    if (ioctlStruct(this.fd, k.KVM_GET_DEVICE_ATTR, attribute) < 0) return null;
    return new DataView(value.buffer, 0, 8).getBigUint64(0, true);
  }

  setTscOffset(offset: bigint): void {
    const value = (attributePage ??= allocateWindow(4096));
    new DataView(value.buffer, 0, 8).setBigUint64(0, BigInt.asUintN(64, offset), true);
    must(ioctlStruct(this.fd, k.KVM_SET_DEVICE_ATTR, this.#tscAttribute(value.address)), 'KVM_VCPU_TSC_OFFSET');
  }

  #tscAttribute(address: number): Uint8Array {
    const view = new DataView(new ArrayBuffer(24));
    view.setUint32(4, k.KVM_VCPU_TSC_CTRL, true);
    view.setBigUint64(8, BigInt(k.KVM_VCPU_TSC_OFFSET), true);
    view.setBigUint64(16, BigInt(address), true);
    return new Uint8Array(view.buffer);
  }

  /** Tells the guest that it was stopped, so that its watchdogs do not complain. A guest without kvmclock refuses; that is fine. */
  markStopped(): void {
    if (ioctlValue(this.fd, k.KVM_KVMCLOCK_CTRL, 0) < 0 && errno() !== 22) throw new SystemError('KVM_KVMCLOCK_CTRL', errno());
  }
}
