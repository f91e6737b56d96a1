// The memory of a machine process beyond its guest's: PSS of everything less the guest's RAM and video memory, which are the mappings that
// are kept out of core dumps. The process is the built app's, the guest the demo in 64 MiB, its picture on a viewer, then its loop halted.
// With 1 and 4 vCPUs, each in a Worker of its own.
// Run: scripts/node24 bench/memory.ts
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { built, running, startMachineProcess, view } from './support/machine-process.ts';
import { machineFacts, median, printTable } from './support/report.ts';

const ROUNDS = 3;
const CPUS = [1, 4];
const SETTLE_MS = 5000;
const MiB = 2 ** 20;
const GOAL_BASE = 60;
const GOAL_WORKER = 16;

/** Of all mappings of a process, in MiB. */
interface Usage {
  /** Without the guest's memory. */
  own: number;
  guest: number;
  /** Of `own`: what no other process can share. */
  anonymous: number;
  /** Resident, as if no other process had any of it. */
  alone: number;
}

function usage(pid: number): Usage {
  const sum: Usage = { own: 0, guest: 0, anonymous: 0, alone: 0 };
  // A mapping's lines end with its flags (proc(5)).
  for (const mapping of readFileSync(`/proc/${pid}/smaps`, 'latin1').split(/(?<=^VmFlags:.*\n)/m)) {
    const field = (name: string): number => Number(new RegExp(`^${name}: +(\\d+) kB`, 'm').exec(mapping)?.[1] ?? 0) / 1024;
    const flags = /^VmFlags:(.*)$/m.exec(mapping)?.[1] ?? '';
    if (/\bdd\b/.test(flags)) {
      sum.guest += field('Pss');
      continue;
    }
    sum.own += field('Pss');
    sum.anonymous += field('Anonymous');
    sum.alone += field('Rss');
  }
  return sum;
}

async function measure(cpus: number): Promise<Usage> {
  const machine = await startMachineProcess({ boot: { kernel: built('guests/demo.elf'), append: 'idle' }, memory: 64 * MiB, cpus });
  try {
    await running(machine);
    await view(machine, () => {});
    await sleep(SETTLE_MS);
    return usage(machine.pid);
  } finally {
    await machine.end();
  }
}

console.log(machineFacts());
const samples = new Map<number, Usage[]>(CPUS.map((cpus) => [cpus, []]));
for (let round = 0; round < ROUNDS; round++) for (const cpus of CPUS) samples.get(cpus)!.push(await measure(cpus));
const of = (cpus: number, name: keyof Usage): number => median(samples.get(cpus)!.map((one) => one[name]));
const rows = CPUS.map((cpus) => [`${cpus}`, ...(['own', 'anonymous', 'alone', 'guest'] as const).map((name) => of(cpus, name).toFixed(1)), `${GOAL_BASE + GOAL_WORKER * cpus}`]);
printTable(['vCPUs', 'PSS, MiB', 'of it anonymous', 'alone (RSS)', "the guest's", 'goal (PSS)'], rows);
const worker = (of(4, 'own') - of(1, 'own')) / 3;
console.log(`A Worker: ${worker.toFixed(1)} MiB (goal ${GOAL_WORKER}); the rest of the process: ${(of(1, 'own') - worker).toFixed(1)} MiB (goal ${GOAL_BASE}). Medians of ${ROUNDS}.`);
console.log('"Alone" counts the pages of the Node binary fully; in PSS they are divided among all processes that run it.');
process.exit();
