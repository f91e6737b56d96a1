// The lab itself. Each `describe` boots one lab, a few seconds on a quiet computer, and asks many things of it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { VitrineError } from '../../src/shared/errors.ts';
import { startLab } from '../host.ts';
import type { LabHost } from '../host.ts';
import { ensureLab } from '../shared.ts';

const PATIENCE = 180_000;
const top = fileURLToPath(new URL('../..', import.meta.url));
const cli = path.join(top, 'lab/cli.ts');
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-lab-test-'));
// where root runs the tests, another user must get through to what is shared
fs.chmodSync(scratch, 0o755);
// labs of this test alone, not those of the user who runs it
process.env['XDG_RUNTIME_DIR'] = path.join(scratch, 'run');
fs.mkdirSync(process.env['XDG_RUNTIME_DIR'], { mode: 0o700 });

async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + PATIENCE;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`it never came to this: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Process ids of QEMU programs that `pid` has started. */
function qemusOf(pid: number): number[] {
  const found: number[] = [];
  for (const entry of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = fs.readFileSync(`/proc/${entry}/stat`, 'utf8');
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (Number(parent) === pid && state !== 'Z' && stat.includes('(qemu-system')) found.push(Number(entry));
    } catch {
      // it ended meanwhile
    }
  }
  return found;
}

const isRunning = (pid: number): boolean => fs.existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));

function startScript(script: string, ...args: string[]): ChildProcess {
  return spawn(process.execPath, ['--disable-warning=ExperimentalWarning', script, ...args], { stdio: ['ignore', 'pipe', 'inherit'], cwd: top });
}

after(() => fs.rmSync(scratch, { recursive: true, force: true }));

describe('the lab with Linux 6.1', () => {
  const share = path.join(scratch, 'share');
  let lab: LabHost;
  before(async () => {
    fs.mkdirSync(share);
    fs.chmodSync(share, 0o777);
    lab = await startLab({ shares: [{ path: share }], memory: 8 * 2 ** 30 });
  });
  after(() => lab.stop());
  const shell = (script: string, options = {}) => lab.run(['sh', '-c', script], { cwd: top, timeout: PATIENCE, ...options });

  it('runs commands as an ordinary user with a private runtime folder', async () => {
    const { stdout, code } = await shell('id -u; stat -c "%u %a" "$XDG_RUNTIME_DIR"; pwd; uname -r');
    const [uid, runtime, cwd, release] = stdout.trim().split('\n');
    assert.equal(code, 0);
    assert.notEqual(uid, '0');
    assert.equal(runtime, `${uid} 700`);
    assert.equal(cwd, path.resolve(top));
    assert.match(release!, /^6\.1\./);
  });

  it('has a /dev/kvm that opens for the ordinary user by its group, and makes machines', async () => {
    const program = [
      "const koffi = require('koffi'); const c = koffi.load('libc.so.6');",
      "const ioctl = c.func('int ioctl(int fd, unsigned long request, long argument)');",
      "const fd = require('fs').openSync('/dev/kvm', 'r+');",
      'console.log(process.geteuid() !== 0, ioctl(fd, 0xae00, 0), ioctl(ioctl(fd, 0xae01, 0), 0xae41, 0) >= 0)' // KVM_GET_API_VERSION, KVM_CREATE_VM, KVM_CREATE_VCPU
    ].join('\n');
    const { stdout, stderr } = await lab.run([process.execPath, '-e', program], { cwd: top, timeout: PATIENCE });
    assert.equal(stdout.trim(), 'true 12 true', stderr);
    assert.match((await shell('stat -c "%U %G %a" /dev/kvm')).stdout, /^root kvm 660/);
  });

  it('runs commands as root when asked', async () => {
    assert.equal((await shell('id -u', { user: 'root' })).stdout, '0\n');
  });

  it('gives exit codes, signals and both outputs', async () => {
    const result = await shell('echo out; echo err >&2; exit 42');
    assert.deepEqual(result, { code: 42, signal: null, stdout: 'out\n', stderr: 'err\n' });
    assert.deepEqual(await shell('kill -TERM $$'), { code: 143, signal: 'SIGTERM', stdout: '', stderr: '' });
    assert.equal((await lab.run(['/no/such/program'], { cwd: '/' })).code, 127);
    const nowhere = await lab.run(['true'], { cwd: '/no/such/folder' });
    assert.equal(nowhere.code, 127);
    assert.match(nowhere.stderr, /no folder/);
  });

  it('hands on the environment and the input', async () => {
    assert.equal((await shell('echo "$GREETING"; cat', { env: { GREETING: 'hello "$x"' }, input: 'typed' })).stdout, 'hello "$x"\ntyped');
  });

  it('carries a megabyte each way intact', async () => {
    const bytes = randomBytes(2 ** 20);
    const { stdout } = await shell('sha256sum; head -c 1048576 /dev/zero | tr "\\0" x', { input: bytes });
    const [sum, rest] = stdout.split(/ +-\n/);
    assert.equal(sum, createHash('sha256').update(bytes).digest('hex'));
    assert.equal(rest, 'x'.repeat(2 ** 20));
  });

  it('runs commands side by side', async () => {
    const reader = shell('mkfifo /dev/shm/f; cat /dev/shm/f');
    const writer = shell('while [ ! -p /dev/shm/f ]; do sleep 0.1; done; echo met > /dev/shm/f');
    const [{ stdout }, { code }] = await Promise.all([reader, writer]);
    assert.equal(stdout, 'met\n');
    assert.equal(code, 0);
  });

  it('shares a folder in both directions, at once and writable', async () => {
    fs.writeFileSync(path.join(share, 'from-host'), 'one');
    assert.equal((await shell(`cat ${share}/from-host; echo -n lab > ${share}/from-lab`)).stdout, 'one');
    assert.equal(fs.readFileSync(path.join(share, 'from-lab'), 'utf8'), 'lab');
    fs.writeFileSync(path.join(share, 'from-host'), 'two, and longer');
    assert.equal((await shell(`cat ${share}/from-host`)).stdout, 'two, and longer');
  });

  it('keeps other changes to itself', async () => {
    const mark = path.join(top, 'made-in-the-lab');
    assert.equal((await shell(`touch ${mark} && ls ${mark}`, { user: 'root' })).code, 0);
    assert.equal(fs.existsSync(mark), false);
  });

  it('has the memory that was asked for', async () => {
    const kilobytes = Number(/MemTotal:\s+(\d+)/.exec((await shell('cat /proc/meminfo')).stdout)![1]);
    assert.ok(kilobytes > 7.5 * 2 ** 20, `${kilobytes} kB`);
  });

  it('kills a command that takes too long, with what it started, however detached', async () => {
    const attempt = shell('echo begun; setsid sleep 4321 & wait', { timeout: 3000 });
    await assert.rejects(attempt, (error: unknown) => error instanceof VitrineError && error.problem.code === 'lab-timeout' && error.problem.why.includes('begun'));
    await until('the sleeper is gone', async () => (await shell('pgrep -f "[s]leep 4321"')).code === 1);
  });

  it('forwards signals', async () => {
    const command = await lab.start(['sh', '-c', 'trap "echo caught; exit 9" USR1; echo ready; while :; do sleep 0.1; done'], { cwd: '/' });
    command.stdout.once('data', () => command.signal('SIGUSR1'));
    const [words, { code }] = await Promise.all([text(command.stdout), command.exited]);
    assert.equal(words, 'ready\ncaught\n');
    assert.equal(code, 9);
  });

  it('opens streams to Unix sockets in it', async () => {
    const server = "require('net').createServer({ allowHalfOpen: true }, (s) => { s.pipe(s); s.on('end', () => process.exit(0)) }).listen('/run/lab/sockets/echo')";
    const command = await lab.start([process.execPath, '-e', server], { cwd: '/' });
    command.stdout.resume();
    command.stderr.resume();
    const connect = lab.forward('/run/lab/sockets/echo');
    let stream: net.Socket | undefined;
    await until('the socket is there', async () => (stream = await connect().catch(() => undefined)) !== undefined);
    const bytes = randomBytes(3 * 2 ** 20);
    stream!.end(bytes);
    const chunks: Buffer[] = [];
    for await (const chunk of stream!) chunks.push(chunk as Buffer);
    assert.ok(Buffer.concat(chunks).equals(bytes));
    assert.equal((await command.exited).code, 0);
    await assert.rejects(lab.forward('/run/lab/sockets/nobody')(), (error: unknown) => error instanceof VitrineError && error.problem.code === 'lab-refused');
  });

  it('refuses connections without the token', async () => {
    const socket = net.connect({ port: lab.endpoint.port, host: '127.0.0.1' });
    socket.on('error', () => {});
    socket.end(`${JSON.stringify({ op: 'run', argv: ['true'], cwd: '/', env: {}, user: 'root', token: '0'.repeat(64) })}\n`);
    assert.equal(await text(socket).catch(() => ''), '');
  });
});

for (const [kernel, iommu, release] of [['6.12', 'amd', /^6\.12\./], ['6.1', 'intel', /^6\.1\./]] as const) {
  describe(`the lab with Linux ${kernel} and the IOMMU of ${iommu}`, () => {
    it('has each device in a group of its own, which vfio-pci can have', async () => {
      const lab = await startLab({ kernel, iommu, devices: ['e1000e', 'nvme', 'edu', 'xhci', 'bochs', 'virtio-net'] });
      try {
        const shell = (script: string) => lab.run(['sh', '-c', script], { cwd: '/', user: 'root', timeout: PATIENCE });
        assert.match((await shell('uname -r')).stdout, release);
        const groups = new Map<string, string>();
        for (const line of (await shell('ls -d /sys/kernel/iommu_groups/*/devices/*')).stdout.trim().split('\n')) {
          const [, group, device] = /iommu_groups\/(\d+)\/devices\/0000:(\S+)$/.exec(line)!;
          groups.set(device!, group!);
        }
        const devices = ['00:05.0', '00:06.0', '00:07.0', '00:08.0', '00:09.0', '00:0a.0'];
        for (const device of devices) {
          assert.ok(groups.has(device), `${device} has no group`);
          assert.equal([...groups.values()].filter((group) => group === groups.get(device)).length, 1, `${device} shares its group`);
        }
        const edu = '/sys/bus/pci/devices/0000:00:07.0';
        await shell(`echo vfio-pci > ${edu}/driver_override; echo 0000:00:07.0 > /sys/bus/pci/drivers_probe`);
        assert.match((await shell(`readlink ${edu}/driver; ls /dev/vfio`)).stdout, new RegExp(`vfio-pci\\n(.*\\n)*${groups.get('00:07.0')}\\n`));
      } finally {
        await lab.stop();
      }
    });
  });
}

describe('npm run lab', () => {
  const run = async (args: string[], input = ''): Promise<{ code: number | null; out: string; err: string }> => {
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', cli, ...args], { stdio: 'pipe', cwd: path.join(top, 'lab') });
    child.stdin.end(input);
    const [out, err] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
    return { code: child.exitCode, out, err };
  };

  it('gives the output, the exit code and the folder of the command, and nothing else', async () => {
    assert.deepEqual(await run(['sh', '-c', 'pwd; cat; exit 3'], 'input\n'), { code: 3, out: `${path.join(top, 'lab')}\ninput\n`, err: '' });
  });

  it('says what is wrong with its options', async () => {
    for (const [args, words] of [[['--kernel', '5.10', 'true'], /6\.1, 6\.12/], [['--devices', 'gpu', 'true'], /e1000e/], [['--memory', 'lots', 'true'], /512M/], [[], /no command/], [['--smp', '99', 'true'], /1 to 8/]] as const) {
      const { code, out, err } = await run([...args]);
      assert.deepEqual([code, out], [125, '']);
      assert.match(err, words);
    }
  });

  it('leaves nothing behind when it is killed with -9', async () => {
    const owner = startScript(path.join(top, 'lab/tests/owner.ts'));
    await once(owner.stdout!, 'data');
    const qemus = qemusOf(owner.pid!);
    assert.equal(qemus.length, 1);
    owner.kill('SIGKILL');
    await until('QEMU is gone', () => !isRunning(qemus[0]!));
    assert.deepEqual(fs.readdirSync(path.join(process.env['XDG_RUNTIME_DIR']!, 'vitrine')), []);
  });
});

describe('the shared lab', () => {
  const library = path.join(scratch, 'data/vitrine/machines');
  const folder = path.join(library, 'one');
  const socketPath = path.join(scratch, 'one.sock');
  before(() => {
    fs.mkdirSync(folder, { recursive: true });
    fs.chmodSync(folder, 0o777);
  });

  const ask = async (words: string): Promise<string> => {
    const socket = net.connect(socketPath);
    socket.write(words);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    socket.destroy();
    return answer.toString();
  };
  const vitrineFolder = (): string[] => fs.readdirSync(path.join(process.env['XDG_RUNTIME_DIR']!, 'vitrine'));

  it('runs a machine behind a relay, is shared, and goes when nobody needs it', async (t) => {
    const relay = startScript(path.join(top, 'lab/tests/relay-owner.ts'), folder, socketPath);
    t.after(() => relay.kill('SIGKILL'));
    relay.stdout!.resume();
    await until('the relay serves', () => {
      assert.equal(relay.exitCode, null, 'the relay has ended');
      return fs.existsSync(socketPath);
    });
    assert.equal(fs.statSync(socketPath).mode & 0o777, 0o600);
    assert.equal(await ask('hello'), 'HELLO');
    const seen = JSON.parse(fs.readFileSync(path.join(folder, 'seen-in-lab'), 'utf8')) as { backend: string; euid: number; lab: string; asked: string };
    assert.notEqual(seen.euid, 0);
    assert.deepEqual([seen.backend, seen.lab, seen.asked], ['lab', '1', 'yes']);
    const note = JSON.parse(fs.readFileSync(path.join(folder, 'machine.lock'), 'utf8')) as { pid: number; socket: string };
    assert.deepEqual([note.pid, note.socket], [relay.pid, socketPath]);

    // a second process of the user gets the same lab
    const lab = await ensureLab({ library });
    const endpoint = vitrineFolder().find((name) => name.endsWith('.json'))!;
    const state = JSON.parse(fs.readFileSync(path.join(process.env['XDG_RUNTIME_DIR']!, 'vitrine', endpoint), 'utf8')) as { port: number; keeper: number };
    assert.equal(lab.endpoint.port, state.port);
    assert.equal(fs.statSync(path.join(process.env['XDG_RUNTIME_DIR']!, 'vitrine', endpoint)).mode & 0o777, 0o600);

    // the relay killed with -9 takes its machine along
    const gone = () => until('the machine in the lab is gone', async () => (await lab.run(['pgrep', '-f', '[m]achine-stand-in'], { cwd: '/' })).code === 1);
    relay.kill('SIGKILL');
    await gone();

    // one that is to have the lab's NIC gets it, the permission for it and for the memory; killed with -9, it leaves that to the next
    const driver = async (): Promise<string> => (await lab.run(['readlink', '/sys/bus/pci/devices/0000:00:05.0/driver'], { cwd: '/' })).stdout.trim().split('/').at(-1)!;
    await until('the NIC has its driver', async () => (await driver()) === 'e1000e');
    fs.writeFileSync(path.join(folder, 'machine.json'), JSON.stringify({ version: 1, id: 'one', name: 'One', memory: 2 ** 26, cpus: 1, boot: { kernel: '/none' }, devices: [{ kind: 'vfio-pci', address: '0000:00:05.0' }] }));
    const given = startScript(path.join(top, 'lab/tests/relay-owner.ts'), folder, socketPath);
    t.after(() => given.kill('SIGKILL'));
    given.stdout!.resume();
    const answers = (relayed: ChildProcess) => until('the relay serves', () => relayed.exitCode === null && ask('again').then((answer) => answer === 'AGAIN', () => false));
    await answers(given);
    const has = JSON.parse(fs.readFileSync(path.join(folder, 'seen-in-lab'), 'utf8')) as { nic: string; limit: number; euid: number };
    assert.deepEqual([has.nic, has.limit, has.euid], ['vfio-pci', 2 ** 26 + 2 ** 27, seen.euid]);
    given.kill('SIGKILL');
    await gone();

    // a new one over the old socket file; the machine's exit code is its own
    const second = startScript(path.join(top, 'lab/tests/relay-owner.ts'), folder, socketPath);
    t.after(() => second.kill('SIGKILL'));
    second.stdout!.resume();
    const exited = once(second, 'exit');
    await answers(second);
    assert.equal(await driver(), 'vfio-pci');
    net.connect(socketPath).on('error', () => {}).write('quit');
    assert.deepEqual(await exited, [7, null]);
    assert.equal(fs.existsSync(socketPath), false);
    assert.equal(await driver(), 'e1000e');

    lab.release();
    await until('the lab and its keeper are gone', () => !isRunning(state.keeper));
    assert.deepEqual(vitrineFolder(), []);
  });
});
