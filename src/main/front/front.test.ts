import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';
import { VitrineError } from '../../shared/errors.ts';
import { ProtocolClient } from '../../shared/protocol/client.ts';
import type { Host, Library as LibraryTopic } from '../../shared/protocol/front.ts';
import { frontProtocol } from '../../shared/protocol/front.ts';
import { machineProtocol } from '../../shared/protocol/machine.ts';
import type { ProtocolSpec } from '../../shared/protocol/wire.ts';
import { beginRun, isHeld, readRunInfo } from '../../vmm/server/run-record.ts';
import { socketPathOf } from '../../vmm/server/runtime-folder.ts';
import { serveMachine } from '../../vmm/server/serve.ts';
import { FakeMachine } from '../../vmm/server/testing/fake-machine.ts';
import { Library } from '../library/library.ts';
import { startFront } from './front.ts';
import { fileFor } from './static-files.ts';

const entry = fileURLToPath(new URL('../../vmm/server/testing/fake-entry.ts', import.meta.url));
const MiB = 2 ** 20;
const never = () => {};

async function until(condition: () => unknown): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

async function fronted(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'vf-'));
  const staticDir = join(folder, 'pages');
  mkdirSync(staticDir);
  writeFileSync(join(staticDir, 'index.html'), '<!doctype html><title>x</title>');
  writeFileSync(join(folder, 'secret.html'), 'secret');
  const library = new Library(join(folder, 'machines'));
  // KVM is not probed: what runs here is the fake machine.
  const env = { ...process.env, XDG_RUNTIME_DIR: folder, VITRINE_BACKEND: 'kvm' };
  const front = await startFront({ shell: 'browser', origin: 'app://vitrine', staticDir, env, library, entry });
  t.after(async () => {
    await front.close();
    for (const id of library.ids()) {
      const pid = isHeld(library.folderOf(id)) ? readRunInfo(library.folderOf(id))?.pid : undefined;
      if (pid !== undefined && pid !== process.pid) process.kill(pid, 'SIGKILL');
      while (isHeld(library.folderOf(id))) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    rmSync(folder, { recursive: true, force: true });
  });
  return { front, library, env, folder };
}

function get(port: number, path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<{ status: number; headers: Record<string, unknown>; body: string }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: '127.0.0.1', port, path, headers, method }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body }));
    });
    request.on('error', reject).end();
  });
}

/** The status that an upgrade is answered with; 101 when it is accepted. */
function upgrade(address: string, headers: Record<string, string> = {}): Promise<number> {
  return new Promise((resolve) => {
    const socket = new WebSocket(address, { headers });
    socket.on('open', () => {
      resolve(101);
      socket.close();
    });
    socket.on('unexpected-response', (_request, response) => {
      resolve(response.statusCode!);
      response.destroy();
    });
    socket.on('error', never);
  });
}

async function connect<P extends ProtocolSpec>(spec: P, address: string): Promise<{ client: ProtocolClient<P>; socket: WebSocket }> {
  const socket = new WebSocket(address, { perMessageDeflate: false });
  const client = new ProtocolClient(spec, socket);
  socket.on('message', (data: Buffer, isBinary) => client.receive(isBinary ? Uint8Array.from(data) : data.toString()));
  socket.on('close', () => client.closed());
  await new Promise((resolve, reject) => {
    socket.once('open', resolve);
    socket.once('error', reject);
  });
  return { client, socket };
}

