// Which network links hang on which device, and what would be cut with them. An interface may be used through others above it: a bridge,
// a bond, a VLAN; sysfs names them upper_*. Routes are read from /proc/net (proc_net(5)). Left out: other network namespaces, and
// policy routing.
import type { Use } from '../../shared/host-devices.ts';
import { classDevices, listed } from './owner.ts';
import type { HostRoots } from './roots.ts';
import { hex, lines, names, text } from './roots.ts';

const RTF_UP = 1;
const RTF_GATEWAY = 2;
const ANYWHERE_V4 = '00000000';
const ANYWHERE_V6 = '0'.repeat(32);

export interface NetworkLink {
  name: string;
  owner?: string;
  /** It has a signal, and an address or a route, itself or above it. */
  used: boolean;
  /** A way out of the local network leads over it. */
  internet: boolean;
  addresses: string[];
}

/** Interfaces with a route, and those with one to a gateway. */
function routes(roots: HostRoots): { routed: Set<string>; gateway: Set<string> } {
  const routed = new Set<string>();
  const gateway = new Set<string>();
  const note = (name: string | undefined, flags: number, destination: string, anywhere: string) => {
    if (name === undefined || name === 'lo' || (flags & RTF_UP) === 0) return;
    routed.add(name);
    if ((flags & RTF_GATEWAY) !== 0 || destination === anywhere) gateway.add(name);
  };
  for (const line of lines(roots.proc, 'net/route').slice(1)) {
    const [name, destination, , flags] = line.trim().split(/\s+/);
    note(name, Number.parseInt(flags ?? '0', 16) || 0, destination ?? '', ANYWHERE_V4);
  }
  for (const line of lines(roots.proc, 'net/ipv6_route')) {
    const words = line.trim().split(/\s+/);
    const destination = words[0] ?? '';
    // Link-local and multicast routes are everywhere and lead nowhere.
    if (/^(fe80|ff)/.test(destination)) continue;
    note(words[9], Number.parseInt(words[8] ?? '0', 16) || 0, destination === ANYWHERE_V6 && words[1] !== '00' ? '' : destination, ANYWHERE_V6);
  }
  return { routed, gateway };
}

export function readLinks(roots: HostRoots): NetworkLink[] {
  const { routed, gateway } = routes(roots);
  const interfaces = classDevices(roots, 'net');
  const paths = new Map(interfaces.map(({ name, path }) => [name, path]));
  const above = (name: string, seen = new Set<string>()): Set<string> => {
    if (seen.has(name)) return seen;
    seen.add(name);
    const path = paths.get(name);
    if (path !== undefined) for (const entry of names(path)) if (entry.startsWith('upper_')) above(entry.slice('upper_'.length), seen);
    return seen;
  };
  return interfaces.filter(({ path }) => !path.includes('/devices/virtual/')).map(({ name, path, owner }) => {
    const all = [...above(name)];
    const state = text(path, 'operstate') ?? 'unknown';
    const switchedOn = (Number.parseInt(hex(8, path, 'flags') ?? '1', 16) & 1) !== 0;
    const signal = state === 'up' || (state === 'unknown' && switchedOn);
    const addresses = all.flatMap((each) => roots.addresses(each));
    const used = signal && (addresses.length > 0 || all.some((each) => routed.has(each)));
    return { name, owner, used, internet: used && all.some((each) => gateway.has(each)), addresses };
  });
}

/** What each PCI function's links are used for. */
export function networkUses(links: readonly NetworkLink[]): Map<string, Use[]> {
  const by = new Map<string, NetworkLink[]>();
  for (const link of links) if (link.owner !== undefined && link.used) by.set(link.owner, [...(by.get(link.owner) ?? []), link]);
  return new Map([...by].map(([owner, own]) => {
    const internet = own.filter((link) => link.internet);
    const shown = internet.length > 0 ? internet : own;
    const sentence = internet.length > 0 ? 'Your internet is on this.' : shown.length === 1 ? 'A network connection is on this.' : `${shown.length} network connections are on this.`;
    const detail = listed(own.map(({ name, addresses }) => (addresses.length === 0 ? name : `${name} (${addresses[0]})`)));
    return [owner, [{ kind: 'network', sentence, detail }]];
  }));
}
