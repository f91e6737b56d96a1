import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { isHeld, readRunInfo, beginRun } from '../vmm/server/run-record.ts';
import { serveMachine } from '../vmm/server/serve.ts';
import { FakeMachine } from '../vmm/server/testing/fake-machine.ts';
import { Library } from '../main/library/library.ts';

const cli = fileURLToPath(new URL('./main.ts', import.meta.url));
const runFake = fileURLToPath(new URL('./testing/run-fake.ts', import.meta.url));
const MiB = 2 ** 20;

function scratch(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'vc-'));
  const run = join(folder, 'run');
  mkdirSync(run, { mode: 0o700 });
  const env = { ...process.env, XDG_DATA_HOME: join(folder, 'data'), XDG_RUNTIME_DIR: run, VITRINE_BACKEND: 'kvm' };
  const library = new Library(join(folder, 'data/vitrine/machines'));
  t.after(async () => {
    for (const id of library.ids()) {
      const pid = isHeld(library.folderOf(id)) ? readRunInfo(library.folderOf(id))?.pid : undefined;
      if (pid !== undefined && pid !== process.pid) process.kill(pid, 'SIGKILL');
    }
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });
  return { folder, env, library };
}

function start(script: string, words: string[], env: NodeJS.ProcessEnv) {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', script, ...words], { env, stdio: ['pipe', 'pipe', 'pipe'] });
  const said = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said.stderr += text));
  const ended = new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) => child.on('close', (code) => resolve({ code, ...said })));
  return { child, said, ended };
}

const vitrine = (env: NodeJS.ProcessEnv, ...words: string[]) => {
  const { child, ended } = start(cli, words, env);
  child.stdin.end();
  return ended;
};

async function until(condition: () => unknown): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

function alive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test('exit codes: help, usage, no such machine, not running', async (t) => {
  const { env } = scratch(t);
  const results = await Promise.all([vitrine(env, '--help'), vitrine(env, 'run'), vitrine(env, 'stop', 'none'), vitrine(env, 'stop', 'try-linux'), vitrine(env, 'run', '--kernel', '/none'), vitrine(env, 'list', '--json')]);
  assert.deepEqual(results.map(({ code }) => code), [0, 2, 3, 4, 1, 0], JSON.stringify(results));
  assert.match(results[0].stdout, /Exit codes/);
  assert.match(results[3].stderr, /it does not run/);
  assert.match(results[4].stderr, /Cannot load the kernel \(\/none\): there is no such file/);
  assert.equal(readdirSync(join(env.XDG_DATA_HOME, 'vitrine/machines')).some((name) => name.startsWith('run-')), false);
});

test('run: the guest\'s first words, its exit codes, and nothing left behind', async (t) => {
  const { env, library } = scratch(t);
  const [hello, exit, fail, crash] = await Promise.all(['fake:hello', 'fake:exit:16', 'fake:fail', 'fake:crash'].map((behaviour) => start(runFake, [behaviour], env).ended));
  assert.deepEqual([hello.code, exit.code, fail.code, crash.code], [0, 33, 1, 1], JSON.stringify([hello, exit, fail, crash]));
  assert.equal(hello.stdout, 'hello from the guest\r\n');
  assert.match(fail.stderr, /Cannot load the kernel/);
  assert.match(crash.stderr, /fake crash/);
  assert.deepEqual(library.ids(), []);
});

test('run: what is typed reaches the guest; a signal ends the machine; so does the end of a killed command', async (t) => {
  const { env, library } = scratch(t);
  const first = start(runFake, ['fake:run'], env);
  first.child.stdin.write('typed\x01x');
  await until(() => first.said.stdout.includes('typed\x01x'));
  const pid = readRunInfo(library.folderOf(library.ids()[0]))!.pid;
  first.child.kill('SIGTERM');
  assert.equal((await first.ended).code, 128 + 15);
  await until(() => !alive(pid)); // it lets go of its lock a moment before it is gone
  assert.deepEqual(library.ids(), []);

  const second = start(runFake, ['fake:run'], env);
  await until(() => library.ids().length === 1 && isHeld(library.folderOf(library.ids()[0])));
  second.child.stdin.write('x');
  await until(() => second.said.stdout === 'x');
  const [left] = library.ids();
  second.child.kill('SIGKILL');
  await until(() => !isHeld(library.folderOf(left)));
  assert.equal((await start(runFake, ['fake:hello'], env).ended).code, 0);
  assert.deepEqual(library.ids(), []);
});

/** Processes that have something to do with the folder: a machine, or the shell that it begins as, or its watcher. */
function processesOf(folder: string): string[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(folder);
    } catch {
      return false;
    }
  });
}

test('run: killed at any moment of the start, it leaves no machine running', async (t) => {
  const { env, library } = scratch(t);
  const machines = join(library.folder, 'run-');
  const moments: [string, () => unknown][] = [
    ['the folder is there', () => library.ids().length > 0],
    ['its process is there', () => processesOf(machines).length > 0],
    ['it has the lock', () => library.ids().some((id) => isHeld(library.folderOf(id)))],
    ['it has said where it is', () => library.ids().some((id) => readRunInfo(library.folderOf(id)) !== null)],
  ];
  for (const [what, reached] of moments) {
    const { child, ended } = start(runFake, ['fake:run'], env);
    await until(reached);
    child.kill('SIGKILL');
    await ended;
    await until(() => processesOf(machines).length === 0 && library.ids().every((id) => !isHeld(library.folderOf(id))));
    for (const id of library.ids()) await library.remove(id);
    assert.deepEqual(library.ids(), [], what);
  }
});

