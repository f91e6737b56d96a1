// Disks under Linux' own drivers, in the lab: what was written is there after a reset, a flush is kept when the machine's process is killed, and QEMU's
// and ext4's own tools find nothing wrong with images afterwards.
// VITRINE_LONG=1 kills ten times, and tries packed rings and each form of cache with both formats.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import path from 'node:path';
import type { VirtioConfigOf } from '../../src/shared/machine-config.ts';
import { labPaths } from '../../scripts/setup/lab.mjs';
import { startLab, type LabHost } from '../host.ts';
import { until } from './support/guest-tools.ts';
import { buildDriver, LabMachine, top } from './support/lab-machine.ts';

const MIB = 2 ** 20;
const LONG = process.env['VITRINE_LONG'] === '1';
const KILLS = LONG ? 10 : 1;
/** In the lab's memory: gone with it. */
const FOLDER = '/tmp/disks';
const RAW = `${FOLDER}/raw.img`;
const QCOW2 = `${FOLDER}/image.qcow2`;

type Disk = VirtioConfigOf<'virtio-blk'>;
const disk = (file: string, more: Partial<Disk> = {}): Disk => ({ kind: 'virtio-blk', file, rings: 'split', readonly: false, cache: 'writeback', onError: 'report', queues: 1, ...more });

