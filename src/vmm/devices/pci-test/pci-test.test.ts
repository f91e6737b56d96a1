import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { VitrineError } from '../../../shared/errors.ts';
import type { Width } from '../../bus/handler.ts';
import { assignResources, placeBars } from '../../pci/allocate.ts';
import { ProbeDevice, TEST_WINDOWS } from '../../pci/testing.ts';
import { chooseSlots } from '../../../shared/slots.ts';
import { FakePlatform } from '../../testing/fake-platform.ts';
import * as t from './pci-test.ts';
import { pciTestConfig, pciTestRig, type PciTestRig } from './testing.ts';

const LOW = TEST_WINDOWS.memory.start;
const BAR0 = LOW + 0x10_0000;
const BAR2 = LOW + 0x20_0000;
const BAR4 = LOW + 0x30_0000;
const BAR5 = LOW + 0x30_2100;
const ROM = LOW + 0x30_4000;
const PORTS = 0x2000;
const COMMAND = 4;

/** Everything at its place and decoding, interrupts by messages allowed. */
function placed(rig: PciTestRig, which = 0): PciTestRig {
  const registers: [number, number][] = [[0x10, BAR0], [0x14, PORTS], [0x18, BAR2], [0x1c, 0], [0x20, BAR4], [0x24, BAR5], [0x30, ROM + 1]];
  for (const [register, value] of registers) rig.set(which, register, value);
  rig.set(which, COMMAND, 7, 2);
  return rig;
}

/** Offset of a capability. */
function capability(rig: PciTestRig, id: number, which = 0): number {
  for (let at = rig.config(which, 0x34, 1); at !== 0; at = rig.config(which, at + 1, 1)) if (rig.config(which, at, 1) === id) return at;
  assert.fail(`no capability ${id}`);
}

test('the header, and every BAR sized as the specification says', () => {
  const rig = pciTestRig();
  assert.equal(rig.config(0, 0), 0x7e57_1234);
  assert.equal(rig.config(0, 8), 0xff00_0001);
  assert.equal(rig.config(0, 0x0e, 1), 0);
  assert.equal(rig.config(0, 0x3d, 1), 1);
  const sizes: [number, number][] = [[0x10, 0xffff_e000], [0x14, 0xffff_ff01], [0x18, 0xfffe_000c], [0x1c, 0xffff_ffff], [0x20, 0xffff_f000], [0x24, 0xffff_ff00], [0x30, 0xffff_f001]];
  for (const [register, expected] of sizes) {
    rig.set(0, register, 0xffff_ffff);
    assert.equal(rig.config(0, register), expected, register.toString(16));
  }
  for (const id of [0x05, 0x11, 0x10, 0x09]) capability(rig, id);
  assert.equal(rig.config(0, capability(rig, 0x10) + 2, 2), 0x92, 'root complex integrated endpoint, version 2');
});

test('registers by memory and by ports are the same', () => {
  const rig = placed(pciTestRig());
  assert.equal(rig.read(BAR0), t.MAGIC_VALUE);
  assert.equal(rig.next().io.read(PORTS, 4), t.MAGIC_VALUE);
  assert.equal(rig.read(BAR0 + 1, 1), 0x54);
  assert.equal(rig.read(BAR0 + t.INSTANCE), 1 * 8);
  rig.write(BAR0 + t.SCRATCH, 0xdead_beef);
  assert.equal(rig.next().io.read(PORTS + t.SCRATCH, 4), 0xdead_beef);
  rig.next().io.write(PORTS + t.SCRATCH, 4, 7);
  rig.write(BAR0 + t.SCRATCH, 1, 1);
  assert.equal(rig.read(BAR0 + t.SCRATCH), 7, 'whole dwords only');
  rig.write(BAR0, 0);
  assert.equal(rig.read(BAR0), t.MAGIC_VALUE);
});

