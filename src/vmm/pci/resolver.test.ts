import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { resolve } from './resolver.ts';
import type { Claim } from './resolver.ts';

const WINDOWS = [
  { start: 10, end: 40 },
  { start: 50, end: 70 },
];

const claim = (address: number, size: number, sequence: number, decode = true, fixed = false): Claim => ({ address, size, sequence, decode, fixed });
const shape = (claims: Claim[]): string[] => resolve(claims, WINDOWS).map(({ start, end, claim: by }) => `${start}-${end}:${by.sequence}`);

test('a claim answers only if it decodes and lies wholly in one window', () => {
  assert.deepEqual(shape([claim(12, 4, 1)]), ['12-16:1']);
  assert.deepEqual(shape([claim(12, 4, 1, false)]), []);
  assert.deepEqual(shape([claim(8, 4, 1), claim(38, 4, 2), claim(36, 20, 3), claim(0, 4, 4)]), []);
  assert.deepEqual(shape([claim(10, 30, 1), claim(50, 20, 2)]), ['10-40:1', '50-70:2']);
});

test('the newest answers; what it covered answers around it, and again when it goes', () => {
  const old = claim(10, 30, 1);
  assert.deepEqual(shape([old, claim(20, 5, 2)]), ['10-20:1', '20-25:2', '25-40:1']);
  assert.deepEqual(shape([claim(20, 5, 2), old]), ['10-20:1', '20-25:2', '25-40:1']);
  assert.deepEqual(shape([claim(10, 30, 3), claim(20, 5, 2)]), ['10-40:3'], 'an older one beneath leaves no seam');
  assert.deepEqual(shape([old]), ['10-40:1']);
});

test('fixed claims need no window and win over all', () => {
  assert.deepEqual(shape([claim(10, 30, 7), claim(5, 10, Infinity, true, true), claim(0, 3, Infinity, true, true)]), ['0-3:Infinity', '5-15:Infinity', '15-40:7']);
});

test('property: at every address the answer is the newest of the claims that count', () => {
  const any = fc.record({ address: fc.nat(80), size: fc.constantFrom(1, 2, 4, 8, 16, 32), sequence: fc.nat(1000), decode: fc.boolean(), fixed: fc.boolean() });
  fc.assert(
    fc.property(fc.uniqueArray(any, { maxLength: 14, selector: (each) => each.sequence }), (list) => {
      const claims: Claim[] = list.map((each) => ({ ...each, fixed: each.fixed && each.sequence > 900 }));
      for (const each of claims) if (each.fixed) (each as { sequence: number }).sequence += 10_000;
      const segments = resolve(claims, WINDOWS);
      for (let address = 0; address < 130; address++) {
        const counting = claims.filter((c) => c.decode && c.address <= address && address < c.address + c.size && (c.fixed === true || WINDOWS.some((w) => c.address >= w.start && c.address + c.size <= w.end)));
        const expected = counting.sort((a, b) => b.sequence - a.sequence)[0];
        const found = segments.filter(({ start, end }) => start <= address && address < end);
        assert.ok(found.length <= 1, 'disjoint');
        assert.equal(found[0]?.claim, expected);
      }
      segments.forEach((segment, index) => {
        assert.ok(segment.start < segment.end);
        const before = segments[index - 1];
        if (before !== undefined) assert.ok(before.end < segment.start || (before.end === segment.start && before.claim !== segment.claim), 'ascending, joined');
      });
    }),
    { numRuns: 3000 },
  );
});
