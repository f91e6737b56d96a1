// The small readers by themselves: names, configuration spaces, what is plugged in, boot framebuffers, routes, distributions.
import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import test from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { readConfigSpace } from './config-space.ts';
import { addParameter, initramfsCommand, removeParameter } from './distribution.ts';
import { kernelConfig, readHost } from './host-facts.ts';
import { readLinks } from './network.ts';
import { readPrograms } from './open-files.ts';
import { readFunctions } from './pci.ts';
import { knownAs, pciNames, shortVendor } from './pci-names.ts';
import { peripheralUses } from './peripherals.ts';
import { bootFramebuffer } from './screens.ts';
import { PCI_IDS } from './testing/hosts.ts';
import type { WrittenHost } from './testing/tree.ts';
import { writeHost } from './testing/tree.ts';

function written(t: TestContext, text: string): WrittenHost {
  const host = writeHost(text, PCI_IDS);
  t.after(() => host.remove());
  return host;
}

test('names from pci.ids, as a file and packed; as people know them', (t) => {
  const host = written(t, '');
  const packed = join(host.folder, 'pci.ids.gz');
  writeFileSync(packed, gzipSync(PCI_IDS));
  for (const paths of [host.roots.pciIds, [join(host.folder, 'none'), packed]]) {
    const names = pciNames(paths);
    assert.equal(names.vendor('10de'), 'NVIDIA Corporation');
    assert.equal(names.device('144d', 'a80a'), 'NVMe SSD Controller PM9A1/PM9A3/980PRO');
    assert.equal(names.device('10de', 'a80a'), undefined);
    assert.equal(names.className('030000'), 'VGA compatible controller');
    assert.equal(names.className('038000'), 'Display controller');
    assert.equal(names.className('ff0000'), undefined);
  }
  assert.equal(pciNames([]).vendor('10de'), undefined);
  assert.equal(knownAs('Navi 33 [Radeon RX 7600/7600 XT / PRO W7600]', 'graphics'), 'Radeon RX 7600');
  assert.equal(knownAs('MT27800 Family [ConnectX-5]', 'network'), 'ConnectX-5');
  assert.equal(knownAs('82801 SATA Controller [AHCI Mode]', 'storage'), '82801 SATA Controller');
  assert.equal(knownAs('[Radeon]', 'graphics'), '[Radeon]');
  assert.deepEqual(['Intel Corporation', 'Advanced Micro Devices, Inc. [AMD/ATI]', 'Samsung Electronics Co Ltd', 'Realtek Semiconductor Co., Ltd.', 'Inc'].map(shortVendor), ['Intel', 'AMD', 'Samsung', 'Realtek', 'Inc']);
});

test('any configuration space is read to its end', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 4096 }), (config) => {
    const facts = readConfigSpace(config);
    assert.equal(typeof facts.bridge, 'boolean');
  }));
  // Lists of capabilities that lead back to themselves.
  const round = new Uint8Array(4096);
  round[0x06] = 0x10;
  round[0x0e] = 1;
  round.set([0x40], 0x34);
  round.set([0x05, 0x40], 0x40);
  new DataView(round.buffer).setUint32(0x100, 0x10010001, true);
  assert.deepEqual(readConfigSpace(round), { bridge: true, acs: false });
});

test('a keyboard with a wheel is no mouse, a touchpad behind a board\'s controller is one, jacks are neither', (t) => {
  const host = written(t, `
    pci 00:14.0 8086:7ae0 0c0330 group=3 driver=xhci_hcd
      usb 1-1 keyboard "Keyboard"
    pci 00:15.0 8086:7acc 0c8000 group=4 driver=intel-lpss
  `);
  const input = (folder: string, name: string, key: string) => {
    mkdirSync(join(folder, 'capabilities'), { recursive: true });
    writeFileSync(join(folder, 'name'), `${name}\n`);
    writeFileSync(join(folder, 'capabilities/key'), `${key}\n`);
    symlinkSync(folder, join(host.folder, 'sys/class/input', folder.split('/').at(-1)!));
  };
  input(join(host.device('00:14.0'), 'usb1/1-1/1-1:1.1/input/input90'), 'Consumer Control', '3f000301ff 0 0 483ffff17aff32d bfd4444600000000 1 130ff38b17c000 677bfad9415fed 19ed68000004400 10000002');
  input(join(host.device('00:15.0'), 'i2c-0/input/input91'), 'Touchpad', 'e520 10000 0 0 0 0');
  input(join(host.device('00:15.0'), 'sound/input92'), 'Headphone', '');
  input(join(host.device('00:15.0'), 'sound/input93'), 'Nonsense', 'zz 0x yy');
  const [inputs] = peripheralUses(host.roots);
  assert.deepEqual(inputs.get('0000:00:14.0')?.map(({ sentence, detail }) => [sentence, detail]), [['Your keyboard is plugged into this.', 'Keyboard']]);
  assert.deepEqual(inputs.get('0000:00:15.0')?.map(({ sentence, detail }) => [sentence, detail]), [['Your mouse is plugged into this.', 'Touchpad']]);
});

