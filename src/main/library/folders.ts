// Where the library lies: $XDG_DATA_HOME/vitrine/machines/ID/ (XDG Base Directory Specification), one for all shells.
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/** An id is the folder's name, and part of addresses: lower-case letters, digits and dashes. */
const ID = /^[a-z0-9][a-z0-9-]{0,62}$/;
const MAX_ID = 63;

export function isMachineId(text: string): boolean {
  return ID.test(text);
}

/** The folder that holds a folder for each machine. Relative values of XDG_DATA_HOME count as unset, as the specification says. */
export function libraryFolder(env: NodeJS.ProcessEnv = process.env): string {
  const data = env.XDG_DATA_HOME !== undefined && isAbsolute(env.XDG_DATA_HOME) ? env.XDG_DATA_HOME : join(homedir(), '.local/share');
  return join(data, 'vitrine/machines');
}

/** An id like the name: "Debian 12 (test)" becomes "debian-12-test". Never empty. */
export function idFromName(name: string): string {
  const plain = name.normalize('NFKD').replaceAll(/\p{M}/gu, '').toLowerCase().replaceAll(/[^a-z0-9]+/g, '-').replaceAll(/^-+|-+$/g, '');
  return plain.slice(0, MAX_ID - 8).replace(/-+$/, '') || 'machine';
}
