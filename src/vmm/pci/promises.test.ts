// The promises of docs/pci.md, one by one, on the PCI test device and the machine's own devices without KVM. Each test's name begins with its promise;
// others carry 1 and 10 to KVM (bars-under-fire.kvm.test.ts), to a model (topology.model.test.ts) and to many threads (hammer.test.ts).
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import * as v from 'valibot';
import { machineConfig } from '../../shared/machine-config.ts';
import { programForDirectBoot } from '../arch/x86/chipset/chipset.ts';
import { ECAM_BASE } from '../arch/x86/layout.ts';
import { CLASS_CODE as DISPLAY_CLASS, VRAM_BYTES } from '../display/adapter.ts';
import * as t from '../devices/pci-test/pci-test.ts';
import { PciTestStore } from '../devices/pci-test/parts.ts';
import { pciTestConfig, pciTestRig, type PciTestRig } from '../devices/pci-test/testing.ts';
import { buildDevices, type DeviceOptions } from '../machine/devices.ts';
import { fwCfgItems } from '../machine/direct-boot.ts';
import { equip } from '../machine/plugged.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import { allocateWindow } from '../memory/window.ts';
import { FakePlatform } from '../testing/fake-platform.ts';
import { FakeWiring } from '../vfio/testing.ts';
import { barAddress, barDecodes, barRegister, barSpace, barTypeBits, barWriteMasks, decodeBit } from './bar.ts';
import { FakeEvents, FakeMsi, FakeParking, FakeSlots, ProbeDevice, TEST_WINDOWS, configRead, configWrite, testMachine } from './testing.ts';
import { LOW, answer, command, place, rig, set } from './test-rig.ts';
import type { Width } from '../bus/handler.ts';
import type { BarDescription, PciDevice } from './device.ts';
import type { RemoverData } from './promises-worker.ts';

const BAR0 = LOW + 0x10_0000;
const BAR2 = LOW + 0x20_0000;
const PORTS = 0x2000;
const HIGH = TEST_WINDOWS.high!.start;
const COMMAND = 4;
const IO = 1;
const MEMORY = 2;

/** BAR 0, 1 and 2 of function `which` at these places, `by` bytes on; decode as said. */
function placed(rg: PciTestRig, which = 0, by = 0, decode = IO | MEMORY): PciTestRig {
  rg.set(which, 0x10, BAR0 + by);
  rg.set(which, 0x14, PORTS + by / 16);
  rg.set(which, 0x18, BAR2 + by * 256);
  rg.set(which, COMMAND, decode, 2);
  return rg;
}

test('promise 1: a thread inside a handler survives the removal of its device by another, and nothing is freed under it', async () => {
  const rg = placed(pciTestRig());
  const device = rg.tests[1]![0]!;
  const [slot, parts] = [rg.places[0]! >> 3, equip(pciTestConfig(), 30, rg.store).parts];
  const word = rg.platform.arena.int32(`${device.label}.lock`, 1);
  device.mutex.lock(); // as a vCPU has it for as long as it is inside a handler
  const worker = new Worker(new URL('./promises-worker.ts', import.meta.url), { workerData: { arena: rg.platform.arena.describe(), slot, parts } satisfies RemoverData });
  const gone = once(worker, 'exit');
  const waiting = (): boolean => Atomics.load(word, 0) === 2; // held, and somebody waits
  while (!waiting()) await Promise.race([new Promise((resolve) => setImmediate(resolve)), gone.then(() => assert.fail('the remover did not wait'))]);
  const bar0 = device.config.bars.find(({ index }) => index === 0)!;
  assert.equal(bar0.handler.read(t.MAGIC, 4), t.MAGIC_VALUE, 'the access goes on to its end');
  assert.ok(rg.machines[0]!.memory.ranges().some(({ start }) => start === BAR0), 'the region is still there');
  bar0.handler.write(t.SCRATCH, 4, 7);
  device.mutex.unlock();
  assert.deepEqual(await gone, [0]);
  assert.equal(rg.read(BAR0), 0xffff_ffff, 'no access reaches it any more');
  assert.equal(rg.config(0, 0), 0xffff_ffff);
  assert.equal(device.register(t.SCRATCH), 7, 'what this thread has of it stays until it drops it itself');
});

