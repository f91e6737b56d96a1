import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FakePlatform } from '../testing/fake-platform.ts';
import { expressEndpoint, vendorCapability } from './capability.ts';
import { FakeEvents, FakeMsi, FakeParking, FakeSlots, ProbeDevice, TEST_WINDOWS, configRead, configWrite, probeRecord, testMachine } from './testing.ts';
import { MsiCapability } from './msi.ts';
import { MsixCapability } from './msix.ts';
import { pciInterruptRouting } from './intx.ts';
import { placeBars, assignResources, standardWindows } from './allocate.ts';
import { VitrineError } from '../../shared/errors.ts';
import type { Width } from '../bus/handler.ts';
import type { BarDescription } from './device.ts';
import type { FunctionDescription } from './function.ts';
import type { TestMachine } from './testing.ts';

const ECAM = 0xb000_0000;
const PLACE = 3 * 8;

/** Three instances of a machine with one probe at slot 3, and ECAM at a fixed place. */
function rig(more: (platform: FakePlatform) => Partial<FunctionDescription> = () => ({}), bars: Omit<BarDescription, 'handler'>[] = []): { machines: TestMachine[]; probes: ProbeDevice[]; platform: FakePlatform; resets: number[]; next(): TestMachine } {
  const platform = new FakePlatform();
  const shared = { slots: new FakeSlots(), parking: new FakeParking(), events: new FakeEvents() };
  const record = probeRecord();
  const resets: number[] = [];
  const probes: ProbeDevice[] = [];
  const machines = [platform, platform.peer(), platform.peer()].map((own) => {
    const reset = { handler: { read: () => 0x0e, write: (_offset: number, _width: Width, value: number) => void resets.push(value) }, mutex: own.arena.mutex('reset') };
    const machine = testMachine(own, shared, reset);
    machine.topology.addRange('ecam here', 'memory', ECAM, 0x1000_0000, machine.host.ecam, machine.topology.lock);
    const probe = new ProbeDevice(own, 'probe', 5, bars, more(own), record);
    probes.push(probe);
    machine.host.add(probe, 3);
    return machine;
  });
  machines[0]!.host.reset();
  let turn = 0;
  return { machines, probes, platform, resets, next: () => machines[turn++ % 3]! };
}

test('CF8 takes whole dwords only; a byte at CF9 is the reset register; a word there is nothing', () => {
  const { next, resets } = rig();
  next().io.write(0xcf8, 4, 0xffff_ffff);
  assert.equal(next().io.read(0xcf8, 4), 0x80ff_fffc);
  next().io.write(0xcf9, 1, 6);
  next().io.write(0xcf8, 1, 0);
  next().io.write(0xcf8, 2, 0);
  next().io.write(0xcfa, 2, 0);
  assert.equal(next().io.read(0xcf8, 4), 0x80ff_fffc);
  assert.deepEqual(resets, [6]);
  assert.equal(next().io.read(0xcf9, 1), 0x0e);
  assert.equal(next().io.read(0xcf8, 2), 0xffff);
});

test('no enable bit, no function, no bus: all ones, and writes go nowhere', () => {
  const { next } = rig();
  next().io.write(0xcf8, 4, PLACE << 8);
  assert.equal(next().io.read(0xcfc, 4), 0xffff_ffff);
  assert.equal(configRead(next().io, 4 * 8, 0, 4), 0xffff_ffff);
  assert.equal(configRead(next().io, 256 + PLACE, 0, 4), 0xffff_ffff);
  assert.equal(configRead(next().io, PLACE + 1, 0, 4), 0xffff_ffff);
  assert.equal(configRead(next().io, PLACE, 0, 4), 0x0005_1b36);
  assert.equal(next().memory.read(ECAM + PLACE * 4096, 4), 0x0005_1b36);
  assert.equal(next().memory.read(ECAM + (256 + PLACE) * 4096, 4), 0xffff_ffff);
  configWrite(next().io, 4 * 8, 0x3c, 4, 0);
});

const extra: FunctionDescription['extra'] = (image) => {
  for (let at = 0x40; at < 0x100; at++) image.set(at, 1, at).allow(at, 1, at * 37).clearByOne(at, 1, ~(at * 37) & at);
};

