// Devices that come to the bus and go from it, over three instances on the same slices.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PciTestStore } from '../devices/pci-test/parts.ts';
import * as t from '../devices/pci-test/pci-test.ts';
import { pciTestConfig } from '../devices/pci-test/testing.ts';
import { buildPlugged, equip, type PluggedDescription } from '../machine/plugged.ts';
import { Arena } from '../sync/arena.ts';
import { FakeWiring } from '../vfio/testing.ts';
import { FakePlatform } from '../testing/fake-platform.ts';
import { assignResources } from './allocate.ts';
import { FakeEvents, FakeMsi, FakeParking, FakeSlots, ProbeDevice, TEST_WINDOWS, configRead, configWrite, testMachine, type TestMachine } from './testing.ts';

const LOW = TEST_WINDOWS.memory.start;
const SLOT = 4;
const PLACE = SLOT * 8;

function rig() {
  const platform = new FakePlatform();
  const shared = { slots: new FakeSlots(), parking: new FakeParking(), events: new FakeEvents() };
  const platforms = [platform, platform.peer(), platform.peer()];
  const machines: TestMachine[] = platforms.map((own) => testMachine(own, shared));
  machines.forEach((machine, thread) => machine.host.add(new ProbeDevice(platforms[thread]!, '00:01.0 probe', 1, [{ index: 0, kind: 'memory32', size: 0x10000, backing: { hva: 0x7f00_0000_0000, bytes: 0x10000, dirtyLog: false } }]), 1));
  machines[0]!.host.reset();
  const store = new PciTestStore();
  let turn = 0;
  const plug = (description: PluggedDescription): t.PciTest[] => {
    const all = machines.map((machine, thread) => {
      const functions = buildPlugged(platforms[thread]!, { msi: new FakeMsi(), interrupts: new FakeWiring() }, description) as t.PciTest[];
      machine.host.plug(functions, description.slot);
      return functions;
    });
    for (const each of all[0]!) each.reset();
    return all[0]!;
  };
  return { platform, machines, store, plug, ...shared, next: () => machines[turn++ % 3]! };
}

function place(next: () => TestMachine, base = LOW): void {
  configWrite(next().io, PLACE, 0x10, 4, base);
  configWrite(next().io, PLACE, 0x14, 4, 0x1000);
  configWrite(next().io, PLACE, 0x18, 4, base + 0x20_0000);
  configWrite(next().io, PLACE, 4, 2, 7);
}

test('nothing is seen of a device before it is published, nor after it is withdrawn', () => {
  const { machines, next, plug, store, slots, events } = rig();
  const description = equip(pciTestConfig({ functions: 2 }), SLOT, store);
  const device = plug(description)[0]!;
  assert.equal(configRead(next().io, PLACE, 0, 4), 0xffff_ffff);
  place(next);
  assert.equal(next().memory.read(LOW, 4), 0xffff_ffff);
  assert.equal(machines[0]!.host.functions().length, 1);
  machines[0]!.host.publish(SLOT);
  assert.equal(configRead(next().io, PLACE, 0x0c, 4), 0x80_0000, 'several functions');
  assert.equal(configRead(next().io, PLACE + 1, 0, 4), 0x7e57_1234);
  assert.equal(configRead(next().io, PLACE, 4, 2), 0, 'writes before were to nobody');
  place(next);
  assert.equal(next().memory.read(LOW, 4), t.MAGIC_VALUE);
  assert.equal(next().io.read(0x1000, 4), t.MAGIC_VALUE);
  assert.deepEqual([slots.slots.size, events.events.size], [1, 1]);
  next().memory.write(LOW + t.INTX, 4, 1);

  machines[0]!.host.withdraw(SLOT);
  assert.equal(configRead(next().io, PLACE, 0, 4), 0xffff_ffff);
  assert.equal(next().memory.read(LOW, 4), 0xffff_ffff);
  assert.equal(next().io.read(0x1000, 4), 0xffff_ffff);
  assert.deepEqual([slots.slots.size, events.events.size], [0, 0]);
  place(next);
  assert.equal(next().memory.read(LOW, 4), 0xffff_ffff);
  assert.equal(device.register(t.DEACTIVATIONS), 3);
  for (const machine of machines) machine.host.unplug(SLOT);
  assert.deepEqual(machines.map((machine) => machine.memory.ranges().length), [0, 0, 0]);
  machines[0]!.host.reset();
});