const kind = fc.constantFrom<BarDescription['kind']>('io', 'memory32', 'memory64', 'rom');
const description = fc.record({ kind, bits: fc.nat(30), prefetchable: fc.boolean() }).map(({ kind: of, bits, prefetchable }): BarDescription => {
  const [least, most] = { io: [2, 8], memory32: [4, 31], memory64: [4, 38], rom: [11, 24] }[of] as [number, number];
  return { index: of === 'rom' ? 6 : 2, kind: of, size: 2 ** Math.min(most, least + bits), prefetchable: prefetchable && of.startsWith('memory'), handler: { read: () => 0, write: () => undefined } };
});

test('promise 2: kind, address, size and decode have one set of helpers, and configuration space, bus and device agree with it', () => {
  fc.assert(fc.property(description, fc.nat(0xffff_ffff), fc.nat(0xffff_ffff), fc.nat(7), (bar, low, high, bits) => {
    const platform = new FakePlatform();
    const machine = testMachine(platform, { slots: new FakeSlots(), parking: new FakeParking(), events: new FakeEvents() });
    const probe = new ProbeDevice(platform, 'probe', 1, [bar]);
    machine.host.add(probe, 1);
    machine.host.reset();
    const register = barRegister(bar.index);
    const masks = barWriteMasks(bar);
    const dword = (at: number): number => configRead(machine.io, 8, at, 4);
    // Sizing: what stays zero of all ones is the size.
    configWrite(machine.io, 8, register, 4, 0xffff_ffff);
    if (bar.kind === 'memory64') configWrite(machine.io, 8, register + 4, 4, 0xffff_ffff);
    const zero = barAddress(bar, (at) => (at === register + 4 ? 0 : dword(at)));
    assert.equal(zero === 0 ? (-dword(register + 4) >>> 0) * 2 ** 32 : 2 ** 32 - zero, bar.size);
    configWrite(machine.io, 8, register, 4, low);
    if (bar.kind === 'memory64') configWrite(machine.io, 8, register + 4, 4, high);
    configWrite(machine.io, 8, COMMAND, 2, bits);
    assert.equal(dword(register), ((low & masks.low) | barTypeBits(bar)) >>> 0);
    const where = machine.topology.run(() => machine.topology.whereIs(probe, bar.index));
    assert.equal(where.address, barAddress(bar, dword));
    assert.equal(probe.config.barAddress(bar.index), where.address);
    assert.equal(where.address % bar.size, 0);
    const decodes = (bits & decodeBit(bar.kind)) !== 0 && (bar.kind !== 'rom' || (low & 1) !== 0);
    assert.equal(barDecodes(bar, dword), decodes);
    const windows = barSpace(bar.kind) === 'io' ? [TEST_WINDOWS.io] : [TEST_WINDOWS.memory, TEST_WINDOWS.high!];
    assert.equal(where.answers, decodes && windows.some(({ start, end }) => where.address >= start && where.address + bar.size <= end));
  }), { numRuns: 500 });
});

test('promise 3: a device takes a region\'s address from its BAR at the time of access', () => {
  const rg = placed(pciTestRig());
  const where = (): [number, number] => [rg.next().io.read(PORTS + t.BAR_LOW, 4), rg.next().io.read(PORTS + t.BAR_HIGH, 4)];
  const select = (bar: number): void => rg.next().io.write(PORTS + t.BAR_SELECT, 4, bar);
  select(2);
  assert.deepEqual(where(), [BAR2, 0]);
  rg.set(0, 0x18, 0x40_0000);
  assert.deepEqual(where(), [0x40_0000, 0], 'half written');
  rg.set(0, 0x1c, HIGH / 2 ** 32);
  assert.deepEqual(where(), [0x40_0000, HIGH / 2 ** 32]);
  select(0);
  for (const base of [BAR0 + 0x10_0000, BAR0 + 0x4000, 0xffff_ffff, 0]) {
    rg.set(0, 0x10, base);
    assert.deepEqual(where(), [(base & 0xffff_e000) >>> 0, 0], 'in every thread at once');
  }
  rg.set(0, COMMAND, IO, 2);
  rg.set(0, 0x10, BAR0);
  assert.deepEqual(where(), [BAR0, 0], 'decode off or on');
  select(3);
  assert.deepEqual(where(), [0xffff_ffff, 0xffff_ffff], 'there is no BAR 3');
});

