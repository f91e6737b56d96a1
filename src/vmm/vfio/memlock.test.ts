import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VitrineError } from '../../shared/errors.ts';
import { checkMemlock, readLockFacts } from './memlock.ts';

const MIB = 2 ** 20;
const LIMITS = 'Limit                     Soft Limit           Hard Limit           Units     \nMax locked memory         8388608              8388608              bytes     \nMax address space         unlimited            unlimited            bytes     \n';
const STATUS = 'Name:\tnode\nVmLck:\t     128 kB\nVmPin:\t       0 kB\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n';

test('limit, locked bytes and capability are read as the kernel writes them', () => {
  assert.deepEqual(readLockFacts(LIMITS, STATUS), { limit: 8 * MIB, locked: 128 * 1024, exempt: false });
  assert.deepEqual(readLockFacts(LIMITS.replaceAll('8388608', 'unlimited'), STATUS.replace('CapEff:\t0000000000000000', 'CapEff:\t0000000000004000')), { limit: Infinity, locked: 128 * 1024, exempt: true });
  const own = readLockFacts();
  assert.ok(own.limit >= 0 && own.locked >= 0);
});

test('a limit that is too low is refused with the number that would do; enough, none and the capability pass', () => {
  const low = { limit: 8 * MIB, locked: 0, exempt: false };
  assert.throws(() => checkMemlock(512 * MIB, 'Vista', low), (thrown) => thrown instanceof VitrineError && thrown.problem.code === 'memlock-too-low' && /512 MiB, and your account may lock 8 MiB/.test(thrown.problem.why) && /memlock 589824"/.test(thrown.problem.remedy));
  assert.throws(() => checkMemlock(8 * MIB, 'Vista', { ...low, locked: 4096 }));
  checkMemlock(8 * MIB, 'Vista', low);
  checkMemlock(512 * MIB, 'Vista', { ...low, limit: Infinity });
  checkMemlock(512 * MIB, 'Vista', { ...low, exempt: true });
});
