import { test } from 'node:test';
import assert from 'node:assert/strict';
import type { LibraryEntry } from '../../../shared/protocol/front.ts';
import { inOrder, matching } from './order.ts';

function entry(id: string, name: string, origin: 'user' | 'builtin' = 'user', state: LibraryEntry['state'] = 'off'): LibraryEntry {
  return {
    id, state,
    config: {
      version: 1, id, name, origin, memory: 2 ** 29, cpus: 1, boot: { kernel: '/k', append: '' },
      display: { kind: 'canvas', width: 1280, height: 800 }, devices: [], onReset: 'restart', testDevices: false, exitOnHalt: false,
    },
  };
}

test('machines that come along first, then by name with numbers as numbers, whatever their state', () => {
  const entries = [entry('b', 'Node 10'), entry('a', 'node 9', 'user', 'running'), entry('z', 'Try Linux', 'builtin')];
  assert.deepEqual(inOrder(entries).map(({ id }) => id), ['z', 'a', 'b']);
  assert.deepEqual(inOrder(entries.map((one) => ({ ...one, state: 'failed' as const }))).map(({ id }) => id), ['z', 'a', 'b']);
});

test('the search wants every word, in any order and case', () => {
  const entries = [entry('a', 'Debian lab 12'), entry('b', 'Debian trial')];
  assert.deepEqual(matching(entries, '  LAB debian ').map(({ id }) => id), ['a']);
  assert.equal(matching(entries, ' ').length, 2);
  assert.equal(matching(entries, 'x').length, 0);
});
