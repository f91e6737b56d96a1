// Metadata operations on a shared folder: Linux in our guest, in QEMU's and, with a build of it (--kvmtool PATH), in kvmtool's, each with a virtio-9p
// device over the same folder of the lab; one after the other, by turns.
// Run: scripts/node24 bench/ninep.ts [--rounds N] [--kvmtool PATH]
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { labPaths } from '../scripts/setup/lab.mjs';
import { loading } from '../lab/tests/support/guest-tools.ts';
import { addModules } from '../lab/tests/support/modules.ts';
import { compileWork, kvmtoolsWith, measureScript, MODULES, oursWith, qemusWith, type Guest, type Plan } from './ninep/guests.ts';
import { inLab } from './support/lab.ts';
import { built } from './support/machine-process.ts';
import { machineFacts, median, printTable, spread } from './support/report.ts';

const GOAL = 0.9;
const FILES = 50;
/** Of the tree that is walked: folders, and files in each. */
const TREE = [10, 20] as const;
/** In one guest; the first brings what it needs into caches, and the emulator's translations, and does not count. */
const REPEATS = 3;
const PATIENCE = 240_000;
const STEPS = { create: 'create', stat: 'lstat', write: 'open, write 4 KiB, close', read: 'open, read 4 KiB, close', rename: 'rename', unlink: 'unlink', walk: 'walk a tree and lstat, an entry' } as const;
type Step = keyof typeof STEPS;
const steps = Object.keys(STEPS) as Step[];

/** Microseconds of each operation: the median of the repeats. */
function timesOf(said: string): Record<Step, number> {
  const all = (step: Step): number[] => [...said.matchAll(new RegExp(`^${step} (\\d+)\\r?$`, 'gm'))].map(([, nanoseconds]) => Number(nanoseconds) / 1000).slice(1);
  return Object.fromEntries(steps.map((step) => [step, median(all(step))])) as Record<Step, number>;
}

async function here(rounds: number, kvmtool: string | undefined): Promise<void> {
  const own = mkdtempSync(join(tmpdir(), 'vitrine-bench-'));
  process.once('exit', () => rmSync(own, { recursive: true, force: true }));
  const folder = join(own, 'share');
  mkdirSync(join(folder, 'made'), { recursive: true });
  for (let i = 0; i < TREE[0]; i++) {
    mkdirSync(join(folder, `tree/folder-${i}`), { recursive: true });
    for (let j = 0; j < TREE[1]; j++) writeFileSync(join(folder, `tree/folder-${i}/file-${j}`), 'some words\n');
  }
  const { kernels: { '6.1': kernel }, qemu } = labPaths();
  const load = loading(kernel!.modules);
  const initrd = join(own, 'initrd.gz');
  const script = measureScript(MODULES.map((name) => load(name)).join('\n'), FILES, REPEATS);
  addModules(built('try-linux/initrd.gz'), kernel!.modules, MODULES, initrd, { work: compileWork(), measure: Buffer.from(script) });
  const plan: Plan = { initrd, patience: PATIENCE, folder };
  const who: [string, () => Promise<Guest>][] = [
    ['ours', () => oursWith(plan)],
    ...(qemu === undefined ? [] : [['QEMU', () => qemusWith(qemu, plan)] as [string, () => Promise<Guest>]]),
    ...(kvmtool === undefined ? [] : [['kvmtool', () => kvmtoolsWith(kvmtool, plan)] as [string, () => Promise<Guest>]]),
  ];
  console.log(machineFacts());
  const results = who.map((): Record<Step, number>[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [index, [name, start]] of who.entries()) {
      const guest = await start();
      try {
        const times = timesOf(await guest.measure());
        results[index]!.push(times);
        console.error(`· round ${round + 1}, ${name}: ${steps.map((step) => `${step} ${times[step].toFixed(0)}`).join(', ')} µs`);
      } finally {
        await guest.end();
      }
    }
  }
  const of = (index: number, step: Step): number[] => results[index]!.map((times) => times[step]);
  console.log('');
  printTable(['µs an operation', ...who.map(([name]) => name), 'middle half of ours', `better one / ours (goal ${GOAL})`], steps.map((step) => {
    const ratios = results[0]!.map((times, round) => Math.min(...who.slice(1).map((_, other) => results[other + 1]![round]![step])) / times[step]);
    return [STEPS[step], ...who.map((_, index) => median(of(index, step)).toFixed(0)), spread(of(0, step)), who.length > 1 ? median(ratios).toFixed(2) : '-'];
  }));
  console.log(`\n${FILES} files; a tree of ${TREE[0]} folders with ${TREE[1]} files each; medians of ${rounds} rounds by turns, each the median of ${REPEATS - 1} repeats in one guest.`);
  if (kvmtool === undefined) console.log('kvmtool was left out: give the path of its lkvm with --kvmtool PATH.');
}

const { values } = parseArgs({ options: { kvmtool: { type: 'string' }, rounds: { type: 'string', default: '3' }, here: { type: 'boolean', default: false } } });
const given = values.kvmtool === undefined ? undefined : resolve(values.kvmtool);
if (values.here) await here(Number(values.rounds), given);
else {
  const shares = given === undefined ? [] : [{ path: dirname(given), writable: false, mode: 'cached' as const }];
  await inLab(fileURLToPath(import.meta.url), ['--here', '--rounds', values.rounds, ...(given === undefined ? [] : ['--kvmtool', given])], { shares });
}
process.exit();
