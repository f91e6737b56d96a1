import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakePlatform } from '../testing/fake-platform.ts';
import { FakeEvents, FakeParking, FakeSlots, ProbeDevice, configRead, configWrite, testMachine } from './testing.ts';
import { HIGH, HVA, LOW, answer, command, place, rig, set } from './test-rig.ts';

test('a BAR answers once decode is on, moves while it decodes, and calls the device only on real changes', () => {
  const rg = rig([[{ index: 0, kind: 'memory32', size: 0x1000 }]]);
  set(rg, 0, 0x10, LOW);
  assert.equal(answer(rg, LOW), 0xffff_ffff);
  command(rg, 0, 2);
  assert.equal(answer(rg, LOW + 4), 0x0100_0004);
  command(rg, 0, 6);
  set(rg, 0, 0x10, LOW);
  set(rg, 0, 0x10, LOW + 0x5000);
  assert.equal(answer(rg, LOW), 0xffff_ffff);
  assert.equal(answer(rg, LOW + 0x5008), 0x0100_0008);
  command(rg, 0, 4);
  assert.equal(answer(rg, LOW + 0x5008), 0xffff_ffff);
  assert.deepEqual(rg.records[0]!.calls, ['activate 0 c0000000', 'deactivate 0 c0000000', 'activate 0 c0005000', 'deactivate 0 c0005000']);
});

test('sizing with decode on: all ones answers nowhere, and reads back the size', () => {
  const rg = rig([[{ index: 0, kind: 'memory32', size: 0x4000 }, { index: 1, kind: 'io', size: 32 }, { index: 2, kind: 'memory64', size: 2 ** 33, prefetchable: true }]]);
  set(rg, 0, 0x10, LOW);
  set(rg, 0, 0x14, 0x1000);
  command(rg, 0, 3);
  set(rg, 0, 0x10, 0xffff_ffff);
  assert.equal(configRead(rg.next().io, place(0), 0x10, 4), 0xffff_c000);
  assert.equal(answer(rg, LOW), 0xffff_ffff);
  set(rg, 0, 0x14, 0xffff_ffff);
  assert.equal(configRead(rg.next().io, place(0), 0x14, 4), 0xffff_ffe1);
  assert.equal(rg.records[0]!.active.size, 0);
  set(rg, 0, 0x18, 0xffff_ffff);
  assert.equal(configRead(rg.next().io, place(0), 0x18, 4), 0x0000_000c);
  set(rg, 0, 0x1c, 0xffff_ffff);
  assert.equal(configRead(rg.next().io, place(0), 0x1c, 4), 0xffff_fffe);
  set(rg, 0, 0x10, LOW);
  assert.equal(answer(rg, LOW), 0x0100_0000);
});

test('64-bit halves in either order', () => {
  for (const order of [[0x10, 0x14], [0x14, 0x10]]) {
    const rg = rig([[{ index: 0, kind: 'memory64', size: 0x10000 }]]);
    command(rg, 0, 2);
    for (const register of order) set(rg, 0, register, register === 0x10 ? 0x30000 : HIGH / 2 ** 32);
    assert.equal(answer(rg, HIGH + 0x30010), 0x0100_0010);
    assert.equal(rg.records[0]!.active.get(0), HIGH + 0x30000);
  }
});

test('overlap: the newest answers, the covered one around it, and again when it goes; its slots follow, vCPUs parked', () => {
  const backing = { hva: HVA, bytes: 0x10000, dirtyLog: true };
  const rg = rig([[{ index: 0, kind: 'memory32', size: 0x10000, backing }], [{ index: 0, kind: 'memory32', size: 0x1000 }]]);
  set(rg, 0, 0x10, LOW);
  command(rg, 0, 2);
  const whole = { gpa: LOW, size: 0x10000, hva: HVA, dirtyLog: true, readonly: false };
  assert.deepEqual([...rg.slots.slots.values()], [whole]);
  assert.equal(rg.parking.count, 0);
  set(rg, 1, 0x10, LOW + 0x4000);
  command(rg, 1, 2);
  assert.equal(answer(rg, LOW + 0x3ffc), 0x0100_3ffc);
  assert.equal(answer(rg, LOW + 0x4000), 0x0200_0000);
  assert.equal(answer(rg, LOW + 0x5000), 0x0100_5000);
  assert.equal(answer(rg, LOW + 0x3ffe), 0x0100_fffe, 'an access over the seam reaches both, byte by byte');
  assert.deepEqual([...rg.slots.slots.values()], [
    { ...whole, size: 0x4000 },
    { ...whole, gpa: LOW + 0x5000, size: 0xb000, hva: HVA + 0x5000 },
  ]);
  assert.equal(rg.parking.count, 1);
  const parts = rg.machines[1]!.topology.slotsOf(rg.probes[1]![0]!, 0);
  assert.deepEqual(parts.map(({ offset, size }) => ({ offset, size })), [{ offset: 0, size: 0x4000 }, { offset: 0x5000, size: 0xb000 }]);
  command(rg, 1, 0);
  assert.deepEqual([...rg.slots.slots.values()], [whole]);
  assert.deepEqual(rg.records[0]!.calls, ['activate 0 c0000000'], 'partly covered is active all the time');
});

