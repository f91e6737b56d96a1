// How things are said: states, endings, sizes, times. Plain words, sentence case, no exclamation marks.
import type { LibraryEntry } from '../../shared/protocol/front.ts';
import type { Outcome } from '../../shared/protocol/machine.ts';

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const TiB = 2 ** 40;

export const stateWords = {
  off: 'Off',
  starting: 'Starting',
  running: 'Running',
  paused: 'Paused',
  stopping: 'Shutting down',
  failed: 'Failed',
  damaged: 'File damaged',
} as const;

export type ShownState = keyof typeof stateWords;

/** Its name; a machine whose file cannot be read has only its id. */
export function nameOf(entry: LibraryEntry): string {
  return entry.config?.name ?? entry.id;
}

/** A damaged file counts as a state of its own: there is nothing to start. */
export function shownState(entry: LibraryEntry): ShownState {
  return entry.config === undefined ? 'damaged' : entry.state;
}

/** "512 MiB", "2 GiB", "1.5 GiB". */
export function memoryWords(bytes: number): string {
  if (bytes >= TiB && bytes % (TiB / 4) === 0) return `${bytes / TiB} TiB`;
  if (bytes >= GiB && bytes % (GiB / 4) === 0) return `${bytes / GiB} GiB`;
  return `${Math.round(bytes / MiB)} MiB`;
}

/** "1 CPU", "4 CPUs". */
export function cpuWords(cpus: number): string {
  return cpus === 1 ? '1 CPU' : `${cpus} CPUs`;
}

/** The line under a machine's name. */
export function specWords(entry: LibraryEntry): string {
  const { config } = entry;
  return config === undefined ? '' : `${cpuWords(config.cpus)}, ${memoryWords(config.memory)}`;
}

/** Reasons are written to follow a colon; where one stands alone it begins like a sentence. */
export function asSentence(why: string): string {
  // A path or a technical word at the beginning stays as it is written.
  return /^\p{Ll}+[\s,]/u.test(why) ? why[0].toLocaleUpperCase() + why.slice(1) : why;
}

/** How a machine ended, as a sentence. */
export function outcomeWords(outcome: Outcome): string {
  switch (outcome.how) {
    case 'powered-off': return 'The guest powered off.';
    case 'reset': return 'The guest reset itself, and this machine stops then.';
    case 'halted': return 'Every CPU of the guest halted for good.';
    case 'debug-exit': return `The guest ended the machine with exit code ${outcome.exitCode ?? 0}.`;
    case 'forced': return 'It was forced off.';
    case 'killed': return 'The machine’s process was killed.';
    case 'failed': return outcome.problem === undefined ? 'It failed.' : asSentence(outcome.problem.why);
  }
}

/** Why a failed machine failed, in one sentence for its glass. */
export function failureWords(entry: LibraryEntry): string {
  const problem = entry.problem ?? entry.lastOutcome?.problem;
  if (problem !== undefined) return `Cannot ${problem.attempted}: ${problem.why}`;
  return entry.lastOutcome === undefined ? 'It ended, and did not say why.' : outcomeWords(entry.lastOutcome);
}

/** "14:05:09", local time. */
export function clockWords(at: number): string {
  return new Date(at).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
}

/** "1280 × 800, scaled to 69 %". */
export function screenWords(width: number, height: number, scale: number): string {
  const percent = Math.round(scale * 100);
  return `${width} × ${height}${percent === 100 ? '' : `, scaled to ${percent} %`}`;
}
