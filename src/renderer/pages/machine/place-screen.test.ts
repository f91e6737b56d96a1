import { test } from 'node:test';
import assert from 'node:assert/strict';
import { placeScreen } from './place-screen.ts';

const mode = { width: 1280, height: 800 };

test('fit: the shorter side decides, smoothed unless the factor is whole', () => {
  const small = placeScreen(mode, { width: 640, height: 800 }, 'fit', 1);
  assert.deepEqual([small.width, small.height, small.crisp], [640, 400, false]);
  const twice = placeScreen(mode, { width: 2560, height: 1700 }, 'fit', 1);
  assert.deepEqual([twice.scale, twice.crisp], [2, true]);
});

test('exact: one pixel of the guest is one of the display, on dense displays too', () => {
  assert.deepEqual(placeScreen(mode, { width: 100, height: 100 }, 'exact', 1), { width: 1280, height: 800, scale: 1, crisp: true });
  assert.deepEqual(placeScreen(mode, { width: 100, height: 100 }, 'exact', 2), { width: 640, height: 400, scale: 0.5, crisp: true });
});

test('no room yet is no reason for a picture without size', () => {
  assert.equal(placeScreen(mode, { width: 0, height: 0 }, 'fit', 1).scale, 1);
});
