import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { GuestKeyboard } from './keyboard.ts';

function record(): { log: string[]; keyboard: GuestKeyboard } {
  const log: string[] = [];
  const keyboard = new GuestKeyboard({ key: (code, down) => log.push(`${down ? '+' : '-'}${code}`), release: () => log.push('release') });
  return { log, keyboard };
}

test('Ctrl+Alt alone releases on key-up, not before', () => {
  const { log, keyboard } = record();
  keyboard.keyDown('ControlLeft');
  keyboard.keyDown('AltLeft');
  assert.deepEqual(log, ['+29', '+56']);
  keyboard.keyUp('AltLeft');
  assert.deepEqual(log, ['+29', '+56', '-56', '-29', 'release']);
});

test('Ctrl+Alt+F2 reaches the guest and releases nothing', () => {
  const { log, keyboard } = record();
  for (const key of ['ControlLeft', 'AltLeft', 'F2']) keyboard.keyDown(key);
  for (const key of ['F2', 'AltLeft', 'ControlLeft']) keyboard.keyUp(key);
  assert.deepEqual(log, ['+29', '+56', '+60', '-60', '-56', '-29']);
});

test('a key held from before the chord spoils it; the right-hand keys count', () => {
  const spoilt = record();
  for (const key of ['KeyA', 'ControlRight', 'AltRight']) spoilt.keyboard.keyDown(key);
  spoilt.keyboard.keyUp('AltRight');
  assert.ok(!spoilt.log.includes('release'));
  const right = record();
  right.keyboard.keyDown('AltRight');
  right.keyboard.keyDown('ControlRight');
  right.keyboard.keyUp('ControlRight');
  assert.equal(right.log.at(-1), 'release');
});

test('a mouse button during the chord spoils it', () => {
  const { log, keyboard } = record();
  keyboard.keyDown('ControlLeft');
  keyboard.keyDown('AltLeft');
  keyboard.touched();
  keyboard.keyUp('AltLeft');
  assert.ok(!log.includes('release'));
});

test('unknown keys are not taken; an up without a down is not sent', () => {
  const { log, keyboard } = record();
  assert.equal(keyboard.keyDown('Fn'), false);
  assert.equal(keyboard.keyUp('KeyA'), true);
  assert.deepEqual(log, []);
});

test('whatever was pressed, releaseAll leaves no key down in the guest', () => {
  const names = ['ControlLeft', 'AltLeft', 'ShiftLeft', 'KeyA', 'F2', 'Enter', 'Fn'];
  fc.assert(fc.property(fc.array(fc.record({ name: fc.constantFrom(...names), down: fc.boolean() })), (events) => {
    const held = new Set<number>();
    const keyboard = new GuestKeyboard({ key: (code, down) => { if (down) held.add(code); else held.delete(code); }, release: () => {} });
    for (const { name, down } of events) {
      if (down) keyboard.keyDown(name);
      else keyboard.keyUp(name);
    }
    keyboard.releaseAll();
    assert.deepEqual([...held], []);
  }));
});