test('property: accesses of any width and place, by ports and by ECAM, act like a plain array of bytes with masks', () => {
  const access = fc.record({ ecam: fc.boolean(), offset: fc.integer({ min: 0x3c, max: 0x102 }), width: fc.constantFrom<Width>(1, 2, 4), write: fc.boolean(), value: fc.nat(0xffff_ffff) });
  fc.assert(
    fc.property(fc.array(access, { maxLength: 60 }), (accesses) => {
      const { next } = rig(() => ({ extra }));
      const initial = new Uint8Array(4096);
      const writable = new Uint8Array(4096);
      const clearable = new Uint8Array(4096);
      for (let at = 0x40; at < 0x100; at++) {
        initial[at] = at;
        writable[at] = at * 37;
        clearable[at] = ~(at * 37) & at;
      }
      const bytes = initial.slice();
      for (const { ecam, offset, width, write, value } of accesses) {
        if (!ecam && offset >= 0x100) continue;
        // By ports an access beyond CFF is no configuration access: what is in the dword counts.
        const reach = ecam ? width : Math.min(width, 4 - (offset & 3));
        const address = ECAM + PLACE * 4096 + offset;
        if (write) {
          if (ecam) next().memory.write(address, width, value);
          else configWrite(next().io, PLACE, offset, width, value);
          for (let at = 0; at < reach; at++) {
            const byte = (value >>> (8 * at)) & 0xff;
            const place = offset + at;
            bytes[place] = ((bytes[place]! & ~writable[place]!) | (byte & writable[place]!)) & ~(byte & clearable[place]!);
          }
        } else {
          let expected = 0;
          for (let at = width - 1; at >= 0; at--) expected = expected * 256 + (at < reach ? bytes[offset + at]! : 0xff);
          const found = ecam ? next().memory.read(address, width) : configRead(next().io, PLACE, offset, width);
          assert.equal(found, expected);
        }
      }
    }),
    { numRuns: 300 },
  );
});

test('the interrupt pin: status at once, the line unless disabled; PIC routes besides', () => {
  const { next, probes, platform, machines } = rig(() => ({ interruptPin: 1 }));
  const set = (thread: number, level: boolean): void => probes[thread]!.mutex.run(() => probes[thread]!.config.setInterrupt(level));
  // Slot 3, INTA: PIRQ D.
  set(0, true);
  assert.equal(platform.level(19), true);
  assert.equal(configRead(next().io, PLACE, 6, 2) & 8, 8);
  configWrite(next().io, PLACE, 4, 2, 0x400);
  assert.equal(platform.level(19), false);
  assert.equal(configRead(next().io, PLACE, 6, 2) & 8, 8);
  configWrite(next().io, PLACE, 4, 2, 0);
  assert.equal(platform.level(19), true);
  machines[1]!.host.intx.route(3, 11);
  assert.equal(platform.level(11), true);
  machines[2]!.host.intx.route(3, 10);
  assert.equal(platform.level(11), false);
  assert.equal(platform.level(10), true);
  set(1, false);
  assert.equal(platform.level(10), false);
  assert.equal(platform.level(19), false);
  set(2, true);
  next().host.reset();
  assert.equal(platform.level(10), false);
  assert.equal(platform.level(19), false);
});

test('routing: all slots and pins, by the swizzle', () => {
  const routes = pciInterruptRouting();
  assert.equal(routes.length, 128);
  assert.deepEqual(routes[0], { slot: 0, pin: 0, pirq: 0, gsi: 16 });
  assert.deepEqual(routes.find(({ slot, pin }) => slot === 31 && pin === 2), { slot: 31, pin: 2, pirq: 1, gsi: 17 });
});

test('MSI: sent when enabled and bus master; masked ones stay pending', () => {
  const sink = new FakeMsi();
  const capabilities: MsiCapability[] = [];
  const { next, probes } = rig(() => {
    const msi = new MsiCapability(sink, { vectors: 4, maskable: true });
    capabilities.push(msi);
    return { capabilities: [msi, vendorCapability(Uint8Array.of(1, 2, 3)), expressEndpoint()] };
  });
  const read = (register: number, width: Width): number => configRead(next().io, PLACE, register, width);
  assert.equal(read(6, 2) & 0x10, 0x10);
  assert.equal(read(0x34, 1), 0x40);
  assert.equal(read(0x40, 2), 0x5805);
  assert.equal(read(0x58, 4), 0x01_06_60_09);
  assert.equal(read(0x60, 4), 0x0092_0010);
  const send = (thread: number, vector: number): boolean => probes[thread]!.mutex.run(() => capabilities[thread]!.send(vector));
  assert.equal(send(0, 0), false);
  configWrite(next().io, PLACE, 0x44, 4, 0xfee0_1000);
  configWrite(next().io, PLACE, 0x4c, 2, 0x4040);
  configWrite(next().io, PLACE, 0x42, 2, 0x0001 | (2 << 4));
  send(1, 3);
  assert.deepEqual(sink.sent, [], 'no bus master');
  configWrite(next().io, PLACE, 4, 2, 4);
  send(1, 3);
  assert.deepEqual(sink.sent.splice(0), [{ address: 0xfee0_1000, data: 0x4043 }]);
  configWrite(next().io, PLACE, 0x50, 4, 0x8);
  send(2, 3);
  assert.equal(read(0x54, 4), 0x8);
  assert.deepEqual(sink.sent, []);
  configWrite(next().io, PLACE, 0x50, 4, 0);
  assert.deepEqual(sink.sent, [{ address: 0xfee0_1000, data: 0x4043 }]);
  assert.equal(read(0x54, 4), 0);
});

