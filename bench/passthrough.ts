// What a device loses on its way into a guest: the lab's NVMe drive and network card, worked by the lab's own Linux, then by Linux in our machine and
// by Linux in QEMU's, by turns; and what comes to us while a device interrupts. With a build of kvmtool of your own (--kvmtool PATH), also
// which devices work in its guest (docs/passthrough.md).
// Run: scripts/node24 bench/passthrough.ts [--rounds N] [--kvmtool PATH [--trials WORDS]]
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { labPaths } from '../scripts/setup/lab.mjs';
import { LAB_DEVICES, LAB_TWINS } from '../lab/options.ts';
import { loading } from '../lab/tests/support/guest-tools.ts';
import { addModules } from '../lab/tests/support/modules.ts';
import { hostLinux, ourLinux, qemuLinux, toVfio, until, type Linux } from './passthrough/guest.ts';
import { seenWithKvmtool } from './passthrough/kvmtool.ts';
import { inLab } from './support/lab.ts';
import { built } from './support/machine-process.ts';
import { machineFacts, median, printTable, spread } from './support/report.ts';

const GOAL = 0.95;
/** The lab's cards and drives, two of each: both guests run at once and transfer by turns, so that whatever else slows this computer slows both. */
const SETS = [{ nic: '0000:00:05.0', nvme: '0000:00:06.0' }, { nic: '0000:00:0d.0', nvme: '0000:00:0e.0' }] as const;
type DeviceSet = (typeof SETS)[number];
const MIB = 2 ** 20;
/** A drive has 64. */
const DISK_MIB = 60;
const PASSES = 4;
const BLOCK_KIB = 256;
const RECEIVED_MIB = 16;
/** QEMU's card takes its time over this. */
const SENT_MIB = 1;
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

/** What is measured, and how often a round. */
const REPEATS = { 'NVMe, written': 3, 'NVMe, read': 3, 'network card, received': 7, 'network card, sent': 7 } as const;
type Measure = keyof typeof REPEATS;
const MEASURES = Object.keys(REPEATS) as Measure[];
/** Digits that tell its rates apart. */
const digitsOf = (name: Measure): number => (name === 'network card, sent' ? 2 : 1);
type Rates = Record<Measure, number[]>;
const noRates = (): Rates => ({ 'NVMe, written': [], 'NVMe, read': [], 'network card, received': [], 'network card, sent': [] });

/** Somebody's Linux with a card and a drive. */
interface Worker {
  linux: Linux;
  /** "nvme0n1". */
  disk: string;
  rates: Rates;
}

/** MiB a second that `work` takes for `mib`, by the clock of who does it (1/100 s). */
async function rate(linux: Linux, mib: number, work: string): Promise<number> {
  const words = (await linux.sh(`read a rest < /proc/uptime; ${work}; read b rest < /proc/uptime; echo "took $a $b"`)).match(/took (\S+) (\S+)/);
  return mib / (Number(words![2]) - Number(words![1]));
}

/** The link of this interface is up and has an address. */
const prepareNetwork = (nic: string): string => `ip link set ${nic} up; ${until(`ip link show ${nic} | grep -q LOWER_UP`)}; ip addr flush dev ${nic}; ip addr add 10.0.2.15/24 dev ${nic}`;

/** Waits for the name that matches in one of the folders. */
async function named(folders: () => readonly string[], name: RegExp): Promise<string> {
  for (;;) {
    const found = folders().flatMap((folder) => readdirSync(folder)).find((each) => name.test(each));
    if (found !== undefined) return found;
    await sleep(20);
  }
}

/** The interface that the lab's driver makes of a card, and the disk of a drive. */
const labsInterface = (address: string): Promise<string> => named(() => [`/sys/bus/pci/devices/${address}/net`].filter(existsSync), /./);
function labsDisk(address: string): Promise<string> {
  const folder = `/sys/bus/pci/devices/${address}/nvme`;
  return named(() => (existsSync(folder) ? readdirSync(folder).map((controller) => join(folder, controller)) : []), /^nvme\d+n1$/);
}

