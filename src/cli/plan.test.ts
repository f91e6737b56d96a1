// `vitrine plan` as people and scripts run it, on written hosts.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import * as v from 'valibot';
import { planSchema } from '../shared/passthrough.ts';
import { HOSTS, PCI_IDS } from '../main/host-devices/testing/hosts.ts';
import { writeHost } from '../main/host-devices/testing/tree.ts';
import { playHost } from '../main/lease/testing/played-host.ts';
import { Library } from '../main/library/library.ts';
import { libraryFolder } from '../main/library/folders.ts';

const cli = fileURLToPath(new URL('./main.ts', import.meta.url));

function prepare(t: TestContext, tree: Record<string, string>) {
  const folder = mkdtempSync(join(tmpdir(), 'vcp-'));
  mkdirSync(join(folder, 'run'), { mode: 0o700 });
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const env: NodeJS.ProcessEnv = { ...process.env, ...tree, XDG_DATA_HOME: folder, XDG_RUNTIME_DIR: join(folder, 'run') };
  const library = new Library(libraryFolder(env));
  const id = library.create({ name: 'Workstation', memory: 2 ** 30, cpus: 1, boot: { kernel: '/k' } });
  const vitrine = (...words: string[]) => new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    execFile(process.execPath, ['--disable-warning=ExperimentalWarning', cli, ...words], { env, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }));
  });
  return { vitrine, library, id };
}

test('what would change, what to know, the commands; exit codes for scripts', async (t) => {
  const host = writeHost(HOSTS.amdDesktop, PCI_IDS);
  t.after(() => host.remove());
  const { vitrine } = prepare(t, { VITRINE_HOST_TREE: host.folder, VITRINE_TREE_HELPER: '' });
  const [card, disk, none, wrong, strange] = await Promise.all([vitrine('plan', 'workstation', '01:00.0'), vitrine('plan', 'Workstation', '02:00.0', '--json'), vitrine('plan', 'Workstation'), vitrine('plan', 'Workstation', '0a:00.0'), vitrine('plan', 'nobody')]);
  // The helper is not there, so it has to be installed first.
  assert.equal(card.code, 8, card.stderr);
  const lines = card.stdout.split('\n');
  assert.deepEqual(lines.slice(0, 5), [
    ' 1. Add Radeon RX 7600 and Navi 31 HDMI/DP Audio to Workstation',
    '      Undone: take them out of Workstation',
    ' 2. Load the kernel module vfio-pci',
    '      It stays loaded until the computer restarts.',
    ' 3. Stop the driver amdgpu for slot 01:00.0',
  ]);
  assert.match(card.stdout, /The 2 screens on it go dark\. No other screen is in use\./);
  assert.match(card.stdout, /What to know before\n {2}Radeon RX 7600 \(01:00\.0\)\n {2}! Your screens run on this\. They go dark\./);
  assert.match(card.stdout, /The privileged helper has to be installed first\. These commands do both:\n {2}sudo install [^]*\n {2}printf '%s\\n' 'bind 0000:01:00\.0' 'bind 0000:01:00\.1' 'permit 14' \| sudo [^]*Undo:\n {2}sudo \S+ release 0000:01:00\.0\n/);
  assert.equal(disk.code, 7);
  const refused = v.parse(planSchema, JSON.parse(disk.stdout));
  assert.deepEqual([refused.problem?.code, refused.steps], ['host-needs-it', []]);
  assert.deepEqual([none.code, none.stdout], [0, 'Workstation has no devices of this computer.\n']);
  assert.deepEqual([wrong.code, strange.code], [3, 3]);
});

test('what a start changes, and permission that can be asked for', { skip: process.getuid!() === 0 && 'the helper of a written host is never started by root' }, async (t) => {
  const host = playHost(HOSTS.intelDesktop);
  t.after(() => host.remove());
  const { vitrine, library, id } = prepare(t, host.env);
  await library.update(id, { devices: [{ kind: 'vfio-pci', address: '0000:03:00.0' }] });
  const start = await vitrine('plan', 'Workstation');
  assert.equal(start.code, 0, start.stderr);
  assert.match(start.stdout, /Hand it to vfio-pci and let your account open group 15\n {6}Undone: remove the permission\n\nYou are asked for permission, once\.\n/);
  await library.update(id, { devices: [{ kind: 'vfio-pci', address: '0000:09:00.0' }] });
  const gone = await vitrine('plan', 'Workstation');
  assert.deepEqual([gone.code, gone.stdout.split('\n')[0]], [7, 'Not possible: there is no device in slot 09:00.0.']);
  const started = await vitrine('start', 'Workstation', '--kvm');
  assert.deepEqual([started.code, /there is no device in slot 09:00\.0\. Put it back/.test(started.stderr)], [7, true], started.stderr);
});
