// From a mount to the hardware, through everything that may lie between: partitions, RAID, subsystems of NVMe, loop files, file systems over
// several disks, swap files, volumes that are open without being mounted.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, renameSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import test from 'node:test';
import { Storage } from './storage.ts';
import { PCI_IDS } from './testing/hosts.ts';
import type { WrittenHost } from './testing/tree.ts';
import { writeHost } from './testing/tree.ts';

const DISKS = `
  pci 00:03.0 144d:a80a 010802 group=1 driver=nvme
    block nvme0n1 nvme0n1p1 nvme0n1p2
  pci 00:04.0 144d:a80a 010802 group=2 driver=nvme
    block nvme1n1 nvme1n1p1
  pci 00:05.0 8086:7ae2 010601 group=3 driver=ahci
    block sda sda1
`;

function written(t: TestContext, text: string): WrittenHost {
  const host = writeHost(`${DISKS}${text}`, PCI_IDS);
  t.after(() => host.remove());
  return host;
}

/** "00:03.0 root: / on nvme0n1p1", a line for each use. */
function uses(host: WrittenHost): string[] {
  return [...new Storage(host.roots).uses()].sort().flatMap(([address, all]) => all.map(({ kind, detail }) => `${address.slice(5)} ${kind}: ${detail}`));
}

test('a partition of a RAID, and a member that is no longer mounted', (t) => {
  const host = written(t, 'volume md0 data on nvme0n1p1 nvme1n1p1');
  assert.deepEqual(uses(host), ['00:03.0 volume: data on nvme0n1p1', '00:04.0 volume: data on nvme1n1p1']);
  const disk = join(host.folder, 'sys/devices/virtual/block/md0');
  mkdirSync(join(disk, 'md0p1'));
  writeFileSync(join(disk, 'md0p1/partition'), '1\n');
  writeFileSync(join(disk, 'md0p1/dev'), '259:99\n');
  symlinkSync(join(disk, 'md0p1'), join(host.folder, 'sys/class/block/md0p1'));
  symlinkSync(join(disk, 'md0p1'), join(host.folder, 'sys/dev/block/259:99'));
  host.write('proc/self/mountinfo', '30 1 259:99 / /srv rw - ext4 /dev/md0p1 rw');
  assert.deepEqual(uses(host), ['00:03.0 mount: /srv on md0p1', '00:04.0 mount: /srv on md0p1']);
});

test('an NVMe drive with two controllers belongs to both', (t) => {
  const host = written(t, 'mount nvme0n1p1 /');
  const at = (path: string) => join(host.folder, path);
  const old = join(host.device('00:03.0'), 'nvme/nvme0/nvme0n1');
  const subsystem = at('sys/devices/virtual/nvme-subsystem/nvme-subsys0');
  mkdirSync(subsystem, { recursive: true });
  renameSync(old, join(subsystem, 'nvme0n1'));
  symlinkSync(dirname(old), join(subsystem, 'nvme0'));
  symlinkSync(join(host.device('00:04.0'), 'nvme/nvme1'), join(subsystem, 'nvme1'));
  const number = readFileSync(join(subsystem, 'nvme0n1/nvme0n1p1/dev'), 'utf8').trim();
  for (const [link, target] of [['sys/class/block/nvme0n1', 'nvme0n1'], ['sys/class/block/nvme0n1p1', 'nvme0n1/nvme0n1p1'], [`sys/dev/block/${number}`, 'nvme0n1/nvme0n1p1']]) {
    unlinkSync(at(link));
    symlinkSync(join(subsystem, target), at(link));
  }
  assert.deepEqual(uses(host), ['00:03.0 root: / on nvme0n1p1', '00:04.0 root: / on nvme0n1p1']);
});

test('btrfs and ZFS over several disks, each of which is named once or not at all by its mount', (t) => {
  const host = written(t, 'btrfs nvme0n1p1 sda1\nmount nvme0n1p1 /srv/data btrfs /dev/nvme0n1p1');
  assert.deepEqual(uses(host), ['00:03.0 mount: /srv/data on nvme0n1p1', '00:05.0 mount: /srv/data on sda1']);
  const pool = written(t, 'mount none /tank/films zfs tank/films');
  for (const name of ['nvme1n1p1', 'sda1']) {
    const number = readFileSync(join(pool.folder, 'sys/class/block', name, 'dev'), 'utf8').trim();
    pool.write(`run/udev/data/b${number}`, 'S:disk/by-id/x\nE:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL=tank');
  }
  assert.deepEqual(uses(pool), ['00:04.0 mount: /tank/films on nvme1n1p1', '00:05.0 mount: /tank/films on sda1']);
});

test('a swap file, a loop file, names with spaces, and file systems without a disk', (t) => {
  const host = written(t, 'mount nvme0n1p1 /\nmount sda1 "/mnt/my films"\nmount none /proc proc proc\nmount none /tmp tmpfs tmpfs\nswap /swap.img');
  const loop = join(host.folder, 'sys/devices/virtual/block/loop0');
  mkdirSync(join(loop, 'loop'), { recursive: true });
  writeFileSync(join(loop, 'loop/backing_file'), '/mnt/my films/image.iso\n');
  symlinkSync(loop, join(host.folder, 'sys/class/block/loop0'));
  symlinkSync(loop, join(host.folder, 'sys/dev/block/7:0'));
  assert.deepEqual(uses(host), ['00:03.0 root: / on nvme0n1p1', '00:03.0 swap: /swap.img on nvme0n1p1', '00:05.0 mount: /mnt/my films on sda1']);
  // What is mounted from a file is found by the file's own file system, and not by itself.
  host.write('proc/self/mountinfo', '30 1 7:0 / /iso ro - iso9660 /dev/loop0 ro');
  assert.deepEqual(uses(host).filter((line) => line.includes('iso')), []);
});

test('devices that go round in a circle', (t) => {
  const host = written(t, 'volume dm-0 a on nvme0n1p1\nvolume dm-1 b on dm-0\nmount dm-1 /');
  symlinkSync(join(host.folder, 'sys/class/block/dm-1'), join(host.folder, 'sys/devices/virtual/block/dm-0/slaves/dm-1'));
  assert.deepEqual(uses(host), ['00:03.0 root: / on dm-1']);
});
