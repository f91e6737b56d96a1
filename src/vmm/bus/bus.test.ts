import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Arena } from '../sync/arena.ts';
import { Bus, MAX_RANGES } from './bus.ts';
import type { Range } from './bus.ts';
import type { Handler, Width } from './handler.ts';

/** Memory of 256 bytes that notes the widths it is accessed with. */
class Bytes implements Handler {
  readonly bytes = new Uint8Array(256);
  readonly accesses: string[] = [];
  read(offset: number, width: Width): number {
    this.accesses.push(`r${offset}/${width}`);
    let value = 0;
    for (let at = width - 1; at >= 0; at--) value = value * 256 + this.bytes[offset + at]!;
    return value;
  }
  write(offset: number, width: Width, value: number): void {
    this.accesses.push(`w${offset}/${width}`);
    for (let at = 0; at < width; at++) this.bytes[offset + at] = value >>> (8 * at);
  }
}

function one(size = 16, start = 0x100): { bus: Bus; bytes: Bytes; arena: Arena } {
  const arena = new Arena();
  const bus = new Bus(arena, 'memory');
  const bytes = new Bytes();
  const handler = bus.register('bytes', bytes, arena.mutex('m'));
  bus.publish([{ start, size, handler, base: start }]);
  return { bus, bytes, arena };
}

test('nothing there: all ones, and writes are ignored', () => {
  const bus = new Bus(new Arena(), 'io');
  assert.equal(bus.read(0x10, 1), 0xff);
  assert.equal(bus.read(0x10, 2), 0xffff);
  assert.equal(bus.read(2 ** 51, 4), 0xffff_ffff);
  bus.write(0x10, 4, 1);
});

test('an access within a region reaches its handler with its width; over an edge it is cut into bytes', () => {
  const { bus, bytes } = one();
  bus.write(0x104, 4, 0x8899_aabb);
  assert.equal(bus.read(0x104, 4), 0x8899_aabb);
  assert.deepEqual(bytes.accesses.splice(0), ['w4/4', 'r4/4']);
  assert.equal(bus.read(0x10e, 4), 0xffff_0000, 'two bytes of the region, two of nothing');
  assert.equal(bus.read(0xfe, 4), 0x0000_ffff);
  assert.deepEqual(bytes.accesses.splice(0), ['r15/1', 'r14/1', 'r1/1', 'r0/1']);
  bus.write(0xff, 2, 0x1234);
  assert.deepEqual(bytes.accesses.splice(0), ['w0/1']);
  assert.equal(bytes.bytes[0], 0x12);
});

test('exits of 1 to 8 bytes: 8 as two of 4, low first, odd lengths as bytes', () => {
  const { bus, bytes } = one();
  const view = new DataView(new ArrayBuffer(24));
  for (let length = 1; length <= 8; length++) {
    for (let at = 0; at < length; at++) view.setUint8(3 + at, 0x10 * length + at);
    bus.writeBytes(0x102, view, 3, length);
    bus.readBytes(0x102, view, 13, length);
    for (let at = 0; at < length; at++) assert.equal(view.getUint8(13 + at), 0x10 * length + at);
    const seen = bytes.accesses.splice(0).slice(0, length === 8 ? 2 : [1, 2, 4].includes(length) ? 1 : length);
    if (length === 8) assert.deepEqual(seen, ['w2/4', 'w6/4']);
    else if ([1, 2, 4].includes(length)) assert.deepEqual(seen, [`w2/${length}`]);
    else assert.deepEqual(seen, Array.from({ length }, (_, at) => `w${2 + at}/1`));
  }
});

test('addresses beyond 2^32 and offsets from a base below the range', () => {
  const arena = new Arena();
  const bus = new Bus(arena, 'memory');
  const seen: number[] = [];
  const handler = bus.register('far', { read: (offset) => (seen.push(offset), 7), write: () => undefined }, arena.mutex('m'));
  bus.publish([{ start: 2 ** 40 + 0x1000, size: 0x1000, handler, base: 2 ** 40 }]);
  assert.equal(bus.read(2 ** 40 + 0x1004, 4), 7);
  assert.equal(bus.read(2 ** 40, 4), 0xffff_ffff);
  assert.deepEqual(seen, [0x1004]);
});

