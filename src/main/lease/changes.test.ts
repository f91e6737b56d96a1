// What the helper changes for longer than a lease, on hosts made of files: install and remove, virtual functions, reserving from start-up,
// grants; each with what it refuses, how it is undone, and what it does when it is killed anywhere.
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { VitrineError } from '../../shared/errors.ts';
import { grant, installHelper, removeHelper, reserve, restoreFunctions, setFunctions } from './changes.ts';
import { readLasting } from './lasting.ts';
import { compileHelper, FakeHost, THIS_BOOT } from './testing/fake-host.ts';
import type { FakeHostPlan } from './testing/fake-host.ts';
import { runHelper, Session, starterOn } from './testing/run-helper.ts';

const uid = process.getuid!();
let folder: string;
let helper: string;

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'vitrine-changes-'));
  helper = join(folder, 'helper');
  compileHelper(helper);
});
after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }));

const [CARD, SOUND, TWIN, NIC, DISK, BOARD, LATER] = ['0000:00:02.0', '0000:00:02.1', '0000:00:03.0', '0000:00:04.0', '0000:00:05.0', '0000:00:06.0', '0000:00:07.0'] as const;
/** Two cards of a kind beside one that is alone, a server's network card, the disk that the host starts from. */
const computer = (more: Partial<FakeHostPlan> = {}): FakeHostPlan => ({
  devices: [
    { address: '0000:00:01.0', group: 1, driver: 'pcieport', bridge: true },
    { address: CARD, group: 2, driver: 'amdgpu', ids: '1002:7480', classCode: '030000' },
    { address: SOUND, group: 2, driver: 'snd_hda_intel', ids: '1002:ab30', classCode: '040300' },
    { address: TWIN, group: 3, driver: 'e1000e', ids: '8086:10d3' },
    { address: NIC, group: 4, driver: 'i40e', ids: '8086:1572', functions: 0, total: 8, functionDriver: 'iavf' },
    { address: DISK, group: 5, driver: 'nvme', disks: [{ name: 'nvme0n1', number: '259:0' }] },
    { address: BOARD, group: 6, driver: 'i915', ids: '8086:4680', classCode: '030000' },
    { address: LATER, group: 7, driver: 'xhci_hcd', ids: '1912:0014', classCode: '0c0330' },
    { address: '0000:00:08.0', group: 8, driver: 'e1000e', ids: '8086:10d3' },
  ],
  mounts: [{ number: '259:0', at: '/' }],
  ...more,
});

async function withHost<T>(plan: FakeHostPlan, work: (host: FakeHost) => T | Promise<T>): Promise<T> {
  const host = new FakeHost(plan, folder);
  try {
    return await work(host);
  } finally {
    host.remove();
  }
}

const run = (host: FakeHost, words: string[], input: string[] = [], env: Record<string, string> = {}) => runHelper(helper, host, words, input, env);
const isProblem = (code: string, words = /./) => (error: unknown): boolean => {
  assert.ok(error instanceof VitrineError, String(error));
  assert.equal(error.problem.code, code, error.message);
  assert.match(error.message, words);
  return true;
};
const PROGRAM = 'usr/local/libexec/vitrine-helper';
const POLICY = 'usr/share/polkit-1/actions/org.vitrine.helper.policy';

