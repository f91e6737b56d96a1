import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GuestMemory } from '../../memory/guest-memory.ts';
import { allocateWindow } from '../../memory/window.ts';
import { DriverQueue, type Lent } from '../testing/driver.ts';
import { PackedQueue } from './packed-queue.ts';
import { SplitQueue } from './split-queue.ts';
import { QueueError, type Chain, type QueueOptions, type Virtqueue } from './virtqueue.ts';

const LONG = process.env['VITRINE_LONG'] === '1';
const RAM = 2 ** 20;

interface World {
  driver: DriverQueue;
  queue: Virtqueue;
}

/** In two windows that meet in the middle: buffers may span both. One for all tests: a window is never freed. */
const ram = new GuestMemory([0, RAM / 2].map((gpa) => ({ gpa, size: RAM / 2, buffer: allocateWindow(RAM / 2).buffer, offset: 0 })));

function world(options: { size: number; packed: boolean; eventIndex: boolean }): World {
  let free = 64;
  const allocate = (bytes: number, align: number): number => {
    const at = Math.ceil(free / align) * align;
    free = at + bytes;
    return at;
  };
  const driver = new DriverQueue(ram, allocate, { ...options, indirect: true });
  const [descriptors, areaOfDriver, device] = driver.areas;
  const place: QueueOptions = { ram, index: 0, size: options.size, descriptors, driver: areaOfDriver, device, eventIndex: options.eventIndex, indirect: true };
  return { driver, queue: options.packed ? new PackedQueue(place) : new SplitQueue(place) };
}

const forms = fc.record({ size: fc.constantFrom(1, 2, 4, 8, 32), packed: fc.boolean(), eventIndex: fc.boolean() });

/** Host addresses and lengths of a chain's pieces: those to read, and those to write. */
function lent({ readable, writable }: Chain): number[][] {
  return [readable, writable].map((buffers) => Array.from({ length: buffers.pieces }, (_, i) => [buffers.hva(i), buffers.length(i)]).flat());
}

test('what the driver makes available is taken once, in order, with its buffers, and given back in any order', () => {
  const action = fc.oneof(
    fc.record({ do: fc.constant('add' as const), reads: fc.nat(3), writes: fc.nat(3), table: fc.boolean(), at: fc.integer({ min: 1, max: RAM - 40_000 }), length: fc.nat(9000) }),
    fc.record({ do: fc.constant('take' as const), back: fc.boolean() }),
    fc.record({ do: fc.constant('complete' as const), which: fc.nat(100), written: fc.nat(5000) }),
    fc.record({ do: fc.constant('used' as const) }),
    fc.record({ do: fc.constant('ask' as const) }),
  );
  fc.assert(fc.property(forms, fc.array(action, { maxLength: 80 }), (form, actions) => {
    const { driver, queue } = world(form);
    const available: { id: number; buffers: Lent[] }[] = [];
    const taken: { chain: Chain; id: number }[] = [];
    const given: { id: number; written: number }[] = [];
    const hvaOf = (address: number, length: number): number[] => ram.segments(address, length)!.flatMap((segment) => [segment.hva, segment.bytes.length]);
    let expected = 0;
    for (const each of actions) {
      if (each.do === 'add') {
        const count = Math.max(1, each.reads + each.writes);
        const buffers: Lent[] = Array.from({ length: count }, (_, i) => ({ address: each.at + i * 100, length: each.length, writable: i >= each.reads }));
        if (driver.room < (each.table ? 1 : count)) continue;
        available.push({ id: driver.add(buffers, each.table), buffers });
      } else if (each.do === 'take') {
        const chain = queue.take();
        const next = available[0];
        assert.equal(chain === null, next === undefined);
        if (chain === null || next === undefined) continue;
        assert.deepEqual(lent(chain), [false, true].map((writable) => next.buffers.filter((buffer) => buffer.writable === writable).flatMap(({ address, length }) => hvaOf(address, length))));
        if (each.back) queue.untake(chain);
        else {
          available.shift();
          taken.push({ chain, id: next.id });
        }
      } else if (each.do === 'complete' && taken.length > 0) {
        const [{ chain, id }] = taken.splice(each.which % taken.length, 1) as [{ chain: Chain; id: number }];
        queue.complete(chain, each.written);
        given.push({ id, written: each.written });
        expected++;
      } else if (each.do === 'used') assert.deepEqual(driver.used(), given.splice(0));
      else if (each.do === 'ask') {
        const asked = queue.wantsInterrupt();
        // A driver that has seen all but what came since wants to hear; one that never looked has heard of the first already.
        if (expected === 0) assert.equal(asked, false);
        else if (!form.eventIndex) assert.equal(asked, true);
        expected = 0;
      }
    }
    assert.deepEqual(driver.used(), given);
  }), { numRuns: LONG ? 100_000 : 800 });
});

