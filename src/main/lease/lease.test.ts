// The app's side of the privileged helper: what it says and understands, and what users are told when the helper cannot be started.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { VitrineError } from '../../shared/errors.ts';
import { leaseDevices } from './groups.ts';
import { helperState, HELPER, installCommands, shellWord, whyNotTrusted } from './installed.ts';
import { parseJournal, readJournals } from './journals.ts';
import { applyPlan, Lease, releaseKept } from './lease.ts';
import { AnswerReader, canonicalAddress, requestLine } from './protocol.ts';
import type { Starter } from './start.ts';
import { sudoCommand } from './start.ts';
import { compileHelper, FakeHost, THIS_BOOT } from './testing/fake-host.ts';
import type { FakeHostPlan } from './testing/fake-host.ts';

const uid = process.getuid!();
const NIC = '0000:00:02.0';
const DISK = '0000:00:03.0';
const plan: FakeHostPlan = {
  devices: [{ address: NIC, group: 1, driver: 'e1000e' }, { address: DISK, group: 2, driver: 'nvme', disks: [{ name: 'nvme0n1', number: '259:0' }] }, { address: '0000:00:04.0', group: 1 }],
  mounts: [{ number: '259:0', at: '/' }],
};
let folder: string;
let program: string;

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'vitrine-lease-'));
  program = join(folder, 'helper');
  compileHelper(program);
});
after(() => rmSync(folder, { recursive: true, force: true }));

const starterOn = (host: FakeHost): Starter => ({ asks: true, start: (way, words = []) => spawn(program, [way, ...words], { env: { VITRINE_TEST_ROOT: host.root }, stdio: 'pipe' }) });
/** A pkexec that says this and ends. */
const answering = (code: number, words: string): Starter => ({ asks: true, start: () => spawn('/bin/sh', ['-c', 'echo "$1" >&2; exit "$0"', String(code), words], { stdio: 'pipe' }) });
const isProblem = (code: string, words = /./) => (error: unknown): boolean => {
  assert.ok(error instanceof VitrineError, String(error));
  assert.equal(error.problem.code, code, error.message);
  assert.match(error.message, words);
  return true;
};