/** Has all of them do each transfer by turns. The first of each brings what it needs into caches, and the emulator's translations. */
async function measure(workers: readonly Worker[], { source, sink }: { source: number; sink: number }): Promise<void> {
  const passes = (words: string): string => `i=0; while [ $i -lt ${PASSES} ]; do dd ${words} bs=${BLOCK_KIB}k count=${(DISK_MIB * 1024) / BLOCK_KIB} 2>/dev/null; i=$((i + 1)); done`;
  const work: Record<Measure, { mib: number; line: (disk: string) => string }> = {
    'NVMe, written': { mib: DISK_MIB * PASSES, line: (disk) => passes(`if=/dev/zero of=/dev/${disk} oflag=direct`) },
    'NVMe, read': { mib: DISK_MIB * PASSES, line: (disk) => passes(`if=/dev/${disk} of=/dev/null iflag=direct`) },
    'network card, received': { mib: RECEIVED_MIB, line: () => `wget -q -O /dev/null http://10.0.2.2:${source}/` },
    'network card, sent': { mib: SENT_MIB, line: () => `dd if=/dev/zero bs=64k count=${SENT_MIB * 16} 2>/dev/null | nc 10.0.2.2 ${sink} > /dev/null` },
  };
  for (const name of MEASURES) {
    const { mib, line } = work[name];
    const found = workers.map((): number[] => []);
    for (let repeat = -1; repeat < REPEATS[name]; repeat++) {
      const turns = [...workers.entries()];
      for (const [index, { linux, disk }] of repeat % 2 === 0 ? turns : turns.toReversed()) {
        const one = await rate(linux, mib, line(disk));
        if (repeat >= 0) found[index]!.push(one);
      }
    }
    for (const [index, { rates }] of workers.entries()) {
      rates[name].push(...found[index]!);
      console.error(`·   ${name}: ${found[index]!.map((one) => one.toFixed(digitsOf(name))).join(' ')} MiB/s`);
    }
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

async function here(rounds: number, ports: { source: number; sink: number }, kvmtool: string | undefined, wanted: string | undefined): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-bench-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const { modules } = labPaths().kernels['6.1']!;
  const initrd = join(folder, 'initrd.gz');
  addModules(built('try-linux/initrd.gz'), modules, MODULES, initrd);
  console.log(machineFacts());
  if (rounds > 0) await throughput(rounds, ports, { initrd, modules });
  if (kvmtool === undefined) console.log('\nkvmtool was left out: give the path of its lkvm with --kvmtool PATH.');
  else await seenWithKvmtool(kvmtool, { initrd: built('try-linux/initrd.gz'), modules, names: MODULES, folder, wanted });
}

async function throughput(rounds: number, ports: { source: number; sink: number }, { initrd, modules }: { initrd: string; modules: string }): Promise<void> {
  const { qemu } = labPaths();
  const guests: [string, (devices: DeviceSet) => Promise<Linux>][] = [
    ['our guest', ({ nic, nvme }) => ourLinux({ initrd, addresses: [nic, nvme], patience: PATIENCE })],
    ...(qemu === undefined ? [] : [['QEMU\'s guest', ({ nic, nvme }) => qemuLinux(qemu, { initrd, addresses: [nic, nvme], patience: PATIENCE })] as [string, (devices: DeviceSet) => Promise<Linux>]]),
  ];
  const own = noRates();
  const guestRates = guests.map(noRates);
  let exits: string[][] = [];
  for (let round = 0; round < rounds; round++) {
    const devicesOf = (index: number): DeviceSet => SETS[(round + index) % SETS.length]!;

    console.error(`· round ${round + 1}, the lab itself`);
    const { nic, nvme } = devicesOf(0);
    for (const address of [nic, nvme]) toVfio(address, true);
    const name = await labsInterface(nic);
    const lab = await hostLinux(name, PATIENCE);
    try {
      await lab.sh(prepareNetwork(name));
      await measure([{ linux: lab, disk: await labsDisk(nvme), rates: own }], ports);
    } finally {
      await lab.end();
    }

    console.error(`· round ${round + 1}, ${guests.map(([label]) => label).join(' and ')}`);
    const workers: Worker[] = [];
    try {
      for (const [index, [, start]] of guests.entries()) {
        const devices = devicesOf(index);
        for (const address of [devices.nic, devices.nvme]) toVfio(address);
        const linux = await start(devices);
        workers.push({ linux, disk: 'nvme0n1', rates: guestRates[index]! });
        await linux.sh(['e1000e', 'nvme'].map((each) => loading(modules)(each)).join('; '));
        await linux.sh(until('[ -b /dev/nvme0n1 ]'));
        await linux.sh(prepareNetwork((await linux.sh('ls /sys/bus/pci/drivers/e1000e/*/net')).trim()));
      }
      await measure(workers, ports);
      if (exits.length === 0) {
        exits = await countExits(workers[0]!.linux);
        for (const row of exits) console.error(`·   ${row.join(': ')} a second`);
      }
    } finally {
      for (const { linux } of workers) await linux.end();
    }
  }
  for (const name of MEASURES) {
    console.log('');
    const [ours, theirs] = guestRates.map((rates) => rates[name]);
    const toTheirs = theirs === undefined ? [] : ours!.map((value, index) => value / theirs[index]!);
    printTable([`${name}, MiB/s`, 'median', 'middle half', 'ratio to the lab itself', 'ratio to QEMU\'s, by turns', 'its middle half'], [['the lab itself', own[name]], ...guests.map(([label], index) => [label, guestRates[index]![name]] as const)].map(([label, found], row) => [
      label as string, median(found as number[]).toFixed(digitsOf(name)), spread(found as number[], digitsOf(name)), row === 0 ? '-' : (median(found as number[]) / median(own[name])).toFixed(2),
      ...(row === 1 && toTheirs.length > 0 ? [median(toTheirs).toFixed(2), spread(toTheirs, 2)] : ['-', '-']),
    ]));
  }
  console.log(`\n${PASSES} times ${DISK_MIB} MiB in blocks of ${BLOCK_KIB} KiB, past the guest's cache; ${RECEIVED_MIB} MiB and ${SENT_MIB} MiB by TCP from and to this computer; ${rounds} rounds. The lab alone,\n`
    + `then both guests at once, which transfer by turns, ${REPEATS['NVMe, read']} times for the drive and ${REPEATS['network card, received']} for the card, with the other's devices in the next round. Goal: ${GOAL} of QEMU's.`);
  console.log('');
  printTable(['our guest reads the drive in blocks of 4 KiB', 'a second'], exits);
}

const { values } = parseArgs({ options: { kvmtool: { type: 'string' }, trials: { type: 'string' }, rounds: { type: 'string', default: '3' }, here: { type: 'string' } } });
const given = values.kvmtool === undefined ? undefined : resolve(values.kvmtool);
if (values.here !== undefined) await here(Number(values.rounds), JSON.parse(values.here) as { source: number; sink: number }, given, values.trials);
else {
  const shares = given === undefined ? [] : [{ path: dirname(given), writable: false, mode: 'cached' as const }];
  await inLab(fileURLToPath(import.meta.url), ['--here', JSON.stringify(await serve()), '--rounds', values.rounds, ...(given === undefined ? [] : ['--kvmtool', given]), ...(values.trials === undefined ? [] : ['--trials', values.trials])], { shares, iommu: 'intel', devices: [...LAB_DEVICES, ...LAB_TWINS] });
}
process.exit();
