// What the privileged helper changes for longer than a lease: itself, the number of a card's virtual functions, cards that are reserved from
// start-up, and what machines may have without a password. Each asks once, through polkit, in words of its own, and throws what the helper
// refuses as codes "lease-…", or what start.ts says when it cannot be started. What there is by now: lasting.ts.
import { VitrineError } from '../../shared/errors.ts';
import { HELPER, helperSource, shellWord } from './installed.ts';
import type { Done } from './lease.ts';
import { runToEnd } from './lease.ts';
import type { Starter } from './start.ts';
import { starterOf } from './start.ts';

export interface ChangeOptions {
  /** How the helper is started; default as this system does. */
  starter?: Starter;
  /** As a clause of an error. */
  attempted?: string;
  onTerminal?: boolean;
  /** Gives up while somebody is asked for permission; what has begun is not cut off. */
  signal?: AbortSignal;
  /** A line of what makes the start-up files anew, which may take minutes. */
  onProgress?: (line: string) => void;
}

/**
 * Puts the helper and its polkit actions where they belong, from the program that was built with this version. polkit asks its general
 * question here, which names the program and not what it is for: say so before. Throws code "helper-not-built".
 */
export async function installHelper(options: ChangeOptions = {}): Promise<void> {
  const attempted = options.attempted ?? 'install the privileged helper';
  const { helper } = helperSource();
  if (helper === undefined) throw new VitrineError({ attempted, on: HELPER, why: 'it was not built with this version.', remedy: 'Build Vitrine with its native programs.', code: 'helper-not-built' });
  const starter = options.starter ?? starterOf(helper, attempted, `sudo ${shellWord(helper)} install`, options.onTerminal === true);
  await runToEnd('install', [], [], attempted, HELPER, { ...options, starter });
}

/** Gives back all that is kept, reserved, set and granted, then takes the helper and its polkit actions away. Refused while a machine has devices by it. */
export async function removeHelper(options: ChangeOptions = {}): Promise<Done> {
  return runToEnd('remove', [], [], options.attempted ?? 'remove the privileged helper', HELPER, options);
}

/** Has the card show itself as so many virtual functions, until `restoreFunctions` or the computer's restart. */
export async function setFunctions(address: string, count: number, options: ChangeOptions = {}): Promise<void> {
  await runToEnd('functions', [address, String(count)], [], options.attempted ?? 'set the number of virtual functions', address, options);
}

/** The number of virtual functions that the card had. */
export async function restoreFunctions(address: string, options: ChangeOptions = {}): Promise<void> {
  await runToEnd('functions', [address, 'restore'], [], options.attempted ?? 'set the number of virtual functions back', address, options);
}

/** All functions of the card at this slot are vfio-pci's from the next start of the computer on. Resolves with their addresses; none when it was so already. */
export async function reserve(address: string, options: ChangeOptions = {}): Promise<string[]> {
  const { data } = await runToEnd('reserve', [address], [], options.attempted ?? 'reserve the card from start-up', address, options);
  return data.filter(({ kind }) => kind === 'reserved').map(({ words }) => words[0]!);
}

/** From the next start of the computer on the card at this slot is its own driver's again. */
export async function unreserve(address: string, options: ChangeOptions = {}): Promise<void> {
  await runToEnd('unreserve', [address], [], options.attempted ?? 'end the reservation of the card', address, options);
}

/** From now on the machine may have these devices, as they are now, and lock so many bytes, without a password. Replaces what it was allowed before. */
export async function grant(machine: string, bytes: number, addresses: string[], options: ChangeOptions = {}): Promise<void> {
  await runToEnd('grant', [machine, String(bytes), ...addresses], [], options.attempted ?? 'allow the machine its devices without a password', machine, options);
}

/** The machine needs a password again. What runs goes on. */
export async function revoke(machine: string, options: ChangeOptions = {}): Promise<void> {
  await runToEnd('revoke', [machine], [], options.attempted ?? 'take back what the machine was allowed', machine, options);
}