async function withHost(work: (host: FakeHost, starter: Starter) => Promise<void>): Promise<void> {
  const host = new FakeHost(plan, folder);
  try {
    await work(host, starterOn(host));
  } finally {
    host.remove();
  }
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `it never came to this: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('the lines', () => {
  it('addresses are spelled as the kernel does', () => {
    const spelled = { '03:00.0': '0000:03:00.0', '0000:0A:1F.7': '0000:0a:1f.7', 'ffff:00:00.1': 'ffff:00:00.1', '03:00': null, '03:20.0': null, '03:00.8': null, '': null, '0000:03:00.0\n': null, ' 03:00.0': null };
    for (const [text, address] of Object.entries(spelled)) assert.equal(canonicalAddress(text), address, text);
  });

  it('requests have the helper\'s spelling', () => {
    assert.deepEqual([requestLine({ verb: 'bind', address: NIC }), requestLine({ verb: 'permit', group: 12 }), requestLine({ verb: 'memlock', pid: 4, bytes: 2 ** 33 }), requestLine({ verb: 'module', name: 'vfio-pci' }), requestLine({ verb: 'keep' })],
      [`bind ${NIC}`, 'permit 12', 'memlock 4 8589934592', 'module vfio-pci', 'keep']);
  });

  it('answers come in pieces of any size', () => {
    const text = 'hello 1 1000\n\nnote a b\nstep bind x\nok\n\nerror mounted it is\nnote c\n\n';
    for (let size = 1; size <= text.length; size++) {
      const reader = new AnswerReader();
      const answers = [];
      for (let at = 0; at < text.length; at += size) answers.push(...reader.push(text.slice(at, at + size)));
      assert.deepEqual(answers.map(({ code, why, notes, data }) => [code, why, notes, data.length]), [['', '', [], 1], ['ok', '', ['a b'], 1], ['mounted', 'it is', ['c'], 0]]);
    }
  });

  it('a plan for sudo can be pasted into a shell', () => {
    assert.equal(sudoCommand('lease', [`bind ${NIC}`, 'permit 1']), `printf '%s\\n' 'bind ${NIC}' 'permit 1' | sudo ${HELPER} apply`);
    assert.equal(sudoCommand('release', [], [NIC]), `sudo ${HELPER} release ${NIC}`);
    assert.equal(shellWord('it\'s'), '\'it\'\\\'\'s\'');
  });
});

describe('a lease', () => {
  it('plans, binds, permits, lists, and ends with its input', () => withHost(async (host, starter) => {
    const initial = host.snapshot();
    const lease = await Lease.open({ starter });
    assert.deepEqual(await lease.plan(NIC), [{ what: 'override', words: [NIC, '-'] }, { what: 'unbind', words: [NIC, 'e1000e'] }, { what: 'bind', words: [NIC, 'vfio-pci'] }]);
    assert.equal(host.snapshot(), initial);
    // Several at once are answered in turn.
    const [, refused] = await Promise.allSettled([lease.bind(NIC), lease.permit(1), lease.bind('0000:00:04.0')]);
    assert.ok(refused.status === 'rejected' && isProblem('lease-not-viable', /group 1.*0000:00:04\.0 in it has no driver.*Everything in a group goes together/)(refused.reason));
    await lease.permit(1);
    assert.deepEqual((await lease.list('held')).map(({ address, driver }) => [address, driver]), [[NIC, 'e1000e'], ['0000:00:04.0', '']]);
    assert.deepEqual(readJournals(host.path('run'), host.path('proc')).map(({ kept, devices, uid: owner }) => [kept, owner, devices.map(({ address }) => address)]), [[false, uid, [NIC, '0000:00:04.0']]]);
    await lease.unbind('0000:00:04.0');
    await assert.rejects(lease.bind(DISK), isProblem('lease-mounted', /Cannot give devices to the machine \(0000:00:03\.0\): nvme0n1 lies on 0000:00:03\.0 and is mounted at \//));
    await assert.rejects(lease.memlock(2 ** 22, 4096), isProblem('lease-no-process'));
    await assert.rejects(lease.module('vfio'), isProblem('lease-module', /Install the kernel's modules/));
    lease.release();
    assert.equal(await lease.ended, 0);
    assert.equal(host.snapshot(), initial);
    await assert.rejects(lease.bind(NIC), isProblem('lease-ended'));
  }));

  it('is held by every process that has its descriptor', () => withHost(async (host, starter) => {
    const initial = host.snapshot();
    const lease = await Lease.open({ starter });
    await lease.bind(NIC);
    const machine = spawn('sleep', ['600'], { stdio: ['ignore', 'ignore', 'ignore', lease.descriptor] });
    lease.release();
    let ended = false;
    void lease.ended.then(() => (ended = true));
    const second = await Lease.open({ starter });
    await assert.rejects(second.bind(NIC), isProblem('lease-leased'));
    assert.deepEqual([ended, host.driverOf(NIC)], [false, 'vfio-pci']);
    machine.kill('SIGKILL');
    assert.equal(await lease.ended, 0);
    assert.equal(host.snapshot(), initial);
    second.release();
    assert.equal(await second.ended, 0);
  }));

  it('is one of devices with their whole groups, or none', () => withHost(async (host, starter) => {
    const initial = host.snapshot();
    await assert.rejects(leaseDevices([NIC], { starter }, host.path('sys')), isProblem('lease-not-viable', /goes together, or nothing: vitrine bind 0000:00:02\.0 0000:00:04\.0$/));
    await assert.rejects(leaseDevices(['0000:00:1f.0'], { starter }, host.path('sys')), isProblem('lease-no-device'));
    assert.equal(host.snapshot(), initial);
    const lease = await leaseDevices([NIC, '0000:00:04.0'], { starter }, host.path('sys'));
    assert.equal(host.driverOf('0000:00:04.0'), 'vfio-pci');
    assert.ok(host.log().includes(`owner 1 ${uid} 600`));
    lease.release();
    assert.equal(await lease.ended, 0);
    assert.equal(host.snapshot(), initial);
  }));

  it('says so when its helper is killed, and the host is as it was', () => withHost(async (host, starter) => {
    const initial = host.snapshot();
    const lease = await Lease.open({ starter });
    await lease.bind(NIC);
    const [{ pid }] = readJournals(host.path('run'), host.path('proc'));
    process.kill(pid, 'SIGKILL');
    await lease.ended;
    await assert.rejects(lease.permit(1), isProblem('lease-ended'));
    await until('the guardian has undone it', () => host.snapshot() === initial && host.journals().length === 0);
  }));

  it('can be kept, and released by the next', () => withHost(async (host, starter) => {
    const initial = host.snapshot();
    const lease = await Lease.open({ starter });
    await lease.bind(NIC);
    await lease.keep();
    lease.release();
    assert.equal(await lease.ended, 0);
    assert.equal(host.driverOf(NIC), 'vfio-pci');
    await assert.rejects(releaseKept([DISK], { starter }), isProblem('lease-not-leased'));
    assert.deepEqual(await releaseKept([NIC], { starter }), { released: [{ address: NIC, driver: 'e1000e' }], notes: [], data: [{ kind: 'released', words: [NIC, 'e1000e'] }] });
    assert.equal(host.snapshot(), initial);
  }));

  it('applies a plan as a whole or not at all', () => withHost(async (host, starter) => {
    const initial = host.snapshot();
    await assert.rejects(applyPlan([{ verb: 'bind', address: NIC }, { verb: 'bind', address: DISK }], NIC, { starter }), isProblem('lease-mounted'));
    assert.equal(host.snapshot(), initial);
    await applyPlan([{ verb: 'bind', address: NIC }], NIC, { starter });
    assert.equal(host.driverOf(NIC), 'vfio-pci');
  }));
});

describe('a helper that does not start', () => {
  const cases: [string, Starter, string, RegExp][] = [
    ['dismissed', answering(126, 'Error executing command as another user: Request dismissed'), 'lease-dismissed', /dismissed\.$/],
    ['refused', answering(127, 'Error executing command as another user: Not authorized\n\nThis incident has been reported.'), 'lease-denied', /An administrator .* sudo \/usr/],
    ['nobody to ask', answering(127, 'Error executing command as another user: No authentication agent found.'), 'lease-no-agent', new RegExp(`printf .*'bind ${NIC}'.* \\| sudo ${HELPER} apply`)],
    ['something else', answering(3, 'bad weather'), 'lease-failed', /exit code 3.*bad weather/],
    ['no such program', { asks: true, start: () => spawn(join(tmpdir(), 'nowhere/helper'), { stdio: 'pipe' }) }, 'lease-failed', /ENOENT/],
    ['an ordinary user\'s', { asks: false, start: () => spawn('/bin/echo', ['error root only root can do this'], { stdio: 'pipe' }) }, 'lease-root', /only root can do this\./],
  ];
  for (const [name, starter, code, words] of cases) {
    it(name, async () => {
      await assert.rejects(Lease.open({ starter, lines: [`bind ${NIC}`] }), isProblem(code, words));
      await assert.rejects(applyPlan([{ verb: 'bind', address: NIC }], NIC, { starter }), isProblem(code, words));
    });
  }
});

describe('the installed helper', () => {
  it('is started only when nobody but its owner can have changed it', () => {
    const top = mkdtempSync(join(folder, 'trust-'));
    const path = join(top, 'libexec/helper');
    const trusted = () => whyNotTrusted(path, uid, top);
    assert.match(trusted(), /is not there/);
    mkdirSync(join(top, 'libexec'), { mode: 0o755 });
    writeFileSync(path, '', { mode: 0o755 });
    chmodSync(path, 0o755);
    assert.equal(trusted(), '');
    assert.match(whyNotTrusted(path, uid + 1, top), /does not belong to root/);
    for (const [mode, why] of [[0o775, /can be changed by others/], [0o4755, /setuid/], [0o644, /no program/], [0o1777, /can be changed by others/]] as const) {
      chmodSync(path, mode);
      assert.match(trusted(), why);
    }
    chmodSync(path, 0o755);
    chmodSync(join(top, 'libexec'), 0o777);
    assert.match(trusted(), /libexec can be changed by others/);
    chmodSync(join(top, 'libexec'), 0o755);
    symlinkSync(path, join(top, 'link'));
    assert.match(whyNotTrusted(join(top, 'link'), uid, top), /is a link/);
  });

  it('is missing, outdated, or there; and what installs it', () => {
    const top = mkdtempSync(join(folder, 'state-'));
    const [built, there, policy] = ['built', 'there', 'policy'].map((name) => join(top, name)) as [string, string, string];
    const source = { helper: built, policy: join(top, 'a b') };
    const state = (why = '') => helperState(source, there, policy, () => why);
    writeFileSync(built, 'new');
    assert.deepEqual(state(), { state: 'missing', why: `${there} is not there`, policy: false });
    writeFileSync(there, 'old');
    assert.equal(state().state, 'outdated');
    assert.deepEqual(state('odd'), { state: 'untrusted', why: 'odd', policy: false });
    writeFileSync(there, 'new');
    writeFileSync(policy, '');
    assert.deepEqual(state(), { state: 'installed', why: '', policy: true });
    assert.deepEqual(installCommands(source).map((line) => line.split(' ').slice(0, 8).join(' ')), ['sudo install -D -o root -g root -m', 'sudo install -D -o root -g root -m']);
    assert.match(installCommands(source)[1]!, / '.*\/a b' \/usr\/share\/polkit-1\/actions\/org\.vitrine\.helper\.policy$/);
  });
});

describe('journals', () => {
  it('tell what is held and kept, and nothing of another boot', () => {
    const text = `vitrine-lease 1 ${THIS_BOOT} 1000 77\ndevice ${NIC} 8086:10d3 - e1000e\nbegun ${NIC} override\ndevice ${DISK} 1b36:0010 - -\nback device ${NIC}\nkept\nback dev`;
    assert.deepEqual(parseJournal('lease.1', text, THIS_BOOT), { name: 'lease.1', uid: 1000, pid: 77, kept: true, devices: [{ address: DISK, driver: '' }] });
    assert.equal(parseJournal('lease.1', text, THIS_BOOT.replace('0', '1')), null);
    assert.equal(parseJournal('lease.1', '', THIS_BOOT), null);
    assert.deepEqual(readJournals(join(tmpdir(), 'nowhere')), []);
  });
});
