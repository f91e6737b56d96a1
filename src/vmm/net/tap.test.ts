// The words for what is not prepared. A prepared interface is worked in the lab (lab/tests/net.lab.test.ts).
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { VitrineError } from '../../shared/errors.ts';
import { openTap, tapCommands } from './tap.ts';

const sys = mkdtempSync(join(tmpdir(), 'vitrine-tap-'));
after(() => rmSync(sys, { recursive: true, force: true }));

function interfaceOf(name: string, files: Record<string, string>): void {
  const folder = join(sys, 'class/net', name);
  mkdirSync(folder, { recursive: true });
  for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, file), `${text}\n`);
}

const problem = (name: string, queues = 1): { code: string; remedy: string; why: string } => {
  try {
    openTap(name, queues, sys);
  } catch (error) {
    assert.ok(error instanceof VitrineError, String(error));
    return error.problem;
  }
  throw new Error('it was opened');
};

test('the commands that prepare an interface', () => {
  assert.equal(tapCommands('tap0', 1, 'ann'), 'sudo ip tuntap add dev tap0 mode tap user ann && sudo ip link set tap0 up');
  assert.equal(tapCommands('tap0', 4, 'ann'), 'sudo ip tuntap add dev tap0 mode tap user ann multi_queue && sudo ip link set tap0 up');
});

test('an interface that is not there, or another kind of one, is refused with the commands', () => {
  assert.deepEqual([problem('tap7').code, /ip tuntap add dev tap7 mode tap user \S+ && sudo ip link set tap7 up/.test(problem('tap7').remedy)], ['no-such-tap', true]);
  for (const bad of ['', '.', '..', 'a/b', 'with space', 'sixteen-letters-']) assert.equal(problem(bad).code, 'bad-tap-name', bad);
  interfaceOf('eth0', { ifindex: '2', flags: '0x1003' });
  assert.equal(problem('eth0').code, 'not-a-tap');
  interfaceOf('tun0', { ifindex: '3', tun_flags: '0x1001', flags: '0x1003' });
  assert.match(problem('tun0').why, /TUN/);
});

test('an interface with one queue cannot have two, and is not made anew without a word', () => {
  interfaceOf('single', { ifindex: '4', tun_flags: '0x1002', owner: '1000', flags: '0x1003', mtu: '1500' });
  const { code, remedy } = problem('single', 2);
  assert.equal(code, 'tap-one-queue');
  assert.match(remedy, /ip link delete single && sudo ip tuntap add dev single mode tap user \S+ multi_queue/);
});

test('an interface that sysfs shows and the kernel does not let this user have', { skip: process.geteuid!() === 0 ? 'root may have any' : false }, () => {
  interfaceOf('vitrine-none', { ifindex: '5', tun_flags: '0x1002', owner: '4242', flags: '0x1003', mtu: '1500' });
  // Without a right to open /dev/net/tun that is said; with it, that the interface is another's.
  const { code, why } = problem('vitrine-none');
  assert.ok(code === 'no-tun' || (code === 'tap-not-owned' && /4242/.test(why)), why);
});
