// The app killed in each step of giving devices: the computer has them back and the machine does not have them, or all of it was done.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { VitrineError } from '../../shared/errors.ts';
import { HOSTS } from '../host-devices/testing/hosts.ts';
import { releaseKept } from '../lease/lease.ts';
import { playHost } from '../lease/testing/played-host.ts';
import { Library } from '../library/library.ts';
import { givenDevices } from './given.ts';
import { hostPlace } from './place.ts';
import { undoUnfinished } from './unfinished.ts';

const program = fileURLToPath(new URL('./testing/give-main.ts', import.meta.url));
const DEVICES = ['0000:01:00.0', '0000:01:00.1', '0000:03:00.0'];

async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `it never came to this: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test('killed in each step of giving three devices of two groups', { skip: process.getuid!() === 0 && 'the helper of a written host is never started by root' }, async (t) => {
  const host = playHost(HOSTS.intelDesktop);
  const folder = mkdtempSync(join(tmpdir(), 'vfk-'));
  t.after(() => {
    host.remove();
    rmSync(folder, { recursive: true, force: true });
  });
  const library = new Library(folder);
  const id = library.create({ name: 'Router', memory: 2 ** 30, cpus: 1, boot: { kernel: '/k' } });
  const place = hostPlace(host.env);
  const initial = DEVICES.map(host.driverOf);
  const leased = () => existsSync(join(host.folder, 'run/vitrine')) && readdirSync(join(host.folder, 'run/vitrine')).some((name) => name.startsWith('lease.'));
  const seen: string[] = [];
  for (let step = 1; ; step++) {
    const { signal, status, stdout, stderr } = spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', program, folder, id, '11,15', String(step)], { env: { ...process.env, ...host.env }, encoding: 'utf8' });
    const last = stdout.trim().split('\n').at(-1)!;
    if (signal === null) {
      assert.equal(status, 0, stderr);
      break;
    }
    seen.push(last);
    const kept = () => givenDevices(place, []).filter(({ how }) => how === 'kept').length;
    await until(`${last}: the helper has undone it, or has kept it`, () => !leased() || kept() === DEVICES.length);
    await undoUnfinished(library, place);
    const done = kept() === DEVICES.length;
    assert.equal(library.config(id).devices.length, done ? DEVICES.length : 0, last);
    assert.deepEqual(DEVICES.map(host.driverOf), done ? DEVICES.map(() => 'vfio-pci') : initial, last);
    // "Done" is told when it is.
    assert.equal(done, last === 'Done', last);
    assert.deepEqual(readdirSync(library.folderOf(id)).filter((name) => name.startsWith('giving')), [], last);
    if (!done) continue;
    // Its helper may still be on its way out, and the lease is its own until then.
    await until('it can be released', () => releaseKept([], { starter: place.starter }).then(() => true, (thrown: unknown) => {
      if (thrown instanceof VitrineError && thrown.problem.code === 'lease-busy') return false;
      throw thrown;
    }));
    await library.update(id, { devices: [] });
  }
  assert.deepEqual([seen.length, seen.at(-1)], [9, 'Done']);
});