test('promise 4: an I/O BAR claims its ports when it is configured, not when it is made', () => {
  const rg = pciTestRig();
  const ports = (): number => rg.machines[0]!.io.ranges().filter(({ start }) => start >= TEST_WINDOWS.io.start).length;
  assert.equal(ports(), 0, 'made');
  rg.set(0, 0x14, PORTS);
  assert.equal(ports(), 0, 'placed, but not decoding');
  rg.set(0, COMMAND, IO, 2);
  assert.equal(ports(), 1);
  assert.equal(rg.next().io.read(PORTS, 4), t.MAGIC_VALUE);
  rg.set(0, 0x14, PORTS + 0x100);
  assert.deepEqual([rg.next().io.read(PORTS, 4), rg.next().io.read(PORTS + 0x100, 4)], [0xffff_ffff, t.MAGIC_VALUE]);
  rg.set(0, 0x14, 0);
  assert.equal(ports(), 0, 'address 0 lies in no window');
});

/** A machine with one probe that notes the configuration writes it sees, and ECAM. */
function witness(): { seen: [number, Width, number][]; machines: ReturnType<typeof testMachine>[]; ecam: number; place: number; probes: ProbeDevice[] } {
  const platform = new FakePlatform();
  const shared = { slots: new FakeSlots(), parking: new FakeParking(), events: new FakeEvents() };
  const seen: [number, Width, number][] = [];
  const probes: ProbeDevice[] = [];
  const machines = [platform, platform.peer()].map((own) => {
    const machine = testMachine(own, shared);
    machine.topology.addRange('ecam here', 'memory', ECAM_BASE, 2 ** 20, machine.host.ecam, machine.topology.lock);
    const probe = new ProbeDevice(own, 'probe', 1, [{ index: 0, kind: 'memory32', size: 0x1000 }]);
    (probe as PciDevice).configWritten = (offset, width, value) => seen.push([offset, width, value]);
    probes.push(probe);
    machine.host.add(probe, 3);
    return machine;
  });
  machines[0]!.host.reset();
  return { seen, machines, ecam: ECAM_BASE + 3 * 8 * 4096, place: 3 * 8, probes };
}

test('promise 5: configuration transactions are at most 32 bits and never cross a dword, by ports and by ECAM', () => {
  const { seen, machines, ecam, place: at } = witness();
  const [{ memory, io }] = machines as [typeof machines[0], ...typeof machines];
  const view = new DataView(new ArrayBuffer(8));
  const access = fc.record({ by: fc.constantFrom('ecam', 'ports'), offset: fc.integer({ min: 0x38, max: 0x50 }), length: fc.integer({ min: 1, max: 8 }), latch: fc.integer({ min: 0x3c, max: 0x48 }) });
  fc.assert(fc.property(access, fc.nat(2 ** 31), ({ by, offset, length, latch }, value) => {
    seen.length = 0;
    view.setUint32(0, value, true);
    view.setUint32(4, ~value >>> 0, true);
    if (by === 'ecam') memory.writeBytes(ecam + offset, view, 0, length);
    else {
      io.write(0xcf8, 4, (0x8000_0000 | (at << 8) | (latch & 0xfc)) >>> 0);
      io.writeBytes(0xcfc + (offset & 3), view, 0, length);
    }
    for (const [register, width] of seen) assert.ok([1, 2, 4].includes(width) && (register & 3) + width <= 4, `${register} ${width}`);
    // Every byte arrives once, at its place; by the ports those within the data register.
    const bytes = seen.flatMap(([register, width, written]) => Array.from({ length: width }, (_, byte) => [register + byte, (written >>> (8 * byte)) & 0xff]));
    const first = by === 'ecam' ? offset : (latch & 0xfc) + (offset & 3);
    const count = by === 'ecam' ? length : Math.min(length, 4 - (offset & 3));
    assert.deepEqual(bytes, Array.from({ length: count }, (_, byte) => [first + byte, view.getUint8(byte)]));
  }), { numRuns: 500 });
});

