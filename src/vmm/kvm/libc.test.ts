import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { close, eventfd, mapFixed, readable, readAt, reserve, signalEventfd, takeEventfd, unmap, writeAt } from './libc.ts';

const PAGE = 4096;
const HUGE = 2 ** 21;

/** The mappings that touch [address, address + length), each as "start-end access". */
function mappings(address: number, length: number): string[] {
  const lines = readFileSync('/proc/self/maps', 'latin1').split('\n');
  return lines.flatMap((line) => {
    const match = /^([0-9a-f]+)-([0-9a-f]+) (\S+)/.exec(line);
    if (match === null) return [];
    const [start, end] = [Number.parseInt(match[1]!, 16), Number.parseInt(match[2]!, 16)];
    return start < address + length && end > address ? [`${start - address}-${end - address} ${match[3]}`] : [];
  });
}

test('a reservation is aligned, out of reach, and takes mappings piece by piece; all of it goes', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-map-'));
  const file = join(folder, 'file');
  writeFileSync(file, Buffer.alloc(4 * PAGE, 7));
  const fd = openSync(file, 'r+');
  const address = reserve(4 * PAGE, HUGE);
  try {
    assert.equal(address % HUGE, 0);
    // Neighbours of the same kind may be shown as one with it.
    assert.ok(mappings(address, 4 * PAGE).every((each) => each.endsWith('---p')));
    mapFixed(address + PAGE, 2 * PAGE, fd, PAGE);
    assert.deepEqual(mappings(address + PAGE, 2 * PAGE), [`0-${2 * PAGE} rw-s`]);
  } finally {
    unmap(address, 4 * PAGE);
    closeSync(fd);
    rmSync(folder, { recursive: true });
  }
  assert.deepEqual(mappings(address, 4 * PAGE), []);
});

test('reads and writes at an offset; into the middle of an array too', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-at-'));
  const file = join(folder, 'file');
  writeFileSync(file, Buffer.from([0, 1, 2, 3, 4, 5, 6, 7]));
  const fd = openSync(file, 'r+');
  try {
    const bytes = new Uint8Array(8);
    assert.equal(readAt(fd, bytes.subarray(2), 2, 5), 2);
    assert.deepEqual([...bytes], [0, 0, 5, 6, 0, 0, 0, 0]);
    assert.equal(writeAt(fd, bytes.subarray(2), 2, 0), 2);
    assert.deepEqual([...readFileSync(file)], [5, 6, 2, 3, 4, 5, 6, 7]);
    assert.equal(readAt(fd, bytes, 4, 100), 0);
    assert.equal(readAt(-1, bytes, 4, 0), -1);
  } finally {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  }
});

test('an eventfd can be looked at without taking what it counts', () => {
  const fd = eventfd();
  assert.equal(readable(fd), false);
  signalEventfd(fd);
  assert.equal(readable(fd), true);
  assert.equal(readable(fd), true);
  assert.equal(takeEventfd(fd), 1);
  assert.equal(readable(fd), false);
  close(fd);
});