test('accesses of the counted areas are counted, wherever they are, and say who answers', () => {
  const rig = placed(pciTestRig([pciTestConfig({ slot: 9, functions: 3 })]), 2);
  const instance = (9 * 8 + 2) << 16;
  assert.equal(rig.read(BAR0 + t.COUNTED + 4), instance | 0x804);
  assert.equal(rig.read(BAR2 + 0x1_0000 + 0x24), instance | 0x24);
  assert.equal(rig.read(BAR2 + 0x1_0001, 1), 0x01);
  rig.write(BAR0 + t.COUNTED, 1);
  rig.write(BAR2 + 0x1_ff00, 1);
  assert.deepEqual([rig.read(BAR0 + t.READS), rig.read(BAR0 + t.WRITES)], [3, 2]);
  rig.write(BAR0 + t.READS, 0);
  assert.equal(rig.read(BAR0 + t.READS), 0);
});

test('host memory is mapped by whole pages, the rest of it trapped, with one content', () => {
  const rig = placed(pciTestRig([pciTestConfig({ dirtyLog: true })]));
  const address = rig.tests[0]![0]!.config.bars.find(({ index }) => index === 2)!.backing!.hva;
  assert.deepEqual([...rig.slots.slots.values()], [
    { gpa: BAR2, size: 0xf000, hva: address, dirtyLog: true, readonly: false },
    { gpa: ROM, size: t.ROM_BYTES, hva: address + t.ROM_OFFSET, dirtyLog: false, readonly: true },
  ]);
  rig.write(BAR2 + 0xf7fc, 0x1234_5678);
  assert.equal(rig.read(BAR2 + 0xf7fc), 0x1234_5678);
  assert.equal(rig.read(BAR2 + 0xf7fd, 1), 0x56);
  rig.write(BAR5 + 0xfe, 0xabcd, 2);
  assert.equal(rig.read(BAR5 + 0xfe, 2), 0xabcd);
  assert.equal(rig.read(ROM, 2), 0xaa55);
  rig.write(ROM, 0);
  assert.equal(rig.read(ROM, 2), 0xaa55);
});

test('the doorbell rings by its eventfd and by the trapped access alike', () => {
  const rig = placed(pciTestRig());
  const events = [...rig.events.events.values()];
  assert.deepEqual(events.map(({ address, length, space }) => ({ address, length, space })), [{ address: BAR0 + t.DOORBELL, length: 4, space: 'memory' }]);
  rig.write(BAR0 + t.DOORBELL, 1);
  rig.write(BAR0 + t.DOORBELL, 2);
  assert.equal(rig.read(BAR0 + t.DOORBELLS), 2);
  rig.write(BAR0 + t.DOORBELL, 2);
  assert.equal(rig.read(BAR0 + t.DOORBELLS), 3);
});

for (const sharedMsix of [false, true]) {
  test(`MSI-X: messages, masks and pending bits, in ${sharedMsix ? 'BAR 0' : 'a BAR of its own'}`, () => {
    const rig = placed(pciTestRig([pciTestConfig({ sharedMsix })]));
    const at = capability(rig, 0x11);
    const table = sharedMsix ? BAR0 + 0x1000 : BAR4;
    const pba = table + 0x800;
    assert.equal(rig.config(0, at + 2, 2), t.VECTORS - 1);
    assert.equal(rig.config(0, at + 4), sharedMsix ? 0x1000 : 4);
    for (const vector of [3, 5]) {
      rig.write(table + vector * 16, 0xfee0_1000);
      rig.write(table + vector * 16 + 8, 0x4000 + vector);
    }
    rig.write(BAR0 + t.RAISE, 3);
    assert.deepEqual(rig.msi.sent, [], 'off');
    rig.set(0, at + 2, 0x8000, 2);
    rig.write(BAR0 + t.RAISE, 3);
    assert.deepEqual(rig.msi.sent, [], 'masked');
    assert.equal(rig.read(pba), 1 << 3);
    rig.write(table + 3 * 16 + 12, 0);
    assert.deepEqual(rig.msi.sent, [{ address: 0xfee0_1000, data: 0x4003 }]);
    assert.equal(rig.read(pba), 0);
    rig.write(table + 5 * 16 + 12, 0);
    assert.equal(rig.tests[1]![0]!.raise(5), true);
    assert.equal(rig.msi.sent.length, 2);
    assert.equal(rig.tests[2]![0]!.raise(t.VECTORS), false);
    rig.set(0, COMMAND, 3, 2);
    rig.write(BAR0 + t.RAISE, 5);
    assert.equal(rig.msi.sent.length, 2, 'no bus master');
  });
}

