// The privileged helper as it is installed: where, whether it can be trusted, and the exact commands that install and remove it.
//
// pkexec runs as root whatever it is told to. So the app starts only a helper that nobody but root can have put there or can change, at
// the path that the polkit policy names; the one that was built from the sources belongs to the user, and is started as root once, to install
// itself (changes.ts), when the person asks for that and says their password to polkit. The same by hand: commands that are printed.
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { buildFolders, topFolder } from '../install.ts';

export const HELPER = '/usr/local/libexec/vitrine-helper';
export const POLICY = '/usr/share/polkit-1/actions/org.vitrine.helper.policy';

/** The files that belong there, of this version. Undefined where they were not built. */
export interface HelperSource {
  helper: string | undefined;
  policy: string;
}

export function helperSource(): HelperSource {
  const helper = buildFolders().map((folder) => join(folder, 'native/vitrine-helper')).find((path) => existsSync(path));
  return { helper, policy: join(topFolder(), 'native/lease/org.vitrine.helper.policy') };
}

/**
 * Why the file at `path` may not be started as root, or '' if it may: it and every folder above it must be root's, with nobody else
 * allowed to write, and none may be a link.
 * @param owner root; tests have files of their own
 */
export function whyNotTrusted(path: string, owner = 0, top = '/'): string {
  for (let at = path; ; at = dirname(at)) {
    let found;
    try {
      found = lstatSync(at);
    } catch {
      return `${at} is not there`;
    }
    if (found.isSymbolicLink()) return `${at} is a link`;
    if (at === path && (!found.isFile() || (found.mode & 0o100) === 0)) return `${at} is no program`;
    if (at === path && (found.mode & 0o6000) !== 0) return `${at} is setuid`;
    if (found.uid !== owner) return `${at} does not belong to root`;
    // In a sticky folder only a file's owner can replace it.
    const sticky = found.isDirectory() && (found.mode & 0o1000) !== 0;
    if ((found.mode & 0o022) !== 0 && !sticky) return `${at} can be changed by others than root`;
    if (at === top) return '';
  }
}

const digest = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

export interface HelperState {
  /** 'installed', or why it cannot be started. */
  state: 'installed' | 'missing' | 'untrusted' | 'outdated';
  /** In words; empty when all is well. */
  why: string;
  /** Whether polkit has a question of its own for it. */
  policy: boolean;
}

export function helperState(source = helperSource(), helper = HELPER, policyPath = POLICY, trusted = whyNotTrusted): HelperState {
  const policy = existsSync(policyPath);
  if (!existsSync(helper)) return { state: 'missing', why: `${helper} is not there`, policy };
  const why = trusted(helper);
  if (why !== '') return { state: 'untrusted', why, policy };
  if (source.helper !== undefined && digest(source.helper) !== digest(helper)) return { state: 'outdated', why: `${helper} is of another version`, policy };
  return { state: 'installed', why: '', policy };
}

/** A word for a POSIX shell. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll('\'', '\'\\\'\'')}'`;
}

/** What installs helper and policy, a command a line. `install` replaces a file whole, so one that runs is not disturbed. */
export function installCommands(source = helperSource()): string[] {
  return [
    `sudo install -D -o root -g root -m 0755 ${shellWord(source.helper ?? 'build/native/vitrine-helper')} ${HELPER}`,
    `sudo install -D -o root -g root -m 0644 ${shellWord(source.policy)} ${POLICY}`,
  ];
}

/** What gives everything back and removes helper and policy. */
export function removeCommands(): string[] {
  return [`sudo ${HELPER} remove`];
}
