// What a virtio disk gives to Linux in our guest: requests at a time, one and 32, in blocks of 4 KiB at random places and of 256 KiB along the disk, past
// the guest's page cache, in the lab; against QEMU with the same kernel and image (a thread for its I/O, io_uring), and against kvmtool by --kvmtool PATH
// (a build of your own). And the exits to our process for each request while its queue is busy.
// Run: scripts/node24 bench/disk.ts [--rounds N] [--kvmtool PATH]
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { labPaths } from '../scripts/setup/lab.mjs';
import { Cpio } from '../scripts/setup/cpio.mjs';
import { inLab } from './support/lab.ts';
import { built } from './support/machine-process.ts';
import { compileStatic } from './support/native.ts';
import { machineFacts, median, printTable } from './support/report.ts';
import { ourLinux, qemuLinux, startKvmtool, until, type Linux, type Wish } from './passthrough/guest.ts';

const GOAL = 0.9;
const MIB = 2 ** 20;
const DISK_MIB = 256;
const MILLISECONDS = 1500;
const PATIENCE = 120_000;
const DISK = '/dev/vda';

/** What is measured: of the load's words. */
const LOADS = [
  { name: '4 KiB, random, read, 1 at a time', words: 'read random 4096 1' },
  { name: '4 KiB, random, read, 32 at a time', words: 'read random 4096 32' },
  { name: '4 KiB, random, written, 1 at a time', words: 'write random 4096 1' },
  { name: '4 KiB, random, written, 32 at a time', words: 'write random 4096 32' },
  { name: '256 KiB, along, read, 1 at a time', words: 'read along 262144 1' },
  { name: '256 KiB, along, read, 32 at a time', words: 'read along 262144 32' },
  { name: '256 KiB, along, written, 32 at a time', words: 'write along 262144 32' },
] as const;

/** Requests a second of each load. */
async function measure(linux: Linux): Promise<{ rates: number[]; exits: number }> {
  await linux.sh(until(`[ -b ${DISK} ]`));
  const rates: number[] = [];
  let exits = Number.NaN;
  for (const { words } of LOADS) {
    let told = 0;
    const stop = linux.machine?.connection.client.watch('stats', ({ exits: kinds }) => void (told += Object.values(kinds).reduce((sum, each) => sum + each, 0)), () => {});
    await linux.sh(`load ${DISK} ${words} 300`); // what is done for the first time takes longer
    told = 0;
    const [count, microseconds] = (await linux.sh(`load ${DISK} ${words} ${MILLISECONDS}`)).trim().split(' ').map(Number) as [number, number];
    stop?.();
    rates.push(count / (microseconds / 1e6));
    if (words === 'read random 4096 32') exits = told / count;
  }
  return { rates, exits };
}

async function here(rounds: number, load: string, kvmtool: string | undefined): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-bench-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const image = join(folder, 'disk.img');
  writeFileSync(image, '');
  truncateSync(image, DISK_MIB * MIB);
  execFileSync('dd', ['if=/dev/zero', `of=${image}`, 'bs=1M', `count=${DISK_MIB}`], { stdio: 'ignore' });
  const initrd = join(folder, 'initrd.gz');
  const more = new Cpio(); // beside what Try Linux has
  more.folder('bin');
  more.file('bin/load', readFileSync(load), 0o755);
  writeFileSync(initrd, Buffer.concat([readFileSync(built('try-linux/initrd.gz')), gzipSync(more.end())]));
  const wish: Wish = {
    initrd, patience: PATIENCE, addresses: [],
    more: {
      ours: [{ kind: 'virtio-blk', file: image, rings: 'split', readonly: false, cache: 'writeback', onError: 'report', queues: 1 }],
      qemu: ['-object', 'iothread,id=io', '-drive', `file=${image},format=raw,if=none,id=disk,cache=writeback,aio=io_uring`, '-device', 'virtio-blk-pci,drive=disk,iothread=io'],
      kvmtool: ['-d', image],
    },
  };
  console.log(machineFacts());
  const { qemu } = labPaths();
  const who: [string, () => Promise<Linux>][] = [
    ['ours', () => ourLinux(wish)],
    ...(qemu === undefined ? [] : [['QEMU', () => qemuLinux(qemu, wish)] as [string, () => Promise<Linux>]]),
    ...(kvmtool === undefined ? [] : [['kvmtool', async () => {
      const { console: serial, end } = startKvmtool(kvmtool, wish);
      await serial.shell();
      return { sh: (line: string) => serial.sh(line), end };
    }] as [string, () => Promise<Linux>]]),
  ];
  const all = who.map((): number[][] => LOADS.map(() => []));
  const exits: number[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const [index, [name, start]] of who.entries()) {
      const linux = await start();
      try {
        const found = await measure(linux);
        found.rates.forEach((rate, load) => all[index]![load]!.push(rate));
        if (index === 0) exits.push(found.exits);
        console.error(`· round ${round + 1}, ${name}: ${found.rates.map((rate) => rate.toFixed(0)).join(' ')}`);
      } finally {
        await linux.end();
      }
    }
  }
  console.log('');
  printTable(['requests a second', ...who.map(([name]) => name), 'ours to the better of the others'], LOADS.map(({ name }, load) => {
    const ratios = all[0]![load]!.map((rate, round) => rate / Math.max(...all.slice(1).map((each) => each[load]![round]!)));
    return [name, ...all.map((each) => median(each[load]!).toFixed(0)), who.length > 1 ? median(ratios).toFixed(2) : '-'];
  }));
  console.log(`\nMedians of ${rounds} rounds by turns, ${MILLISECONDS} ms each. Goal: ${GOAL} of the better one. Exits to our process for each request, read, 32 at a time: ${median(exits).toFixed(3)}.`);
}

const { values } = parseArgs({ options: { kvmtool: { type: 'string' }, rounds: { type: 'string', default: '3' }, here: { type: 'string' } } });
const given = values.kvmtool === undefined ? undefined : resolve(values.kvmtool);
if (values.here !== undefined) await here(Number(values.rounds), values.here, given);
else {
  const shares = given === undefined ? [] : [{ path: dirname(given), writable: false, mode: 'cached' as const }];
  const load = compileStatic(join(dirname(fileURLToPath(import.meta.url)), 'disk/load.c'));
  await inLab(fileURLToPath(import.meta.url), ['--here', load, '--rounds', values.rounds, ...(given === undefined ? [] : ['--kvmtool', given])], { shares, memory: 4096 * MIB });
}
process.exit();
