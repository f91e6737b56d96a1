import { test } from 'node:test';
import assert from 'node:assert/strict';
import type { HostDevice, HostDevices } from '../../shared/host-devices.ts';
import type { HostDeviceConfig, MachineConfig } from '../../shared/machine-config.ts';
import { countGiven, givenWords, inGroups, machineDevices, ownersOf } from './machine-devices.ts';

function device(address: string, group: string): HostDevice {
  return {
    address, kind: 'network', role: 'endpoint', group, name: `card ${address}`, vendor: 'V', model: 'M', className: 'C', vendorId: '8086', deviceId: '10d3', classCode: '020000', onVfio: false,
    bars: [], bootVga: false, resets: [], uses: [], verdict: 'ready', sentence: '', findings: [],
  };
}

function host(...devices: HostDevice[]): HostDevices {
  return { state: 'ready', on: 'host', findings: [], devices: Object.fromEntries(devices.map((each) => [each.address, each])), groups: {} };
}

function machine(...devices: HostDeviceConfig[]): MachineConfig {
  return {
    version: 1, id: 'm', name: 'M', origin: 'user', memory: 2 ** 30, cpus: 1, boot: { kernel: '/k', append: '' }, display: { kind: 'none' }, devices, onReset: 'restart', testDevices: false, exitOnHalt: false,
  };
}

const a = '0000:03:00.0';
const b = '0000:04:00.0';
const named: HostDeviceConfig = { kind: 'vfio-pci', address: a, identity: { name: 'Gigabit', vendorId: '8086', deviceId: '10d3' } };
const plain: HostDeviceConfig = { kind: 'vfio-pci', address: b };
const entry = { id: 'm', state: 'off', config: machine(named, plain) } as const;

test('the name that it was given with, the one that it has, its address', () => {
  assert.deepEqual(machineDevices(entry, null).map(({ name }) => name), ['Gigabit', '04:00.0']);
  assert.deepEqual(machineDevices(entry, host(device(b, '1'))).map(({ name }) => name), ['Gigabit', `card ${b}`]);
  assert.equal(givenWords(entry), 'Gigabit and 04:00.0 given');
  assert.equal(givenWords({ id: 'x', state: 'off', config: machine() }), '');
});

test('a trouble goes to its device, and lets it stand alone', () => {
  const trouble = { address: a, name: 'Gigabit', kind: 'gone', sentence: 'Gone.', remedy: '' } as const;
  const found = host(device(a, '7'), device(b, '7'));
  assert.deepEqual(machineDevices({ ...entry, deviceTroubles: [trouble] }, found).map((each) => each.trouble?.kind), ['gone', undefined]);
  assert.equal(inGroups(machineDevices(entry, found), found).length, 1);
  assert.equal(inGroups(machineDevices({ ...entry, deviceTroubles: [trouble] }, found), found).length, 2);
  assert.equal(inGroups(machineDevices(entry, null), null).length, 2);
});

test('who has what', () => {
  const library = { m: entry };
  assert.deepEqual(ownersOf(library, [b]).map(({ id }) => id), ['m']);
  assert.deepEqual(ownersOf(library, ['0000:09:00.0']), []);
  assert.equal(countGiven(library), 2);
});
