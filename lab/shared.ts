// Lab mode: one emulated host per user and library, shared by all processes of the user.
//
// A keeper process (lab/keeper.ts) starts it and writes where it is to `lab-KEY.json` in the user's runtime folder, mode 0600, with the
// token. Everyone who needs the lab holds a connection to its agent; when the last is gone, however its process ended, the agent
// powers off and the keeper takes the file away. Two keepers cannot be: each takes an abstract Unix socket's name first, which the
// kernel frees when its holder dies.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { VitrineError } from '../src/shared/errors.ts';
import { holdLab } from './client.ts';
import type { LabEndpoint } from './client.ts';
import { runtimeFolder } from '../src/vmm/server/runtime-folder.ts';
import { LabHost, ownNode } from './host.ts';
import { LAB_DEVICES } from './options.ts';
import type { LabOptions } from './options.ts';

/** What a keeper exits with when another one is at work. */
export const EXIT_ANOTHER_KEEPER = 3;
/** Preparing may download 200 MB before the lab boots. */
const PATIENCE_MILLISECONDS = 600_000;
const LOOK_MILLISECONDS = 50;
const GIB = 2 ** 30;
const MOST_MEMORY = 8 * GIB;

export interface SharedLabOptions {
  /** The library's folder, $XDG_DATA_HOME/vitrine: writable in the lab, at the same path. It is made if it is missing. */
  library: string;
  /** The lab's Node; default the one that runs here. */
  node?: LabOptions['node'];
  /** Hears what a start that takes long is doing. */
  log?: (line: string) => void;
}

/** What the keeper is told, as JSON on its command line. */
export interface KeeperConfig {
  key: string;
  lab: LabOptions;
}

/** Where the lab of this key says how to reach it. */
export function endpointFile(key: string): string {
  return path.join(runtimeFolder(), `lab-${key}.json`);
}

export function keeperLog(key: string): string {
  return path.join(runtimeFolder(), `lab-${key}.log`);
}

function readEndpoint(key: string): LabEndpoint | undefined {
  try {
    return JSON.parse(fs.readFileSync(endpointFile(key), 'utf8')) as LabEndpoint;
  } catch {
    return undefined;
  }
}

/** A hold on the running lab, or undefined if none answers. */
async function joinRunning(key: string): Promise<LabHost | undefined> {
  const endpoint = readEndpoint(key);
  if (endpoint === undefined) return undefined;
  try {
    const hold = await holdLab(endpoint);
    const ended = new Promise<string>((resolve) => hold.once('close', () => resolve('')));
    return new LabHost(endpoint, hold, ended, async () => {});
  } catch {
    return undefined; // it is going, or its keeper was killed: a new one comes
  }
}

function keeperEntry(): string {
  const here = new URL(import.meta.url);
  return fileURLToPath(here.pathname.endsWith('.ts') ? new URL('./keeper.ts', here) : new URL('./lab-keeper.js', here));
}

/**
 * The user's shared lab, started if it does not run. `release()` or `stop()` lets go of it, and so does this process's end.
 * @throws VitrineError with what the keeper said
 */
export async function ensureLab({ library, node = ownNode(), log = () => {} }: SharedLabOptions): Promise<LabHost> {
  fs.mkdirSync(library, { recursive: true });
  const folder = fs.realpathSync(library);
  const key = createHash('sha256').update(folder).digest('hex').slice(0, 8);
  const config: KeeperConfig = {
    key,
    lab: {
      node,
      memory: Math.min(MOST_MEMORY, Math.max(GIB, Math.floor(os.totalmem() / 2 / GIB) * GIB)),
      shares: [{ path: folder }],
      // what machines in the lab can be given
      iommu: 'intel',
      devices: [...LAB_DEVICES],
      driversLater: true
    }
  };
  const deadline = Date.now() + PATIENCE_MILLISECONDS;
  let keeper: { exit: number | undefined } | undefined;
  while (Date.now() < deadline) {
    const lab = await joinRunning(key);
    if (lab !== undefined) return lab;
    if (keeper === undefined || keeper.exit === 0 || keeper.exit === EXIT_ANOTHER_KEEPER) {
      if (keeper === undefined) log('Starting the emulated host');
      keeper = startKeeper(config, keeper === undefined);
    } else if (keeper.exit !== undefined) {
      const words = readLog(key);
      throw new VitrineError({ attempted: 'start the lab', on: '', why: words === '' ? `its keeper ended with exit code ${keeper.exit}.` : words, remedy: '', code: 'lab-start' });
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MILLISECONDS));
  }
  throw new VitrineError({ attempted: 'start the lab', on: '', why: `it was not up after ${PATIENCE_MILLISECONDS / 60_000} minutes.`, remedy: `See ${keeperLog(key)}.`, code: 'lab-start' });
}

function readLog(key: string): string {
  try {
    return fs.readFileSync(keeperLog(key), 'utf8').trim().slice(-4000);
  } catch {
    return '';
  }
}

/** Starts a keeper that outlives this process. One that comes while another works ends at once, so trying again is cheap but slow: 1 s. */
function startKeeper(config: KeeperConfig, first: boolean): { exit: number | undefined } {
  const state: { exit: number | undefined } = { exit: undefined };
  const node = ownNode();
  const start = (): void => {
    // only a keeper that gets the name truncates the log
    const log = fs.openSync(keeperLog(config.key), 'a', 0o600);
    const child = spawn(node.path, ['--disable-warning=ExperimentalWarning', keeperEntry(), JSON.stringify(config)], {
      cwd: '/', detached: true, env: { ...process.env, ...node.env }, stdio: ['ignore', log, log]
    });
    fs.closeSync(log);
    child.on('error', () => (state.exit = 1));
    child.on('exit', (code) => (state.exit = code ?? 1));
    child.unref();
  };
  if (first) start();
  else setTimeout(start, 1000);
  return state;
}
