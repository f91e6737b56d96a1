import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { BootEntry } from '../boot/entry.ts';
import { LAPIC_ID, LAPIC_LVT_LINT0, LAPIC_LVT_LINT1, LAPIC_VERSION, legacyPins, resetLapic } from './lapic.ts';
import { KVM_FPU, KVM_LAPIC_STATE, KVM_REGS, KVM_SEGMENT, KVM_SREGS } from './layouts.ts';
import { initialMsrs, MTRR_DEF_TYPE } from './msrs.ts';
import { entryRegs, entrySregs, initialDebugRegs, initialFpu, initialXcrs, noEvents, resetRegs, resetSregs } from './registers.ts';

const gdt = { base: 0x5000, limit: 31 };
const LINUX: BootEntry = { kind: 'linux64', rip: 0x1_0000_0200, rsi: 0x6000, rsp: 0x8000, pageTable: 0x9000, gdt };
const PVH: BootEntry = { kind: 'pvh', eip: 0x100_0000, ebx: 0x6000, esp: 0x8000, gdt };
const MULTIBOOT: BootEntry = { kind: 'multiboot', eip: 0x40_0000, eax: 0x2bad_b002, ebx: 0x6000, esp: 0x8000, gdt };

const u64 = (bytes: Uint8Array, offset: number): number => Number(new DataView(bytes.buffer).getBigUint64(offset, true));
const segment = (sregs: Uint8Array, name: 'cs' | 'ds' | 'ss' | 'tr' | 'ldt') => {
  const view = new DataView(sregs.buffer, KVM_SREGS[name], KVM_SEGMENT.size);
  return {
    base: Number(view.getBigUint64(0, true)), limit: view.getUint32(8, true), selector: view.getUint16(12, true), type: view.getUint8(14),
    db: view.getUint8(KVM_SEGMENT.db), s: view.getUint8(KVM_SEGMENT.s), l: view.getUint8(KVM_SEGMENT.l), g: view.getUint8(KVM_SEGMENT.g), present: view.getUint8(KVM_SEGMENT.present),
  };
};

describe('registers at entry', () => {
  it('are long mode for Linux', () => {
    const regs = entryRegs(LINUX);
    assert.deepEqual([KVM_REGS.rip, KVM_REGS.rsi, KVM_REGS.rsp, KVM_REGS.rflags, KVM_REGS.rax].map((f) => u64(regs, f)), [0x1_0000_0200, 0x6000, 0x8000, 2, 0]);
    const sregs = entrySregs(LINUX, resetSregs(true));
    assert.deepEqual([KVM_SREGS.cr0, KVM_SREGS.cr3, KVM_SREGS.cr4, KVM_SREGS.efer].map((f) => u64(sregs, f)), [0x8000_0011, 0x9000, 0x20, 0x500]);
    assert.deepEqual(segment(sregs, 'cs'), { base: 0, limit: 0xffff_ffff, selector: 0x10, type: 11, db: 0, s: 1, l: 1, g: 1, present: 1 });
    assert.deepEqual(segment(sregs, 'ds'), { base: 0, limit: 0xffff_ffff, selector: 0x18, type: 3, db: 1, s: 1, l: 0, g: 1, present: 1 });
    assert.equal(u64(sregs, KVM_SREGS.gdt), 0x5000);
    assert.equal(u64(sregs, KVM_SREGS.apic_base), 0xfee0_0900, 'taken from the vCPU');
  });

  it('are protected mode without paging for PVH and Multiboot', () => {
    for (const entry of [PVH, MULTIBOOT]) {
      const sregs = entrySregs(entry, resetSregs(true));
      assert.deepEqual([KVM_SREGS.cr0, KVM_SREGS.cr3, KVM_SREGS.cr4, KVM_SREGS.efer].map((f) => u64(sregs, f)), [0x11, 0, 0, 0]);
      assert.deepEqual(segment(sregs, 'cs'), { base: 0, limit: 0xffff_ffff, selector: 0x10, type: 11, db: 1, s: 1, l: 0, g: 1, present: 1 });
      assert.deepEqual(segment(sregs, 'tr'), { base: 0, limit: 0x67, selector: 0, type: 11, db: 0, s: 0, l: 0, g: 0, present: 1 });
    }
    assert.deepEqual([KVM_REGS.rip, KVM_REGS.rbx].map((f) => u64(entryRegs(PVH), f)), [0x100_0000, 0x6000]);
    assert.deepEqual([KVM_REGS.rip, KVM_REGS.rax, KVM_REGS.rbx].map((f) => u64(entryRegs(MULTIBOOT), f)), [0x40_0000, 0x2bad_b002, 0x6000]);
  });

  it('are real mode at the top of memory after reset', () => {
    const sregs = resetSregs(false);
    assert.equal(segment(sregs, 'cs').base + u64(resetRegs(0x606a6), KVM_REGS.rip), 0xffff_fff0);
    assert.equal(u64(resetRegs(0x606a6), KVM_REGS.rdx), 0x606a6);
    assert.deepEqual([KVM_SREGS.cr0, KVM_SREGS.apic_base].map((f) => u64(sregs, f)), [0x6000_0010, 0xfee0_0800]);
  });

  it('have the sizes of their structures, with the defaults of FNINIT and XCR0', () => {
    assert.deepEqual([initialFpu(), initialXcrs(), noEvents(), initialDebugRegs()].map((b) => b.length), [416, 392, 64, 128]);
    const fpu = new DataView(initialFpu().buffer);
    assert.deepEqual([fpu.getUint16(KVM_FPU.fcw, true), fpu.getUint32(KVM_FPU.mxcsr, true)], [0x37f, 0x1f80]);
  });
});

