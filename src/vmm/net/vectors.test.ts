import assert from 'node:assert/strict';
import { test } from 'node:test';
import { close } from '../kvm/libc.ts';
import { allocateWindow } from '../memory/window.ts';
import { MAX_VECTORS, nonBlocking, socketPair } from './calls.ts';
import { Vectors, type Pieces } from './vectors.ts';

/** Pieces of a window, `[offset, length]` each. */
function piecesOf(address: number, list: readonly (readonly [number, number])[]): Pieces {
  return { bytes: list.reduce((sum, [, length]) => sum + length, 0), pieces: list.length, hva: (i) => address + list[i]![0], length: (i) => list[i]![1] };
}

test('scattered pieces and private memory go through a socket in one call each way', () => {
  const [a, b] = socketPair();
  try {
    const window = allocateWindow(65536);
    const ram = new Uint8Array(window.buffer, 0, 65536);
    for (let i = 0; i < ram.length; i++) ram[i] = i % 251;
    const out = new Vectors(4);
    out.scratchView.setUint32(0, 0xdeadbeef);
    out.addScratch(0, 4);
    const pieces = piecesOf(window.address, [[100, 10], [0, 0], [5000, 7], [300, 100]]);
    assert.equal(out.addPieces(pieces, 4, 20), 20);
    assert.deepEqual([out.count, out.bytes], [4, 24]);
    assert.equal(out.write(a), 24);
    const into = new Vectors(64);
    into.addScratch(0, 5);
    into.addPieces(piecesOf(window.address, [[60000, 3], [61000, 40]]), 0, 100);
    assert.equal(into.read(b), 24);
    assert.deepEqual([...into.scratch.subarray(0, 5)], [0xde, 0xad, 0xbe, 0xef, 104]);
    assert.deepEqual([...ram.subarray(60000, 60003)], [105, 106, 107]);
    const rest = [108, 109, ...[5000, 5001, 5002, 5003, 5004, 5005, 5006].map((at) => at % 251), ...[300, 301, 302, 303, 304, 305, 306].map((at) => at % 251)];
    assert.deepEqual([...ram.subarray(61000, 61016)], rest);
    assert.equal(ram[61016], 61016 % 251, 'nothing beyond what was read');
  } finally {
    close(a);
    close(b);
  }
});

test('a list takes what there is, and no more than the kernel does', () => {
  const list = new Vectors();
  const pieces = piecesOf(2 ** 46 + 4096, [[0, 8], [16, 8]]);
  assert.equal(list.addPieces(pieces, 12, 100), 4);
  assert.equal(list.addPieces(pieces, 16, 100), 0);
  list.clear();
  assert.deepEqual([list.count, list.bytes, list.room], [0, 0, MAX_VECTORS]);
  for (let i = 0; i < MAX_VECTORS; i++) list.add(2 ** 46, 1);
  assert.throws(() => list.add(2 ** 46, 1), RangeError);
});

test('a call that would wait gives -1', () => {
  const [a, b] = socketPair();
  try {
    nonBlocking(a);
    const list = new Vectors(8);
    list.addScratch(0, 8);
    assert.equal(list.read(a), -1);
    close(b);
    assert.equal(list.read(a), 0, 'the end of the stream');
  } finally {
    close(a);
  }
});
