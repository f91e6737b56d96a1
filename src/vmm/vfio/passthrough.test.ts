// The virtual half of a device of the host, over a device that is only bytes, on three instances in turn.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { close, eventfd, signalEventfd } from '../kvm/libc.ts';
import { FakeEvents, FakeParking, FakeSlots, TEST_WINDOWS, configRead, configWrite, testMachine } from '../pci/testing.ts';
import { FakePlatform } from '../testing/fake-platform.ts';
import { ADAPTER_BARS, AER, ARI, EXPRESS, MSI, MSIX, PM, SERIAL, SLOT_ID, SRIOV, VENDOR, adapterImage } from './config-images.ts';
import * as V from './ioctls.ts';
import { Passthrough } from './passthrough.ts';
import { FakeFunction, FakeWiring } from './testing.ts';

const SLOT = 3;
const PLACE = SLOT * 8;
const HVA = 0x7f00_0000_0000;
const LOW = TEST_WINDOWS.memory.start;
const TABLE = 0x2000;
const PBA = 0x3000;
const VECTORS = 10;
const TRIGGER = V.VFIO_IRQ_SET_ACTION_TRIGGER;

function rig(irqs: { noresize?: boolean; msix?: number; msi?: number } = {}, config = adapterImage()) {
  const platform = new FakePlatform();
  const shared = { slots: new FakeSlots(), parking: new FakeParking(), events: new FakeEvents() };
  const function_ = new FakeFunction(config, ADAPTER_BARS, {
    [V.VFIO_PCI_INTX_IRQ_INDEX]: { count: 1, flags: 7 }, [V.VFIO_PCI_MSI_IRQ_INDEX]: { count: irqs.msi ?? 4, flags: 9 },
    [V.VFIO_PCI_MSIX_IRQ_INDEX]: { count: irqs.msix ?? VECTORS, flags: irqs.noresize === false ? 1 : 9 },
  });
  const wiring = new FakeWiring();
  const fds: number[] = [];
  const newEventfd = (): number => {
    fds.push(eventfd());
    return fds.at(-1)!;
  };
  const backing = { hva: HVA, bytes: 0x10000, dirtyLog: false, pieces: [{ offset: 0, bytes: 0x2000 }, { offset: 0x4000, bytes: 0xc000 }] };
  const rom = new SharedArrayBuffer(4096);
  new Uint8Array(rom).set([0x55, 0xaa, 8]);
  const machines = [0, 1, 2].map((thread) => {
    const own = thread === 0 ? platform : platform.peer();
    const machine = testMachine(own, shared);
    const device = new Passthrough(own, { address: '0000:03:00.0', slot: SLOT, config, mapped: { 0: backing }, rom: { bytes: rom, size: 4096, backing: { hva: HVA + 0x100000, bytes: 4096, dirtyLog: false } } }, { host: function_, wiring, newEventfd });
    machine.host.add(device, SLOT);
    return { ...machine, device };
  });
  let turn = 0;
  const next = () => machines[turn++ % 3]!;
  const reset = (): void => {
    machines[0]!.device.reset();
    machines[0]!.host.reset();
  };
  reset();
  return {
    host: function_, wiring, platform, reset, slots: shared.slots, device: machines[0]!.device,
    get: (register: number, width: 1 | 2 | 4 = 4) => configRead(next().io, PLACE, register, width),
    set: (register: number, value: number, width: 1 | 2 | 4 = 4) => configWrite(next().io, PLACE, register, width, value),
    extended: (register: number, width: 1 | 2 | 4 = 4) => next().host.read(PLACE, register, width),
    memory: () => next().memory,
    io: () => next().io,
    close: () => fds.forEach((fd) => close(fd)),
    /** The eventfd that VFIO has for a vector, from the calls so far. */
    vfioFd: (index: number, vector: number): number => {
      const call = function_.irqCalls.findLast(({ index: of, action, start, fds: given }) => of === index && action === TRIGGER && given !== null && vector >= start && vector < start + given.length)!;
      return call.fds![vector - call.start]!;
    },
  };
}

