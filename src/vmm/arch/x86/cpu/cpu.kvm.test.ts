// What is made here, given to KVM: it takes it, gives it back, and a guest that is entered sees it.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GuestMemory } from '../../../memory/guest-memory.ts';
import * as k from '../../../kvm/ioctls.ts';
import { Kvm } from '../../../kvm/kvm.ts';
import { close, errno, ioctlValue } from '../../../kvm/libc.ts';
import { Vcpu } from '../../../kvm/vcpu.ts';
import { Vm } from '../../../kvm/vm.ts';
import type { BootEntry } from '../boot/entry.ts';
import { BOOT_INFORMATION, BOOT_STACK_TOP } from '../boot/low-memory.ts';
import { writeGdt, writePageTables } from '../boot/long-mode.ts';
import { KVM_IDENTITY_MAP, KVM_TSS } from '../layout.ts';
import { CpuSetup } from './cpu-setup.ts';
import { LAPIC_ID, LAPIC_LVT_LINT0, LAPIC_LVT_LINT1 } from './lapic.ts';
import { KVM_REGS, KVM_SREGS } from './layouts.ts';
import { MTRR_DEF_TYPE } from './msrs.ts';
import { entryRegs, entrySregs, MP_STATE_RUNNABLE, MP_STATE_UNINITIALIZED } from './registers.ts';

const CODE = 0x10_0000;
const EINTR = 4;
const PAT = 0x277;
const X2APIC = 0x400;

/** A machine of two vCPUs, the second one waiting; `body` gets the first one and its kvm_run as words. */
function withMachine(body: (machine: { setup: CpuSetup; memory: GuestMemory; cpus: Vcpu[]; run: Uint32Array }) => void): void {
  const kvm = Kvm.open();
  const vm = new Vm(kvm.createVm());
  const cpus: Vcpu[] = [];
  try {
    const memory = GuestMemory.allocate(4 * 2 ** 20);
    vm.placeSystemPages(KVM_TSS, KVM_IDENTITY_MAP);
    vm.createInterruptControllers();
    vm.setMemoryRegion({ slot: 0, gpa: 0, size: memory.size, hva: memory.windowHva(0), dirtyLog: false, readonly: false });
    for (let id = 0; id < 2; id++) cpus.push(new Vcpu(vm.createVcpu(id), id));
    const setup = new CpuSetup(kvm, cpus);
    setup.setCpuids();
    const run = cpus[0].mapRun(kvm.limits.runBytes);
    body({ setup, memory, cpus, run: new Uint32Array(run.buffer, 0, 64) });
  } finally {
    for (const vcpu of cpus) close(vcpu.fd);
    vm.close();
    kvm.close();
  }
}

function runToExit(vcpu: Vcpu, run: Uint32Array): number {
  while (ioctlValue(vcpu.fd, k.KVM_RUN, 0) < 0) assert.equal(errno(), EINTR);
  return run[k.RUN_EXIT_REASON / 4];
}

