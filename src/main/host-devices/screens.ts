// Who shows the picture: DRM cards with their connectors, and the framebuffer that the firmware set up (simpledrm, efifb, vesafb), which
// stays in a card's memory until the card's own driver takes over.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Use } from '../../shared/host-devices.ts';
import { classDevices } from './owner.ts';
import type { PciFunction } from './pci.ts';
import { ADDRESS } from './pci.ts';
import type { HostRoots } from './roots.ts';
import { lines, names, text } from './roots.ts';

/** Of each graphics card, the connectors with a screen that is switched on. */
export function readScreens(roots: HostRoots): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const { name, path, owner } of classDevices(roots, 'drm')) {
    const connector = /^card\d+-(.+)$/.exec(name)?.[1];
    if (connector === undefined || owner === undefined) continue;
    if (text(path, 'status') === 'connected' && text(path, 'enabled') === 'enabled') found.set(owner, [...(found.get(owner) ?? []), connector]);
  }
  return found;
}

export function screenUses(screens: Map<string, string[]>): Map<string, Use[]> {
  const all = [...screens.values()].flat().length;
  return new Map([...screens].map(([owner, connectors]) => {
    const count = connectors.length;
    const sentence = count === all ? (count === 1 ? 'Your screen runs on this.' : 'Your screens run on this.') : count === 1 ? 'One of your screens runs on this.' : `${count} of your screens run on this.`;
    return [owner, [{ kind: 'screen', sentence, detail: connectors.join(', ') }]];
  }));
}

/** Names under which the boot framebuffer stands in /proc/iomem and among the platform devices. */
const FRAMEBUFFER = /^(BOOTFB|efifb|vesafb|simplefb|simpledrm|simple-framebuffer(\.\d+)?|efi-framebuffer(\.\d+)?|vesa-framebuffer(\.\d+)?)$/;

/**
 * The card whose memory holds the boot framebuffer, with the name it has. /proc/iomem hides the addresses from ordinary users and still
 * shows what lies in what.
 */
export function bootFramebuffer(roots: HostRoots, functions: readonly PciFunction[]): { address: string; name: string } | undefined {
  const inside: { depth: number; address: string }[] = [];
  for (const line of lines(roots.proc, 'iomem')) {
    const match = /^( *)[0-9a-f]+-[0-9a-f]+ : (.*)$/.exec(line);
    if (match === null) continue;
    const depth = match[1].length;
    const name = match[2].trim();
    while (inside.length > 0 && inside.at(-1)!.depth >= depth) inside.pop();
    if (ADDRESS.test(name)) inside.push({ depth, address: name });
    else if (FRAMEBUFFER.test(name) && inside.length > 0) return { address: inside.at(-1)!.address, name };
  }
  // Its platform device hangs on the card itself on newer kernels, and on nothing on older ones.
  for (const { address, path } of functions) {
    const own = names(path).find((name) => FRAMEBUFFER.test(name));
    if (own !== undefined) return { address, name: own };
  }
  const platform = names(roots.sys, 'devices/platform').find((name) => FRAMEBUFFER.test(name) && existsSync(join(roots.sys, 'devices/platform', name, 'driver')));
  const first = functions.find(({ bootVga }) => bootVga);
  return platform === undefined || first === undefined ? undefined : { address: first.address, name: platform };
}