test('without or with a wrong token, with a foreign Origin or Host: refused, for pages and for sockets', async (t) => {
  const { front } = await fronted(t);
  const { port, token, address } = front;
  const good = { authorization: `Bearer ${token}` };
  assert.equal((await get(port, '/')).status, 401);
  assert.equal((await get(port, '/?token=')).status, 401);
  assert.equal((await get(port, `/?token=${'0'.repeat(64)}`)).status, 401);
  assert.equal((await get(port, '/', { cookie: `vitrine-${port}=nonsense` })).status, 401);
  assert.equal((await get(port, '/', good)).status, 200);
  assert.equal((await get(port, '/', { ...good, host: 'evil.example' })).status, 403);
  assert.equal((await get(port, '/', { ...good, host: `127.0.0.1.evil.example:${port}` })).status, 403);
  assert.equal((await get(port, '/', { ...good, origin: 'https://evil.example' })).status, 403);
  assert.equal((await get(port, '/', { ...good, origin: 'null' })).status, 403);
  for (const path of ['/front', '/machine/none']) {
    assert.equal(await upgrade(`${address}${path}`), 401);
    assert.equal(await upgrade(`${address}${path}?token=${token}1`), 401);
    assert.equal(await upgrade(`${address}${path}?token=${token}`, { host: 'evil.example' }), 403);
    assert.equal(await upgrade(`${address}${path}?token=${token}`, { origin: 'https://evil.example' }), 403);
    assert.equal(await upgrade(`${address}${path}?token=${token}`, { origin: `http://127.0.0.1:${port + 1}` }), 403);
  }
  assert.equal(await upgrade(`${address}/front?token=${token}`), 101);
  assert.equal(await upgrade(`${address}/front?token=${token}`, { origin: 'app://vitrine' }), 101);
  assert.equal(await upgrade(`${address}/front?token=${token}`, { origin: `http://127.0.0.1:${port}` }), 101);
  assert.equal(await upgrade(`${address}/front`, { cookie: `other=1; vitrine-${port}=${token}` }), 101);
  // As through ssh -L: another port, the same on both.
  assert.equal(await upgrade(`${address}/front?token=${token}`, { host: 'localhost:9000', origin: 'http://localhost:9000' }), 101);
  assert.equal(await upgrade(`${address}/machine/none?token=${token}`), 404);
  assert.equal(await upgrade(`${address}/machine/..%2fx?token=${token}`), 404);
  assert.equal(await upgrade(`${address}/else?token=${token}`), 404);
});

test('pages: the token becomes a cookie, the policy is set, nothing outside the folder is given', async (t) => {
  const { front } = await fronted(t);
  const { port, token } = front;
  assert.equal(front.url, `http://127.0.0.1:${port}/?token=${token}`);
  const page = await get(port, `/?token=${token}`);
  assert.equal(page.status, 200);
  const cookie = String(page.headers['set-cookie']);
  assert.match(cookie, /HttpOnly; SameSite=Strict/);
  assert.match(String(page.headers['content-security-policy']), new RegExp(`script-src 'self'; .*connect-src 'self' ws://127.0.0.1:${port}; .*frame-ancestors 'none'`));
  const again = await get(port, '/index.html', { cookie: cookie.split(';')[0] });
  assert.equal(again.status, 200);
  assert.equal(again.headers['set-cookie'], undefined);
  const good = { authorization: `Bearer ${token}` };
  for (const path of ['/../secret.html', '/%2e%2e/secret.html', '/..%2fsecret.html', '/%00', '/%zz', '/none.js']) assert.equal((await get(port, path, good)).status, 404, path);
  assert.equal((await get(port, '/', good, 'POST')).status, 405);
  assert.equal(fileFor('/pages', '/../pages2/x'), null);
});

test('the library and a machine\'s life, as a page sees them', async (t) => {
  const { front, library } = await fronted(t);
  const { client } = await connect(frontProtocol, `${front.address}/front?token=${front.token}`);
  let machines: LibraryTopic = {};
  let host: Host | null = null;
  client.watch('machines', (value) => (machines = value), never);
  client.watch('host', (value) => (host = value), never);
  await until(() => Object.keys(machines).length === 2);
  assert.equal(machines['try-linux'].state, 'off');
  await until(() => host?.state === 'ready');
  assert.equal(host!.forced, true);

  await assert.rejects(client.call('createMachine', { name: 'Relative', memory: 64 * MiB, cpus: 1, boot: { kernel: 'vmlinuz' } }), /does not begin with a slash/);
  const id = library.create({ name: 'Fake', memory: 64 * MiB, cpus: 1, boot: { kernel: 'fake:run' } });
  await until(() => machines[id]?.state === 'off');
  const states: string[] = [];
  const end = client.watch('machines', (value) => {
    const state = value[id]?.state ?? 'gone';
    if (states.at(-1) !== state) states.push(state);
  }, never);
  await client.call('startMachine', { id });
  await until(() => machines[id].state === 'running');
  assert.equal(machines[id].backend, 'kvm');
  await client.call('startMachine', { id });
  await assert.rejects(client.call('removeMachine', { id }), (e) => e instanceof VitrineError && e.problem.code === 'machine-running');

  const machine = await connect(machineProtocol, `${front.address}/machine/${id}?token=${front.token}`);
  await machine.client.call('pause', {});
  await until(() => machines[id].state === 'paused');
  await machine.client.call('forceOff', {});
  await until(() => machines[id].state === 'off');
  assert.equal(machines[id].lastOutcome?.how, 'forced');
  assert.deepEqual(states.filter((state) => state !== 'stopping'), ['off', 'starting', 'running', 'paused', 'off']);
  end();

  await client.call('startMachine', { id });
  process.kill(readRunInfo(library.folderOf(id))!.pid, 'SIGKILL');
  await until(() => machines[id].state === 'failed');
  assert.equal(machines[id].problem?.code, 'process-killed');
  assert.match((await client.call('readLog', { id })).text, /fake machine in/);

  writeFileSync(join(library.folderOf(id), 'machine.json'), '{');
  await until(() => machines[id].damaged !== undefined);
  assert.equal(machines[id].config, undefined);
  assert.equal(machines['try-linux'].state, 'off');
  await assert.rejects(client.call('startMachine', { id }), (e) => e instanceof VitrineError && e.problem.code === 'machine-file-damaged');
  await client.call('removeMachine', { id });
  await until(() => machines[id] === undefined);
  client.close();
});

