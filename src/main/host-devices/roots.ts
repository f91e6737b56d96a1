// Where the facts about a host are read: the pseudo file systems and a few folders, injected so that a written tree can stand in for a
// computer. Every reader is forgiving: hardware and drivers come and go while they are read, a file may be missing, unreadable or hold
// nonsense, and each of these means "not known", never an exception.
import { accessSync, constants, readdirSync, readFileSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';

export interface HostRoots {
  sys: string;
  proc: string;
  dev: string;
  etc: string;
  boot: string;
  run: string;
  /** Holds modules/RELEASE. */
  lib: string;
  /** Holds vitrine/state, what the privileged helper has written down (src/main/lease/lasting.ts). */
  varLib: string;
  /** Where pci.ids may lie, the best first. */
  pciIds: string[];
  /** The home directory of whoever asks. */
  home: string;
  /** Whether whoever asks may read and write the file. */
  mayUse: (path: string) => boolean;
  /** Addresses of a network interface, for people. */
  addresses: (name: string) => string[];
  /** Whether whoever asks sits before a graphical session of this computer. */
  desktop: boolean;
}

function mayUse(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** What a written host says beside its files: host.json in its folder. */
interface WrittenFacts {
  home: string;
  desktop: boolean;
  /** Paths in it that whoever asks may not use. */
  forbidden: string[];
  addresses: Record<string, string[]>;
}

/** A host that lies in a folder, as files: for tests, of pages too. */
export function treeRoots(folder: string): HostRoots {
  const facts: WrittenFacts = { home: '/home', desktop: false, forbidden: [], addresses: {}, ...(JSON.parse(text(folder, 'host.json') ?? '{}') as Partial<WrittenFacts>) };
  const at = (path: string) => join(folder, path);
  return {
    sys: at('sys'), proc: at('proc'), dev: at('dev'), etc: at('etc'), boot: at('boot'), run: at('run'), lib: at('lib'), varLib: at('var/lib'), pciIds: [at('pci.ids')],
    home: facts.home,
    desktop: facts.desktop,
    // A helper that plays in the tree gives a node by its mode, and takes it back.
    mayUse: (path) => !facts.forbidden.includes(path.slice(folder.length)) || ((statSync(path, { throwIfNoEntry: false })?.mode ?? 0) & 0o200) !== 0,
    addresses: (name) => facts.addresses[name] ?? [],
  };
}

/** Names a folder with a written host (treeRoots) in the place of this computer. It only changes what is shown. */
export const TREE_VARIABLE = 'VITRINE_HOST_TREE';

/** The places of the computer that this process runs on. */
export function realRoots(env: NodeJS.ProcessEnv = process.env): HostRoots {
  const tree = env[TREE_VARIABLE] ?? '';
  if (tree !== '') return treeRoots(tree);
  return {
    sys: '/sys', proc: '/proc', dev: '/dev', etc: '/etc', boot: '/boot', run: '/run', lib: '/lib', varLib: '/var/lib',
    // The distributions' package, then what update-pciids fetches.
    pciIds: ['/var/lib/pciutils/pci.ids', '/usr/share/hwdata/pci.ids', '/usr/share/misc/pci.ids', '/usr/share/pci.ids', '/usr/share/misc/pci.ids.gz'],
    home: env.HOME ?? '/root',
    mayUse,
    addresses: (name) => (networkInterfaces()[name] ?? []).filter(({ internal, scopeid }) => !internal && (scopeid ?? 0) === 0).map(({ address }) => address),
    desktop: (env.WAYLAND_DISPLAY ?? '') !== '' || (/^:\d/.test(env.DISPLAY ?? '')),
  };
}

/** The file's text without white space at its ends; undefined when it cannot be read. */
export function text(...path: string[]): string | undefined {
  try {
    return readFileSync(join(...path), 'utf8').trim();
  } catch {
    return undefined;
  }
}

export function bytes(...path: string[]): Uint8Array | undefined {
  try {
    return readFileSync(join(...path));
  } catch {
    return undefined;
  }
}

/** The file's lines; none when it cannot be read. */
export function lines(...path: string[]): string[] {
  const content = text(...path);
  return content === undefined || content === '' ? [] : content.split('\n');
}

/** The names in a folder, sorted; none when it cannot be read. */
export function names(...path: string[]): string[] {
  try {
    return readdirSync(join(...path)).sort();
  } catch {
    return [];
  }
}

/** Where a symbolic link points, as it is written. */
export function link(...path: string[]): string | undefined {
  try {
    return readlinkSync(join(...path));
  } catch {
    return undefined;
  }
}

/** The last part of where a symbolic link points: the name of a driver, a group, a subsystem. */
export function linkName(...path: string[]): string | undefined {
  const name = link(...path)?.split('/').at(-1);
  return name === '' ? undefined : name;
}

/** The path with every symbolic link followed. */
export function real(...path: string[]): string | undefined {
  try {
    return realpathSync(join(...path));
  } catch {
    return undefined;
  }
}

/** A whole number, decimal or with 0x; undefined for anything else. */
export function whole(content: string | undefined): number | undefined {
  if (content === undefined || !/^-?(0x[0-9a-f]{1,13}|\d{1,15})$/i.test(content)) return undefined;
  return Number(content);
}

/** A file that holds a whole number. */
export function number(...path: string[]): number | undefined {
  return whole(text(...path));
}

/** Hexadecimal digits as sysfs writes them ("0x10de"), padded; undefined for anything else. */
export function hex(digits: number, ...path: string[]): string | undefined {
  const match = /^(?:0x)?([0-9a-f]+)$/i.exec(text(...path) ?? '');
  return match === null || match[1].length > digits ? undefined : match[1].toLowerCase().padStart(digits, '0');
}