test('promise 6: a configuration write reaches the device once, whatever it changes; one that is undone, never', () => {
  const rg = placed(pciTestRig());
  const seen = (): number => rg.next().io.read(PORTS + t.CONFIG_WRITES, 4);
  const last = (): [number, number] => [rg.next().io.read(PORTS + t.CONFIG_LAST, 4), rg.next().io.read(PORTS + t.CONFIG_VALUE, 4)];
  let count = seen();
  const once = (what: string, offset: number, value: number, width: Width, times = 1): void => {
    rg.set(0, offset, value, width);
    count += times;
    assert.equal(seen(), count, what);
    if (times > 0) assert.deepEqual(last(), [(width << 16) | offset, value], what);
  };
  once('moves a BAR that decodes', 0x10, BAR0 + 0x4000, 4);
  once('writes what is there', 0x10, BAR0 + 0x4000, 4);
  once('switches decode', COMMAND, IO, 2);
  once('switches it back', COMMAND, IO | MEMORY, 2);
  once('changes nothing, for the register is read-only', 0x00, 0, 4);
  once('has one byte', 0x3c, 0x0b, 1);
  once('clears by one', 0x06, 0xffff, 2);
  rg.tests[0]![0]!.failActivations(1);
  once('is undone', 0x10, BAR0, 4, 0);
  assert.equal(rg.config(0, 0x10), BAR0 + 0x4000);
  once('is done', 0x10, BAR0, 4);

  const { seen: direct, machines, ecam } = witness();
  machines[1]!.memory.write(ecam + 0x10, 4, LOW);
  machines[0]!.memory.write(ecam + 0x3c, 1, 5);
  assert.deepEqual(direct, [[0x10, 4, LOW], [0x3c, 1, 5]], 'by ECAM too, on the thread that wrote');
});

/** A machine's own devices: display, test devices, chipset; three threads. */
function wholeMachine() {
  const platform = new FakePlatform();
  const ram = GuestMemory.allocate(16 * 2 ** 20);
  const vram = allocateWindow(VRAM_BYTES);
  const shared = { slots: new FakeSlots(), parking: new FakeParking(), events: new FakeEvents(), msi: new FakeMsi(), interrupts: new FakeWiring() };
  const store = new PciTestStore();
  const plugged = [equip(pciTestConfig({ functions: 2 }), 3, store), equip(pciTestConfig({ window: 2 ** 30, sharedMsix: true }), 4, store)];
  const options: DeviceOptions = { cpus: 1, physicalBits: 40, display: { width: 1280, height: 800, vram: vram.buffer }, testDevices: false, plugged, fwCfg: fwCfgItems(ram.size, 1).describe() };
  const all = [platform, platform.peer(), platform.peer()].map((own) => buildDevices(own, ram, options, shared));
  for (const device of all[0]!.all) device.reset();
  all[0]!.host.reset();
  programForDirectBoot(all[0]!.host, all[0]!.chipset);
  let turn = 0;
  return { all, control: all[0]!, next: () => all[turn++ % 3]!, ...shared };
}

test('promise 7: no more than one framebuffer backend', () => {
  const base = { version: 1, id: 'a', name: 'A', memory: 64 * 2 ** 20, cpus: 1, boot: { kernel: '/k' } };
  const why = (more: object): string => {
    const checked = v.safeParse(machineConfig, { ...base, ...more });
    return checked.success ? 'accepted' : checked.issues[0].message;
  };
  assert.equal(why({ display: { kind: 'canvas' } }), 'accepted');
  for (const display of [[{ kind: 'canvas' }, { kind: 'canvas' }], { kind: 'canvas,vnc' }, { kind: ['canvas', 'none'] }]) assert.match(why({ display }), /at most one display backend/);
  assert.match(why({ devices: [{ kind: 'display' }] }), /no PCI device of the kind "display"/);
  const displays = wholeMachine().control.host.functions().filter(({ device }) => (device.config.dword(8) >>> 8) === DISPLAY_CLASS);
  assert.equal(displays.length, 1);
});

