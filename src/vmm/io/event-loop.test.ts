import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventLoop } from './event-loop.ts';

test('a stop that comes before the loop runs is not lost', () => {
  const loop = new EventLoop();
  let turns = 0;
  loop.stop();
  loop.run();
  loop.after(0, () => {
    turns++;
    loop.stop();
  });
  loop.run();
  assert.equal(turns, 1);
  loop.close();
});
