// Devices as they change: a written host whose files are changed under a real reader process, through the watch and through a front.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import type { TestContext } from 'node:test';
import test from 'node:test';
import { WebSocket } from 'ws';
import type { HostDevices } from '../../shared/host-devices.ts';
import { ProtocolClient } from '../../shared/protocol/client.ts';
import { frontProtocol } from '../../shared/protocol/front.ts';
import { beginRun } from '../../vmm/server/run-record.ts';
import { startFront } from '../front/front.ts';
import { Library } from '../library/library.ts';
import { fingerprint } from './fingerprint.ts';
import { TREE_VARIABLE } from './roots.ts';
import { HOSTS, PCI_IDS } from './testing/hosts.ts';
import { writeHost } from './testing/tree.ts';
import type { Reader } from './watch.ts';
import { DeviceWatch, readOnce, startReader } from './watch.ts';

const NIC = '0000:03:00.0';

async function until(condition: () => unknown): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 10));
}

function desktop(t: TestContext) {
  const host = writeHost(HOSTS.intelDesktop, PCI_IDS);
  t.after(() => host.remove());
  const bind = (driver: string) => {
    const path = join(host.device('03:00.0'), 'driver');
    unlinkSync(path);
    mkdirSync(join(host.folder, 'sys/bus/pci/drivers', driver), { recursive: true });
    symlinkSync(join(host.folder, 'sys/bus/pci/drivers', driver), path);
  };
  return { host, bind, env: { ...process.env, [TREE_VARIABLE]: host.folder } };
}

test('a driver that binds, a cable that is plugged in, a disk that is mounted, a card that is pulled: each is seen', async (t) => {
  const { host, bind, env } = desktop(t);
  const watch = new DeviceWatch(startReader(env));
  t.after(() => watch.close());
  let found: HostDevices | undefined;
  const stop = watch.watch((value) => (found = value));
  assert.equal(found?.state, 'reading');
  await until(() => found?.state === 'ready');
  assert.equal(found!.devices[NIC].driver, 'e1000e');
  bind('vfio-pci');
  await until(() => found!.devices[NIC].onVfio);
  writeFileSync(join(host.device('01:00.0'), 'drm/card1/card1-DP-1/status'), 'connected\n');
  writeFileSync(join(host.device('01:00.0'), 'drm/card1/card1-DP-1/enabled'), 'enabled\n');
  await until(() => found!.devices['0000:01:00.0'].uses.some(({ kind }) => kind === 'screen'));
  writeFileSync(join(host.folder, 'proc/self/mountinfo'), '');
  await until(() => found!.devices['0000:00:17.0'].uses.length === 0);
  unlinkSync(join(host.folder, 'sys/bus/pci/devices', NIC));
  await until(() => found!.devices[NIC] === undefined);
  // Another watcher is told at once what is known.
  let second: HostDevices | undefined;
  watch.watch((value) => (second = value))();
  assert.equal(second?.state, 'ready');
  stop();
});

test('claims of machines are judged as they come and go', async (t) => {
  const { env } = desktop(t);
  const watch = new DeviceWatch(startReader(env));
  t.after(() => watch.close());
  watch.setClaims([{ address: NIC, machine: 'Router', running: true }]);
  let found: HostDevices | undefined;
  watch.watch((value) => (found = value));
  await until(() => found?.state === 'ready');
  assert.equal(found!.devices[NIC].sentence, 'The machine Router has it.');
  watch.setClaims([]);
  await until(() => found!.devices[NIC].verdict === 'ready');
});

test('a reader that ends is started again, what was known stays in sight, and none is left behind', async (t) => {
  const { env } = desktop(t);
  const running = new Set<Reader>();
  const start = startReader(env);
  const watch = new DeviceWatch(async () => {
    const reader = await start();
    running.add(reader);
    void reader.ended.then(() => running.delete(reader));
    return reader;
  });
  t.after(() => watch.close());
  const states: string[] = [];
  let found: HostDevices | undefined;
  const stop = watch.watch((value) => {
    found = value;
    if (states.at(-1) !== value.state) states.push(value.state);
  });
  await until(() => found?.state === 'ready');
  [...running][0].kill();
  await until(() => found?.state === 'failed');
  assert.equal(found!.problem?.code, 'devices-reader');
  assert.ok(found!.devices[NIC] !== undefined);
  await until(() => found?.state === 'ready');
  assert.deepEqual(states, ['reading', 'ready', 'failed', 'ready']);
  stop();
  await until(() => running.size === 0);
});

