// `vitrine devices --json` on a real Linux with an IOMMU: the lab's known devices, as an ordinary user sees them and as root does, and
// what changes when one is bound to vfio-pci.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as v from 'valibot';
import type { HostDevices } from '../../src/shared/host-devices.ts';
import { hostDevicesSchema } from '../../src/shared/host-devices.ts';
import { startLab } from '../host.ts';
import type { LabHost } from '../host.ts';
import { LAB_DEVICES } from '../options.ts';

const PATIENCE = 120_000;
const top = fileURLToPath(new URL('../..', import.meta.url));
const cli = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
const NIC = '0000:00:05.0';

describe('the devices of a lab with an Intel IOMMU', () => {
  let lab: LabHost;
  before(async () => {
    lab = await startLab({ iommu: 'intel', devices: [...LAB_DEVICES] });
  });
  after(() => lab.stop());

  async function read(user: 'user' | 'root'): Promise<HostDevices> {
    const { stdout, stderr, code } = await lab.run([process.execPath, '--disable-warning=ExperimentalWarning', cli, 'devices', '--json'], { cwd: top, timeout: PATIENCE, user, env: { XDG_DATA_HOME: '/dev/shm/data' } });
    assert.equal(code, 0, stderr);
    return v.parse(hostDevicesSchema, JSON.parse(stdout));
  }

  it('knows each, its group, its driver and who uses it, as an ordinary user', async () => {
    const found = await read('user');
    assert.equal(found.on, 'lab');
    const { iommu } = found;
    assert.deepEqual([iommu?.on, iommu?.kind, iommu?.interruptRemapping, iommu?.tables], [true, 'intel', 'yes', ['DMAR']], JSON.stringify(iommu));
    assert.deepEqual(found.findings.filter(({ severity }) => severity === 'refused'), []);
    const known: [string, string, string | undefined][] = [
      [NIC, 'network', 'e1000e'], ['0000:00:06.0', 'nvme', 'nvme'], ['0000:00:07.0', 'other', undefined],
      ['0000:00:08.0', 'usb', 'xhci_hcd'], ['0000:00:09.0', 'graphics', undefined], ['0000:00:0a.0', 'network', 'virtio-pci'],
    ];
    for (const [address, kind, driver] of known) {
      const device = found.devices[address];
      assert.ok(device, `${address} is not among ${Object.keys(found.devices).join(', ')}`);
      assert.equal(device.kind, kind, address);
      if (driver !== undefined) assert.equal(device.driver, driver, address);
      const group = found.groups[device.group];
      assert.deepEqual([group.number !== undefined, group.given, group.verdict === 'not-possible'], [true, [address], false], `${address}: ${group.sentence}`);
      assert.ok(device.bars.length > 0, address);
    }
    assert.equal(found.devices[NIC].verdict, 'ready');
    // The lab's only way out: without it the host would not hear from it again.
    const own = found.devices['0000:00:0f.0'];
    assert.equal(own.verdict, 'not-possible', own.sentence);
    assert.deepEqual(own.findings.find(({ code }) => code === 'host-needs-it')?.aspect, 'network');
  });

  it('sees a file system, open files and the MSI-X table as root, and a device on vfio-pci', async () => {
    const prepare = [
      'mkfs.ext4 -q /dev/nvme0n1 && mkdir -p /dev/shm/disk && mount /dev/nvme0n1 /dev/shm/disk',
      `echo vfio-pci > /sys/bus/pci/devices/${NIC}/driver_override; echo ${NIC} > /sys/bus/pci/devices/${NIC}/driver/unbind; echo ${NIC} > /sys/bus/pci/drivers_probe`,
    ].join('\n');
    const prepared = await lab.run(['sh', '-ec', prepare], { cwd: '/', timeout: PATIENCE, user: 'root' });
    assert.equal(prepared.code, 0, prepared.stderr);
    const group = (await read('root')).devices[NIC].group;
    const holder = await lab.start(['sh', '-c', `exec 3<>/dev/vfio/${group}; echo open; exec sleep 1000`], { cwd: '/', user: 'root' });
    await new Promise((resolve) => holder.stdout.once('data', resolve));
    const found = await read('root');
    const drive = found.devices['0000:00:06.0'];
    assert.deepEqual([drive.verdict, drive.sentence], ['not-possible', 'The folder /dev/shm/disk is on this.']);
    assert.ok(drive.findings.some(({ code }) => code === 'msix-shared-bar'), JSON.stringify(drive.findings));
    const card = found.devices[NIC];
    assert.deepEqual([card.driver, card.driverOverride, card.onVfio], ['vfio-pci', 'vfio-pci', true]);
    assert.deepEqual(card.findings.find(({ code }) => code === 'claimed')?.facts, { programs: ['sleep'] });
    holder.kill();
    await holder.exited.catch(() => {});
    assert.equal((await read('root')).devices[NIC].verdict, 'ready');
    // The node is root's: the ordinary user is told.
    assert.equal((await read('user')).devices[NIC].findings.find(({ code }) => code === 'no-vfio-access')?.facts.path, `/dev/vfio/${group}`);
  });
});
