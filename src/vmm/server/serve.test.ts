import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { WebSocket } from 'ws';
import { VitrineError } from '../../shared/errors.ts';
import { ProtocolClient } from '../../shared/protocol/client.ts';
import { encodeKey, encodePointer } from '../../shared/protocol/input.ts';
import type { MachineProtocol, MachineState } from '../../shared/protocol/machine.ts';
import { machineProtocol, SERIAL_BACKLOG } from '../../shared/protocol/machine.ts';
import { SerialBacklog } from './control.ts';
import { checkPrivateFolder, runtimeFolder, runtimeFolderPath, socketPathOf } from './runtime-folder.ts';
import { serveMachine } from './serve.ts';
import { FakeMachine } from './testing/fake-machine.ts';

function scratch(t: { after: (f: () => void) => void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-serve-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

async function connect(path: string): Promise<{ client: ProtocolClient<MachineProtocol>; socket: WebSocket }> {
  const socket = new WebSocket(`ws+unix://${path}:/`);
  await new Promise((resolve, reject) => {
    socket.once('open', resolve);
    socket.once('error', reject);
  });
  const client = new ProtocolClient(machineProtocol, socket);
  socket.on('message', (data: Buffer, isBinary) => client.receive(isBinary ? Uint8Array.from(data) : data.toString()));
  socket.on('close', () => client.closed());
  return { client, socket };
}

async function serving(t: { after: (f: () => Promise<void> | void) => void }) {
  const socketPath = join(scratch(t), 'm.sock');
  const machine = new FakeMachine();
  const server = await serveMachine({ socketPath, machine });
  t.after(() => server.close());
  return { socketPath, machine, server };
}

const never = () => {};

test('calls, state and the modes of the socket', async (t) => {
  const { socketPath, machine } = await serving(t);
  assert.equal(statSync(socketPath).mode & 0o777, 0o600);
  const { client } = await connect(socketPath);
  let state: MachineState | null = null;
  client.watch('machine', (value) => (state = value), never);
  await client.call('pause', {});
  await until(() => state?.state === 'paused');
  assert.equal(state!.you, 'v1');
  assert.equal(state!.viewers, 0);
  assert.equal((await client.call('screenshot', {})).png, 'iVBORw0KGgo=');
  await client.call('sendKeys', { codes: [29, 56, 111] });
  assert.deepEqual(machine.asked, ['pause', 'key 29 down', 'key 56 down', 'key 111 down', 'key 111 up', 'key 56 up', 'key 29 up']);
  await assert.rejects(client.call('sendKeys', { codes: [0x10000] }), (e) => e instanceof VitrineError && e.problem.code === 'bad-parameters');
  client.close();
});

test('serial: back-log, both ways, also for bytes that are no text', async (t) => {
  const { socketPath, machine } = await serving(t);
  machine.serial.push(Buffer.from('before'));
  const { client } = await connect(socketPath);
  const got: Buffer[] = [];
  client.stream('serial', ({ data, dropped }) => {
    assert.equal(dropped, 0);
    got.push(Buffer.from(data, 'base64'));
  }, (data) => got.push(Buffer.from(data, 'base64')), never);
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  await client.call('serialWrite', { data: bytes.toString('base64') });
  await until(() => Buffer.concat(got).length === 262);
  assert.deepEqual(Buffer.concat(got), Buffer.concat([Buffer.from('before'), bytes]));
  await assert.rejects(client.call('serialWrite', { data: '§' }), (e) => e instanceof VitrineError && e.problem.code === 'bad-parameters');
  client.close();
});

test('one viewer owns the input; a take-over and a lost connection let go of held keys', async (t) => {
  const { socketPath, machine } = await serving(t);
  const [a, b] = [await connect(socketPath), await connect(socketPath)];
  let state: MachineState | null = null;
  b.client.watch('machine', (value) => (state = value), never);
  a.client.sendBinary(encodeKey(30, true));
  await a.client.call('takeInput', {});
  assert.deepEqual(machine.asked, []);
  a.client.sendBinary(encodeKey(29, true));
  a.client.sendBinary(encodeKey(30, true));
  a.client.sendBinary(encodePointer(1, -2, 0, 1));
  await until(() => machine.asked.length === 3);
  await until(() => state?.inputOwner === 'v1');
  machine.asked.length = 0;
  await b.client.call('takeInput', {});
  assert.deepEqual(machine.asked, ['key 30 up', 'key 29 up', 'pointer 0 0 0 0']);
  await assert.rejects(a.client.call('releaseInput', {}), (e) => e instanceof VitrineError && e.problem.code === 'not-input-owner');
  machine.asked.length = 0;
  a.client.sendBinary(encodeKey(31, true));
  await a.client.call('resume', {});
  assert.deepEqual(machine.asked, ['resume']);
  b.client.sendBinary(encodeKey(42, true));
  await until(() => machine.asked.includes('key 42 down'));
  b.socket.terminate();
  await until(() => machine.asked.includes('key 42 up'));
  a.client.close();
});

test('frames go to those who attached, acknowledgements come back, bad binary is ignored', async (t) => {
  const { socketPath, machine } = await serving(t);
  const [a, b] = [await connect(socketPath), await connect(socketPath)];
  const frames: number[] = [];
  a.client.onBinary = (bytes) => frames.push(bytes.length);
  b.client.onBinary = () => assert.fail('not attached');
  await a.client.call('attachScreen', {});
  assert.deepEqual([...machine.viewers.keys()], ['v1']);
  machine.viewers.get('v1')!.send(new Uint8Array(100_000));
  await until(() => frames.length === 1);
  a.client.sendBinary(Uint8Array.of(1, 7, 0, 0, 0));
  for (const junk of [[], [1], [1, 2, 3, 4, 5, 6], [9, 9, 9], [2, 0, 0, 1]]) a.client.sendBinary(Uint8Array.from(junk));
  await until(() => machine.acknowledged.length === 1);
  assert.deepEqual(machine.acknowledged, [7]);
  await a.client.call('detachScreen', {});
  assert.equal(machine.viewers.size, 0);
  assert.deepEqual(frames, [100_000]);
  a.client.close();
  b.client.close();
});

test('close tells the last state first, then closes and takes the socket away', async (t) => {
  const { socketPath, machine, server } = await serving(t);
  const { client } = await connect(socketPath);
  const states: string[] = [];
  let ended = '';
  client.watch('machine', (value) => states.push(value.state), (problem) => (ended = problem.code));
  await until(() => states.length === 1);
  machine.facts.update({ state: 'ended', outcome: { endedAt: 1, how: 'powered-off' } });
  await server.close();
  await until(() => ended !== '');
  assert.deepEqual(states, ['running', 'ended']);
  assert.ok(!existsSync(socketPath));
});

test('a dead socket is replaced, a living one and a file are not', async (t) => {
  const folder = scratch(t);
  const machine = new FakeMachine();
  const living = join(folder, 'living.sock');
  const server = await serveMachine({ socketPath: living, machine });
  await assert.rejects(serveMachine({ socketPath: living, machine }), /another process listens there/);
  await server.close();
  const dead = join(folder, 'dead.sock');
  const child = spawn(process.execPath, ['-e', `require('node:net').createServer().listen(${JSON.stringify(dead)}, () => console.log('up'))`], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  child.kill('SIGKILL');
  await new Promise((resolve) => child.once('exit', resolve));
  assert.ok(existsSync(dead));
  const revived = await serveMachine({ socketPath: dead, machine });
  (await connect(dead)).client.close();
  await revived.close();
  const file = join(folder, 'file.sock');
  writeFileSync(file, '');
  await assert.rejects(serveMachine({ socketPath: file, machine }), /no socket lies there/);
});

test('a folder that others may enter is refused', async (t) => {
  const folder = scratch(t);
  chmodSync(folder, 0o755);
  await assert.rejects(serveMachine({ socketPath: join(folder, 'm.sock'), machine: new FakeMachine() }), (e) => e instanceof VitrineError && e.problem.code === 'runtime-folder');
  const link = join(folder, 'link');
  symlinkSync(tmpdir(), link);
  assert.throws(() => checkPrivateFolder(link), /not a folder/);
});

test('the runtime folder: XDG_RUNTIME_DIR if it is ours, else a private folder under the temporary one', (t) => {
  const folder = scratch(t);
  assert.equal(runtimeFolderPath({ XDG_RUNTIME_DIR: folder }), join(folder, 'vitrine'));
  assert.equal(runtimeFolder({ XDG_RUNTIME_DIR: folder }), join(folder, 'vitrine'));
  assert.equal(statSync(join(folder, 'vitrine')).mode & 0o777, 0o700);
  const own = join(tmpdir(), `vitrine-${process.geteuid!()}`);
  assert.equal(runtimeFolderPath({}), own);
  assert.equal(runtimeFolderPath({ XDG_RUNTIME_DIR: 'relative' }), own);
  assert.equal(runtimeFolderPath({ XDG_RUNTIME_DIR: join(folder, 'missing') }), own);
  const long = join(folder, 'x'.repeat(90));
  mkdirSync(long);
  assert.throws(() => socketPathOf('machine', { XDG_RUNTIME_DIR: long }), /at most 107 bytes/);
});

test('a virtio console is watched and written by its slot and port; there is no other', async (t) => {
  const { socketPath, machine } = await serving(t);
  const { client } = await connect(socketPath);
  let text = '';
  const add = (data: string) => (text += Buffer.from(data, 'base64').toString());
  client.stream('console', ({ data }) => add(data), add, never, { slot: 5, port: 1 });
  await client.call('consoleWrite', { slot: 5, port: 1, data: Buffer.from('hello').toString('base64') });
  await until(() => text === 'hello');
  await assert.rejects(client.call('consoleWrite', { slot: 6, port: 0, data: '' }), (e) => e instanceof VitrineError && e.problem.code === 'no-such-console');
  const ended = new Promise((resolve) => client.stream('console', () => {}, () => {}, ({ code }) => resolve(code), { slot: 5, port: 9 }));
  assert.equal(await ended, 'no-such-console');
  await client.call('consoleSize', { slot: 5, port: 0, columns: 80, rows: 24 });
  await client.call('setBalloon', { bytes: 2 ** 26 });
  assert.deepEqual(machine.asked, ['console 5.0 80x24', 'balloon 67108864']);
  client.close();
});

test('the serial back-log keeps the last bytes and counts what it drops', () => {
  const backlog = new SerialBacklog(10);
  for (let i = 0; i < 25; i++) backlog.push(Uint8Array.of(i));
  assert.deepEqual([...backlog.backlog().bytes], [15, 16, 17, 18, 19, 20, 21, 22, 23, 24]);
  assert.equal(backlog.backlog().dropped, 15);
  backlog.push(new Uint8Array(12).fill(7));
  assert.deepEqual([...backlog.backlog().bytes], Array.from({ length: 10 }, () => 7));
  assert.equal(backlog.backlog().dropped, 27);
  const big = new SerialBacklog();
  for (let i = 0; i < 300_000; i++) big.push(Uint8Array.of(i & 0xff));
  assert.equal(big.backlog().bytes.length, SERIAL_BACKLOG);
  assert.equal(big.backlog().bytes[0], (300_000 - SERIAL_BACKLOG) & 0xff);
});
