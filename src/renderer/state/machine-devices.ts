// The devices of the computer that machines have in their configuration: which machine has which, and what is wrong with one.
import type { HostDevices } from '../../shared/host-devices.ts';
import { hostDevicesOf } from '../../shared/machine-config.ts';
import type { HostDeviceConfig } from '../../shared/machine-config.ts';
import type { DeviceTrouble } from '../../shared/passthrough.ts';
import type { LibraryEntry, Library } from '../../shared/protocol/front.ts';
import { shortAddress } from './device-frames.ts';
import { shortList } from './give-words.ts';

export interface MachineDevice {
  config: HostDeviceConfig;
  /** As people know it; its address where even its name is unknown. */
  name: string;
  trouble?: DeviceTrouble;
}

/** In the order in which the guest gets them. @param found what is in the computer, where it is known */
export function machineDevices({ config, deviceTroubles = [] }: LibraryEntry, found: HostDevices | null): MachineDevice[] {
  return hostDevicesOf(config).map((each) => {
    const trouble = deviceTroubles.find(({ address }) => address === each.address);
    const name = each.identity?.name ?? found?.devices[each.address]?.name ?? shortAddress(each.address);
    return { config: each, name, ...(trouble === undefined ? {} : { trouble }) };
  });
}

/** Those that share a group, together: they are taken back together. */
export function inGroups(devices: readonly MachineDevice[], found: HostDevices | null): MachineDevice[][] {
  const groups = new Map<string, MachineDevice[]>();
  for (const each of devices) {
    const key = (each.trouble === undefined ? found?.devices[each.config.address]?.group : undefined) ?? each.config.address;
    groups.set(key, [...(groups.get(key) ?? []), each]);
  }
  return [...groups.values()];
}

/** "Radeon RX 7600 given", for the line under a machine's name; empty without one. */
export function givenWords(entry: LibraryEntry): string {
  const names = machineDevices(entry, null).map(({ name }) => name);
  return names.length === 0 ? '' : `${shortList(names)} given`;
}

/** The machines that have a device of these addresses in their configuration, by name. */
export function ownersOf(machines: Library | null, addresses: readonly string[]): LibraryEntry[] {
  const wanted = new Set(addresses);
  const name = ({ config, id }: LibraryEntry): string => config?.name ?? id;
  return Object.values(machines ?? {}).filter(({ config }) => hostDevicesOf(config).some(({ address }) => wanted.has(address))).sort((a, b) => name(a).localeCompare(name(b)));
}

/** How many devices of the computer machines have. */
export function countGiven(machines: Library | null): number {
  return new Set(Object.values(machines ?? {}).flatMap(({ config }) => hostDevicesOf(config).map(({ address }) => address))).size;
}
