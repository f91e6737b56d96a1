// The front's calls about giving devices away, on written hosts on which the helper plays: as the wizard makes them.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';
import { VitrineError } from '../../shared/errors.ts';
import type { HostDeviceConfig } from '../../shared/machine-config.ts';
import type { GiveChoice, Leases } from '../../shared/passthrough.ts';
import { ProtocolClient } from '../../shared/protocol/client.ts';
import type { LibraryEntry } from '../../shared/protocol/front.ts';
import { frontProtocol } from '../../shared/protocol/front.ts';
import { beginRun, isHeld, readRunInfo } from '../../vmm/server/run-record.ts';
import { HOSTS } from '../host-devices/testing/hosts.ts';
import { playHost } from '../lease/testing/played-host.ts';
import { Library } from '../library/library.ts';
import { beginGiving } from '../passthrough/unfinished.ts';
import { startFront } from './front.ts';

const entry = fileURLToPath(new URL('../../vmm/server/testing/fake-entry.ts', import.meta.url));
const skip = process.getuid!() === 0 && 'the helper of a written host is never started by root';
const GiB = 2 ** 30;
const never = () => {};
/** The network card of the Intel desktop, in group 15; the graphics card with its sound is group 11. */
const NIC = '0000:03:00.0';

async function until(what: string, condition: () => unknown): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `it never came to this: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const refusedAs = (code: string) => (error: unknown) => error instanceof VitrineError && error.problem.code === code;

async function fronted(t: TestContext, text: string, played = true, installed = true) {
  const host = playHost(text, undefined, installed);
  const folder = mkdtempSync(join(tmpdir(), 'vfp-'));
  const library = new Library(join(folder, 'machines'));
  const id = library.create({ name: 'Router', memory: GiB, cpus: 1, boot: { kernel: 'fake:run' } });
  const env = { ...process.env, ...host.env, ...(played ? {} : { VITRINE_TREE_HELPER: '' }), XDG_RUNTIME_DIR: folder, VITRINE_BACKEND: 'kvm' };
  const front = await startFront({ shell: 'browser', env, library, entry });
  const socket = new WebSocket(`${front.address}/front?token=${front.token}`, { perMessageDeflate: false });
  const client = new ProtocolClient(frontProtocol, socket);
  socket.on('message', (data: Buffer) => client.receive(data.toString()));
  socket.on('close', () => client.closed());
  await new Promise((resolve) => socket.once('open', resolve));
  t.after(async () => {
    await front.close();
    for (const each of library.ids()) {
      const pid = isHeld(library.folderOf(each)) ? readRunInfo(library.folderOf(each))?.pid : undefined;
      if (pid !== undefined && pid !== process.pid) process.kill(pid, 'SIGKILL');
      await until('it has ended', () => !isHeld(library.folderOf(each)));
    }
    host.remove();
    rmSync(folder, { recursive: true, force: true });
  });
  const devices = () => library.config(id).devices as HostDeviceConfig[];
  const choice = (groups: string[], mode: GiveChoice['mode'] = 'start'): GiveChoice => ({ id, groups, mode, roms: {} });
  return { host, library, id, client, devices, choice, initial: host.snapshot() };
}

function watched(client: ProtocolClient<typeof frontProtocol>): () => Leases {
  let value: Leases | undefined;
  client.watch('leases', (now) => (value = now), never);
  return () => value ?? { state: 'reading', given: [], grants: [], functions: {}, helper: { state: 'missing', why: '', canAsk: false, install: [], remove: [] } };
}

const given = (leases: Leases) => leases.given.map(({ address, how, driver, machine }) => [address.slice(5), how, driver, machine?.name].join(' '));

test('given at the start of the machine: its file says so, and nothing else changes', { skip }, async (t) => {
  const { host, client, devices, choice, initial, id } = await fronted(t, HOSTS.intelDesktop);
  const plan = await client.call('planDevices', choice(['11']));
  assert.deepEqual([plan.problem, plan.devices, plan.permission], [undefined, ['0000:01:00.0', '0000:01:00.1'], 'password']);
  const rom = { '0000:01:00.0': { file: '/card.rom' } };
  // What was shown was without a ROM.
  await assert.rejects(client.call('giveDevices', { ...choice(['11']), roms: rom, digest: plan.digest }), refusedAs('plan-changed'));
  const { digest } = await client.call('planDevices', { ...choice(['11']), roms: rom });
  const progress: string[] = [];
  await client.call('giveDevices', { ...choice(['11']), roms: rom, digest }, { onProgress: ({ text }) => progress.push(text) });
  assert.deepEqual(devices(), [
    { kind: 'vfio-pci', address: '0000:01:00.0', identity: { name: 'GeForce RTX 4090', vendorId: '10de', deviceId: '2684' }, rom: { file: '/card.rom' } },
    { kind: 'vfio-pci', address: '0000:01:00.1', identity: { name: 'AD102 High Definition Audio Controller', vendorId: '10de', deviceId: '22ba' } },
  ]);
  assert.deepEqual([progress, host.log(), host.snapshot()], [['Writing it into Router', 'Done'], [], initial]);
  await assert.rejects(client.call('giveDevices', { ...choice(['11']), roms: rom, digest }), refusedAs('plan-changed'));
  await client.call('takeDevices', { id, addresses: ['0000:01:00.0', '0000:01:00.1'] });
  assert.deepEqual(devices(), []);
  await assert.rejects(client.call('takeDevices', { id, addresses: [NIC] }), refusedAs('no-such-device'));
  const refused = await client.call('planDevices', choice(['13']));
  assert.equal(refused.problem?.code, 'host-needs-it');
  await assert.rejects(client.call('giveDevices', { ...choice(['13']), digest: refused.digest }), refusedAs('host-needs-it'));
  client.close();
});

test('kept: the computer lets go at once, and has it back when the machine gives it up', { skip }, async (t) => {
  const { host, client, devices, choice, initial, id, library } = await fronted(t, HOSTS.intelDesktop);
  const leases = watched(client);
  await until('the leases are read', () => leases().state === 'ready');
  assert.deepEqual([leases().given, leases().helper.state, leases().helper.canAsk], [[], 'installed', true]);
  const { digest } = await client.call('planDevices', choice(['15'], 'kept'));
  const progress: string[] = [];
  await client.call('giveDevices', { ...choice(['15'], 'kept'), digest }, { onProgress: ({ done, total, text }) => progress.push(`${done}/${total} ${text}`) });
  assert.deepEqual(progress, ['0/4 Waiting for permission', '0/4 Handing 82574L Gigabit Network Connection (03:00.0) to vfio-pci', '1/4 Opening group 15 for you', '2/4 Writing it into Router', '3/4 Keeping it so', '4/4 Done']);
  assert.deepEqual([host.driverOf(NIC), devices().map(({ address }) => address)], ['vfio-pci', [NIC]]);
  await until('it is told', () => leases().given.length === 1);
  assert.deepEqual(given(leases()), ['03:00.0 kept e1000e Router']);
  // The whole computer is judged with it.
  const judged = await client.call('devicesFor', { id });
  assert.equal(judged.devices[NIC].onVfio, true);

  const run = await beginRun(library.folderOf(id), '');
  await assert.rejects(client.call('takeDevices', { id, addresses: [NIC] }), refusedAs('machine-running'));
  run.release();
  host.answer(126);
  await assert.rejects(client.call('takeDevices', { id, addresses: [NIC] }), refusedAs('lease-dismissed'));
  assert.deepEqual([host.driverOf(NIC), devices().length], ['vfio-pci', 1]);
  host.answer(0);
  await client.call('takeDevices', { id, addresses: [NIC] });
  assert.deepEqual(devices(), []);
  await until('it is told', () => leases().given.length === 0);
  const without = (text: string) => text.split('\n').filter((line) => !line.startsWith('sys/bus/pci/drivers/vfio-pci/')).join('\n');
  assert.equal(without(host.snapshot()), without(initial));
  client.close();
});

test('undone whole: the question dismissed, nobody to ask, a driver that hangs, a call that is cancelled', { skip }, async (t) => {
  const { host, client, devices, choice } = await fronted(t, HOSTS.intelDesktop);
  const asked = choice(['11', '15'], 'kept');
  const { digest } = await client.call('planDevices', asked);
  const drivers = () => [host.driverOf('01:00.0'), host.driverOf('01:00.1'), host.driverOf(NIC)];
  const before = drivers();
  for (const [answer, code] of [[126, 'lease-dismissed'], [127, 'lease-no-agent']] as const) {
    host.answer(answer);
    await assert.rejects(client.call('giveDevices', { ...asked, digest }), refusedAs(code));
    assert.deepEqual([devices(), drivers(), host.log()], [[], before, []]);
  }
  host.answer(0);
  host.write('hang/0000:01:00.1', '');
  await assert.rejects(client.call('giveDevices', { ...asked, digest }), (error) => error instanceof VitrineError && error.problem.code === 'lease-hang');
  rmSync(join(host.folder, 'hang/0000:01:00.1'));
  await until('all are back', () => JSON.stringify(drivers()) === JSON.stringify(before));
  assert.deepEqual(devices(), []);
  // vfio-pci stays loaded, so there is another plan now.
  await until('the lease has ended', () => readdirSync(join(host.folder, 'run/vitrine')).every((name) => !name.startsWith('lease.')));
  const after = (await client.call('planDevices', asked)).digest;

  const texts: string[] = [];
  const cancel = new AbortController();
  const call = client.call('giveDevices', { ...asked, digest: after }, {
    signal: cancel.signal,
    onProgress: ({ text }) => {
      texts.push(text);
      if (text.startsWith('Handing 82574L')) cancel.abort();
    },
  });
  await assert.rejects(call);
  assert.ok(texts.some((text) => text.startsWith('Handing 82574L')), texts.join('; '));
  await until('all are back', () => JSON.stringify(drivers()) === JSON.stringify(before));
  await until('the machine has none', () => devices().length === 0);
  client.close();
});

test('without a helper the devices are given to the machine all the same, and nothing of this computer\'s is asked', { skip }, async (t) => {
  const { client, devices, choice } = await fronted(t, HOSTS.intelDesktop, false);
  const leases = watched(client);
  await until('the leases are read', () => leases().state === 'ready');
  assert.deepEqual([leases().helper.state, leases().helper.canAsk], ['missing', false]);
  const plan = await client.call('planDevices', choice(['15']));
  assert.equal(plan.permission, 'helper');
  assert.equal(plan.commands.at(-1), `printf '%s\\n' 'bind ${NIC}' 'permit 15' | sudo /usr/local/libexec/vitrine-helper apply`);
  await assert.rejects(client.call('giveDevices', { ...choice(['15'], 'kept'), digest: (await client.call('planDevices', choice(['15'], 'kept'))).digest }), refusedAs('helper-missing'));
  assert.deepEqual(devices(), []);
  await client.call('giveDevices', { ...choice(['15']), digest: plan.digest });
  assert.equal(devices().length, 1);
  client.close();
});

test('buttons: take it out of another machine, load KVM\'s module, give back what is kept', { skip }, async (t) => {
  const { host, client, choice, devices, id, library } = await fronted(t, `${HOSTS.intelDesktop}\nkvm no`);
  const other = library.create({ name: 'Old router', memory: GiB, cpus: 1, boot: { kernel: '/k' }, devices: [{ kind: 'vfio-pci', address: NIC }] });
  await until('it is claimed', async () => (await client.call('devicesFor', { id })).devices[NIC].findings.some(({ code }) => code === 'claimed'));
  const judged = await client.call('devicesFor', { id });
  assert.deepEqual(judged.devices[NIC].findings.find(({ code }) => code === 'claimed')?.actions, [{ label: 'Take it out of Old router', verb: 'move', machine: other, address: NIC }]);
  await client.call('remedy', { verb: 'move', addresses: [NIC], from: other });
  assert.deepEqual(library.config(other).devices, []);

  assert.deepEqual(judged.findings[0].actions, [{ label: 'Load KVM\'s module', verb: 'load-modules', modules: 'kvm' }]);
  host.answer(126);
  await assert.rejects(client.call('remedy', { verb: 'load-modules', modules: 'kvm' }), refusedAs('lease-dismissed'));
  host.answer(0);
  await client.call('remedy', { verb: 'load-modules', modules: 'kvm' });
  assert.deepEqual(host.log(), ['module kvm_intel']);
  const [, unloaded] = (await client.call('devicesFor', { id })).findings;
  assert.deepEqual([unloaded.code, unloaded.aspect, unloaded.actions?.map(({ verb, modules }) => `${verb} ${modules}`)], ['kernel-modules', 'unloaded', ['load-modules vfio']]);
  await client.call('remedy', { verb: 'load-modules', modules: 'vfio' });
  assert.deepEqual(host.log(), ['module kvm_intel', 'module vfio-pci']);
  assert.deepEqual((await client.call('devicesFor', { id })).findings.map(({ code }) => code), ['memory-pinned']);

  const { digest } = await client.call('planDevices', choice(['15'], 'kept'));
  await client.call('giveDevices', { ...choice(['15'], 'kept'), digest });
  await client.call('remedy', { verb: 'release', addresses: [NIC] });
  assert.deepEqual([host.driverOf(NIC), devices().length], ['e1000e', 1]);
  await assert.rejects(client.call('remedy', { verb: 'release', addresses: [NIC] }), refusedAs('lease-not-leased'));
  client.close();
});

test('a machine whose device has moved says so before it starts, and starts when it is told where', { skip }, async (t) => {
  const { host, client, id, library } = await fronted(t, HOSTS.intelDesktop);
  let shown: LibraryEntry | undefined;
  const identity = { name: '82574L', vendorId: '8086', deviceId: '10d3' };
  const moved = (serial?: string) => library.update(id, { devices: [{ kind: 'vfio-pci', address: '0000:09:00.0', identity: { ...identity, ...(serial === undefined ? {} : { serial }) } }] });
  await moved();
  client.watch('machines', (machines) => (shown = machines[id]), never);
  await until('it is said', () => shown?.deviceTroubles !== undefined);
  assert.deepEqual(shown!.deviceTroubles, [{
    address: '0000:09:00.0', name: '82574L', kind: 'moved', sentence: '82574L is not in slot 09:00.0 any more, but in slot 03:00.0.', remedy: 'Use it at 03:00.0.', to: NIC,
  }]);
  await assert.rejects(client.call('startMachine', { id }), refusedAs('device-moved'));
  assert.deepEqual(host.log(), []);
  await assert.rejects(client.call('remedy', { verb: 'use-at', id, address: '0000:09:00.0', to: '0000:0a:00.0' }), refusedAs('no-such-device'));
  await client.call('remedy', { verb: 'use-at', id, address: '0000:09:00.0', to: NIC });
  assert.deepEqual(library.config(id).devices, [{ kind: 'vfio-pci', address: NIC, identity: { ...identity, name: '82574L Gigabit Network Connection' } }]);
  await until('all is well', () => shown?.deviceTroubles === undefined);
  // Its serial number says that it is the same: nobody has to be asked.
  writeFileSync(join(host.device('03:00.0'), 'serial_number'), '00-11-22\n');
  await moved('00-11-22');
  await client.call('startMachine', { id });
  assert.equal((library.config(id).devices[0] as HostDeviceConfig).address, NIC);
  assert.equal(host.driverOf(NIC), 'vfio-pci');
  await until('it runs', () => shown?.state === 'running');
  // Another machine with the same device cannot have it now.
  const other = library.create({ name: 'Other', memory: GiB, cpus: 1, boot: { kernel: 'fake:run' }, devices: [{ kind: 'vfio-pci', address: NIC }] });
  await assert.rejects(client.call('startMachine', { id: other }), refusedAs('device-taken'));
  const leases = watched(client);
  await until('it is held', () => given(leases())[0] === '03:00.0 held e1000e Router');
  process.kill(readRunInfo(library.folderOf(id))!.pid, 'SIGKILL');
  await until('the computer has it back', () => host.driverOf(NIC) === 'e1000e');
  await until('it is told', () => leases().given.length === 0);
  client.close();
});

test('buttons: reserve from start-up and back, with a failure on the way', { skip }, async (t) => {
  const { host, client, id } = await fronted(t, HOSTS.intelDesktop);
  const leases = watched(client);
  const card = '0000:01:00.0';
  const actions = async () => (await client.call('devicesFor', { id })).devices[card].findings.find(({ code }) => code === 'driver-in-use')?.actions;
  assert.deepEqual(await actions(), [{ label: 'Reserve it from start-up', verb: 'reserve', address: card }]);
  host.write('initramfs', 'fail');
  await assert.rejects(client.call('remedy', { verb: 'reserve', address: card }), refusedAs('lease-initramfs'));
  assert.equal(host.text('etc/modprobe.d/vitrine.conf'), null);
  host.write('initramfs', '');
  const progress: string[] = [];
  await client.call('remedy', { verb: 'reserve', address: card }, { onProgress: ({ text }) => progress.push(text) });
  assert.deepEqual([progress[0], progress.at(-1)], ['Waiting for permission', 'update-initramfs: Generating /boot/initrd.img']);
  assert.match(host.text('etc/modprobe.d/vitrine.conf')!, /^softdep nvidia pre: vfio-pci\nsoftdep snd_hda_intel pre: vfio-pci\noptions vfio-pci ids=10de:2684,10de:22ba$/m);
  assert.equal(host.text('boot/initramfs.conf'), host.text('etc/modprobe.d/vitrine.conf'));
  await until('it is told', () => leases().given.length === 2);
  assert.deepEqual(leases().given, [{ address: card, how: 'reserved', driver: 'nvidia', waiting: true }, { address: '0000:01:00.1', how: 'reserved', driver: 'snd_hda_intel', waiting: true }]);
  assert.deepEqual(await actions(), [{ label: 'Reserve it no more', verb: 'unreserve', address: card }]);
  await client.call('remedy', { verb: 'unreserve', address: card });
  assert.equal(host.text('etc/modprobe.d/vitrine.conf'), null);
  await until('it is told', () => leases().given.length === 0);
  client.close();
});

test('buttons: virtual functions made, their number changed, and set back', { skip }, async (t) => {
  const { host, client, id } = await fronted(t, HOSTS.server);
  const leases = watched(client);
  const card = '0000:18:00.1';
  const finding = async () => (await client.call('devicesFor', { id })).devices[card].findings.find(({ aspect }) => aspect === 'virtual-functions');
  assert.deepEqual((await finding())?.actions, [{ label: 'Make virtual functions', verb: 'set-functions', address: card, most: 64 }]);
  await assert.rejects(client.call('remedy', { verb: 'set-functions', address: card, count: 65 }), refusedAs('lease-functions'));
  await client.call('remedy', { verb: 'set-functions', address: card, count: 3 });
  await until('it is told', () => leases().functions[card]?.now === 3);
  assert.deepEqual(leases().functions, { [card]: { now: 3, before: 0 } });
  const made = await finding();
  assert.deepEqual([made!.facts.enabled, (made!.facts.addresses as string[]).length, made!.actions?.map(({ label }) => label)], [3, 3, ['Change their number', 'Set their number back to 0']]);
  // One of them goes to a machine.
  const [first] = made!.facts.addresses as string[];
  const devices = (await client.call('devicesFor', { id })).devices;
  const plan = await client.call('planDevices', { id, groups: [devices[first].group], mode: 'kept', roms: {} });
  assert.deepEqual([plan.problem, plan.devices], [undefined, [first]]);
  await client.call('giveDevices', { id, groups: [devices[first].group], mode: 'kept', roms: {}, digest: plan.digest });
  assert.equal(host.driverOf(first), 'vfio-pci');
  await assert.rejects(client.call('remedy', { verb: 'restore-functions', address: card }), refusedAs('lease-leased'));
  await client.call('takeDevices', { id, addresses: [first] });
  await client.call('remedy', { verb: 'restore-functions', address: card });
  assert.equal((await finding())?.facts.enabled, 0);
  await until('it is told', () => Object.keys(leases().functions).length === 0);
  client.close();
});

test('buttons: the helper installed, a machine allowed its devices without a password, all of it taken back', { skip }, async (t) => {
  const { host, client, id, choice } = await fronted(t, HOSTS.intelDesktop, true, false);
  const leases = watched(client);
  await until('the leases are read', () => leases().state === 'ready');
  assert.deepEqual([leases().helper.state, leases().helper.canAsk], ['missing', true]);
  assert.equal((await client.call('planDevices', choice(['15']))).permission, 'helper');
  host.answer(126);
  await assert.rejects(client.call('remedy', { verb: 'install-helper' }), refusedAs('lease-dismissed'));
  host.answer(0);
  await client.call('remedy', { verb: 'install-helper' });
  await until('it is told', () => leases().helper.state === 'installed');
  assert.match(host.text('usr/share/polkit-1/actions/org.vitrine.helper.policy')!, /org\.vitrine\.helper/);

  const plan = await client.call('planDevices', choice(['15']));
  await assert.rejects(client.call('remedy', { verb: 'grant', id, addresses: [NIC] }), refusedAs('no-such-device'));
  await client.call('giveDevices', { ...choice(['15']), digest: plan.digest });
  await client.call('remedy', { verb: 'grant', id, addresses: [NIC] });
  await until('it is told', () => leases().grants.length === 1);
  assert.deepEqual(leases().grants, [{ machine: { id, name: 'Router' }, addresses: [NIC], memory: GiB + 128 * 2 ** 20, withdraw: [`sudo /usr/local/libexec/vitrine-helper revoke ${id}`] }]);
  assert.equal((await client.call('planDevices', choice([]))).permission, 'granted');
  // Nobody is asked: a question would be dismissed.
  host.answer(126);
  await client.call('startMachine', { id });
  assert.equal(host.driverOf(NIC), 'vfio-pci');
  await assert.rejects(client.call('remedy', { verb: 'revoke', id, addresses: [NIC] }), refusedAs('lease-dismissed'));
  host.answer(0);
  await client.call('remedy', { verb: 'revoke', id, addresses: [NIC] });
  assert.deepEqual((await client.call('planDevices', choice([]))).problem?.code, 'machine-running');
  await until('it is told', () => leases().grants.length === 0);
  await assert.rejects(client.call('remedy', { verb: 'remove-helper' }), refusedAs('lease-held'));
  client.close();
});

test('what was allowed for a machine that was removed stays listed until it is withdrawn, and is not another one\'s of its name', { skip }, async (t) => {
  const { host, client, id, choice } = await fronted(t, HOSTS.intelDesktop);
  const leases = watched(client);
  const { digest } = await client.call('planDevices', choice(['15']));
  await client.call('giveDevices', { ...choice(['15']), digest });
  await client.call('remedy', { verb: 'grant', id, addresses: [NIC] });
  await until('it is told', () => leases().grants.length === 1);
  assert.equal(leases().grants[0].gone, undefined);

  await client.call('removeMachine', { id });
  await until('the machine is gone', () => leases().grants[0].gone === true);
  assert.deepEqual([leases().grants[0].machine, leases().grants[0].addresses], [{ id, name: id }, [NIC]]);
  const { id: second } = await client.call('createMachine', { name: 'Router', memory: GiB, cpus: 1, boot: { kernel: '/k' } });
  assert.notEqual(second, id);
  assert.equal(leases().grants[0].gone, true);

  // Without anybody to ask: the command says what to do.
  host.answer(127);
  await assert.rejects(client.call('remedy', { verb: 'revoke', id, addresses: [NIC] }), (thrown: unknown) => thrown instanceof VitrineError && thrown.problem.remedy.includes(`revoke ${id}`));
  assert.equal(leases().grants.length, 1);
  host.answer(0);
  await client.call('remedy', { verb: 'revoke', id, addresses: [NIC] });
  await until('it is told', () => leases().grants.length === 0);
  const { id: third } = await client.call('createMachine', { name: 'Router', memory: GiB, cpus: 1, boot: { kernel: '/k' } });
  assert.equal(third, id);
  client.close();
});

test('a machine with devices that is killed: removing the helper gives everything back', { skip }, async (t) => {
  const { host, client, id, choice, library } = await fronted(t, HOSTS.intelDesktop);
  const { digest } = await client.call('planDevices', choice(['15'], 'kept'));
  await client.call('giveDevices', { ...choice(['15'], 'kept'), digest });
  await client.call('startMachine', { id });
  process.kill(readRunInfo(library.folderOf(id))!.pid, 'SIGKILL');
  await until('it has ended', () => !isHeld(library.folderOf(id)));
  assert.equal(host.driverOf(NIC), 'vfio-pci');
  await client.call('remedy', { verb: 'remove-helper' });
  assert.deepEqual([host.driverOf(NIC), host.text('usr/local/libexec/vitrine-helper')], ['e1000e', null]);
  client.close();
});

test('giving that was cut off: the next front puts the machine\'s file back, unless the computer had let go for good', { skip }, async (t) => {
  const { host, client, id, choice, library, devices } = await fronted(t, HOSTS.intelDesktop);
  const env = { ...process.env, ...host.env, VITRINE_BACKEND: 'kvm' };
  const nextFront = async () => (await startFront({ shell: 'browser', env, library, entry })).close();
  const cutOff = () => writeFileSync(join(library.folderOf(id), 'giving.json'), JSON.stringify({ before: [], fresh: [NIC] }));
  const { digest } = await client.call('planDevices', choice(['15'], 'kept'));
  await client.call('giveDevices', { ...choice(['15'], 'kept'), digest });
  assert.deepEqual(readdirSync(library.folderOf(id)).filter((name) => name.startsWith('giving')), []);
  cutOff();
  await nextFront();
  assert.equal(devices().length, 1);
  await client.call('remedy', { verb: 'release', addresses: [NIC] });
  // Somebody is at it.
  const busy = beginGiving(library.folderOf(id), { ...library.config(id), devices: [] }, [NIC]);
  await nextFront();
  assert.equal(devices().length, 1);
  assert.throws(() => beginGiving(library.folderOf(id), library.config(id), []), refusedAs('giving'));
  busy.end();
  cutOff();
  await nextFront();
  assert.deepEqual([devices(), readdirSync(library.folderOf(id)).filter((name) => name.startsWith('giving'))], [[], []]);
  client.close();
});