/** The capabilities that the guest finds, in order. */
function capabilities(rg: ReturnType<typeof rig>): number[] {
  const found: number[] = [];
  for (let at = rg.get(0x34, 1); at !== 0; at = rg.get(at + 1, 1)) found.push(rg.get(at, 1));
  return found;
}

test('identity, BARs, pin and capabilities: what is safe is there, in the order of the device', () => {
  const rg = rig();
  assert.equal(rg.get(0), 0x10d3_8086);
  assert.equal(rg.get(8), 0x0200_0003);
  assert.equal(rg.get(0x2c), 0x1234_1af4);
  assert.equal(rg.get(0x0e, 1), 0, 'a function of several is alone here');
  assert.equal(rg.get(0x3d, 1), 2);
  assert.equal(rg.get(0x3e, 2), 0x0502);
  assert.deepEqual(capabilities(rg), [0x01, 0x09, 0x05, 0x10, 0x11]);
  for (const [register, size] of [[0x10, 0xffff_000c], [0x14, 0xffff_ffff], [0x18, 0xffff_ffe1], [0x1c, 0xffff_f000], [0x20, 0], [0x24, 0], [0x30, 0xffff_f001]] as const) {
    rg.set(register, 0xffff_ffff);
    assert.equal(rg.get(register), size >>> 0, register.toString(16));
  }
  assert.equal(rg.get(SLOT_ID), 0);
  assert.equal(rg.get(VENDOR + 4), 0xcafe_f00d);
  assert.equal(rg.get(PM + 2, 2), 0x0623, 'no PME from anywhere');
  rg.close();
});

test('an endpoint is shown as integrated, without link; extended capabilities keep their places', () => {
  const rg = rig();
  assert.equal(rg.get(EXPRESS + 2, 2), 0x0092);
  assert.equal(rg.get(EXPRESS + 4), 0x1000_8001);
  assert.equal(rg.get(EXPRESS + 0x0c), 0);
  assert.equal(rg.get(EXPRESS + 0x10), 0);
  assert.equal(rg.get(EXPRESS + 0x24), 0x1f);
  assert.equal(rg.get(EXPRESS + 0x30), 0);
  assert.equal(rg.extended(AER), (0x0001 | (1 << 16) | (SRIOV << 20)) >>> 0);
  assert.equal(rg.extended(AER + 4), 0x0010_0000);
  assert.equal(rg.extended(SRIOV), (SERIAL << 20) >>> 0, 'a null capability that leads on');
  assert.equal(rg.extended(SRIOV + 4), 0);
  assert.equal(rg.extended(SERIAL) & 0xffff, 3);
  assert.equal(rg.extended(SERIAL + 4), 0x89ab_cdef);
  assert.equal(rg.extended(ARI) & 0xffff, 0);
  rg.close();
});

test('what is not virtual is read from the device each time, and written to it once, with the width of the guest', () => {
  const rg = rig();
  rg.host.writes.length = 0;
  for (const [register, width, value] of [[VENDOR + 6, 2, 0x1234], [VENDOR + 6, 2, 0x1234], [EXPRESS + 8, 2, 0x8000], [EXPRESS + 10, 2, 0xf], [0x06, 2, 0xf900], [0x48, 1, 7], [0x0c, 1, 0x10]] as const) {
    rg.set(register, value, width);
    assert.deepEqual(rg.host.writes.splice(0), [`7 ${register.toString(16)} ${width} ${value.toString(16)}`]);
  }
  rg.host.bytes[7]![VENDOR + 8] = 0x77;
  assert.equal(rg.get(VENDOR + 8, 1), 0x77);
  for (const [register, value] of [[0x10, LOW], [0x30, 0], [0x3c, 11], [MSI + 4, 0xfee0_0000], [0x00, 1], [0x2c, 1], [SLOT_ID, 5]] as const) rg.set(register, value);
  assert.deepEqual(rg.host.writes, []);
  rg.close();
});

