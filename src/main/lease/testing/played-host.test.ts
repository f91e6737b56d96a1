// The helper's test build on hosts that were written for the wizard's pages: what lasts is played there too, and undone.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readHostDevices } from '../../host-devices/read.ts';
import { HOSTS } from '../../host-devices/testing/hosts.ts';
import { grant, installHelper, removeHelper, reserve, restoreFunctions, setFunctions } from '../changes.ts';
import { leaseDevices } from '../groups.ts';
import { grantedFor, readLasting } from '../lasting.ts';
import type { PlayedHost } from './played-host.ts';
import { playHost } from './played-host.ts';
import { starterOn } from './run-helper.ts';

const skip = process.getuid!() === 0 && 'an ordinary user\'s test: the owner of a node is the user';
const MiB = 2 ** 20;
const starterOf = (host: PlayedHost) => starterOn(host.env.VITRINE_TREE_HELPER, host.folder);
/** What of the host is different; files of drivers whose modules were loaded stay. */
function differences(before: string, now: string): string[] {
  const [one, other] = [before, now].map((text) => new Set(text.split('\n').filter((line) => !/drivers\/(vfio-pci|iavf)|vf_(device|driver)/.test(line)))) as [Set<string>, Set<string>];
  return [...[...one].filter((line) => !other.has(line)).map((line) => `- ${line}`), ...[...other].filter((line) => !one.has(line)).map((line) => `+ ${line}`)];
}
const lasting = (host: PlayedHost) => readLasting(join(host.folder, 'var/lib'), host.roots.proc);

test('a server\'s network card gets virtual functions, which the page shows, and loses them', { skip }, async () => {
  const host = playHost(HOSTS.server);
  try {
    const [before, starter] = [host.snapshot(), starterOf(host)];
    const count = Object.keys(readHostDevices({ roots: host.roots }).devices).length;
    host.write('sys/bus/pci/devices/0000:18:00.1/vf_device', '0x154c');
    host.write('sys/bus/pci/devices/0000:18:00.1/vf_driver', 'iavf');
    await setFunctions('0000:18:00.1', 2, { starter });
    const { devices } = readHostDevices({ roots: host.roots });
    assert.deepEqual([devices['0000:18:10.0']!.driver, devices['0000:18:10.1']!.group, Object.keys(devices).length], ['iavf', '101', count + 2]);
    assert.deepEqual(lasting(host).functions, [{ address: '0000:18:00.1', ids: '8086:1572', before: 0 }]);
    await restoreFunctions('0000:18:00.1', { starter });
    assert.deepEqual(differences(before, host.snapshot()), []);
    host.write('usr/bin/dracut', '');
    await assert.rejects(reserve('0000:18:00.1', { starter }), /0000:18:00\.0 has 4 virtual functions/);
    await assert.rejects(reserve('0000:02:00.0', { starter }), /0000:02:00\.0 is the only graphics card/);
    await assert.rejects(reserve('0000:3b:00.0', { starter }), /nvme0n1p1|md0/);
  } finally {
    host.remove();
  }
});

test('a desktop\'s card is reserved, granted and leased without a question, and all of it comes back', { skip }, async () => {
  const host = playHost(HOSTS.intelDesktop);
  try {
    const [before, starter] = [host.snapshot(), starterOf(host)];
    const card = ['0000:01:00.0', '0000:01:00.1'];
    host.write('usr/sbin/update-initramfs', '');
    await installHelper({ starter });
    assert.deepEqual(await reserve('0000:01:00.0', { starter }), card);
    assert.match(readFileSync(join(host.folder, 'boot/initramfs.conf'), 'utf8'), /\noptions vfio-pci ids=10de:2684,10de:22ba\n$/);
    await grant('games', 64 * MiB, card, { starter });
    const files = { lib: join(host.folder, 'var/lib'), proc: host.roots.proc, sys: host.roots.sys };
    assert.equal(grantedFor('games', card, 64 * MiB, files), true);
    const lease = await leaseDevices(card, { starter, granted: 'games' }, host.roots.sys);
    assert.deepEqual([host.driverOf('01:00.0'), host.driverOf('01:00.1')], ['vfio-pci', 'vfio-pci']);
    await assert.rejects(lease.bind('0000:03:00.0'), /was not allowed for the machine games/);
    await assert.rejects(removeHelper({ starter }), /0000:01:00\.0 is in use by a machine/);
    lease.release();
    assert.equal(await lease.ended, 0);
    await removeHelper({ starter });
    assert.deepEqual(differences(before, host.snapshot()), []);
    assert.deepEqual(['etc/modprobe.d/vitrine.conf', 'var/lib/vitrine', 'usr/local/libexec/vitrine-helper'].map((path) => existsSync(join(host.folder, path))), [false, false, false]);
  } finally {
    host.remove();
  }
});
