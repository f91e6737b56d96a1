// The model against written hosts: the verdict of every device that can be given away, the reasons behind it, and hosts that change or
// are broken while they are read.
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import test from 'node:test';
import fc from 'fast-check';
import * as v from 'valibot';
import type { FindingCode, HostDevices, Verdict } from '../../shared/host-devices.ts';
import { FINDING_CODES, hostDevicesSchema } from '../../shared/host-devices.ts';
import { sameJson } from '../../shared/protocol/patch.ts';
import type { ReadOptions } from './read.ts';
import { readHostDevices } from './read.ts';
import { HOSTS, PCI_IDS } from './testing/hosts.ts';
import type { WrittenHost } from './testing/tree.ts';
import { writeHost } from './testing/tree.ts';

const GiB = 2 ** 30;
const SIGNS: Record<string, Verdict> = { '+': 'ready', '!': 'with-care', '-': 'not-possible' };

function written(t: TestContext, text: string): WrittenHost {
  const host = writeHost(text, PCI_IDS);
  t.after(() => host.remove());
  return host;
}

function read(t: TestContext, text: string, options: Partial<ReadOptions> = {}): HostDevices {
  const found = readHostDevices({ roots: written(t, text).roots, ...options });
  // What travels to a page is exactly this: nothing unknown to the schema, and no null.
  assert.ok(sameJson(v.parse(hostDevicesSchema, found), JSON.parse(JSON.stringify(found))));
  assert.doesNotMatch(JSON.stringify(found), /null|NaN|undefined/);
  return found;
}

/** "01:00.0 + | 02:00.0 -": every device that is no bridge, in order. */
function verdicts(found: HostDevices): string {
  const sign = (verdict: Verdict) => Object.keys(SIGNS).find((each) => SIGNS[each] === verdict)!;
  return Object.values(found.devices).filter(({ role }) => role !== 'bridge').map(({ address, verdict }) => `${address.slice(5)} ${sign(verdict)}`).join(' | ');
}

function findingOf(found: HostDevices, short: string, code: FindingCode) {
  const device = found.devices[`0000:${short}`];
  assert.ok(device, short);
  const finding = device.findings.find((each) => each.code === code);
  assert.ok(finding, `${short} has no ${code}: ${JSON.stringify(device.findings.map((each) => each.code))}`);
  return finding;
}

const has = (found: HostDevices, short: string, code: FindingCode) => found.devices[`0000:${short}`].findings.some((each) => each.code === code);

test('reserving from start-up keeps what is reserved already, and is the helper\'s where that is installed', (t) => {
  const host = written(t, HOSTS.intelDesktop);
  const asked = () => findingOf(readHostDevices({ roots: host.roots }), '01:00.0', 'driver-in-use');
  host.write('etc/modprobe.d/vitrine.conf', '# Made by Vitrine\nsoftdep snd_hda_intel pre: vfio-pci\noptions vfio-pci ids=1912:0014\noptions x "$(id)"');
  symlinkSync('../../../../module/nvidia_open', join(host.folder, 'sys/bus/pci/drivers/nvidia/module'));
  const merged = "'softdep snd_hda_intel pre: vfio-pci' 'softdep nvidia_open pre: vfio-pci' 'options vfio-pci ids=1912:0014,10de:2684,10de:22ba'";
  assert.equal(asked().commands![0], `printf '%s\\n' ${merged} | sudo tee /etc/modprobe.d/vitrine.conf`);
  assert.equal(asked().undo![0], "printf '%s\\n' 'softdep snd_hda_intel pre: vfio-pci' 'options vfio-pci ids=1912:0014' | sudo tee /etc/modprobe.d/vitrine.conf");
  rmSync(join(host.folder, 'etc/modprobe.d/vitrine.conf'));
  assert.deepEqual(asked().undo, ['sudo rm /etc/modprobe.d/vitrine.conf', 'sudo update-initramfs -u']);
  host.write('etc/os-release', 'ID=arch');
  assert.deepEqual(asked().commands!.slice(1), ["echo 'MODULES+=(vfio_pci)' | sudo tee /etc/mkinitcpio.conf.d/vitrine.conf", 'sudo mkinitcpio -P']);
  assert.deepEqual(asked().undo, ['sudo rm /etc/modprobe.d/vitrine.conf', 'sudo rm /etc/mkinitcpio.conf.d/vitrine.conf', 'sudo mkinitcpio -P']);
  host.write('usr/local/libexec/vitrine-helper', '');
  assert.deepEqual([asked().commands, asked().undo], [['sudo /usr/local/libexec/vitrine-helper reserve 0000:01:00.0'], ['sudo /usr/local/libexec/vitrine-helper unreserve 0000:01:00.0']]);
});

