// Where the host is whose devices are given away, and how its privileged helper is started: this computer, or a written host of tests
// (VITRINE_HOST_TREE). A written host has no other helper than the program that VITRINE_TREE_HELPER names: the helper's test build, which
// changes files of that folder alone. It is started directly, never by pkexec or sudo, and not at all by root: so the variable lets
// nobody do what they could not do anyway.
import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { VitrineError } from '../../shared/errors.ts';
import type { Leases } from '../../shared/passthrough.ts';
import { TREE_VARIABLE, treeRoots } from '../host-devices/roots.ts';
import type { LeaseHostFiles } from '../launcher/host-lease.ts';
import { HELPER, helperState, installCommands, removeCommands } from '../lease/installed.ts';
import type { Starter } from '../lease/start.ts';
import { pkexecPath } from '../lease/start.ts';

export const TREE_HELPER_VARIABLE = 'VITRINE_TREE_HELPER';

export interface HostPlace {
  sys: string;
  dev: string;
  run: string;
  proc: string;
  /** Holds vitrine/state: what the helper was told that lasts. */
  lib: string;
  /** How the helper is started; undefined as this system does it (src/main/lease/start.ts). */
  starter?: Starter;
  helper: () => Leases['helper'];
  /** Nothing asks for permission, since whoever runs this is root. */
  root: boolean;
  /** What the launcher looks at before it leases; undefined for this computer's own. */
  files?: () => LeaseHostFiles;
}

function mayRun(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function written(tree: string, program: string): HostPlace {
  const at = (name: string) => join(tree, name);
  const root = process.geteuid?.() === 0;
  const unable = program === '' ? 'this is a written host without one' : root ? 'a written host\'s is not started by root' : !isAbsolute(program) || !mayRun(program) ? `${program} is not there` : '';
  const whyNot = () => unable || (existsSync(at(HELPER)) ? '' : `${HELPER} is not there`);
  const starter: Starter = {
    asks: true,
    start: (way, words = []) => {
      const why = way === 'install' ? unable : whyNot();
      if (why !== '') throw new VitrineError({ attempted: 'start the privileged helper', on: tree, why: `it cannot be used: ${why}.`, remedy: '', code: 'helper-missing' });
      return spawn(program, [way, ...words], { cwd: '/', stdio: 'pipe', env: { VITRINE_TEST_ROOT: tree, PATH: '/usr/bin:/bin' } });
    },
  };
  return {
    sys: at('sys'), dev: at('dev'), run: at('run'), proc: at('proc'), lib: at('var/lib'), starter, root: false,
    helper: () => ({ state: whyNot() === '' ? 'installed' : 'missing', why: whyNot(), canAsk: unable === '', install: installCommands(), remove: removeCommands() }),
    files: () => ({ sys: at('sys'), dev: at('dev'), lib: at('var/lib'), proc: at('proc'), limits: readFileSync(at('proc/self/limits'), 'latin1'), mayUse: treeRoots(tree).mayUse }),
  };
}

/** The host that this environment means. */
export function hostPlace(env: NodeJS.ProcessEnv): HostPlace {
  const tree = env[TREE_VARIABLE] ?? '';
  if (tree !== '') return written(tree, env[TREE_HELPER_VARIABLE] ?? '');
  return {
    sys: '/sys', dev: '/dev', run: '/run', proc: '/proc', lib: '/var/lib',
    root: process.geteuid?.() === 0,
    helper: () => {
      const { state, why, policy } = helperState();
      return { state, why, canAsk: policy && pkexecPath() !== undefined, install: installCommands(), remove: removeCommands() };
    },
  };
}

/** For the launcher (`startMachine`): undefined on this computer. */
export function leaseOn({ starter, files }: HostPlace): { starter?: Starter; files: LeaseHostFiles } | undefined {
  return files === undefined ? undefined : { starter, files: files() };
}
