import { test } from 'node:test';
import assert from 'node:assert/strict';
import type { DeviceGroup, HostDevice, HostDevices } from '../../shared/host-devices.ts';
import { countWords, framesOf, matchesFrame, shortAddress } from './device-frames.ts';

function device(address: string, kind: HostDevice['kind'], group: string, role: HostDevice['role'] = 'endpoint'): HostDevice {
  return {
    address, kind, role, group, name: `${kind} ${address}`, vendor: 'V', model: 'M', className: 'C', vendorId: '1234', deviceId: '5678', classCode: '000000', onVfio: false, bars: [], bootVga: false,
    resets: [], uses: [], verdict: 'ready', sentence: '', findings: [],
  };
}

function host(devices: HostDevice[], verdicts: Record<string, DeviceGroup['verdict']> = {}): HostDevices {
  const groups: Record<string, DeviceGroup> = {};
  for (const { address, group } of devices) {
    groups[group] ??= { key: group, number: /^\d+$/.test(group) ? Number(group) : undefined, devices: [], given: [], verdict: verdicts[group] ?? 'ready', sentence: '' };
    groups[group].devices.push(address);
  }
  return { state: 'ready', on: 'host', findings: [], devices: Object.fromEntries(devices.map((each) => [each.address, each])), groups };
}

test('graphics first, whatever the verdicts; bridges and the board fold away', () => {
  const all = [
    device('0000:00:00.0', 'board', '0', 'board'), device('0000:00:01.0', 'bridge', '1', 'bridge'), device('0000:00:1f.6', 'network', '5'),
    device('0000:01:00.1', 'audio', '14'), device('0000:01:00.0', 'graphics', '14'), device('0000:02:00.0', 'nvme', '2'),
  ];
  const { frames, folded } = framesOf(host(all));
  assert.deepEqual(frames.map(({ legend, title }) => [legend, title]), [
    ['Group 14, goes together', 'graphics 0000:01:00.0 and 1 more'], ['Group 5', 'network 0000:00:1f.6'], ['Group 2', 'nvme 0000:02:00.0'],
  ]);
  assert.deepEqual(folded.map(({ group }) => group.key), ['0', '1']);
  const changed = framesOf(host(all, { 14: 'not-possible', 2: 'with-care' })).frames;
  assert.deepEqual(changed.map(({ group }) => group.key), frames.map(({ group }) => group.key));
  assert.equal(countWords(changed), '1 ready, 1 with care, 1 not possible');
});

test('bridges of a group stand apart; without an IOMMU there are slots', () => {
  const { frames } = framesOf(host([device('0000:00:01.0', 'bridge', '1', 'bridge'), device('0000:01:00.0', 'usb', '1'), device('0000:03:00.0', 'storage', '0000:03:00')]));
  assert.deepEqual(frames.map(({ legend, bridges }) => [legend, bridges]), [['Slot 03:00', []], ['Group 1', ['0000:00:01.0']]]);
  assert.equal(shortAddress('0001:03:00.0'), '0001:03:00.0');
});

test('a group whose devices are gone, and far too many', () => {
  const gone = host([device('0000:00:03.0', 'usb', '3')]);
  gone.devices = {};
  assert.deepEqual(framesOf(gone), { frames: [], folded: [] });
  const many = Array.from({ length: 80 }, (_, at) => device(`0000:${at.toString(16).padStart(2, '0')}:00.0`, 'network', String(at)));
  assert.equal(framesOf(host(many)).frames.length, 80);
});

test('a search by name, address, kind or group', () => {
  const [frame] = framesOf(host([device('0000:03:00.0', 'network', '14')])).frames;
  for (const search of ['', 'NETWORK', '03:00', 'group 14', 'net 03']) assert.equal(matchesFrame(frame, search), true, search);
  assert.equal(matchesFrame(frame, 'net 04'), false);
});
