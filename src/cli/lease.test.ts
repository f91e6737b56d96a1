// `vitrine bind` and `vitrine release` on a host made of files, with the helper's test build.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { VitrineError } from '../shared/errors.ts';
import { compileHelper, FakeHost } from '../main/lease/testing/fake-host.ts';
import { exitCodeOf } from './exit-codes.ts';
import type { LeaseHost } from './lease.ts';
import { bind, installIt, release, removeIt } from './lease.ts';

const [BRIDGE, NIC, SOUND, OFF] = ['0000:00:01.0', '0000:00:02.0', '0000:00:03.0', '0000:00:04.0'] as [string, string, string, string];
let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'vitrine-cli-lease-'));
  compileHelper(join(folder, 'helper'));
});
after(() => rmSync(folder, { recursive: true, force: true }));

function fakeHost(): { host: FakeHost; on: LeaseHost } {
  const host = new FakeHost({ devices: [{ address: BRIDGE, group: 1, driver: 'pcieport', bridge: true }, { address: NIC, group: 1, driver: 'e1000e' }, { address: SOUND, group: 1, driver: 'snd_hda_intel' }, { address: OFF, driver: 'ahci' }] }, folder);
  const on: LeaseHost = {
    sys: host.path('sys'), run: host.path('run'), proc: host.path('proc'),
    starter: { asks: true, start: (way, words = []) => spawn(join(folder, 'helper'), [way, ...words], { env: { VITRINE_TEST_ROOT: host.root }, stdio: 'pipe' }) },
  };
  return { host, on };
}

test('what goes together is bound together, kept, and given back', async () => {
  const { host, on } = fakeHost();
  const said: string[] = [];
  const output = { out: (text: string) => void said.push(text), err: (text: string) => void said.push(text) };
  const initial = host.snapshot();
  await assert.rejects(bind([NIC], output, on), (error) => error instanceof VitrineError && error.problem.code === 'lease-not-viable' && error.problem.remedy.endsWith(`: vitrine bind ${NIC} ${SOUND}`));
  assert.equal(host.snapshot(), initial);

  assert.equal(await bind([NIC, SOUND], output, on), 0);
  assert.deepEqual([host.driverOf(NIC), host.driverOf(SOUND), host.driverOf(BRIDGE)], ['vfio-pci', 'vfio-pci', 'pcieport']);
  assert.equal(said.splice(0).join(''), `${NIC} is on vfio-pci, and its group 1 is yours.\n${SOUND} is on vfio-pci, and its group 1 is yours.\nIt stays so until \`vitrine release\`, or until the computer restarts.\n`);

  host.put('busy/1', '');
  await assert.rejects(release([NIC], output, on), (error) => error instanceof VitrineError && exitCodeOf(error.problem) === 4 && /in use by a machine/.test(error.message));
  rmSync(host.path('busy/1'));
  assert.equal(await release([NIC], output, on), 0);
  assert.equal(said.splice(0).join(''), `${NIC} is back with its driver e1000e.\n`);
  assert.equal(await release([], output, on), 0);
  assert.equal(said.splice(0).join(''), `${SOUND} is back with its driver snd_hda_intel.\n`);
  assert.equal(host.snapshot(), initial);
  assert.equal(await release([], output, on), 0);
  assert.equal(said.splice(0).join(''), 'Nothing is kept, and nothing is left to give back.\n');
});

test('what cannot be bound is refused before anybody is asked', async () => {
  const { host, on } = fakeHost();
  const asked: string[] = [];
  const starter = { ...on.starter!, start: () => assert.fail('nobody is to be asked') };
  const output = { out: (text: string) => void asked.push(text), err: (text: string) => void asked.push(text) };
  for (const [address, code, exit] of [['0000:00:1f.0', 'lease-no-device', 3], [OFF, 'lease-no-group', 1]] as const) {
    await assert.rejects(bind([address], output, { ...on, starter }), (error) => error instanceof VitrineError && error.problem.code === code && exitCodeOf(error.problem) === exit);
  }
  assert.deepEqual([host.log(), asked], [[], []]);
});

test('the helper installs itself, and gives everything back before it is removed', async () => {
  const { host, on } = fakeHost();
  const said: string[] = [];
  const output = { out: (text: string) => void said.push(text), err: (text: string) => void said.push(text) };
  const [program, policy] = ['usr/local/libexec/vitrine-helper', 'usr/share/polkit-1/actions/org.vitrine.helper.policy'];
  assert.equal(await installIt(output, on), 0);
  assert.match(said.splice(0).join(''), /needs an administrator's password\.\nIt is installed\.\n$/);
  assert.deepEqual([program, policy].map((path) => existsSync(host.path(path))), [true, true]);
  assert.equal(await bind([NIC, SOUND], output, on), 0);
  host.put('busy/1', '');
  await assert.rejects(removeIt(output, on), (error) => error instanceof VitrineError && error.problem.code === 'lease-held');
  rmSync(host.path('busy/1'));
  said.length = 0;
  assert.equal(await removeIt(output, on), 0);
  assert.equal(said.join(''), `${SOUND} is back with its driver snd_hda_intel.\n${NIC} is back with its driver e1000e.\nThe privileged helper is removed, and nothing of it is left.\n`);
  assert.deepEqual([program, policy].map((path) => existsSync(host.path(path))), [false, false]);
});
