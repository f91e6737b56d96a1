import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { parseSize, sizeWords } from './disks.ts';

test('sizes as people write them', () => {
  assert.deepEqual(['20G', '20 GiB', '20gb', ' 1,5 T', '512', '512 B', '1k', '0'].map((text) => parseSize(text)), [20 * 2 ** 30, 20 * 2 ** 30, 20 * 2 ** 30, 1.5 * 2 ** 40, 512, 512, 1024, 0]);
  assert.equal(parseSize('20', 'g'), 20 * 2 ** 30);
  assert.equal(parseSize('20 MiB', 'g'), 20 * 2 ** 20);
  for (const wrong of ['', 'G', '-1G', '1e3', '20 X', '1..5G', '١G']) assert.ok(Number.isNaN(parseSize(wrong)), wrong);
});

test('sizes in words can be read again, to the digit that they show', () => {
  assert.deepEqual([0, 512, 1024, 1536, 2 ** 20 - 1, 20 * 2 ** 30, 1.25 * 2 ** 40].map(sizeWords), ['0 bytes', '512 bytes', '1 KiB', '1.5 KiB', '1 MiB', '20 GiB', '1.3 TiB']);
  fc.assert(fc.property(fc.integer({ min: 1024, max: Number.MAX_SAFE_INTEGER }), (bytes) => Math.abs(parseSize(sizeWords(bytes)) - bytes) <= bytes * 0.051));
});
