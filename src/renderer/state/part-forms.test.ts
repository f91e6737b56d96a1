import { test } from 'node:test';
import assert from 'node:assert/strict';
import * as v from 'valibot';
import { deviceConfig } from '../../shared/machine-config.ts';
import {
  cardDevice, cardFormOf, cardIsRight, checkCard, checkDisk, checkShare, diskDevice, diskFormOf, emptyCardForm, emptyDiskForm, emptyForward, emptyShareForm, shareDevice, shareFormOf, sizeError, suggestedTag,
} from './part-forms.ts';
import type { Card, Share } from './parts.ts';

const parse = (wish: v.InferInput<typeof deviceConfig>) => v.parse(deviceConfig, wish);

test('a disk: what is wrong is said at its field', () => {
  const good = { ...emptyDiskForm('new', '/a.qcow2'), size: '20' };
  assert.deepEqual(checkDisk('new', good, []), {});
  assert.match(checkDisk('new', { ...good, file: ' ' }, []).file!, /missing/);
  assert.match(checkDisk('new', { ...good, file: 'a' }, []).file!, /whole path/);
  assert.match(checkDisk('new', { ...good, size: 'big' }, []).size!, /20 GiB/);
  assert.match(checkDisk('new', { ...good, serial: 'a b' }, []).serial!, /1 to 20/);
  assert.match(checkDisk('existing', good, [parse({ kind: 'virtio-blk', file: '/a.qcow2' })]).file!, /twice/);
  assert.deepEqual(checkDisk('existing', { ...good, readonly: true }, [parse({ kind: 'virtio-blk', file: '/a.qcow2', readonly: true })]), {});
  assert.match(checkDisk('overlay', good, []).backing!, /missing/);
  assert.match(checkDisk('overlay', { ...good, backing: '/a.qcow2' }, []).backing!, /over itself/);
  assert.deepEqual(checkDisk('overlay', { ...good, backing: '/b.qcow2', size: '' }, []), {});
  assert.deepEqual(['1 MiB', '1023 KiB', '9000000 TiB', ''].map(sizeError).map((each) => each === undefined), [true, false, false, false]);
  const device = parse({ kind: 'virtio-blk', file: '/a', format: 'raw', readonly: true, cache: 'none', serial: 'x', onError: 'pause' });
  assert.ok(device.kind === 'virtio-blk');
  assert.deepEqual(parse(diskDevice(diskFormOf(device))), device);
});

test('a network card: each forward has its own', () => {
  const [a, b] = [{ ...emptyForward(), host: '80', guest: '8080' }, { ...emptyForward(), host: '80', guest: '0' }];
  const form = { ...emptyCardForm, forwards: [a, b] };
  assert.deepEqual(checkCard(form, []).forwards, { [b.key]: { guest: 'A port is a number from 1 to 65535.' } });
  assert.deepEqual(checkCard({ ...form, forwards: [a, { ...b, guest: '1' }] }, []).forwards, { [b.key]: { host: 'Forwarded twice.' } });
  assert.deepEqual(checkCard({ ...form, forwards: [{ ...a, host: 'x', address: 'home' }] }, []).forwards[a.key], { address: 'The address of a forwarded port is one of this computer\'s, in numbers.', host: 'From 1 to 65535.' });
  assert.ok(cardIsRight(checkCard({ ...form, forwards: [a, { ...b, protocol: 'udp', guest: '1' }] }, [])));
  assert.ok(!cardIsRight(checkCard({ ...form, mac: '01:00:00:00:00:00' }, [])));
  assert.match(checkCard({ ...emptyCardForm, kind: 'tap' }, []).name!, /missing/);
  assert.equal(checkCard({ ...emptyCardForm, kind: 'tap', name: 'tap0', queues: '9' }, []).queues, 'From 1 to 8.');
  assert.match(checkCard({ ...emptyCardForm, kind: 'tap', name: 'tap0' }, [parse({ kind: 'virtio-net', backend: { kind: 'tap', name: 'tap0' } })]).name!, /tap0/);
  const card = { ...parse({ kind: 'virtio-net', mac: '52:54:00:00:00:01', linkUp: false, slot: 7, backend: { kind: 'user', forwards: [{ protocol: 'udp', address: '::1', host: 1, guest: 2 }] } }) } as Card;
  assert.deepEqual(cardDevice(cardFormOf(card), card), card);
  assert.equal('mac' in cardDevice({ ...cardFormOf(card), mac: '' }, card), false);
});

test('a shared folder', () => {
  assert.deepEqual(Object.keys(checkShare(emptyShareForm, [])), ['tag', 'folder']);
  const share = { ...parse({ kind: 'virtio-9p', tag: 'src', folder: '/src', readonly: true }) } as Share;
  assert.deepEqual(parse(shareDevice(shareFormOf(share))), share);
  assert.match(checkShare(shareFormOf(share), [share]).tag!, /the tag "src"/);
  assert.match(checkShare({ ...shareFormOf(share), tag: 'a b' }, []).tag!, /without spaces/);
  assert.deepEqual(['/home/me/My files/', '/', '/a,b', `/${'x'.repeat(40)}`].map(suggestedTag), ['My-files', '', 'a-b', 'x'.repeat(32)]);
});