describe('local APIC page', () => {
  it('is reset, with LINT0 as ExtINT and LINT1 as NMI', () => {
    const page = new Uint8Array(KVM_LAPIC_STATE.size).fill(0xa5);
    new DataView(page.buffer).setUint32(LAPIC_VERSION, 0x0105_0014, true);
    const reset = resetLapic(page, 3);
    const at = (bytes: Uint8Array, register: number): number => new DataView(bytes.buffer).getUint32(register, true);
    assert.deepEqual([at(reset, LAPIC_ID), at(reset, LAPIC_VERSION), at(reset, 0xf0), at(reset, 0xe0), at(reset, LAPIC_LVT_LINT0)], [3 << 24, 0x0105_0014, 0xff, 0xffff_ffff, 0x1_0000]);
    const ready = legacyPins(reset);
    assert.deepEqual([at(ready, LAPIC_LVT_LINT0), at(ready, LAPIC_LVT_LINT1)], [0x700, 0x400]);
    assert.equal(at(reset, LAPIC_LVT_LINT1), 0x1_0000, 'the page given is not changed');
  });
});

describe('MSRs', () => {
  it('have write-back by default, the first MiB by fixed ranges, devices uncached below 4 GiB', () => {
    const msrs = initialMsrs({ physBits: 40, hole: 0x8000_0000, vmx: true });
    const map = new Map(msrs);
    assert.equal(map.size, msrs.length);
    assert.equal(map.get(MTRR_DEF_TYPE), 0xc06n);
    assert.equal(map.get(0x277), 0x0007_0406_0007_0406n);
    assert.deepEqual([map.get(0x250), map.get(0x259), map.get(0x26f)], [0x0606_0606_0606_0606n, 0n, 0x0606_0606_0606_0606n]);
    assert.deepEqual([map.get(0x200), map.get(0x201)], [0x8000_0000n, 0xff_8000_0800n]);
    assert.equal(map.get(0x3a), 5n);
    assert.equal(new Map(initialMsrs({ physBits: 40, hole: 0x8000_0000, vmx: false })).has(0x3a), false);
  });
});