describe('CPU set-up on KVM', () => {
  // mov dx, 0x80 with the operand size of both modes; out dx, al; jmp $
  const STOP = [0x66, 0xba, 0x80, 0x00, 0xee, 0xeb, 0xfe];
  const entries: ((memory: GuestMemory) => BootEntry)[] = [
    (memory) => ({ kind: 'linux64', rip: CODE, rsi: BOOT_INFORMATION, rsp: BOOT_STACK_TOP, pageTable: writePageTables(memory), gdt: writeGdt(memory, 64) }),
    (memory) => ({ kind: 'pvh', eip: CODE, ebx: BOOT_INFORMATION, esp: BOOT_STACK_TOP, gdt: writeGdt(memory, 32) }),
    (memory) => ({ kind: 'multiboot', eip: CODE, eax: 0x2bad_b002, ebx: BOOT_INFORMATION, esp: BOOT_STACK_TOP, gdt: writeGdt(memory, 32) }),
  ];

  it('is taken by KVM and given back, at power-on and at a reset from x2APIC mode', () => {
    withMachine(({ setup, memory, cpus }) => {
      for (let round = 0; round < 2; round++) {
        setup.reset(entries[0](memory));
        for (const [id, vcpu] of cpus.entries()) {
          const lapic = new DataView(vcpu.getLapic().buffer);
          assert.deepEqual([lapic.getUint32(LAPIC_LVT_LINT0, true) & 0x1_0700, lapic.getUint32(LAPIC_LVT_LINT1, true) & 0x1_0700], [0x700, 0x400]);
          assert.equal(lapic.getUint32(LAPIC_ID, true) >>> 24, id);
          assert.equal(vcpu.getMpState(), id === 0 ? MP_STATE_RUNNABLE : MP_STATE_UNINITIALIZED);
          const msrs = vcpu.getMsrs([MTRR_DEF_TYPE, PAT]);
          assert.deepEqual([msrs.get(MTRR_DEF_TYPE), msrs.get(PAT)], [0xc06n, 0x0007_0406_0007_0406n]);
          const sregs = vcpu.getSregs();
          const view = new DataView(sregs.buffer);
          assert.equal(view.getUint32(KVM_SREGS.apic_base, true), id === 0 ? 0xfee0_0900 : 0xfee0_0800);
          view.setUint32(KVM_SREGS.apic_base, view.getUint32(KVM_SREGS.apic_base, true) | X2APIC, true);
          vcpu.setSregs(sregs);
          vcpu.setMsrs([[PAT, 0x0606_0606_0606_0606n]]);
        }
      }
      setup.reset(null);
      const regs = new DataView(cpus[0].getRegs().buffer);
      assert.equal(regs.getUint32(KVM_REGS.rip, true), 0xfff0);
    });
  });

  for (const make of entries) {
    it(`enters as ${make(GuestMemory.allocate(2 ** 20)).kind}, with the stack and the segments usable`, () => {
      withMachine(({ setup, memory, cpus: [vcpu], run }) => {
        const entry = make(memory);
        // push rax; pop rax; mov ax, ds; mov es, ax; mov ax, ss; mov ss, ax
        memory.write(CODE, Uint8Array.of(0x50, 0x59, 0x8c, 0xda, 0x8e, 0xc2, 0x8c, 0xd2, 0x8e, 0xd2, ...STOP));
        setup.reset(entry);
        assert.equal(runToExit(vcpu, run), k.KVM_EXIT_IO);
        const regs = new DataView(vcpu.getRegs().buffer);
        const read = (field: number): number => Number(regs.getBigUint64(field, true));
        if (entry.kind === 'linux64') assert.equal(read(KVM_REGS.rsi), BOOT_INFORMATION);
        else assert.equal(read(KVM_REGS.rbx), BOOT_INFORMATION);
        if (entry.kind === 'multiboot') assert.equal(read(KVM_REGS.rcx), 0x2bad_b002);
      });
    });
  }

  it('shows the guest its hypervisor and its topology', () => {
    withMachine(({ memory, cpus: [vcpu], run }) => {
      const entry = entries[0](memory);
      // mov eax, LEAF; mov ecx, 1; cpuid; then out
      const ask = (fn: number): Uint8Array => {
        memory.write(CODE, Uint8Array.of(0xb8, fn & 0xff, (fn >>> 8) & 0xff, (fn >>> 16) & 0xff, fn >>> 24, 0xb9, 1, 0, 0, 0, 0x0f, 0xa2, 0xe6, 0x80, 0xeb, 0xfe));
        vcpu.setSregs(entrySregs(entry, vcpu.getSregs()));
        vcpu.setRegs(entryRegs(entry));
        assert.equal(runToExit(vcpu, run), k.KVM_EXIT_IO);
        return vcpu.getRegs();
      };
      const low = (regs: Uint8Array, field: number): number => new DataView(regs.buffer).getUint32(field, true);
      const hypervisor = ask(0x4000_0000);
      assert.deepEqual([low(hypervisor, KVM_REGS.rbx), low(hypervisor, KVM_REGS.rcx), low(hypervisor, KVM_REGS.rdx)], [0x4b4d_564b, 0x564b_4d56, 0x4d]);
      const topology = ask(0xb);
      assert.deepEqual([low(topology, KVM_REGS.rax) & 0x1f, low(topology, KVM_REGS.rbx) & 0xffff, (low(topology, KVM_REGS.rcx) >>> 8) & 0xff], [1, 2, 2]);
    });
  });
});
