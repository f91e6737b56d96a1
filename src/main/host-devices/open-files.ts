// Which programs hold a device's nodes in /dev open, as far as whoever asks may look: the files of one's own processes, and of all as root.
import { basename } from 'node:path';
import { ownerOf } from './owner.ts';
import type { HostRoots } from './roots.ts';
import { lines, link, names, text } from './roots.ts';

export interface Programs {
  /** By PCI function: names of programs, sorted. */
  devices: Map<string, string[]>;
  /** By IOMMU group: who has it open through VFIO. */
  groups: Map<string, string[]>;
}

/** Sound servers keep every card's control node open, whether anything sounds or not; input nodes are the keyboards', found by themselves. */
const ALWAYS_OPEN = /^(snd\/control|snd\/seq|snd\/timer|snd\/hw|input\/)/;

/** Node names under /dev ("dri/card0") by the function that they belong to. */
function nodes(roots: HostRoots): Map<string, string> {
  const found = new Map<string, string>();
  for (const kind of ['char', 'block']) {
    for (const number of names(roots.sys, 'dev', kind)) {
      const owner = ownerOf(link(roots.sys, 'dev', kind, number));
      if (owner === undefined) continue;
      const node = lines(roots.sys, 'dev', kind, number, 'uevent').find((line) => line.startsWith('DEVNAME='))?.slice('DEVNAME='.length);
      if (node !== undefined && !ALWAYS_OPEN.test(node)) found.set(node, owner);
    }
  }
  return found;
}

/** @param own this process, which holds nothing open that would matter */
export function readPrograms(roots: HostRoots, own = process.pid): Programs {
  const known = nodes(roots);
  const devices = new Map<string, Set<string>>();
  const groups = new Map<string, Set<string>>();
  for (const pid of names(roots.proc)) {
    if (!/^\d+$/.test(pid) || Number(pid) === own) continue;
    const held = new Set<string>();
    for (const fd of names(roots.proc, pid, 'fd')) {
      const target = link(roots.proc, pid, 'fd', fd);
      if (target?.startsWith('/dev/') === true) held.add(target.slice('/dev/'.length));
    }
    if (held.size === 0) continue;
    let program = '';
    for (const node of held) {
      const owner = known.get(node);
      const group = /^vfio\/(?:noiommu-)?(\d+)$/.exec(node)?.[1];
      if (owner === undefined && group === undefined) continue;
      program ||= (text(roots.proc, pid, 'comm') ?? `process ${pid}`).replaceAll(/\p{C}/gu, '?');
      const target = owner === undefined ? groups : devices;
      const key = owner ?? group!;
      target.set(key, (target.get(key) ?? new Set()).add(program));
    }
  }
  const sorted = (by: Map<string, Set<string>>) => new Map([...by].map(([key, set]) => [basename(key), [...set].sort()]));
  return { devices: sorted(devices), groups: sorted(groups) };
}
