// The privileged helper, for real, on hosts made of files (testing/fake-host.ts): its rules, its undoing, and what it does when it is
// killed anywhere. The lab has the same with a real kernel (lab/tests/lease.lab.test.ts).
import assert from 'node:assert/strict';
import { execFile, spawn, spawnSync } from 'node:child_process';
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { HELPER } from './installed.ts';
import { readJournals } from './journals.ts';
import { compileHelper, FakeHost } from './testing/fake-host.ts';
import type { FakeDevice, FakeHostPlan } from './testing/fake-host.ts';
import { answersIn, Session, until } from './testing/run-helper.ts';

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const uid = process.getuid!();
let folder: string;
let helper: string;

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'vitrine-helper-'));
  helper = join(folder, 'helper');
  compileHelper(helper);
});

after(() => rmSync(folder, { recursive: true, force: true }));

function run(host: FakeHost, words: string[], input: string | string[] = '', env: Record<string, string> = {}) {
  const { status, stdout, stderr, signal } = spawnSync(helper, words, {
    input: typeof input === 'string' ? input : input.map((line) => `${line}\n`).join(''), encoding: 'utf8', env: { VITRINE_TEST_ROOT: host.root, ...env }, timeout: 60_000,
  });
  assert.doesNotMatch(stderr, /runtime error|Sanitizer/, stderr);
  return { code: status ?? signal, answers: answersIn(stdout), stdout, stderr };
}

/** Nothing of the host is different; if it is, what. */
function unchanged(host: FakeHost, initial: string, why = ''): void {
  const [before, after] = [new Set(initial.split('\n')), new Set(host.snapshot().split('\n'))];
  assert.deepEqual([...before].filter((line) => !after.has(line)).map((line) => `- ${line}`).concat([...after].filter((line) => !before.has(line)).map((line) => `+ ${line}`)), [], why);
}

/** A desktop: what the tests of single rules have. */
const desktop = (more: Partial<FakeHostPlan> = {}): FakeHostPlan => ({
  devices: [
    { address: '0000:00:01.0', group: 1, driver: 'pcieport', bridge: true },
    { address: '0000:00:02.0', group: 1, driver: 'e1000e' },
    { address: '0000:00:03.0', group: 2, driver: 'nvme', disks: [{ name: 'nvme0n1', number: '259:0', partitions: [{ name: 'nvme0n1p1', number: '259:1' }, { name: 'nvme0n1p2', number: '259:2' }] }] },
    { address: '0000:00:04.0', group: 3, driver: 'snd_hda_intel' },
    { address: '0000:00:05.0', group: 3, driver: 'xhci_hcd' },
    { address: '0000:00:06.0', group: 4 },
    { address: '0000:00:07.0', driver: 'ahci' },
    { address: '0000:00:08.0', group: 5, driver: 'igb', functions: 2 },
    { address: '0000:00:09.0', group: 6, driver: 'nouveau', override: 'pci-stub' },
    { address: '0000:00:0a.0', group: 7, driver: 'vfio-pci', native: 'ixgbe' },
    { address: '0000:00:0b.0', group: 8, driver: 'ath11k', refused: true },
  ],
  ...more,
});
const NIC = '0000:00:02.0';
const NVME = '0000:00:03.0';
const SOUND = '0000:00:04.0';
const USB = '0000:00:05.0';
const GPU = '0000:00:09.0';

async function withHost<T>(plan: FakeHostPlan, work: (host: FakeHost) => T | Promise<T>): Promise<T> {
  const host = new FakeHost(plan, folder);
  try {
    return await work(host);
  } finally {
    host.remove();
  }
}

describe('the helper\'s parser', () => {
  it('takes a million inputs, and accepts only what it would write itself', async () => {
    const fuzz = join(folder, 'fuzz');
    compileHelper(fuzz, { main: false, sanitize: 'address,undefined' });
    const seed = String(Math.floor(Math.random() * 2 ** 31));
    const { stdout } = await promisify(execFile)(fuzz, ['1000000', seed]);
    assert.match(stdout, /^1000000 inputs, \d{4,} requests, \d{4,} records, \d{4,} lines/, `seed ${seed}: ${stdout}`);
  });

  it('knows one spelling of each request, and says what is none', () => withHost(desktop(), (host) => {
    const lines = ['bind 0000:00:02.0 ', ' bind 0000:00:02.0', 'bind  0000:00:02.0', 'BIND 0000:00:02.0', 'bind 00:02.0', 'bind 0000:00:02.8', 'bind 0000:00:20.0', 'bind 0000:00:0A.0', 'bind ../0000:00:02.0', 'bind 0000:00:02.0/..',
      'permit -1', 'permit 01', 'permit 1x', 'memlock 1 4096', 'memlock 99 -1', 'module nvidia', 'module ../vfio', '', 'bind', 'keep now', 'x'.repeat(5000), 'bind 0000:00:02.0\0', '#bind'];
    const { answers, code } = run(host, ['lease'], lines);
    assert.deepEqual(answers.map(({ result }) => result), ['hello', ...lines.map(() => 'request')]);
    assert.equal(code, 0);
    assert.deepEqual(host.log(), []);
  }));
});

