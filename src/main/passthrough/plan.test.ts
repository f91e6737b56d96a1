// What plans say about written hosts, and that the helper changes exactly what they show.
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import test from 'node:test';
import * as v from 'valibot';
import type { MachineConfig } from '../../shared/machine-config.ts';
import { machineConfig } from '../../shared/machine-config.ts';
import type { Plan } from '../../shared/passthrough.ts';
import { planSchema } from '../../shared/passthrough.ts';
import { sameJson } from '../../shared/protocol/patch.ts';
import { readHostDevices } from '../host-devices/read.ts';
import { HOSTS } from '../host-devices/testing/hosts.ts';
import { needsLease } from '../launcher/host-lease.ts';
import { leaseDevices, requestsFor } from '../lease/groups.ts';
import { requestLine } from '../lease/protocol.ts';
import type { PlayedHost } from '../lease/testing/played-host.ts';
import { playHost } from '../lease/testing/played-host.ts';
import { shortAddress } from './identity.ts';
import { hostPlace } from './place.ts';
import type { PlanQuestion } from './plan.ts';
import { devicesAfter, planFor } from './plan.ts';

const GiB = 2 ** 30;
const uid = process.getuid!();
const asRoot = uid === 0 && 'the helper of a written host is never started by root';

function machine(changes: Partial<MachineConfig> = {}): MachineConfig {
  return v.parse(machineConfig, { version: 1, id: 'workstation', name: 'Workstation', memory: GiB, cpus: 1, boot: { kernel: '/k' }, ...changes });
}

function played(t: TestContext, text: string): PlayedHost {
  const host = playHost(text);
  t.after(() => host.remove());
  return host;
}

const helper: PlanQuestion['helper'] = { state: 'installed', why: '', canAsk: true, install: ['sudo install'], remove: [] };

function question(host: PlayedHost, groups: string[], changes: Partial<PlanQuestion> = {}): PlanQuestion {
  const config = changes.config ?? machine();
  const claims = changes.claims ?? [];
  return {
    found: readHostDevices({ roots: host.roots, claims, machine: { id: config.id, name: config.name, memory: config.memory } }),
    config, running: false, claims, choice: { groups, mode: 'start', roms: {} }, helper, root: false, grants: [], ...changes,
  };
}

function checked(plan: Plan): Plan {
  // What travels to a page is exactly this.
  assert.ok(sameJson(v.parse(planSchema, plan), JSON.parse(JSON.stringify(plan))));
  assert.ok(plan.problem === undefined || plan.steps.length === 0);
  return plan;
}

/** The steps as lines. */
const said = (plan: Plan) => plan.steps.map(({ sentence, detail, undo }) => [sentence, detail, undo].filter((words) => words !== '').join(' | '));

/** A desktop as in the pictures of the interface: a second card with its sound, the desktop on the processor's graphics, a low limit. */
const PICTURE = `
  cpu amd svm
  acpi IVRS
  iommu ivhd0
  remapping yes
  desktop
  memory 32G 30G
  memlock 4000M
  pci 00:01.0 1022:14db 060400 group=1 driver=pcieport
    pci 03:00.0 1002:7480 030000 group=14 driver=amdgpu reset=none serial=ab-cd
      drm card0 DP-1:on
    pci 03:00.1 1002:ab30 040300 group=14 driver=snd_hda_intel reset=none
      sound card0 playing
  pci 00:02.0 8086:4680 030000 group=2 driver=i915 boot_vga
    drm card1 HDMI-A-1:on
  pci 00:03.0 8086:10d3 020000 group=9
  pci 00:04.0 8086:10d3 020000 group=10 driver=vfio-pci
  forbidden /dev/vfio/10
`;

/** AMD's processors have a host bridge without a driver beside the ports of a root, often in the group of the card behind them. */
const DUMMY_BRIDGE = `
  cpu amd svm
  acpi IVRS
  iommu ivhd0
  remapping yes
  pci 00:01.0 1022:14d8 060000 group=3
  pci 00:01.1 1022:14db 060400 group=3 driver=pcieport
    pci 01:00.0 1002:7480 030000 group=3 driver=amdgpu reset=none
    pci 01:00.1 1002:ab30 040300 group=3 driver=snd_hda_intel reset=none
  pci 00:08.0 1002:164e 030000 group=4 driver=amdgpu boot_vga
    drm card0 DP-1:on
`;

