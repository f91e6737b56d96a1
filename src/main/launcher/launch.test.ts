import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { VitrineError } from '../../shared/errors.ts';
import { isHeld, lastOutcome, readRunInfo } from '../../vmm/server/run-record.ts';
import { Library } from '../library/library.ts';
import type { BackendChoice } from './backend.ts';
import { choose, forcedBackend, isMultiboot, kernelKind } from './backend.ts';
import { cleanEnvironment } from './environment.ts';
import { connectRunning, readLogTail, startMachine } from './launch.ts';

const entry = fileURLToPath(new URL('../../vmm/server/testing/fake-entry.ts', import.meta.url));
const MiB = 2 ** 20;
const choice: BackendChoice = { kvm: { usable: true, canBootLinux: true, problem: null }, backend: { linux: 'kvm', freestanding: 'kvm' }, forced: false, why: '' };
const code = (expected: string) => (e: unknown) => e instanceof VitrineError && e.problem.code === expected;

function scratch(t: { after: (f: () => Promise<void>) => void }, kernel: string) {
  const folder = mkdtempSync(join(tmpdir(), 'vl-'));
  const library = new Library(join(folder, 'machines'));
  const id = library.create({ name: 'Fake', memory: 64 * MiB, cpus: 1, boot: { kernel } });
  const env = { ...process.env, XDG_RUNTIME_DIR: folder };
  const options = { folder: library.folderOf(id), config: library.config(id), choice, env, entry };
  t.after(async () => {
    const pid = isHeld(options.folder) ? readRunInfo(options.folder)?.pid : undefined;
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
    while (isHeld(options.folder)) await new Promise((resolve) => setTimeout(resolve, 5));
    rmSync(folder, { recursive: true, force: true });
  });
  return { library, id, options };
}

test('many starts at once make one process; the machine answers, and says how it ended', async (t) => {
  const { id, options } = scratch(t, 'fake:run');
  await Promise.all(Array.from({ length: 4 }, () => startMachine(options)));
  const { pid } = readRunInfo(options.folder)!;
  await startMachine(options);
  assert.equal(readRunInfo(options.folder)!.pid, pid);
  const connection = (await connectRunning(options.folder, id, options.env))!;
  await connection.client.call('forceOff', {});
  await connection.closed;
  while (isHeld(options.folder)) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(lastOutcome(options.folder)?.how, 'forced');
  assert.equal(await connectRunning(options.folder, id, options.env), null);
  assert.match(readLogTail(options.folder), /fake machine in/);
});

test('a machine that cannot start rejects with its own problem', async (t) => {
  const { options } = scratch(t, 'fake:fail');
  await assert.rejects(startMachine(options), code('kernel-missing'));
  assert.equal(lastOutcome(options.folder)?.how, 'failed');
});

test('a process that dies without a word: its log\'s end is shown, and every front sees it', async (t) => {
  const { options } = scratch(t, 'fake:crash');
  await assert.rejects(startMachine(options), (e) => code('machine-ended-early')(e) && /SIGKILL/.test(String(e)) && /fake crash/.test(String(e)));
  assert.equal(lastOutcome(options.folder)?.problem?.code, 'machine-ended-early');
});

test('a machine that ends before anybody looked is no failure', async (t) => {
  const { options } = scratch(t, 'fake:hello');
  await startMachine(options);
  while (isHeld(options.folder)) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(lastOutcome(options.folder)?.how, 'powered-off');
});

test('a missing kernel is told without a process, and noted', async (t) => {
  const { options } = scratch(t, '/nowhere/vmlinuz');
  await assert.rejects(startMachine({ ...options, entry: undefined }), code('kernel-missing'));
  assert.equal(lastOutcome(options.folder)?.problem?.code, 'kernel-missing');
  assert.equal(isHeld(options.folder), false);
});

test('a log that has grown begins anew', async (t) => {
  const { options } = scratch(t, 'fake:fail');
  writeFileSync(join(options.folder, 'machine.log'), 'x'.repeat(5 * MiB));
  await assert.rejects(startMachine(options));
  assert.ok(readLogTail(options.folder).startsWith('fake machine in'));
  assert.equal(readFileSync(join(options.folder, 'machine.log.1')).length, 5 * MiB);
});

test('the backend follows the probe, the wish, and where we are', () => {
  const none = { usable: false, canBootLinux: false, problem: { attempted: '', on: '', why: 'there is no /dev/kvm.', remedy: '', code: 'no-kvm' } };
  const some = { usable: true, canBootLinux: false, problem: null };
  const all = { usable: true, canBootLinux: true, problem: null };
  assert.deepEqual(choose(all, null, false).backend, { linux: 'kvm', freestanding: 'kvm' });
  assert.equal(choose(all, null, false).why, '');
  assert.deepEqual(choose(some, null, false).backend, { linux: 'lab', freestanding: 'kvm' });
  assert.deepEqual(choose(none, null, false).backend, { linux: 'lab', freestanding: 'lab' });
  assert.match(choose(none, null, false).why, /there is no \/dev\/kvm\. Machines run in the lab/);
  assert.deepEqual(choose(none, null, true).backend, { linux: 'kvm', freestanding: 'kvm' });
  assert.deepEqual(choose(all, 'lab', false).backend, { linux: 'lab', freestanding: 'lab' });
  assert.deepEqual(choose(none, 'kvm', false).backend, { linux: 'kvm', freestanding: 'kvm' });
  assert.equal(forcedBackend({ VITRINE_BACKEND: 'lab' }), 'lab');
  assert.equal(forcedBackend({}), null);
  assert.throws(() => forcedBackend({ VITRINE_BACKEND: 'xen' }), code('bad-backend'));
});

test('a Multiboot header is found where the specification allows it', (t) => {
  const head = (at: number, sum = 0) => {
    const bytes = new Uint8Array(8192);
    const view = new DataView(bytes.buffer);
    view.setUint32(at, 0x1badb002, true);
    view.setUint32(at + 4, 3, true);
    view.setUint32(at + 8, (sum - 0x1badb002 - 3) >>> 0, true);
    return bytes;
  };
  assert.ok(isMultiboot(head(0)));
  assert.ok(isMultiboot(head(8180)));
  assert.ok(!isMultiboot(head(6)));
  assert.ok(!isMultiboot(head(4, 1)));
  assert.ok(!isMultiboot(new Uint8Array(3)));
  const folder = mkdtempSync(join(tmpdir(), 'vl-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const kernel = join(folder, 'k');
  writeFileSync(kernel, head(4096));
  const boot = { kernel, append: '' };
  const config = new Library(join(folder, 'm')).config(new Library(join(folder, 'm')).create({ name: 'x', memory: 64 * MiB, cpus: 1, boot }));
  assert.equal(kernelKind(config), 'freestanding');
  writeFileSync(kernel, 'MZ');
  assert.equal(kernelKind(config), 'linux');
  writeFileSync(kernel, '');
  assert.throws(() => kernelKind(config), code('kernel-empty'));
  assert.throws(() => kernelKind({ ...config, boot: { ...boot, initrd: folder } }), code('initrd-not-a-file'));
});

test('the environment of a machine holds nothing that changes how Node runs', () => {
  assert.deepEqual(cleanEnvironment({ PATH: '/bin', NODE_OPTIONS: '--inspect', ELECTRON_RUN_AS_NODE: '1', LC_ALL: 'C', XDG_RUNTIME_DIR: '/r', LD_PRELOAD: 'x' }), { PATH: '/bin', LC_ALL: 'C', XDG_RUNTIME_DIR: '/r' });
});