test('promise 8: activate and deactivate are called on real changes only, and errors name the device', () => {
  const rg = placed(pciTestRig());
  const counts = (): [number, number] => [t.ACTIVATIONS, t.DEACTIVATIONS].map((register) => rg.tests[0]![0]!.register(register)) as [number, number];
  const begun = counts();
  const change = (write: () => void, on: number, off: number, what: string): void => {
    const before = counts();
    write();
    const now = counts();
    assert.deepEqual([now[0] - before[0], now[1] - before[1]], [on, off], what);
  };
  assert.deepEqual(begun, [3, 0], 'BARs 0, 1 and 2; the others have no address in a window');
  change(() => rg.set(0, 0x10, BAR0), 0, 0, 'the same address');
  change(() => rg.set(0, 0x10, BAR0 + 0xff0), 0, 0, 'bits below the size');
  change(() => rg.set(0, COMMAND, IO | MEMORY | 4, 2), 0, 0, 'bus master');
  change(() => rg.set(0, 0x24, 0xfec0_0000), 0, 0, 'from outside to outside');
  change(() => rg.set(0, 0x10, 0xffff_ffff), 0, 1, 'sizing');
  change(() => rg.set(0, 0x10, BAR0), 1, 0, 'back');
  change(() => rg.set(0, 0x10, BAR0 + 0x2000), 1, 1, 'moved');
  change(() => rg.set(0, COMMAND, IO, 2), 0, 2, 'memory decode off');
  change(() => rg.set(0, 0x10, BAR0), 0, 0, 'moved while off');
  change(() => rg.set(0, 0x30, LOW + 1), 0, 0, 'a ROM enabled without memory decode');
  change(() => rg.set(0, COMMAND, IO | MEMORY, 2), 3, 0, 'on again, the ROM too');
  rg.tests[0]![0]!.failActivations(1);
  rg.set(0, 0x10, BAR0 + 0x2000);
  assert.match(rg.platform.logged.at(-1)!, /^pci: cannot activate 00:01\.0 pci-test bar0 at 0xc0102000: BAR 0 was told to fail$/);
});

test('promise 9: I/O and memory decode in the command register turn emulation on and off, each its own kind', () => {
  const rg = placed(pciTestRig());
  const answers = (): [boolean, boolean, number] => [rg.read(BAR0) === t.MAGIC_VALUE, rg.next().io.read(PORTS, 4) === t.MAGIC_VALUE, rg.slots.slots.size + rg.events.events.size];
  for (let round = 0; round < 3; round++) {
    for (const [bits, expected] of [[IO | MEMORY, [true, true, 2]], [MEMORY, [true, false, 2]], [0, [false, false, 0]], [IO, [false, true, 0]]] as const) {
      rg.set(0, COMMAND, bits, 2);
      assert.deepEqual(answers(), expected, `command ${bits}`);
    }
  }
});

test('promise 10: devices move over each other while they decode, both ways and three at once; the covered one answers again', () => {
  const rg = pciTestRig([pciTestConfig({ slot: 3 }), pciTestConfig({ slot: 4 }), pciTestConfig({ slot: 5 })]);
  [0, 1, 2].forEach((which) => placed(rg, which, which * 0x2000));
  const who = (address: number): number => {
    const instance = rg.read(address + t.INSTANCE);
    return instance === 0xffff_ffff ? -1 : (instance >> 3) - 3;
  };
  const homes = [0, 1, 2].map((which) => BAR0 + which * 0x2000);
  const all = (): number[] => homes.map(who);
  assert.deepEqual(all(), [0, 1, 2]);
  rg.set(0, 0x10, homes[1]!);
  assert.deepEqual(all(), [-1, 0, 2], 'the first over the second');
  rg.set(0, 0x10, homes[0]!);
  assert.deepEqual(all(), [0, 1, 2]);
  rg.set(1, 0x10, homes[0]!);
  assert.deepEqual(all(), [1, -1, 2], 'the second over the first');
  rg.set(2, 0x10, homes[0]!);
  assert.deepEqual(all(), [2, -1, -1], 'three at one place');
  rg.set(2, COMMAND, 0, 2);
  assert.deepEqual(all(), [1, -1, -1]);
  rg.set(1, 0x10, homes[1]!);
  assert.deepEqual(all(), [0, 1, -1], 'and what was covered first answers');
  rg.set(2, COMMAND, MEMORY, 2);
  assert.deepEqual(all(), [2, 1, -1], 'decode switched on is newest');
  // In turn, each to the next one's place, as a system does that allots anew without switching decode off.
  rg.set(2, 0x10, homes[1]!);
  rg.set(0, 0x10, homes[2]!);
  rg.set(1, 0x10, homes[0]!);
  assert.deepEqual(all(), [1, 2, 0]);
});

