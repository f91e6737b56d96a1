// Disks under Linux' own drivers, in the lab: raw and qcow2, split and packed rings, with and without the host's page cache. What the guest
// wrote lies in the files, and QEMU's tools find the images sound.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { labPaths } from '../../scripts/setup/lab.mjs';
import { createDisk, createOverlay } from '../../src/vmm/block/make-disk.ts';
import { startLab, type LabHost } from '../host.ts';
import { compare, inSlot, loading, until } from './support/guest-tools.ts';
import { buildDriver, LabMachine, top } from './support/lab-machine.ts';
import { addModules } from './support/modules.ts';

const MIB = 2 ** 20;
const MODULES = ['virtio_pci', 'virtio_blk'];

describe('virtio-blk under Linux', () => {
  let lab: LabHost;
  let folder: string;
  const { bzImage, modules } = labPaths().kernels['6.1']!;
  const load = loading(modules);
  const at = (name: string): string => path.join(folder, name);

  before(async () => {
    await buildDriver();
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-blk-'));
    fs.chmodSync(folder, 0o755);
    addModules(path.join(top, 'build/try-linux/initrd.gz'), modules, MODULES, at('initrd.gz'));
    createDisk({ path: at('new.qcow2'), format: 'qcow2', bytes: 256 * MIB });
    fs.writeFileSync(at('base.raw'), Buffer.alloc(64 * MIB, 0x41));
    createOverlay({ path: at('over.qcow2'), backing: at('base.raw'), backingFormat: 'raw' });
    createDisk({ path: at('plain.raw'), format: 'raw', bytes: 64 * MIB });
    lab = await startLab({ shares: [{ path: folder, writable: true }] });
  });

  after(async () => {
    await lab?.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  it('writes, reads back, discards and flushes; the images are sound when the machine is cut off', async () => {
    const slots = { new: 1, over: 2, plain: 3, fixed: 4 };
    const guest = await LabMachine.start(lab, {
      boot: { kernel: bzImage, initrd: at('initrd.gz'), append: 'console=ttyS0 quiet' }, memory: 128 * MIB, display: { kind: 'none' },
      devices: [
        { kind: 'virtio-blk', slot: slots.new, rings: 'split', file: at('new.qcow2'), readonly: false, cache: 'writeback', onError: 'report', queues: 1, serial: 'the-new-disk' },
        { kind: 'virtio-blk', slot: slots.over, rings: 'packed', file: at('over.qcow2'), readonly: false, cache: 'writeback', onError: 'pause', queues: 2 },
        { kind: 'virtio-blk', slot: slots.plain, rings: 'packed', file: at('plain.raw'), format: 'raw', readonly: false, cache: 'unsafe', onError: 'report', queues: 1 },
        { kind: 'virtio-blk', slot: slots.fixed, rings: 'split', file: at('base.raw'), format: 'raw', readonly: true, cache: 'writeback', onError: 'report', queues: 1 },
      ],
    });
    await guest.shell();
    for (const name of MODULES) await guest.sh(load(name));
    const disk = async (slot: number): Promise<string> => {
      await guest.sh(until(`[ -e ${inSlot(slot)}/virtio*/block ]`));
      return (await guest.sh(`basename ${inSlot(slot)}/virtio*/block/*`)).trim();
    };
    const [fresh, over, plain, fixed] = [await disk(slots.new), await disk(slots.over), await disk(slots.plain), await disk(slots.fixed)];
    assert.equal((await guest.sh(`cat /sys/block/${fresh}/serial /sys/block/${fresh}/size /sys/block/${fixed}/ro`)).split(/\s+/).slice(0, 3).join(' '), `the-new-disk ${(256 * MIB) / 512} 1`);
    for (const name of [fresh, over, plain]) await guest.sh(compare(`/dev/${name}`, 64));
    assert.match(await guest.sh(`dd if=/dev/${over} bs=1M skip=63 count=1 2>/dev/null | tr -d A | wc -c`), /^0/, 'from the backing file');
    await guest.sh(`dd if=/dev/zero of=/dev/${fixed} bs=512 count=1 conv=fsync 2>/dev/null && exit 1; true`);
    // Discarded and written with zeroes where the guest asks for it.
    await guest.sh(`blkdiscard -o 1048576 -l 1048576 /dev/${fresh}; dd if=/dev/${fresh} bs=1M skip=1 count=1 iflag=direct 2>/dev/null | tr -d '\\0' | wc -c | grep -x 0`);
    await guest.sh(`dd if=/tmp/data of=/dev/${fresh} bs=64k seek=200 conv=fsync 2>/dev/null; echo 1 > ${inSlot(slots.new)}/remove; echo 1 > /sys/bus/pci/rescan`);
    const again = await disk(slots.new);
    await guest.sh(`dd if=/dev/${again} bs=64k skip=200 count=64 iflag=direct 2>/dev/null | cmp - /tmp/data`);
    const sum = (await guest.sh('sha256sum < /tmp/data')).split(' ')[0]!;
    assert.doesNotMatch(await guest.sh('dmesg'), /I\/O error|Buffer I\/O/);
    await guest.close();
    for (const name of ['new.qcow2', 'over.qcow2']) {
      const { status, stdout, stderr } = spawnSync('qemu-img', ['check', at(name)], { encoding: 'utf8' });
      assert.ok(status === 0 || status === 3, `${name}: ${stdout}${stderr}`);
    }
    const got = spawnSync('sh', ['-c', 'qemu-img dd -f qcow2 -O raw bs=64k skip=200 count=264 if=new.qcow2 of=part.raw && head -c 4194304 part.raw | sha256sum'], { cwd: folder, encoding: 'utf8' });
    assert.ok(got.stdout.startsWith(sum), got.stdout + got.stderr);
    assert.ok(fs.readFileSync(at('base.raw')).equals(Buffer.alloc(64 * MIB, 0x41)), 'the backing file is as it was');
  });
});
