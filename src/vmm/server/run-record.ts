// What a machine's run leaves in its folder, so that every front can tell how it stands without asking:
//   machine.lock   held by flock while the machine runs; its text says who runs it, where its socket is and since when
//   outcome.json   how the last run ended; taken away when a run begins. A run without an outcome whose lock is free was killed.
import { ftruncateSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import type { Problem } from '../../shared/errors.ts';
import { VitrineError } from '../../shared/errors.ts';
import type { Outcome } from '../../shared/protocol/machine.ts';
import { outcomeSchema } from '../../shared/protocol/machine.ts';
import { writeFileAtomic } from './atomic-file.ts';
import type { Lock } from './lock.ts';
import { isLocked, tryLock } from './lock.ts';

export const LOCK_FILE = 'machine.lock';
export const OUTCOME_FILE = 'outcome.json';
export const LOG_FILE = 'machine.log';
export const CONFIG_FILE = 'machine.json';

/** How long a machine process waits for the lock before it takes the machine to be running: writers hold it for milliseconds. */
const LOCK_PATIENCE = 2000;
/** What a machine process exits with when the machine runs already: no failure of that machine. */
export const EXIT_ALREADY_RUNNING = 75;

const runInfo = v.object({
  pid: v.number(),
  socket: v.string(),
  /** Milliseconds since 1970. */
  startedAt: v.number(),
  /** The kernel's boot id: tells a killed process from a computer that went down. */
  boot: v.string(),
});
export type RunInfo = v.InferOutput<typeof runInfo>;

/** A new id at each start of the computer (proc(5)). */
function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return '';
  }
}

/** A machine's run: the lock is held until the process ends or `release` is called. */
export interface Run {
  /** Says how the run ended. The last word counts; call it before `release`. */
  writeOutcome(outcome: Outcome): void;
  release(): void;
}

export interface BeginOptions {
  /** Milliseconds to wait for the lock. */
  patience?: number;
  /**
   * When the start was asked for, milliseconds since 1970; the process's own beginning if not given. A run that another process began
   * later is the one that was asked for, also if it is over: several starts at once make one run, never one after the other. In the
   * lab, where the clock is another one and the relay on the host has noted the run already, that question was answered there.
   */
  askedAt?: number;
}

/**
 * Begins a run: takes the lock of the machine in `folder`, notes who runs it, and takes the outcome of the last run away.
 * Throws a VitrineError with code "already-running" when another process has it; the caller then exits with EXIT_ALREADY_RUNNING.
 */
export async function beginRun(folder: string, socket: string, options: BeginOptions = {}): Promise<Run> {
  const ownBeginning = process.env.VITRINE_IN_LAB === '1' ? Infinity : Date.now() - process.uptime() * 1000;
  const { patience = LOCK_PATIENCE, askedAt = ownBeginning } = options;
  const deadline = Date.now() + patience;
  const begunByAnother = () => {
    const info = readRunInfo(folder);
    return info !== null && info.pid !== process.pid && info.startedAt >= askedAt;
  };
  let lock: Lock | null = null;
  while (lock === null) {
    if (begunByAnother()) throw alreadyRunning(folder);
    lock = tryLock(join(folder, LOCK_FILE));
    if (lock !== null) break;
    if (Date.now() >= deadline) throw alreadyRunning(folder);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  if (begunByAnother()) {
    lock.release();
    throw alreadyRunning(folder);
  }
  const held = lock;
  const info: RunInfo = { pid: process.pid, socket, startedAt: Date.now(), boot: bootId() };
  ftruncateSync(held.fd, 0);
  writeSync(held.fd, JSON.stringify(info));
  rmSync(join(folder, OUTCOME_FILE), { force: true });
  return {
    writeOutcome: (outcome) => writeFileAtomic(join(folder, OUTCOME_FILE), `${JSON.stringify(outcome, null, 2)}\n`),
    release: () => held.release(),
  };
}

/** What people call the machine: its file's name for it, or the folder where the file cannot be read. */
function nameOf(folder: string): string {
  return readJson(join(folder, CONFIG_FILE), v.object({ name: v.string() }))?.name ?? folder;
}

function alreadyRunning(folder: string): VitrineError {
  return new VitrineError({ attempted: 'start the machine', on: nameOf(folder), why: 'it runs already.', remedy: '', code: 'already-running' });
}

function readJson<S extends v.GenericSchema>(path: string, schema: S): v.InferOutput<S> | null {
  try {
    const parsed = v.safeParse(schema, JSON.parse(readFileSync(path, 'utf8')));
    return parsed.success ? parsed.output : null;
  } catch {
    return null;
  }
}

/** Who runs the machine, or ran it last; null when it never ran, or for the moment between the lock and the note. */
export function readRunInfo(folder: string): RunInfo | null {
  return readJson(join(folder, LOCK_FILE), runInfo);
}

/** Whether a process holds the machine at this moment: the machine itself, or for some milliseconds whoever writes its file. */
export function isHeld(folder: string): boolean {
  return isLocked(join(folder, LOCK_FILE));
}

function killedBy(folder: string, info: RunInfo): Problem {
  const restarted = info.boot !== '' && info.boot !== bootId();
  return {
    attempted: 'keep the machine running',
    on: nameOf(folder),
    why: restarted ? 'the computer went down or was restarted while the machine ran.' : `its process (${info.pid}) ended without a word: it was killed, or it crashed.`,
    remedy: restarted ? 'Start it again.' : `The log may say more: ${join(folder, LOG_FILE)}. Start it again.`,
    code: restarted ? 'computer-restarted' : 'process-killed',
  };
}

/** When a run that left no word was last heard of: its log's last line, or its beginning. Milliseconds since 1970. */
function lastHeardOf(folder: string, info: RunInfo): number {
  try {
    return Math.max(info.startedAt, Math.round(statSync(join(folder, LOG_FILE)).mtimeMs));
  } catch {
    return info.startedAt;
  }
}

/** How the last run of a machine ended; null when it never ran. Only meaningful while nobody holds the machine. */
export function lastOutcome(folder: string): Outcome | null {
  const outcome = readJson(join(folder, OUTCOME_FILE), outcomeSchema);
  if (outcome !== null) return outcome;
  const info = readRunInfo(folder);
  return info === null ? null : { endedAt: lastHeardOf(folder, info), how: 'killed', problem: killedBy(folder, info) };
}