test('promise 10: what was mapped moves with who answers, in part too, and the content is the device\'s', () => {
  const rg = pciTestRig([pciTestConfig({ slot: 3 }), pciTestConfig({ slot: 4 })]);
  placed(rg, 0);
  placed(rg, 1, 0x8000);
  const [first, second] = rg.tests[0]!.map((device) => device.config.bars.find(({ index }) => index === 2)!.backing!.hva) as [number, number];
  const mapped = (): [number, number, number][] => [...rg.slots.slots.values()].map(({ gpa, size, hva }): [number, number, number] => [gpa - BAR2, size, hva - (hva >= first && hva < first + t.MEMORY_BYTES ? first : second)]).sort((a, b) => a[0] - b[0]);
  rg.write(BAR2 + 0x4000, 0x1111);
  rg.set(1, 0x18, BAR2);
  assert.equal(rg.read(BAR2 + 0x4000), 0);
  assert.equal(mapped().length, 1);
  rg.set(1, 0x18, BAR2 + 0x2_0000);
  assert.equal(rg.read(BAR2 + 0x4000), 0x1111, 'as it was before it was covered');
  rg.set(1, 0x10, BAR2 + 0x4000);
  assert.equal(rg.read(BAR2 + 0x4000 + t.INSTANCE), 4 * 8, 'registers in the midst of memory');
  assert.deepEqual(mapped(), [[0, 0x4000, 0], [0x6000, 0x9000, 0x6000], [0x2_0000, 0xf000, 0]]);
  assert.ok(rg.parking.count > 0 && !rg.parking.parked, 'the vCPUs stood still meanwhile');
});

test('promise 10: when an activation fails, the write has not been, with all that it covered and uncovered', () => {
  const rg = pciTestRig([pciTestConfig({ slot: 3 }), pciTestConfig({ slot: 4 }), pciTestConfig({ slot: 5 })]);
  [0, 1, 2].forEach((which) => placed(rg, which, which * 0x2000));
  rg.set(1, 0x10, BAR0); // covers 0
  const state = (): unknown => [rg.machines[0]!.memory.ranges(), rg.machines[0]!.io.ranges(), [...rg.slots.slots].sort(), [...rg.events.events].sort(), rg.places.map((_, which) => [COMMAND, 0x10, 0x14, 0x18].map((register) => rg.config(which, register)))];
  const before = JSON.stringify(state());
  const undone = (fails: number, write: () => void, what: string): void => {
    rg.tests[0]![fails]!.failActivations(1);
    write();
    assert.equal(JSON.stringify(state()), before, what);
    assert.equal(rg.tests[0]![fails]!.register(t.FAIL), 0, `${what}: it was tried`);
  };
  undone(1, () => rg.set(1, 0x10, BAR0 + 0x4000), 'who moves cannot');
  undone(0, () => rg.set(1, 0x10, BAR0 + 0x4000), 'who is uncovered cannot');
  undone(0, () => rg.set(1, COMMAND, 0, 2), 'who is uncovered by decode off cannot');
  rg.slots.refusals = 1;
  rg.set(2, 0x18, BAR2 + 0x100_0000);
  assert.equal(JSON.stringify(state()), before, 'KVM refuses a slot');
});

test('promise 11: what is not aligned to pages, or smaller than one, is trapped and not mapped', () => {
  const rg = pciTestRig();
  const mapped = (): { gpa: number; size: number }[] => [...rg.slots.slots.values()].map(({ gpa, size }) => ({ gpa, size }));
  rg.set(0, 0x24, LOW + 0x5100); // 256 bytes, in the midst of a page, of memory in the midst of one
  rg.set(0, COMMAND, MEMORY, 2);
  assert.deepEqual(mapped(), []);
  rg.write(LOW + 0x5110, 0x1234_5678);
  assert.equal(rg.read(LOW + 0x5110), 0x1234_5678);
  rg.set(0, 0x18, BAR2);
  assert.deepEqual(mapped(), [{ gpa: BAR2, size: 0xf000 }], 'the half page at the end of the memory is not');
  rg.set(0, 0x24, BAR2 + 0x4100); // over the mapped one: its page cannot be whole any more
  assert.deepEqual(mapped(), [{ gpa: BAR2, size: 0x4000 }, { gpa: BAR2 + 0x5000, size: 0xa000 }]);
  rg.write(BAR2 + 0x40f0, 0xaaaa);
  rg.write(BAR2 + 0x4200, 0xbbbb);
  assert.deepEqual([0x40f0, 0x4110, 0x4200].map((offset) => rg.read(BAR2 + offset)), [0xaaaa, 0x1234_5678, 0xbbbb], 'and around it the other answers');

  const crooked = rig([[{ index: 0, kind: 'memory32', size: 0x4000, backing: { hva: 0x7f00_0000_0800, bytes: 0x4000, dirtyLog: true } }]]);
  set(crooked, 0, 0x10, LOW);
  command(crooked, 0, MEMORY);
  assert.equal(crooked.slots.slots.size, 0, 'whole pages at a crooked address');
  assert.equal(answer(crooked, LOW + 0x1000), 0x0100_1000);
  assert.equal(configRead(crooked.next().io, place(0), COMMAND, 2), MEMORY);
});