test('a host bridge in the group stays with the computer', (t) => {
  const host = played(t, DUMMY_BRIDGE);
  const { devices, groups } = readHostDevices({ roots: host.roots });
  assert.deepEqual([groups['3'].given.map(shortAddress), groups['3'].verdict, devices['0000:00:01.0'].role], [['01:00.0', '01:00.1'], 'with-care', 'bridge']);
  assert.deepEqual(planFor(question(host, ['3'])).devices.map(shortAddress), ['01:00.0', '01:00.1']);
});

test('the words of a plan', (t) => {
  const host = played(t, PICTURE);
  const plan = checked(planFor(question(host, ['14'], { config: machine({ memory: 16 * GiB }) })));
  assert.equal(plan.problem, undefined);
  assert.deepEqual(said(plan), [
    'Add Radeon RX 7600 and Navi 31 HDMI/DP Audio to Workstation | Take them out of Workstation',
    'Stop the driver `amdgpu` for slot 03:00.0 | The screen on its DisplayPort goes dark. The desktop stays on UHD Graphics 770. | Give it back to `amdgpu`',
    'Stop the driver `snd_hda_intel` for slot 03:00.1 | Sound through that screen stops. | Give it back to `snd_hda_intel`',
    'Hand both to `vfio-pci` and let your account open group 14 | Remove the permission',
    'Let this machine lock 16.1 GiB of memory | Allowed now: 3.9 GiB. 13.9 GiB remain for the computer. | Ends with the machine',
  ]);
  assert.deepEqual([plan.verdict, plan.permission, plan.devices], ['with-care', 'password', ['0000:03:00.0', '0000:03:00.1']]);
  assert.deepEqual(plan.commands[0], "printf '%s\\n' 'bind 0000:03:00.0' 'bind 0000:03:00.1' 'permit 14' | sudo /usr/local/libexec/vitrine-helper apply");
  assert.match(plan.commands[1], /memlock 16908288/);
  assert.deepEqual(plan.undo.slice(0, 2), ['sudo /usr/local/libexec/vitrine-helper release 0000:03:00.0', 'sudo /usr/local/libexec/vitrine-helper release 0000:03:00.1']);
  // Care that the steps do not mend, each once, with whom it is about.
  assert.deepEqual(plan.warnings.map(({ code, devices }) => [code, devices.map(shortAddress).join(' ')]), [['driver-in-use', '03:00.0'], ['driver-in-use', '03:00.1']]);
});

test('several groups, one without a driver, one that only lacks permission', (t) => {
  const host = played(t, PICTURE);
  const plan = checked(planFor(question(host, ['9', '10', '14'])));
  assert.deepEqual(plan.steps.map(({ what, addresses }) => `${what} ${addresses.map(shortAddress).join(' ')}`), [
    'machine 00:03.0 00:04.0 03:00.0 03:00.1', 'bind 00:03.0', 'permit 00:04.0', 'unbind 03:00.0', 'unbind 03:00.1', 'bind 03:00.0 03:00.1',
  ]);
  assert.deepEqual(said(plan).slice(1, 3), ['Hand slot 00:03.0 to `vfio-pci` and let your account open group 9 | Take it off `vfio-pci` and remove the permission', 'Let your account open group 10 | Remove the permission']);
});

test('two of the same name are told apart by their slots', (t) => {
  const plan = checked(planFor(question(played(t, HOSTS.server), ['33', '35', '32'])));
  assert.match(said(plan)[0], /^Add Ethernet Virtual Function 700 Series \(18:02\.0\), Ethernet Virtual Function 700 Series \(18:02\.2\) and Ethernet Controller X710 for 10GbE SFP\+ to Workstation/);
});

test('nothing to change: nobody is asked', (t) => {
  const host = played(t, PICTURE.replace('forbidden /dev/vfio/10', ''));
  const plan = checked(planFor(question(host, ['10'])));
  assert.deepEqual([plan.steps.map(({ what }) => what), plan.permission, plan.commands, plan.undo, plan.verdict], [['machine'], 'none', [], [], 'ready']);
});

