// Whether this computer's KVM runs guests, and whether it runs Linux: told by running it, never by cpuinfo. A few instructions that every
// Linux kernel uses at ring 0 are run in 64-bit mode; there are KVMs that interpret ring 0 and refuse some of them.
import { toProblem, type Problem } from '../../shared/errors.ts';
import { allocateWindow } from '../memory/window.ts';
import * as k from './ioctls.ts';
import { Kvm } from './kvm.ts';
import { close, EINTR, errno, errnoName, ioctlValue } from './libc.ts';
import { Vcpu } from './vcpu.ts';
import { Vm } from './vm.ts';

export interface KvmProbe {
  /** Guests of ours run: /dev/kvm opens, has what is needed, and ran a few instructions. */
  usable: boolean;
  /** A distribution's kernel can run. */
  canBootLinux: boolean;
  /** Why not, in words; null when both are true. */
  problem: Problem | null;
}

const PORT = 0x80;
const BASIC = [0xb0, 0x2a, 0xe6, PORT]; // mov al, 42; out 0x80, al
// What Linux needs besides, each followed by the same OUT.
const LINUX: readonly [name: string, code: readonly number[]][] = [
  ['popcnt', [0xf3, 0x48, 0x0f, 0xb8, 0xc0]],
  ['fwait', [0x9b]],
  ['SSE2', [0x66, 0x0f, 0x6e, 0xc0, 0x66, 0x0f, 0xfe, 0xc0]], // movd xmm0, eax; paddd xmm0, xmm0
  ['cmpxchg16b', [0x48, 0x8d, 0x3d, 0x00, 0x00, 0x00, 0x00, 0x48, 0x81, 0xe7, 0x00, 0xf0, 0xff, 0xff, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, 0xf0, 0x48, 0x0f, 0xc7, 0x0f]], // on the page after the code
  ['fxsave', [0x48, 0x8d, 0x3d, 0x00, 0x00, 0x00, 0x00, 0x48, 0x81, 0xe7, 0x00, 0xf0, 0xff, 0xff, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, 0x0f, 0xae, 0x07]],
];

const PAGE_TABLES = 0x1000; // PML4, PDPT with one 1 GiB... as 2 MiB pages, PD
const CODE = 0x8000;

/** Runs `code` at ring 0 in 64-bit mode until its first OUT. @returns null when it came there, else what happened. */
function runCode(kvm: Kvm, code: readonly number[]): string | null {
  const vm = new Vm(kvm.createVm());
  try {
    const ram = allocateWindow(0x20000);
    const bytes = new Uint8Array(ram.buffer, 0, 0x20000);
    bytes.fill(0);
    const view = new DataView(ram.buffer, 0, 0x20000);
    view.setBigUint64(PAGE_TABLES, BigInt(PAGE_TABLES + 0x1000) | 3n, true);
    view.setBigUint64(PAGE_TABLES + 0x1000, BigInt(PAGE_TABLES + 0x2000) | 3n, true);
    view.setBigUint64(PAGE_TABLES + 0x2000, 0x83n, true);
    bytes.set(code, CODE);
    vm.placeSystemPages(0xfffbd000, 0xfffbc000);
    vm.createInterruptControllers();
    vm.setMemoryRegion({ slot: 0, gpa: 0, size: 0x20000, hva: ram.address, dirtyLog: false, readonly: false });
    const vcpu = new Vcpu(vm.createVcpu(0), 0);
    try {
      vcpu.setCpuid(kvm.supportedCpuid());
      const run = vcpu.mapRun(kvm.limits.runBytes);
      setLongMode(vcpu);
      const words = new Uint32Array(run.buffer, 0, 64);
      for (;;) {
        if (ioctlValue(vcpu.fd, k.KVM_RUN, 0) < 0) {
          if (errno() === EINTR) continue;
          return `KVM_RUN failed (${errnoName(errno())})`;
        }
        const reason = words[k.RUN_EXIT_REASON / 4];
        return reason === k.KVM_EXIT_IO ? null : reason === k.KVM_EXIT_INTERNAL_ERROR ? 'KVM cannot emulate it' : `KVM left with reason ${reason}`;
      }
    } finally {
      close(vcpu.fd);
    }
  } finally {
    vm.close();
  }
}

function setLongMode(vcpu: Vcpu): void {
  const sregs = vcpu.getSregs();
  const view = new DataView(sregs.buffer);
  const segment = (at: number, selector: number, code: boolean): void => {
    view.setBigUint64(at, 0n, true);
    view.setUint32(at + 8, 0xffffffff, true);
    view.setUint16(at + 12, selector, true);
    // type, present, dpl, db, s, l, g
    sregs.set([code ? 11 : 3, 1, 0, code ? 0 : 1, 1, code ? 1 : 0, 1, 0], at + 14);
  };
  segment(0, 0x10, true);
  for (let i = 1; i < 6; i++) segment(i * 24, 0x18, false);
  const controls = 224; // cr0, cr2, cr3, cr4, cr8, efer
  view.setBigUint64(controls, 0x8000_0023n, true); // PG, NE, MP, PE
  view.setBigUint64(controls + 16, BigInt(PAGE_TABLES), true);
  view.setBigUint64(controls + 24, 0x620n, true); // PAE, OSFXSR, OSXMMEXCPT
  view.setBigUint64(controls + 40, 0x500n, true); // LME, LMA
  vcpu.setSregs(sregs);
  const regs = new Uint8Array(144);
  const r = new DataView(regs.buffer);
  r.setBigUint64(6 * 8, 0x7000n, true); // rsp
  r.setBigUint64(16 * 8, BigInt(CODE), true);
  r.setBigUint64(17 * 8, 2n, true);
  vcpu.setRegs(regs);
}

/** Asks KVM by running it; a few milliseconds. Never throws. Runs KVM in the calling process: fronts use `probe-main.ts` in a child. */
export function probeKvm(device = '/dev/kvm'): KvmProbe {
  const attempted = 'use the virtualisation of this computer';
  try {
    const kvm = Kvm.open(device);
    try {
      const basic = runCode(kvm, BASIC);
      if (basic !== null) {
        return { usable: false, canBootLinux: false, problem: { attempted, on: device, why: `it does not run a guest: ${basic}.`, remedy: 'Update the kernel, or run in the lab: --lab.', code: 'kvm-broken' } };
      }
      for (const [name, code] of LINUX) {
        const failed = runCode(kvm, [...code, ...BASIC]);
        if (failed === null) continue;
        return {
          usable: true,
          canBootLinux: false,
          problem: { attempted: 'run Linux on the virtualisation of this computer', on: device, why: `it stops at an instruction that Linux needs (${name}: ${failed}).`, remedy: 'Linux machines run in the lab here, more slowly.', code: 'kvm-no-linux' },
        };
      }
      return { usable: true, canBootLinux: true, problem: null };
    } finally {
      kvm.close();
    }
  } catch (thrown) {
    return { usable: false, canBootLinux: false, problem: toProblem(thrown, attempted, device) };
  }
}