test('an Intel desktop with a second graphics card', (t) => {
  const found = read(t, HOSTS.intelDesktop);
  assert.equal(verdicts(found), '00:00.0 - | 00:02.0 ! | 00:14.0 ! | 00:17.0 - | 00:1f.0 - | 00:1f.3 - | 00:1f.4 - | 00:1f.6 - | 01:00.0 ! | 01:00.1 + | 02:00.0 - | 03:00.0 +');
  assert.deepEqual(found.findings, []);
  assert.deepEqual(found.iommu && [found.iommu.on, found.iommu.kind, found.iommu.groups, found.iommu.interruptRemapping], [true, 'intel', 11, 'yes']);

  const card = found.devices['0000:01:00.0'];
  assert.equal(card.name, 'GeForce RTX 4090');
  assert.equal(card.place, 'Slot 1');
  assert.equal(card.kind, 'graphics');
  assert.deepEqual(card.bars.map(({ index, kind, size, prefetchable }) => [index, kind, size, prefetchable]), [[0, 'memory32', 16 * 2 ** 20, false], [1, 'memory64', 32 * GiB, true], [3, 'memory64', 32 * 2 ** 20, true], [5, 'io', 128, false]]);
  assert.equal(findingOf(found, '01:00.0', 'driver-in-use').aspect, 'graphics');
  assert.match(findingOf(found, '01:00.0', 'driver-in-use').commands![0], /softdep nvidia pre: vfio-pci' 'softdep snd_hda_intel pre: vfio-pci' 'options vfio-pci ids=10de:2684,10de:22ba' \| sudo tee \/etc\/modprobe\.d\/vitrine\.conf/);
  assert.equal(findingOf(found, '01:00.0', 'bar-size').aspect, 'large');
  assert.deepEqual(findingOf(found, '01:00.0', 'no-reset').facts, { along: ['0000:01:00.1'] });
  assert.equal(findingOf(found, '01:00.0', 'group-shared').aspect, 'functions');
  assert.ok(!has(found, '01:00.0', 'only-gpu') && !has(found, '00:02.0', 'only-gpu'));
  assert.equal(findingOf(found, '00:02.0', 'rom-missing').aspect, 'shadowed');

  assert.deepEqual(found.devices['0000:02:00.0'].uses.map(({ sentence }) => sentence), ['Your computer\'s system is on this.', 'Your home directory is on this.', 'Your computer starts from this.']);
  assert.equal(found.devices['0000:02:00.0'].name, 'Drive nvme0');
  assert.deepEqual(findingOf(found, '02:00.0', 'msix-shared-bar').facts, { bar: 0, offset: 8192, vectors: 33 });
  assert.deepEqual(findingOf(found, '00:17.0', 'host-needs-it').commands, ['sudo umount /srv/films']);
  assert.equal(found.devices['0000:00:14.0'].sentence, 'Your keyboard and mouse are plugged into this. The machine gets what is plugged in.');
  // The last network link of the computer is in the group of the board's parts: none of them can go.
  assert.equal(findingOf(found, '00:1f.3', 'group-shared').aspect, 'needed');
  assert.equal(found.groups['5'].sentence, 'Ethernet Connection (17) I219-V: your internet is on this, and there is no other connection.');
  assert.deepEqual(found.groups['11'], { key: '11', number: 11, devices: ['0000:01:00.0', '0000:01:00.1'], given: ['0000:01:00.0', '0000:01:00.1'], verdict: 'with-care', sentence: 'GeForce RTX 4090: its driver nvidia does not always let go of a card.' });
  assert.deepEqual(Object.keys(found.groups), ['0', '1', '2', '3', '4', '5', '11', '12', '13', '14', '15']);
});

test('an AMD desktop: LVM in LUKS, a bridged link, screens, sound, a mounted stick', (t) => {
  const found = read(t, HOSTS.amdDesktop);
  assert.equal(verdicts(found), '00:00.0 - | 01:00.0 ! | 01:00.1 ! | 02:00.0 - | 03:00.0 - | 04:00.0 ! | 04:00.3 -');
  assert.equal(found.devices['0000:01:00.0'].name, 'Radeon RX 7600');
  assert.equal(found.devices['0000:01:00.0'].sentence, 'Your screens run on this. They go dark. Xorg and gnome-shell hold it open.');
  assert.deepEqual(findingOf(found, '01:00.0', 'driver-in-use').facts, { driver: 'amdgpu', programs: ['Xorg', 'gnome-shell'] });
  assert.equal(findingOf(found, '01:00.1', 'driver-in-use').aspect, 'sound');
  assert.deepEqual(found.devices['0000:02:00.0'].uses.map(({ kind, detail }) => [kind, detail]), [['root', '/ on dm-1'], ['boot', '/boot on nvme0n1p1'], ['swap', '/dev/dm-2 on dm-2']]);
  assert.equal(findingOf(found, '03:00.0', 'host-needs-it').aspect, 'network');
  assert.equal(findingOf(found, '04:00.0', 'no-reset').aspect, 'bus');
  assert.deepEqual(findingOf(found, '04:00.3', 'host-needs-it').commands, ['sudo umount /run/media/ada/STICK']);
});

test('one graphics card: not from the desktop that runs on it, with care from a console', (t) => {
  const found = read(t, HOSTS.oneGpu);
  assert.equal(verdicts(found), '00:02.0 - | 01:00.0 - | 01:00.1 -');
  assert.deepEqual([findingOf(found, '01:00.0', 'only-gpu').aspect, findingOf(found, '01:00.0', 'only-gpu').severity], ['desktop', 'refused']);
  assert.equal(findingOf(found, '01:00.0', 'boot-framebuffer').facts.framebuffer, 'BOOTFB');
  // Reserving the only card would leave the computer without a picture.
  assert.equal(findingOf(found, '01:00.0', 'driver-in-use').commands, undefined);
  const console = read(t, HOSTS.oneGpu.replace('desktop\n', '\n'));
  assert.equal(verdicts(console), '00:02.0 - | 01:00.0 ! | 01:00.1 +');
  assert.equal(findingOf(console, '01:00.0', 'only-gpu').aspect, 'console');
});

test('a laptop: the second chip sleeps and is not woken, btrfs, wireless alone', (t) => {
  const found = read(t, HOSTS.laptop);
  assert.equal(verdicts(found), '00:02.0 - | 00:14.0 ! | 00:14.3 - | 01:00.0 ! | 02:00.0 -');
  assert.equal(found.devices['0000:01:00.0'].name, 'GeForce RTX 3050 Mobile');
  assert.equal(found.devices['0000:01:00.0'].power, 'D3cold');
  assert.equal(found.devices['0000:00:14.3'].kind, 'wireless');
  assert.deepEqual(found.devices['0000:02:00.0'].uses.map(({ kind }) => kind), ['root', 'home', 'boot']);
  // Its configuration space has a shared MSI-X table; to read it would wake the chip.
  assert.ok(!has(found, '01:00.0', 'msix-shared-bar'));
  assert.ok(has(read(t, HOSTS.laptop.replace(' sleeps ', ' ')), '01:00.0', 'msix-shared-bar'));
});

test('a server: virtual functions, RAID over two controllers, another program\'s device, a region of the firmware\'s', (t) => {
  const found = read(t, HOSTS.server, { claims: [{ address: '0000:18:02.2', machine: 'Router', running: true }, { address: '0000:18:02.0', machine: 'Old router', running: false }] });
  assert.equal(verdicts(found), '02:00.0 ! | 18:00.0 - | 18:00.1 + | 18:02.0 + | 18:02.1 ! | 18:02.2 - | 18:02.3 - | 3b:00.0 - | 3c:00.0 - | 3d:00.0 -');
  assert.deepEqual(found.devices['0000:18:00.0'].virtualFunctions, { total: 64, enabled: 4, addresses: ['0000:18:02.0', '0000:18:02.1', '0000:18:02.2', '0000:18:02.3'] });
  assert.equal(found.devices['0000:18:02.0'].physicalFunction, '0000:18:00.0');
  assert.equal(findingOf(found, '18:00.0', 'kernel-modules').severity, 'care');
  assert.deepEqual(findingOf(found, '18:00.1', 'kernel-modules').commands, ['echo 4 | sudo tee /sys/bus/pci/devices/0000:18:00.1/sriov_numvfs']);
  assert.equal(findingOf(found, '18:02.1', 'no-vfio-access').facts.path, '/dev/vfio/34');
  assert.deepEqual([findingOf(found, '18:02.2', 'claimed').aspect, findingOf(found, '18:02.2', 'claimed').facts.machine], ['running', 'Router']);
  assert.deepEqual([findingOf(found, '18:02.0', 'claimed').aspect, findingOf(found, '18:02.0', 'claimed').severity], ['off', 'information']);
  assert.deepEqual(findingOf(found, '18:02.3', 'claimed').facts.programs, ['qemu-system-x86']);
  for (const drive of ['3b:00.0', '3c:00.0']) assert.equal(findingOf(found, drive, 'host-needs-it').aspect, 'root');
  assert.equal(findingOf(found, '3d:00.0', 'host-needs-it').aspect, 'firmware');
  assert.equal(findingOf(read(t, HOSTS.server.replace('iommu dmar0 dmar1 dmar2 dmar3', 'iommu ivhd0')), '3d:00.0', 'host-needs-it').severity, 'care');
  assert.equal(found.devices['0000:18:00.0'].numaNode, 0);
  // The machine that is asked for is not in its own way.
  const own = read(t, HOSTS.server, { claims: [{ address: '0000:18:02.2', machine: 'Router', running: true }], machine: { name: 'Router', memory: GiB } });
  assert.equal(own.devices['0000:18:02.2'].verdict, 'ready');
});

test('groups that pcie_acs_override has split', (t) => {
  const found = read(t, HOSTS.acsSplit);
  assert.equal(verdicts(found), '00:08.0 - | 03:00.0 ! | 04:00.0 ! | 05:00.0 ! | 05:00.1 !');
  assert.deepEqual(findingOf(found, '03:00.0', 'acs-override').facts.others, ['0000:04:00.0', '0000:05:00.0', '0000:05:00.1']);
  // Behind no port at all, and kept apart by hardware: not touched by it.
  assert.ok(!has(found, '00:08.0', 'acs-override'));
  const believed = read(t, HOSTS.acsSplit.replaceAll('noacs', 'acs').replace('downstream,multifunction', 'downstream'));
  assert.equal(verdicts(believed), '00:08.0 - | 03:00.0 + | 04:00.0 + | 05:00.0 + | 05:00.1 +');
});

test('no IOMMU: devices stand by slots, and the setting and the parameter are exact', (t) => {
  const found = read(t, HOSTS.noIommu);
  assert.equal(verdicts(found), '00:17.0 - | 00:1f.6 - | 01:00.0 - | 01:00.1 -');
  assert.deepEqual(found.groups['0000:01:00'].devices, ['0000:01:00.0', '0000:01:00.1']);
  assert.equal(found.groups['0000:01:00'].number, undefined);
  const [off] = found.findings;
  assert.deepEqual([off.code, off.aspect, off.severity], ['iommu-off', 'firmware', 'refused']);
  assert.match(off.remedy, /"Intel VT-d" on.* Then add intel_iommu=on to GRUB_CMDLINE_LINUX_DEFAULT/);
  assert.deepEqual(off.commands, ['sudo update-grub']);

  const variant = (...changes: string[]) => read(t, `${HOSTS.noIommu}${changes.join('\n')}`).findings[0];
  assert.deepEqual([variant('acpi DMAR').aspect, variant('acpi DMAR').facts.parameter], ['parameter', 'intel_iommu=on']);
  assert.equal(variant('acpi DMAR', 'config INTEL_IOMMU_DEFAULT_ON=y').aspect, 'firmware');
  assert.match(variant('acpi DMAR', 'cmdline quiet intel_iommu=off').remedy, /Take intel_iommu=off out/);
  assert.deepEqual([variant('cpu intel hypervisor vmx').aspect], ['hypervisor']);
  const fedora = variant('acpi DMAR', 'file /etc/os-release-new x', 'file /etc/os-release ID_LIKE=fedora');
  assert.deepEqual([fedora.commands, fedora.undo], [['sudo grubby --update-kernel=ALL --args="intel_iommu=on"'], ['sudo grubby --update-kernel=ALL --remove-args="intel_iommu=on"']]);
  const amd = read(t, HOSTS.noIommu.replace('config INTEL_IOMMU=y', 'cpu amd svm\n  config AMD_IOMMU=y')).findings[0];
  assert.match(amd.remedy, /switch "IOMMU" on \(also called "AMD-Vi"/);
  assert.doesNotMatch(amd.remedy, /intel/);
  const without = read(t, HOSTS.noIommu.replace('INTEL_IOMMU=y', 'VFIO=m')).findings[0];
  assert.deepEqual([without.aspect, without.facts.option], ['kernel', 'CONFIG_INTEL_IOMMU']);
});

test('the system\'s disk in the graphics card\'s group: neither can go, and the card says why', (t) => {
  const found = read(t, HOSTS.bootDiskInGroup);
  assert.equal(verdicts(found), '00:02.0 ! | 01:00.0 - | 01:00.1 - | 02:00.0 -');
  assert.deepEqual(findingOf(found, '01:00.0', 'group-shared').facts, { others: ['0000:01:00.1', '0000:02:00.0'], stay: ['0000:02:00.0'] });
  assert.equal(found.groups['7'].sentence, 'Drive nvme0: your computer\'s system is on this.');
  assert.deepEqual(found.groups['7'].given, ['0000:01:00.0', '0000:01:00.1', '0000:02:00.0']);
});

test('bridges stay with the computer; cards that share a group go together', (t) => {
  const found = read(t, HOSTS.bridges);
  assert.equal(verdicts(found), '01:00.0 + | 03:00.0 ! | 03:01.0 !');
  assert.equal(findingOf(found, '01:00.0', 'group-shared').aspect, 'bridge');
  assert.deepEqual(found.groups['1'].given, ['0000:01:00.0']);
  assert.deepEqual([found.groups['1'].verdict, found.groups['2'].verdict, found.groups['3'].verdict], ['ready', 'not-possible', 'with-care']);
  assert.deepEqual(findingOf(found, '03:00.0', 'group-shared').facts, { others: ['0000:03:01.0'] });
});

test('lockdown is information; a card on vfio-pci is ready, and the other one is then the only one', (t) => {
  const found = read(t, HOSTS.lockdown);
  assert.equal(verdicts(found), '00:02.0 - | 01:00.0 + | 01:00.1 + | 01:00.2 +');
  assert.deepEqual(found.findings.map(({ code, aspect, severity }) => [code, aspect, severity]), [['kernel-modules', 'lockdown', 'information']]);
  assert.equal(found.groups['9'].sentence, 'They are set aside for machines.');
  assert.equal(findingOf(found, '00:02.0', 'only-gpu').aspect, 'desktop');
  assert.equal(found.devices['0000:01:00.2'].name, 'NVIDIA USB controller 1ad8');
});

test('limits: what a machine needs, and what remains for the computer', (t) => {
  const plain = read(t, HOSTS.limits);
  assert.equal(verdicts(plain), '00:03.0 ! | 00:04.0 +');
  assert.deepEqual(plain.findings.map(({ code, severity }) => [code, severity]), [['memlock-low', 'information']]);
  const four = read(t, HOSTS.limits, { machine: { name: 'Debian', memory: 4 * GiB } });
  assert.equal(verdicts(four), '00:03.0 ! | 00:04.0 +');
  const [limit, pinned] = four.findings;
  assert.deepEqual([limit.code, limit.severity, limit.facts.limit, limit.facts.needed], ['memlock-low', 'information', 8 * 2 ** 20, 4 * GiB + 128 * 2 ** 20]);
  assert.deepEqual([pinned.code, pinned.severity, pinned.facts.remaining], ['memory-pinned', 'information', GiB - 128 * 2 ** 20]);
  const five = read(t, HOSTS.limits, { machine: { name: 'Debian', memory: 5 * GiB } });
  assert.equal(verdicts(five), '00:03.0 - | 00:04.0 -');
  assert.match(five.findings[1].remedy, /give Debian at most 4\.4 GiB/);
  assert.deepEqual(read(t, `${HOSTS.limits}\nmemlock unlimited`, { machine: { name: 'Debian', memory: GiB } }).findings.map(({ code }) => code), ['memory-pinned']);
});

test('KVM that is not there, or not for this user; vfio-pci that is not there', (t) => {
  const codes = (change: string) => read(t, `${HOSTS.limits}${change}`).findings.filter(({ severity }) => severity === 'refused').map(({ code, aspect }) => `${code} ${aspect}`);
  assert.deepEqual(codes('kvm no'), ['kvm-unusable module']);
  assert.deepEqual(codes('cpu amd\nkvm no'), ['kvm-unusable missing']);
  assert.deepEqual(codes('forbidden /dev/kvm'), ['kvm-unusable permission']);
  assert.equal(verdicts(read(t, `${HOSTS.limits}forbidden /dev/kvm`)), '00:03.0 - | 00:04.0 -');
  const [kvm] = read(t, `${HOSTS.limits}forbidden /dev/kvm`).findings;
  // As root wrote this test's file, or somebody else did.
  if (process.getgid!() === 0) assert.deepEqual(kvm.commands, ['sudo chown $USER /dev/kvm']);
  else assert.deepEqual(kvm.commands, [`sudo usermod -aG ${process.getgid!()} $USER`]);
  assert.deepEqual(codes('modules none'), []);   // a driver that is there is there
  assert.deepEqual(read(t, `modules none\n  pci 00:04.0 8086:10d3 020000 group=5\n`).findings.map(({ code, aspect }) => `${code} ${aspect}`), ['kernel-modules missing']);
});

test('vfio-pci that is there and not loaded: a button, for a machine; one that is not there: the exact command', (t) => {
  const machine = { name: 'Vista', memory: GiB };
  const about = (text: string, options: Partial<ReadOptions> = { machine }) => read(t, text, options).findings.filter(({ code }) => code === 'kernel-modules').map(({ aspect, severity, commands = [], actions = [] }) => [aspect, severity, ...commands, ...actions.map(({ verb, modules }) => `${verb} ${modules}`)].join(' | '));
  assert.deepEqual(about(HOSTS.intelDesktop), ['unloaded | information | sudo modprobe vfio-pci | load-modules vfio']);
  assert.deepEqual([about(HOSTS.intelDesktop, {}), about(HOSTS.limits), about(HOSTS.noIommu)], [[], [], []]);
  for (const [release, command] of [
    ['ID=ubuntu', 'sudo apt install linux-modules-extra-6.8.0'], ['ID=debian', 'sudo apt install linux-image-$(dpkg --print-architecture)'], ['ID=fedora', 'sudo dnf install kernel-modules-6.8.0'],
    ['ID="opensuse-tumbleweed"', 'sudo zypper install kernel-default'], ['ID=alpine', 'sudo apk add linux-lts'],
  ]) assert.deepEqual(about(`iommu dmar0\nremapping yes\nmodules none\nfile /etc/os-release ${release}\npci 00:04.0 8086:10d3 020000 group=5\n`), [`missing | refused | ${command}`]);
});

test('interrupts that are not remapped: refused, or with care where that was allowed', (t) => {
  const found = read(t, HOSTS.noRemapping);
  assert.equal(verdicts(found), '00:03.0 -');
  assert.match(found.findings[0].remedy, /Take intremap=off out/);
  const allowed = read(t, `${HOSTS.noRemapping}unsafe-interrupts`);
  assert.equal(verdicts(allowed), '00:03.0 !');
  assert.equal(allowed.findings[0].severity, 'care');
});

test('a link besides the default route, and a bond of two cards', (t) => {
  const two = `
    iommu dmar0
    pci 00:03.0 8086:10d3 020000 group=1 driver=e1000e
      net eth0 up 10.0.0.2
    pci 00:04.0 8086:10d3 020000 group=2 driver=e1000e
      net eth1 up 10.1.0.2
    route eth0 default
    route eth1 lan
  `;
  const found = read(t, two);
  assert.equal(verdicts(found), '00:03.0 ! | 00:04.0 !');
  assert.equal(found.devices['0000:00:03.0'].sentence, 'Your internet is on this. It stops; other connections go on.');
  assert.equal(found.devices['0000:00:04.0'].sentence, 'A network connection is on this. It stops; other connections go on.');
  // Both ports of one group are all that there is.
  assert.equal(verdicts(read(t, two.replace('group=2', 'group=1'))), '00:03.0 - | 00:04.0 -');
  const bond = read(t, two.replace(/ 10\.\S+/g, '').replace('route eth0 default', 'upper bond0 over eth0 eth1\n    route bond0 default').replace('route eth1 lan', ''));
  assert.equal(bond.devices['0000:00:03.0'].sentence, 'Your internet is on this. It stops; other connections go on.');
});

test('every code is found somewhere among the hosts', (t) => {
  const seen = new Set<string>();
  const look = (found: HostDevices) => {
    for (const { code } of [...found.findings, ...Object.values(found.devices).flatMap(({ findings }) => findings)]) seen.add(code);
  };
  for (const text of Object.values(HOSTS)) look(read(t, text, { machine: { name: 'M', memory: GiB } }));
  look(read(t, `${HOSTS.limits}kvm no`));
  assert.deepEqual(FINDING_CODES.filter((code) => !seen.has(code)), []);
});

/** Every file of a written host. */
function filesIn(folder: string): string[] {
  // Not with readdir's own recursion, which follows the links round in circles.
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? filesIn(join(folder, entry.name)) : entry.isFile() ? [join(folder, entry.name)] : []));
}