describe('what the helper does and undoes', () => {
  it('binds, gives the node, and gives all of it back at the end of its input', () => withHost(desktop(), (host) => {
    const initial = host.snapshot();
    const { answers, code } = run(host, ['lease'], [`plan ${NIC}`, `bind ${NIC}`, 'permit 1', 'held', `bind ${NIC}`, 'kept']);
    assert.deepEqual(answers.map(({ result }) => result), ['hello', 'ok', 'ok', 'ok', 'ok', 'ok', 'ok']);
    assert.deepEqual(answers[1]!.text.split('\n'), [`step override ${NIC} -`, `step unbind ${NIC} e1000e`, `step bind ${NIC} vfio-pci`, 'ok']);
    assert.match(answers[4]!.text, new RegExp(`^held ${NIC} ${uid} \\d+ e1000e lease\\.[0-9a-f]{16}\nok$`));
    assert.equal(code, 0);
    assert.deepEqual(host.log(), [
      `write bus/pci/devices/${NIC}/driver_override vfio-pci`, `write bus/pci/drivers/e1000e/unbind ${NIC}`, `write bus/pci/drivers_probe ${NIC}`, `owner 1 ${uid} 600`,
      `owner 1 ${statSync(host.path('dev')).uid} 400`, `write bus/pci/drivers/vfio-pci/unbind ${NIC}`, `write bus/pci/devices/${NIC}/driver_override `, `write bus/pci/drivers/e1000e/bind ${NIC}`,
    ]);
    unchanged(host, initial);
    assert.deepEqual(host.journals(), []);
  }));

  it('gives back an override, and a device without a driver, as they were', () => withHost(desktop(), (host) => {
    const initial = host.snapshot();
    const { answers } = run(host, ['lease'], [`bind ${GPU}`, 'bind 0000:00:06.0', 'bind 0000:00:0a.0']);
    assert.deepEqual(answers.map(({ result }) => result), ['hello', 'ok', 'ok', 'ok']);
    unchanged(host, initial);
    // What was on vfio-pci before is nothing of the lease's.
    assert.equal(host.log().some((line) => line.includes('0000:00:0a.0')), false);
  }));

  it('waits until the group is free', () => withHost(desktop(), async (host) => {
    const initial = host.snapshot();
    const session = new Session(helper, host);
    assert.equal((await session.ask(`bind ${NIC}`)).result, 'ok');
    host.put('busy/1', '');
    assert.equal((await session.ask(`unbind ${NIC}`)).result, 'in-use');
    session.child.stdin.end();
    const second = run(host, ['lease'], [`bind ${NIC}`, `plan ${NIC}`]);
    assert.deepEqual(second.answers.map(({ result }) => result), ['hello', 'leased', 'leased']);
    assert.equal(session.child.exitCode, null);
    assert.equal(host.driverOf(NIC), 'vfio-pci');
    rmSync(host.path('busy/1'));
    assert.equal(await session.ended(), 0);
    unchanged(host, initial);
  }));

  it('gives back one device of several, and keeps what it is told to keep', () => withHost(desktop(), async (host) => {
    const initial = host.snapshot();
    const session = new Session(helper, host);
    for (const line of [`bind ${SOUND}`, `bind ${USB}`, 'permit 3', `unbind ${USB}`, 'keep']) assert.equal((await session.ask(line)).result, 'ok', line);
    assert.equal(host.driverOf(USB), 'xhci_hcd');
    session.child.stdin.end();
    assert.equal(await session.ended(), 0);
    assert.equal(host.driverOf(SOUND), 'vfio-pci');
    assert.match(run(host, ['list']).stdout, new RegExp(`\nkept ${SOUND} ${uid} 0 snd_hda_intel lease`));
    host.put('busy/3', '');
    assert.deepEqual([run(host, ['release', SOUND]).code, run(host, ['release', USB]).code, run(host, ['release', '00:04.0']).code], [3, 1, 2]);
    rmSync(host.path('busy/3'));
    const released = run(host, ['release']);
    assert.match(released.stdout, new RegExp(`released ${SOUND} snd_hda_intel\nok\n$`));
    unchanged(host, initial);
    assert.deepEqual(host.journals(), []);
    assert.equal(run(host, ['release']).code, 0);
  }));

  it('gives back several at once: none where one of them is not to go back, else each that is not in use', () => withHost(desktop(), (host) => {
    const initial = host.snapshot();
    assert.equal(run(host, ['apply'], [`bind ${NIC}`, 'permit 1']).code, 0);
    assert.equal(run(host, ['apply'], [`bind ${SOUND}`, `bind ${USB}`, 'permit 3']).code, 0);
    const kept = host.snapshot();
    for (const [words, result, env] of [
      [[NIC, NVME, SOUND], 'not-leased'], [[NIC, SOUND, NIC], 'odd'], [[NIC, SOUND], 'not-yours', { PKEXEC_UID: String(uid + 1) }], [[NIC, `${SOUND}x`], 'usage'], [[NIC, 'all'], 'usage'],
      [Array.from({ length: 33 }, () => NIC), 'usage'],
    ] as [string[], string, Record<string, string>?][]) {
      const { stdout, code } = run(host, ['release', ...words], '', env);
      assert.match(stdout, new RegExp(`^error ${result} `, 'm'));
      assert.equal(stdout.match(/^error /gm)?.length, 1);
      assert.equal(code, result === 'usage' ? 2 : 1);
      unchanged(host, kept, words.join(' '));
    }
    host.put('busy/3', '');
    const some = run(host, ['release', SOUND, NIC, USB]);
    assert.match(some.stdout, new RegExp(`^released ${NIC} e1000e$`, 'm'));
    assert.match(some.stdout, /^error in-use /m);
    assert.deepEqual([some.code, ...[NIC, SOUND, USB].map((address) => host.driverOf(address))], [3, 'e1000e', 'vfio-pci', 'vfio-pci']);
    rmSync(host.path('busy/3'));
    assert.equal(run(host, ['release', USB, SOUND]).code, 0);
    unchanged(host, initial);
    assert.deepEqual(host.journals(), []);
  }));

  it('applies a plan as a whole or not at all, and keeps it', () => withHost({ devices: desktop().devices.filter(({ driver }) => driver !== 'vfio-pci'), vfio: 'loadable' }, (host) => {
    const good = ['# the network card', '', `bind ${NIC}`, 'permit 1'];
    assert.deepEqual([run(host, ['apply'], [...good, `bind ${NVME}x`]).code, run(host, ['apply'], [...good, 'keep']).code, run(host, ['apply'], `bind ${NIC}\npermit 1`).code, host.log().length], [1, 1, 1, 0]);
    const initial = host.snapshot();
    const failed = run(host, ['apply'], [...good, 'permit 3']);
    assert.equal(failed.code, 1);
    assert.match(failed.stdout, /error not-viable group 3 is not wholly on vfio-pci: 0000:00:04\.0 in it has the driver snd_hda_intel/);
    assert.equal(host.driverOf(NIC), 'e1000e');
    assert.equal(host.snapshot().split('\n').filter((line) => !line.includes('drivers/vfio-pci')).join('\n'), initial); // a module stays
    const loaded = host.snapshot();
    assert.equal(run(host, ['apply'], good).code, 0);
    assert.equal(host.driverOf(NIC), 'vfio-pci');
    assert.equal(statSync(host.path('dev/vfio/1')).mode & 0o777, 0o600);
    // It may be used for a machine by the same user, and only be given back by the same one or an administrator.
    assert.equal(run(host, ['lease'], [`bind ${NIC}`, 'permit 1']).answers.every(({ result }) => result !== 'leased'), true);
    const other = run(host, ['lease'], [`bind ${NIC}`, 'permit 1'], { PKEXEC_UID: String(uid + 1) });
    assert.deepEqual(other.answers.map(({ result }) => result), ['hello', 'leased', 'leased']);
    const foreign = run(host, ['release', NIC], '', { PKEXEC_UID: String(uid + 1) });
    assert.deepEqual([foreign.code, foreign.answers[1]!.result], [1, 'not-yours']);
    assert.equal(run(host, ['release', NIC], '', { SUDO_UID: String(uid + 1) }).code, 0);
    unchanged(host, loaded);
  }));

  it('binds and gives back as often as it is asked to', () => withHost(desktop(), (host) => {
    const initial = host.snapshot();
    const { answers } = run(host, ['lease'], Array.from({ length: 70 }, () => [`bind ${NIC}`, 'permit 1', `unbind ${NIC}`]).flat());
    assert.deepEqual(answers.filter(({ result }) => result !== 'ok').map(({ result }) => result), ['hello']);
    assert.equal(host.log().length, 70 * 8);
    unchanged(host, initial);
  }));

  it('is not kept from giving back by whoever may read its journal', () => withHost(desktop(), async (host) => {
    const initial = host.snapshot();
    assert.equal(run(host, ['apply'], [`bind ${NIC}`]).code, 0);
    const journal = host.path('run/vitrine', host.journals()[0]!);
    assert.deepEqual([statSync(journal).mode & 0o777, statSync(journal.replace('lease.', 'alive.')).mode & 0o777], [0o644, 0o600]);
    const reader = spawn('flock', ['-x', journal, 'sh', '-c', 'echo locked; read line']);
    await new Promise((resolve) => reader.stdout.once('data', resolve));
    assert.equal(run(host, ['release']).code, 0);
    reader.stdin.end();
    unchanged(host, initial);
    assert.deepEqual(readdirSync(host.path('run/vitrine')), ['lock']);
  }));

  it('gives back what vfio-pci does not take', () => withHost(desktop(), (host) => {
    const initial = host.snapshot();
    const { answers } = run(host, ['lease'], ['bind 0000:00:0b.0']);
    assert.match(answers[1]!.text, /^error bind vfio-pci does not take 0000:00:0b\.0/);
    unchanged(host, initial);
  }));

  it('does not wait for a driver that does not let go', () => withHost(desktop(), async (host) => {
    const initial = host.snapshot();
    host.put(`hang/${GPU}`, '');
    const session = new Session(helper, host);
    assert.match((await session.ask(`bind ${GPU}`)).text, /^error hang 0000:00:09\.0 does not come free/);
    assert.equal((await session.ask(`bind ${NIC}`)).result, 'ok');
    session.child.stdin.end();
    assert.equal(await session.ended(), 0);
    unchanged(host, initial);
  }));

  it('leaves alone what somebody else has changed since', () => withHost(desktop(), async (host) => {
    const session = new Session(helper, host);
    assert.equal((await session.ask(`bind ${NIC}`)).result, 'ok');
    host.put(`sys/devices/pci0000:00/${NIC}/device`, '0xffff\n'); // another card sits there
    host.forgetLog();
    session.child.stdin.end();
    assert.equal(await session.ended(), 0);
    assert.deepEqual([host.log(), host.journals()], [[], []]);
  }));

  it('believes a damaged journal up to the damage', () => withHost(desktop(), (host) => {
    const initial = host.snapshot();
    assert.equal(run(host, ['apply'], [`bind ${NIC}`, `bind ${SOUND}`]).code, 0);
    const journal = host.path('run/vitrine', host.journals()[0]!);
    const lines = readFileSync(journal, 'utf8').split('\n').filter((line) => line !== 'kept');
    // Nobody kept it and nobody holds it: it is to be undone.
    writeFileSync(journal, [...lines.slice(0, -1), 'begun ../etc/passwd bind', 'device 0000:00:0a.0 8086:100a - ixgbe', 'begun 0000:00:0a.0 bind', ''].join('\n'));
    assert.match(run(host, ['list']).stdout, /^note undid/);
    unchanged(host, initial);
    assert.deepEqual(host.journals(), []);
    for (const text of ['', 'x', 'vitrine-lease 2 a b c\n', `\ndevice ${NIC} 8086:1002 - nvme\n`]) {
      writeFileSync(journal, text);
      assert.equal(run(host, ['list']).code, 0);
      assert.deepEqual(host.journals(), []);
    }
    unchanged(host, initial);
  }));

  it('applies nothing of another boot\'s journal', () => withHost(desktop(), (host) => {
    assert.equal(run(host, ['apply'], [`bind ${NIC}`]).code, 0);
    const later = host.snapshot();
    host.put('proc/sys/kernel/random/boot_id', '11111111-89ab-cdef-0123-456789abcdef\n');
    host.forgetLog();
    assert.equal(run(host, ['list']).stdout, `hello 1 ${uid}\n\nok\n`);
    assert.deepEqual([host.log(), host.journals(), host.snapshot() === later], [[], [], true]);
  }));
});

