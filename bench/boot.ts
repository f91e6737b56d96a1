// How long Debian's kernel takes from the first entry into the guest to its first process, in the lab, against kvmtool with the same kernel
// and initrd; and apart from that, from the start of the process to the first entry. kvmtool is no part of this project: give the path of a
// build of your own.
// Run: scripts/node24 bench/boot.ts [--kvmtool PATH] [--rounds N]
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cpio } from '../scripts/setup/cpio.mjs';
import { firstEntry, watchEntry } from './boot/first-entry.ts';
import { inLab } from './support/lab.ts';
import { built, monotonic, startMachineProcess, type BenchMachine } from './support/machine-process.ts';
import { compileStandalone } from './support/native.ts';
import { machineFacts, median, printTable, spread } from './support/report.ts';

const MEMORY_MIB = 256;
const WORDS = 'userland is here';
const LOOK_MS = 2;
const PATIENCE_SECONDS = 120;
const APPEND = 'console=ttyS0 quiet';
/** kvmtool offers the guest no ACPI; these are of its own parameters those that its machine needs. */
const KVMTOOL_APPEND = 'noapic noacpi pci=conf1 reboot=k i8042.direct=1 i8042.dumbkbd=1 i8042.nopnp=1';

interface Times {
  /** Milliseconds. */
  toEntry: number;
  toUserland: number;
}

/** Waits for the first entry and then for the first process. */
async function watch(startedAt: number, saidSo: () => number | null, why: () => string): Promise<Times> {
  let entry: number | null = null;
  for (;;) {
    entry ??= firstEntry();
    const userland = saidSo();
    if (userland !== null) {
      entry ??= firstEntry();
      if (entry === null) throw new Error('the kernel traced no entry into the guest');
      return { toEntry: (entry - startedAt) * 1000, toUserland: (userland - entry) * 1000 };
    }
    if (monotonic() - startedAt > PATIENCE_SECONDS) throw new Error(`no userland after ${PATIENCE_SECONDS} s. ${why()}`);
    await sleep(LOOK_MS);
  }
}

/** Notes when the words come, in whatever pieces. */
class Listener {
  text = '';
  at: number | null = null;
  hear(more: string): void {
    this.text += more;
    if (this.at === null && this.text.includes(WORDS)) this.at = monotonic();
  }
}

async function ours(boot: BenchMachine['boot'], display: BenchMachine['display']): Promise<Times> {
  watchEntry();
  const machine = await startMachineProcess({ boot, memory: MEMORY_MIB * 2 ** 20, cpus: 1, display });
  try {
    const listener = new Listener();
    const append = (data: string): void => listener.hear(Buffer.from(data, 'base64').toString('latin1'));
    machine.connection.client.stream('serial', ({ data }) => append(data), append, () => {});
    return await watch(machine.startedAt, () => listener.at, () => listener.text);
  } finally {
    await machine.end();
  }
}

async function kvmtool(path: string, boot: BenchMachine['boot']): Promise<Times> {
  watchEntry();
  const listener = new Listener();
  const args = ['run', '--nodefaults', '-k', boot.kernel, '-i', boot.initrd!, '-p', `${KVMTOOL_APPEND} ${boot.append}`, '-m', `${MEMORY_MIB}M`, '-c', '1', '--console', 'serial', '-n', 'mode=none'];
  const startedAt = monotonic();
  const child = spawn(path, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, HOME: '/tmp' } });
  const gone = new Promise((done) => child.once('close', done));
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('latin1').on('data', (text: string) => listener.hear(text));
  try {
    return await watch(startedAt, () => listener.at, () => listener.text);
  } finally {
    child.kill('SIGKILL');
    await gone;
  }
}

async function here(rounds: number, kvmtoolPath: string | undefined): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-bench-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const cpio = new Cpio();
  cpio.folder('dev');
  cpio.device('dev/console', 5, 1);
  cpio.file('init', readFileSync(compileStandalone(fileURLToPath(new URL('./boot/init.c', import.meta.url)))), 0o755);
  const initrd = join(folder, 'initrd');
  writeFileSync(initrd, cpio.end());
  const boot = { kernel: built('try-linux/vmlinuz'), initrd, append: APPEND };

  const who: [string, () => Promise<Times>][] = [
    ...(kvmtoolPath === undefined ? [] : [['kvmtool', () => kvmtool(kvmtoolPath, boot)] as [string, () => Promise<Times>]]),
    ['ours, no display', () => ours(boot, { kind: 'none' })],
    ['ours, 1280x800', () => ours(boot, { kind: 'canvas', width: 1280, height: 800 })],
  ];
  const times = who.map((): Times[] => []);
  for (let round = -1; round < rounds; round++) {
    // The first brings files into the caches.
    for (const [index, [name, run]] of who.entries()) {
      const one = await run();
      console.error(`· ${round < 0 ? 'warm-up' : `round ${round + 1}`}, ${name}: ${one.toEntry.toFixed(0)} + ${one.toUserland.toFixed(0)} ms`);
      if (round >= 0) times[index]!.push(one);
    }
  }
  console.log(machineFacts());
  const entries = times.map((list) => list.map(({ toEntry }) => toEntry));
  const userlands = times.map((list) => list.map(({ toUserland }) => toUserland));
  const ratio = (index: number): string => (kvmtoolPath === undefined ? '-' : median(userlands[index]!.map((value, round) => value / userlands[0]![round]!)).toFixed(2));
  printTable(
    ['milliseconds', 'process to first entry', 'first entry to userland', 'middle half', 'ratio to kvmtool'],
    who.map(([name], index) => [name, median(entries[index]!).toFixed(0), median(userlands[index]!).toFixed(0), spread(userlands[index]!), ratio(index)]),
  );
  if (kvmtoolPath === undefined) console.log('kvmtool was left out: give the path of its lkvm with --kvmtool PATH.');
  console.log(`Debian's 6.1 with "${APPEND}" and a first process of a few instructions, 1 vCPU, ${MEMORY_MIB} MiB; medians of ${rounds} by turns. Goal: ratio 1.00 at most.`);
}

const { values } = parseArgs({ options: { kvmtool: { type: 'string' }, rounds: { type: 'string', default: '5' }, here: { type: 'boolean', default: false } } });
const given = values.kvmtool === undefined ? undefined : resolve(values.kvmtool);
if (values.here) await here(Number(values.rounds), given);
else {
  const shares = given === undefined ? [] : [{ path: dirname(given), writable: false, mode: 'cached' as const }];
  await inLab(fileURLToPath(import.meta.url), ['--here', '--rounds', values.rounds, ...(given === undefined ? [] : ['--kvmtool', given])], { shares });
}
process.exit();
