import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakePlatform } from '../../../testing/fake-platform.ts';
import { FakeEvents, FakeParking, FakeSlots, configRead, configWrite, testMachine } from '../../../pci/testing.ts';
import { ECAM_BASE, ECAM_SIZE, PM_BASE, PM_SIZE } from '../layout.ts';
import { addChipset, programForDirectBoot } from './chipset.ts';

const LPC = 31 * 8;

function machine() {
  const platform = new FakePlatform();
  const shared = { slots: new FakeSlots(), parking: new FakeParking(), events: new FakeEvents() };
  const all = [platform, platform.peer(), platform.peer()].map((own) => {
    const parts = testMachine(own, shared);
    const pm = { handler: { read: (offset: number) => offset, write: () => undefined }, mutex: own.arena.mutex('pm') };
    return { ...parts, chipset: addChipset(own, parts.host, pm) };
  });
  all[0]!.host.reset();
  let turn = 0;
  return { platform, all, next: () => all[turn++ % 3]! };
}

test('power-on: both functions are there, neither ECAM nor the PM block', () => {
  const { next } = machine();
  const read = (place: number, register: number): number => configRead(next().io, place, register, 4);
  assert.deepEqual([read(0, 0), read(0, 8), read(0, 0x2c)], [0x29c0_8086, 0x0600_0000, 0x1100_1af4]);
  assert.deepEqual([read(LPC, 0), read(LPC, 8), read(LPC, 0x2c)], [0x2918_8086, 0x0601_0002, 0x1100_1af4]);
  assert.equal(configRead(next().io, LPC, 0x0e, 1), 0);
  assert.equal(next().memory.read(ECAM_BASE, 4), 0xffff_ffff);
  assert.equal(next().io.read(PM_BASE, 1), 0xff);
});

test('direct boot puts ECAM, PM block and PIRQs where the layout says', () => {
  const { next, all } = machine();
  programForDirectBoot(all[0]!.host, all[0]!.chipset);
  assert.deepEqual(next().chipset.mch.ecam(), { start: ECAM_BASE, end: ECAM_BASE + ECAM_SIZE });
  assert.deepEqual(next().chipset.lpc.pm(), { start: PM_BASE, end: PM_BASE + PM_SIZE });
  assert.equal(next().memory.read(ECAM_BASE, 4), 0x29c0_8086);
  assert.equal(next().io.read(PM_BASE + 8, 1), 8);
  assert.equal(configRead(next().io, LPC, 0x60, 4), 0x0b0b_0a0a);
});

test('ECAM moves, by a write through itself, and shrinks', () => {
  const { next, all } = machine();
  programForDirectBoot(all[0]!.host, all[0]!.chipset);
  next().memory.write(ECAM_BASE + 0x60, 4, 0xe000_0001);
  assert.equal(next().memory.read(ECAM_BASE, 4), 0xffff_ffff);
  assert.equal(next().memory.read(0xe000_0000, 4), 0x29c0_8086);
  configWrite(next().io, 0, 0x60, 4, 0xe400_0005);
  assert.deepEqual(next().chipset.mch.ecam(), { start: 0xe400_0000, end: 0xe800_0000 });
  assert.equal(next().memory.read(0xe400_0000 + 0xf8 * 4096, 4), 0x2918_8086);
  assert.equal(next().memory.read(0xe000_0000, 4), 0xffff_ffff);
  configWrite(next().io, 0, 0x64, 4, 0xffff_ffff);
  assert.equal(next().memory.read(0xf_e400_0000, 4), 0x29c0_8086);
  configWrite(next().io, 0, 0x60, 1, 0x7);
  assert.equal(next().chipset.mch.ecam(), undefined, 'reserved length');
});

test('the PM block moves with PMBASE and goes with ACPI_CNTL', () => {
  const { next, all } = machine();
  programForDirectBoot(all[0]!.host, all[0]!.chipset);
  configWrite(next().io, LPC, 0x40, 4, 0xb000);
  assert.equal(next().io.read(PM_BASE + 8, 1), 0xff);
  assert.equal(next().io.read(0xb008, 1), 8);
  configWrite(next().io, LPC, 0x44, 1, 0);
  assert.equal(next().io.read(0xb008, 1), 0xff);
  assert.equal(configRead(next().io, LPC, 0x40, 4), 0xb001);
});

test('PAM and SMRAM are kept; identification is not writable', () => {
  const { next } = machine();
  configWrite(next().io, 0, 0x90, 4, 0xffff_ffff);
  assert.equal(configRead(next().io, 0, 0x90, 4), 0x3333_3330);
  configWrite(next().io, 0, 0x9d, 1, 0x4a);
  assert.equal(configRead(next().io, 0, 0x9d, 1), 0x4a);
  configWrite(next().io, 0, 0, 4, 0);
  assert.equal(configRead(next().io, 0, 0, 4), 0x29c0_8086);
  configWrite(next().io, LPC, 4, 2, 0);
  assert.equal(configRead(next().io, LPC, 4, 2), 7);
});