test('a BAR wholly covered is deactivated, and activated again when the cover goes', () => {
  const rg = rig([[{ index: 0, kind: 'memory32', size: 0x1000 }], [{ index: 0, kind: 'memory32', size: 0x4000 }]]);
  set(rg, 0, 0x10, LOW);
  command(rg, 0, 2);
  set(rg, 1, 0x10, LOW);
  command(rg, 1, 2);
  assert.equal(answer(rg, LOW), 0x0200_0000);
  set(rg, 1, 0x10, LOW + 0x8000);
  assert.equal(answer(rg, LOW), 0x0100_0000);
  assert.deepEqual(rg.records[0]!.calls, ['activate 0 c0000000', 'deactivate 0 c0000000', 'activate 0 c0000000']);
});

test('an activation that fails: the write has not been, everything is as before, and the log says so', () => {
  const rg = rig([[{ index: 0, kind: 'memory32', size: 0x1000 }, { index: 1, kind: 'memory32', size: 0x1000 }], [{ index: 0, kind: 'memory32', size: 0x1000 }]]);
  set(rg, 1, 0x10, LOW);
  command(rg, 1, 2);
  set(rg, 0, 0x10, LOW);
  set(rg, 0, 0x14, LOW + 0x1000);
  rg.records[0]!.failures = 1;
  command(rg, 0, 2);
  assert.equal(configRead(rg.next().io, place(0), 4, 2), 0);
  assert.equal(answer(rg, LOW), 0x0200_0000);
  assert.equal(answer(rg, LOW + 0x1000), 0xffff_ffff);
  assert.equal(rg.records[0]!.active.size, 0);
  assert.equal(rg.records[1]!.active.get(0), LOW, 'activated again');
  assert.match(rg.platform.logged.join('\n'), /pci: cannot activate 00:01\.0 probe bar0 at 0xc0000000: not today/);
  command(rg, 0, 2);
  assert.equal(answer(rg, LOW), 0x0100_0000);
});

test('a memslot that KVM refuses undoes the write too', () => {
  const rg = rig([[{ index: 0, kind: 'memory32', size: 0x1000, backing: { hva: HVA, bytes: 0x1000, dirtyLog: false } }]]);
  set(rg, 0, 0x10, LOW);
  rg.slots.refusals = 1;
  command(rg, 0, 2);
  assert.equal(configRead(rg.next().io, place(0), 4, 2), 0);
  assert.equal(rg.records[0]!.active.size, 0);
  assert.equal(rg.slots.slots.size, 0);
  command(rg, 0, 2);
  assert.equal(rg.slots.slots.size, 1);
});

test('a BAR that cannot come back on the way back stops to answer until it is moved or decode is switched', () => {
  const rg = rig([[{ index: 0, kind: 'memory32', size: 0x1000 }], [{ index: 0, kind: 'memory32', size: 0x1000 }], [{ index: 0, kind: 'memory32', size: 0x1000 }]]);
  for (const device of [0, 1]) {
    set(rg, device, 0x10, LOW);
    command(rg, device, 2);
  }
  set(rg, 2, 0x10, LOW);
  rg.records[2]!.failures = 1;
  rg.records[1]!.failures = 1;
  command(rg, 2, 2);
  assert.equal(rg.records[1]!.active.size, 0);
  assert.equal(answer(rg, LOW), 0x0100_0000, 'what the lost one had covered answers');
  assert.equal(rg.records[0]!.active.get(0), LOW);
  command(rg, 0, 4);
  assert.equal(answer(rg, LOW), 0xffff_ffff, 'still void');
  command(rg, 1, 0);
  command(rg, 1, 2);
  assert.equal(answer(rg, LOW), 0x0200_0000);
});