test('MSI when MSI-X is off; the pin, its status and its disable bit', () => {
  const rig = placed(pciTestRig([pciTestConfig({ slot: 4, functions: 2 })]), 1);
  const at = capability(rig, 0x05, 1);
  rig.set(1, at + 4, 0xfee0_0000);
  rig.set(1, at + 12, 0x40, 2);
  rig.set(1, at + 2, 0x21, 2); // on, 4 vectors
  rig.write(BAR0 + t.RAISE, 2);
  assert.deepEqual(rig.msi.sent, [{ address: 0xfee0_0000, data: 0x42 }]);
  assert.equal(rig.config(1, 0x3d, 1), 2, 'function 1 has INTB');
  const gsi = 16 + ((4 + 1) % 4);
  rig.write(BAR0 + t.INTX, 1);
  assert.equal(rig.platform.level(gsi), true);
  assert.equal(rig.read(BAR0 + t.INTX), 1);
  assert.equal(rig.config(1, 6, 2) & 8, 8);
  rig.set(1, COMMAND, 0x407, 2);
  assert.equal(rig.platform.level(gsi), false);
  rig.set(1, COMMAND, 0x7, 2);
  rig.write(BAR0 + t.INTX, 0);
  assert.equal(rig.platform.level(gsi), false);
});

test('an activation fails on demand, by the guest\'s register and by the host', () => {
  const rig = placed(pciTestRig());
  const before = rig.read(BAR0 + t.ACTIVATIONS);
  assert.equal(before, 6, 'each BAR once: nothing answers before decode is on');
  rig.write(BAR0 + t.FAIL, 1);
  rig.set(0, 0x18, BAR2 + 0x10_0000);
  assert.equal(rig.config(0, 0x18), (BAR2 | 0xc) >>> 0, 'as it was');
  assert.deepEqual([rig.read(BAR0 + t.FAILED), rig.read(BAR0 + t.FAIL)], [1, 0]);
  assert.match(rig.platform.logged.join('\n'), /pci: cannot activate 00:01\.0 pci-test bar2 at 0xc0300000: BAR 2 was told to fail/);
  rig.tests[1]![0]!.failActivations(1);
  rig.set(0, 0x18, BAR2 + 0x10_0000);
  assert.equal(rig.config(0, 0x18), (BAR2 | 0xc) >>> 0);
  rig.set(0, 0x18, BAR2 + 0x10_0000);
  assert.equal(rig.read(BAR2 + 0x10_0000 + 0x1_0000), 0x0008_0000);
});

test('reset: registers, table and memory as after power-on, and nothing asserted', () => {
  const rig = placed(pciTestRig());
  rig.write(BAR0 + t.SCRATCH, 1);
  rig.write(BAR2 + 0xf000, 1);
  rig.write(BAR4 + 12, 0);
  rig.write(BAR0 + t.INTX, 1);
  rig.write(BAR0 + t.DOORBELL, 1);
  for (const device of rig.tests[0]!) device.reset();
  rig.machines[0]!.host.reset();
  assert.equal(rig.platform.level(17), false);
  placed(rig);
  assert.deepEqual([rig.read(BAR0 + t.SCRATCH), rig.read(BAR2 + 0xf000), rig.read(BAR4 + 12), rig.read(BAR0 + t.DOORBELLS), rig.read(BAR0 + t.INTX)], [0, 0, 1, 0, 0]);
});

