import { test } from 'node:test';
import assert from 'node:assert/strict';
import * as v from 'valibot';
import { deviceConfig, machineConfig, type MachineConfig } from '../../shared/machine-config.ts';
import type { Library } from '../../shared/protocol/front.ts';
import { addableOthers, cardWords, diskWords, filesOf, forwardLine, freeCid, freeDiskName, imageTrouble, mountCommand, othersWith, otherWords, ownDisks, partsOf, settingWords } from './parts.ts';
import type { Card, OtherDevice } from './parts.ts';

function machine(...devices: v.InferInput<typeof deviceConfig>[]): MachineConfig {
  return v.parse(machineConfig, { version: 1, id: 'box', name: 'Box', memory: 2 ** 26, cpus: 1, boot: { kernel: '/k' }, devices });
}

const full = machine(
  { kind: 'virtio-blk', file: '/data/a.qcow2', readonly: true, cache: 'unsafe', serial: 'S1' },
  { kind: 'virtio-scsi', drives: [{ kind: 'cdrom', file: null }, { kind: 'disk', file: '/lib/box/disks/b.img' }] },
  { kind: 'virtio-net', backend: { kind: 'user', forwards: [{ protocol: 'udp', address: '::1', host: 53, guest: 5353 }] } },
  { kind: 'virtio-9p', tag: 'src', folder: '/src', readonly: true },
  { kind: 'vfio-pci', address: '0000:03:00.0' },
  { kind: 'virtio-input', form: 'tablet' },
  { kind: 'virtio-scsi', drives: [] },
);

test('devices are sorted as people look for them, with their slots', () => {
  const parts = partsOf(full);
  assert.deepEqual(parts.disks.map(({ slot, disk, at }) => [slot, disk.file, at?.drive]), [[1, '/data/a.qcow2', undefined], [3, '/lib/box/disks/b.img', 1]]);
  assert.deepEqual(parts.drives.map(({ slot, drive, file }) => [slot, drive, file]), [[3, 0, null]]);
  assert.deepEqual([parts.cards[0]!.slot, parts.shares[0]!.slot], [4, 5]);
  assert.deepEqual(parts.others.map(otherWords).map(({ name }) => name), ['Tablet', 'SCSI controller']);
  assert.deepEqual(partsOf(undefined), { disks: [], drives: [], cards: [], shares: [], others: [] });
  assert.deepEqual(filesOf({ config: full }), ['/data/a.qcow2', '/lib/box/disks/b.img']);
  assert.deepEqual(ownDisks('/lib', { id: 'box', config: full }), ['/lib/box/disks/b.img']);
  assert.deepEqual(ownDisks(undefined, { id: 'box', config: full }), []);
});

test('how they are said', () => {
  const { disks, cards, shares } = partsOf(full);
  assert.equal(settingWords(disks[0]!.disk), 'read-only, flushes ignored, serial S1');
  assert.equal(settingWords(disks[1]!.disk), '');
  const disk = { file: '/x', format: 'qcow2' as const, bytes: 20 * 2 ** 30, allocated: 196 * 1024, snapshots: [], dirty: false, corrupt: false };
  assert.equal(diskWords({ ...disk, backing: { file: '/y/base.qcow2' } }), 'qcow2, 20 GiB, takes 196 KiB, overlay of base.qcow2');
  assert.equal(imageTrouble({ disk }), null);
  assert.match(imageTrouble({ disk: { ...disk, corrupt: true } })!, /damaged/);
  assert.equal(imageTrouble({ problem: { attempted: '', on: '', why: 'it is gone.', remedy: 'Look.', code: '' } }), 'it is gone. Look.');
  assert.equal(cardWords(cards[0]!), 'User-mode network');
  assert.equal(cardWords({ backend: { kind: 'tap', name: 'tap0', queues: 1 } } as Card), 'Interface tap0');
  assert.equal(forwardLine({ protocol: 'udp', address: '::1', host: 53, guest: 5353 }), 'udp [::1]:53 to 5353');
  assert.equal(forwardLine({ protocol: 'tcp', host: 2222, guest: 22 }), 'tcp 127.0.0.1:2222 to 22');
  assert.equal(mountCommand({ tag: 'src', readonly: false }), 'mount -t 9p -o trans=virtio,version=9p2000.L src /mnt');
  assert.equal(mountCommand({ tag: 'it\'s', readonly: true }), String.raw`mount -t 9p -o ro,trans=virtio,version=9p2000.L 'it'\''s' /mnt`);
  assert.equal(shares.length, 1);
  for (const kind of ['virtio-console', 'virtio-rng', 'virtio-balloon'] as const) assert.ok(otherWords({ ...v.parse(deviceConfig, { kind }), slot: 1 } as OtherDevice).use.endsWith('.'));
});

test('other machines with an image, and what they leave free', () => {
  const library: Library = {
    box: { id: 'box', config: full, state: 'running' },
    off: { id: 'off', config: machine({ kind: 'virtio-blk', file: '/data/a.qcow2' }, { kind: 'virtio-vsock', cid: 3 }), state: 'off' },
    on: { id: 'on', config: { ...machine({ kind: 'virtio-scsi', drives: [{ kind: 'cdrom', file: '/data/a.qcow2' }] }), name: 'Zoo' }, state: 'paused' },
    damaged: { id: 'damaged', state: 'off' },
  };
  assert.deepEqual(othersWith(library, '/data/a.qcow2', 'box'), [{ name: 'Zoo', live: true }, { name: 'Box', live: false }]);
  assert.deepEqual(othersWith(null, '/data/a.qcow2', 'box'), []);
  assert.equal(freeCid(library), 4);
  assert.equal(freeDiskName('/lib', { id: 'box', config: machine() }), '/lib/box/disks/disk.qcow2');
  assert.equal(freeDiskName('/lib', { id: 'box', config: machine({ kind: 'virtio-blk', file: '/lib/box/disks/disk.qcow2' }) }), '/lib/box/disks/disk-2.qcow2');
  const addable = addableOthers(partsOf(full), library);
  assert.deepEqual(addable.map(({ text }) => text), ['Console', 'Random numbers', 'Balloon', 'Keyboard', 'Sockets to this computer']);
  for (const { device } of addable) assert.ok(v.is(deviceConfig, device), device.kind);
});
