// What a device loses on its way into a guest: the lab's NVMe drive and network card, worked by the lab's own Linux, by Linux in our machine and by
// Linux in QEMU's, one after the other; and what comes to us while a device interrupts. With a build of kvmtool of your own (--kvmtool PATH), also
// which devices work in its guest (docs/passthrough.md).
// Run: scripts/node24 bench/passthrough.ts [--rounds N] [--kvmtool PATH]
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { labPaths } from '../scripts/setup/lab.mjs';
import { LAB_DEVICES } from '../lab/options.ts';
import { loading } from '../lab/tests/support/guest-tools.ts';
import { addModules } from '../lab/tests/support/modules.ts';
import { hostLinux, ourLinux, qemuLinux, toVfio, until, type Linux } from './passthrough/guest.ts';
import { seenWithKvmtool } from './passthrough/kvmtool.ts';
import { inLab } from './support/lab.ts';
import { built } from './support/machine-process.ts';
import { machineFacts, median, printTable, spread } from './support/report.ts';

const GOAL = 0.95;
const NIC = '0000:00:05.0';
const NVME = '0000:00:06.0';
const MIB = 2 ** 20;
/** The drive has 64. */
const DISK_MIB = 60;
const PASSES = 4;
const BLOCK_KIB = 256;
const RECEIVED_MIB = 16;
/** QEMU's card takes its time over this. */
const SENT_MIB = 1;
const REPEATS = 3;
/** Of one command in a guest, milliseconds. */
const PATIENCE = 120_000;
const MODULES = ['e1000e', 'nvme', 'ahci', 'sd_mod', 'xhci_pci', 'usb_storage', 'virtio_pci', 'virtio_net', 'uio_pci_generic', 'bochs'];

/** Two servers on this computer, which guests reach as 10.0.2.2: one sends, one takes all and then says so. */
async function serve(): Promise<{ source: number; sink: number }> {
  const block = Buffer.alloc(RECEIVED_MIB * MIB);
  const source = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => {
      socket.write(`HTTP/1.0 200 OK\r\nContent-Length: ${block.length}\r\n\r\n`);
      socket.end(block);
    });
  });
  const sink = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    socket.resume().once('end', () => socket.end('taken\n'));
  });
  for (const server of [source, sink]) await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return { source: (source.address() as AddressInfo).port, sink: (sink.address() as AddressInfo).port };
}

const MEASURES = ['NVMe, written', 'NVMe, read', 'network card, received', 'network card, sent'] as const;
type Measure = (typeof MEASURES)[number];
type Rates = Record<Measure, number[]>;

/** MiB a second that `work` takes for `mib`, by the clock of who does it (1/100 s). */
async function rate(linux: Linux, mib: number, work: string): Promise<number> {
  const words = (await linux.sh(`read a rest < /proc/uptime; ${work}; read b rest < /proc/uptime; echo "took $a $b"`)).match(/took (\S+) (\S+)/);
  return mib / (Number(words![2]) - Number(words![1]));
}

/** The link of this interface is up and has an address. */
const prepareNetwork = (nic: string): string => `ip link set ${nic} up; ${until(`ip link show ${nic} | grep -q LOWER_UP`)}; ip addr flush dev ${nic}; ip addr add 10.0.2.15/24 dev ${nic}`;

/** The name that the lab's driver gave to the card's interface. */
async function labsInterface(): Promise<string> {
  const folder = `/sys/bus/pci/devices/${NIC}/net`;
  while (!existsSync(folder)) await sleep(20);
  return readdirSync(folder)[0]!;
}

async function measure(linux: Linux, { source, sink }: { source: number; sink: number }, rates: Rates): Promise<void> {
  const net = { received: `wget -q -O /dev/null http://10.0.2.2:${source}/`, sent: `dd if=/dev/zero bs=64k count=${SENT_MIB * 16} 2>/dev/null | nc 10.0.2.2 ${sink} > /dev/null` };
  const passes = (words: string): string => `i=0; while [ $i -lt ${PASSES} ]; do dd ${words} bs=${BLOCK_KIB}k count=${(DISK_MIB * 1024) / BLOCK_KIB} 2>/dev/null; i=$((i + 1)); done`;
  const work: [Measure, number, string][] = [
    ['NVMe, written', DISK_MIB * PASSES, passes(`if=/dev/zero of=/dev/nvme0n1 oflag=direct`)],
    ['NVMe, read', DISK_MIB * PASSES, passes(`if=/dev/nvme0n1 of=/dev/null iflag=direct`)],
    ['network card, received', RECEIVED_MIB, net.received],
    ['network card, sent', SENT_MIB, net.sent],
  ];
  for (const [name, mib, line] of work) {
    const found: number[] = [];
    // The first brings what it needs into caches, and the emulator's translations.
    for (let repeat = -1; repeat < REPEATS; repeat++) {
      const one = await rate(linux, mib, line);
      if (repeat >= 0) found.push(one);
    }
    rates[name].push(median(found));
    console.error(`·   ${name}: ${found.map((one) => one.toFixed(1)).join(' ')} MiB/s`);
  }
}