test('broken hosts: files that are missing, hold nonsense, or are folders never throw, and still make a model', (t) => {
  const nonsense = fc.constantFrom('', '\0\0\0', '-1', '0x', 'ffffffffffffffffffff', '../../..', 'a b c\nd e f', '9'.repeat(400), '%', '\u{1f5a5}', '0x00 0xffffffffffffffff 0xffffffffffffffff\n'.repeat(9));
  const damage = fc.record({ which: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), how: fc.constantFrom('gone', 'folder', 'text', 'loop'), text: nonsense });
  fc.assert(fc.property(fc.constantFrom(...Object.values(HOSTS)), fc.array(damage, { minLength: 1, maxLength: 30 }), (text, all) => {
    const host = writeHost(text, PCI_IDS);
    try {
      const files = filesIn(host.folder);
      for (const { which, how, text: content } of all) {
        const path = files[Math.floor(which * files.length)];
        rmSync(path, { recursive: true, force: true });
        if (how === 'folder') mkdirSync(path);
        else if (how === 'text') writeFileSync(path, content);
        else if (how === 'loop') symlinkSync(path, path);
      }
      const found = readHostDevices({ roots: host.roots });
      assert.ok(sameJson(v.parse(hostDevicesSchema, found), JSON.parse(JSON.stringify(found))));
    } finally {
      host.remove();
    }
  }), { numRuns: 12 });
  const empty = written(t, '');
  rmSync(empty.folder, { recursive: true });
  const found = readHostDevices({ roots: empty.roots });
  assert.deepEqual([found.state, found.devices, found.groups], ['ready', {}, {}]);
});