for (const packed of [false, true]) {
  test(`a ${packed ? 'packed' : 'split'} ring: with the event index one interrupt for each time that the driver looked`, () => {
    const { driver, queue } = world({ size: 4, packed, eventIndex: true });
    const request = (): void => {
      driver.add([{ address: 0x8000, length: 16, writable: true }]);
      queue.complete(queue.take()!, 16);
    };
    driver.used(); // the driver waits for the first from now on
    if (packed) {
      driver.view.setUint16(driver.areas[1], 0x8000, true);
      driver.view.setUint16(driver.areas[1] + 2, 2, true);
    }
    for (let i = 0; i < 20; i++) {
      request();
      assert.equal(queue.wantsInterrupt(), true, `request ${i}`);
      request();
      assert.equal(queue.wantsInterrupt(), false, 'it has been told and has not looked');
      assert.equal(driver.used().length, 2);
    }
  });

  test(`a ${packed ? 'packed' : 'split'} ring asks for kicks only when it has found nothing`, () => {
    for (const eventIndex of [false, true]) {
      const { driver, queue } = world({ size: 8, packed, eventIndex });
      const { view, areas } = driver;
      const add = (): void => void driver.add([{ address: 0x8000, length: 16 }]);
      /** Whether the driver would kick for the `nth` request it ever added, as it reads what the device has written. */
      const wouldKick = (nth: number): boolean => {
        if (packed) {
          const flags = view.getUint16(areas[2] + 2, true);
          return flags === 0 || (flags === 2 && (view.getUint16(areas[2], true) & 0x7fff) === nth % 8);
        }
        return eventIndex ? view.getUint16(areas[2] + 4 + 8 * 8, true) === nth : view.getUint16(areas[2], true) === 0;
      };
      assert.equal(queue.take(), null);
      assert.equal(wouldKick(0), true);
      add();
      add();
      const first = queue.take()!;
      add();
      assert.equal(wouldKick(2), false, 'while it is at work');
      const rest = [queue.take()!, queue.take()!];
      assert.equal(queue.take(), null);
      assert.equal(wouldKick(3), true);
      for (const chain of [first, ...rest]) queue.complete(chain, 0);
      assert.equal(driver.used().length, 3);
    }
  });
}

