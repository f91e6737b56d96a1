// What our side of an exit adds: one vCPU, one guest, driven by turns by a loop in C (KVM_RUN and a switch), by the same loop in JavaScript,
// and by Vitrine's vCPU loop with every device of a machine on its buses. On this host's /dev/kvm, then in the lab.
// Run: scripts/node24 bench/exit-cost.ts [here | lab]
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { buildExitMachine } from './exit-cost/machine.ts';
import type { ExitSamples, ExitWorkerData } from './exit-cost/worker.ts';
import { compileLibrary } from './support/native.ts';
import { machineFacts, median, printTable, quantile, spread } from './support/report.ts';
import { inLab } from './support/lab.ts';

const GOAL_NANOSECONDS = 300;
const EXITS = 1024;
const ROUNDS = 151;
const WARM_UP = 20;
const QUIET = 0.1;

async function measure(): Promise<ExitSamples[]> {
  const { description, fd, registerAddress } = buildExitMachine();
  const library = compileLibrary(fileURLToPath(new URL('./exit-cost/exit-loop.c', import.meta.url)));
  const workerData: ExitWorkerData = { description, fd, registerAddress, library, exits: EXITS, rounds: ROUNDS, warmUp: WARM_UP };
  const worker = new Worker(new URL('./exit-cost/worker.ts', import.meta.url), { workerData });
  const samples: ExitSamples[] = [];
  worker.on('message', (one: ExitSamples) => samples.push(one));
  await once(worker, 'exit');
  return samples;
}

async function here(): Promise<void> {
  const goalRatio = process.env['VITRINE_IN_LAB'] === '1' ? 1.25 : 1.05;
  const before = machineFacts();
  const samples = await measure();
  const rows = samples.map(({ name, c, koffi, ours }) => {
    const added = ours.map((value, round) => value - c[round]!);
    const ratio = median(ours.map((value, round) => value / c[round]!));
    const quiet = quantile(ours, QUIET) - quantile(c, QUIET);
    return [name, median(c).toFixed(0), median(koffi).toFixed(0), median(ours).toFixed(0), median(added).toFixed(0), spread(added), ratio.toFixed(3), quiet.toFixed(0), (1 + quiet / quantile(c, QUIET)).toFixed(3)];
  });
  console.log(before);
  printTable(['ns an exit', 'loop in C', 'koffi alone', 'ours', 'added', 'middle half', 'ratio', 'quiet: added', 'ratio'], rows);
  console.log(`${EXITS} exits a run, medians of ${ROUNDS} rounds of each by turns. Quiet: the difference of the tenth percentiles, for a machine that\n`
    + `others use too. Goal: at most ${GOAL_NANOSECONDS} ns added, ratio ${goalRatio}.`);
}

const where = process.argv[2];
if (where !== 'lab') {
  if (existsSync('/dev/kvm')) await here();
  else console.log('Here: left out, this host has no /dev/kvm.');
}
if (where !== 'here') {
  console.log('');
  await inLab(fileURLToPath(import.meta.url), ['here']);
}
process.exit();
