import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { PointerAccumulator } from './pointer.ts';

test('no movement is lost to rounding, at any scale', () => {
  fc.assert(fc.property(fc.array(fc.integer({ min: -50, max: 50 })), fc.double({ min: 0.2, max: 3, noNaN: true }), (steps, scale) => {
    const pointer = new PointerAccumulator();
    let sent = 0;
    for (const step of steps) {
      const { dx } = pointer.move(step, 0, scale);
      assert.ok(Number.isInteger(dx));
      sent += dx;
    }
    const wanted = steps.reduce((sum, step) => sum + step, 0) / scale;
    assert.ok(Math.abs(sent - wanted) < 1.000001);
  }));
});

test('a notch away from the person is +1, half notches add up', () => {
  const pointer = new PointerAccumulator();
  assert.equal(pointer.scroll(-100, 0), 1);
  assert.equal(pointer.scroll(50, 0), 0);
  assert.equal(pointer.scroll(50, 0), -1);
  assert.equal(pointer.scroll(3, 1), -1);
});
