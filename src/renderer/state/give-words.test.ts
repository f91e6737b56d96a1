import { test } from 'node:test';
import assert from 'node:assert/strict';
import type { Finding, HostDevice, HostDevices } from '../../shared/host-devices.ts';
import { framesOf } from './device-frames.ts';
import { asksNow, blocking, byGravity, giveLabel, listWords, needsHelper, parseFunctions, remedyDone, shortList, technicalParts, worst } from './give-words.ts';

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

test('the only graphics card stops a start from the desktop, not the giving', () => {
  const refused = (code: Finding['code'], aspect: string, facts: Finding['facts'] = {}): Finding => ({ code, aspect, severity: 'refused', sentence: '', remedy: '', facts });
  const device = (address: string, findings: Finding[]): HostDevice => ({
    address, kind: 'graphics', role: 'endpoint', group: '2', name: address, vendor: 'V', model: 'M', className: 'C', vendorId: '1002', deviceId: '7480', classCode: '030000', onVfio: false, bars: [],
    bootVga: true, resets: [], uses: [], verdict: 'not-possible', sentence: '', findings,
  });
  const host = (...devices: HostDevice[]): HostDevices => ({
    state: 'ready', on: 'host', findings: [], devices: Object.fromEntries(devices.map((each) => [each.address, each])),
    groups: { 2: { key: '2', number: 2, devices: devices.map(({ address }) => address), given: devices.map(({ address }) => address), verdict: 'not-possible', sentence: '' } },
  });
  const stopped = (found: HostDevices): number => blocking(found, framesOf(found).frames).frames.length;
  const card = device('0000:01:00.0', [refused('only-gpu', 'desktop')]);
  const sound = device('0000:01:00.1', [refused('group-shared', 'needed', { stay: ['0000:01:00.0'] })]);
  assert.equal(stopped(host(card, sound)), 0);
  assert.equal(stopped(host(device('0000:01:00.0', [refused('only-gpu', 'desktop'), refused('host-needs-it', 'root')]), sound)), 1);
  assert.equal(stopped(host(device('0000:01:00.0', [refused('claimed', 'running')]))), 1);
  // Refused by the computer alone.
  assert.equal(stopped(host(device('0000:01:00.0', []))), 1);
});