test('ioeventfds are there while their place answers, and go with it', () => {
  const rg = rig([[{ index: 0, kind: 'memory32', size: 0x2000, ioeventfds: [{ offset: 0x10, length: 2, fd: 9 }, { offset: 0x1010, length: 0, fd: 10, datamatch: 3 }] }], [{ index: 0, kind: 'memory32', size: 0x1000 }]]);
  set(rg, 0, 0x10, LOW);
  command(rg, 0, 2);
  assert.deepEqual([...rg.events.events.values()].map((event) => event.address), [LOW + 0x10, LOW + 0x1010]);
  set(rg, 1, 0x10, LOW + 0x1000);
  command(rg, 1, 2);
  assert.deepEqual([...rg.events.events.values()], [{ space: 'memory', address: LOW + 0x10, length: 2, fd: 9, datamatch: undefined }]);
  set(rg, 0, 0x10, LOW + 0x4000);
  assert.deepEqual([...rg.events.events.values()].map((event) => event.address), [LOW + 0x4010, LOW + 0x5010]);
  command(rg, 0, 0);
  assert.equal(rg.events.events.size, 0);
});

test('less than a page is trapped, whatever its backing', () => {
  const rg = rig([[{ index: 0, kind: 'memory32', size: 0x100, backing: { hva: HVA, bytes: 0x100, dirtyLog: false } }, { index: 1, kind: 'memory32', size: 0x4000, backing: { hva: HVA, bytes: 0x2800, dirtyLog: false } }]]);
  set(rg, 0, 0x10, LOW + 0x100);
  set(rg, 0, 0x14, LOW + 0x4000);
  command(rg, 0, 2);
  assert.deepEqual([...rg.slots.slots.values()].map(({ gpa, size }) => ({ gpa, size })), [{ gpa: LOW + 0x4000, size: 0x2000 }]);
  assert.equal(answer(rg, LOW + 0x100), 0x0100_0000);
});

test('reset: nothing answers, configuration as after power-on, slots gone', () => {
  const rg = rig([[{ index: 0, kind: 'memory32', size: 0x1000, backing: { hva: HVA, bytes: 0x1000, dirtyLog: true } }]]);
  set(rg, 0, 0x10, LOW);
  command(rg, 0, 6);
  rg.next().host.reset();
  assert.equal(answer(rg, LOW), 0xffff_ffff);
  assert.equal(rg.slots.slots.size, 0);
  assert.equal(configRead(rg.next().io, place(0), 4, 4), 0);
  assert.equal(configRead(rg.next().io, place(0), 0x10, 4), 0);
  assert.deepEqual(rg.records[0]!.calls.at(-1), 'deactivate 0 c0000000');
});

test('in D3 no BAR answers and none is mapped, whatever the command register says; the write itself is told after that', () => {
  const rg = rig([[{ index: 0, kind: 'memory32', size: 0x2000, backing: { hva: HVA, bytes: 0x2000, dirtyLog: false } }]], 3, [{ powerRegister: 0x44, extra: (image) => image.allow(0x44, 1, 3) }]);
  set(rg, 0, 0x10, LOW);
  command(rg, 0, 2);
  assert.equal(rg.slots.slots.size, 1);
  set(rg, 0, 0x44, 3);
  assert.equal(answer(rg, LOW), 0xffff_ffff);
  assert.equal(rg.slots.slots.size, 0);
  command(rg, 0, 0);
  command(rg, 0, 2);
  assert.equal(answer(rg, LOW), 0xffff_ffff);
  set(rg, 0, 0x44, 2);
  assert.equal(answer(rg, LOW), 0x0100_0000);
  assert.equal(rg.slots.slots.size, 1);
  set(rg, 0, 0x44, 3);
  rg.machines[0]!.host.reset();
  command(rg, 0, 2);
  set(rg, 0, 0x10, LOW);
  assert.equal(answer(rg, LOW), 0x0100_0000);
});

test('an interrupt that is raised while a command write waits for the device is not lost (found by the hammer)', () => {
  for (const written of [0x404, 0x406]) {
    const platform = new FakePlatform();
    const machine = testMachine(platform, { slots: new FakeSlots(), parking: new FakeParking(), events: new FakeEvents() });
    const probe = new ProbeDevice(platform, '00:01.0 probe', 1, [{ index: 0, kind: 'memory32', size: 0x1000 }], { interruptPin: 1 });
    machine.host.add(probe, 1);
    machine.host.reset();
    configWrite(machine.io, place(0), 0x10, 4, LOW);
    // Another thread has the device's mutex first.
    const { mutex } = probe;
    const lock = mutex.lock.bind(mutex);
    mutex.lock = () => {
      mutex.lock = lock;
      mutex.run(() => probe.config.setInterrupt(true));
      lock();
    };
    configWrite(machine.io, place(0), 4, 2, written);
    assert.equal(configRead(machine.io, place(0), 4, 4), 0x8_0000 + written);
    assert.equal(platform.level(17), false);
    configWrite(machine.io, place(0), 4, 2, 4);
    assert.equal(platform.level(17), true);
  }
});
