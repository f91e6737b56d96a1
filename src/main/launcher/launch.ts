// Starting a machine once, whoever asks: the machine process takes the lock on its folder, and the one that does not get it goes away
// again. The process is detached, in a session of its own, so that it outlives the window and the terminal; its output is the
// machine's log. A start is done when the machine's socket answers, or when the process is gone and has said why.
import { spawn } from 'node:child_process';
import { closeSync, fstatSync, openSync, readSync, renameSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Problem } from '../../shared/errors.ts';
import { VitrineError } from '../../shared/errors.ts';
import type { MachineConfig } from '../../shared/machine-config.ts';
import type { Backend, MachineState } from '../../shared/protocol/machine.ts';
import type { Progress } from '../../shared/protocol/wire.ts';
import { beginRun, EXIT_ALREADY_RUNNING, isHeld, lastOutcome, LOG_FILE, readRunInfo } from '../../vmm/server/run-record.ts';
import { socketPathOf } from '../../vmm/server/runtime-folder.ts';
import { entryPath, nodeRuntime } from '../install.ts';
import type { MachineConnection } from '../machine-connection.ts';
import { connectMachine } from '../machine-connection.ts';
import type { BackendChoice } from './backend.ts';
import { kernelKind } from './backend.ts';
import { cleanEnvironment } from './environment.ts';
import { lockedBytes } from '../lease/pinned.ts';
import { checkDeviceFiles } from './device-files.ts';
import type { Tether } from './tether.ts';
import { tethered, tetherOf } from './tether.ts';
import { LEASE_DESCRIPTOR, leaseFor, spawnHolding } from './host-lease.ts';

/** How often a start looks whether the machine answers, in milliseconds. */
const LOOK = 10;
/** A log longer than this begins anew at the next start; the old one stays beside it as machine.log.1. */
const MAX_LOG = 4 * 2 ** 20;
/** How much of a log's end is shown or read. */
const LOG_TAIL = 256 * 1024;
const SHOWN_LINES = 8;

export interface StartOptions {
  /** The machine's folder. */
  folder: string;
  config: MachineConfig;
  choice: BackendChoice;
  env?: NodeJS.ProcessEnv;
  progress?: (progress: Progress) => void;
  /** Gives up waiting; the machine goes on starting. */
  signal?: AbortSignal;
  /** With this the machine ends when this process does, however that comes; told before the machine can do anything. */
  onTether?: (tether: Tether) => void;
  /** How its host devices are leased; for tests. */
  lease?: Parameters<typeof leaseFor>[1];
  /** The file to run instead of the machine process's or the relay's; for tests. */
  entry?: string;
}

/** The end of the machine's log: at most 256 KiB; empty when there is none. */
export function readLogTail(folder: string): string {
  const path = join(folder, LOG_FILE);
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw new VitrineError({ attempted: 'read the machine\'s log', on: path, why: `${(thrown as Error).message}.`, remedy: '', code: 'log-unreadable' }, { cause: thrown });
  }
  try {
    const bytes = Buffer.alloc(LOG_TAIL);
    const start = Math.max(0, statSync(path).size - LOG_TAIL);
    return bytes.subarray(0, readSync(fd, bytes, 0, LOG_TAIL, start)).toString('utf8');
  } finally {
    closeSync(fd);
  }
}

/** The last line written to the log after its first `from` bytes: the relay says there what it is doing. Empty when there is none. */
function logLine(folder: string, from: number): string {
  const tail = Buffer.from(readLogTail(folder));
  const { size } = statSync(join(folder, LOG_FILE));
  const fresh = tail.subarray(Math.max(0, tail.length - (size - from))).toString('utf8').trimEnd();
  return fresh.split('\n').at(-1) ?? '';
}

/** The log, open for a machine process to write to. */
function openLog(folder: string): number {
  const path = join(folder, LOG_FILE);
  try {
    if (statSync(path).size > MAX_LOG) renameSync(path, `${path}.1`);
  } catch {
    // There is none yet.
  }
  return openSync(path, 'a', 0o600);
}

/** Where a machine with this configuration runs. Throws a VitrineError when its files cannot be opened. */
export function backendOf(config: MachineConfig, { backend }: BackendChoice): Backend {
  return backend[kernelKind(config)];
}

/** The line for people about where this machine will run: why in the lab, or that it was asked for; empty when there is nothing to say. */
export function whyThere(config: MachineConfig, choice: BackendChoice): string {
  try {
    return choice.forced || backendOf(config, choice) === 'lab' ? choice.why : '';
  } catch {
    // Its kernel cannot be opened: the start says so.
    return '';
  }
}

/** Where the machine's socket may be: as its run noted it (its runtime folder may not be ours), and as we would place it. */
export function machineSockets(folder: string, id: string, env: NodeJS.ProcessEnv = process.env): string[] {
  const noted = readRunInfo(folder)?.socket ?? '';
  return [...new Set([noted, socketPathOf(id, env)])].filter((path) => path !== '');
}

/** Connects to the machine that runs in `folder`; null when it does not run or does not answer yet. */
export async function connectRunning(folder: string, id: string, env: NodeJS.ProcessEnv = process.env): Promise<MachineConnection | null> {
  if (!isHeld(folder)) return null;
  for (const path of machineSockets(folder, id, env)) {
    try {
      return await connectMachine(path);
    } catch {
      // Not yet, or no longer.
    }
  }
  return null;
}

/** Waits for the machine's first word about itself. Rejects when the connection is lost before. */
export async function firstState(connection: MachineConnection): Promise<MachineState> {
  return new Promise((resolve, reject) => {
    const end = connection.client.watch('machine', (state) => {
      end();
      resolve(state);
    }, (problem) => reject(new VitrineError(problem)));
  });
}