test('who allows it', (t) => {
  const host = played(t, PICTURE);
  const permission = (changes: Partial<PlanQuestion>) => planFor(question(host, ['9'], changes)).permission;
  const addresses = ['0000:00:03.0'];
  const grant = { machine: { id: 'workstation', name: 'Workstation' }, addresses, memory: 2 * GiB };
  assert.equal(permission({}), 'password');
  assert.equal(permission({ root: true }), 'none');
  assert.equal(permission({ helper: { ...helper, state: 'missing' } }), 'helper');
  assert.equal(permission({ helper: { ...helper, canAsk: false } }), 'terminal');
  assert.equal(permission({ grants: [grant] }), 'granted');
  assert.equal(permission({ grants: [{ ...grant, memory: GiB }] }), 'password');
  assert.equal(permission({ grants: [{ ...grant, addresses: [] }] }), 'password');
  assert.equal(permission({ grants: [{ ...grant, machine: { id: 'other', name: 'Workstation' } }] }), 'password');
  assert.equal(planFor(question(host, ['9'], { helper: { ...helper, state: 'missing' } })).commands[0], 'sudo install');
});

test('the digest changes with what the plan rests on, and with nothing else', (t) => {
  const host = played(t, PICTURE);
  const digest = (changes: Partial<PlanQuestion> = {}, groups = ['14']) => planFor(question(host, groups, changes)).digest;
  const first = digest();
  host.write('proc/meminfo', 'MemTotal:       33554432 kB\nMemAvailable:   20000000 kB');
  assert.equal(digest(), first);
  const others = [
    digest({ choice: { groups: ['14'], mode: 'kept', roms: {} } }), digest({}, ['9']), digest({ config: machine({ memory: 2 * GiB }) }),
    digest({ choice: { groups: ['14'], mode: 'start', roms: { '0000:03:00.0': 'off' } } }),
  ];
  host.write('proc/self/limits', 'Max locked memory         65536              65536              bytes');
  others.push(digest());
  host.write('sys/devices/pci0000:00/0000:00:01.0/0000:03:00.0/device', '0x7481');
  others.push(digest());
  assert.equal(new Set([first, ...others]).size, 7);
});

test('refused: the reason of the worst finding, what is gone, what runs', (t) => {
  const no = (text: string, groups: string[], changes: Partial<PlanQuestion> = {}) => {
    const { problem, steps, commands, verdict } = checked(planFor(question(played(t, text), groups, changes)));
    assert.deepEqual([steps, commands, verdict], [[], [], 'not-possible']);
    return `${problem!.code}: ${problem!.on}: ${problem!.why}`;
  };
  assert.equal(no(HOSTS.intelDesktop, ['13']), 'host-needs-it: Drive nvme0: your computer\'s system is on this.');
  assert.equal(no(HOSTS.bootDiskInGroup, ['7']), 'host-needs-it: Drive nvme0: your computer\'s system is on this.');
  assert.match(no(HOSTS.oneGpu, ['2'], { choice: { groups: ['2'], mode: 'kept', roms: {} } }), /^only-gpu: Radeon RX 7600: it is the only graphics card/);
  assert.match(no(HOSTS.noIommu, ['0000:01:00']), /^iommu-off: Workstation: /i);
  assert.match(no(HOSTS.noRemapping, ['4']), /^no-interrupt-remapping: Workstation: interrupts are not remapped/);
  assert.match(no(HOSTS.limits, ['5'], { config: machine({ memory: 5 * GiB }) }), /^memory-pinned: Workstation: /);
  assert.match(no(HOSTS.server, ['36']), /^claimed: .*qemu-system-x86 has it/);
  assert.match(no(HOSTS.server, ['33'], { claims: [{ address: '0000:18:02.0', machine: 'Router', id: 'router', running: true }] }), /^claimed: .*the machine Router has it/i);
  assert.match(no(HOSTS.intelDesktop, ['99']), /^no-such-group/);
  const lab = question(played(t, HOSTS.intelDesktop), ['15'], { choice: { groups: ['15'], mode: 'kept', roms: {} } });
  assert.equal(planFor({ ...lab, found: { ...lab.found, on: 'lab' } }).problem?.code, 'lab-kept');
  assert.match(no(HOSTS.bridges, ['2']), /^plan-refused: group 2: a bridge/);
  assert.match(no(HOSTS.intelDesktop, ['15'], { running: true }), /^machine-running/);
  assert.match(no(HOSTS.intelDesktop, [], { config: machine({ devices: [{ kind: 'vfio-pci', address: '0000:01:00.0' }] }) }), /^group-shared: Workstation: AD102 High Definition Audio Controller \(01:00\.1\) is in group 11 as well/);
  assert.match(no(HOSTS.intelDesktop, ['15'], { config: machine({ devices: [{ kind: 'vfio-pci', address: '0000:09:00.0' }] }) }), /^device-gone: Workstation: there is no device in slot 09:00\.0/i);
  assert.match(no(HOSTS.intelDesktop, ['15'], { choice: { groups: ['15'], mode: 'start', roms: { '0000:03:00.0': { file: 'card.rom' } } } }), /^bad-machine/);
});

