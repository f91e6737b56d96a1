// passt itself where it is installed, and programs that stand in for it and fail as it may.
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { VitrineError } from '../../shared/errors.ts';
import { close, readable } from '../kvm/libc.ts';
import { socketPair } from './calls.ts';
import { findPasst, type Forward, type PasstProgram } from './passt-program.ts';
import { Passt, refusedPort, UserNetwork } from './passt.ts';
import { Vectors } from './vectors.ts';

const mac = Uint8Array.from([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const folder = mkdtempSync(join(tmpdir(), 'vitrine-passt-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** passt, where it is installed and may close itself in; else the test is skipped, and the lab's (lab/tests/net.lab.test.ts) stands for it. */
async function passt(t: TestContext): Promise<PasstProgram | undefined> {
  try {
    const program = findPasst();
    (await Passt.start({ name: 'm', mac, forwards: [] }, program)).close();
    return program;
  } catch (thrown) {
    if (!(thrown instanceof VitrineError) || !['passt-missing', 'passt-namespaces'].includes(thrown.problem.code)) throw thrown;
    t.skip(thrown.problem.why);
    return undefined;
  }
}

let scripts = 0;
function standIn(script: string): PasstProgram {
  const path = join(folder, `passt-${scripts++}`);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return { path, version: undefined, stderrOption: true };
}

const codeOf = (code: string, ...words: RegExp[]) => (error: unknown): boolean => {
  assert.ok(error instanceof VitrineError, String(error));
  assert.equal(error.problem.code, code, error.message);
  for (const each of words) assert.match(error.message, each);
  return true;
};

const gone = async (pid: number): Promise<void> => {
  while (existsSync(`/proc/${pid}`) && !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))) await sleep(5);
};

/** A frame that passt sends, which is read as the Worker will: length word, then frame. */
async function frameOf(socket: number): Promise<Uint8Array> {
  const list = new Vectors(70_000);
  let have = 0;
  let need = 4;
  while (have < need) {
    if (!readable(socket)) {
      await sleep(1);
      continue;
    }
    list.clear();
    list.addScratch(have, need - have);
    const bytes = list.read(socket);
    assert.ok(bytes > 0, 'passt has ended');
    have += bytes;
    if (have === 4) need = 4 + list.scratchView.getUint32(0);
  }
  return list.scratch.slice(4, need);
}

function send(socket: number, frame: Uint8Array): void {
  const list = new Vectors(4 + frame.length);
  list.scratchView.setUint32(0, frame.length);
  list.scratch.set(frame, 4);
  list.addScratch(0, 4 + frame.length);
  assert.equal(list.write(socket), 4 + frame.length);
}

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
};

test('it serves, offers an address by DHCP, opens the forwarded port, and ends when our end is closed', async (t) => {
  const program = await passt(t);
  if (program === undefined) return;
  const port = await freePort();
  const life = await Passt.start({ name: 'm', mac, forwards: [{ protocol: 'tcp', host: port, guest: 7 }] }, program);
  const pid = life.pid!;
  try {
    const discover = Buffer.alloc(14 + 20 + 8 + 240 + 4);
    discover.fill(0xff, 0, 6);
    discover.set(mac, 6);
    discover.writeUInt16BE(0x0800, 12);
    discover.set([0x45, 0, (discover.length - 14) >> 8, (discover.length - 14) & 0xff, 0, 0, 0, 0, 64, 17], 14);
    discover.fill(0xff, 30, 34);
    discover.set([0, 68, 0, 67, 0, discover.length - 34 - 256, 0, 0], 34);
    discover.writeUInt16BE(discover.length - 34, 38);
    discover.set([1, 1, 6, 0, 1, 2, 3, 4], 42);
    discover.set(mac, 42 + 28);
    discover.set([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255], 42 + 236);
    send(life.socket, discover);
    let offer: Uint8Array;
    do offer = await frameOf(life.socket);
    while (!(offer[12] === 8 && offer[13] === 0 && offer[23] === 17 && offer[35] === 67));
    assert.deepEqual([...offer.subarray(0, 6)], [...mac]);
    assert.deepEqual([...offer.subarray(46, 50)], [1, 2, 3, 4], 'the answer to our question');
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    let syn: Uint8Array;
    do syn = await frameOf(life.socket);
    while (!(syn[12] === 8 && syn[23] === 6));
    assert.deepEqual([(syn[36]! << 8) | syn[37]!, syn[47]! & 0x12], [7, 2], 'a SYN for the guest\'s port');
    socket.destroy();
  } finally {
    life.close();
  }
  await gone(pid);
});

test('a port that another program has, one that no user may have, an address that is not there', async (t) => {
  const program = await passt(t);
  if (program === undefined) return;
  const server = createServer().listen(0, '127.0.0.1');
  const udp = createSocket('udp4').bind(0, '127.0.0.1');
  await Promise.all([once(server, 'listening'), once(udp, 'listening')]);
  const start = (forward: Forward): Promise<Passt> => Passt.start({ name: 'm', mac, forwards: [forward] }, program);
  await assert.rejects(start({ protocol: 'tcp', host: (server.address() as AddressInfo).port, guest: 1 }), codeOf('port-in-use', /another program/, /ss -tlnp/));
  await assert.rejects(start({ protocol: 'udp', host: udp.address().port, guest: 1 }), codeOf('port-in-use', /ss -ulnp/));
  await assert.rejects(start({ protocol: 'tcp', address: '203.0.113.77', host: await freePort(), guest: 1 }), codeOf('no-such-address', /203\.0\.113\.77/));
  if (process.geteuid!() !== 0) await assert.rejects(start({ protocol: 'tcp', host: 80, guest: 80 }), codeOf('port-privileged', /administrator/, /ip_unprivileged_port_start/));
  server.close();
  udp.close();
});

test('a port that can be had is not refused', async () => {
  for (const protocol of ['tcp', 'udp'] as const) for (const address of [undefined, '0.0.0.0', '::', '::1']) assert.equal(await refusedPort({ protocol, address, host: await freePort(), guest: 1 }), undefined);
});

test('a program that ends at once, and one that is none', async () => {
  const start = (program: PasstProgram): Promise<Passt> => Passt.start({ name: 'm', mac, forwards: [] }, program);
  await assert.rejects(start(standIn('echo "Couldn\'t create user namespace: Operation not permitted" >&2; exit 1')), codeOf('passt-namespaces', /user namespaces/));
  await assert.rejects(start(standIn('echo "something else" >&2; exit 3')), codeOf('passt-failed', /exit code 3/, /something else/));
  await assert.rejects(start({ path: join(folder, 'nothing'), version: undefined, stderrOption: false }), codeOf('passt-failed', /ENOENT/));
});

/** Answers the first frame with another, as passt does, and then lives until its socket is closed. */
const ANSWERING = 'head -c 46 <&3 > /dev/null; printf "\\000\\000\\000\\016aaaaaaaaaaaaaa" >&3; exec cat <&3 > /dev/null';

test('it is started again when it crashes, once; then the card has no network', async () => {
  const used: (number | null)[] = [];
  const said: string[] = [];
  let now = 0;
  let heard: (() => void) | undefined;
  const network = await UserNetwork.start({
    name: 'm', mac, forwards: [], program: standIn(ANSWERING), now: () => now, log: (text) => said.push(text),
    use: async (socket) => {
      used.push(socket);
      heard?.();
    },
  });
  assert.equal(typeof used.splice(0)[0], 'number');
  said.length = 0; // of its MTU, where the host's sockets are small
  const until = async (count: number): Promise<void> => {
    while (used.length < count) await new Promise<void>((resolve) => (heard = resolve));
  };
  const crash = async (count: number): Promise<void> => {
    process.kill(network.pid!, 'SIGKILL');
    await until(count);
  };
  await crash(2);
  assert.equal(used[0], null);
  assert.equal(typeof used[1], 'number');
  assert.match(said[0]!, /SIGKILL.*started again/);
  now += 3_600_000; // long ago: the next one counts as the first
  await crash(4);
  assert.equal(typeof used[3], 'number');
  now += 1000;
  await crash(5);
  while (network.pid !== undefined) await sleep(1);
  assert.deepEqual([used[4], used.length, network.pid], [null, 5, undefined]);
  assert.match(said[2]!, /no network from now on/);
  network.close();
});

test('other forwards mean another passt; when they cannot be had, those before are in place', async (t) => {
  const program = await passt(t);
  if (program === undefined) return;
  const [one, two] = [await freePort(), await freePort()];
  const used: (number | null)[] = [];
  const network = await UserNetwork.start({ name: 'm', mac, program, forwards: [{ protocol: 'tcp', host: one, guest: 1 }], log: () => {}, use: async (socket) => void used.push(socket) });
  const open = (port: number): Promise<boolean> => new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true); }).once('error', () => resolve(false));
  });
  try {
    const first = network.pid!;
    assert.deepEqual([await open(one), await open(two)], [true, false]);
    await network.forward([{ protocol: 'tcp', host: two, guest: 1 }]);
    assert.deepEqual([await open(one), await open(two)], [false, true]);
    await gone(first);
    const server = createServer().listen(one, '127.0.0.1');
    await once(server, 'listening');
    await assert.rejects(network.forward([{ protocol: 'tcp', host: one, guest: 1 }]), codeOf('port-in-use'));
    assert.equal(await open(two), true);
    assert.deepEqual(used.map((socket) => socket === null), [false, true, false, true, false]);
    server.close();
  } finally {
    network.close();
  }
});

