import assert from 'node:assert/strict';
import test from 'node:test';
import * as v from 'valibot';
import { changedConfig, deviceChange, whyNotFor } from './device-change.ts';
import { conflictsOf } from './device-conflicts.ts';
import { deviceConfig, machineConfig, type DeviceConfig } from './machine-config.ts';
import { issuesText } from './protocol/wire.ts';
import { chooseSlots, withSlots } from './slots.ts';

const device = (wish: v.InferInput<typeof deviceConfig>): DeviceConfig => v.parse(deviceConfig, wish);
const scsi = device({ kind: 'virtio-scsi', drives: [{ kind: 'disk', file: '/d' }, { kind: 'cdrom', file: '/a.iso' }] });
const net = device({ kind: 'virtio-net', backend: { kind: 'user' } });
const balloon = device({ kind: 'virtio-balloon' });

test('each change is for one kind of device, and is kept in its settings where it lasts', () => {
  const medium = { kind: 'medium', drive: 1, file: '/b.iso' } as const;
  assert.equal(whyNotFor(scsi, medium), null);
  assert.match(whyNotFor(scsi, { ...medium, drive: 0 })!, /a disk/);
  assert.match(whyNotFor(scsi, { ...medium, drive: 2 })!, /2 drives/);
  assert.match(whyNotFor(net, medium)!, /SCSI/);
  assert.deepEqual(changedConfig(scsi, medium), { ...scsi, drives: [{ ...(scsi as { drives: object[] }).drives[0] }, { kind: 'cdrom', file: '/b.iso' }] });
  assert.equal(whyNotFor(net, { kind: 'link', up: false }), null);
  assert.deepEqual(changedConfig(net, { kind: 'link', up: false }), { ...net, linkUp: false });
  const forwards = [{ protocol: 'tcp', host: 80, guest: 80 }] as const;
  assert.deepEqual(changedConfig(net, { kind: 'forwards', forwards: [...forwards] }), { ...net, backend: { kind: 'user', forwards } });
  assert.match(whyNotFor(device({ kind: 'virtio-net', backend: { kind: 'none' } }), { kind: 'forwards', forwards: [] })!, /user-mode/);
  assert.equal(whyNotFor(balloon, { kind: 'balloon', bytes: 0 }), null);
  assert.equal(changedConfig(balloon, { kind: 'balloon', bytes: 4096 }), balloon, 'how much it holds is not kept');
  for (const wrong of [{ kind: 'medium', drive: 0, file: 'a.iso' }, { kind: 'medium', drive: -1, file: null }, { kind: 'fan' }, { kind: 'balloon', bytes: -1 }]) assert.equal(v.is(deviceChange, wrong), false);
});

test('a machine whose devices cannot be together is refused, with the place', () => {
  const machine = { version: 1, id: 'm', name: 'M', memory: 2 ** 26, cpus: 1, boot: { kernel: '/k' } };
  const share = { kind: 'virtio-9p', tag: 'a', folder: '/x' };
  const found = v.safeParse(machineConfig, { ...machine, devices: [share, { ...share, folder: '/y' }] });
  assert.ok(!found.success);
  assert.equal(issuesText(found.issues), 'devices.1.tag: Two shared folders have the tag "a".');
  assert.ok(v.is(machineConfig, { ...machine, devices: [share, { ...share, tag: 'b' }] }));
  const forward = (host: number, address?: string) => device({ kind: 'virtio-net', backend: { kind: 'user', forwards: [{ host, guest: 22, ...(address === undefined ? {} : { address }) }] } });
  assert.deepEqual(conflictsOf([forward(22), forward(23), forward(22, '0.0.0.0')]).map(({ device: at, path }) => [at, ...path]), [[2, 'backend', 'forwards', 0, 'host']]);
  assert.deepEqual(conflictsOf([forward(22), forward(22, '::')]), []);
  const both = (protocol: 'tcp' | 'udp', address: string) => device({ kind: 'virtio-net', backend: { kind: 'user', forwards: [{ host: 22, guest: 22 }, { protocol, host: 22, guest: 23, address }] } });
  assert.deepEqual(conflictsOf([both('tcp', '127.0.0.2')]).map(({ path, message }) => [path[2], message]), [[1, 'The port tcp 127.0.0.2:22 is forwarded twice: one card forwards a port once, whatever the address.']]);
  assert.equal(conflictsOf([both('tcp', '::1')]).length, 1);
  assert.deepEqual(conflictsOf([both('udp', '127.0.0.2')]), []);
  assert.equal(conflictsOf([scsi, device({ kind: 'virtio-blk', file: '/a.iso', readonly: true })]).length, 0, 'who only reads does not mind');
  assert.equal(conflictsOf([scsi, device({ kind: 'virtio-blk', file: '/a.iso' })]).length, 1);
});

test('devices keep their slots when one goes', () => {
  const placed = withSlots([net, device({ kind: 'virtio-rng', slot: 3 }), balloon, scsi]);
  assert.deepEqual(placed.map(({ slot }) => slot), [1, 3, 4, 5]);
  assert.deepEqual(chooseSlots(placed.filter(({ kind }) => kind !== 'virtio-net')), [3, 4, 5]);
});