test('read once: the answer, or why there is none', async (t) => {
  const { env } = desktop(t);
  const found = await readOnce(startReader(env), { claims: [], machine: { name: 'Vista', memory: 2 ** 30 } });
  assert.deepEqual(found.findings.map(({ code }) => code), ['memory-pinned', 'kernel-modules']);
  const mute = (said: string) => async (): Promise<Reader> => {
    const stdout = new PassThrough();
    stdout.end(said);
    return { stdin: new PassThrough(), stdout, ended: new Promise((resolve) => setTimeout(resolve, 50, 'it is over.')), kill: () => {} };
  };
  await assert.rejects(readOnce(mute(''), { claims: [] }), /it is over/);
  await assert.rejects(readOnce(mute('nonsense\n'), { claims: [] }), /said something else/);
  const gone = new AbortController();
  const waiting = readOnce(async () => ({ ...(await mute('')()), ended: new Promise(() => {}) }), { claims: [] }, gone.signal);
  setImmediate(() => gone.abort());
  await assert.rejects(waiting, { name: 'AbortError' });
});

test('a reader that cannot be started, or says nonsense, is a problem and no crash', async () => {
  const failing = new DeviceWatch(async () => {
    throw new Error('no such program');
  });
  let found: HostDevices | undefined;
  failing.watch((value) => (found = value));
  await until(() => found?.state === 'failed');
  assert.equal(found!.problem?.why, 'no such program');
  failing.close();

  const stdout = new PassThrough();
  const babbling = new DeviceWatch(async () => ({ stdin: new PassThrough(), stdout, ended: new Promise(() => {}), kill: () => {} }));
  const values: HostDevices[] = [];
  babbling.watch((value) => values.push(value));
  await new Promise((resolve) => setImmediate(resolve));
  stdout.write('{"state":"ready"}\nnonsense\n{"state":"ready","on":"host","findings":[],"devices":{},"groups":{}}\n');
  await until(() => values.length === 2);
  assert.deepEqual(values.map(({ state }) => state), ['reading', 'ready']);
  babbling.close();
});

test('the fingerprint stays while nothing changes', (t) => {
  const { host } = desktop(t);
  const before = fingerprint(host.roots);
  // Packets are counted, and modules' users.
  const zeros = '0'.repeat(32);
  host.write('proc/modules', 'vfio 10 1 - Live 0x0');
  host.write('proc/net/ipv6_route', `${zeros} 00 ${zeros} 00 ${zeros} 00000400 00000001 00000000 00450003 eno1`);
  const counted = fingerprint(host.roots);
  assert.notEqual(counted, before);
  host.write('proc/modules', 'vfio 10 2 vfio_pci Live 0x0');
  host.write('proc/net/ipv6_route', `${zeros} 00 ${zeros} 00 ${zeros} 00000400 00000007 0000abcd 00450003 eno1`);
  assert.equal(fingerprint(host.roots), counted);
  writeFileSync(join(host.device('00:1f.6'), 'net/eno1/operstate'), 'down\n');
  assert.notEqual(fingerprint(host.roots), counted);
});

test('through a front: as a page sees them', async (t) => {
  const { host, env } = desktop(t);
  const folder = mkdtempSync(join(tmpdir(), 'vfd-'));
  const library = new Library(join(folder, 'machines'));
  const machine = library.create({ name: 'Router', memory: 30 * 2 ** 30, cpus: 1, boot: { kernel: '/k' }, devices: [{ kind: 'vfio-pci', address: NIC }] });
  const front = await startFront({ shell: 'browser', env: { ...env, XDG_RUNTIME_DIR: folder, VITRINE_BACKEND: 'kvm' }, library });
  t.after(async () => {
    await front.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const socket = new WebSocket(`${front.address}/front?token=${front.token}`, { perMessageDeflate: false });
  const client = new ProtocolClient(frontProtocol, socket);
  socket.on('message', (data: Buffer) => client.receive(data.toString()));
  socket.on('close', () => client.closed());
  await new Promise((resolve) => socket.once('open', resolve));
  let found: HostDevices | undefined;
  client.watch('devices', (value) => (found = value), () => {});
  await until(() => found?.state === 'ready');
  assert.equal(Object.keys(found!.groups).length, 11);
  await until(() => found!.devices[NIC].findings.some(({ code }) => code === 'claimed'));
  assert.deepEqual(found!.devices[NIC].findings.find(({ code }) => code === 'claimed')?.facts, { machine: 'Router', address: NIC });
  assert.equal(found!.groups['15'].verdict, 'ready');
  // For the machine itself it is no claim; but its memory is more than this computer has free.
  const judged = await client.call('devicesFor', { id: machine });
  assert.ok(!judged.devices[NIC].findings.some(({ code }) => code === 'claimed'));
  assert.deepEqual([judged.devices[NIC].verdict, judged.findings.map(({ code }) => code)], ['not-possible', ['memory-pinned', 'kernel-modules']]);
  const run = await beginRun(library.folderOf(machine), '');
  await until(() => found!.groups['15'].verdict === 'not-possible');
  assert.equal(found!.devices[NIC].sentence, 'The machine Router has it.');
  run.release();
  await until(() => found!.groups['15'].verdict === 'ready');
  await assert.rejects(client.call('devicesFor', { id: 'none' }), /no such machine/);
  writeFileSync(join(host.folder, 'proc/self/mountinfo'), '');
  await until(() => found!.devices['0000:02:00.0'].uses.length === 0);
  client.close();
});
