// What of the helper's doing lasts longer than a lease (native/lease/state.c), read by anybody: reserved cards, numbers of virtual functions,
// grants. What matters is decided by the helper, which reads it itself.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface ReservedFunction {
  address: string;
  /** "10de:2684" */
  ids: string;
  /** Of the host's driver, which waits for vfio-pci at start-up; '' for none. */
  module: string;
}

export interface MachineGrant {
  uid: number;
  /** The machine's id. */
  machine: string;
  /** What it may lock. */
  bytes: number;
  devices: { address: string; ids: string }[];
}

export interface Lasting {
  /** Functions of cards that are vfio-pci's from start-up, or will be from the next. */
  reserved: ReservedFunction[];
  /** Cards whose number of virtual functions was changed since the computer started, and the one that they had. */
  functions: { address: string; ids: string; before: number }[];
  grants: MachineGrant[];
  /** The initramfs was not made anew since `reserved` changed: it was cut off, or failed. Reserving or unreserving again does it. */
  due: boolean;
}

const NOTHING: Lasting = { reserved: [], functions: [], grants: [], due: false };
const FIRST = 'vitrine-state 1';

/** The text of /var/lib/vitrine/state; null when it is not as the helper writes it. */
export function parseLasting(text: string, boot: string): Lasting | null {
  const [first, ...lines] = text.split('\n').slice(0, -1);
  if (first !== FIRST) return null;
  const found: Lasting = { reserved: [], functions: [], grants: [], due: false };
  for (const line of lines) {
    const [kind, ...words] = line.split(' ') as [string, ...string[]];
    if (kind === 'reserved' && words.length === 3) found.reserved.push({ address: words[0]!, ids: words[1]!, module: words[2] === '-' ? '' : words[2]! });
    else if (kind === 'functions' && words.length === 4) {
      if (words[0] === boot) found.functions.push({ address: words[1]!, ids: words[2]!, before: Number(words[3]) });
    } else if (kind === 'grant' && words.length >= 4) {
      const devices = words.slice(3).map((word) => ({ address: word.split('=')[0]!, ids: word.split('=')[1] ?? '' }));
      found.grants.push({ uid: Number(words[0]), machine: words[1]!, bytes: Number(words[2]), devices });
    } else if (line === 'initramfs due') found.due = true;
    else return null;
  }
  return found;
}

/** What lasts on this host. */
export function readLasting(lib = '/var/lib', proc = '/proc'): Lasting {
  try {
    return parseLasting(readFileSync(join(lib, 'vitrine/state'), 'utf8'), readFileSync(join(proc, 'sys/kernel/random/boot_id'), 'utf8').trim()) ?? NOTHING;
  } catch {
    return NOTHING;
  }
}

/** The ids of the device at the address, as grants have them; '' when there is none. */
function idsOf(address: string, sys: string): string {
  try {
    const [vendor, device] = ['vendor', 'device'].map((name) => readFileSync(join(sys, 'bus/pci/devices', address, name), 'utf8').trim().replace(/^0x/, ''));
    return `${vendor}:${device}`;
  } catch {
    return '';
  }
}

/** Whether this user was allowed, for this machine, all of these devices as they are now and this much memory (bytes). */
export function grantedFor(machine: string, addresses: string[], bytes: number, { lib = '/var/lib', proc = '/proc', sys = '/sys', uid = process.getuid?.() ?? 0 } = {}): boolean {
  const grant = readLasting(lib, proc).grants.find((each) => each.uid === uid && each.machine === machine);
  if (grant === undefined || bytes > grant.bytes) return false;
  return addresses.every((address) => grant.devices.some((device) => device.address === address && device.ids === idsOf(address, sys)));
}