/** Interrupts of the drive against exits to our process, a second, while the drive is read. */
async function countExits({ sh, machine }: Linux): Promise<string[][]> {
  const seconds: Record<string, number>[] = [];
  const stop = machine!.connection.client.watch('stats', ({ exits }) => void seconds.push(exits), () => {});
  const before = seconds.length;
  const said = await sh(`count() { awk '/nvme0q/ { s += $2 } END { print s + 0 }' /proc/interrupts; }; n=$(count); read a rest < /proc/uptime; i=0; while [ $i -lt 24 ]; do dd if=/dev/nvme0n1 of=/dev/null bs=4k count=1024 iflag=direct 2>/dev/null; i=$((i + 1)); done; read b rest < /proc/uptime; echo "counted $(( $(count) - n )) $a $b"`);
  stop();
  const [, count, from, to] = said.match(/counted (\d+) (\S+) (\S+)/)!;
  // The first second began before the drive was read, the last may have ended after it.
  const whole = seconds.slice(before + 1, -1);
  if (whole.length === 0) throw new Error('the drive was read before a second had passed');
  const kinds = [...new Set(whole.flatMap((one) => Object.keys(one)))].toSorted();
  return [
    ['interrupts of the drive', (Number(count) / (Number(to) - Number(from))).toFixed(0)],
    ...kinds.map((kind) => [`exits to us: ${kind}`, median(whole.map((one) => one[kind] ?? 0)).toFixed(0)]),
  ];
}

async function here(rounds: number, ports: { source: number; sink: number }, kvmtool: string | undefined): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-bench-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const { modules } = labPaths().kernels['6.1']!;
  const initrd = join(folder, 'initrd.gz');
  addModules(built('try-linux/initrd.gz'), modules, MODULES, initrd);
  console.log(machineFacts());
  if (rounds > 0) await throughput(rounds, ports, { initrd, modules });
  if (kvmtool === undefined) console.log('\nkvmtool was left out: give the path of its lkvm with --kvmtool PATH.');
  else await seenWithKvmtool(kvmtool, { initrd: built('try-linux/initrd.gz'), modules, names: MODULES, folder });
}

async function throughput(rounds: number, ports: { source: number; sink: number }, { initrd, modules }: { initrd: string; modules: string }): Promise<void> {
  const { qemu } = labPaths();
  const wish = { initrd, addresses: [NIC, NVME], patience: PATIENCE };
  const who: [string, () => Promise<Linux>][] = [
    ['the lab itself', () => hostLinux(nic, PATIENCE)],
    ['our guest', () => ourLinux(wish)],
    ...(qemu === undefined ? [] : [['QEMU\'s guest', () => qemuLinux(qemu, wish)] as [string, () => Promise<Linux>]]),
  ];
  const all = who.map((): Rates => ({ 'NVMe, written': [], 'NVMe, read': [], 'network card, received': [], 'network card, sent': [] }));
  let exits: string[][] = [];
  let nic = '';
  for (let round = 0; round < rounds; round++) {
    for (const [index, [name, start]] of who.entries()) {
      console.error(`· round ${round + 1}, ${name}`);
      const own = index === 0;
      for (const address of [NIC, NVME]) toVfio(address, own);
      if (own) nic = await labsInterface();
      const linux = await start();
      try {
        if (!own) await linux.sh(['e1000e', 'nvme'].map((name) => loading(modules)(name)).join('; '));
        await linux.sh(until('[ -b /dev/nvme0n1 ]'));
        await linux.sh(prepareNetwork(own ? nic : (await linux.sh('ls /sys/bus/pci/drivers/e1000e/*/net')).trim()));
        await measure(linux, ports, all[index]!);
        if (linux.machine !== undefined && exits.length === 0) {
          exits = await countExits(linux);
          for (const row of exits) console.error(`·   ${row.join(': ')} a second`);
        }
      } finally {
        await linux.end();
      }
    }
  }
  for (const name of MEASURES) {
    console.log('');
    const ratio = (index: number, to: number): string => (to >= who.length || index < to ? '-' : median(all[index]![name].map((value, round) => value / all[to]![name][round]!)).toFixed(2));
    printTable([`${name}, MiB/s`, 'median', 'middle half', 'ratio to the lab itself', 'ratio to QEMU\'s'], who.map(([label], index) => [
      label, median(all[index]![name]).toFixed(1), spread(all[index]![name], 1), index === 0 ? '-' : ratio(index, 0), index === 1 && who.length > 2 ? median(all[1]![name].map((value, round) => value / all[2]![name][round]!)).toFixed(2) : '-',
    ]));
  }
  console.log(`\n${PASSES} times ${DISK_MIB} MiB in blocks of ${BLOCK_KIB} KiB, past the guest's cache; ${RECEIVED_MIB} MiB and ${SENT_MIB} MiB by TCP from and to this computer; medians of\n`
    + `${rounds} rounds by turns, each the median of ${REPEATS} transfers. Goal: ${GOAL} of QEMU's.`);
  console.log('');
  printTable(['our guest reads the drive in blocks of 4 KiB', 'a second'], exits);
}

const { values } = parseArgs({ options: { kvmtool: { type: 'string' }, rounds: { type: 'string', default: '3' }, here: { type: 'string' } } });
const given = values.kvmtool === undefined ? undefined : resolve(values.kvmtool);
if (values.here !== undefined) await here(Number(values.rounds), JSON.parse(values.here) as { source: number; sink: number }, given);
else {
  const shares = given === undefined ? [] : [{ path: dirname(given), writable: false, mode: 'cached' as const }];
  await inLab(fileURLToPath(import.meta.url), ['--here', JSON.stringify(await serve()), '--rounds', values.rounds, ...(given === undefined ? [] : ['--kvmtool', given])], { shares, iommu: 'intel', devices: [...LAB_DEVICES] });
}
process.exit();
