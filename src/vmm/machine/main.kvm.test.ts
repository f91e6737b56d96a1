// The machine process from outside: how it ends when something in it breaks, or somebody is in a hurry. What breaks is put in by a module
// that is loaded before the process's own, in every thread.
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, describe, it } from 'node:test';
import { WebSocket } from 'ws';
import type { Outcome } from '../../shared/protocol/machine.ts';
import { OUTCOME_FILE } from '../server/run-record.ts';
import { folder as scratch, testConfig, tinyGuest, until, type ConfigParts } from '../testing/whole-machine.ts';

const barfire = join(import.meta.dirname, '../../../build/guests/barfire.elf');
const SPIN = [0xeb, 0xfe];
// mov al, 0xed; out 0x60, al; jmp $
const SPEAKS_TO_KEYBOARD = [0xb0, 0xed, 0xe6, 0x60, ...SPIN];

const source = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);
const inWorkers = (code: string): string => `import { isMainThread } from 'node:worker_threads'; if (!isMainThread) { ${code} }`;
const keyboard = `const { Ps2Keyboard } = await import(${source('../devices/ps2-keyboard.ts')}); Ps2Keyboard.prototype.command`;

interface Process {
  readonly child: ChildProcess;
  readonly socket: string;
  outcome(): Outcome | null;
  log(): string;
}

const running = new Set<ChildProcess>();
afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
  running.clear();
});

function machineProcess(kernel: string, preload = '', env: NodeJS.ProcessEnv = {}, more: ConfigParts = {}): Process {
  const folder = mkdtempSync(join(scratch, 'library-'));
  const sockets = join(folder, 'run');
  mkdirSync(sockets, { mode: 0o700 });
  writeFileSync(join(folder, 'machine.json'), JSON.stringify(testConfig(kernel, { cpus: 2, ...more })));
  const broken = join(folder, 'broken.mjs');
  writeFileSync(broken, preload);
  const socket = join(sockets, 'sock');
  const main = new URL('main.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', '--import', broken, main, '--folder', folder, '--socket', socket], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...env },
  });
  running.add(child);
  let log = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (log += text));
  const outcomeFile = join(folder, OUTCOME_FILE);
  return { child, socket, outcome: () => (existsSync(outcomeFile) ? (JSON.parse(readFileSync(outcomeFile, 'utf8')) as Outcome) : null), log: () => log };
}

async function exited({ child }: Process): Promise<number | string> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return child.exitCode ?? child.signalCode!;
}

/** Connects, and resolves when the machine runs. */
async function connected({ socket, child }: Process): Promise<{ socket: WebSocket; messages: Record<string, unknown>[] }> {
  await until('the socket', () => existsSync(socket) || child.exitCode !== null);
  const client = new WebSocket(`ws+unix:${socket}:/`);
  const messages: Record<string, unknown>[] = [];
  client.on('message', (data) => messages.push(JSON.parse(String(data)) as Record<string, unknown>));
  await once(client, 'open');
  client.send(JSON.stringify({ id: 1, watch: 'machine' }));
  await until('it runs', () => /"state":"running"|"value":"running"/.test(JSON.stringify(messages)));
  return { socket: client, messages };
}

