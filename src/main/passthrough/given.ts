// What Vitrine has changed on this computer for machines, live while somebody watches: the helper's journals in /run say what is held and
// kept, the library which machine has it. Journals are root's and come and go by rename, so they are looked at now and then.
import type { GivenDevice, Leases } from '../../shared/passthrough.ts';
import { sameJson } from '../../shared/protocol/patch.ts';
import type { Claim } from '../host-devices/findings/finding.ts';
import { readJournals } from '../lease/journals.ts';
import type { HostPlace } from './place.ts';

/** How often the journals are looked at, in milliseconds. */
const LOOK = 1000;

/** Devices that are away from their drivers, by address. @param uid whose leases are not foreign */
export function givenDevices({ run, proc }: Pick<HostPlace, 'run' | 'proc'>, claims: readonly Claim[], uid = process.getuid!()): GivenDevice[] {
  const found = new Map<string, GivenDevice>();
  for (const journal of readJournals(run, proc)) {
    for (const { address, driver } of journal.devices) {
      const own = claims.filter((claim) => claim.address === address && claim.id !== undefined);
      const claim = own.find(({ running }) => running) ?? own[0];
      found.set(address, {
        address,
        how: journal.kept ? 'kept' : 'held',
        ...(driver === '' ? {} : { driver }),
        ...(claim === undefined ? {} : { machine: { id: claim.id!, name: claim.machine } }),
        ...(journal.uid === uid ? {} : { foreign: true }),
      });
    }
  }
  return [...found.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
}

/** All of it, as it is now. */
export function readLeases(place: HostPlace, claims: readonly Claim[]): Leases {
  return { state: 'ready', given: givenDevices(place, claims), grants: [], functions: {}, helper: place.helper() };
}

export class LeasesWatch {
  readonly #place: HostPlace;
  readonly #claims: () => readonly Claim[];
  readonly #listeners = new Set<(value: Leases) => void>();
  #value: Leases;
  #timer: NodeJS.Timeout | null = null;

  constructor(place: HostPlace, claims: () => readonly Claim[]) {
    this.#place = place;
    this.#claims = claims;
    this.#value = readLeases(place, claims());
  }

  /** Tells `listener` at once, and of every change. Returns what ends that. */
  watch(listener: (value: Leases) => void): () => void {
    this.#listeners.add(listener);
    this.look();
    listener(this.#value);
    this.#timer ??= setInterval(() => this.look(), LOOK);
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.close();
    };
  }

  /** Looks now: after what this process itself has changed, and when machines have changed. */
  look(): void {
    if (this.#listeners.size === 0) return;
    const value = readLeases(this.#place, this.#claims());
    if (sameJson(value, this.#value)) return;
    this.#value = value;
    for (const listener of this.#listeners) listener(value);
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }
}