describe('what the helper refuses', () => {
  const refused = async (plan: FakeHostPlan, line: string, code: string, words: RegExp = /./): Promise<void> => {
    await withHost(plan, (host) => {
      const initial = host.snapshot();
      const { answers } = run(host, ['lease'], [line.replace(/^bind/, 'plan'), line]);
      for (const answer of line.startsWith('bind') ? answers.slice(1) : answers.slice(2)) {
        assert.equal(answer.result, code, answer.text);
        assert.match(answer.text, words);
      }
      assert.deepEqual(host.log(), []);
      unchanged(host, initial);
    });
  };

  it('a device that the host lives on, however its disk is used', async () => {
    const bind = `bind ${NVME}`;
    await refused(desktop({ mounts: [{ number: '259:0', at: '/', source: '/dev/root' }] }), bind, 'mounted', /nvme0n1 lies on 0000:00:03\.0 and is mounted at \/;/);
    await refused(desktop({ mounts: [{ number: '259:2', at: '/my data' }] }), bind, 'mounted', /mounted at \/my data;/);
    await refused(desktop({ mounts: [{ number: '0:40', at: '/b', source: '/dev/nvme0n1p2', type: 'btrfs' }] }), bind, 'mounted');
    await refused(desktop({ btrfs: ['nvme0n1p1'] }), bind, 'mounted', /btrfs/);
    await refused(desktop({ swaps: ['nvme0n1p1'] }), bind, 'swap', /swaps to nvme0n1p1/);
    const stacked = [{ name: 'dm-0', number: '253:0', of: ['nvme0n1p2'] }, { name: 'md127', number: '9:127', of: ['dm-0'] }, { name: 'dm-1', number: '253:1', of: ['md127'] }];
    await refused(desktop({ stacked, mounts: [{ number: '253:1', at: '/home' }] }), bind, 'mounted', /dm-1 lies on/);
    await refused(desktop({ stacked, swaps: ['dm-0'] }), bind, 'swap');
    await refused(desktop({ stacked: [{ name: 'dm-0', number: '253:0', of: ['nvme0n1p2'] }] }), bind, 'in-use', /nvme0n1p2 .* part of a volume/);
    const multipath: FakeDevice[] = [{ address: NVME, group: 2, driver: 'nvme', disks: [{ name: 'nvme1n1', number: '259:5', multipath: true }] }];
    await refused({ devices: multipath, mounts: [{ number: '259:5', at: '/' }] }, bind, 'mounted');
  });

  it('and gives that device when nothing of it is used', () => withHost(desktop({ mounts: [{ number: '8:1', at: '/', source: '/dev/sda1' }], stacked: [{ name: 'dm-0', number: '253:0', of: [] }], swaps: ['zram0'] }), (host) => {
    assert.equal(run(host, ['lease'], [`bind ${NVME}`]).answers[1]!.result, 'ok');
  }));

  it('what is no device to give away', async () => {
    await refused(desktop(), 'bind 0000:00:1f.0', 'no-device');
    await refused(desktop(), 'bind 0000:00:01.0', 'bridge');
    await refused(desktop(), 'bind 0000:00:07.0', 'no-group', /IOMMU/);
    await refused(desktop(), 'bind 0000:00:08.0', 'virtual-functions', /2 virtual functions/);
  });

  it('a device that does not answer, and names that are none', async () => {
    for (const [path, text, code] of [['config', new Uint8Array(64).fill(0xff), 'vanished'], ['config', '', 'vanished'], ['driver_override', 'a b\n', 'odd'], ['vendor', 'none\n', 'odd']] as const) {
      await withHost(desktop(), (host) => {
        host.put(`sys/devices/pci0000:00/${NIC}/${path}`, text);
        assert.equal(run(host, ['lease'], [`bind ${NIC}`]).answers[1]!.result, code);
        assert.deepEqual(host.log(), []);
      });
    }
  });

  it('groups that are not wholly on vfio-pci', async () => {
    await refused(desktop(), 'permit 1', 'not-viable', /0000:00:02\.0 in it has the driver e1000e/);
    await refused(desktop(), 'permit 4', 'not-viable', /0000:00:06\.0 in it has no driver/);
    await refused(desktop(), 'permit 99', 'no-group');
    await refused({ devices: [{ address: NIC, group: 1, driver: 'pcieport', bridge: true }] }, 'permit 1', 'not-viable', /no device on vfio-pci/);
    await withHost(desktop(), (host) => {
      const { answers } = run(host, ['lease'], [`bind ${SOUND}`, 'permit 3', `bind ${USB}`, 'permit 3']);
      assert.deepEqual(answers.map(({ result }) => result), ['hello', 'ok', 'not-viable', 'ok', 'ok']);
    });
    // A host bridge that no driver wants stays, and is given to nobody; one with a driver is a device like others.
    const beside = (driver?: string): FakeHostPlan => ({ devices: [{ address: NIC, group: 1, driver: 'e1000e' }, { address: '0000:00:01.0', group: 1, classCode: '060000', driver }] });
    await withHost(beside(), (host) => {
      const { answers } = run(host, ['lease'], [`bind ${NIC}`, 'permit 1', 'bind 0000:00:01.0']);
      assert.deepEqual(answers.map(({ result }) => result), ['hello', 'ok', 'ok', 'bridge']);
    });
    await withHost(beside('k10temp'), (host) => {
      const { answers } = run(host, ['lease'], [`bind ${NIC}`, 'permit 1']);
      assert.deepEqual(answers.map(({ result }) => result), ['hello', 'ok', 'not-viable']);
    });
  });

  it('modules that cannot be loaded', async () => {
    await withHost({ devices: desktop().devices.filter(({ driver }) => driver !== 'vfio-pci'), vfio: 'missing' }, (host) => {
      const { answers } = run(host, ['lease'], [`bind ${NIC}`, 'module vfio', 'module kvm_amd']);
      assert.deepEqual(answers.map(({ result }) => result), ['hello', 'module', 'module', 'module']);
      assert.deepEqual(host.log(), ['module vfio-pci', 'module vfio', 'module kvm_amd']);
    });
  });

  it('a journal folder that others can write to', () => withHost(desktop(), (host) => {
    host.put('run/vitrine/x', '');
    spawnSync('chmod', ['777', host.path('run/vitrine')]);
    const { code, stdout } = run(host, ['lease'], [`bind ${NIC}`]);
    assert.deepEqual([code, stdout.slice(0, 14), host.log()], [1, 'error journal ', []]);
  }));

  it('to follow a link out of /sys', () => withHost(desktop(), (host) => {
    unlinkSync(host.path('sys/bus/pci/devices', NIC));
    spawnSync('ln', ['-s', host.path('sys/devices/pci0000:00', NIC), host.path('sys/bus/pci/devices', NIC)]);
    assert.equal(run(host, ['lease'], [`bind ${NIC}`]).answers[1]!.result, 'no-device');
  }));

  it('callers that are no user, and words that are none of its own', () => withHost(desktop(), (host) => {
    for (const name of ['PKEXEC_UID', 'SUDO_UID']) {
      for (const value of ['', '-1', '1000 ', '0x10', '4294967295', '99999999999999999999', 'root']) assert.match(run(host, ['lease'], '', { [name]: value }).stdout, /^error caller /, `${name}=${value}`);
    }
    for (const words of [[], ['bind'], ['lease', 'x'], ['release', NIC, 'x'], ['apply', '/etc/passwd']]) assert.equal(run(host, words).code, 2);
  }));
});