test('the only graphics card: not from its desktop, but for a start from a text console', (t) => {
  const plan = checked(planFor(question(played(t, HOSTS.oneGpu), ['2'])));
  assert.deepEqual([plan.problem, plan.verdict], [undefined, 'with-care']);
  assert.match(said(plan)[2], /^Stop the driver `amdgpu` for slot 01:00\.0 \| The screen on its DisplayPort goes dark\. No other screen is in use\./);
  const warning = plan.warnings.find(({ code }) => code === 'only-gpu');
  assert.deepEqual([warning?.severity, warning?.commands], ['refused', ['vitrine start NAME --revert 300']]);
});

/** What the helper must have written for these steps to be done, and nothing more. */
function shown(plan: Plan): string[] {
  return plan.steps.flatMap(({ what, sentence, addresses }) => {
    const group = /open group (\d+)/.exec(sentence)?.[1];
    const node = group === undefined ? [] : [`owner ${group} ${uid}`];
    switch (what) {
      case 'module': return ['module vfio-pci'];
      case 'unbind': return addresses.map((address) => `write bus/pci/drivers/${/`(.+)`/.exec(sentence)![1]}/unbind ${address}`);
      case 'bind': return [...addresses.flatMap((address) => [`write bus/pci/devices/${address}/driver_override vfio-pci`, `write bus/pci/drivers_probe ${address}`]), ...node];
      case 'permit': return node;
      default: return [];
    }
  });
}

test('every group of a dozen written hosts: what the helper changes is what the plan showed, and all of it comes back', { skip: asRoot }, async (t) => {
  const totals = { done: 0, refused: 0 };
  for (const [name, text] of Object.entries({ ...HOSTS, dummyBridge: DUMMY_BRIDGE })) {
    const host = played(t, text.replaceAll(/^ *forbidden \/dev\/kvm$/gm, ''));
    const initial = host.snapshot();
    const { starter } = hostPlace(host.env);
    for (const key of Object.keys(readHostDevices({ roots: host.roots }).groups)) {
      const asked = question(host, [key]);
      const plan = checked(planFor(asked));
      const about = `${name}, group ${key}`;
      if (plan.problem !== undefined) {
        totals.refused++;
        continue;
      }
      const config = { ...asked.config, devices: devicesAfter(asked) };
      const files = { sys: `${host.folder}/sys`, dev: `${host.folder}/dev`, limits: '', mayUse: host.roots.mayUse };
      const expected = shown(plan);
      assert.equal(needsLease(config, files), expected.length > 0, about);
      if (expected.length === 0) continue;
      assert.deepEqual(plan.commands[0], `printf '%s\\n' ${requestsFor(plan.devices, files.sys).map((request) => `'${requestLine(request)}'`).join(' ')} | sudo /usr/local/libexec/vitrine-helper apply`);
      host.forgetLog();
      const lease = await leaseDevices(plan.devices, { starter }, files.sys);
      // The node's mode is the helper's own matter. An override that is there already is not written again.
      const done = host.log().map((line) => line.replace(/^(owner \d+ \d+) \d+$/, '$1'));
      const there = asked.found.devices;
      const wanted = expected.filter((line) => !(line.endsWith('driver_override vfio-pci') && there[line.split('/')[3]].driverOverride === 'vfio-pci'));
      assert.deepEqual(done.toSorted(), wanted.toSorted(), about);
      lease.release();
      assert.equal(await lease.ended, 0, about);
      // A module stays loaded: the plan said so.
      const now = host.snapshot().split('\n').filter((line) => !line.startsWith('sys/bus/pci/drivers/vfio-pci/')).join('\n');
      assert.equal(now, initial.split('\n').filter((line) => !line.startsWith('sys/bus/pci/drivers/vfio-pci/')).join('\n'), about);
      totals.done++;
    }
  }
  assert.ok(totals.done >= 20 && totals.refused >= 20, JSON.stringify(totals));
});

