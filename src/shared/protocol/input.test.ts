import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { allKeys, evdevOf } from '../keys.ts';
import { BUTTON_LEFT, BUTTON_MIDDLE, decodeInput, encodeKey, encodePointer } from './input.ts';

test('keys and pointers come through as they were sent', () => {
  assert.deepEqual(decodeInput(encodeKey(0x1d7, true)), { kind: 'key', code: 0x1d7, down: true });
  assert.deepEqual(decodeInput(encodeKey(1, false)), { kind: 'key', code: 1, down: false });
  assert.deepEqual(decodeInput(encodePointer(-5, 300, -1, BUTTON_LEFT | BUTTON_MIDDLE)), { kind: 'pointer', dx: -5, dy: 300, wheel: -1, buttons: 5 });
  assert.deepEqual(decodeInput(encodePointer(1e9, -1e9, 1000, 0xff)), { kind: 'pointer', dx: 32767, dy: -32767, wheel: 127, buttons: 7 });
});

test('any bytes decode to an input in range or to nothing', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 9 }), (bytes) => {
      const input = decodeInput(bytes);
      if (input === null) return;
      assert.deepEqual(decodeInput(input.kind === 'key' ? encodeKey(input.code, input.down) : encodePointer(input.dx, input.dy, input.wheel, input.buttons)) !== null, true);
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
