import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { VitrineError } from '../../shared/errors.ts';
import { HostDevices } from './host-devices.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import { groupMembers, locate, obstacles } from './locate.ts';
import { romFromFile } from './rom.ts';

/** A sysfs with these devices: address, group or none, driver or none. */
function sysfs(devices: readonly [address: string, group: string | null, driver: string | null][]): { sys: string; remove: () => void } {
  const sys = mkdtempSync(join(tmpdir(), 'vitrine-sys-'));
  for (const [address, group, driver] of devices) {
    const folder = join(sys, 'bus/pci/devices', address);
    mkdirSync(folder, { recursive: true });
    if (group !== null) {
      mkdirSync(join(sys, 'kernel/iommu_groups', group, 'devices', address), { recursive: true });
      symlinkSync(`../../../../kernel/iommu_groups/${group}`, join(folder, 'iommu_group'));
    }
    if (driver !== null) symlinkSync(`../../../../bus/pci/drivers/${driver}`, join(folder, 'driver'));
  }
  return { sys, remove: () => rmSync(sys, { recursive: true }) };
}

const coded = (code: string, ...words: RegExp[]) => (thrown: unknown): boolean => {
  assert.ok(thrown instanceof VitrineError);
  assert.equal(thrown.problem.code, code);
  for (const word of words) assert.match(thrown.message, word);
  return true;
};

test('a bound device is found with its group; what is missing is told in words', () => {
  const { sys, remove } = sysfs([
    ['0000:00:1c.0', '5', 'pcieport'], ['0000:03:00.0', '5', 'vfio-pci'], ['0000:03:00.1', '5', 'snd_hda_intel'], ['0000:03:00.2', '5', null], ['0000:04:00.0', '6', 'nvme'], ['0000:05:00.0', null, 'vfio-pci'],
    ['0000:06:00.0', '7', 'mlx5_vfio_pci'], ['0000:07:00.0', '8', null],
  ]);
  try {
    assert.deepEqual(locate('0000:03:00.0', sys), {
      address: '0000:03:00.0', group: '5', driver: 'vfio-pci',
      members: [{ address: '0000:00:1c.0', driver: 'pcieport' }, { address: '0000:03:00.0', driver: 'vfio-pci' }, { address: '0000:03:00.1', driver: 'snd_hda_intel' }, { address: '0000:03:00.2', driver: undefined }],
    });
    assert.deepEqual(obstacles(groupMembers('5', sys)), [{ address: '0000:03:00.1', driver: 'snd_hda_intel' }]);
    assert.equal(locate('0000:06:00.0', sys).driver, 'mlx5_vfio_pci');
    assert.throws(() => locate('0000:09:00.0', sys), coded('no-such-device', /0000:09:00.0/));
    assert.throws(() => locate('../devices/0000:03:00.0', sys), coded('no-such-device'));
    assert.throws(() => locate('0000:04:00.0', sys), coded('device-not-bound', /driver nvme has it/, /vitrine bind 0000:04:00.0/));
    assert.throws(() => locate('0000:07:00.0', sys), coded('device-not-bound', /it has no driver/));
    assert.throws(() => locate('0000:05:00.0', sys), coded('no-iommu', /intel_iommu=on/));
    assert.deepEqual(groupMembers('99', sys), []);
  } finally {
    remove();
  }
});

test('a device that is not there is refused before anything is taken', () => {
  const devices = new HostDevices({ name: 'Vista', ram: new GuestMemory([]), vm: -1, log: () => {}, wanted: () => {}, failed: () => {} });
  assert.throws(() => devices.take({ address: 'ffff:1f:00.0', slot: 3 }), coded('no-such-device'));
  devices.close();
});

test('a ROM file is checked, and its BAR is a power of two', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-rom-'));
  try {
    const file = join(folder, 'rom');
    assert.throws(() => romFromFile(file, 'x'), coded('bad-rom', /ENOENT/));
    writeFileSync(file, Buffer.from([0x55, 0xab, 1, 2]));
    assert.throws(() => romFromFile(file, 'x'), coded('bad-rom', /does not begin with 55 AA/));
    for (const [bytes, size] of [[4, 2048], [2048, 2048], [2049, 4096], [70_000, 131_072]] as const) {
      writeFileSync(file, Buffer.concat([Buffer.from([0x55, 0xaa]), Buffer.alloc(bytes - 2, 7)]));
      const rom = romFromFile(file, 'x');
      assert.equal(rom.size, size);
      assert.equal(rom.backing.bytes % 4096, 0);
      assert.deepEqual([...new Uint8Array(rom.bytes, 0, 3)], [0x55, 0xaa, 7]);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
