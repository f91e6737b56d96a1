// The machine process: `machine --folder FOLDER --socket PATH [--backend lab] [--lease DESCRIPTOR]`. One machine, from its file to its outcome; it outlives whoever started it.
// Standard error is the machine's log file. Exit codes: 0 the machine ran and ended, 1 it failed, 2 wrong usage, 75 it runs already.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import * as v from 'valibot';
import { sentence, toProblem, VitrineError } from '../../shared/errors.ts';
import { machineConfig, type MachineConfig } from '../../shared/machine-config.ts';
import { beginRun, CONFIG_FILE, EXIT_ALREADY_RUNNING, type Run } from '../server/run-record.ts';
import { serveMachine } from '../server/serve.ts';
import { closeInherited } from './inherited.ts';
import { Machine } from './machine.ts';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
/** From a failure that nobody caught to the end of the process, whatever keeps it; milliseconds. */
const LAST_RESORT = 30_000;

function readConfig(folder: string): MachineConfig {
  const path = join(folder, CONFIG_FILE);
  const refuse = (why: string): never => {
    throw new VitrineError({ attempted: 'start the machine', on: path, why, remedy: 'The file is left as it is; mend it or restore a copy.', code: 'config-damaged' });
  };
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (thrown) {
    return refuse(`its file cannot be read (${(thrown as Error).message}).`);
  }
  const parsed = v.safeParse(machineConfig, json);
  return parsed.success ? parsed.output : refuse(`its file is damaged: ${parsed.issues[0].message}`);
}

/**
 * Has the machine end with words when something throws where nobody catches. Node's own way would hang: it waits for threads that are in the guest.
 */
function failOnUncaught(machine: Machine, run: Run, folder: string): void {
  let failed = false;
  process.on('uncaughtException', (thrown) => {
    machine.fail(thrown);
    if (failed) return;
    failed = true;
    setTimeout(() => {
      try {
        run.writeOutcome({ endedAt: Date.now(), how: 'failed', problem: toProblem(thrown, 'keep the machine running', folder) });
      } finally {
        process.kill(process.pid, 'SIGKILL');
      }
    }, LAST_RESORT);
  });
}

async function runMachine(run: Run, folder: string, socket: string, lab: boolean): Promise<number> {
  try {
    const machine = new Machine({ config: readConfig(folder), backend: lab ? 'lab' : 'kvm', log: (text) => process.stderr.write(`${text}\n`) });
    failOnUncaught(machine, run, folder);
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => void machine.forceOff());
    const server = await serveMachine({ socketPath: socket, machine });
    await machine.start();
    const outcome = await machine.ended;
    run.writeOutcome(outcome);
    await server.close();
    // The process cannot exit while a thread of it does not end; its lock and descriptors go with it however it goes.
    if (machine.threadsLeft > 0) process.kill(process.pid, 'SIGKILL');
    return outcome.how === 'failed' ? EXIT_FAILED : 0;
  } catch (thrown) {
    const problem = toProblem(thrown, 'start the machine', folder);
    process.stderr.write(`${sentence(problem)}\n`);
    run.writeOutcome({ endedAt: Date.now(), how: 'failed', problem });
    return EXIT_FAILED;
  }
}

async function main(): Promise<number> {
  process.stderr.on('error', () => {}); // nobody reads the log any more
  const { values } = parseArgs({ options: { folder: { type: 'string' }, socket: { type: 'string' }, backend: { type: 'string' }, lease: { type: 'string' } } });
  // The lease of its host devices (docs/passthrough-lease.md) is held by having the descriptor open until the end.
  closeInherited(values.lease === undefined ? [] : [Number(values.lease)]);
  if (values.folder === undefined || values.socket === undefined) {
    process.stderr.write('usage: machine --folder FOLDER --socket PATH [--backend lab]\n');
    return EXIT_USAGE;
  }
  let run: Run;
  try {
    run = await beginRun(values.folder, values.socket);
  } catch (thrown) {
    const problem = toProblem(thrown, 'start the machine', values.folder);
    process.stderr.write(`${sentence(problem)}\n`);
    return problem.code === 'already-running' ? EXIT_ALREADY_RUNNING : EXIT_FAILED;
  }
  const code = await runMachine(run, values.folder, values.socket, values.backend === 'lab');
  run.release();
  return code;
}

main().then(
  (code) => process.exit(code),
  (thrown: unknown) => {
    process.stderr.write(`${thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)}\n`);
    process.exit(EXIT_FAILED);
  },
);