test('promise 12: a system may place everything anew, decode on, in the order that it likes', () => {
  const { control, next, slots } = wholeMachine();
  const functions = control.host.functions();
  const config = (at: number, register: number): number => configRead(next().io, at, register, 4);
  const write = (at: number, register: number, value: number): void => configWrite(next().io, at, register, 4, value);
  const { io, memory, high } = control.topology.windows;
  for (const direction of ['down', 'up'] as const) {
    const room = { io: direction === 'down' ? io.end : io.start, memory: direction === 'down' ? memory.end : memory.start, high: direction === 'down' ? high!.end : high!.start };
    const take = (window: keyof typeof room, size: number): number => {
      if (direction === 'down') return (room[window] = Math.floor((room[window] - size) / size) * size);
      const at = Math.ceil(room[window] / size) * size;
      room[window] = at + size;
      return at;
    };
    const order = direction === 'down' ? functions : functions.toReversed();
    for (const { slot, number, device } of order) {
      const at = slot * 8 + number;
      for (const bar of device.config.bars) {
        const register = barRegister(bar.index);
        const wide = bar.kind === 'memory64';
        // Size it as every system does, each half by itself, while it decodes.
        const [low, upper] = [config(at, register), wide ? config(at, register + 4) : 0];
        write(at, register, 0xffff_ffff);
        const lowSize = config(at, register) & (bar.kind === 'io' ? ~3 : bar.kind === 'rom' ? ~0x7ff : ~15);
        write(at, register, low);
        if (wide) {
          write(at, register + 4, 0xffff_ffff);
          assert.equal(config(at, register + 4), 0xffff_ffff);
          write(at, register + 4, upper);
        }
        assert.equal((-lowSize >>> 0), bar.size);
        const address = take(bar.kind === 'io' ? 'io' : wide && (direction === 'down' || bar.size > 2 ** 28) ? 'high' : 'memory', bar.size);
        if (wide) write(at, register + 4, Math.floor(address / 2 ** 32));
        write(at, register, (address % 2 ** 32) + (bar.kind === 'rom' ? 1 : 0));
        const where = control.topology.run(() => control.topology.whereIs(device, bar.index));
        assert.deepEqual(where, { address, answers: true }, `${device.label} BAR ${bar.index}`);
      }
    }
    for (const { slot, number, device } of functions.filter(({ slot: each }) => each === 3 || each === 4)) {
      assert.equal(next().memory.read(device.config.barAddress(0) + t.INSTANCE, 4), slot * 8 + number);
      assert.equal(next().io.read(device.config.barAddress(1), 4), t.MAGIC_VALUE);
      assert.equal(next().memory.read(device.config.barAddress(6), 2), 0xaa55);
    }
    const display = control.display!;
    assert.equal(next().memory.read(display.config.barAddress(2) + 0x500, 2), 0xb0c5);
    assert.ok([...slots.slots.values()].some(({ gpa, size }) => gpa === display.config.barAddress(0) && size === VRAM_BYTES), 'the picture is mapped where it is now');
  }
  // ECAM and the power management block, too.
  write(0, 0x60, 0x9000_0005);
  assert.equal(next().memory.read(0x9000_0000, 4), 0x29c0_8086);
  write(31 * 8, 0x40, 0x8001);
  assert.equal(control.chipset.lpc.pm()!.start, 0x8000);
  assert.notEqual(next().io.read(0x8008, 4), 0xffff_ffff);
});

test('promise 12: nothing of ours asks a guest to leave its PCI devices alone', () => {
  const crutch = /probe-only|["'` ]pci=/;
  const top = join(import.meta.dirname, '..');
  const sources = readdirSync(top, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'));
  assert.ok(sources.length > 100);
  assert.deepEqual(sources.filter((file) => crutch.test(readFileSync(join(top, file), 'utf8'))), []);
});
