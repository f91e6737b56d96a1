import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { fromBase64, toBase64 } from './base64.ts';

test('bytes survive, also in pieces', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => assert.deepEqual([...fromBase64(toBase64(bytes))], [...bytes])));
  const many = new Uint8Array(100_000).map((_, i) => i * 7);
  assert.equal(toBase64(many), Buffer.from(many).toString('base64'));
});