/** As ANSWERING, and notes its process and its arguments first. */
const NOTING = `echo "$$ $*" >> "$0.lives"; ${ANSWERING}`;
/** Of each that was started: its process, and the ports that it was told of. */
const lives = ({ path }: PasstProgram): { pid: number; ports: string }[] => readFileSync(`${path}.lives`, 'utf8').trim().split('\n').map((line) => ({ pid: Number.parseInt(line, 10), ports: [...line.matchAll(/127\.0\.0\.1\/(\d+)/g)].map((match) => match[1]!).join() }));
const forwarding = (host: number): Forward[] => [{ protocol: 'tcp', host, guest: 1 }];

test('changes and a crash at once take turns: one passt is left, with the last forwards, and its socket is the one in use', async () => {
  const program = standIn(NOTING);
  const used: (number | null)[] = [];
  let busy = 0;
  const network = await UserNetwork.start({
    name: 'm', mac, program, forwards: forwarding(1), log: () => {},
    use: async (socket) => {
      assert.equal(busy++, 0, 'one at a time');
      await sleep(1);
      used.push(socket);
      busy--;
    },
  });
  process.kill(network.pid!, 'SIGKILL');
  await Promise.all([2, 3, 4].map((host) => network.forward(forwarding(host))));
  const last = network.pid!;
  const all = lives(program);
  assert.deepEqual(all.at(-1), { pid: last, ports: '4' });
  for (const { pid } of all) if (pid !== last) await gone(pid);
  assert.ok(!/^State:\s+[ZX]/m.test(readFileSync(`/proc/${last}/status`, 'utf8')));
  used.forEach((socket, index) => assert.equal(socket === null, index % 2 === 1, 'each is let go of before the next one'));
  network.close();
  await gone(last);
});

