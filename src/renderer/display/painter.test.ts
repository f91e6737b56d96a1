import { test } from 'node:test';
import assert from 'node:assert/strict';
import { swizzle } from './painter.ts';

test('B G R X becomes opaque R G B A, in its place and nowhere else', () => {
  const from = new Uint32Array([0x00_11_22_33, 0xff_44_55_66, 0x77_88_99_aa, 0]);
  const to = new Uint32Array(4 * 3);
  swizzle(from, to, 1 * 4 + 1, 2, 2, 4);
  const bytes = [...to].map((word) => word.toString(16).padStart(8, '0'));
  assert.deepEqual(bytes, [
    '00000000', '00000000', '00000000', '00000000',
    '00000000', 'ff332211', 'ff665544', '00000000',
    '00000000', 'ffaa9988', 'ff000000', '00000000',
  ]);
});
