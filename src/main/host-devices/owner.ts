// Which PCI function a thing of the kernel's hangs on: every block device, network interface, screen or keyboard has a folder under
// /sys/devices, and the last PCI address in that path is the function it is reached through.
import { join } from 'node:path';
import { ADDRESS } from './pci.ts';
import type { HostRoots } from './roots.ts';
import { names, real } from './roots.ts';

/** The function that a path under /sys/devices (also written relatively) lies under; undefined for what hangs on no PCI device. */
export function ownerOf(path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  const parts = path.split('/');
  for (let at = parts.length - 1; at >= 0; at--) if (ADDRESS.test(parts[at])) return parts[at];
  return undefined;
}

export interface ClassDevice {
  name: string;
  /** Its folder, resolved. */
  path: string;
  owner?: string;
}

/** The devices of one class (net, drm, block, …), with whom they hang on. */
export function classDevices(roots: HostRoots, className: string): ClassDevice[] {
  return names(roots.sys, 'class', className).flatMap((name) => {
    const path = real(roots.sys, 'class', className, name);
    return path === undefined ? [] : [{ name, path, owner: ownerOf(path) }];
  });
}

/** "a", "a and b", "a, b and c". */
export function listed(words: readonly string[]): string {
  return words.length < 2 ? (words[0] ?? '') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)!}`;
}

/** At most `most` of the words, and how many more there are. */
export function listedUpTo(most: number, words: readonly string[]): string {
  return words.length <= most ? listed(words) : `${words.slice(0, most - 1).join(', ')} and ${words.length - most + 1} more`;
}

/** The file in /sys of a device, as a command names it. */
export function devicePath(address: string, file: string): string {
  return join('/sys/bus/pci/devices', address, file);
}
