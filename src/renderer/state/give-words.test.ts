import { test } from 'node:test';
import assert from 'node:assert/strict';
import type { Finding } from '../../shared/host-devices.ts';
import { asksNow, byGravity, giveLabel, listWords, needsHelper, parseFunctions, remedyDone, shortList, technicalParts, worst } from './give-words.ts';

test('lists, short and whole', () => {
  assert.equal(shortList([]), '');
  assert.equal(shortList(['A']), 'A');
  assert.equal(shortList(['A', 'B']), 'A and B');
  assert.equal(shortList(['A', 'B', 'C']), 'A and 2 more');
  assert.equal(listWords(['A', 'B', 'C']), 'A, B and C');
});

test('the worst verdict, and findings by gravity', () => {
  assert.equal(worst([]), 'ready');
  assert.equal(worst(['ready', 'not-possible', 'with-care']), 'not-possible');
  const finding = (code: Finding['code'], severity: Finding['severity']): Finding => ({ code, severity, sentence: '', remedy: '', facts: {} });
  const sorted = byGravity([finding('bar-size', 'information'), finding('driver-in-use', 'care'), finding('claimed', 'refused'), finding('no-reset', 'care')]);
  assert.deepEqual(sorted.map(({ code }) => code), ['claimed', 'driver-in-use', 'no-reset', 'bar-size']);
});

test('the button says whether it asks for a password', () => {
  assert.equal(giveLabel('Radeon RX 7600', 'password', 'kept', false), 'Give Radeon RX 7600 (asks for your password)');
  // What happens at the start of the machine is asked for then.
  assert.equal(giveLabel('Radeon RX 7600', 'password', 'start', false), 'Give Radeon RX 7600');
  assert.equal(giveLabel('Radeon RX 7600', 'password', 'start', true), 'Give Radeon RX 7600 (asks for your password)');
  assert.equal(asksNow('granted', 'kept', false), false);
});

test('technical names stand between backquotes', () => {
  assert.deepEqual(technicalParts('Stop the driver `amdgpu` for slot 03:00.0'), [
    { text: 'Stop the driver ', technical: false }, { text: 'amdgpu', technical: true }, { text: ' for slot 03:00.0', technical: false },
  ]);
  assert.deepEqual(technicalParts('`x`'), [{ text: 'x', technical: true }]);
});

test('numbers of virtual functions', () => {
  assert.deepEqual(parseFunctions(' 4 ', 64), { count: 4 });
  assert.deepEqual(parseFunctions('65', 64), { error: 'At most 64.' });
  assert.deepEqual(parseFunctions('four', 64), { error: 'A whole number.' });
  assert.equal(remedyDone({ verb: 'set-functions', address: '0000:18:00.0', count: 1 }, 'X710'), 'X710 has 1 virtual function now.');
});

test('what needs the helper', () => {
  assert.equal(needsHelper('reserve'), true);
  assert.equal(needsHelper('move'), false);
  assert.equal(needsHelper('ask-rom'), false);
});
