// `vitrine bind`, `vitrine release` and `vitrine helper`: devices taken from the host and given back, by the privileged helper.
import { readdirSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { VitrineError } from '../shared/errors.ts';
import { HELPER, helperState, installCommands, POLICY, removeCommands } from '../main/lease/installed.ts';
import { readJournals } from '../main/lease/journals.ts';
import { applyPlan, releaseKept } from '../main/lease/lease.ts';
import type { LeaseRequest } from '../main/lease/protocol.ts';
import type { Starter } from '../main/lease/start.ts';
import { EXIT_FAILED, EXIT_OK } from './exit-codes.ts';
import type { Output } from './machines.ts';

export interface LeaseHost {
  sys: string;
  run: string;
  proc: string;
  /** Default: as this system does. */
  starter?: Starter;
}

const REAL: LeaseHost = { sys: '/sys', run: '/run', proc: '/proc' };
const ATTEMPTED = 'give devices to vfio-pci';

function linkName(path: string): string | null {
  try {
    return basename(readlinkSync(path));
  } catch {
    return null;
  }
}

/** The IOMMU group of a device. Throws codes "lease-no-device", "lease-no-group": the helper would say the same, after a question. */
function groupOf(sys: string, address: string): number {
  const device = join(sys, 'bus/pci/devices', address);
  if (linkName(device) === null) throw new VitrineError({ attempted: ATTEMPTED, on: address, why: 'there is no such PCI device.', remedy: '`vitrine devices` lists what there is.', code: 'lease-no-device' });
  const group = linkName(join(device, 'iommu_group'));
  if (group === null) throw new VitrineError({ attempted: ATTEMPTED, on: address, why: 'it is in no IOMMU group: the IOMMU is off, or does not see it.', remedy: '`vitrine devices` says how to switch it on.', code: 'lease-no-group' });
  return Number(group);
}

/** Members of the groups that would stay with a driver of the host, bridges aside. */
function leftOut(sys: string, groups: Iterable<number>, addresses: string[]): string[] {
  return [...groups].flatMap((group) => readdirSync(join(sys, 'kernel/iommu_groups', String(group), 'devices'))).filter((address) => {
    const device = join(sys, 'bus/pci/devices', address);
    const driver = linkName(join(device, 'driver'));
    return !addresses.includes(address) && driver !== 'vfio-pci' && driver !== 'pcieport';
  });
}

export async function bind(addresses: string[], output: Output, host: LeaseHost = REAL): Promise<number> {
  const groups = new Set(addresses.map((address) => groupOf(host.sys, address)));
  const others = leftOut(host.sys, groups, addresses);
  const requests: LeaseRequest[] = [...addresses.map((address) => ({ verb: 'bind' as const, address })), ...[...groups].map((group) => ({ verb: 'permit' as const, group }))];
  let notes: string[];
  try {
    notes = await applyPlan(requests, addresses.join(', '), { starter: host.starter, attempted: ATTEMPTED, onTerminal: true });
  } catch (thrown) {
    // The helper knows what is a bridge; which devices to name with it, we can say.
    if (!(thrown instanceof VitrineError && thrown.problem.code === 'lease-not-viable' && others.length > 0)) throw thrown;
    throw new VitrineError({ ...thrown.problem, remedy: `Everything in a group goes together, or nothing: vitrine bind ${[...addresses, ...others].join(' ')}` }, { cause: thrown });
  }
  for (const note of notes) output.err(`${note}\n`);
  for (const address of addresses) output.out(`${address} is on vfio-pci, and its group ${groupOf(host.sys, address)} is yours.\n`);
  output.out('It stays so until `vitrine release`, or until the computer restarts.\n');
  return EXIT_OK;
}

export async function release(address: string | undefined, output: Output, host: LeaseHost = REAL): Promise<number> {
  if (address === undefined && readJournals(host.run, host.proc).length === 0) {
    output.out('Nothing is kept, and nothing is left to give back.\n');
    return EXIT_OK;
  }
  const { released, notes } = await releaseKept(address, { starter: host.starter, onTerminal: true });
  for (const note of notes) output.err(`${note}\n`);
  for (const { address: one, driver } of released) output.out(driver === '' ? `${one} is back; it had no driver.\n` : `${one} is back with its driver ${driver}.\n`);
  const held = readJournals(host.run, host.proc).filter(({ kept }) => !kept).flatMap(({ devices }) => devices);
  for (const { address: one } of held) output.out(`${one} is held for a machine, and goes back by itself when that ends.\n`);
  if (released.length === 0 && held.length === 0) output.out('Nothing was kept for you.\n');
  return EXIT_OK;
}

/** What is to be known about the helper: whether it is there, and how to change that. */
export function helper(json: boolean, output: Output): number {
  const { state, why, policy } = helperState();
  const install = installCommands();
  const remove = removeCommands();
  if (json) output.out(`${JSON.stringify({ path: HELPER, policyPath: POLICY, state, why, policy, install, remove }, null, 2)}\n`);
  else if (state === 'installed' && policy) output.out(`The privileged helper is installed: ${HELPER}\nTo remove it:\n${remove.map((line) => `  ${line}\n`).join('')}`);
  else {
    const reason = state === 'installed' ? `${POLICY} is not there, so nobody is asked in words of its own` : why;
    output.out(`The privileged helper is not set up: ${reason}.\nIt is a small program in C (native/lease) that runs as root, each time after you were asked for permission. To install it:\n${install.map((line) => `  ${line}\n`).join('')}`);
  }
  return state === 'installed' ? EXIT_OK : EXIT_FAILED;
}