test('the boot framebuffer: in the memory map, on the card, or beside it', (t) => {
  const card = 'pci 01:00.0 1002:7480 030000 group=2 boot_vga\n';
  const look = (host: WrittenHost) => bootFramebuffer(host.roots, readFunctions(host.roots));
  assert.deepEqual(look(written(t, `${card}iomem 01:00.0 efifb`)), { address: '0000:01:00.0', name: 'efifb' });
  assert.equal(look(written(t, `${card}iomem 01:00.0 amdgpu`)), undefined);
  const on = written(t, card);
  mkdirSync(join(on.device('01:00.0'), 'simple-framebuffer.0'));
  assert.deepEqual(look(on), { address: '0000:01:00.0', name: 'simple-framebuffer.0' });
  const beside = written(t, card);
  mkdirSync(join(beside.folder, 'sys/devices/platform/efi-framebuffer.0/driver'), { recursive: true });
  assert.deepEqual(look(beside), { address: '0000:01:00.0', name: 'efi-framebuffer.0' });
});

test('links by IPv6 alone, links without a signal, and routes that lead nowhere', (t) => {
  const host = written(t, `
    pci 00:03.0 8086:10d3 020000 group=1 driver=e1000e
      net eth0 up
      net eth1 down 10.0.0.9
      net eth2 up
  `);
  const zeros = '0'.repeat(32);
  host.write('proc/net/ipv6_route', [
    `${zeros} 00 ${zeros} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0`,
    `fe800000000000000000000000000000 40 ${zeros} 00 ${zeros} 00000100 00000001 00000000 00000001     eth2`,
    `${zeros} 00 ${zeros} 00 ${zeros} ffffffff 00000001 00000000 00200200       lo`,
    'nonsense',
  ].join('\n'));
  assert.deepEqual(readLinks(host.roots).map(({ name, used, internet }) => [name, used, internet]), [['eth0', true, true], ['eth1', false, false], ['eth2', false, false]]);
});

test('programs that hold a device\'s nodes; a sound server at a control node is no reason', (t) => {
  const host = written(t, `
    pci 01:00.0 1002:7480 030000 group=2 driver=amdgpu
      drm card0 DP-1:off
    pci 02:00.0 144d:a80a 010802 group=3 driver=nvme
      block nvme0n1
    program 10 game /dev/dri/card0 /home/ada/save
    program 11 pipewire /dev/snd/controlC0
    program 12 fdisk /dev/nvme0n1
    program 13 qemu /dev/vfio/7
    program ${process.pid} vitrine /dev/dri/card0
  `);
  const { devices, groups } = readPrograms(host.roots);
  assert.deepEqual([...devices], [['0000:01:00.0', ['game']], ['0000:02:00.0', ['fdisk']]]);
  assert.deepEqual([...groups], [['7', ['qemu']]]);
});

test('how each distribution gives its kernel a parameter', (t) => {
  const on = (...files: string[]) => addParameter(written(t, files.map((file) => `file ${file}`).join('\n')).roots, 'intel_iommu=on');
  assert.deepEqual(on('/etc/os-release ID=debian', '/etc/default/grub x').commands, ['sudo update-grub']);
  assert.deepEqual(on('/etc/os-release ID=arch', '/etc/default/grub x').commands, ['sudo grub-mkconfig -o /boot/grub/grub.cfg']);
  assert.deepEqual(on('/etc/os-release ID="opensuse-tumbleweed"', '/etc/default/grub x').commands, ['sudo grub2-mkconfig -o /boot/grub2/grub.cfg']);
  assert.deepEqual(on('/etc/os-release ID=rocky', '/etc/os-release ID_LIKE="rhel centos fedora"', '/etc/default/grub x').undo, ['sudo grubby --update-kernel=ALL --remove-args="intel_iommu=on"']);
  assert.deepEqual(on('/etc/kernelstub/configuration x', '/etc/os-release ID=pop').commands, ['sudo kernelstub -a "intel_iommu=on"']);
  assert.deepEqual(on('/etc/kernel/cmdline x').commands, ['sudo kernel-install add-all']);
  assert.match(on('/boot/loader/entries/arch.conf x').remedy, /the line "options"/);
  assert.match(on('/etc/os-release ID=nixos').remedy, /boot\.kernelParams/);
  assert.match(on().remedy, /in the boot loader, and restart/);
  const fedora = written(t, 'file /etc/os-release ID=fedora').roots;
  assert.deepEqual([removeParameter(fedora, 'a=off').commands, initramfsCommand(fedora)], [['sudo grubby --update-kernel=ALL --remove-args="a=off"'], 'sudo dracut --force']);
});

test('the computer: CPUs, limits, the kernel\'s configuration where it is found', (t) => {
  const arm = readHost(written(t, 'cpu arm').roots);
  assert.deepEqual([arm.cpuVendor, arm.virtual, arm.memlock], ['arm', false, undefined]);
  const host = written(t, 'cpu amd hypervisor svm\nmemlock 8M');
  assert.deepEqual([readHost(host.roots).virtual, readHost(host.roots).memlock], [true, 8 * 2 ** 20]);
  host.write('proc/self/status', 'Name:\tx\nCapEff:\t0000000000004000');
  assert.equal(readHost(host.roots).memlock, undefined);
  assert.equal(kernelConfig(host.roots, '6.8.0')('VFIO'), undefined);
  writeFileSync(join(host.folder, 'proc/config.gz'), gzipSync('CONFIG_VFIO=m\n# CONFIG_AMD_IOMMU is not set\n'));
  const config = kernelConfig(host.roots, '6.8.0');
  assert.deepEqual(['VFIO', 'AMD_IOMMU', 'VFIO_PCI'].map(config), ['m', 'n', 'n']);
});