test('a machine is made, gets a disk, and is told when that is gone', async (t) => {
  const { env, library, folder } = scratch(t);
  const image = join(folder, 'a.qcow2');
  assert.match((await vitrine(env, 'disk', 'create', image, '1M')).stdout, /Format +qcow2\n.*1 MiB \(1048576 bytes\)/);
  assert.deepEqual(await vitrine(env, 'create', 'Box', '--kernel', '/k', '--disk', `${image},serial=S1`), { code: 0, stdout: 'box\n', stderr: '' });
  assert.deepEqual(library.config('box').devices.map((each) => [each.kind, 'file' in each && each.file]), [['virtio-blk', image]]);
  assert.equal((await vitrine(env, 'device', 'add', 'box', '--cdrom', 'none')).stdout, '3\n');
  assert.match((await vitrine(env, 'device', 'list', 'box')).stdout, /1\.0 +yes +virtio-blk\n3\.0 +yes +virtio-scsi/);
  assert.match((await vitrine(env, 'change', 'box', 'cd', image)).stderr, /in this machine twice/);
  writeFileSync(join(folder, 'a.iso'), 'x');
  assert.equal((await vitrine(env, 'change', 'box', 'cd', join(folder, 'a.iso'))).code, 0);
  assert.deepEqual(await vitrine(env, 'change', 'box', 'link', 'up').then(({ code }) => code), 3);
  assert.equal((await vitrine(env, 'change', 'box', 'cd', join(folder, 'none.iso'))).code, 1);
  rmSync(image);
  const gone = await vitrine(env, 'run', '--kernel', process.execPath, '--disk', image);
  assert.match(gone.stderr, /a\.qcow2.*the image is not there/);
  assert.equal(gone.code, 1);
  assert.deepEqual(library.ids().filter((id) => id.startsWith('run-')), []);
});

test('list, pause, resume, screenshot, stop: on a machine that runs', async (t) => {
  const { env, library, folder } = scratch(t);
  const id = library.create({ name: 'My \u001b[31mmachine', memory: 64 * MiB, cpus: 1, boot: { kernel: '/k' } });
  const damaged = library.create({ name: 'Damaged', memory: 64 * MiB, cpus: 1, boot: { kernel: '/k' } });
  writeFileSync(join(library.folder, damaged, 'machine.json'), '');
  const socketPath = join(env.XDG_RUNTIME_DIR, 'm.sock');
  const run = await beginRun(library.folderOf(id), socketPath);
  const machine = new FakeMachine(id);
  const server = await serveMachine({ socketPath, machine });

  assert.equal((await vitrine(env, 'pause', id)).code, 0);
  const { stdout } = await vitrine(env, 'list');
  assert.match(stdout, new RegExp(`${id} +paused +kvm +64 MiB +1 +My \\?\\[31mmachine\n`));
  assert.match(stdout, /damaged +damaged .*it is empty/);
  const entries = JSON.parse((await vitrine(env, 'list', '--json')).stdout) as { id: string; state: string }[];
  assert.equal(entries.find((entry) => entry.id === id)?.state, 'paused');
  assert.equal((await vitrine(env, 'resume', id, 'none')).code, 3);
  const png = join(folder, 'out.png');
  assert.equal((await vitrine(env, 'screenshot', id, png)).code, 0);
  assert.equal(readFileSync(png).toString('hex'), '89504e470d0a1a0a');
  assert.equal((await vitrine(env, 'screenshot', id, join(folder, 'none/out.png'))).code, 1);

  assert.equal((await vitrine(env, 'device', 'add', id, 'pci-test,dirty-log')).stdout, '1\n');
  const deaf = await vitrine(env, 'device', 'add', id, 'pci-test');
  assert.deepEqual([deaf.code, deaf.stdout], [0, '3\n']);
  assert.match(deaf.stderr, /does not listen/);
  assert.match((await vitrine(env, 'device', 'list', id)).stdout, /SLOT +REMOVABLE +DEVICE\n0\.0 +no +00:00\.0 host bridge\n1\.0 +yes +00:01\.0 pci-test\n3\.0/);
  assert.equal((JSON.parse((await vitrine(env, 'device', 'list', id, '--json')).stdout) as object[]).length, 3);
  assert.equal((await vitrine(env, 'device', 'remove', id, '3', '--timeout', '7')).code, 0);
  assert.equal((await vitrine(env, 'device', 'remove', id, '1', '--force')).code, 0);
  const late = await vitrine(env, 'stop', id, '--timeout', '1');
  assert.equal(late.code, 1);
  assert.match(late.stderr, /did not shut down within 1 seconds/);
  machine.onOff = (how) => setImmediate(() => {
    run.writeOutcome({ endedAt: Date.now(), how });
    void server.close().then(() => run.release());
  });
  assert.equal((await vitrine(env, 'stop', id, '--force')).code, 0);
  assert.deepEqual(machine.asked, ['pause', 'resume', 'addDevice pci-test', 'addDevice pci-test', 'removeDevice 3 within 7', 'removeDevice 1 by force', 'powerButton', 'forceOff']);
  assert.equal((await vitrine(env, 'pause', id)).code, 4);
});

test('serve prints its address and goes when it is told to', async (t) => {
  const { env } = scratch(t);
  const { child, said, ended } = start(cli, ['serve'], env);
  await until(() => /http:\/\/127\.0\.0\.1:\d+\/\?token=[0-9a-f]{64}\n/.test(said.stdout));
  child.kill('SIGINT');
  assert.equal((await ended).code, 0);
});
