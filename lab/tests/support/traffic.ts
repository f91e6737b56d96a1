// Traffic in a Linux guest that goes on for ever, whatever happens to the devices below it: two programs for addModules, and how a test watches
// them. They leave the processor time between, or an emulated guest does nothing else; and no packet is in fragments, for the network of the lab's QEMU
// (libslirp 4.7) crashes on one whose rest never comes.
import assert from 'node:assert/strict';
import type { LabMachine } from './lab-machine.ts';

/** Of 64 KiB, written and read again in each round on the drive. */
const BLOCKS = 8;

export const TRAFFIC: Record<string, Uint8Array> = {
  /** talk PCI-FOLDER: pings through the interface that this device has just now; each answer is a line in /tmp/talked-SLOT. */
  talk: Buffer.from(`#!/bin/sh
while [ ! -e /tmp/quiet ]; do
  nic=$(ls $1/net 2>/dev/null || ls $1/virtio*/net 2>/dev/null)
  ip link set $nic up && ip addr add 10.0.2.15/24 dev $nic
  ping -i 0.02 -s 1400 -I $nic 10.0.2.2 >> /tmp/talked-$(basename $1)
  sleep 0.1
done 2> /dev/null
`),
  /** store: writes to the NVMe drive and reads again; good rounds are lines in /tmp/stored, bytes that differ in /tmp/differed. With /tmp/read-only it only reads. */
  store: Buffer.from(`#!/bin/sh
dd if=/dev/urandom of=/tmp/data bs=64k count=${BLOCKS}
while [ ! -e /tmp/quiet ]; do
  sleep 0.1
  drive=$(ls /dev/nvme?n1 | head -n 1)
  [ -b "$drive" ] || continue
  if [ ! -e /tmp/read-only ]; then
    dd if=/dev/urandom of=/tmp/data bs=64k count=${BLOCKS}
    dd if=/tmp/data of=$drive bs=64k oflag=direct || continue
  fi
  dd if=$drive of=/tmp/read bs=64k count=${BLOCKS} iflag=direct || continue
  [ $(wc -c < /tmp/read) = $((${BLOCKS} * 65536)) ] || continue # a drive that is being taken away has no bytes any more
  if cmp /tmp/read /tmp/data >> /tmp/differed; then echo good >> /tmp/stored; fi
done 2> /dev/null
`),
};

/** Waits until one of those files has some lines more. */
export async function goesOn(guest: LabMachine, file: string, more: number): Promise<void> {
  const lines = `$(cat ${file} 2>/dev/null | wc -l)`;
  const said = await guest.sh(`from=${lines}; i=0; until [ $((${lines} - from)) -ge ${more} ]; do i=$((i + 1)); [ $i -lt 600 ] || break; sleep 0.1; done; echo $((${lines} - from))`);
  if (Number(said) < more) assert.fail(`${file} stands still: ${await guest.sh('cat /tmp/differed; dmesg | tail -n 30; ip addr; cat /proc/interrupts; ps | tail -n 20')}`);
}