describe('the machine process', () => {
  it('answers who forces it off, and exits with its outcome written', async () => {
    const machine = machineProcess(tinyGuest('spin', SPIN));
    const { socket, messages } = await connected(machine);
    const closed = once(socket, 'close');
    socket.send(JSON.stringify({ id: 2, call: 'forceOff' }));
    await closed;
    assert.deepEqual(messages.find(({ id }) => id === 2), { id: 2, result: {} });
    assert.equal(await exited(machine), 0);
    assert.equal(machine.outcome()?.how, 'forced');
  });

  it('ends with words when something throws where nobody catches', async () => {
    const machine = machineProcess(tinyGuest('spin', SPIN), `process.on('SIGUSR2', () => { throw new Error('boom'); });`);
    await connected(machine);
    machine.child.kill('SIGUSR2');
    assert.equal(await exited(machine), 1);
    assert.deepEqual([machine.outcome()?.how, machine.outcome()?.problem?.why], ['failed', 'boom']);
    assert.match(machine.log(), /Error: boom\n +at /);
  });

  it('ends with words when a promise fails that nobody waits for', async () => {
    const machine = machineProcess(tinyGuest('spin', SPIN), `process.on('SIGUSR2', () => { void Promise.reject(new Error('forgotten')); });`);
    await connected(machine);
    machine.child.kill('SIGUSR2');
    assert.equal(await exited(machine), 1);
    assert.deepEqual([machine.outcome()?.how, machine.outcome()?.problem?.why], ['failed', 'forgotten']);
  });

  it('tells what broke, not who noticed, when a device throws while its lock is held', async () => {
    const machine = machineProcess(tinyGuest('keyboard', SPEAKS_TO_KEYBOARD), inWorkers(`${keyboard} = () => { throw new Error('broken keyboard'); };`));
    assert.equal(await exited(machine), 1);
    assert.equal(machine.outcome()?.how, 'failed');
    assert.match(machine.outcome()!.problem!.why, /broken keyboard/);
  });

  // The guest `barfire`: four of its CPUs move BARs, four access them. What breaks does so in the midst of a commit, when others wait for its locks.
  const inCommit = (what: string): string =>
    inWorkers(`const { PciFunction } = await import(${source('../pci/function.ts')}); const { written } = PciFunction.prototype; let left = 20;
      PciFunction.prototype.written = function (...all) { if (--left === 0) { ${what} } return written.apply(this, all); };`);
  const devices = Array.from({ length: 3 }, () => ({ kind: 'pci-test' as const }));
  const underFire = async (what: string): Promise<Process> => {
    const machine = machineProcess(barfire, inCommit(what), {}, { cpus: 8, display: { kind: 'canvas' }, devices, boot: { kernel: barfire, append: 'moves=1000000' } });
    const { socket } = await connected(machine);
    socket.send(JSON.stringify({ id: 2, call: 'serialWrite', params: { data: Buffer.from('g').toString('base64') } })); // the guest waits for it
    return machine;
  };

  it('ends with words when a thread throws in a PCI commit that seven others wait for', async () => {
    const machine = await underFire(`throw new Error('broken commit');`);
    assert.equal(await exited(machine), 1);
    assert.equal(machine.outcome()?.how, 'failed');
    assert.match(machine.outcome()!.problem!.why, /broken commit/);
    assert.doesNotMatch(machine.log(), /did not end/);
  });

  it('ends with words when a thread is killed in a PCI commit that seven others wait for', async () => {
    const machine = await underFire(`process.exit();`);
    assert.equal(await exited(machine), 1);
    assert.equal(machine.outcome()?.how, 'failed');
    assert.match(machine.outcome()!.problem!.why, /the thread of CPU \d ended without a word/);
    assert.doesNotMatch(machine.log(), /did not end/);
  });

  it('exits although its folder is gone and its outcome cannot be written', async () => {
    const machine = machineProcess(tinyGuest('spin', SPIN));
    await connected(machine);
    rmSync(dirname(dirname(machine.socket)), { recursive: true });
    machine.child.kill('SIGTERM');
    assert.equal(await exited(machine), 1);
    assert.match(machine.log(), /ENOENT/);
  });

  it('exits although a thread of it does not', async () => {
    const machine = machineProcess(tinyGuest('keyboard', SPEAKS_TO_KEYBOARD), inWorkers(`const { writeSync } = await import('node:fs'); ${keyboard} = () => { writeSync(2, 'stuck'); for (;;); };`));
    await until('it is stuck', () => machine.log().includes('stuck'));
    machine.child.kill('SIGTERM');
    await exited(machine);
    assert.equal(machine.outcome()?.how, 'forced');
    assert.match(machine.log(), /1 of its threads did not end/);
  });

  it('ends at once when it is asked to before it began', async () => {
    const machine = machineProcess(tinyGuest('spin', SPIN), '', { VITRINE_AWAIT_CONSOLE: '1' });
    await until('the socket', () => existsSync(machine.socket));
    machine.child.kill('SIGTERM');
    assert.equal(await exited(machine), 0);
    assert.equal(machine.outcome()?.how, 'forced');
  });
});
