// SCSI drives under Linux' own drivers, in the lab: a disk over qcow2, and a CD-ROM drive whose medium is changed while the guest runs.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { labPaths } from '../../scripts/setup/lab.mjs';
import { createDisk } from '../../src/vmm/block/make-disk.ts';
import { startLab, type LabHost } from '../host.ts';
import { compare, inSlot, loading, until } from './support/guest-tools.ts';
import { buildDriver, LabMachine, top } from './support/lab-machine.ts';
import { addModules } from './support/modules.ts';

const MIB = 2 ** 20;
const MODULES = ['virtio_pci', 'virtio_scsi', 'sd_mod', 'sr_mod'];
const SLOT = 3;
const CD_DRIVE = 1;

describe('virtio-scsi under Linux', () => {
  let lab: LabHost;
  let folder: string;
  const { bzImage, modules } = labPaths().kernels['6.1']!;
  const load = loading(modules);
  const at = (name: string): string => path.join(folder, name);
  const discs: Record<string, string> = {};

  before(async () => {
    await buildDriver();
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-scsi-'));
    fs.chmodSync(folder, 0o755);
    addModules(path.join(top, 'build/try-linux/initrd.gz'), modules, MODULES, at('initrd.gz'));
    createDisk({ path: at('disk.qcow2'), format: 'qcow2', bytes: 128 * MIB });
    for (const [name, mib] of [['one.iso', 3], ['two.iso', 5]] as const) {
      const content = randomBytes(mib * MIB);
      fs.writeFileSync(at(name), content);
      discs[name] = createHash('sha256').update(content).digest('hex');
    }
    lab = await startLab({ shares: [{ path: folder, writable: true }] });
  });

  after(async () => {
    await lab?.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  it('reads and writes a disk, reads a CD, changes it, and lets the guest lock and eject it', async () => {
    const guest = await LabMachine.start(lab, {
      boot: { kernel: bzImage, initrd: at('initrd.gz'), append: 'console=ttyS0 quiet' }, memory: 128 * MIB, display: { kind: 'none' },
      devices: [{
        kind: 'virtio-scsi', slot: SLOT, rings: 'split', drives: [
          { kind: 'disk', file: at('disk.qcow2'), readonly: false, cache: 'writeback', onError: 'report', serial: 'the-disk' }, { kind: 'cdrom', file: at('one.iso') },
          { kind: 'disk', file: at('two.iso'), format: 'raw', readonly: true, cache: 'writeback', onError: 'report' },
        ],
      }],
    });
    await guest.shell();
    for (const name of MODULES) await guest.sh(load(name));
    const drive = async (target: number): Promise<string> => {
      const folders = `${inSlot(SLOT)}/virtio*/host*/target*:0:${target}/*:0:${target}:0/block`;
      await guest.sh(until(`[ -e ${folders}/* ]`));
      return (await guest.sh(`basename ${folders}/*`)).trim();
    };
    const [disk, cd, fixed] = [await drive(0), await drive(CD_DRIVE), await drive(2)];
    assert.equal((await guest.sh(`cat /sys/block/${disk}/size /sys/block/${fixed}/ro; cat /sys/block/${disk}/queue/logical_block_size /sys/block/${disk}/queue/physical_block_size; tr -dc a-z- < /sys/block/${disk}/device/vpd_pg80`)).split(/\s+/).slice(0, 5).join(' '), `${(128 * MIB) / 512} 1 512 4096 the-disk`);
    await guest.sh(compare(`/dev/${disk}`, 64));
    // UNMAP by the guest's own tool.
    await guest.sh(`[ "$(cat /sys/block/${disk}/queue/discard_max_bytes)" -gt 0 ] && blkdiscard -o 1048576 -l 1048576 /dev/${disk} && dd if=/dev/${disk} bs=1M skip=1 count=1 iflag=direct 2>/dev/null | tr -d '\\0' | wc -c | grep -x 0`);
    const sum = async (): Promise<string> => (await guest.sh(`sha256sum < /dev/${cd}`)).slice(0, 64);
    assert.equal(await sum(), discs['one.iso']);
    await guest.call('changeDevice', SLOT, { kind: 'medium', drive: CD_DRIVE, file: at('two.iso') });
    assert.equal(await sum(), discs['two.iso']);
    assert.equal((await guest.sh(`cat /sys/block/${cd}/size`)).trim(), `${(5 * MIB) / 512}`);
    // The guest has it open: the drive is locked, and a change is refused until it is closed.
    await guest.sh(`exec 9< /dev/${cd}`);
    await assert.rejects(guest.call('changeDevice', SLOT, { kind: 'medium', drive: CD_DRIVE, file: null }), /in use/);
    await guest.sh('exec 9<&-');
    await guest.call('changeDevice', SLOT, { kind: 'medium', drive: CD_DRIVE, file: null });
    await guest.sh(`! dd if=/dev/${cd} of=/dev/null bs=2048 count=1 2>/dev/null`);
    await guest.call('changeDevice', SLOT, { kind: 'medium', drive: CD_DRIVE, file: at('one.iso') });
    assert.equal(await sum(), discs['one.iso']);
    // Linux opens the tray when the drive is closed, and shuts it when it is opened, as it is told.
    const driver = '/proc/sys/dev/cdrom';
    await guest.sh(`echo 0 > ${driver}/autoclose; echo 1 > ${driver}/autoeject; true < /dev/${cd}; ! dd if=/dev/${cd} of=/dev/null bs=2048 count=1 2>/dev/null`);
    assert.ok(guest.log.some((line) => line.includes('opened the tray')), guest.log.join('\n'));
    // The first opening shuts the tray, the next one hears of the medium in it.
    await guest.sh(`echo 0 > ${driver}/autoeject; echo 1 > ${driver}/autoclose; true < /dev/${cd}`);
    assert.equal(await sum(), discs['one.iso']);
    await guest.sh(`dd if=/tmp/data of=/dev/${disk} bs=64k seek=200 conv=fsync 2>/dev/null; echo 1 > ${inSlot(SLOT)}/remove; echo 1 > /sys/bus/pci/rescan`);
    const again = await drive(0);
    await guest.sh(`dd if=/dev/${again} bs=64k skip=200 count=64 iflag=direct 2>/dev/null | cmp - /tmp/data`);
    assert.doesNotMatch(await guest.sh('dmesg'), new RegExp(`I/O error, dev ${disk}`));
    await guest.close();
    const { status, stdout, stderr } = spawnSync('qemu-img', ['check', at('disk.qcow2')], { encoding: 'utf8' });
    assert.ok(status === 0 || status === 3, `${stdout}${stderr}`);
  });
});
