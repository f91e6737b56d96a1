import assert from 'node:assert/strict';
import { test } from 'node:test';
import { barAddress, barDecodes, barTypeBits, barWriteMasks, checkBars } from './bar.ts';
import type { BarDescription, BarKind } from './device.ts';

const bar = (index: number, kind: BarKind, size: number, more: Partial<BarDescription> = {}): BarDescription => ({ index, kind, size, handler: { read: () => 0, write: () => undefined }, ...more });

test('type bits and writable bits by kind and size', () => {
  assert.equal(barTypeBits(bar(0, 'io', 16)), 1);
  assert.equal(barTypeBits(bar(0, 'memory32', 16, { prefetchable: true })), 8);
  assert.equal(barTypeBits(bar(0, 'memory64', 16)), 4);
  assert.deepEqual(barWriteMasks(bar(0, 'io', 256)), { low: 0xffff_ff00, high: 0 });
  assert.deepEqual(barWriteMasks(bar(0, 'memory32', 2 ** 31)), { low: 0x8000_0000, high: 0 });
  assert.deepEqual(barWriteMasks(bar(0, 'memory64', 4096)), { low: 0xffff_f000, high: 0xffff_ffff });
  assert.deepEqual(barWriteMasks(bar(0, 'memory64', 2 ** 32)), { low: 0, high: 0xffff_ffff });
  assert.deepEqual(barWriteMasks(bar(0, 'memory64', 2 ** 34)), { low: 0, high: 0xffff_fffc });
  assert.deepEqual(barWriteMasks(bar(6, 'rom', 0x10000)), { low: 0xffff_0001, high: 0 });
});

test('address and decode from the registers', () => {
  const registers: Record<number, number> = { 0x04: 2, 0x10: 0xc000_000c, 0x14: 0x12, 0x30: 0xd000_0001 };
  const dword = (register: number): number => registers[register] ?? 0;
  const wide = bar(0, 'memory64', 4096);
  const rom = bar(6, 'rom', 4096);
  assert.equal(barAddress(wide, dword), 0x12_c000_0000);
  assert.equal(barAddress(rom, dword), 0xd000_0000);
  assert.equal(barDecodes(wide, dword), true);
  assert.equal(barDecodes(rom, dword), true);
  assert.equal(barDecodes(bar(2, 'io', 4), dword), false);
  registers[0x30] = 0xd000_0000;
  assert.equal(barDecodes(rom, dword), false);
});

test('BARs that cannot be are refused with their device and number', () => {
  const refuse = (bars: BarDescription[], why: RegExp): void => assert.throws(() => checkBars('dev', bars), why);
  refuse([bar(0, 'io', 512)], /dev: BAR 0 of kind io cannot have 512 bytes/);
  refuse([bar(0, 'memory32', 24)], /cannot have 24 bytes/);
  refuse([bar(0, 'memory64', 64), bar(1, 'io', 4)], /BAR 1 uses register 1, which is taken/);
  refuse([bar(5, 'memory64', 64)], /upper half/);
  refuse([bar(6, 'memory32', 64)], /no such register/);
  refuse([bar(0, 'io', 64, { backing: { hva: 4096, bytes: 4096, dirtyLog: false } })], /cannot be backed/);
});
