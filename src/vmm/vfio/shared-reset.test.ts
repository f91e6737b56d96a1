// Who is reset together, and who is in the way of it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { planResets } from './shared-reset.ts';

const A = '0000:01:00.0';
const B = '0000:01:00.1';
const C = '0000:02:00.0';
const pair = [{ group: 5, address: A }, { group: 6, address: B }];
const free = { held: ['5', '6'], used: [], strangers: () => [] };

test('two that are reset together are reset once, with the groups of both', () => {
  const { resets, refused } = planResets([{ address: A, affected: pair }, { address: B, affected: pair }, { address: C, affected: [{ group: 7, address: C }] }], { ...free, held: ['5', '6', '7'] });
  assert.deepEqual(resets, [{ by: A, reaches: [A, B], groups: ['5', '6'] }, { by: C, reaches: [C], groups: ['7'] }]);
  assert.deepEqual(refused, []);
  const one = pair.map((each) => ({ ...each, group: 5 }));
  assert.deepEqual(planResets([{ address: B, affected: one }], { ...free, held: ['5'] }).resets, [{ by: B, reaches: [A, B], groups: ['5'] }]);
});

test('whoever is in the way is named: another machine\'s, the host\'s, one in use', () => {
  const why = (change: Partial<typeof free> | { strangers: () => string[] } | { used: string[] }, affected = pair): string[] => {
    const { resets, refused } = planResets([{ address: A, affected }], { ...free, ...change });
    assert.deepEqual(resets, []);
    return refused.map((each) => `${each.address} ${each.why}`);
  };
  assert.deepEqual(why({ held: ['5'] }), [`${A} it can be reset only together with ${B}, not this machine's`]);
  assert.deepEqual(why({ strangers: () => [`${B} (no driver)`] }), [`${A} it can be reset only together with ${B} (no driver), not bound to vfio-pci`]);
  assert.deepEqual(why({ used: [B] }), [`${A} it can be reset only together with ${B}, which the guest uses`]);
  assert.deepEqual(why({}, []), [`${A} it cannot be reset`]);
});

test('property: every device asked for is reset exactly once or refused, and nobody in use is reset', () => {
  const address = fc.integer({ min: 0, max: 11 }).map((number) => `0000:0${number >> 2}:00.${number & 3}`);
  const set = fc.uniqueArray(address);
  fc.assert(fc.property(set, set, fc.array(fc.nat(3)), set, (wished, used, held, foreign) => {
    // What shares a bus shares a reset; each device is a group, named by its function.
    const onBus = (of: string) => Array.from({ length: 4 }, (_, number) => ({ address: `${of.slice(0, -1)}${number}`, group: number }));
    const { resets, refused } = planResets(wished.map((each) => ({ address: each, affected: onBus(each) })), {
      // What is asked for is this machine's, and VFIO's.
      held: [...held.map(String), ...wished.map((each) => each.at(-1)!)],
      used: used.filter((each) => !wished.includes(each)),
      strangers: (all) => all.filter((each) => foreign.includes(each) && !wished.includes(each)),
    });
    const reached = resets.flatMap(({ reaches }) => reaches);
    assert.equal(new Set(reached).size, reached.length);
    for (const each of wished) assert.equal(Number(reached.includes(each)) + Number(refused.some((one) => one.address === each)), 1, each);
    for (const each of used) assert.ok(wished.includes(each) || !reached.includes(each), each);
  }));
});
