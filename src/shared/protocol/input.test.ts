import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { allKeys, evdevOf } from '../keys.ts';
import { BUTTON_LEFT, BUTTON_MIDDLE, decodeInput, encodeKey, encodePointer, encodeTablet, TABLET_MAX, tabletPlace, type Input } from './input.ts';

test('keys and pointers come through as they were sent', () => {
  assert.deepEqual(decodeInput(encodeKey(0x1d7, true)), { kind: 'key', code: 0x1d7, down: true });
  assert.deepEqual(decodeInput(encodeKey(1, false)), { kind: 'key', code: 1, down: false });
  assert.deepEqual(decodeInput(encodePointer(-5, 300, -1, BUTTON_LEFT | BUTTON_MIDDLE)), { kind: 'pointer', dx: -5, dy: 300, wheel: -1, buttons: 5 });
  assert.deepEqual(decodeInput(encodeTablet(17, TABLET_MAX, 2, BUTTON_LEFT)), { kind: 'tablet', x: 17, y: TABLET_MAX, wheel: 2, buttons: 1 });
  assert.deepEqual(decodeInput(encodeTablet(-4, 1e9, 0, 0)), { kind: 'tablet', x: 0, y: TABLET_MAX, wheel: 0, buttons: 0 });
  assert.deepEqual(decodeInput(encodePointer(1e9, -1e9, 1000, 0xff)), { kind: 'pointer', dx: 32767, dy: -32767, wheel: 127, buttons: 7 });
});

function encode(input: Input): Uint8Array {
  if (input.kind === 'key') return encodeKey(input.code, input.down);
  if (input.kind === 'tablet') return encodeTablet(input.x, input.y, input.wheel, input.buttons);
  return encodePointer(input.dx, input.dy, input.wheel, input.buttons);
}

test('a guest that spreads the tablet over its picture finds each pixel again', () => {
  for (const size of [640, 800, 1080, 1280, 1920, 2560, 3840]) {
    for (let pixel = 0; pixel < size; pixel++) assert.equal(Math.floor((tabletPlace(pixel, size) * size) / (TABLET_MAX + 1)), pixel);
  }
});

test('any bytes decode to an input in range or to nothing', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 9 }), (bytes) => {
      const input = decodeInput(bytes);
      if (input === null) return;
      assert.notEqual(decodeInput(encode(input)), null);
    }),
  );
});

test('no key of the table shares its code by mistake', () => {
  const aliases = new Set(['VolumeMute', 'VolumeDown', 'VolumeUp']);
  const codes = allKeys().filter(([name]) => !aliases.has(name)).map(([, code]) => code);
  assert.equal(new Set(codes).size, codes.length);
  assert.equal(evdevOf('KeyA'), 30);
  assert.equal(evdevOf('Fn'), null);
  assert.equal(evdevOf('toString'), null);
});