describe('install and remove', () => {
  it('put this very program and its policy in place, and take both away', () => withHost(computer(), async (host) => {
    const starter = starterOn(helper, host.root);
    await installHelper({ starter });
    assert.ok(readFileSync(host.path(PROGRAM)).equals(readFileSync(helper)));
    assert.equal(host.text(POLICY), readFileSync(new URL('../../../native/lease/org.vitrine.helper.policy', import.meta.url), 'utf8'));
    assert.deepEqual([PROGRAM, POLICY].map((path) => statSync(host.path(path)).mode & 0o7777), [0o755, 0o644]);
    assert.deepEqual([PROGRAM, POLICY].map((path) => statSync(host.path(path, '..')).mode & 0o7777), [0o755, 0o755]);
    await installHelper({ starter }); // in the place of another version
    await removeHelper({ starter });
    assert.deepEqual([host.text(PROGRAM), host.text(POLICY)], [null, null]);
    await removeHelper({ starter });
  }));

  it('trust no folder that others can change, and follow no link', async () => {
    for (const spoil of [(host: FakeHost) => chmodSync(host.path('usr/share/polkit-1'), 0o777), (host: FakeHost) => {
      rmSync(host.path('usr/share/polkit-1/actions'), { recursive: true });
      symlinkSync('/tmp', host.path('usr/share/polkit-1/actions'));
    }, (host: FakeHost) => {
      mkdirSync(host.path('usr/local'));
      chmodSync(host.path('usr/local'), 0o775);
    }]) {
      await withHost(computer(), (host) => {
        spoil(host);
        assert.deepEqual([run(host, ['install']).code, run(host, ['install']).result], [1, 'untrusted']);
        assert.equal(host.text(POLICY), null);
      });
    }
  });

  it('leave the old or the new file wherever the helper is killed', () => withHost(computer(), (host) => {
    const whole = readFileSync(helper);
    let step = 1;
    for (; ; step++) {
      host.put('crash', `helper ${step}\n`);
      const { code } = run(host, ['install']);
      rmSync(host.path('crash'));
      if (existsSync(host.path(PROGRAM))) assert.ok(readFileSync(host.path(PROGRAM)).equals(whole) && (statSync(host.path(PROGRAM)).mode & 0o7777) === 0o755, `step ${step}`);
      if (code !== 'SIGKILL') break;
      if (step % 2 === 0) rmSync(host.path(PROGRAM), { force: true });
    }
    assert.ok(step > 6, `${step}`);
  }));

  it('removing gives everything back first', () => withHost(computer(), async (host) => {
    const initial = host.snapshot();
    const starter = starterOn(helper, host.root);
    await installHelper({ starter });
    await setFunctions(NIC, 2, { starter });
    await reserve(CARD, { starter });
    await grant('a', 4096, [TWIN], { starter });
    assert.equal(run(host, ['apply'], [`bind ${TWIN}`, 'permit 3'], { PKEXEC_UID: String(uid) }).code, 0);
    const { released } = await removeHelper({ starter });
    assert.deepEqual(released, [{ address: TWIN, driver: 'e1000e' }]);
    // The module of the virtual functions' driver stays loaded.
    assert.equal(host.snapshot().split('\n').filter((line) => !line.includes('drivers/iavf')).join('\n'), initial);
    assert.deepEqual([host.text(PROGRAM), host.text(POLICY), host.text('etc/modprobe.d/vitrine.conf'), host.text('boot/initramfs.conf'), existsSync(host.path('var/lib/vitrine'))], [null, null, null, '', false]);
  }));

  it('removing is refused, with names, while a machine has a device', () => withHost(computer(), async (host) => {
    const starter = starterOn(helper, host.root);
    await installHelper({ starter });
    const session = new Session(helper, host);
    assert.equal((await session.ask(`bind ${TWIN}`)).result, 'ok');
    await assert.rejects(removeHelper({ starter }), isProblem('lease-held', /0000:00:03\.0 is in use by a machine/));
    assert.equal(await session.end(), 0);
    assert.equal(run(host, ['apply'], [`bind ${TWIN}`]).code, 0);
    host.put('busy/3', '');
    await assert.rejects(removeHelper({ starter }), isProblem('lease-held', /0000:00:03\.0/));
    assert.ok(existsSync(host.path(PROGRAM)));
    rmSync(host.path('busy/3'));
    await removeHelper({ starter });
    assert.equal(host.driverOf(TWIN), 'e1000e');
  }));
});