test('no access of a guest makes it throw', () => {
  const rig = placed(pciTestRig([pciTestConfig({ functions: 2 })]));
  const places = [BAR0, BAR0 + 0x100, BAR0 + t.COUNTED, BAR0 + 0x1ff0, BAR2, BAR2 + 0xf7f0, BAR2 + 0x1_fff0, BAR4, BAR4 + 0xf0, BAR4 + 0x7f0, BAR4 + 0x800, BAR5, BAR5 + 0xf0, ROM, ROM + 0xff0];
  const access = fc.record({ place: fc.nat(places.length - 1), offset: fc.nat(0x4f), width: fc.constantFrom<Width>(1, 2, 4), write: fc.boolean(), value: fc.oneof(fc.nat(20), fc.nat(0xffff_ffff)) });
  fc.assert(fc.property(access, ({ place, offset, width, write, value }) => {
    const address = places[place]! + offset;
    if (write) rig.write(address, value, width);
    else {
      const got = rig.read(address, width);
      assert.ok(Number.isInteger(got) && got >= 0 && got < 2 ** (8 * width));
    }
  }), { numRuns: 20_000 });
});

test('several functions are one device; each has a configuration space, BARs and a pin of its own', () => {
  const rig = pciTestRig([pciTestConfig({ slot: 7, functions: 8 })]);
  assert.deepEqual(rig.places, [56, 57, 58, 59, 60, 61, 62, 63]);
  assert.equal(rig.config(0, 0x0e, 1), 0x80, 'function 0 says so');
  assignResources(rig.machines[0]!.host, [10, 10, 11, 11]);
  const bases = rig.places.map((_, which) => rig.config(which, 0x10));
  assert.equal(new Set(bases).size, 8);
  bases.forEach((base, which) => assert.equal(rig.read(base + t.INSTANCE), 56 + which));
  rig.write(bases[0]! + t.INTX, 1);
  rig.write(bases[4]! + t.INTX, 1);
  rig.write(bases[0]! + t.INTX, 0);
  assert.equal(rig.platform.level(16 + 3), true, 'functions 0 and 4 share INTA');
  rig.write(bases[4]! + t.INTX, 0);
  assert.equal(rig.platform.level(16 + 3), false);
});

test('slots: those named first, then the lowest free; never the chipset\'s or the display\'s', () => {
  const device = pciTestConfig();
  assert.deepEqual(chooseSlots([device, pciTestConfig({ slot: 1 }), device, device], [4]), [3, 1, 5, 6]);
  const code = (wanted: string) => (error: unknown): boolean => error instanceof VitrineError && error.problem.code === wanted;
  assert.throws(() => chooseSlots([pciTestConfig({ slot: 5 }), pciTestConfig({ slot: 5 })]), code('slot-taken'));
  assert.deepEqual(chooseSlots(Array.from({ length: 29 }, () => device)).includes(2), false);
  assert.throws(() => chooseSlots(Array.from({ length: 30 }, () => device)), code('no-free-slot'));
});

test('exhausted windows are an error in words, with the device and the BAR', () => {
  const exhausted = (bars: ConstructorParameters<typeof ProbeDevice>[3], what: RegExp): void => {
    const probe = new ProbeDevice(new FakePlatform(), '00:05.0 probe', 1, bars);
    assert.throws(() => placeBars([probe], TEST_WINDOWS), (error) => error instanceof VitrineError && error.problem.code === 'pci-window-exhausted' && what.test(error.message));
  };
  exhausted([{ index: 0, kind: 'memory32', size: 2 ** 30 }], /00:05\.0 probe, BAR 0.*1024 MiB.*memory window/);
  exhausted([{ index: 2, kind: 'memory64', size: 2 ** 39, prefetchable: true }], /BAR 2.*524288 MiB/);
  // 224 times 256 ports fit.
  const full = Array.from({ length: 28 }, () => pciTestConfig({ functions: 8 }));
  assignResources(pciTestRig(full, 1).machines[0]!.host, [10, 10, 11, 11]);
  assert.throws(() => assignResources(pciTestRig([...full, pciTestConfig()], 1).machines[0]!.host, [10, 10, 11, 11]), /00:1e\.0 pci-test, BAR 1.*256 ports.*I\/O window/);
});