function endedEarly(folder: string, name: string, exit: string): Problem {
  const tail = readLogTail(folder).trimEnd().split('\n').slice(-SHOWN_LINES).join('\n');
  return {
    attempted: 'start the machine',
    on: name,
    why: `its process ended (${exit}) before it answered.${tail === '' ? '' : ` Its log ends with:\n${tail}`}`,
    remedy: '',
    code: 'machine-ended-early',
  };
}

/** Notes a start that failed before the process could say why, as it would have: every front shows it. */
async function recordFailure(folder: string, problem: Problem): Promise<void> {
  try {
    const run = await beginRun(folder, '', { patience: 0, askedAt: Infinity });
    run.writeOutcome({ endedAt: Date.now(), how: 'failed', problem });
    run.release();
  } catch {
    // It runs after all, or its folder cannot be written to: the caller is told anyway.
  }
}

/** Does a part of the start that comes before the process; notes its failure. */
async function failing<T>(folder: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    if (thrown instanceof VitrineError) await recordFailure(folder, thrown.problem);
    throw thrown;
  }
}

/** What setup is to be asked for when one of its own machines lacks a file. */
function withRemedy(config: MachineConfig, problem: Problem): Problem {
  if (config.origin !== 'builtin' || !problem.code.endsWith('-missing')) return problem;
  return { ...problem, remedy: 'Set-up makes this file: quit, and run npm start again.' };
}

/**
 * Starts the machine and resolves when its socket answers, or when it has run and ended already. A machine that runs is left alone.
 * Rejects with the problem of the machine's own outcome when it could not start.
 */
export async function startMachine(options: StartOptions): Promise<void> {
  const { folder, config, choice, env = process.env, progress = () => {}, signal } = options;
  if (await answersIn(folder, config.id, env)) return;
  const entry = options.entry ?? (await entryFor(config, choice, folder));
  const socket = socketPathOf(config.id, env);
  const inLab = entry === entryPath('relay');
  await failing(folder, async () => checkDeviceFiles(config.devices, { attempted: 'start the machine', ...(inLab ? { lab: dirname(folder) } : {}) }));
  const lease = inLab ? null : await failing(folder, () => leaseFor(config, options.lease));
  progress({ done: 0, text: inLab ? 'Starting the machine in the lab' : 'Starting the machine' });

  const node = nodeRuntime();
  const startedAt = Date.now();
  const log = openLog(folder);
  const logBegan = fstatSync(log).size;
  const whatItDoes = () => (inLab && logLine(folder, logBegan)) || (inLab ? 'Starting the machine in the lab' : 'Starting the machine');
  const bound = options.onTether !== undefined;
  const command = (...more: string[]) => {
    const plain = [node.path, '--disable-warning=ExperimentalWarning', entry, '--folder', folder, '--socket', socket, ...more];
    return bound ? tethered(plain) : plain;
  };
  const settings = { cwd: folder, env: { ...cleanEnvironment(env), ...node.env }, detached: true };
  const held = lease === null ? null : spawnHolding(lease, command('--lease', String(LEASE_DESCRIPTOR)), log, settings, bound ? ['pipe'] : []);
  const [program, ...words] = command();
  const child = held?.child ?? spawn(program, words, { ...settings, stdio: ['ignore', log, log, ...(bound ? (['ignore', 'ignore', 'pipe'] as const) : [])] });
  if (bound) options.onTether?.(tetherOf(child));
  closeSync(log);
  let exit: string | null = null;
  let alreadyRunning = false;
  child.on('error', (error) => (exit = error.message));
  child.on('exit', (code, killer) => {
    alreadyRunning = code === EXIT_ALREADY_RUNNING;
    exit = killer ?? `code ${code}`;
  });
  child.unref();
  if (lease !== null) {
    try {
      await failing(folder, () => lease.memlock(child.pid!, lockedBytes(config)));
      held!.go();
    } catch (thrown) {
      child.kill('SIGKILL');
      throw thrown;
    } finally {
      lease.release(); // the machine's process has it now
    }
  }

  let lastText = 0;
  for (;;) {
    if (await answersIn(folder, config.id, env)) return;
    if (exit !== null && !(alreadyRunning && isHeld(folder))) break;
    if (signal?.aborted === true) throw signal.reason;
    // A start in the lab may take many seconds: how many is better than nothing.
    const seconds = Math.floor((Date.now() - startedAt) / 1000);
    if (seconds > lastText) {
      lastText = seconds;
      progress({ done: seconds, text: `${whatItDoes()} (${seconds} s)` });
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK));
  }
  // The exit may be another starter's loser; what counts is how the machine itself ended.
  const outcome = lastOutcome(folder);
  if (outcome === null || outcome.endedAt < startedAt || outcome.how === 'killed') {
    const problem = endedEarly(folder, config.name, exit);
    await recordFailure(folder, problem);
    throw new VitrineError(problem);
  }
  if (outcome.how === 'failed' && outcome.problem !== undefined) throw new VitrineError(outcome.problem);
}

async function answersIn(folder: string, id: string, env: NodeJS.ProcessEnv): Promise<boolean> {
  const connection = await connectRunning(folder, id, env);
  if (connection === null) return false;
  try {
    await firstState(connection);
    return true;
  } catch {
    return false;
  } finally {
    connection.close();
  }
}

async function entryFor(config: MachineConfig, choice: BackendChoice, folder: string): Promise<string> {
  try {
    return entryPath(backendOf(config, choice) === 'lab' ? 'relay' : 'machine');
  } catch (thrown) {
    if (!(thrown instanceof VitrineError)) throw thrown;
    const problem = withRemedy(config, thrown.problem);
    await recordFailure(folder, problem);
    throw new VitrineError(problem, { cause: thrown });
  }
}