test('the device decodes before its memory is mapped, and stops only when it is not; so in D3', () => {
  const rg = rig();
  const order: string[] = [];
  const { set, remove } = rg.slots;
  rg.slots.set = (key, slot) => {
    order.push(`map ${slot.gpa.toString(16)}`);
    set.call(rg.slots, key, slot);
  };
  rg.slots.remove = (key) => {
    order.push('unmap');
    remove.call(rg.slots, key);
  };
  const push = rg.host.writes.push.bind(rg.host.writes);
  rg.host.writes.push = (...texts) => {
    order.push(...texts);
    return push(...texts);
  };
  rg.set(0x10, LOW);
  rg.set(4, 6, 2);
  assert.deepEqual(order.splice(0), ['7 4 2 2', `map ${LOW.toString(16)}`, `map ${(LOW + 0x4000).toString(16)}`, '7 4 2 6']);
  rg.set(PM + 4, 3, 2);
  assert.deepEqual(order.splice(0), ['unmap', 'unmap', `7 ${(PM + 4).toString(16)} 2 3`]);
  assert.equal(rg.memory().read(LOW + 0x5000, 4), 0xffff_ffff);
  rg.set(PM + 4, 0x8000, 2);
  assert.deepEqual(order.splice(0), [`7 ${(PM + 4).toString(16)} 2 0`, `map ${LOW.toString(16)}`, `map ${(LOW + 0x4000).toString(16)}`, `7 ${(PM + 4).toString(16)} 2 8000`]);
  rg.set(4, 4, 2);
  assert.deepEqual(order.splice(0), ['unmap', 'unmap', '7 4 2 4']);
  rg.close();
});

test('accesses that are not mapped are forwarded with their width; table and pending bits are not the device\'s', () => {
  const rg = rig();
  rg.set(0x10, LOW);
  rg.set(0x18, 0x1000);
  rg.set(0x1c, LOW + 0x20000);
  rg.set(0x30, (LOW + 0x30000 + 1) >>> 0);
  rg.set(4, 7, 2);
  rg.host.writes.length = 0;
  rg.memory().write(LOW + TABLE + 16, 4, 0xfee0_1000);
  assert.equal(rg.memory().read(LOW + TABLE + 16, 4), 0xfee0_1000);
  rg.memory().write(LOW + PBA, 4, 0xff);
  rg.memory().write(LOW + TABLE + 1, 1, 0xff);
  assert.deepEqual(rg.host.writes, []);
  rg.memory().write(LOW + TABLE + VECTORS * 16, 2, 0x1234);
  rg.memory().write(LOW + 0x20004, 1, 0x56);
  rg.io().write(0x1002, 2, 0x789a);
  assert.deepEqual(rg.host.writes, ['0 20a0 2 1234', '3 4 1 56', '2 2 2 789a']);
  assert.equal(rg.io().read(0x1002, 2), 0x789a);
  assert.equal(rg.memory().read(LOW + 0x30000, 2), 0xaa55);
  new DataView(rg.host.bytes[0]!.buffer).setUint32(PBA, 0x200, true);
  assert.equal(rg.memory().read(LOW + PBA, 4), 0x200);
  rg.close();
});

