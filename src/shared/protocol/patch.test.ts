import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { applyPatch, diff, sameJson } from './patch.ts';

// The values that topics have: JSON without null, with the keys that are dangerous in JavaScript.
const key = fc.oneof(fc.constantFrom('__proto__', 'constructor', 'toString', 'a', 'b', 'c'), fc.string({ maxLength: 3 }));
const value = fc.letrec((tie) => ({
  leaf: fc.oneof(fc.string({ maxLength: 3 }), fc.integer(), fc.boolean(), fc.array(fc.integer(), { maxLength: 3 })),
  node: fc.oneof({ depthSize: 'small', withCrossShrink: true }, tie('leaf'), fc.array(fc.tuple(key, tie('node')), { maxLength: 4 }).map((pairs) => JSON.parse(`{${[...new Map(pairs)].map(([k, x]) => `${JSON.stringify(k)}:${JSON.stringify(x)}`).join(',')}}`) as unknown)),
})).node;

test('the examples of RFC 7396, appendix A', () => {
  const cases: [unknown, unknown, unknown][] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [['a', 'b'], ['c', 'd'], ['c', 'd']],
    [{ a: 'b' }, ['c'], ['c']],
    [{ a: 'foo' }, 'bar', 'bar'],
    [{ e: 1 }, { a: 1 }, { e: 1, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ];
  for (const [target, patch, result] of cases) assert.deepEqual(applyPatch(target, patch), result);
});

test('a patch made of two values turns the one into the other, also over JSON', () => {
  fc.assert(
    fc.property(value, value, (before, after) => {
      const patch = diff(before, after);
      if (patch === undefined) assert.ok(sameJson(before, after));
      else assert.ok(sameJson(applyPatch(before, JSON.parse(JSON.stringify(patch))), after));
      assert.equal(diff(after, JSON.parse(JSON.stringify(after))), undefined);
    }),
    { numRuns: 2000 },
  );
});

test('a patch cannot reach a prototype', () => {
  const merged = applyPatch({}, JSON.parse('{"__proto__": {"polluted": true}}')) as { polluted?: boolean };
  assert.equal(merged.polluted, undefined);
  assert.equal(({} as { polluted?: boolean }).polluted, undefined);
});

test('members that are undefined count as absent', () => {
  assert.equal(diff({ a: 1, b: undefined }, { a: 1 }), undefined);
  assert.deepEqual(diff({ a: 1 }, { a: undefined }), { a: null });
});
