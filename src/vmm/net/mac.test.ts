import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VitrineError } from '../../shared/errors.ts';
import { derivedMac, givenMac, macText } from './mac.ts';

test('a card has the same address at every start, and another in another slot or machine', () => {
  const one = macText(derivedMac('web-server', 3));
  assert.equal(one, macText(derivedMac('web-server', 3)));
  const many = new Set<string>();
  for (let machine = 0; machine < 100; machine++) for (let slot = 1; slot < 31; slot++) many.add(macText(derivedMac(`machine-${machine}`, slot)));
  assert.equal(many.size, 3000);
  for (const text of many) assert.match(text, /^.[26ae]:/, 'one station\'s, given out locally');
});

test('an address is taken as it was given, or refused with words', () => {
  assert.equal(macText(givenMac('52:54:00:AB:cd:01')), '52:54:00:ab:cd:01');
  for (const bad of ['', '52:54:00:12:34', '52-54-00-12-34-56', '01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff', '00:00:00:00:00:00']) {
    assert.throws(() => givenMac(bad), (error) => error instanceof VitrineError && error.problem.code === 'bad-mac');
  }
});