test('when the Worker refuses, no passt is left behind: neither the new one nor the one before', async () => {
  const program = standIn(NOTING);
  let refuses: (socket: number | null) => boolean = () => false;
  const network = await UserNetwork.start({
    name: 'm', mac, program, forwards: forwarding(1), log: () => {},
    use: async (socket) => {
      if (refuses(socket)) throw new Error('not now');
    },
  });
  const first = network.pid!;
  refuses = (socket) => socket === null;
  await assert.rejects(network.forward(forwarding(2)), /not now/);
  assert.equal(network.pid, first, 'it is still there, and known');
  refuses = (socket) => socket !== null;
  await assert.rejects(network.forward(forwarding(2)), /not now/);
  assert.equal(network.pid, undefined);
  for (const { pid } of lives(program)) await gone(pid);
  refuses = () => false;
  await network.forward(forwarding(3));
  const { pid, ports } = lives(program).at(-1)!;
  assert.deepEqual([network.pid, ports], [pid, '3']);
  network.close();
  await gone(pid);
});

test('closed in the middle of a change, nothing is left', async () => {
  const program = standIn(NOTING);
  let network: UserNetwork | undefined;
  let closes = (_socket: number | null): boolean => false;
  for (const when of [(socket: number | null) => socket === null, (socket: number | null) => socket !== null]) {
    closes = () => false;
    network = await UserNetwork.start({
      name: 'm', mac, program, forwards: forwarding(1), log: () => {},
      use: async (socket) => {
        if (closes(socket)) network!.close();
      },
    });
    closes = when;
    await network.forward(forwarding(2));
    assert.equal(network.pid, undefined);
  }
  for (const { pid } of lives(program)) await gone(pid);
});

test('a pair of sockets is inherited by nobody', () => {
  const pair = socketPair();
  for (const fd of pair) {
    assert.match(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'), /^flags:\s+0?2\d{6}$/m);
    close(fd);
  }
});
