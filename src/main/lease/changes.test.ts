// What the helper changes for longer than a lease, on hosts made of files: install and remove, virtual functions, reserving from start-up,
// grants; each with what it refuses, how it is undone, and what it does when it is killed anywhere.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { VitrineError } from '../../shared/errors.ts';
import { grant, installHelper, removeHelper, reserve, restoreFunctions, revoke, setFunctions, unreserve } from './changes.ts';
import { grantedFor, parseLasting, readLasting } from './lasting.ts';
import { compileHelper, FakeHost, THIS_BOOT } from './testing/fake-host.ts';
import type { FakeHostPlan } from './testing/fake-host.ts';
import { runHelper, Session, starterOn, until } from './testing/run-helper.ts';

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
/** Everything that these ways write outside of /sys. */
const written = (host: FakeHost): string => [host.lasting().join('\n'), host.text('etc/modprobe.d/vitrine.conf'), host.text('boot/initramfs.conf')].join('\n--\n');
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

describe('reserving from start-up', () => {
  const CONF = 'etc/modprobe.d/vitrine.conf';
  const conf = (host: FakeHost): string[] => (host.text(CONF) ?? '').split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  const starts = (host: FakeHost) => starterOn(helper, host.root);

  it('takes all functions of a card, several cards in one file, and gives each back', () => withHost(computer(), async (host) => {
    const starter = starts(host);
    const initial = host.snapshot();
    const said: string[] = [];
    assert.deepEqual(await reserve(SOUND, { starter, onProgress: (line) => said.push(line) }), [CARD, SOUND]);
    const first = ['softdep amdgpu pre: vfio-pci', 'softdep snd_hda_intel pre: vfio-pci', 'options vfio-pci ids=1002:7480,1002:ab30'];
    assert.deepEqual([conf(host), statSync(host.path(CONF)).mode & 0o7777], [first, 0o644]);
    assert.equal(host.text('boot/initramfs.conf'), host.text(CONF));
    assert.deepEqual(said, ['update-initramfs makes the start-up files anew; this may take some minutes', 'update-initramfs: Generating /boot/initrd.img']);
    assert.deepEqual(await reserve(CARD, { starter }), []); // it is
    assert.deepEqual(await reserve(LATER, { starter }), [LATER]);
    assert.deepEqual(conf(host), ['softdep amdgpu pre: vfio-pci', 'softdep snd_hda_intel pre: vfio-pci', 'softdep xhci_hcd pre: vfio-pci', 'options vfio-pci ids=1002:7480,1002:ab30,1912:0014']);
    assert.deepEqual(readLasting(host.path('var/lib'), host.path('proc')), {
      reserved: [{ address: CARD, ids: '1002:7480', module: 'amdgpu' }, { address: SOUND, ids: '1002:ab30', module: 'snd_hda_intel' }, { address: LATER, ids: '1912:0014', module: 'xhci_hcd' }], functions: [], grants: [], due: false,
    });
    assert.equal(host.snapshot(), initial); // nothing before the restart
    // After the restart vfio-pci has it, and its own driver is known from before only; another boot changes nothing here.
    host.put('proc/sys/kernel/random/boot_id', '11111111-89ab-cdef-0123-456789abcdef\n');
    await unreserve(CARD, { starter });
    assert.deepEqual(conf(host), ['softdep xhci_hcd pre: vfio-pci', 'options vfio-pci ids=1912:0014']);
    await unreserve(LATER, { starter });
    assert.deepEqual([host.text(CONF), host.text('boot/initramfs.conf'), host.lasting()], [null, '', []]);
    await assert.rejects(unreserve(LATER, { starter }), isProblem('lease-no-record'));
    assert.deepEqual(host.log().filter((line) => line.startsWith('initramfs')).length, 4);
  }));

  it('knows the module of a driver, also of one that is away, and what is built in', () => withHost(computer(), async (host) => {
    const starter = starts(host);
    symlinkSync('../../../../module/xhci_pci', host.path('sys/bus/pci/drivers/xhci_hcd/module'));
    await assert.rejects(reserve(LATER, { starter }), isProblem('lease-built-in', /xhci_hcd of 0000:00:07\.0 is a part of this kernel/));
    host.put('sys/module/xhci_pci/initstate', 'live\n');
    assert.equal(run(host, ['apply'], [`bind ${LATER}`]).code, 0);
    await reserve(LATER, { starter });
    assert.deepEqual(conf(host), ['softdep xhci_pci pre: vfio-pci', 'options vfio-pci ids=1912:0014']);
  }));

  it('uses the distribution\'s program', async () => {
    for (const [initramfs, told] of [['dracut', 'force_drivers+=" vfio-pci "\n'], ['mkinitcpio', 'MODULES+=(vfio_pci)\n']] as const) {
      await withHost(computer({ initramfs }), async (host) => {
        const starter = starts(host);
        await reserve(CARD, { starter });
        await reserve(LATER, { starter });
        assert.equal(host.text(`etc/${initramfs}.conf.d/vitrine.conf`), told);
        await unreserve(LATER, { starter });
        assert.equal(host.text(`etc/${initramfs}.conf.d/vitrine.conf`), told);
        await unreserve(CARD, { starter });
        assert.equal(host.text(`etc/${initramfs}.conf.d/vitrine.conf`), null);
        assert.deepEqual(host.log(), Array.from({ length: 4 }, () => `initramfs ${initramfs}`));
      });
    }
  });

  it('refuses what the computer needs, and what ids cannot tell apart', () => withHost(computer(), async (host) => {
    const starter = starts(host);
    const refused = (address: string, code: string, words = /./) => assert.rejects(reserve(address, { starter }), isProblem(`lease-${code}`, words));
    await refused(TWIN, 'twin', /0000:00:08\.0 is like 0000:00:03\.0/);
    await refused(DISK, 'mounted', /nvme0n1 lies on 0000:00:05\.0 and is mounted at \//);
    await refused('0000:00:01.0', 'bridge');
    await refused('0000:00:1f.0', 'no-device');
    assert.equal(run(host, ['functions', NIC, '2']).code, 0);
    await refused(NIC, 'virtual-functions');
    await refused('0000:00:10.0', 'virtual');
    assert.equal(run(host, ['functions', NIC, 'restore']).code, 0);
    unlinkSync(host.path('sys/bus/pci/devices', BOARD));
    await refused(CARD, 'only-display', /the only graphics card/);
    symlinkSync(`../../../devices/pci0000:00/${BOARD}`, host.path('sys/bus/pci/devices', BOARD));
    for (const line of ['options vfio-pci ids=8086:10d3', 'options  vfio_pci disable_vga=1 ids=8086:10d3']) {
      host.put('etc/modprobe.d/mine.conf', `# mine\nblacklist nouveau\n${line}\n`);
      await refused(CARD, 'foreign-ids', /mine\.conf/);
    }
    host.put('etc/modprobe.d/mine.conf', '#options vfio-pci ids=1:2\noptions vfio-pci disable_vga=1\n');
    host.put(CONF, 'options vfio-pci ids=8086:10d3\n'); // written by hand, and not known to the helper
    await refused(CARD, 'foreign-ids', /vitrine\.conf/);
    rmSync(host.path(CONF));
    host.put('proc/cmdline', 'quiet vfio-pci.ids=8086:10d3\n');
    await refused(CARD, 'foreign-ids', /command line/);
    host.put('proc/cmdline', 'quiet\n');
    rmSync(host.path('usr/sbin/update-initramfs'));
    await refused(CARD, 'no-initramfs');
    assert.deepEqual([host.text(CONF), host.lasting(), host.log().filter((line) => line.startsWith('initramfs'))], [null, [], []]);
    for (const words of [['reserve'], ['reserve', '02:00.0'], ['reserve', CARD, SOUND], ['unreserve', '']]) assert.equal(run(host, words).code, 2);
  }));

  it('is undone when the start-up files cannot be made', () => withHost(computer(), async (host) => {
    const starter = starts(host);
    await reserve(LATER, { starter });
    const before = host.text(CONF);
    for (const [how, code, words] of [['fail', 'initramfs', /its last words: No space left on device/], ['hang', 'hang', /update-initramfs does not come to an end/]] as const) {
      host.put('initramfs', how);
      await assert.rejects(reserve(CARD, { starter }), isProblem(`lease-${code}`, words));
      assert.equal(host.text(CONF), before);
      const { reserved, due } = readLasting(host.path('var/lib'), host.path('proc'));
      assert.deepEqual([reserved.map(({ address }) => address), due], [[LATER], true]);
      // An end that fails is not undone: it is made good by the next.
      await assert.rejects(unreserve(LATER, { starter }), isProblem(`lease-${code}`));
      assert.deepEqual([host.text(CONF), host.lasting()], [null, ['initramfs due']]);
      rmSync(host.path('initramfs'));
      await unreserve(LATER, { starter });
      assert.deepEqual([host.text('boot/initramfs.conf'), host.lasting()], ['', []]);
      await reserve(LATER, { starter });
    }
  }));

  it('lets others lease while the start-up files are made, and no second one make them', () => withHost(computer(), async (host) => {
    host.put('initramfs', 'hang');
    const said: string[] = [];
    const first = assert.rejects(reserve(CARD, { starter: starts(host), onProgress: (line) => said.push(line) }), isProblem('lease-hang'));
    await until('it is at work', () => said.length > 1);
    assert.equal(run(host, ['lease'], [`bind ${TWIN}`]).result, 'ok');
    assert.equal(run(host, ['reserve', LATER]).result, 'busy');
    assert.equal(run(host, ['grant', 'a', '4096', TWIN]).result, 'ok');
    await first;
    assert.deepEqual(host.lasting(), ['initramfs due', `grant ${uid} a 4096 ${TWIN}=8086:10d3`]);
  }));

  it('is made good by the next run wherever the helper is killed', () => withHost(computer(), (host) => {
    assert.equal(run(host, ['reserve', LATER]).code, 0);
    const [without, others] = [written(host), host.text(CONF)];
    assert.equal(run(host, ['reserve', CARD]).code, 0);
    const reserved = written(host);
    for (const [way, from, to] of [['reserve', without, reserved], ['unreserve', reserved, without]] as const) {
      let step = 1;
      for (; ; step++) {
        if (written(host) !== from) assert.equal(run(host, [way === 'reserve' ? 'unreserve' : 'reserve', CARD]).code, 0);
        assert.equal(written(host), from);
        host.put('crash', `helper ${step}\n`);
        const { code } = run(host, [way, CARD]);
        rmSync(host.path('crash'));
        assert.ok([others, null].includes(host.text(CONF)) || host.text(CONF)!.includes('1002:7480,1002:ab30'));
        // Again, or back: both come to a whole end.
        const again = run(host, [step % 2 === 0 ? way : way === 'reserve' ? 'unreserve' : 'reserve', CARD]);
        assert.ok(again.code === 0 || again.result === 'no-record', again.text);
        assert.equal(written(host), step % 2 === 0 ? to : from, `${way} ${step}`);
        if (code !== 'SIGKILL') break;
      }
      assert.ok(step > 8, `${way}: ${step} steps`);
    }
  }));
});

describe('grants', () => {
  const starts = (host: FakeHost) => starterOn(helper, host.root);
  const MiB = 2 ** 20;
  const granted = (host: FakeHost, machine = 'games', env: Record<string, string> = {}) => new Session(helper, host, ['granted', machine], env);

  it('let a machine have its devices, and nothing else', () => withHost(computer(), async (host) => {
    const starter = starts(host);
    const initial = host.snapshot();
    await grant('games', 64 * MiB, [CARD, SOUND], { starter });
    assert.deepEqual(readLasting(host.path('var/lib'), host.path('proc')).grants, [{ uid, machine: 'games', bytes: 64 * MiB, devices: [{ address: CARD, ids: '1002:7480' }, { address: SOUND, ids: '1002:ab30' }] }]);
    const session = granted(host);
    const answers: Record<string, string> = {};
    for (const line of [`plan ${CARD}`, `bind ${CARD}`, 'permit 2', `bind ${SOUND}`, 'permit 2', `bind ${TWIN}`, `plan ${TWIN}`, 'permit 3', 'module vfio-pci', 'keep', 'held', 'kept', `unbind ${TWIN}`, 'install', 'grant games 1 0000:00:03.0']) answers[line] = (await session.ask(line)).result;
    assert.deepEqual(answers, {
      [`plan ${CARD}`]: 'ok', [`bind ${CARD}`]: 'ok', 'permit 2': 'ok', [`bind ${SOUND}`]: 'ok', [`bind ${TWIN}`]: 'not-granted', [`plan ${TWIN}`]: 'not-granted', 'permit 3': 'not-granted',
      'module vfio-pci': 'not-granted', keep: 'not-granted', held: 'ok', kept: 'ok', [`unbind ${TWIN}`]: 'not-leased', install: 'request', 'grant games 1 0000:00:03.0': 'request',
    });
    assert.equal(host.driverOf(CARD), 'vfio-pci');
    // One lease at a time, and what runs goes on when it is revoked; but nothing new.
    const second = granted(host);
    assert.equal((await second.ask(`bind ${SOUND}`)).result, 'held');
    assert.equal(await second.end(), 0);
    await revoke('games', { starter });
    assert.equal((await session.ask(`plan ${CARD}`)).result, 'not-granted');
    assert.equal(host.driverOf(CARD), 'vfio-pci');
    assert.equal(await session.end(), 0);
    assert.equal(host.snapshot(), initial);
    assert.deepEqual([run(host, ['granted', 'games']).code, run(host, ['granted', 'games']).result], [1, 'not-granted']);
  }));

  it('are of one user, replaced as a whole, listed, and revoked by the user or by an administrator', () => withHost(computer(), async (host) => {
    const starter = starts(host);
    const other = { PKEXEC_UID: String(uid + 1) };
    await grant('games', 4096, [CARD], { starter });
    assert.equal(run(host, ['grant', 'games', '8192', TWIN, LATER], [], other).code, 0);
    assert.equal(run(host, ['grant', 'more', '8192', TWIN]).code, 0);
    await grant('games', 12288, [SOUND], { starter });
    assert.deepEqual(run(host, ['grants']).text.split('\n').slice(0, 3), [`grant ${uid} games 12288 ${SOUND}=1002:ab30`, `grant ${uid + 1} games 8192 ${TWIN}=8086:10d3 ${LATER}=1912:0014`, `grant ${uid} more 8192 ${TWIN}=8086:10d3`]);
    assert.equal(run(host, ['granted', 'more'], [], other).result, 'not-granted');
    assert.equal(run(host, ['revoke', 'more'], [], other).result, 'no-record');
    assert.equal(run(host, ['revoke', 'games'], [], { PKEXEC_UID: String(uid) }).code, 0);
    assert.deepEqual(host.lasting().map((line) => line.split(' ').slice(1, 3)), [[String(uid + 1), 'games'], [String(uid), 'more']]);
    assert.equal(run(host, ['revoke', 'games'], [], { SUDO_UID: String(uid + 2) }).code, 0);
    assert.equal(run(host, ['revoke', 'games']).result, 'no-record');
    for (const words of [['grant', 'games', '4096'], ['grant', 'Games', '4096', CARD], ['grant', '-a', '4096', CARD], ['grant', '../a', '1', CARD], ['grant', 'a', '-1', CARD], ['grant', 'a', '4096', 'all'], ['grant', 'a'.repeat(64), '1', CARD], ['grant', 'a', '1', ...Array.from({ length: 33 }, () => CARD)], ['granted'], ['granted', ''], ['granted', 'a', 'b'], ['revoke', 'a b'], ['grants', 'a']]) {
      assert.equal(run(host, words).code, 2, words.join(' '));
    }
    assert.deepEqual([run(host, ['grant', 'a', '1', '0000:00:01.0']).result, run(host, ['grant', 'a', '1', '0000:00:1f.0']).result, run(host, ['grant', 'a', '1', CARD, CARD]).result], ['bridge', 'no-device', 'odd']);
  }));

  it('are for the device that was there, not for the slot', () => withHost(computer(), async (host) => {
    await grant('games', 4096, [TWIN], { starter: starts(host) });
    const known = () => grantedFor('games', [TWIN], 4096, { lib: host.path('var/lib'), proc: host.path('proc'), sys: host.path('sys') });
    assert.equal(known(), true);
    host.put(`sys/devices/pci0000:00/${TWIN}/device`, '0x1572\n');
    assert.equal(known(), false);
    const session = granted(host);
    assert.match((await session.ask(`bind ${TWIN}`)).text, /^error other-device at 0000:00:03\.0 there is another device \(8086:1572\) than the one that the machine games was allowed \(8086:10d3\)/);
    await session.end();
    assert.deepEqual(host.log(), []);
  }));

  it('bound the memory, for one process', () => withHost(computer(), async (host) => {
    const sleepers = [0, 1].map(() => spawn('sh', ['-c', 'ulimit -S -l 64; exec sleep 600']));
    for (const { pid } of sleepers) {
      await until('the shell has become sleep', () => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'sleep\n');
      host.addProcess(pid!, { uid, soft: 64 * 1024, hard: 8 * MiB });
    }
    const [first, second] = sleepers.map(({ pid }) => pid!);
    await grant('games', 4 * MiB, [TWIN], { starter: starts(host) });
    const session = granted(host);
    assert.equal((await session.ask(`memlock ${first} ${4 * MiB + 1}`)).result, 'not-granted');
    assert.equal((await session.ask(`memlock ${first} ${4 * MiB}`)).result, 'ok');
    assert.equal((await session.ask(`memlock ${second} 131072`)).result, 'not-granted');
    const another = granted(host);
    assert.equal((await another.ask(`memlock ${second} 131072`)).result, 'held');
    await another.end();
    assert.equal(await session.end(), 0);
    for (const child of sleepers) child.kill('SIGKILL');
    const { lib, proc, sys } = { lib: host.path('var/lib'), proc: host.path('proc'), sys: host.path('sys') };
    assert.deepEqual([[TWIN], [], [TWIN, CARD]].map((addresses) => grantedFor('games', addresses, 4 * MiB, { lib, proc, sys })), [true, true, false]);
    assert.deepEqual([grantedFor('games', [TWIN], 4 * MiB + 1, { lib, proc, sys }), grantedFor('work', [TWIN], 1, { lib, proc, sys }), grantedFor('games', [TWIN], 1, { lib, proc, sys, uid: uid + 1 })], [false, false, false]);
  }));

  it('are believed from root\'s own file alone, and only as the helper writes it', () => withHost(computer(), (host) => {
    assert.equal(run(host, ['grant', 'games', '4096', TWIN]).code, 0);
    const path = host.path('var/lib/vitrine/state');
    const good = readFileSync(path, 'utf8');
    assert.equal(statSync(path).mode & 0o7777, 0o644);
    for (const text of ['', 'vitrine-state 2\n', good.slice(0, -1), `${good}\n`, `${good}grant 0 a 1 ${CARD}\n`, `${good}grant 0 a 1 ${CARD}=1002:748\n`, `${good}functions ${THIS_BOOT} ../x 8086:1572 0\n`, `${good}initramfs\n`, `${good}x\0y\n`]) {
      host.put('var/lib/vitrine/state', text);
      for (const words of [['grants'], ['granted', 'games'], ['functions', NIC, '1'], ['reserve', CARD], ['grant', 'b', '1', TWIN], ['remove']]) assert.deepEqual([run(host, words).code, run(host, words).result], [1, 'state'], JSON.stringify(text));
      assert.equal(readFileSync(path, 'utf8'), text);
    }
    host.put('var/lib/vitrine/state', good);
    for (const [at, mode] of [[path, 0o666], [host.path('var/lib/vitrine'), 0o777]] as const) {
      chmodSync(at, mode);
      assert.equal(run(host, ['granted', 'games']).code, 1);
      chmodSync(at, 0o755);
    }
    unlinkSync(path);
    host.put('elsewhere', good);
    symlinkSync(host.path('elsewhere'), path);
    assert.equal(run(host, ['granted', 'games']).result, 'state');
    assert.equal(parseLasting(`${good}x\n`, THIS_BOOT), null);
    assert.deepEqual(host.log(), []);
  }));

  it('are whole wherever the helper is killed', () => withHost(computer(), (host) => {
    let step = 1;
    for (; ; step++) {
      host.put('crash', `helper ${step}\n`);
      const { code } = run(host, ['grant', 'games', String(4096 * step), TWIN]);
      rmSync(host.path('crash'));
      assert.ok([0, 1].includes(host.lasting().length));
      assert.equal(run(host, ['grants']).code, 0);
      if (code !== 'SIGKILL') break;
    }
    assert.ok(step > 3);
    assert.deepEqual(host.lasting(), [`grant ${uid} games ${4096 * step} ${TWIN}=8086:10d3`]);
  }));
});
