import assert from 'node:assert/strict';
import { test } from 'node:test';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { Arena } from './arena.ts';
import { PoisonedError } from './mutex.ts';

const worker = new URL('./mutex-test-worker.ts', import.meta.url);

test('four threads that add to one number under the mutex lose nothing', async () => {
  const arena = new Arena(4096);
  arena.mutex('m');
  const sum = arena.float64('sum', 1);
  const rounds = 20_000;
  const workers = Array.from({ length: 4 }, () => new Worker(worker, { workerData: { arena: arena.describe(), rounds } }));
  await Promise.all(workers.map((w) => once(w, 'exit')));
  assert.equal(sum[0], 4 * rounds);
});

test('a wait ends with PoisonedError when the machine is poisoned', () => {
  const arena = new Arena(4096);
  const mutex = arena.mutex('m');
  mutex.lock();
  Atomics.store(arena.poison, 0, 1);
  assert.throws(() => mutex.lock(), PoisonedError);
});

test('run lets go of the lock when its body throws', () => {
  const mutex = new Arena(4096).mutex('m');
  assert.throws(() => mutex.run(() => { throw new Error('inside'); }), /inside/);
  assert.equal(mutex.run(() => 7), 7);
});