describe('the limit of locked memory', () => {
  const memory = { total: 16 * GiB, available: 4 * GiB };
  let sleepers: ChildProcessWithoutNullStreams[] = [];
  const sleeper = (): number => {
    const child = spawn('sh', ['-c', 'ulimit -S -l 64; exec sleep 600']);
    sleepers.push(child);
    return child.pid!;
  };
  after(() => {
    for (const child of sleepers) child.kill('SIGKILL');
    sleepers = [];
  });
  const limitOf = (pid: number): number => Number(/Max locked memory\s+(\d+)/.exec(readFileSync(`/proc/${pid}/limits`, 'utf8'))![1]);

  it('is raised for a process of the user\'s own, and is as it was at the end', () => withHost(desktop({ memory }), async (host) => {
    const pid = sleeper();
    await until('the shell has become sleep', () => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'sleep\n');
    host.addProcess(pid, { uid, soft: 64 * 1024, hard: 8 * MiB });
    const session = new Session(helper, host);
    assert.equal((await session.ask(`memlock ${pid} 4194304`)).result, 'ok');
    assert.equal(limitOf(pid), 4 * MiB);
    assert.equal((await session.ask(`memlock ${pid} 8192`)).result, 'ok');
    assert.deepEqual(host.log(), [`limit ${pid} 4194304 ${8 * MiB}`]);
    session.child.stdin.end();
    assert.equal(await session.ended(), 0);
    assert.equal(limitOf(pid), 64 * 1024);
  }));

  it('is not raised for anybody else\'s, nor beyond what the host can spare', () => withHost(desktop({ memory }), (host) => {
    const [own, other, foreign] = [sleeper(), sleeper(), sleeper()];
    host.addProcess(own, { uid, soft: 65536, hard: 8 * MiB });
    host.addProcess(other, { uid, soft: 65536, hard: 8 * MiB, own: GiB });
    host.addProcess(foreign, { uid: uid + 1, soft: 65536, hard: 8 * MiB });
    // 4 GiB are available, 1 GiB of them is the host's reserve.
    const { answers } = run(host, ['lease'], [`memlock ${foreign} 4096000`, 'memlock 4194304 4096000', `memlock ${own} ${3 * GiB + 1}`, `memlock ${other} ${4 * GiB + 1}`]);
    assert.deepEqual(answers.map(({ result }) => result), ['hello', 'not-yours', 'no-process', 'memory', 'memory']);
    assert.match(answers[3]!.text, /3073 MiB more would be pinned, and the host can spare 3072 MiB: 4096 MiB are available/);
    assert.deepEqual(host.log(), []);
    const gone = spawnSync('true').pid;
    host.addProcess(gone, { uid, soft: 65536, hard: 8 * MiB });
    assert.equal(run(host, ['lease'], [`memlock ${gone} 4096000`]).answers[1]!.result, 'no-process');
  }));

  it('counts what was promised to others', () => withHost(desktop({ memory }), async (host) => {
    const [first, second] = [sleeper(), sleeper()];
    host.addProcess(first, { uid, soft: 65536, hard: 3 * GiB });
    host.addProcess(second, { uid, soft: 65536, hard: 8 * MiB });
    const session = new Session(helper, host);
    const raised = await session.ask(`memlock ${first} 8388608`);
    // An ordinary user's test cannot raise a hard limit that is lower: what counts is what /proc says.
    assert.ok(['ok', 'step'].includes(raised.result), raised.text);
    assert.match(run(host, ['lease'], [`memlock ${second} 8388608`]).answers[1]!.text, /^error memory 8 MiB more .*3072 MiB of them promised/);
    session.child.stdin.end();
    await session.ended();
  }));
});

