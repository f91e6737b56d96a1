import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import test from 'node:test';
import * as v from 'valibot';
import { VitrineError } from '../../shared/errors.ts';
import { deviceConfig } from '../../shared/machine-config.ts';
import { beginRun } from '../../vmm/server/run-record.ts';
import { serveMachine } from '../../vmm/server/serve.ts';
import { socketPathOf } from '../../vmm/server/runtime-folder.ts';
import { FakeMachine } from '../../vmm/server/testing/fake-machine.ts';
import { Library } from '../library/library.ts';
import { addDevice, changeDevice, devicesOf, removeDevice, replaceDevice, type DevicePlace } from './change.ts';

const code = (expected: string) => (e: unknown) => e instanceof VitrineError && e.problem.code === expected;
const NOW = { force: false, seconds: 1 };

function scratch(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'vd-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'run'), { mode: 0o700 });
  const iso = join(folder, 'a.iso');
  writeFileSync(iso, 'x');
  const library = new Library(join(folder, 'machines'));
  const id = library.create({
    name: 'Box', memory: 2 ** 26, cpus: 1, boot: { kernel: '/k' },
    devices: [{ kind: 'virtio-rng' }, { kind: 'virtio-scsi', drives: [{ kind: 'cdrom', file: null }] }, { kind: 'virtio-net', backend: { kind: 'user' } }],
  });
  const place: DevicePlace = { library, env: { ...process.env, XDG_RUNTIME_DIR: join(folder, 'run') } };
  const kinds = () => devicesOf(library, id).map(({ kind, slot }) => `${slot} ${kind}`);
  return { folder, iso, library, id, place, kinds };
}

async function running(t: TestContext, { library, id, place }: ReturnType<typeof scratch>) {
  const socketPath = socketPathOf(id, place.env);
  const run = await beginRun(library.folderOf(id), socketPath);
  const machine = new FakeMachine(id, 'Box');
  machine.devices.push(...devicesOf(library, id));
  const server = await serveMachine({ socketPath, machine });
  t.after(async () => {
    await server.close();
    run.release();
  });
  return machine;
}

test('a machine that is off: its file alone changes, and every device keeps its slot', async (t) => {
  const all = scratch(t);
  const { id, iso, library, place, kinds, folder } = all;
  assert.deepEqual(await addDevice(place, id, { kind: 'virtio-9p', tag: 'src', folder }, { keep: false }), { slot: 5, told: true });
  assert.deepEqual(kinds(), ['1 virtio-rng', '3 virtio-scsi', '4 virtio-net', '5 virtio-9p']);
  await removeDevice(place, id, 1, NOW);
  assert.deepEqual(kinds(), ['3 virtio-scsi', '4 virtio-net', '5 virtio-9p']);
  await changeDevice(place, id, 3, { kind: 'medium', drive: 0, file: iso });
  await changeDevice(place, id, 4, { kind: 'link', up: false });
  assert.deepEqual(library.config(id).devices.map((each) => (each.kind === 'virtio-scsi' ? each.drives : each.kind === 'virtio-net' ? each.linkUp : null)), [[{ kind: 'cdrom', file: iso }], false, null]);
  await replaceDevice(place, id, 5, v.parse(deviceConfig, { kind: 'virtio-9p', tag: 'other', folder, readonly: true }));
  assert.deepEqual(devicesOf(library, id)[2], { kind: 'virtio-9p', tag: 'other', folder, readonly: true, rings: 'split', slot: 5 });

  await assert.rejects(addDevice(place, id, { kind: 'virtio-9p', tag: 'other', folder }, { keep: true }), code('device-conflict'));
  await assert.rejects(addDevice(place, id, { kind: 'virtio-blk', file: join(folder, 'none') }, { keep: true }), code('disk-missing'));
  await assert.rejects(addDevice(place, id, { kind: 'virtio-rng', slot: 3 }, { keep: true }), code('slot-taken'));
  await assert.rejects(addDevice(place, id, { kind: 'vfio-pci', address: '0000:03:00.0' }, { keep: true }), code('not-running'));
  await assert.rejects(removeDevice(place, id, 9, NOW), code('no-such-device'));
  await assert.rejects(changeDevice(place, id, 3, { kind: 'medium', drive: 0, file: join(folder, 'none') }), code('medium-missing'));
  await assert.rejects(changeDevice(place, id, 4, { kind: 'medium', drive: 0, file: null }), code('wrong-device'));
  await assert.rejects(replaceDevice(place, id, 5, v.parse(deviceConfig, { kind: 'virtio-rng' })), code('wrong-device'));
  await assert.rejects(addDevice(place, 'none', { kind: 'virtio-rng' }, { keep: true }), code('no-such-machine'));
  assert.deepEqual(kinds(), ['3 virtio-scsi', '4 virtio-net', '5 virtio-9p']);
});

