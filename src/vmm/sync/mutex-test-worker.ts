// The other side of mutex.test.ts.
import { workerData } from 'node:worker_threads';
import { Arena, type ArenaDescription } from './arena.ts';

const { arena, rounds } = workerData as { arena: ArenaDescription; rounds: number };
const shared = Arena.attach(arena);
const mutex = shared.mutex('m');
const sum = shared.float64('sum', 1);
for (let i = 0; i < rounds; i++) {
  mutex.lock();
  sum[0]! += 1;
  mutex.unlock();
}