test('the pin is wired with resampling after a reset, goes when MSI or MSI-X come, and comes again', () => {
  const rg = rig();
  const pin = { gsi: 24 + 0, resample: rg.host.irqCalls[1]!.fds![0] }; // INTB of slot 3 is PIRQ A
  assert.deepEqual([...rg.wiring.wired.values()], [pin]);
  assert.deepEqual(rg.host.irqCalls.map(({ index, action }) => [index, action]), [[0, TRIGGER], [0, V.VFIO_IRQ_SET_ACTION_UNMASK]]);
  rg.host.irqCalls.length = 0;
  rg.set(MSI + 4, 0xfee0_2000);
  rg.set(MSI + 12, 0x4040, 2);
  rg.set(MSI + 2, 0x0021, 2);
  assert.deepEqual(rg.wiring.delivered(), [0, 1, 2, 3].map((vector) => ({ address: 0xfee0_2000, data: 0x4040 | vector })));
  assert.equal(rg.wiring.pins.get(0), 0);
  assert.deepEqual(rg.host.irqCalls[0], { index: 0, action: TRIGGER, start: 0, fds: null });
  assert.equal(rg.host.irqCalls[1]!.fds!.length, 4);
  rg.set(MSI + 2, 0x0011, 2);
  assert.equal(rg.wiring.delivered().length, 2, 'fewer vectors');
  rg.set(MSI + 16, 2);
  assert.deepEqual(rg.wiring.delivered(), [{ address: 0xfee0_2000, data: 0x4040 }], 'one is masked');
  signalEventfd(rg.vfioFd(1, 1));
  assert.equal(rg.get(MSI + 20), 2, 'and pending');
  rg.set(MSI + 12, 0x4080, 2);
  rg.set(MSI + 16, 0);
  assert.deepEqual(rg.wiring.delivered().map(({ data }) => data).sort(), [0x4080, 0x4081]);
  rg.set(MSI + 2, 0, 2);
  assert.deepEqual([...rg.wiring.wired.values()], [pin]);
  assert.equal(rg.wiring.messages.size, 0);
  rg.close();
});

for (const noresize of [true, false]) {
  test(`MSI-X where vectors ${noresize ? 'cannot' : 'can'} grow: wired as they are unmasked, kept while masked, gone when it goes`, () => {
    const rg = rig({ noresize });
    rg.set(0x10, LOW);
    rg.set(4, 6, 2);
    const entry = (vector: number, data: number, control: number): void => {
      [0xfee0_0000, 0, data, control].forEach((value, field) => rg.memory().write(LOW + TABLE + 16 * vector + 4 * field, 4, value));
    };
    const enable = (bits: number): void => rg.set(MSIX + 2, bits, 2);
    rg.host.irqCalls.length = 0;
    enable(0xc000);
    assert.equal(rg.wiring.delivered().length, 0);
    const first = rg.host.irqCalls.find(({ index, fds }) => index === 2 && fds !== null)!;
    assert.deepEqual(first.fds, Array.from({ length: noresize ? VECTORS : 1 }, () => -1));
    for (const vector of [0, 7]) entry(vector, 0x30 + vector, 0);
    assert.equal(rg.wiring.delivered().length, 0, 'masked as a whole');
    enable(0x8000);
    assert.deepEqual(rg.wiring.delivered().map(({ data }) => data), [0x30, 0x37]);
    rg.memory().write(LOW + TABLE + 16 * 7 + 12, 4, 1);
    assert.deepEqual(rg.wiring.delivered().map(({ data }) => data), [0x30]);
    signalEventfd(rg.vfioFd(2, 7));
    assert.equal(rg.memory().read(LOW + PBA, 4), 0x80);
    rg.memory().write(LOW + TABLE + 16 * 7 + 8, 4, 0x55);
    rg.memory().write(LOW + TABLE + 16 * 7 + 12, 4, 0);
    assert.deepEqual(rg.wiring.delivered().map(({ data }) => data), [0x30, 0x55]);
    rg.memory().write(LOW + TABLE + 8, 4, 0x66);
    assert.deepEqual(rg.wiring.delivered().map(({ data }) => data), [0x66, 0x55], 'rewritten unmasked');
    const count = rg.host.irqCalls.length;
    rg.memory().write(LOW + TABLE + 12, 4, 1);
    rg.memory().write(LOW + TABLE + 12, 4, 0);
    assert.equal(rg.host.irqCalls.length, count, 'masking does not concern the host');
    enable(0);
    assert.equal(rg.wiring.messages.size, 0);
    assert.equal([...rg.wiring.wired.values()][0]!.gsi, 24);
    enable(0x8000);
    assert.equal(rg.wiring.delivered().length, 2);
    rg.reset();
    assert.equal(rg.wiring.messages.size, 0);
    assert.equal(rg.get(MSIX + 2, 2), VECTORS - 1);
    assert.equal(rg.host.resets, 2);
    rg.close();
  });
}

