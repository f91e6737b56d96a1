// What Vitrine has changed on this computer for machines, live while somebody watches: the helper's journals in /run say what is held and
// kept, the library which machine has it. Journals are root's and come and go by rename, so they are looked at now and then.
import { readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { GivenDevice, Grant, Leases } from '../../shared/passthrough.ts';
import { sameJson } from '../../shared/protocol/patch.ts';
import type { Claim } from '../host-devices/findings/finding.ts';
import { readJournals } from '../lease/journals.ts';
import { readLasting } from '../lease/lasting.ts';
import { sudoCommand } from '../lease/start.ts';
import type { HostPlace } from './place.ts';
import { VFIO_DRIVER } from './steps.ts';

/** How often the journals are looked at, in milliseconds. */
const LOOK = 1000;

/** The last part of where a link of sysfs leads, or what a file holds; '' where there is none. */
function look(path: string, read: (path: string) => string): string {
  try {
    return read(path).trim();
  } catch {
    return '';
  }
}

const driverOf = (sys: string, address: string) => basename(look(join(sys, 'bus/pci/devices', address, 'driver'), readlinkSync));
const fileOf = (sys: string, address: string, name: string) => look(join(sys, 'bus/pci/devices', address, name), (path) => readFileSync(path, 'utf8'));

/** Devices that are away from their drivers, by address. @param uid whose leases are not foreign */
export function givenDevices({ run, proc, lib, sys }: Pick<HostPlace, 'run' | 'proc' | 'lib' | 'sys'>, claims: readonly Claim[], uid = process.getuid!()): GivenDevice[] {
  const found = new Map<string, GivenDevice>();
  const machineOf = (address: string): Pick<GivenDevice, 'machine'> => {
    const own = claims.filter((claim) => claim.address === address && claim.id !== undefined);
    const claim = own.find(({ running }) => running) ?? own[0];
    return claim === undefined ? {} : { machine: { id: claim.id!, name: claim.machine } };
  };
  for (const { address, module } of readLasting(lib, proc).reserved) {
    const driver = driverOf(sys, address);
    const own = driver === '' || driver === VFIO_DRIVER ? module : driver;
    found.set(address, { address, how: 'reserved', ...(own === '' ? {} : { driver: own }), ...machineOf(address), ...(driver === VFIO_DRIVER ? {} : { waiting: true }) });
  }
  for (const journal of readJournals(run, proc)) {
    for (const { address, driver } of journal.devices) {
      found.set(address, {
        address,
        how: journal.kept ? 'kept' : 'held',
        ...(driver === '' ? {} : { driver }),
        ...machineOf(address),
        ...(journal.uid === uid ? {} : { foreign: true }),
      });
    }
  }
  return [...found.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
}

/**
 * What this user was allowed for machines. @param nameOf a machine's name; undefined when there is no such machine
 * @param now leaves out devices in whose place there is another one now: to these it says nothing
 */
export function grantsOf({ lib, proc, sys }: Pick<HostPlace, 'lib' | 'proc' | 'sys'>, nameOf: (id: string) => string | undefined, now: boolean, uid = process.getuid!()): Grant[] {
  const ids = (address: string) => ['vendor', 'device'].map((name) => fileOf(sys, address, name).replace(/^0x/, '')).join(':');
  return readLasting(lib, proc).grants.filter((grant) => grant.uid === uid).map(({ machine, bytes, devices }) => {
    const name = nameOf(machine);
    return {
      machine: { id: machine, name: name ?? machine },
      ...(name === undefined ? { gone: true } : {}),
      addresses: devices.filter((device) => !now || ids(device.address) === device.ids).map(({ address }) => address),
      memory: bytes,
      withdraw: [sudoCommand('revoke', [], [machine])],
    };
  });
}

/** All of it, as it is now. @param nameOf a machine's name, when there is such a machine */
export function readLeases(place: HostPlace, claims: readonly Claim[], nameOf: (id: string) => string | undefined): Leases {
  const { functions } = readLasting(place.lib, place.proc);
  return {
    state: 'ready',
    given: givenDevices(place, claims),
    grants: grantsOf(place, nameOf, false),
    functions: Object.fromEntries(functions.map(({ address, before }) => [address, { now: Number(fileOf(place.sys, address, 'sriov_numvfs')) || 0, before }])),
    helper: place.helper(),
  };
}

export class LeasesWatch {
  readonly #place: HostPlace;
  readonly #claims: () => readonly Claim[];
  readonly #nameOf: (id: string) => string | undefined;
  readonly #listeners = new Set<(value: Leases) => void>();
  #value: Leases;
  #timer: NodeJS.Timeout | null = null;

  constructor(place: HostPlace, claims: () => readonly Claim[], nameOf: (id: string) => string | undefined) {
    this.#place = place;
    this.#claims = claims;
    this.#nameOf = nameOf;
    this.#value = readLeases(place, claims(), nameOf);
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
    const value = readLeases(this.#place, this.#claims(), this.#nameOf);
    if (sameJson(value, this.#value)) return;
    this.#value = value;
    for (const listener of this.#listeners) listener(value);
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }
}