test('its interrupt goes with it', () => {
  const { platform, machines, next, plug, store } = rig();
  plug(equip(pciTestConfig(), SLOT, store));
  machines[0]!.host.publish(SLOT);
  place(next);
  next().memory.write(LOW + t.INTX, 4, 1);
  assert.equal(platform.level(16), true);
  machines[0]!.host.withdraw(SLOT);
  assert.equal(platform.level(16), false);
});

test('what a removed device covered answers again, its slots too', () => {
  const { machines, next, plug, store, slots } = rig();
  configWrite(next().io, 8, 0x10, 4, LOW);
  configWrite(next().io, 8, 4, 2, 2);
  plug(equip(pciTestConfig(), SLOT, store));
  machines[0]!.host.publish(SLOT);
  place(next, LOW + 0x8000);
  assert.equal(next().memory.read(LOW + 0x8000, 4), t.MAGIC_VALUE);
  assert.equal(next().memory.read(LOW + 0x4000, 4), 0x0100_4000);
  machines[0]!.host.withdraw(SLOT);
  assert.equal(next().memory.read(LOW + 0x8000, 4), 0x0100_8000);
  assert.deepEqual([...slots.slots.values()].map(({ gpa, size }) => ({ gpa, size })), [{ gpa: LOW, size: 0x10000 }]);
});

test('comes and goes a hundred times in the same slices and the same memory, and is as new each time', () => {
  const { platform, machines, next, plug, store } = rig();
  const room = (): number => Math.max(...Object.values(platform.arena.describe().table).map(({ offset, bytes }) => offset + bytes));
  let used = 0;
  for (let round = 0; round < 100; round++) {
    const description = equip(pciTestConfig({ functions: 1 + (round % 2), sharedMsix: round % 3 === 0 }), SLOT, store);
    plug(description);
    machines[0]!.host.publish(SLOT);
    place(next);
    assert.equal(next().memory.read(LOW + t.SCRATCH, 4), 0);
    assert.equal(next().memory.read(LOW + 0x20_f000, 4), 0);
    next().memory.write(LOW + t.SCRATCH, 4, 7);
    next().memory.write(LOW + 0x20_f000, 4, 7);
    machines[0]!.host.withdraw(SLOT);
    for (const machine of machines) machine.host.unplug(SLOT);
    for (const parts of description.parts) store.give(parts);
    if (round === 1) used = room();
  }
  assert.equal(room(), used);
  assert.equal(store.made, 2);
});

test('a reset while a device is being built places what guests see, and no more', () => {
  const { machines, next, plug, store } = rig();
  plug(equip(pciTestConfig(), SLOT, store));
  machines[0]!.host.reset();
  assignResources(machines[0]!.host, [10, 10, 11, 11]);
  assert.notEqual(configRead(next().io, 8, 0x10, 4), 0);
  machines[0]!.host.publish(SLOT);
  assert.equal(configRead(next().io, PLACE, 0x10, 4), 0);
});

test('a slice that comes again may be larger: it is found anew in every thread', () => {
  const arena = new Arena(8192);
  const worker = Arena.attach(structuredClone(arena.describe()));
  const build = (from: Arena, words: number): Uint32Array => from.uint32('device', words);
  const first = arena.record(() => build(arena, 16));
  worker.learn(first.slices);
  assert.deepEqual(first.slices, { device: { offset: 64, bytes: 64 } });
  const second = arena.record(() => build(arena, 100));
  assert.throws(() => build(worker, 100), /64 bytes/);
  worker.learn(second.slices);
  second.built[99] = 7;
  assert.equal(build(worker, 100)[99], 7);
  const third = arena.record(() => build(arena, 20));
  assert.deepEqual(third.slices, { device: { offset: second.slices['device']!.offset, bytes: 80 } });
  assert.throws(() => build(arena, 16), /asked for 64/, 'only while it is recorded');
  assert.throws(() => arena.record(() => build(arena, 10_000)), /full/);
  assert.equal(build(arena, 20).length, 20, 'as it was');
});