test('a running machine is told first; its file follows where that is meant to last', async (t) => {
  const all = scratch(t);
  const { id, iso, library, place, kinds } = all;
  const machine = await running(t, all);
  await changeDevice(place, id, 3, { kind: 'medium', drive: 0, file: iso });
  assert.equal(machine.asked.at(-1), `changeDevice 3 medium of drive 0: ${iso}`);
  assert.deepEqual(devicesOf(library, id)[1], { kind: 'virtio-scsi', rings: 'split', slot: 3, drives: [{ kind: 'cdrom', file: iso }] });
  await changeDevice(place, id, 4, { kind: 'link', up: false });
  assert.equal(machine.asked.at(-1), 'changeDevice 4 link down');
  const lent = await addDevice(place, id, { kind: 'virtio-rng' }, { keep: false });
  const kept = await addDevice(place, id, { kind: 'virtio-balloon', slot: 20 }, { keep: true });
  assert.equal(kept.slot, 20);
  assert.deepEqual(kinds(), ['1 virtio-rng', '3 virtio-scsi', '4 virtio-net', '20 virtio-balloon']);
  await removeDevice(place, id, lent.slot, NOW);
  await removeDevice(place, id, 1, NOW);
  assert.deepEqual(machine.asked.slice(-2), [`removeDevice ${lent.slot} within 1`, 'removeDevice 1 within 1']);
  assert.deepEqual(kinds(), ['3 virtio-scsi', '4 virtio-net', '20 virtio-balloon']);
  await assert.rejects(replaceDevice(place, id, 4, v.parse(deviceConfig, { kind: 'virtio-net', backend: { kind: 'none' } })), code('machine-running'));

  // The machine refuses: its file stays as it is.
  machine.changeDevice = () => Promise.reject(new VitrineError({ attempted: 'change the device', on: 'slot 4', why: 'no.', remedy: '', code: 'stubborn' }));
  await assert.rejects(changeDevice(place, id, 4, { kind: 'link', up: true }), code('stubborn'));
  assert.equal((devicesOf(library, id)[1] as { linkUp?: boolean }).linkUp, false);
});

test('a running machine that lacks what its file has: a device that comes takes neither\'s slot, and the file\'s entry can be removed', async (t) => {
  const all = scratch(t);
  const { id, library, place, kinds } = all;
  const machine = await running(t, all);
  machine.devices.splice(0, 1); // the guest gave the rng of slot 1 back
  machine.devices.push(v.parse(deviceConfig, { kind: 'virtio-rng', slot: 5 })); // lent
  assert.equal((await addDevice(place, id, { kind: 'virtio-balloon' }, { keep: true })).slot, 6);
  assert.equal((await addDevice(place, id, { kind: 'virtio-console' }, { keep: false })).slot, 7);
  await assert.rejects(addDevice(place, id, { kind: 'virtio-rng', slot: 1 }, { keep: false }), code('slot-taken'));
  assert.deepEqual(kinds(), ['1 virtio-rng', '3 virtio-scsi', '4 virtio-net', '6 virtio-balloon']);
  assert.deepEqual(machine.listDevices().map(({ slot }) => slot), [0, 3, 4, 5, 6, 7]);
  await removeDevice(place, id, 1, NOW);
  assert.deepEqual(kinds(), ['3 virtio-scsi', '4 virtio-net', '6 virtio-balloon']);
  await assert.rejects(removeDevice(place, id, 1, NOW), code('no-such-device'));

  // Another device in the slot than the file's: it alone is meant.
  await library.updateDevices(id, (devices) => [...devices, v.parse(deviceConfig, { kind: 'virtio-net', slot: 7, backend: { kind: 'none' } })]);
  machine.devices.splice(machine.devices.findIndex(({ slot }) => slot === 4), 1, v.parse(deviceConfig, { kind: 'virtio-scsi', slot: 4, drives: [{ kind: 'cdrom', file: null }] }));
  await assert.rejects(changeDevice(place, id, 4, { kind: 'link', up: false }), code('wrong-device'));
  await changeDevice(place, id, 4, { kind: 'medium', drive: 0, file: null });
  assert.equal(machine.asked.at(-1), 'changeDevice 4 medium of drive 0: none');
  await removeDevice(place, id, 7, NOW);
  assert.equal(machine.asked.at(-1), 'removeDevice 7 within 1');
  assert.deepEqual(kinds(), ['3 virtio-scsi', '4 virtio-net', '6 virtio-balloon', '7 virtio-net']);
});