test('devices that vanish while they are read', (t) => {
  const host = written(t, HOSTS.intelDesktop);
  // A card is pulled at each step of the reading: the injected questions are asked in the middle of it.
  for (const short of ['01:00.0', '02:00.0', '00:14.0']) {
    const path = host.device(short);
    let asked = 0;
    const roots = { ...host.roots, addresses: () => {
      if (asked++ === 0) rmSync(path, { recursive: true, force: true });
      return [];
    } };
    readHostDevices({ roots });
    assert.equal(readHostDevices({ roots: host.roots }).devices[`0000:${short}`], undefined);
  }
});

test('what a button can do about a finding', (t) => {
  const actions = (text: string, short: string, code: FindingCode, options: Partial<ReadOptions> = {}) => findingOf(read(t, text, options), short, code).actions?.map(({ verb, label, most, machine }) => [verb, label, most, machine].filter((word) => word !== undefined).join(' | ')) ?? [];
  assert.deepEqual(actions(HOSTS.intelDesktop, '01:00.0', 'driver-in-use'), ['reserve | Reserve it from start-up']);
  // By its ids a twin would be taken along: then only by hand. The only card is not reserved at all.
  assert.deepEqual(actions(HOSTS.intelDesktop.replace('pci 00:1c.0', 'pci 00:1b.0 10de:2684 030200 group=30\n  pci 00:1c.0'), '01:00.0', 'driver-in-use'), []);
  assert.deepEqual(actions(HOSTS.oneGpu, '01:00.0', 'driver-in-use'), []);
  const reserved = read(t, `${HOSTS.intelDesktop}\nfile var/lib/vitrine/state vitrine-state 1\nfile var/lib/vitrine/state reserved 0000:01:00.0 10de:2684 nvidia\nfile proc/sys/kernel/random/boot_id 0`);
  const finding = findingOf(reserved, '01:00.0', 'driver-in-use');
  assert.deepEqual([finding.actions?.map(({ verb }) => verb), finding.commands], [['unreserve'], undefined]);
  assert.match(finding.remedy, /restart the computer/);
  assert.deepEqual(actions(HOSTS.oneGpu, '01:00.0', 'rom-missing'), ['ask-rom | Choose a file with its ROM']);
  assert.deepEqual(actions(HOSTS.server, '18:00.0', 'kernel-modules'), ['set-functions | Change their number | 64']);
  assert.deepEqual(actions(HOSTS.server, '18:00.1', 'kernel-modules'), ['set-functions | Make virtual functions | 64']);
  assert.deepEqual(actions(HOSTS.server, '18:02.2', 'claimed', { claims: [{ address: '0000:18:02.2', machine: 'Router', id: 'router', running: false }] }), ['move | Take it out of Router | router']);
  assert.deepEqual(actions(HOSTS.server, '18:02.2', 'claimed', { claims: [{ address: '0000:18:02.2', machine: 'Router', id: 'router', running: true }] }), []);
  assert.deepEqual(read(t, `${HOSTS.limits}kvm no`).findings[0].actions, [{ label: 'Load KVM\'s module', verb: 'load-modules', modules: 'kvm' }]);
  // Two machines of one name are two.
  const twins = read(t, HOSTS.server, { claims: [{ address: '0000:18:02.2', machine: 'Router', id: 'other', running: true }], machine: { id: 'router', name: 'Router', memory: GiB } });
  assert.ok(has(twins, '18:02.2', 'claimed'));
});
