// Which devices work in kvmtool's guest: each in a machine of its own, worked as lab/tests/vfio.lab.test.ts works it in ours.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { addModules } from '../../lab/tests/support/modules.ts';
import { printTable } from '../support/report.ts';
import { load, startKvmtool, toVfio, until } from './guest.ts';

/** What has not come by then does not come, milliseconds. */
const PATIENCE = 60_000;

const NETWORK = `nic=$(ls -d /sys/bus/pci/drivers/DRIVER/*PLACE/net/* 2>/dev/null | head -n 1); nic=\${nic##*/}; [ -n "$nic" ] || { echo "its driver does not take it"; false; }; ip link set $nic up
  ${until('[ "$(cat /sys/class/net/$nic/carrier 2>/dev/null)" = 1 ]')}; ip addr add 10.0.2.15/24 dev $nic; ping -c 2 -w 20 -s 20000 10.0.2.2 > /dev/null`.replaceAll('\n', ';');
const network = (driver: string, place = ''): string => NETWORK.replaceAll('DRIVER', driver).replaceAll('PLACE', place);
const compare = (disk: string): string =>
  `${until(`[ -b ${disk} ]`)}; dd if=/dev/urandom of=/tmp/data bs=64k count=16 2>/dev/null; dd if=/tmp/data of=${disk} bs=64k conv=fsync 2>/dev/null; dd if=${disk} bs=64k count=16 iflag=direct 2>/dev/null | cmp - /tmp/data`;

interface Trial {
  name: string;
  address: string;
  append?: string;
  /** Modules, and what is done then. */
  modules: string[];
  work: string;
}

/** edu's factorial of 6, by its registers; then an interrupt by the pin, which somebody waits for. */
const EDU = [
  'echo 1234 11e8 > /sys/bus/pci/drivers/uio_pci_generic/new_id; [ -c /dev/uio0 ]', 'place=$(echo /sys/bus/pci/drivers/uio_pci_generic/0000:*)',
  "printf '\\006' | dd of=$place/config bs=1 seek=4 count=1 conv=notrunc 2>/dev/null", 'bar=$(head -n1 $place/resource | cut -d" " -f1)', 'devmem $((bar + 8)) 32 6',
  until('[ $(( $(devmem $((bar + 0x20)) 32) & 1 )) = 0 ]'), '[ $(devmem $((bar + 8)) 32) = 0x000002D0 ]', 'echo "its registers answer"',
  '(timeout 20 dd if=/dev/uio0 bs=4 count=1 2>/dev/null | od -An -td4 > /tmp/count) & waiter=$!', 'sleep 1', 'devmem $((bar + 0x60)) 32 1', 'wait $waiter', '[ -s /tmp/count ] && grep -q 1 /tmp/count || { echo "no interrupt by its pin"; false; }',
].join('; ');

const TRIALS: Trial[] = [
  { name: 'Intel 82574L (e1000e), MSI-X', address: '0000:00:05.0', modules: ['e1000e'], work: network('e1000e') },
  { name: 'Intel 82574L (e1000e), INTx (pci=nomsi)', address: '0000:00:05.0', append: 'pci=nomsi', modules: ['e1000e'], work: network('e1000e') },
  { name: 'NVMe', address: '0000:00:06.0', modules: ['nvme'], work: compare('/dev/nvme0n1') },
  { name: 'AHCI with a disk', address: '0000:00:0b.0', modules: ['sd_mod', 'ahci'], work: compare('/dev/sda') },
  { name: 'xHCI with a storage stick', address: '0000:00:08.0', modules: ['sd_mod', 'usb_storage', 'xhci_pci'], work: compare('/dev/sda') },
  { name: 'virtio-net, modern', address: '0000:00:0a.0', modules: ['virtio_pci', 'virtio_net'], work: network('virtio-pci', '/virtio*') },
  { name: 'edu', address: '0000:00:07.0', append: 'iomem=relaxed', modules: ['uio_pci_generic'], work: EDU },
  { name: 'bochs-display', address: '0000:00:09.0', modules: ['bochs'], work: until('[ -n "$(ls -d /sys/class/drm/card? 2>/dev/null)" ]') },
];

/** What is done, as a program of the guest's: kvmtool's serial port takes no more than 64 bytes at once. */
const scriptOf = ({ modules: names, work }: Trial, modules: string): string => `#!/bin/sh
exec 2>&1
( set -e; ${[...names.map((name) => load(modules, name)), work].join('; ')} )
code=$?
[ $code = 0 ] || { dmesg | tail -n 6; grep -iE 'eth|nvme|ahci|xhci|uio|virtio' /proc/interrupts; }
echo "@@$code"
`;

/** One line of what was seen, and the guest's last words. */
async function seen(program: string, initrd: string, name: string, { address, append = '' }: Trial): Promise<string> {
  const { console, end } = startKvmtool(program, { initrd, addresses: [address], append, patience: PATIENCE });
  let booted = false;
  try {
    await console.expect(/try-linux:~# /);
    booted = true;
    console.send(`${name}\n`);
    const [, code] = await console.expect(/@@(\d+)/);
    return code === '0' ? 'works' : `fails\n${lastWords(console.text)}`;
  } catch {
    return `${booted ? 'hangs' : 'does not start'}\n${lastWords(console.text)}`;
  } finally {
    await end();
  }
}

const lastWords = (text: string): string => text.trim().split('\n').slice(-12).join('\n');

export async function seenWithKvmtool(program: string, { initrd: plain, modules, names, folder }: { initrd: string; modules: string; names: readonly string[]; folder: string }): Promise<void> {
  const initrd = join(folder, 'initrd-kvmtool.gz');
  addModules(plain, modules, names, initrd, Object.fromEntries(TRIALS.map((trial, index) => [`trial${index}`, Buffer.from(scriptOf(trial, modules))])));
  const rows: string[][] = [];
  for (const [index, trial] of TRIALS.entries()) {
    toVfio(trial.address);
    const result = await seen(program, initrd, `trial${index}`, trial);
    toVfio(trial.address, true);
    console.error(`· kvmtool, ${trial.name}: ${result}`);
    rows.push([trial.name, result.split('\n')[0]!]);
  }
  console.log('');
  printTable([`kvmtool ${execFileSync(program, ['version'], { encoding: 'utf8' }).trim()}`, 'seen'], rows);
}