test('another thread sees the same numbers for names, and a published table at its next access', () => {
  const { bus, arena } = one();
  const other = new Bus(Arena.attach(arena.describe()), 'memory');
  const bytes = new Bytes();
  bytes.bytes[0] = 0x5a;
  assert.equal(other.read(0x100, 1), 0xff, 'published, but not registered in this thread');
  const handler = other.register('bytes', bytes, arena.mutex('m'));
  assert.equal(other.read(0x100, 1), 0x5a);
  bus.publish([{ start: 0x200, size: 16, handler, base: 0x200 }]);
  assert.equal(other.read(0x100, 1), 0xff);
  assert.equal(other.read(0x200, 1), 0x5a);
  bus.publish([]);
  assert.equal(other.read(0x200, 1), 0xff);
});

test('a table that is full is refused before anything changes', () => {
  const { bus } = one();
  const many = Array.from({ length: MAX_RANGES + 1 }, (_, at): Range => ({ start: at * 2, size: 1, handler: 0, base: at * 2 }));
  assert.throws(() => bus.publish(many), /4097 memory ranges/);
  assert.equal(bus.read(0x100, 1), 0);
  bus.publish(many.slice(1));
  assert.equal(bus.ranges().length, MAX_RANGES);
});

test('names: registered twice, empty and too long are mistakes', () => {
  const { bus, arena } = one();
  const handler = new Bytes();
  assert.throws(() => bus.register('bytes', handler, arena.mutex('m')), /twice/);
  assert.throws(() => bus.register('', handler, arena.mutex('m')), /no name/);
  assert.throws(() => bus.register('x'.repeat(65), handler, arena.mutex('m')), /no name/);
});

test('property: lookups agree with a map of addresses, whatever the ranges', () => {
  const layout = fc.array(fc.record({ gap: fc.nat(5), size: fc.integer({ min: 1, max: 9 }), handler: fc.nat(3) }), { maxLength: 30 });
  const accesses = fc.array(fc.record({ address: fc.nat(300), width: fc.constantFrom<Width>(1, 2, 4) }), { maxLength: 40 });
  fc.assert(
    fc.property(fc.array(layout, { maxLength: 3 }), accesses, (layouts, list) => {
      const arena = new Arena();
      const bus = new Bus(arena, 'io');
      // Each byte says who answered and at which offset.
      const byte = (handler: number, offset: number): number => (handler * 61 + offset * 7 + 1) & 0xff;
      const value = (handler: number, offset: number, width: number): number => {
        let all = 0;
        for (let at = width - 1; at >= 0; at--) all = all * 256 + byte(handler, offset + at);
        return all;
      };
      const ids = [0, 1, 2, 3].map((n) => bus.register(`h${n}`, { read: (offset, width) => value(n, offset, width), write: () => undefined }, arena.mutex(`m${n}`)));
      for (const ranges of [...layouts, []]) {
        const model = new Map<number, number>();
        let next = 0;
        bus.publish(
          ranges.map(({ gap, size, handler }): Range => {
            const start = next + gap;
            next = start + size;
            for (let at = 0; at < size; at++) model.set(start + at, byte(handler, at));
            return { start, size, handler: ids[handler]!, base: start };
          }),
        );
        for (const { address, width } of list) {
          let expected = 0;
          for (let at = width - 1; at >= 0; at--) expected = expected * 256 + (model.get(address + at) ?? 0xff);
          assert.equal(bus.read(address, width), expected);
        }
      }
    }),
    { numRuns: 300 },
  );
});

test('a table that names a handler which this thread does not have yet: all ones, and its answer once it is registered', () => {
  const arena = new Arena();
  const first = new Bus(arena, 'memory');
  const handler = first.register('late', new Bytes(), arena.mutex('m'));
  first.publish([{ start: 0x100, size: 16, handler, base: 0x100 }]);
  const second = new Bus(Arena.attach(arena.describe()), 'memory');
  assert.equal(second.read(0x100, 4), 0xffff_ffff);
  second.register('late', { read: () => 7, write: () => undefined }, arena.mutex('m'));
  assert.equal(second.read(0x100, 4), 7);
});