test('a machine that fails to start: the call and the library say why', async (t) => {
  const { front, library } = await fronted(t);
  const { client } = await connect(frontProtocol, `${front.address}/front?token=${front.token}`);
  let machines: LibraryTopic = {};
  client.watch('machines', (value) => (machines = value), never);
  const id = library.create({ name: 'Fake', memory: 64 * MiB, cpus: 1, boot: { kernel: 'fake:fail' } });
  await assert.rejects(client.call('startMachine', { id }), (e) => e instanceof VitrineError && e.problem.code === 'kernel-missing');
  await until(() => machines[id]?.state === 'failed');
  assert.equal(machines[id].problem?.code, 'kernel-missing');
  client.close();
});

test('a machine that another front started is seen, and runs on when this front closes', async (t) => {
  const { front, library, env } = await fronted(t);
  const other = await startFront({ shell: 'browser', env, library, entry });
  const id = library.create({ name: 'Fake', memory: 64 * MiB, cpus: 1, boot: { kernel: 'fake:run' } });
  const a = await connect(frontProtocol, `${other.address}/front?token=${other.token}`);
  await a.client.call('startMachine', { id });
  const b = await connect(frontProtocol, `${front.address}/front?token=${front.token}`);
  let machines: LibraryTopic = {};
  b.client.watch('machines', (value) => (machines = value), never);
  await until(() => machines[id]?.state === 'running');
  await other.close();
  assert.equal(machines[id].state, 'running');
  assert.ok(isHeld(library.folderOf(id)));
});

test('100 MB through the pipe arrive intact, and a viewer that does not read holds the sender back', async (t) => {
  const { front, library, env } = await fronted(t);
  const id = library.create({ name: 'Here', memory: 64 * MiB, cpus: 1, boot: { kernel: '/k' } });
  const socketPath = socketPathOf(id, env);
  const run = await beginRun(library.folderOf(id), socketPath);
  const machine = new FakeMachine(id);
  const server = await serveMachine({ socketPath, machine });
  const { client, socket } = await connect(machineProtocol, `${front.address}/machine/${id}?token=${front.token}`);
  const received = createHash('sha256');
  let count = 0;
  client.onBinary = (bytes) => {
    received.update(bytes);
    count++;
  };
  await client.call('attachScreen', {});
  const viewer = machine.viewers.get('v1')!;
  socket.pause();

  const sent = createHash('sha256');
  const frame = randomBytes(MiB);
  const total = 100;
  let sending = 0;
  const limit = 4 * MiB;
  const send = async () => {
    for (; sending < total; sending++) {
      await until(() => viewer.buffered() < limit);
      const next = Uint8Array.from(frame);
      next[0] = sending;
      sent.update(next);
      viewer.send(next);
    }
  };
  const done = send();
  // What fits into the sockets' buffers goes; then nothing moves until the viewer reads.
  let last = -1;
  while (last !== sending) {
    last = sending;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  assert.ok(sending < 40, `${sending} MiB went to a viewer that does not read`);
  assert.equal(count, 0);
  socket.resume();
  await done;
  await until(() => count === total);
  assert.equal(received.digest('hex'), sent.digest('hex'));
  // And the other way: input still comes through.
  await client.call('serialWrite', { data: Buffer.from('still here').toString('base64') });
  assert.equal(Buffer.from(machine.serial.backlog().bytes).toString(), 'still here');
  client.close();
  await server.close();
  run.release();
});
