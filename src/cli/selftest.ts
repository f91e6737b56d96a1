// `vitrine doctor --selftest`: what the findings mean in practice. Every freestanding guest of build/guests is run, then Linux is booted
// to its prompt, each where the launcher would run it, and a report says what happened and how long it took.
// A guest passes when it ends with isa-debug-exit's value 0 or powers off; one that draws for ever passes when its picture changes.
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { toProblem, sentence } from '../shared/errors.ts';
import type { NewMachine } from '../shared/protocol/front.ts';
import type { Outcome } from '../shared/protocol/machine.ts';
import { writeFileAtomic } from '../vmm/server/atomic-file.ts';
import { buildFolders } from '../main/install.ts';
import { chooseBackend } from '../main/launcher/backend.ts';
import type { BackendChoice } from '../main/launcher/backend.ts';
import { builtinImages } from '../main/library/builtin.ts';
import type { Report } from './doctor.ts';
import { inWords } from './doctor.ts';
import type { Output } from './machines.ts';
import { startEphemeral } from './run.ts';

const MiB = 2 ** 20;
/** How long a guest may take before its picture is looked at, and in all, in milliseconds. */
const DRAWING_AFTER = 1500;
const GUEST_PATIENCE = 60_000;
const LINUX_PATIENCE = 300_000;
/** A shell's prompt at the beginning of a line; the kernel may have written something behind it already. */
const PROMPT = /(?:^|\n)\S*[#$] /;
/** isa-debug-exit: value 0, as a process would exit with it. */
const PASSED = 1;

export interface Trial {
  name: string;
  passed: boolean;
  /** "kvm" or "lab", where it ran; empty when it did not come so far. */
  on: string;
  milliseconds: number;
  said: string;
}

type Verdict = Pick<Trial, 'passed' | 'said'>;
type Ephemeral = Awaited<ReturnType<typeof startEphemeral>>;

function verdictOf(outcome: Outcome): Verdict {
  if (outcome.how === 'debug-exit') return { passed: outcome.exitCode === PASSED, said: `ended itself with ${outcome.exitCode}` };
  if (outcome.problem !== undefined) return { passed: false, said: sentence(outcome.problem) };
  return { passed: outcome.how === 'powered-off', said: outcome.how };
}

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Whether the guest's picture changes within a while. */
async function draws(machine: Ephemeral): Promise<boolean> {
  const { client } = machine.connection!;
  try {
    const first = (await client.call('screenshot', {})).png;
    for (let turn = 0; turn < 20; turn++) {
      await pause(100);
      if ((await client.call('screenshot', {})).png !== first) return true;
    }
  } catch {
    // It ended meanwhile, or has no picture: its end says more.
  }
  return false;
}

/** Runs one machine to its verdict. `watch` decides while it runs; its own end decides before that. */
async function trial(name: string, machine: NewMachine, choice: BackendChoice, patience: number, watch: (running: Ephemeral, serial: () => string) => Promise<Verdict | null>): Promise<Trial> {
  const began = Date.now();
  let on = '';
  const done = (verdict: Verdict): Trial => ({ name, on, milliseconds: Date.now() - began, ...verdict });
  try {
    const running = await startEphemeral({ machine, terminal: 'serial', choice: { ...choice, why: '' } }, () => {});
    let text = '';
    const { connection } = running;
    if (connection !== null) {
      const add = (data: string) => (text = (text + Buffer.from(data, 'base64').toString('latin1')).slice(-65536));
      connection.client.stream('serial', ({ data }) => add(data), add, () => {});
      connection.client.watch('machine', ({ backend }) => (on = backend), () => {});
    }
    const ended = running.ended();
    const late = pause(patience).then((): Verdict => ({ passed: false, said: `nothing decisive within ${patience / 1000} s; it wrote last: ${JSON.stringify(text.slice(-200))}` }));
    const watched = connection === null ? new Promise<never>(() => {}) : watch(running, () => text).then((verdict) => verdict ?? new Promise<never>(() => {}));
    const verdict = await Promise.race([ended.then(({ outcome }) => verdictOf(outcome)), watched, late]);
    await connection?.client.call('forceOff', {}).catch(() => {});
    await ended;
    return done(verdict);
  } catch (thrown) {
    return done({ passed: false, said: sentence(toProblem(thrown, 'run the machine', name)) });
  }
}

/** A guest of the tests alone: it wants devices beside it, and to be told when to begin. */
const NOT_ALONE = 'barfire.elf';

/** Files of build/guests that show by themselves how they fare, wherever that folder lies. */
function guests(): string[] {
  const folder = buildFolders().map((build) => join(build, 'guests')).find((path) => existsSync(path));
  return folder === undefined ? [] : readdirSync(folder).filter((name) => name.endsWith('.elf') && name !== NOT_ALONE).sort().map((name) => join(folder, name));
}

export async function tryAll(output: Output): Promise<Trial[]> {
  const choice = await chooseBackend();
  const trials: Trial[] = [];
  const note = (result: Trial) => {
    trials.push(result);
    output.err(`${result.passed ? '✓' : '✗'} ${result.name}${result.on === '' ? '' : ` (${result.on})`}, ${(result.milliseconds / 1000).toFixed(1)} s: ${result.said}\n`);
  };
  for (const kernel of guests()) {
    const machine: NewMachine = {
      name: `Selftest ${basename(kernel)}`, memory: 64 * MiB, cpus: 1, boot: { kernel }, onReset: 'stop', testDevices: true, display: { kind: 'canvas' },
    };
    note(await trial(basename(kernel), machine, choice, GUEST_PATIENCE, async (running) => {
      await pause(DRAWING_AFTER);
      return (await draws(running)) ? { passed: true, said: 'draws moving pictures' } : null;
    }));
  }
  const { kernel, initrd } = builtinImages().tryLinux;
  const machine: NewMachine = { name: 'Selftest Linux', memory: 256 * MiB, cpus: 1, boot: { kernel, initrd, append: 'console=tty0 console=ttyS0' }, onReset: 'stop', display: { kind: 'canvas' } };
  note(await trial('Linux', machine, choice, LINUX_PATIENCE, async (_running, serial) => {
    while (!PROMPT.test(serial())) await pause(50);
    return { passed: true, said: 'booted to its prompt' };
  }));
  return trials;
}

/** $XDG_STATE_HOME/vitrine/selftest.txt (XDG Base Directory Specification). */
export function defaultReportPath(env: NodeJS.ProcessEnv = process.env): string {
  const state = env.XDG_STATE_HOME !== undefined && isAbsolute(env.XDG_STATE_HOME) ? env.XDG_STATE_HOME : join(homedir(), '.local/state');
  return join(state, 'vitrine/selftest.txt');
}

/** Writes the report to read and, beside it with .json added, the one for programs. */
export function writeReport(path: string, report: Report, trials: Trial[]): void {
  const lines = trials.map(({ name, passed, on, milliseconds, said }) => `${passed ? 'passed' : 'FAILED'}  ${name}${on === '' ? '' : ` (${on})`}, ${(milliseconds / 1000).toFixed(1)} s: ${said}`);
  const failed = trials.filter(({ passed }) => !passed).length;
  mkdirSync(dirname(path), { recursive: true });
  writeFileAtomic(path, `${new Date().toISOString()}\n${inWords(report)}\nSelftest\n${lines.join('\n')}\n${trials.length - failed} passed, ${failed} failed\n`, 0o644);
  writeFileAtomic(`${path}.json`, `${JSON.stringify({ at: new Date().toISOString(), ...report, trials }, null, 2)}\n`, 0o644);
}
