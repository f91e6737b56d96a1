// Four threads access the buses while two others move BARs over each other and over a third device. Bounded by counts, not by time.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { FakePlatform } from '../testing/fake-platform.ts';
import { COUNT, COUNTER, ECAM, LOW, MOVERS, SENT, STILL, VIOLATIONS, build } from './hammer-worker.ts';
import type { HammerOrder } from './hammer-worker.ts';

const ACCESSES = 2_000;
const MOVES = 2_000;

test('hammer: no access reaches a dead region, none is lost where something must answer', async () => {
  const platform = new FakePlatform();
  const machine = build(platform);
  machine.host.reset();
  const still = ECAM + STILL.place * 4096;
  machine.memory.write(still + 0x10, 4, LOW);
  machine.memory.write(still + 4, 2, 2);
  const arena = platform.arena.describe();
  const orders: HammerOrder[] = [
    ...[0, 1, 2, 3].map((seed): HammerOrder => ({ arena, role: 'access', tag: 0, count: ACCESSES, seed })),
    ...MOVERS.map((tag): HammerOrder => ({ arena, role: 'move', tag, count: MOVES, seed: tag })),
  ];
  const codes = await Promise.all(
    orders.map(async (order) => {
      const worker = new Worker(new URL('./hammer-worker.ts', import.meta.url), { workerData: order });
      worker.on('error', (error) => {
        // The others must not wait for its locks.
        Atomics.store(platform.arena.poison, 0, 1);
        assert.fail(error);
      });
      const [code] = (await once(worker, 'exit')) as [number];
      return code;
    }),
  );
  assert.deepEqual(codes, orders.map(() => 0));
  const words = platform.arena.int32('hammer', 16);
  assert.equal(words[VIOLATIONS], 0);
  assert.equal(words[COUNT], words[SENT]);
  assert.equal(machine.memory.read(LOW + 0x4010, 4), STILL.tag);
  assert.equal(machine.memory.read(LOW + 0x20010, 4), 0xffff_ffff);
  machine.memory.write(COUNTER, 4, 0);
  assert.equal(words[COUNT], words[SENT]! + 1);
  assert.equal(machine.memory.ranges().filter(({ base }) => base >= LOW).length, 1, 'no region is left behind');
});
