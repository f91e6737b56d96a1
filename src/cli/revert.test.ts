import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import type { TestContext } from 'node:test';
import test from 'node:test';
import { Library } from '../main/library/library.ts';
import { beginRun, isHeld } from '../vmm/server/run-record.ts';
import { serveMachine } from '../vmm/server/serve.ts';
import { FakeMachine } from '../vmm/server/testing/fake-machine.ts';
import { revertUnlessKept } from './revert.ts';

/** A machine that runs in a library of its own, and what is said about it. */
async function running(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'vr-'));
  const before = { XDG_DATA_HOME: process.env.XDG_DATA_HOME, XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR };
  mkdirSync(join(folder, 'run'), { mode: 0o700 });
  Object.assign(process.env, { XDG_DATA_HOME: join(folder, 'data'), XDG_RUNTIME_DIR: join(folder, 'run') });
  const library = new Library();
  const id = library.create({ name: 'Only card', memory: 2 ** 26, cpus: 1, boot: { kernel: '/k' } });
  const socketPath = join(folder, 'run/m.sock');
  const run = await beginRun(library.folderOf(id), socketPath);
  const machine = new FakeMachine(id);
  const server = await serveMachine({ socketPath, machine });
  let off = false;
  const end = async (how: 'forced' | 'powered-off'): Promise<void> => {
    if (off) return;
    off = true;
    run.writeOutcome({ endedAt: Date.now(), how });
    await server.close();
    run.release();
  };
  // Its guest does not listen for the power button.
  machine.onOff = (how) => void (how === 'forced' && setImmediate(() => void end(how)));
  t.after(async () => {
    await end('forced');
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });
  const said: string[] = [];
  return { machine, end, said, folder: library.folderOf(id), output: { out: () => {}, err: (text: string) => void said.push(text) }, input: new PassThrough() };
}

test('whoever presses Enter keeps the machine', async (t) => {
  const { machine, said, folder, output, input } = await running(t);
  const over = revertUnlessKept(['Only card'], 300, output, { input });
  input.write('yes');
  input.write('\n');
  assert.equal(await over, 0);
  assert.deepEqual(machine.asked, []);
  assert.equal(isHeld(folder), true);
  assert.deepEqual(said, ['Only card stops in 5 minutes, and the computer has its devices back, unless you press Enter.\n', 'It goes on.\n']);
});

test('nobody does, and the terminal is gone: the button is pressed, then the power is cut', async (t) => {
  const { machine, said, folder, output, input } = await running(t);
  input.end('no line');
  assert.equal(await revertUnlessKept(['Only card'], 1, output, { input, grace: 1 }), 0);
  assert.deepEqual(machine.asked, ['powerButton', 'forceOff']);
  assert.equal(isHeld(folder), false);
  assert.match(said.join(''), /stops in 1 second, .*Nobody pressed Enter: stopping Only card\.\n$/s);
});

test('a machine that ends by itself is waited for no longer', async (t) => {
  const { machine, end, output, input } = await running(t);
  const over = revertUnlessKept(['Only card'], 300, output, { input });
  await end('powered-off');
  assert.equal(await over, 0);
  assert.deepEqual(machine.asked, []);
});
