// Which devices work in kvmtool's guest, worked as lab/tests/vfio.lab.test.ts works them in ours.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { addModules } from '../../lab/tests/support/modules.ts';
import { printTable } from '../support/report.ts';
import { loading } from '../../lab/tests/support/guest-tools.ts';
import { startKvmtool, toVfio, until } from './guest.ts';

/** For a guest's boot, and for what one trial says, milliseconds. */
const PATIENCE = 120_000;
/** What has not come to an end by then hangs. */
const TRIAL_SECONDS = 60;

const NETWORK = `nic=$(ls -d /sys/bus/pci/drivers/DRIVER/*PLACE/net/* 2>/dev/null | head -n 1); nic=\${nic##*/}; [ -n "$nic" ] || { echo "its driver does not take it"; false; }; ip link set $nic up
  ${until('[ "$(cat /sys/class/net/$nic/carrier 2>/dev/null)" = 1 ]')}; ip addr add 10.0.2.15/24 dev $nic; ping -c 2 -w 20 -s 20000 10.0.2.2 > /dev/null`.replaceAll('\n', ';');
const network = (driver: string, place = ''): string => NETWORK.replaceAll('DRIVER', driver).replaceAll('PLACE', place);
const compare = (disk: string): string =>
  `${until(`[ -b ${disk} ]`)}; dd if=/dev/urandom of=/tmp/data bs=64k count=16 2>/dev/null; dd if=/tmp/data of=${disk} bs=64k conv=fsync 2>/dev/null; dd if=${disk} bs=64k count=16 iflag=direct 2>/dev/null | cmp - /tmp/data`;

interface Trial {
  name: string;
  address: string;
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

const E1000E = { address: '0000:00:05.0', modules: ['e1000e'], work: network('e1000e') };

/** Guests, each with the devices of its trials. What may keep a guest's CPU for ever has one for itself, the others share one: a boot takes the lab longer than they do. */
const GUESTS: { append: string; trials: Trial[] }[] = [
  {
    append: 'iomem=relaxed',
    trials: [
      { name: 'Intel 82574L (e1000e), MSI-X', ...E1000E },
      { name: 'AHCI with a disk', address: '0000:00:0b.0', modules: ['sd_mod', 'ahci'], work: compare('/dev/sda') },
      { name: 'xHCI with a storage stick', address: '0000:00:08.0', modules: ['sd_mod', 'usb_storage', 'xhci_pci'], work: compare('/dev/sdb') },
      { name: 'virtio-net, modern', address: '0000:00:0a.0', modules: ['virtio_pci', 'virtio_net'], work: network('virtio-pci', '/virtio*') },
      { name: 'bochs-display', address: '0000:00:09.0', modules: ['bochs'], work: until('[ -n "$(ls -d /sys/class/drm/card? 2>/dev/null)" ]') },
    ],
  },
  { append: '', trials: [{ name: 'NVMe', address: '0000:00:06.0', modules: ['nvme'], work: compare('/dev/nvme0n1') }] },
  { append: 'pci=nomsi', trials: [{ name: 'Intel 82574L (e1000e), INTx (pci=nomsi)', ...E1000E }] },
  { append: 'iomem=relaxed', trials: [{ name: 'QEMU\'s edu, its pin', address: '0000:00:07.0', modules: ['uio_pci_generic'], work: EDU }] },
];

/** What is done, as a program of the guest's: kvmtool's serial port takes no more than 64 bytes at once. A trial that hangs does not keep the next. */
function scriptOf(trials: readonly Trial[], modules: string): string {
  return `#!/bin/sh\n${trials.map(({ modules: names, work }, index) => `(
  ( set -e; ${[...names.map((name) => loading(modules)(name)), work].join('; ')} ) > /tmp/said${index} 2>&1
  echo $? > /tmp/code${index}
) &
i=0; until [ -s /tmp/code${index} ] || [ $i -ge ${TRIAL_SECONDS * 10} ]; do i=$((i + 1)); sleep 0.1; done
cat /tmp/said${index}; [ "$(cat /tmp/code${index} 2>/dev/null)" = 0 ] || { dmesg | tail -n 5; grep -iE 'eth|enp|ens|nvme|ahci|xhci|uio|virtio' /proc/interrupts; }
echo "@@${index}:$(cat /tmp/code${index} 2>/dev/null || echo none)"`).join('\n')}\n`;
}

/** @param wish.wanted the names of the trials to do have these words; all without it */
export async function seenWithKvmtool(program: string, { initrd: plain, modules, names, folder, wanted = '' }: { initrd: string; modules: string; names: readonly string[]; folder: string; wanted?: string }): Promise<void> {
  const rows: string[][] = [];
  for (const { append, trials: all } of GUESTS) {
    const trials = all.filter(({ name }) => name.includes(wanted));
    if (trials.length === 0) continue;
    const initrd = join(folder, 'initrd-kvmtool.gz');
    addModules(plain, modules, names, initrd, { trials: Buffer.from(scriptOf(trials, modules)) });
    const addresses = trials.map(({ address }) => address);
    for (const address of addresses) toVfio(address);
    const { console: port, end } = startKvmtool(program, { initrd, addresses, append, patience: PATIENCE });
    try {
      await port.expect(/try-linux:~# /);
      port.send('trials\n');
      for (const [index, { name }] of trials.entries()) {
        const [said, code] = await port.expect(new RegExp(`[^]*@@${index}:(\\w+)`));
        const result = code === '0' ? 'works' : code === 'none' ? `hangs (no end in ${TRIAL_SECONDS} s)` : 'fails';
        console.error(`· kvmtool, ${name}: ${result}${code === '0' ? '' : said}`);
        rows.push([name, result]);
      }
    } catch (thrown) {
      console.error(`· kvmtool: ${String(thrown)}`);
      for (const { name } of trials) if (!rows.some(([known]) => known === name)) rows.push([name, 'its guest no longer answers']);
    } finally {
      await end();
      for (const address of addresses) toVfio(address, true);
    }
  }
  console.log('');
  printTable([`kvmtool ${execFileSync(program, ['version'], { encoding: 'utf8' }).trim()}`, 'seen'], rows);
}