test('devices that come into a running machine at once take a slot each', async (t) => {
  const all = scratch(t);
  const machine = await running(t, all);
  const added = await Promise.all(Array.from({ length: 6 }, () => addDevice(all.place, all.id, { kind: 'virtio-rng' }, { keep: true })));
  assert.deepEqual(added.map(({ slot }) => slot).sort((a, b) => a - b), [5, 6, 7, 8, 9, 10]);
  assert.deepEqual(devicesOf(all.library, all.id).map(({ slot }) => slot).sort((a, b) => a - b), [1, 3, 4, 5, 6, 7, 8, 9, 10]);
  assert.equal(machine.devices.length, 9);
});

test('an image that is gone stands in the way of nothing but itself', async (t) => {
  const all = scratch(t);
  const { id, iso, library, place, folder } = all;
  const gone = join(folder, 'gone.iso');
  const disk = join(folder, 'disk.raw');
  writeFileSync(gone, 'x');
  writeFileSync(disk, 'x');
  const drives = [{ kind: 'cdrom', file: gone }, { kind: 'cdrom', file: null }, { kind: 'disk', file: disk }];
  const controller = (more: object[] = []) => v.parse(deviceConfig, { kind: 'virtio-scsi', drives: [...drives, ...more] });
  await replaceDevice(place, id, 3, controller());
  const blk = await addDevice(place, id, { kind: 'virtio-blk', file: join(folder, 'a.iso'), readonly: true }, { keep: true });
  rmSync(gone);
  rmSync(disk);
  const files = () => devicesOf(library, id).flatMap((each) => (each.kind === 'virtio-scsi' ? each.drives.map(({ file }) => file) : []));
  for (const state of ['off', 'running']) {
    if (state === 'running') await running(t, all);
    await changeDevice(place, id, 3, { kind: 'medium', drive: 1, file: iso });
    assert.deepEqual(files(), [gone, iso, disk]);
    await changeDevice(place, id, 3, { kind: 'medium', drive: 1, file: null });
    assert.deepEqual(files(), [gone, null, disk]);
    await assert.rejects(changeDevice(place, id, 3, { kind: 'medium', drive: 0, file: gone }), code('medium-missing'), state);
    if (state === 'running') break;
    await replaceDevice(place, id, 3, controller([{ kind: 'disk', file: iso, readonly: true }]));
    assert.deepEqual(files(), [gone, null, disk, iso]);
    await assert.rejects(replaceDevice(place, id, 3, controller([{ kind: 'disk', file: join(folder, 'other') }])), code('disk-missing'));
    await replaceDevice(place, id, 3, controller());
    rmSync(iso);
    await replaceDevice(place, id, blk.slot, v.parse(deviceConfig, { kind: 'virtio-blk', file: iso, readonly: true, queues: 2 }));
    await assert.rejects(replaceDevice(place, id, blk.slot, v.parse(deviceConfig, { kind: 'virtio-blk', file: iso })), code('disk-missing'));
    await removeDevice(place, id, blk.slot, NOW);
    writeFileSync(iso, 'x');
  }
  await changeDevice(place, id, 3, { kind: 'medium', drive: 0, file: null });
  assert.deepEqual(files(), [null, null, disk]);
});

test('changes of one file by several at once are all in it', async (t) => {
  const { id, library, place } = scratch(t);
  await Promise.all(Array.from({ length: 8 }, (_, n) => addDevice(place, id, { kind: 'virtio-console', ports: n + 1 }, { keep: true })));
  const consoles = devicesOf(library, id).filter((each) => each.kind === 'virtio-console');
  assert.deepEqual(consoles.map(({ ports }) => ports).sort(), [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.equal(new Set(devicesOf(library, id).map(({ slot }) => slot)).size, 11);
});
