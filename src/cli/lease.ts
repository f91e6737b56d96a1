// `vitrine bind`, `vitrine release` and `vitrine helper`: devices taken from the host and given back, by the privileged helper, and that itself.
import { installHelper, removeHelper } from '../main/lease/changes.ts';
import { groupOf, nameTheOthers, requestsFor } from '../main/lease/groups.ts';
import { HELPER, helperState, installCommands, POLICY, removeCommands } from '../main/lease/installed.ts';
import { readJournals } from '../main/lease/journals.ts';
import { applyPlan, releaseKept } from '../main/lease/lease.ts';
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

export async function bind(addresses: string[], output: Output, host: LeaseHost = REAL): Promise<number> {
  const requests = requestsFor(addresses, host.sys);
  let notes: string[];
  try {
    notes = await applyPlan(requests, addresses.join(', '), { starter: host.starter, attempted: 'give devices to vfio-pci', onTerminal: true });
  } catch (thrown) {
    throw nameTheOthers(thrown, addresses, host.sys);
  }
  for (const note of notes) output.err(`${note}\n`);
  for (const address of addresses) output.out(`${address} is on vfio-pci, and its group ${groupOf(address, host.sys)} is yours.\n`);
  output.out('It stays so until `vitrine release`, or until the computer restarts.\n');
  return EXIT_OK;
}

export async function release(addresses: string[], output: Output, host: LeaseHost = REAL): Promise<number> {
  if (addresses.length === 0 && readJournals(host.run, host.proc).length === 0) {
    output.out('Nothing is kept, and nothing is left to give back.\n');
    return EXIT_OK;
  }
  const { released, notes } = await releaseKept(addresses, { starter: host.starter, onTerminal: true });
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
  else if (state === 'installed' && policy) output.out(`The privileged helper is installed: ${HELPER}\nTo remove it: vitrine helper remove\nor\n${remove.map((line) => `  ${line}\n`).join('')}`);
  else {
    const reason = state === 'installed' ? `${POLICY} is not there, so nobody is asked in words of its own` : why;
    output.out(`The privileged helper is not set up: ${reason}.\nIt is a small program in C (native/lease) that runs as root, each time after you were asked for permission. To install it: vitrine helper install\nor\n${install.map((line) => `  ${line}\n`).join('')}`);
  }
  return state === 'installed' ? EXIT_OK : EXIT_FAILED;
}

/** `vitrine helper install`. polkit's question names the program alone, so what it is for is said before. */
export async function installIt(output: Output, host: LeaseHost = REAL): Promise<number> {
  output.out(`Vitrine's privileged helper gives PCI devices to machines and back. It is put at ${HELPER}, with its questions for permission; that needs an administrator's password.\n`);
  await installHelper({ starter: host.starter, onTerminal: true });
  output.out('It is installed.\n');
  return EXIT_OK;
}

/** `vitrine helper remove`: everything is given back first. */
export async function removeIt(output: Output, host: LeaseHost = REAL): Promise<number> {
  const { released, notes } = await removeHelper({ starter: host.starter, onTerminal: true, onProgress: (line) => output.err(`${line}\n`) });
  for (const note of notes) output.err(`${note}\n`);
  for (const { address, driver } of released) output.out(driver === '' ? `${address} is back; it had no driver.\n` : `${address} is back with its driver ${driver}.\n`);
  output.out('The privileged helper is removed, and nothing of it is left.\n');
  return EXIT_OK;
}