test('a driver that breaks the rules gets a QueueError, and nothing outside its RAM is lent', () => {
  const value = fc.oneof(fc.nat(0xffff_ffff), fc.nat(64), fc.constantFrom(RAM, RAM - 1, RAM / 2, 0xffff_ffff, 0x8000_0000));
  const write = fc.record({ area: fc.nat(2), word: fc.nat(40), value });
  let chains = 0;
  let errors = 0;
  fc.assert(fc.property(forms, fc.array(fc.array(write, { maxLength: 12 }), { maxLength: 12 }), fc.nat(3), (form, rounds, adds) => {
    const { driver, queue } = world(form);
    const low = ram.windowHva(0);
    const high = ram.windowHva(1);
    const lends = (buffers: Chain['readable']): void => {
      for (let i = 0; i < buffers.pieces; i++) {
        const [hva, end] = [buffers.hva(i), buffers.hva(i) + buffers.length(i)];
        assert.ok((hva >= low && end <= low + RAM / 2) || (hva >= high && end <= high + RAM / 2));
      }
    };
    try {
      for (let i = 0; i < adds && driver.room > 0; i++) driver.add([{ address: 0x9000, length: 8 }]);
      for (const writes of rounds) {
        for (const { area, word, value: bits } of writes) driver.view.setUint32(driver.areas[area]! + 4 * (word % Math.max(1, form.size * 4)), bits, true);
        for (let i = 0; i < 4; i++) {
          const chain = queue.take();
          if (chain === null) break;
          chains++;
          lends(chain.readable);
          lends(chain.writable);
          if (i % 2 === 0) queue.complete(chain, 1);
          queue.wantsInterrupt();
        }
      }
    } catch (thrown) {
      if (!(thrown instanceof QueueError)) throw thrown;
      errors++;
    }
  }), { numRuns: LONG ? 1_000_000 : 4000 });
  assert.ok(chains > 100 && errors > 100, `${chains} chains, ${errors} errors`);
});

for (const packed of [false, true]) {
  test(`a ${packed ? 'packed' : 'split'} ring: no more chains are out than it has entries, and not for ever in one turn`, () => {
    const { driver, queue } = world({ size: 4, packed, eventIndex: false });
    if (!packed) {
      for (let i = 0; i < 4; i++) driver.add([{ address: 0x8000, length: 16 }]);
      for (let i = 0; i < 4; i++) assert.notEqual(queue.take(), null);
      // The same heads again, although none came back.
      driver.view.setUint16(driver.areas[1] + 2, 8, true);
      assert.throws(() => queue.take(), (error) => error instanceof QueueError && /more chains are with the device/.test(error.message));
    }
    let told = 0;
    const again = world({ size: 4, packed, eventIndex: false });
    const [descriptors, areaOfDriver, device] = again.driver.areas;
    const place: QueueOptions = { ram, index: 0, size: 4, descriptors, driver: areaOfDriver, device, eventIndex: false, indirect: true, turn: { began: () => {}, exhausted: () => told++ } };
    const limited = packed ? new PackedQueue(place) : new SplitQueue(place);
    const round = (): boolean => {
      again.driver.add([{ address: 0x8000, length: 16 }]);
      const chain = limited.take();
      if (chain === null) return false;
      limited.complete(chain, 0);
      again.driver.used();
      return true;
    };
    let rounds = 0;
    while (round()) assert.ok(++rounds < 10_000);
    assert.equal(told, 1);
    assert.equal(limited.take(), null);
    assert.equal(told, 1, 'once');
    limited.refill();
    assert.notEqual(limited.take(), null, 'what was made available meanwhile');
  });
}

test('queues that cannot be are refused', () => {
  const place: QueueOptions = { ram, index: 3, size: 8, descriptors: 0x1000, driver: 0x2000, device: 0x3000, eventIndex: true, indirect: true };
  for (const Form of [SplitQueue, PackedQueue]) {
    const refused = (change: Partial<QueueOptions>, why: RegExp): void => assert.throws(() => new Form({ ...place, ...change }), (error) => error instanceof QueueError && why.test(error.message), JSON.stringify(change));
    refused({ descriptors: 0x1008 }, /queue 3.*aligned to 16/);
    refused({ device: 0x3002 }, /aligned to 4/);
    refused({ descriptors: RAM - 16 }, /not in RAM/);
    refused({ descriptors: RAM / 2 - 16 }, /not in RAM/);
    refused({ driver: 2 ** 52 }, /not in RAM/);
    refused({ size: 0 }, /0 entries/);
    refused({ size: 65536 }, /65536 entries/);
  }
  assert.throws(() => new SplitQueue({ ...place, size: 6 }), /6 entries/);
});
