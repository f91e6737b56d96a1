// Reading machine.json without ever losing it: what cannot be understood is reported with words and left as it is. A file of a newer
// version is not damaged, but it is not guessed at either. Older versions are migrated when they exist; version 1 is the first.
import { readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import * as v from 'valibot';
import type { Problem } from '../../shared/errors.ts';
import type { MachineConfig } from '../../shared/machine-config.ts';
import { CONFIG_VERSION, machineConfig } from '../../shared/machine-config.ts';
import { issuesText } from '../../shared/protocol/wire.ts';
import { CONFIG_FILE } from '../../vmm/server/run-record.ts';

/** A machine's file is a few hundred bytes; what is far bigger is something else. */
const MAX_FILE = 2 ** 20;

export interface Damage {
  path: string;
  problem: Problem;
}

/** A machine as its folder says: a configuration, with the file's own text as it was parsed, or what is wrong with it. */
export type ReadMachine = { config: MachineConfig; raw: Record<string, unknown> } | { damaged: Damage };

function damaged(path: string, why: string, code = 'machine-file-damaged', remedy = ''): ReadMachine {
  const kept = remedy === '' ? 'The file was kept as it is. Mend it, or restore it from a copy; the machine appears as soon as it can be read.' : remedy;
  return { damaged: { path, problem: { attempted: 'read the machine\'s file', on: path, why, remedy: kept, code } } };
}

function whyUnreadable(error: NodeJS.ErrnoException): string {
  if (error.code === 'ENOENT') return 'it is not there.';
  if (error.code === 'EACCES' || error.code === 'EPERM') return 'it may not be read by this user.';
  if (error.code === 'EISDIR') return 'a folder has its name.';
  return `${error.message}.`;
}

/** Reads `folder`/machine.json. Never throws and changes nothing. */
export function readMachine(folder: string): ReadMachine {
  const path = join(folder, CONFIG_FILE);
  let text: string;
  try {
    if (statSync(path).size > MAX_FILE) return damaged(path, 'it is far too big for a machine\'s file.');
    text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(path));
  } catch (thrown) {
    return damaged(path, thrown instanceof TypeError ? 'it is not text.' : whyUnreadable(thrown as NodeJS.ErrnoException));
  }
  if (text.trim() === '') return damaged(path, 'it is empty.');
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch (thrown) {
    return damaged(path, `it is not JSON (${(thrown as Error).message}).`);
  }
  const version = (raw as { version?: unknown } | null)?.version;
  if (typeof version === 'number' && version > CONFIG_VERSION) {
    return damaged(path, `it is of version ${version}; this Vitrine knows versions up to ${CONFIG_VERSION}.`, 'machine-file-newer', 'Use the newer Vitrine that wrote it. The file was kept as it is.');
  }
  const checked = v.safeParse(machineConfig, raw);
  if (!checked.success) return damaged(path, issuesText(checked.issues));
  const id = basename(folder);
  if (checked.output.id !== id) return damaged(path, `it says that it is the machine "${checked.output.id}", and lies in the folder of "${id}".`);
  return { config: checked.output, raw: raw as Record<string, unknown> };
}