describe('virtual functions', () => {
  const starts = (host: FakeHost) => starterOn(helper, host.root);
  const functionsOf = (host: FakeHost): string[] => [0, 1, 2, 3, 4, 5, 6, 7].flatMap((index) => (existsSync(host.path(`sys/bus/pci/devices/${NIC}/virtfn${index}`)) ? [`0000:00:10.${index}`] : []));
  const writes = (host: FakeHost): string[] => host.log().filter((line) => line.includes('sriov_numvfs')).map((line) => line.split(' ')[2]!);

  it('are set, by way of 0, and set back to what was there before the first change', () => withHost(computer(), async (host) => {
    const starter = starts(host);
    await setFunctions(NIC, 2, { starter });
    assert.deepEqual([functionsOf(host).length, host.lasting()], [2, [`functions ${THIS_BOOT} ${NIC} 8086:1572 0`]]);
    await setFunctions(NIC, 5, { starter });
    assert.deepEqual([functionsOf(host).length, host.driverOf('0000:00:10.4'), writes(host)], [5, 'iavf', ['2', '0', '5']]);
    assert.deepEqual(readLasting(host.path('var/lib'), host.path('proc')).functions, [{ address: NIC, ids: '8086:1572', before: 0 }]);
    await setFunctions(NIC, 5, { starter });
    assert.equal(writes(host).length, 3);
    await restoreFunctions(NIC, { starter });
    assert.deepEqual([functionsOf(host), host.lasting()], [[], []]);
    await assert.rejects(restoreFunctions(NIC, { starter }), isProblem('lease-no-record'));
    await setFunctions(NIC, 3, { starter });
    await setFunctions(NIC, 0, { starter });
    assert.deepEqual(host.lasting(), []);
  }));

  it('are given to machines, and then stay', () => withHost(computer(), async (host) => {
    const starter = starts(host);
    await setFunctions(NIC, 2, { starter });
    const session = new Session(helper, host);
    assert.equal((await session.ask('bind 0000:00:10.1')).result, 'ok');
    await assert.rejects(setFunctions(NIC, 4, { starter }), isProblem('lease-leased', /0000:00:10\.1 is given to a machine/));
    await assert.rejects(restoreFunctions(NIC, { starter }), isProblem('lease-leased'));
    assert.equal(await session.end(), 0);
    await restoreFunctions(NIC, { starter });
  }));

  it('are refused above the card\'s number, in use, and where there are none', () => withHost(computer(), async (host) => {
    const starter = starts(host);
    await assert.rejects(setFunctions(NIC, 9, { starter }), isProblem('lease-functions', /at most 8/));
    await assert.rejects(setFunctions(TWIN, 1, { starter }), isProblem('lease-no-sriov'));
    await assert.rejects(setFunctions('0000:00:1f.0', 1, { starter }), isProblem('lease-no-device'));
    for (const words of [[NIC], [NIC, '-1'], [NIC, '01'], [NIC, '65536'], [NIC, 'all'], [`${NIC} 1`], [NIC, '1', '2'], ['4', NIC]]) assert.equal(run(host, ['functions', ...words]).code, 2, words.join(' '));
    assert.deepEqual([host.log(), host.lasting()], [[], []]);
    await setFunctions(NIC, 2, { starter });
    const refused = async (words: RegExp, how: () => void, undo: () => void): Promise<void> => {
      how();
      await assert.rejects(setFunctions(NIC, 0, { starter }), isProblem('lease-in-use', words));
      undo();
    };
    const net = `sys/bus/pci/devices/0000:00:10.0/net/ens1v0`;
    host.put(`${net}/address`, '02:00:00:00:00:01\n');
    const header = 'Iface\tDestination\tGateway\n';
    await refused(/this computer's network uses the virtual function 0000:00:10\.0, as ens1v0/, () => host.put('proc/self/net/route', `${header}ens1v0\t0001A8C0\t00000000\n`), () => host.put('proc/self/net/route', `${header}ens1v01\t0001A8C0\t00000000\n`));
    await refused(/ens1v0/, () => host.put('proc/self/net/if_inet6', '20010db8000000000000000000000001 03 40 00 80   ens1v0\n'), () => host.put('proc/self/net/if_inet6', 'fe800000000000000000000000000001 03 40 20 80   ens1v0\n'));
    await refused(/ens1v0/, () => symlinkSync('../nowhere', host.path(net, 'upper_br0')), () => rmSync(host.path(net, 'upper_br0')));
    rmSync(host.path('sys/devices/pci0000:00/0000:00:10.0/net'), { recursive: true });
    // A machine that is none of Vitrine's.
    host.put('sys/bus/pci/devices/0000:00:10.1/driver_override', 'vfio-pci\n');
    unlinkSync(host.path('sys/bus/pci/devices/0000:00:10.1/driver'));
    symlinkSync('../../../bus/pci/drivers/vfio-pci', host.path('sys/bus/pci/devices/0000:00:10.1/driver'));
    symlinkSync('../../../../devices/pci0000:00/0000:00:10.1', host.path('sys/bus/pci/drivers/vfio-pci/0000:00:10.1'));
    unlinkSync(host.path('sys/bus/pci/drivers/iavf/0000:00:10.1'));
    await refused(/0000:00:10\.1 is in use by a machine/, () => host.put('busy/101', ''), () => rmSync(host.path('busy/101')));
    assert.deepEqual(writes(host), ['2']);
    await restoreFunctions(NIC, { starter });
  }));

  it('are as they were when the driver does not make so many, or does not come to an end', () => withHost(computer(), async (host) => {
    const starter = starts(host);
    host.put(`sys/devices/pci0000:00/${NIC}/vf_refused`, '4');
    await assert.rejects(setFunctions(NIC, 6, { starter }), isProblem('lease-step', /does not make 6 virtual functions: No space left/));
    assert.deepEqual([functionsOf(host), host.lasting()], [[], []]);
    await setFunctions(NIC, 3, { starter });
    await assert.rejects(setFunctions(NIC, 6, { starter }), isProblem('lease-step'));
    assert.deepEqual([functionsOf(host).length, host.lasting().length], [3, 1]);
    host.put(`hang/${NIC}`, '');
    await assert.rejects(restoreFunctions(NIC, { starter }), isProblem('lease-hang'));
    assert.equal(host.lasting().length, 1);
    rmSync(host.path('hang', NIC));
    await restoreFunctions(NIC, { starter });
    assert.deepEqual([functionsOf(host), host.lasting()], [[], []]);
  }));

  it('are nobody\'s after a restart, nor another card\'s', () => withHost(computer(), async (host) => {
    const starter = starts(host);
    await setFunctions(NIC, 2, { starter });
    host.put('proc/sys/kernel/random/boot_id', '11111111-89ab-cdef-0123-456789abcdef\n');
    await assert.rejects(restoreFunctions(NIC, { starter }), isProblem('lease-no-record'));
    assert.deepEqual(readLasting(host.path('var/lib'), host.path('proc')).functions, []);
    host.put('proc/sys/kernel/random/boot_id', `${THIS_BOOT}\n`);
    host.put(`sys/devices/pci0000:00/${NIC}/device`, '0x1573\n');
    await assert.rejects(restoreFunctions(NIC, { starter }), isProblem('lease-no-record'));
    assert.deepEqual(host.lasting(), []);
  }));

  it('can be set back wherever the helper is killed', () => withHost(computer(), (host) => {
    assert.equal(run(host, ['functions', NIC, '1']).code, 0);
    assert.equal(run(host, ['functions', NIC, 'restore']).code, 0);
    const initial = host.snapshot();
    let step = 1;
    for (; ; step++) {
      run(host, ['functions', NIC, '2']);
      host.put('crash', `helper ${step}\n`);
      const { code } = run(host, ['functions', NIC, '3']);
      rmSync(host.path('crash'));
      const back = run(host, ['functions', NIC, 'restore']);
      assert.ok(back.result === 'ok' || back.result === 'no-record', back.text);
      assert.equal(host.snapshot(), initial, `step ${step}`);
      assert.deepEqual(host.lasting(), []);
      if (code !== 'SIGKILL') break;
    }
    assert.ok(step > 2, `${step}`);
    for (step = 1; ; step++) {
      host.put('crash', `helper ${step}\n`);
      const { code } = run(host, ['functions', NIC, '3']);
      rmSync(host.path('crash'));
      run(host, ['functions', NIC, 'restore']);
      assert.equal(host.snapshot(), initial, `step ${step}`);
      if (code !== 'SIGKILL') break;
    }
    assert.ok(step > 3, `${step}`);
  }));
});