test('MSI-X: table and pending bits; function mask and vector masks', () => {
  const sink = new FakeMsi();
  const capabilities: MsixCapability[] = [];
  const { next, probes } = rig((own) => {
    const msix = new MsixCapability(own.arena, 'probe', sink, { vectors: 3, table: { bar: 0, offset: 0 }, pba: { bar: 0, offset: 0x800 } });
    msix.reset();
    capabilities.push(msix);
    return { capabilities: [msix] };
  });
  const send = (vector: number): boolean => probes[2]!.mutex.run(() => capabilities[2]!.send(vector));
  const table = capabilities[0]!.table;
  for (const [at, value] of [[16, 0xfee0_2000], [20, 0], [24, 0x55]]) table.write(at!, 4, value!);
  assert.equal(table.read(28, 4), 1);
  assert.equal(configRead(next().io, PLACE, 0x40, 4), 0x0002_0011);
  assert.equal(configRead(next().io, PLACE, 0x48, 4), 0x800);
  configWrite(next().io, PLACE, 4, 2, 4);
  assert.equal(send(1), false);
  configWrite(next().io, PLACE, 0x42, 2, 0xc000);
  assert.equal(send(1), true);
  assert.equal(capabilities[1]!.pba.read(0, 4), 2);
  table.write(28, 4, 0);
  assert.deepEqual(sink.sent, []);
  configWrite(next().io, PLACE, 0x42, 2, 0x8000);
  assert.deepEqual(sink.sent.splice(0), [{ address: 0xfee0_2000, data: 0x55 }]);
  assert.equal(capabilities[1]!.pba.read(0, 4), 0);
  send(1);
  assert.equal(sink.sent.length, 1);
});

test('several functions in a slot show in the header of the first', () => {
  const platform = new FakePlatform();
  const { host, io } = testMachine(platform, { slots: new FakeSlots(), parking: new FakeParking(), events: new FakeEvents() });
  const late = new ProbeDevice(platform, 'b', 2, []);
  assert.throws(() => host.add(late, 3, 1), /no function 0/);
  host.add(new ProbeDevice(platform, 'a', 1, []), 3);
  host.add(late, 3, 1);
  assert.throws(() => host.add(new ProbeDevice(platform, 'c', 3, []), 3, 1), /slot 3.1 has b/);
  host.reset();
  assert.equal(configRead(io, PLACE, 0xe, 1), 0x80);
  assert.equal(configRead(io, PLACE + 1, 0xe, 1), 0);
});

test('direct boot: every BAR placed, aligned, inside its window, disjoint; big prefetchable ones above 4 GiB', () => {
  const bars: Omit<BarDescription, 'handler'>[] = [
    { index: 0, kind: 'memory32', size: 0x1000 },
    { index: 1, kind: 'io', size: 64 },
    { index: 2, kind: 'memory64', size: 2 ** 30, prefetchable: true },
    { index: 4, kind: 'memory64', size: 2 ** 25, prefetchable: true },
    { index: 6, kind: 'rom', size: 0x10000 },
  ];
  const { next, probes, machines } = rig(() => ({ interruptPin: 1 }), bars);
  for (let round = 0; round < 2; round++) {
    machines[0]!.host.reset();
    assignResources(machines[0]!.host, [10, 10, 11, 5]);
    const read = (register: number): number => configRead(next().io, PLACE, register, 4);
    assert.equal(read(4) & 0xffff, 3);
    assert.equal(read(0x3c) & 0xff, 5);
    assert.equal(read(0x18), 0xc);
    assert.equal(read(0x1c), TEST_WINDOWS.high!.start / 2 ** 32);
    assert.equal(read(0x20), 0xc000_000c);
    assert.equal(read(0x30), 0xc200_0000);
    assert.equal(read(0x10), 0xc201_0000);
    assert.equal(read(0x14), 0x1001);
    assert.equal(next().memory.read(0xc201_0000, 4), 0x0500_0000);
    assert.equal(next().memory.read(0xc200_0000, 4), 0xffff_ffff, 'the ROM stays disabled');
    assert.equal(probes[0]!.seen.active.size, 4);
  }
  const many = Array.from({ length: 4 }, (_, at) => new ProbeDevice(new FakePlatform(), `big ${at}`, at, [{ index: 0, kind: 'memory32', size: 2 ** 29 }]));
  assert.throws(
    () => placeBars(many, TEST_WINDOWS),
    (error) => error instanceof VitrineError && error.problem.code === 'pci-window-exhausted' && /big 1, BAR 0.*512 MiB.*0xc0000000 to 0xfebfffff/.test(error.message),
  );
});

test('standard windows: above RAM, aligned to their size, below the physical bits, none if there is no room', () => {
  assert.deepEqual(standardWindows(2 ** 29, 46).high, { start: 2 ** 36, end: 2 ** 37 });
  assert.deepEqual(standardWindows(70 * 2 ** 30, 46).high, { start: 2 ** 37, end: 2 ** 37 + 2 ** 36 });
  assert.deepEqual(standardWindows(6 * 2 ** 30, 36).high, { start: 2 ** 35, end: 2 ** 36 });
  assert.equal(standardWindows(2 ** 36, 36).high, undefined);
});
