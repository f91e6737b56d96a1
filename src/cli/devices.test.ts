// What `vitrine devices` prints about written hosts, and the command itself on whatever computer this is.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import * as v from 'valibot';
import { VitrineError } from '../shared/errors.ts';
import { hostDevicesSchema } from '../shared/host-devices.ts';
import { readHostDevices } from '../main/host-devices/read.ts';
import { HOSTS, PCI_IDS } from '../main/host-devices/testing/hosts.ts';
import { writeHost } from '../main/host-devices/testing/tree.ts';
import { passthrough } from './doctor.ts';
import { deviceInWords, devicesInWords, findDevice } from './devices.ts';

const cli = fileURLToPath(new URL('./main.ts', import.meta.url));

function read(t: TestContext, text: string) {
  const host = writeHost(text, PCI_IDS);
  t.after(() => host.remove());
  return readHostDevices({ roots: host.roots });
}

test('the table: by verdict, the board folded away', (t) => {
  const lines = devicesInWords(read(t, HOSTS.intelDesktop), false).split('\n').map((line) => line.replaceAll(/(\S) {3,}/g, '$1  '));
  assert.equal(lines[0], 'IOMMU: on (dmar0, dmar1), 11 groups');
  assert.deepEqual(lines.slice(2, 5), [
    '✓ Ready',
    '     15  0000:03:00.0  82574L Gigabit Network Connection  e1000e',
    '         Nothing uses it now; its driver e1000e lets go of it first.',
  ]);
  const care = lines.indexOf('! With care');
  const never = lines.indexOf('– Not possible');
  assert.ok(care > 5 && never > care);
  const card = lines.findIndex((line) => line.includes('GeForce RTX 4090'));
  assert.ok(card > care && card < never);
  assert.match(lines[card + 1], /^ {9}0000:01:00\.1/);
  assert.equal(lines.at(-3), '4 groups hold bridges and parts of the board alone; --all shows them.');
  assert.ok(!lines.some((line) => line.includes('0000:00:00.0')));
  assert.ok(devicesInWords(read(t, HOSTS.intelDesktop), true).includes('0000:00:00.0'));
});

test('what stops everything comes first, with its commands; a reason that all share is said once', (t) => {
  const text = devicesInWords(read(t, HOSTS.noIommu), false);
  assert.match(text, /^– The IOMMU is off in the computer's firmware\.\n/);
  assert.match(text, /\n {6}sudo update-grub\n/);
  assert.equal(text.split('The IOMMU is off').length, 3);
  assert.match(devicesInWords(readHostDevices({ roots: writeAndForget(t), on: 'lab' }), false), /^These are the devices of the lab/);
});

function writeAndForget(t: TestContext) {
  const host = writeHost('', PCI_IDS);
  t.after(() => host.remove());
  return host.roots;
}

test('one device: facts, uses, findings and remedies; found by short addresses', (t) => {
  const found = read(t, HOSTS.intelDesktop);
  const text = deviceInWords(found, findDevice(found, '01:00.0'));
  assert.match(text, /^GeForce RTX 4090 \(0000:01:00\.0\): with care\n/);
  assert.match(text, /Driver +nvidia\n/);
  assert.match(text, /BARs +0: 16 MiB, 32-bit; 1: 32 GiB, 64-bit, prefetchable;/);
  assert.match(text, /\n {8}printf '%s\\n' 'softdep nvidia/);
  assert.match(text, /\n {6}In Vitrine's window: Reserve it from start-up\n {6}Undo:\n/);
  assert.match(text, /Undo:\n {8}sudo rm \/etc\/modprobe\.d/);
  assert.match(text, /Its group as a whole: with care\./);
  assert.match(deviceInWords(found, findDevice(found, '0000:02:00.0')), /Used for\n {2}Your computer's system is on this\. \(\/ on nvme0n1p2\)/);
  assert.equal(findDevice(found, '0:2.0').address, '0000:00:02.0');
  for (const [wrong, why] of [['09:00.0', /has no such/], ['card', /no PCI address/], ['toString', /no PCI address/]] as const) {
    assert.throws(() => findDevice(found, wrong), (e) => e instanceof VitrineError && e.problem.code === 'no-such-device' && why.test(e.problem.why), wrong);
  }
});

test('the doctor: the IOMMU, what is missing for it, and how many devices could go', (t) => {
  const words = (text: string) => passthrough(read(t, text)).map(({ what, verdict, found }) => `${what} | ${verdict} | ${found}`);
  assert.deepEqual(words(HOSTS.intelDesktop), ['IOMMU, for giving devices to machines | ok | dmar0, dmar1, 11 groups', 'Groups of devices for machines | ok | 1 ready, 3 with care']);
  assert.deepEqual(words(HOSTS.noIommu), ['IOMMU, for giving devices to machines | missing | The IOMMU is off in the computer\'s firmware']);
  assert.match(passthrough(read(t, HOSTS.noIommu))[0].remedy, /Intel VT-d[^]*\n {4}sudo update-grub$/);
  const unloaded = read(t, `${HOSTS.intelDesktop}\nkvm no`);
  assert.match(devicesInWords(unloaded, false), /its module is not loaded\.\n {4}Load the module\.\n {6}sudo modprobe kvm_intel\n {4}In Vitrine's window: Load KVM's module\n/);
  assert.match(words(HOSTS.noRemapping)[1], /^Interrupt remapping \| missing/);
});

test('the command: --json holds to the schema, exit codes mean something', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'vcd-'));
  mkdirSync(join(folder, 'run'), { mode: 0o700 });
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const vitrine = (...words: string[]) => new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    const env = { ...process.env, XDG_DATA_HOME: folder, XDG_RUNTIME_DIR: join(folder, 'run') };
    execFile(process.execPath, ['--disable-warning=ExperimentalWarning', cli, ...words], { env, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }));
  });
  const [json, table, wrong, machine] = await Promise.all([vitrine('devices', '--json'), vitrine('devices'), vitrine('devices', 'ffff:ff:1f.7'), vitrine('devices', '--machine', 'none')]);
  assert.deepEqual([json.code, table.code, wrong.code, machine.code], [0, 0, 3, 3], JSON.stringify([wrong, machine]));
  const found = v.parse(hostDevicesSchema, JSON.parse(json.stdout));
  assert.equal(found.state, 'ready');
  assert.match(wrong.stderr, /has no such PCI device/);
  const refused = Object.values(found.groups).find(({ verdict }) => verdict === 'not-possible');
  if (refused !== undefined) assert.equal((await vitrine('devices', refused.devices[0])).code, 7);
});
