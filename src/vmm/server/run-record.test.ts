import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { VitrineError } from '../../shared/errors.ts';
import { removeLeftovers, writeFileAtomic } from './atomic-file.ts';
import { lockWithin, tryLock } from './lock.ts';
import { beginRun, isHeld, lastOutcome, LOCK_FILE, readRunInfo } from './run-record.ts';

function scratch(t: { after: (f: () => void) => void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-run-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('one run at a time; an outcome is left; a run without one was killed', async (t) => {
  const folder = scratch(t);
  assert.equal(isHeld(folder), false);
  assert.equal(lastOutcome(folder), null);
  const run = await beginRun(folder, '/run/x.sock');
  assert.equal(isHeld(folder), true);
  assert.equal(readRunInfo(folder)?.socket, '/run/x.sock');
  await assert.rejects(beginRun(folder, '/run/y.sock', { patience: 30 }), (e) => e instanceof VitrineError && e.problem.code === 'already-running');
  run.writeOutcome({ endedAt: 5, how: 'powered-off' });
  run.release();
  assert.equal(isHeld(folder), false);
  assert.deepEqual(lastOutcome(folder), { endedAt: 5, how: 'powered-off' });
  (await beginRun(folder, '/run/x.sock')).release();
  assert.equal(lastOutcome(folder)?.how, 'killed');
  assert.equal(lastOutcome(folder)?.problem?.code, 'process-killed');
  assert.equal(lastOutcome(folder)?.problem?.on, folder);
  writeFileSync(join(folder, 'machine.json'), '{ "name": "My lab" }');
  assert.equal(lastOutcome(folder)?.problem?.on, 'My lab');
  const info = JSON.parse(readFileSync(join(folder, LOCK_FILE), 'utf8')) as object;
  writeFileSync(join(folder, LOCK_FILE), JSON.stringify({ ...info, boot: 'another' }));
  assert.equal(lastOutcome(folder)?.problem?.code, 'computer-restarted');
});

test('a killed process lets go of its lock', async (t) => {
  const folder = scratch(t);
  const module = new URL('./run-record.ts', import.meta.url).href;
  const child = spawn(process.execPath, ['-e', `import(${JSON.stringify(module)}).then(async (m) => { await m.beginRun(${JSON.stringify(folder)}, 's'); console.log('held'); setInterval(() => {}, 1000); })`], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  assert.equal(isHeld(folder), true);
  assert.equal(readRunInfo(folder)?.pid, child.pid);
  child.kill('SIGKILL');
  await new Promise((resolve) => child.once('exit', resolve));
  assert.equal(isHeld(folder), false);
  assert.equal(lastOutcome(folder)?.how, 'killed');
});

test('a start that was asked for before another process began the run does not run it again', async (t) => {
  const folder = scratch(t);
  (await beginRun(folder, '/run/x.sock')).release();
  const path = join(folder, LOCK_FILE);
  const info = JSON.parse(readFileSync(path, 'utf8')) as { startedAt: number };
  writeFileSync(path, JSON.stringify({ ...info, pid: 1 }));
  await assert.rejects(beginRun(folder, '/run/y.sock', { askedAt: info.startedAt - 1 }), (e) => e instanceof VitrineError && e.problem.code === 'already-running');
  assert.equal(isHeld(folder), false);
  (await beginRun(folder, '/run/y.sock', { askedAt: info.startedAt + 1 })).release();
});

test('a lock on a folder that was removed is not had', async (t) => {
  const folder = scratch(t);
  const path = join(folder, 'lock');
  const lock = tryLock(path)!;
  const waiting = lockWithin(path, 500);
  rmSync(path);
  lock.release();
  const second = await waiting;
  // The waiter got a new file of that name, never the removed one.
  assert.ok(second !== null);
  assert.equal(tryLock(path), null);
  second.release();
});

test('an atomic write leaves the old file when it fails, and nothing beside', (t) => {
  const folder = scratch(t);
  const path = join(folder, 'a.json');
  writeFileAtomic(path, 'one');
  writeFileAtomic(path, 'two');
  assert.equal(readFileSync(path, 'utf8'), 'two');
  assert.deepEqual(readdirSync(folder), ['a.json']);
  assert.throws(() => writeFileAtomic(join(folder, 'none', 'a.json'), 'x'));
  writeFileSync(`${path}.0123456789ab.tmp`, 'half');
  removeLeftovers(path);
  assert.deepEqual(readdirSync(folder), ['a.json']);
});
