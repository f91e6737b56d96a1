// Parts of set-up that can be wrong without anybody noticing at once.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { chooseBackend } from '../start.mjs';
import { Cpio } from './cpio.mjs';
import { SetupError, filesBelow, hashOf, isFresh, root, run, writeStamp } from './run.mjs';
import { profileFor, readLimits, sandboxProblem } from './sandbox.mjs';
import { tryLinux } from './try-linux.mjs';

const inFolder = async (work) => {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-setup-'));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};

test('a cpio archive is read back by busybox as it was written', { skip: spawnSync('busybox', ['true']).status !== 0 && 'no busybox' }, async () => {
  const archive = new Cpio();
  archive.folder('etc');
  archive.file('etc/odd', 'abc');
  archive.file('run.sh', '#!/bin/sh\n', 0o755);
  archive.link('etc/link', 'odd');
  await inFolder((folder) => {
    execFileSync('busybox', ['cpio', '-i', '-d'], { cwd: folder, input: archive.end(), stdio: ['pipe', 'ignore', 'ignore'] });
    assert.equal(readFileSync(join(folder, 'etc/link'), 'utf8'), 'abc');
    assert.equal(statSync(join(folder, 'run.sh')).mode & 0o777, 0o755);
  });
});

test('the initrd of "Try Linux" starts with a folder and holds /init and its modules', { skip: !existsSync(tryLinux.initrd) && 'it was left out' }, () => {
  const archive = gunzipSync(readFileSync(tryLinux.initrd)).toString('latin1');
  assert.equal(archive.slice(0, 6), '070701');
  for (const name of ['init\0', 'bin/busybox\0', 'dev/console\0', 'lib/modules/order\0', 'TRAILER!!!\0']) assert.ok(archive.includes(name), name);
});

test('a stamp counts only with its hash and with every target there', () => inFolder((folder) => {
  const source = join(folder, 'a');
  const stamp = join(folder, 'stamp');
  writeFileSync(source, '1');
  const hash = hashOf([source], 'flag');
  writeStamp(stamp, hash);
  assert.equal(isFresh(stamp, hash, [source]), true);
  assert.equal(isFresh(stamp, hash, [join(folder, 'missing')]), false);
  assert.equal(isFresh(stamp, hashOf([source], 'other flag'), [source]), false);
  writeFileSync(source, '2');
  assert.notEqual(hashOf([source], 'flag'), hash);
}));

test('a command that fails says what it was and what it said', async () => {
  await assert.rejects(run('Trying', 'sh', ['-c', 'echo words; exit 3']), (error) => error instanceof SetupError && /Trying failed \(exit code 3\).*words/s.test(error.message));
  await assert.rejects(run('Trying', '/nonexistent', []), /Trying failed/);
});

test('what the kernel says about user namespaces decides whether Electron can be sandboxed', async () => {
  const limits = (files) => readLimits((path) => files[path]);
  assert.deepEqual(limits({}), { restrictedByAppArmor: false, forbidden: false });
  assert.deepEqual(limits({ '/proc/sys/kernel/apparmor_restrict_unprivileged_userns': '1' }), { restrictedByAppArmor: true, forbidden: false });
  assert.deepEqual(limits({ '/proc/sys/kernel/unprivileged_userns_clone': '0' }), { restrictedByAppArmor: false, forbidden: true });
  assert.deepEqual(limits({ '/proc/sys/user/max_user_namespaces': '0' }), { restrictedByAppArmor: false, forbidden: true });
  assert.equal(await sandboxProblem('/nowhere/electron', { restrictedByAppArmor: false, forbidden: false }), undefined);
  assert.match(await sandboxProblem('/nowhere/electron', { restrictedByAppArmor: false, forbidden: true }), /no user namespaces/);
  assert.match(await sandboxProblem('/nowhere/electron', { restrictedByAppArmor: true, forbidden: false }), /apparmor_parser -r/);
  assert.match(profileFor('/a b/electron'), /profile vitrine-electron "\/a b\/electron" flags=\(unconfined\) \{\n {2}userns,/);
});

test('nothing switches Electron\'s sandbox off', () => {
  const option = ['--no', 'sandbox'].join('-');
  const passing = ['src', 'scripts', 'e2e'].flatMap((folder) => filesBelow(join(root, folder))).filter((path) => new RegExp(`['"\`]${option}`).test(readFileSync(path, 'utf8')));
  assert.deepEqual(passing, []);
});

test('the backend is the one asked for, else what the probe found, with the reason', () => {
  const fine = { usable: true, canBootLinux: true, why: '' };
  const poor = { usable: true, canBootLinux: false, why: 'it stops at an instruction.' };
  assert.equal(chooseBackend({ kvm: true }, poor).backend, 'kvm');
  assert.equal(chooseBackend({ lab: true }, fine).backend, 'lab');
  assert.equal(chooseBackend({}, fine).backend, '');
  assert.match(chooseBackend({}, poor).line, /lab.*slower.*it stops at an instruction/);
});