describe('disks under Linux', () => {
  let lab: LabHost;
  const { bzImage } = labPaths().kernels['6.1']!;

  before(async () => {
    await buildDriver();
    lab = await startLab({ memory: 4096 * MIB });
    await host(`mkdir -p ${FOLDER}`);
  });

  after(async () => lab?.stop());

  /** Runs a line in the lab's shell; fails when its exit code is not 0. */
  const host = async (line: string): Promise<string> => {
    const { code, stdout, stderr } = await lab.run(['/bin/sh', '-c', `PATH=$PATH:/usr/sbin:/sbin; ${line}`], { cwd: '/' });
    assert.equal(code, 0, `${line}: ${stdout}${stderr}`);
    return stdout;
  };

  const boot = async (disks: readonly Disk[], cpus = 1): Promise<LabMachine> => {
    const machine = await LabMachine.start(lab, {
      boot: { kernel: bzImage, initrd: path.join(top, 'build/try-linux/initrd.gz'), append: 'console=ttyS0 quiet' },
      memory: 256 * MIB, cpus, display: { kind: 'none' }, devices: [...disks],
    });
    const guest = await machine.shell();
    for (let i = 0; i < disks.length; i++) await guest.sh(until(`[ -b /dev/vd${'abcd'[i]} ]`));
    return guest;
  };

  /** Makes fresh images: an ext4 file system in each. */
  const makeImages = async (): Promise<void> => {
    await host(`rm -f ${FOLDER}/*; truncate -s 64M ${RAW}; mke2fs -q -t ext4 ${RAW}; qemu-img convert -q -f raw -O qcow2 ${RAW} ${QCOW2}; qemu-img resize -q ${QCOW2} 96M`);
  };

  /** Nothing is wrong with either image, once ext4's journal is replayed. */
  const check = async (): Promise<void> => {
    await host(`qemu-img check -q ${QCOW2} || [ $? = 3 ]`); // 3: clusters that nobody uses, after a kill
    await host(`qemu-img convert -q -O raw ${QCOW2} ${FOLDER}/copy.img`);
    for (const image of [RAW, `${FOLDER}/copy.img`]) await host(`e2fsck -fp ${image} > /dev/null || [ $? = 1 ]; e2fsck -fn ${image} > /dev/null`);
  };

  const mount = 'mkdir -p /mnt/a /mnt/b; mount -t ext4 /dev/vda /mnt/a; mount -t ext4 /dev/vdb /mnt/b';

  it('keeps what is written, over a reset of the machine and past its end, raw and qcow2', async () => {
    await makeImages();
    const guest = await boot([disk(RAW, { serial: 'raw-1' }), disk(QCOW2, { queues: 2 })], 2);
    assert.equal((await guest.sh('cat /sys/block/vda/serial; echo; cat /sys/block/vdb/size; ls /sys/block/vdb/mq | wc -l; cat /sys/block/vdb/ro')).replaceAll(/\s+/g, ' ').trim(), `raw-1 ${96 * 2048} 2 0`);
    await guest.sh(mount);
    const written = await guest.sh('for d in a b; do dd if=/dev/urandom of=/mnt/$d/data bs=64k count=200 2>/dev/null; mkdir /mnt/$d/many; for i in $(seq 60); do echo $i > /mnt/$d/many/$i; done; done; sync; sha256sum /mnt/*/data');
    assert.doesNotMatch(await guest.sh('dmesg'), /I\/O error|EXT4-fs error|virtio.*fail/i);
    await guest.sh('umount /mnt/a /mnt/b');
    await guest.call('reset');
    await guest.shell();
    await guest.sh(mount);
    assert.equal(await guest.sh('sha256sum /mnt/*/data'), written);
    assert.equal((await guest.sh('cat /mnt/b/many/* | sort -n | tail -n 1')).trim(), '60');
    // What is deleted gives its room back to the host.
    const room = Number(await host(`stat -c %b ${RAW}`));
    await guest.sh('rm /mnt/a/data /mnt/b/data; sync; for d in a b; do fstrim /mnt/$d; done; umount /mnt/a /mnt/b');
    assert.ok(Number(await host(`stat -c %b ${RAW}`)) < room - 200 * 128 * 0.9, 'discarded');
    await guest.close();
    await check();
    assert.equal((await host(`qemu-img check ${QCOW2}`)).includes('No errors'), true);
  });

  it('loses nothing that was flushed when the process is killed under load, and leaves both images sound', async () => {
    await makeImages();
    for (let kill = 0; kill < KILLS; kill++) {
      const guest = await boot([disk(RAW), disk(QCOW2)]);
      await guest.sh(mount);
      // Each file is whole and flushed when its name is told.
      await guest.sh('(n=0; while :; do n=$((n + 1)); for d in a b; do head -c $((n * 997 % 50000 + 1)) /dev/urandom > /mnt/$d/tmp; sha256sum < /mnt/$d/tmp > /mnt/$d/tmp.sum; mv /mnt/$d/tmp /mnt/$d/f$n; mv /mnt/$d/tmp.sum /mnt/$d/f$n.sum; done; sync; echo flushed:$n: > /dev/ttyS0; done) > /dev/null 2>&1 & sleep 0');
      const enough = 12 + kill * 3;
      await guest.until('it has flushed', () => guest.serial.includes(`flushed:${enough}:`));
      const last = Number(/flushed:(\d+):(?![\s\S]*flushed:\d+:)/.exec(guest.serial)![1]);
      await guest.kill();
      await check();
      const again = await boot([disk(RAW), disk(QCOW2)]);
      await again.sh(mount);
      await again.sh(`for d in a b; do for n in $(seq ${last}); do [ "$(sha256sum < /mnt/$d/f$n)" = "$(cat /mnt/$d/f$n.sum)" ] || exit 1; done; rm -r /mnt/$d/*; done; sync; umount /mnt/a /mnt/b`);
      await again.close();
    }
  });

  if (LONG) {
    for (const cache of ['writeback', 'none', 'unsafe'] as const) {
      for (const rings of ['split', 'packed'] as const) {
        it(`works with cache ${cache} and ${rings} rings`, async () => {
          await makeImages();
          const guest = await boot([disk(RAW, { cache: cache === 'none' ? 'writeback' : cache, rings }), disk(QCOW2, { cache: cache === 'none' ? 'writeback' : cache, rings })]);
          await guest.sh(mount);
          const sums = await guest.sh('for d in a b; do dd if=/dev/urandom of=/mnt/$d/data bs=64k count=300 2>/dev/null; done; sync; sha256sum /mnt/*/data');
          await guest.sh('umount /mnt/a /mnt/b; echo 3 > /proc/sys/vm/drop_caches');
          await guest.sh(mount);
          assert.equal(await guest.sh('sha256sum /mnt/*/data'), sums);
          await guest.sh('umount /mnt/a /mnt/b');
          await guest.close();
          await check();
        });
      }
    }
  }
});
