import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Arena } from './arena.ts';

test('a name gives the same slice in every thread, and slices never share a cache line', () => {
  const arena = new Arena(4096);
  arena.int32('a', 3)[2] = 42;
  arena.uint8('b', 1)[0] = 7;
  const other = Arena.attach(structuredClone(arena.describe()));
  assert.equal(other.int32('a', 3)[2], 42);
  assert.equal(other.uint8('b', 1)[0], 7);
  assert.ok(Math.abs(arena.int32('a', 3).byteOffset - arena.uint8('b', 1).byteOffset) >= 64);
});

test('an attached arena makes nothing, a size is never changed, and a full one says so', () => {
  const arena = new Arena(256);
  arena.int32('a', 1);
  assert.throws(() => Arena.attach(arena.describe()).int32('new', 1), /not allocated by the control thread/);
  assert.throws(() => arena.int32('a', 2), /asked for 8/);
  assert.throws(() => arena.uint8('big', 1000), /full at big/);
});