test('a device that cannot be reset alone begins quiet all the same: its neighbours\' reset was before', () => {
  const rg = rig();
  rg.host.resettable = false;
  rg.set(4, 6, 2);
  rg.reset();
  assert.equal(rg.host.resets, 1, 'that of its beginning');
  assert.equal(rg.host.read(7, 4, 2) & 7, 0);
  assert.deepEqual(rg.platform.logged, []);
  rg.close();
});

test('fewer vectors than wished are told, and the rest works', () => {
  const rg = rig();
  rg.host.irqResult = (_, count) => (count > 5 ? 5 : 0);
  rg.set(0x10, LOW);
  rg.set(4, 6, 2);
  for (let vector = 0; vector < VECTORS; vector++) [0xfee0_0000, 0, vector, 0].forEach((value, field) => rg.memory().write(LOW + TABLE + 16 * vector + 4 * field, 4, value));
  rg.set(MSIX + 2, 0x8000, 2);
  assert.deepEqual(rg.wiring.delivered().map(({ data }) => data), [0, 1, 2, 3, 4]);
  assert.match(rg.platform.logged.join('\n'), /it has 5 MSI-X vectors of the 10/);
  rg.host.irqResult = () => -28;
  rg.set(MSIX + 2, 0, 2);
  rg.set(MSIX + 2, 0x8000, 2);
  assert.match(rg.platform.logged.join('\n'), /cannot give it 10 MSI-X vectors \(ENOSPC\)/);
  rg.close();
});

test('property: whatever a guest writes, nothing throws, KVM is told consistently, and a reset makes it as it began', () => {
  const width = fc.constantFrom<1 | 2 | 4>(1, 2, 4);
  const register = fc.oneof(fc.nat(0xff), fc.constantFrom(4, 0x10, MSI, MSI + 2, MSI + 12, MSI + 16, MSIX, MSIX + 2, PM + 4));
  const value = fc.oneof(fc.nat(0xffff_ffff), fc.constantFrom(0, 6, LOW, 0x8000, 0xc000, 0xffff_ffff, 0x8000_0000));
  const operation = fc.oneof(
    fc.record({ kind: fc.constant('config' as const), register, width, value }),
    fc.record({ kind: fc.constant('table' as const), register: fc.nat(VECTORS * 4 - 1), width, value }),
  );
  fc.assert(fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
    const rg = rig();
    try {
      const all = (): number[] => Array.from({ length: 1024 }, (_, index) => rg.extended(index * 4));
      const fresh = all();
      rg.set(0x10, LOW);
      rg.set(4, 6, 2);
      for (const each of operations) {
        if (each.kind === 'config') rg.set(each.register & ~(each.width - 1), each.width === 4 ? each.value : each.value & (each.width === 2 ? 0xffff : 0xff), each.width);
        else rg.memory().write(LOW + TABLE + each.register * 4, 4, each.value);
        const mode = rg.device.interrupts.mode;
        assert.equal(rg.wiring.delivered().length > 0 && mode < 2, false);
        assert.equal(rg.wiring.pins.get(0), mode === 1 ? 1 : 0);
      }
      // The device's own registers are not bytes that stay as they were written.
      rg.host.bytes[7]!.set(adapterImage());
      rg.reset();
      rg.host.bytes[7]!.set(adapterImage());
      assert.deepEqual(all(), fresh);
      assert.equal(rg.slots.slots.size, 0);
    } finally {
      rg.close();
    }
  }), { numRuns: 200 });
});
