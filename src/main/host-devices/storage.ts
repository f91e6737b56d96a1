// What of the computer lies on which storage device: mounted file systems, swap, open volumes. From a mount to the hardware goes through
// partitions, device mapper (LVM, LUKS), md, bcache, loop files and NVMe subsystems as sysfs shows them; btrfs by its own folder; ZFS by
// what udev found on the partitions. Left out: network file systems, and mounts of other mount namespaces.
import { basename, dirname, join } from 'node:path';
import type { Use } from '../../shared/host-devices.ts';
import { listed, ownerOf } from './owner.ts';
import type { HostRoots } from './roots.ts';
import { lines, linkName, names, real, text } from './roots.ts';

interface Mount {
  /** "259:3", or "0:35" where the file system has no device of its own. */
  device: string;
  point: string;
  type: string;
  source: string;
}

/** proc_pid_mountinfo(5): spaces and the like are written in octal. */
function unescape(word: string): string {
  return word.replaceAll(/\\([0-7]{3})/g, (_all, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

export function readMounts(roots: HostRoots): Mount[] {
  return lines(roots.proc, 'self/mountinfo').flatMap((line) => {
    const [before, after] = line.split(' - ');
    const device = before.split(' ')[2];
    const point = before.split(' ')[4];
    const [type, source] = (after ?? '').split(' ');
    return device === undefined || point === undefined || type === undefined ? [] : [{ device, point: unescape(point), type, source: unescape(source ?? '') }];
  });
}

/** The name in /sys/class/block of a path such as /dev/mapper/root. */
function blockOf(roots: HostRoots, path: string): string | undefined {
  if (!path.startsWith('/dev/')) return undefined;
  const resolved = real(roots.dev, path.slice('/dev/'.length));
  const name = basename(resolved ?? path);
  return real(roots.sys, 'class/block', name) === undefined ? undefined : name;
}

/** The mount that a path lies under. */
function mountOf(mounts: readonly Mount[], path: string): Mount | undefined {
  const holds = (point: string) => point === '/' || path === point || path.startsWith(`${point}/`);
  return mounts.filter(({ point }) => holds(point)).reduce<Mount | undefined>((best, mount) => (best === undefined || mount.point.length >= best.point.length ? mount : best), undefined);
}

export class Storage {
  readonly #roots: HostRoots;
  readonly #mounts: Mount[];
  readonly #owners = new Map<string, Set<string>>();

  constructor(roots: HostRoots) {
    this.#roots = roots;
    this.#mounts = readMounts(roots);
  }

  /** The PCI functions that a block device's data comes through. */
  #ownersOf(name: string): Set<string> {
    const known = this.#owners.get(name);
    if (known !== undefined) return known;
    const found = new Set<string>();
    // Before its parts are looked at: a circle ends here.
    this.#owners.set(name, found);
    const { sys } = this.#roots;
    const path = real(sys, 'class/block', name);
    if (path === undefined) return found;
    const add = (owner: string | undefined) => owner !== undefined && found.add(owner);
    const take = (other: string) => {
      for (const owner of this.#ownersOf(other)) found.add(owner);
    };
    add(ownerOf(path));
    for (const slave of names(path, 'slaves')) take(slave);
    if (text(path, 'partition') !== undefined) take(basename(dirname(path)));
    const subsystem = /^(.*\/nvme-subsystem\/[^/]+)\//.exec(path)?.[1];
    if (subsystem !== undefined) for (const controller of names(subsystem)) if (/^nvme\d+$/.test(controller)) add(ownerOf(real(subsystem, controller)));
    const file = text(path, 'loop/backing_file');
    if (file !== undefined) for (const block of this.#blocksOf(mountOf(this.#mounts, file))) take(block);
    return found;
  }

  /** The block devices that a mounted file system lies on. */
  #blocksOf(mount: Mount | undefined): string[] {
    if (mount === undefined) return [];
    const { sys } = this.#roots;
    const own = mount.device.startsWith('0:') ? undefined : linkName(sys, 'dev/block', mount.device);
    if (own !== undefined) return [own];
    if (mount.type === 'zfs') return this.#poolMembers(mount.source.split('/')[0]);
    // bcachefs names all of its devices, btrfs one of them.
    const sources = mount.source.split(':').map((path) => blockOf(this.#roots, path)).filter((name): name is string => name !== undefined);
    if (mount.type !== 'btrfs') return sources;
    const all = new Set(sources);
    for (const id of names(sys, 'fs/btrfs')) {
      const members = names(sys, 'fs/btrfs', id, 'devices');
      if (members.some((name) => all.has(name))) for (const name of members) all.add(name);
    }
    return [...all];
  }

  #poolMembers(pool: string): string[] {
    return names(this.#roots.sys, 'class/block').filter((name) => {
      const number = text(this.#roots.sys, 'class/block', name, 'dev');
      const known = number === undefined ? [] : lines(this.#roots.run, 'udev/data', `b${number}`);
      return known.includes('E:ID_FS_TYPE=zfs_member') && known.includes(`E:ID_FS_LABEL=${pool}`);
    });
  }

  /** Block devices with what lies on them, each as often as there is something. */
  #contents(): { kind: Use['kind']; what: string; block: string }[] {
    const home = mountOf(this.#mounts, this.#roots.home);
    const found: { kind: Use['kind']; what: string; block: string }[] = [];
    for (const mount of this.#mounts) {
      const kind = mount.point === '/' ? 'root' : mount === home ? 'home' : /^\/(boot|efi)(\/|$)/.test(mount.point) ? 'boot' : 'mount';
      for (const block of this.#blocksOf(mount)) {
        // Its file lies on another mounted file system, which is found by itself.
        if (!block.startsWith('loop')) found.push({ kind, what: mount.point, block });
      }
    }
    for (const line of lines(this.#roots.proc, 'swaps').slice(1)) {
      const [path, type] = line.split(/\s+/);
      const file = unescape(path ?? '');
      const blocks = type === 'file' ? this.#blocksOf(mountOf(this.#mounts, file)) : [blockOf(this.#roots, file)];
      for (const block of blocks) if (block !== undefined) found.push({ kind: 'swap', what: file, block });
    }
    return found;
  }

  /** What lies on each PCI function, the gravest first. */
  uses(): Map<string, Use[]> {
    const by = new Map<string, Map<Use['kind'], { what: Set<string>; blocks: Set<string> }>>();
    const note = (owner: string, kind: Use['kind'], what: string, block: string) => {
      const kinds = by.get(owner) ?? new Map<Use['kind'], { what: Set<string>; blocks: Set<string> }>();
      by.set(owner, kinds);
      const entry = kinds.get(kind) ?? { what: new Set<string>(), blocks: new Set<string>() };
      kinds.set(kind, entry);
      entry.what.add(what);
      entry.blocks.add(block);
    };
    const busy = new Set<string>();
    for (const { kind, what, block } of this.#contents()) {
      for (const owner of this.#ownersOf(block)) {
        note(owner, kind, what, block);
        busy.add(owner);
      }
    }
    // A volume that is open (LUKS, LVM, RAID) without being mounted.
    for (const name of names(this.#roots.sys, 'class/block')) {
      const holders = names(this.#roots.sys, 'class/block', name, 'holders');
      if (holders.length > 0) for (const owner of this.#ownersOf(name)) if (!busy.has(owner)) note(owner, 'volume', listed(holders.map((holder) => this.#volumeName(holder))), name);
    }
    const order = Object.keys(STORAGE_WORDS) as (keyof typeof STORAGE_WORDS)[];
    return new Map([...by].map(([owner, kinds]) => [owner, order.flatMap((kind): Use[] => {
      const entry = kinds.get(kind);
      if (entry === undefined) return [];
      const what = [...entry.what].sort();
      return [{ kind, sentence: STORAGE_WORDS[kind](what), detail: `${what.join(', ')} on ${[...entry.blocks].sort().join(', ')}` }];
    })]));
  }

  #volumeName(block: string): string {
    return text(join(this.#roots.sys, 'class/block', block), 'dm/name') ?? block;
  }
}

const STORAGE_WORDS = {
  root: () => 'Your computer\'s system is on this.',
  home: () => 'Your home directory is on this.',
  boot: () => 'Your computer starts from this.',
  mount: (what: string[]) => (what.length === 1 ? `The folder ${what[0]} is on this.` : what.length === 2 ? `The folders ${listed(what)} are on this.` : `${what.length} folders are on this: ${what[0]}, ${what[1]} and others.`),
  swap: () => 'Memory is swapped out to this.',
  volume: (what: string[]) => `The volume ${listed(what)} on this is open.`,
} satisfies Partial<Record<Use['kind'], (what: string[]) => string>>;
