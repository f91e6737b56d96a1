// What tests have a Linux guest do with its own drivers: load a module, use a network, write and read a disk. Words of the guest's shell, mostly.
import assert from 'node:assert/strict';
import type { LabMachine } from './lab-machine.ts';
import { moduleOrder } from './modules.ts';

/** Waits until a command succeeds, and says what there is when it never does. */
export const until = (condition: string): string =>
  `i=0; until ${condition}; do i=$((i + 1)); [ $i -lt 300 ] || { dmesg | tail -n 20; cat /proc/interrupts; break; }; sleep 0.1; done; ${condition}`;

/** How often the interrupts fired whose line in /proc/interrupts has these words. */
export const fired = (words: string): string => `awk '/${words}/ { s += $2 } END { print s + 0 }' /proc/interrupts`;

/** What is written to the disk is read again. */
export const compare = (disk: string, blocks: number): string =>
  `dd if=/dev/urandom of=/tmp/data bs=64k count=${blocks} 2>/dev/null; dd if=/tmp/data of=${disk} bs=64k conv=fsync 2>/dev/null; echo 3 > /proc/sys/vm/drop_caches; dd if=${disk} bs=64k count=${blocks} iflag=direct 2>/dev/null | cmp - /tmp/data`;

export const inSlot = (slot: number): string => `/sys/bus/pci/devices/0000:00:${slot.toString(16).padStart(2, '0')}.0`;

/** Loads a module and what it needs, as addModules has put them there, where it is not loaded. @param modules the kernel's lib/modules/RELEASE */
export function loading(modules: string): (name: string, options?: string) => string {
  return (name, options = '') => {
    const files = moduleOrder(modules, [name]).map(({ file }) => file);
    return files.map((file) => `[ -d /sys/module/${file.slice(0, -'.ko'.length)} ] || insmod /lib/extra/${file}${file === `${name}.ko` ? ` ${options}` : ''}`).join('; ');
  };
}

/** The guest's interfaces of this driver. */
export async function interfaces(guest: LabMachine, driver: string): Promise<string[]> {
  const found = await guest.sh(`for n in /sys/class/net/*; do [ "$(basename "$(readlink $n/device/driver)")" = ${driver} ] && basename $n; done; true`);
  return found.split('\n').map((line) => line.trim()).filter(Boolean);
}

/** Link, DHCP, and traffic both ways on each of the guest's interfaces of this driver. */
export async function useNetwork(guest: LabMachine, driver: string, count = 1): Promise<void> {
  const found = await interfaces(guest, driver);
  assert.equal(found.length, count, `interfaces of ${driver}`);
  for (const nic of found) {
    await guest.sh(`ip link set ${nic} up; ${until(`[ "$(cat /sys/class/net/${nic}/carrier 2>/dev/null)" = 1 ]`)}`);
    await guest.sh("printf '#!/bin/sh\\n[ \"$1\" = bound ] && ip addr add $ip/24 dev $interface; exit 0\\n' > /tmp/lease; chmod +x /tmp/lease");
    const lease = await guest.sh(`udhcpc -i ${nic} -n -q -t 10 -T 1 -s /tmp/lease`);
    assert.match(lease, /lease of 10\.0\.2\.15 obtained/);
    assert.match(await guest.sh('ping -c 2 10.0.2.2'), /2 packets received/);
    assert.match(await guest.sh('ping -c 2 -s 20000 10.0.2.2'), /2 packets received/);
    await guest.sh(`ip addr flush dev ${nic}; ip link set ${nic} down`);
  }
}