describe('a helper that is killed', () => {
  const plan = desktop();
  const requests = [`bind ${SOUND}`, `bind ${USB}`, 'permit 3', `bind ${GPU}`, `unbind ${USB}`];
  const killedAt = (host: FakeHost): boolean => host.log().some((line) => line.startsWith('killed helper'));

  it('is followed by its guardian, at every step', () => withHost(plan, async (host) => {
    const initial = host.snapshot();
    let step = 1;
    for (; ; step++) {
      host.put('crash', `helper ${step}\n`);
      host.forgetLog();
      const { code } = run(host, ['lease'], requests);
      if (code !== 'SIGKILL') break;
      assert.ok(killedAt(host));
      // There is a guardian from the first line of the journal on, which is before the first change.
      if (step > 2) await until(`the guardian has undone what was done before step ${step}`, () => host.journals().length === 0);
      rmSync(host.path('crash'));
      run(host, ['list']);
      unchanged(host, initial, `step ${step}`);
    }
    assert.ok(step > 40, `${step} steps`);
    unchanged(host, initial);
  }));

  it('is followed by the next helper, when its guardian was killed too, and that one may be killed as well', () => withHost(plan, async (host) => {
    const initial = host.snapshot();
    let step = 1;
    let changed = 0;
    for (; ; step++) {
      host.put('crash', `helper ${step}\nguardian 1\n`);
      host.forgetLog();
      if (run(host, ['lease'], requests).code !== 'SIGKILL') break;
      const guarded = host.journals().length > 0;
      if (guarded && step > 2) await until('the guardian is gone', () => host.log().includes('killed guardian 1'));
      if (host.snapshot() !== initial) changed++;
      host.put('crash', `helper ${1 + (step % 7)}\n`);
      run(host, ['list']);
      rmSync(host.path('crash'));
      const { stdout, code } = run(host, ['list']);
      assert.equal(code, 0);
      assert.doesNotMatch(stdout, /held|kept/);
      unchanged(host, initial, `step ${step}`);
      assert.deepEqual(host.journals(), []);
    }
    assert.ok(step > 40 && changed > 20, `${step} steps, ${changed} of them with something to undo`);
  }));

  it('is followed by nothing when it was told to keep', () => withHost(plan, async (host) => {
    const initial = host.snapshot();
    let keptCount = 0;
    for (let step = 1; ; step++) {
      host.put('crash', `helper ${step}\n`);
      host.forgetLog();
      const { code } = run(host, ['apply'], requests.slice(0, 4));
      if (code === 'SIGKILL') await until('it is undone or kept', () => host.snapshot() === initial || readJournals(host.path('run'), host.path('proc')).some(({ kept }) => kept));
      rmSync(host.path('crash'));
      // What is undone is still the guardian's for a moment: it takes the journal away last.
      await until('the guardian has let go', () => !/^held /m.test(run(host, ['list']).stdout));
      if (host.driverOf(GPU) === 'vfio-pci') {
        keptCount++;
        assert.equal(run(host, ['release']).code, 0);
      }
      unchanged(host, initial, `step ${step}`);
      if (code === 'SIGKILL') continue;
      assert.equal(code, 0);
      break;
    }
    assert.ok(keptCount >= 2, `${keptCount}`);
  }));

  it('while a machine still has the group: somebody waits for its end', () => withHost(plan, async (host) => {
    const initial = host.snapshot();
    host.put('crash', 'guardian 1\n');
    const session = new Session(helper, host);
    assert.equal((await session.ask(`bind ${NIC}`)).result, 'ok');
    host.put('busy/1', '');
    session.child.kill('SIGKILL');
    await until('the guardian is gone', () => host.log().includes('killed guardian 1'));
    rmSync(host.path('crash'));
    assert.match(run(host, ['list']).stdout, /note .* is still in use/);
    assert.equal(host.driverOf(NIC), 'vfio-pci');
    rmSync(host.path('busy/1'));
    await until('the device is back', () => host.snapshot() === initial && host.journals().length === 0);
  }));

  it('gets another guardian when that one was killed', () => withHost(plan, async (host) => {
    const initial = host.snapshot();
    const session = new Session(helper, host);
    assert.equal((await session.ask(`bind ${NIC}`)).result, 'ok');
    const children = (): number[] => readFileSync(`/proc/${session.child.pid}/task/${session.child.pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
    const [guardian] = children();
    process.kill(guardian!, 'SIGKILL');
    await until('there is another', () => children().length === 1 && children()[0] !== guardian);
    session.child.kill('SIGKILL');
    await until('it has undone', () => host.snapshot() === initial && host.journals().length === 0);
  }));

  it('ends as at the end of its input when it is asked to end', () => withHost(plan, async (host) => {
    const initial = host.snapshot();
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      const session = new Session(helper, host);
      assert.equal((await session.ask(`bind ${NIC}`)).result, 'ok');
      session.child.kill(signal);
      assert.equal(await session.ended(), 0);
      unchanged(host, initial);
    }
  }));
});

// ---- a thousand executions with plans made by chance, each against what the rules say ----

interface ModelDevice extends FakeDevice {
  /** What forbids it to be given away, as the helper calls it. */
  forbidden?: string;
}

const names = fc.constantFrom('e1000e', 'nvme', 'xhci_hcd', 'nouveau');
const deviceArbitrary = fc.record({
  group: fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined, freq: 8 }), driver: fc.option(fc.oneof({ weight: 6, arbitrary: names }, { weight: 1, arbitrary: fc.constant('vfio-pci') }), { nil: undefined, freq: 6 }),
  override: fc.option(names, { nil: undefined, freq: 2 }), bridge: fc.boolean(), functions: fc.option(fc.integer({ min: 0, max: 7 }).map((n) => Math.max(0, n - 6)), { nil: undefined, freq: 3 }), refused: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
  disk: fc.constantFrom('none', 'none', 'free', 'mounted', 'partition', 'stacked', 'swap'),
});

/** A host by chance, and what of it the rules forbid: known from how it was made, not read from it. */
function randomHost(seed: number): { plan: FakeHostPlan; devices: Map<string, ModelDevice> } {
  const [made] = fc.sample(fc.array(deviceArbitrary, { minLength: 6, maxLength: 8 }), { seed, numRuns: 1 }) as [ReturnType<typeof deviceArbitrary.generate>['value'][]];
  const plan: FakeHostPlan = { devices: [], mounts: [], stacked: [], swaps: [], vfio: seed % 5 === 0 ? 'loadable' : 'loaded' };
  const devices = new Map<string, ModelDevice>();
  for (const [index, { disk, bridge, ...rest }] of made.entries()) {
    const isBridge = bridge && index % 3 === 0;
    const native = rest.driver === 'vfio-pci' ? 'e1000e' : rest.driver;
    const device: ModelDevice = { ...rest, native, bridge: isBridge, address: `0000:00:${(index + 1).toString(16).padStart(2, '0')}.0` };
    if (isBridge) Object.assign(device, { driver: 'pcieport', native: 'pcieport', override: undefined });
    if (device.driver === 'vfio-pci') Object.assign(device, { refused: false, override: undefined });
    const used = !['none', 'free'].includes(disk) && device.driver !== 'vfio-pci' && !isBridge;
    if (disk !== 'none' && (used || disk === 'free')) {
      const name = `nvme${index}n1`;
      device.disks = [{ name, number: `259:${index * 8}`, partitions: [{ name: `${name}p1`, number: `259:${index * 8 + 1}` }] }];
      if (disk === 'mounted') plan.mounts!.push({ number: `259:${index * 8}`, at: '/a' });
      if (disk === 'partition') plan.mounts!.push({ number: '0:50', source: `/dev/${name}p1`, at: '/b' });
      if (disk === 'swap') plan.swaps!.push(`${name}p1`);
      if (disk === 'stacked') {
        plan.stacked!.push({ name: `dm-${index}`, number: `253:${index}`, of: [`${name}p1`] });
        plan.mounts!.push({ number: `253:${index}`, at: '/c' });
      }
    }
    if (isBridge) device.forbidden = 'bridge';
    else if (device.group === undefined) device.forbidden = 'no-group';
    else if ((device.functions ?? 0) > 0) device.forbidden = 'virtual-functions';
    else if (used) device.forbidden = disk === 'swap' ? 'swap' : 'mounted';
    plan.devices.push(device);
    devices.set(device.address, device);
  }
  if (plan.devices.some(({ driver }) => driver === 'vfio-pci')) plan.vfio = 'loaded';
  return { plan, devices };
}

/** What the rules say to a plan: the answers, and every change of the host. */
class Model {
  readonly log: string[] = [];
  readonly drivers: Map<string, string>;
  readonly #devices: Map<string, ModelDevice>;
  readonly #permitted = new Set<number>();
  readonly #leased = new Set<string>();
  #vfio: boolean;

  constructor(devices: Map<string, ModelDevice>, vfio: boolean) {
    this.#devices = devices;
    this.#vfio = vfio;
    this.drivers = new Map([...devices].map(([address, { driver }]) => [address, driver ?? '']));
  }

  answer(line: string): string {
    const [verb, word] = line.split(' ') as [string, string];
    if (verb === 'bind') return this.#bind(word);
    if (verb === 'permit') return this.#permit(Number(word));
    return this.#unbind(word);
  }

  #bind(address: string): string {
    const device = this.#devices.get(address);
    if (device === undefined) return 'no-device';
    if (device.forbidden !== undefined) return device.forbidden;
    const driver = this.drivers.get(address)!;
    if (driver === 'vfio-pci') return 'ok';
    if (!this.#vfio) this.log.push('module vfio-pci');
    this.#vfio = true;
    this.log.push(`write bus/pci/devices/${address}/driver_override vfio-pci`);
    if (driver !== '') this.log.push(`write bus/pci/drivers/${driver}/unbind ${address}`);
    this.log.push(`write bus/pci/drivers_probe ${address}`);
    if (device.refused === true) {
      this.#giveBack(device, false);
      return 'bind';
    }
    this.drivers.set(address, 'vfio-pci');
    this.#leased.add(address);
    return 'ok';
  }

  #giveBack({ address, driver = '', override = '' }: ModelDevice, bound: boolean): void {
    const path = `bus/pci/devices/${address}/driver_override`;
    const detour = driver !== '' && override !== '' && override !== driver;
    if (bound) this.log.push(`write bus/pci/drivers/vfio-pci/unbind ${address}`);
    this.log.push(`write ${path} ${detour ? driver : override}`);
    if (driver !== '') this.log.push(`write bus/pci/drivers/${driver}/bind ${address}`);
    if (detour) this.log.push(`write ${path} ${override}`);
    this.drivers.set(address, driver);
    this.#leased.delete(address);
  }

  #permit(group: number): string {
    const members = [...this.#devices.values()].filter((device) => device.group === group);
    if (members.length === 0) return 'no-group';
    const onVfio = members.filter(({ address }) => this.drivers.get(address) === 'vfio-pci');
    if (onVfio.length === 0 || members.some((device) => device.bridge !== true && !onVfio.includes(device))) return 'not-viable';
    if (!this.#permitted.has(group)) this.log.push(`owner ${group} ${uid} 600`);
    this.#permitted.add(group);
    return 'ok';
  }

  #unbind(address: string): string {
    if (!this.#leased.has(address)) return 'not-leased';
    const device = this.#devices.get(address)!;
    if (this.#permitted.delete(device.group!)) this.log.push(`owner ${device.group} ${uid} 400`);
    this.#giveBack(device, true);
    return 'ok';
  }

  /** The last change first. */
  end(order: { groups: number[]; devices: string[] }): void {
    for (const group of order.groups.toReversed()) if (this.#permitted.delete(group)) this.log.push(`owner ${group} ${uid} 400`);
    for (const address of order.devices.toReversed()) if (this.#leased.has(address)) this.#giveBack(this.#devices.get(address)!, true);
  }

  /** Devices and groups that hold something now, in the order in which they got it. */
  order(): { groups: number[]; devices: string[] } {
    return { groups: [...this.#permitted], devices: [...this.#leased] };
  }
}

describe('a thousand executions', { skip: uid === 0 && 'an ordinary user\'s test: the owner of a node is the user' }, () => {
  const HOSTS = process.env.VITRINE_LONG === '1' ? 200 : 34;
  const PARTS = 4;
  const seed = Number(process.env.VITRINE_SEED ?? Math.floor(Math.random() * 2 ** 30));
  const lineOf = (devices: Map<string, ModelDevice>) => {
    const address = fc.constantFrom(...devices.keys(), '0000:00:1f.7');
    return fc.oneof(
      { weight: 6, arbitrary: address.map((one) => `bind ${one}`) }, { weight: 3, arbitrary: fc.integer({ min: 1, max: 5 }).map((group) => `permit ${group}`) }, { weight: 1, arbitrary: address.map((one) => `unbind ${one}`) },
    );
  };
  const noise = fc.string({ minLength: 1, maxLength: 40 }).filter((text) => !/[\n\0]/.test(text) && !text.startsWith('#')).map((text) => `~${text}`);

  let executions = 0;
  const met = new Map<string, number>();

  // In parts, so that none takes long.
  for (let part = 0; part < PARTS; part++) it(`do what the rules say and nothing else, part ${part + 1} of ${PARTS} (VITRINE_SEED=${seed})`, async () => {
    for (let index = part; index < HOSTS; index += PARTS) {
      const { plan, devices } = randomHost(seed + index);
      await withHost(plan, (host) => {
        let initial = host.snapshot();
        let vfio = plan.vfio === 'loaded';
        const plans = fc.sample(fc.array(fc.oneof({ weight: 5, arbitrary: lineOf(devices) }, { weight: 1, arbitrary: noise }), { maxLength: 10 }), { seed: seed + index, numRuns: 18 });
        for (const lines of plans) {
          host.forgetLog();
          const model = new Model(devices, vfio);
          const expected = lines.map((line) => (line.startsWith('~') ? 'request' : model.answer(line)));
          for (const code of expected) met.set(code, (met.get(code) ?? 0) + 1);
          model.end(model.order());
          const { answers, code } = run(host, ['lease'], lines);
          executions++;
          assert.deepEqual(answers.slice(1).map(({ result }) => result), expected, lines.join('\n'));
          assert.deepEqual(host.log(), model.log, lines.join('\n'));
          assert.equal(code, 0);
          if (model.log.includes('module vfio-pci')) {
            vfio = true; // a module stays
            initial = host.snapshot();
          }
          unchanged(host, initial, lines.join('\n'));
          assert.deepEqual(host.journals(), []);
        }
        const kept = fc.sample(fc.array(lineOf(devices).filter((line) => !line.startsWith('unbind')), { maxLength: 4 }), { seed: seed - index, numRuns: 6 });
        for (const lines of kept) {
          host.forgetLog();
          const model = new Model(devices, vfio);
          const good = lines.every((line) => model.answer(line) === 'ok');
          const order = model.order();
          if (!good) model.end(order);
          assert.equal(run(host, ['apply'], lines).code, good ? 0 : 1, lines.join('\n'));
          assert.deepEqual(host.log(), model.log, lines.join('\n'));
          for (const [address, driver] of model.drivers) assert.equal(host.driverOf(address), driver);
          // Some of them by name first, in any order; a stranger among them keeps all.
          const [named] = fc.sample(fc.shuffledSubarray([...order.devices, '0000:00:1f.7'], { minLength: 1 }), { seed: seed + index + executions, numRuns: 1 }) as [string[]];
          const can = good && named.every((address) => order.devices.includes(address));
          const release = run(host, ['release', ...named]);
          assert.deepEqual([release.code, release.answers[1]!.result], can ? [0, 'ok'] : [1, 'not-leased'], named.join(' '));
          met.set(can ? 'some released' : 'none released', 1);
          for (const [address, driver] of model.drivers) assert.equal(host.driverOf(address), can && named.includes(address) ? devices.get(address)!.driver ?? '' : driver);
          assert.equal(run(host, ['release']).code, 0);
          executions += 3;
          if (model.log.includes('module vfio-pci')) {
            vfio = true;
            initial = host.snapshot();
          }
          unchanged(host, initial, lines.join('\n'));
          assert.deepEqual(host.journals(), []);
        }
      });
    }
  });

  it('were a thousand, and met every rule', () => {
    assert.ok(executions >= 1000, `${executions} executions`);
    for (const code of ['ok', 'request', 'mounted', 'swap', 'bridge', 'no-group', 'no-device', 'not-viable', 'virtual-functions', 'bind', 'not-leased', 'some released', 'none released']) assert.ok((met.get(code) ?? 0) > 0, `${code} was never met: ${JSON.stringify([...met])}`);
  });
});

describe('the real helper', () => {
  const built = new URL('../../../build/native/vitrine-helper', import.meta.url).pathname;

  it('refuses in words when an ordinary user starts it', { skip: uid === 0 && 'an ordinary user\'s test' }, () => {
    for (const words of [['lease'], ['apply'], ['release'], ['list'], ['granted', 'a'], ['functions', NIC, '1'], ['reserve', NIC], ['unreserve', NIC], ['grant', 'a', '1', NIC], ['revoke', 'a'], ['grants'], ['install'], ['remove']]) {
      const { status, stdout } = spawnSync(built, words, { input: `bind ${NIC}\n`, encoding: 'utf8', env: { PKEXEC_UID: '0', VITRINE_TEST_ROOT: folder } });
      assert.deepEqual([status, stdout], [1, 'error root only root can do this; start the helper by pkexec or sudo\n']);
    }
  });

  it('knows nothing of the tests\' roots', () => {
    assert.ok(existsSync(built));
    assert.equal(readFileSync(built).includes('VITRINE_TEST_ROOT'), false);
  });

  it('has a polkit policy with a question for each of its ways', () => {
    const policy = readFileSync(new URL('../../../native/lease/org.vitrine.helper.policy', import.meta.url), 'utf8');
    const actions = [...policy.matchAll(/<action id="org\.vitrine\.helper\.(\w+)">(.*?)<\/action>/gs)];
    assert.deepEqual(actions.map(([, id]) => id), ['lease', 'apply', 'release', 'granted', 'functions', 'reserve', 'unreserve', 'grant', 'revoke', 'remove']);
    for (const [, id, text] of actions) {
      assert.ok(text!.includes(`exec.path">${HELPER}</annotate>`) && text!.includes(`exec.argv1">${id}</annotate>`), id);
      // Nobody is asked for `granted`, where the helper itself judges; a password for these is worth no second one.
      const active = id === 'granted' ? '>yes' : id === 'grant' || id === 'remove' ? '>auth_admin' : '>auth_admin_keep';
      assert.deepEqual(text!.match(/>auth_\w+|>yes|>no/g), ['>auth_admin', '>auth_admin', active], id);
    }
  });

  it('has a polkit policy that is well-formed', { skip: spawnSync('xmllint', ['--version']).error !== undefined && 'no xmllint' }, () => {
    const policy = new URL('../../../native/lease/org.vitrine.helper.policy', import.meta.url).pathname;
    const { status, stderr } = spawnSync('xmllint', ['--noout', '--nonet', policy], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
  });

  it('leaves no process of these tests behind', async () => {
    const mine = (): string[] => readdirSync('/proc').filter((pid) => /^\d+$/.test(pid)).filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1').startsWith(`${helper}\0`);
      } catch {
        return false;
      }
    });
    await until(`all helpers are gone: ${mine().join(' ')}`, () => mine().length === 0);
    writeFileSync(join(folder, 'done'), '');
  });
});
