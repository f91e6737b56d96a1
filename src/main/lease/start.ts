// Starting the privileged helper: by pkexec, which asks the user through polkit; directly where we are root already. What pkexec answers
// when it does not start it (pkexec(1)): 126, the question was dismissed; 127, permission was refused or nobody could be asked.
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { VitrineError } from '../../shared/errors.ts';
import { HELPER, helperState, installCommands, shellWord } from './installed.ts';

/**
 * `lease` lives as long as its input, `granted MACHINE` too, without a password; `apply` does a plan and keeps it; `release` gives back what is
 * kept. The others end by themselves (native/lease/main.c).
 */
export type Way = 'lease' | 'granted' | 'apply' | 'release' | 'list' | 'functions' | 'reserve' | 'unreserve' | 'grant' | 'revoke' | 'grants' | 'install' | 'remove';

export interface Starter {
  start: (way: Way, words?: string[]) => ChildProcessWithoutNullStreams;
  /** Whether exit codes 126 and 127 are pkexec's. */
  asks: boolean;
}

const DISMISSED = 126;
const NOT_STARTED = 127;

/** What a terminal can do in place of pkexec: a plan for `apply`, or a device to release. */
export function sudoCommand(way: Way, lines: string[] = [], words: string[] = []): string {
  const plan = way === 'lease' || way === 'granted' || way === 'apply';
  const helper = `sudo ${HELPER} ${plan ? 'apply' : way}`;
  if (plan) return lines.length === 0 ? helper : `printf '%s\\n' ${lines.map(shellWord).join(' ')} | ${helper}`;
  return [helper, ...words].join(' ');
}

function findProgram(name: string): string | undefined {
  return ['/usr/bin', '/bin', '/usr/local/bin'].map((folder) => join(folder, name)).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Where pkexec is; undefined when it is not installed. */
export function pkexecPath(): string | undefined {
  return findProgram('pkexec');
}

/**
 * How the helper is started here. Throws codes "helper-missing", "helper-untrusted", "helper-outdated", "lease-no-pkexec".
 * @param onTerminal pkexec may ask on the terminal itself, where it has no other way
 * @param lines the plan, for the command that is said where pkexec is missing
 */
export function systemStarter(attempted: string, { onTerminal = false, lines = [], way = 'lease', words = [] }: { onTerminal?: boolean; lines?: string[]; way?: Way; words?: string[] } = {}): Starter {
  const { state, why } = helperState();
  if (state !== 'installed') {
    throw new VitrineError({ attempted, on: '', why: `Vitrine's privileged helper cannot be used: ${why}.`, remedy: `These commands install it:\n  ${installCommands().join('\n  ')}`, code: `helper-${state}` });
  }
  return starterOf(HELPER, attempted, sudoCommand(way, lines, words), onTerminal);
}

/**
 * How the program is started as root here: directly, or by pkexec, which asks. Throws code "lease-no-pkexec".
 * @param command the same by sudo
 */
export function starterOf(program: string, attempted: string, command: string, onTerminal: boolean): Starter {
  if (process.geteuid?.() === 0) return { asks: false, start: (way, words = []) => spawn(program, [way, ...words], { cwd: '/', stdio: 'pipe' }) };
  const pkexec = findProgram('pkexec');
  if (pkexec === undefined) {
    throw new VitrineError({ attempted, on: '', why: 'this needs an administrator\'s permission, and pkexec, which asks for it, is not installed.', remedy: `In a terminal: ${command}`, code: 'lease-no-pkexec' });
  }
  const options = onTerminal ? [] : ['--disable-internal-agent'];
  // pkexec refuses to start anything for somebody whose SHELL is not in /etc/shells; the helper has no use for it.
  const { SHELL: _, ...env } = process.env;
  return { asks: true, start: (way, words = []) => spawn(pkexec, [...options, program, way, ...words], { cwd: '/', stdio: 'pipe', env }) };
}

/** Whether the helper is installed and permission for it can be had, or at least be asked for. */
export function canAsk(): boolean {
  return helperState().state === 'installed' && (process.geteuid?.() === 0 || findProgram('pkexec') !== undefined);
}

/** Why a helper that said nothing ended, from its exit code and what it (or pkexec) wrote to standard error. */
export function notStarted(attempted: string, { asks }: Starter, exit: number | null, stderr: string, remedyCommand: string): VitrineError {
  const remedy = `In a terminal: ${remedyCommand}`;
  const problem = { attempted, on: '' };
  if (asks && exit === DISMISSED) return new VitrineError({ ...problem, why: 'the question for permission was dismissed.', remedy: '', code: 'lease-dismissed' });
  if (asks && exit === NOT_STARTED) {
    const denied = /not authorized/i.test(stderr) && !/no authentication agent/i.test(stderr);
    return denied
      ? new VitrineError({ ...problem, why: 'permission was refused.', remedy: `An administrator of this computer can do it. ${remedy}`, code: 'lease-denied' })
      : new VitrineError({ ...problem, why: 'there is nobody here whom polkit could ask for permission (no authentication agent runs).', remedy, code: 'lease-no-agent' });
  }
  const said = stderr.trim();
  return new VitrineError({ ...problem, why: `the helper ended at once (exit code ${exit ?? 'none'})${said === '' ? '.' : `: ${said}`}`, remedy: '', code: 'lease-failed' });
}
