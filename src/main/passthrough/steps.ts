// The changes that giving devices to a machine makes, in words, as people read them before anything is done. What the privileged helper
// does is in native/lease/steps.c: it binds by driver_override and drivers_probe ("hand to vfio-pci"), after the driver let go.
import type { HostDevice, HostDevices } from '../../shared/host-devices.ts';
import type { GiveMode, PlanStep } from '../../shared/passthrough.ts';
import { listed } from '../host-devices/owner.ts';
import type { TakingRequest } from '../lease/protocol.ts';
import { takingRequests } from '../lease/protocol.ts';
import { shortAddress } from './identity.ts';

/** The one driver that the helper hands devices to; a variant such as mlx5-vfio-pci is a driver like any other to it. */
export const VFIO_DRIVER = 'vfio-pci';
const GiB = 2 ** 30;

/** "16.1 GiB", "512 MiB": fine enough to see what a machine's memory and what is beside it come to. */
export function exactSize(bytes: number): string {
  return bytes >= GiB ? `${Math.round(bytes / GiB * 10) / 10} GiB` : `${Math.round(bytes / 2 ** 20)} MiB`;
}

/** As people know the sockets, by the kernel's names of connectors (drivers/gpu/drm/drm_connector.c). */
const CONNECTORS: readonly (readonly [RegExp, string])[] = [
  [/^eDP|^LVDS|^DSI/, 'built-in panel'], [/^DP/, 'DisplayPort'], [/^HDMI/, 'HDMI socket'], [/^DVI/, 'DVI socket'], [/^VGA/, 'VGA socket'],
];

function socket(connector: string): string {
  return CONNECTORS.find(([pattern]) => pattern.test(connector))?.[1] ?? connector;
}

function screenWords(device: HostDevice, given: ReadonlySet<string>, { devices }: HostDevices): string {
  const sockets = device.uses.find(({ kind }) => kind === 'screen')!.detail.split(', ');
  const dark = sockets.length === 1 ? (socket(sockets[0]) === 'built-in panel' ? 'The built-in panel goes dark.' : `The screen on its ${socket(sockets[0])} goes dark.`) : `The ${sockets.length} screens on it go dark.`;
  const other = Object.values(devices).find(({ address, uses }) => !given.has(address) && uses.some(({ kind }) => kind === 'screen'));
  return other === undefined ? `${dark} No other screen is in use.` : `${dark} The desktop stays on ${other.name}.`;
}

/** What people notice when the driver stops. */
function consequence(device: HostDevice, given: ReadonlySet<string>, found: HostDevices): string {
  const usedFor = (wanted: string) => device.uses.find(({ kind }) => kind === wanted);
  const said: string[] = [];
  const network = usedFor('network');
  if (usedFor('screen') !== undefined) said.push(screenWords(device, given, found));
  if (network !== undefined) said.push(`The connection ${network.detail} stops.`);
  if (device.kind === 'audio') {
    const beside = [...given].some((address) => found.devices[address].kind === 'graphics' && address.slice(0, -2) === device.address.slice(0, -2));
    said.push(beside ? 'Sound through that screen stops.' : 'Sound through it stops.');
  }
  const plugged = usedFor('input') ?? usedFor('usb');
  if (plugged !== undefined) said.push(`The machine gets what is plugged in: ${plugged.detail}.`);
  if (usedFor('volume') !== undefined) said.push(usedFor('volume')!.sentence);
  const programs = usedFor('programs');
  if (programs !== undefined) said.push(`${programs.sentence.replace(/\.$/, '')}; ${programs.detail.includes(', ') ? 'they' : 'it'} may have to end first.`);
  return said.length === 0 ? 'Nothing uses it now.' : said.join(' ');
}

const them = (count: number): string => (count === 1 ? 'it' : count === 2 ? 'both' : `all ${count}`);

export interface StepsQuestion {
  found: HostDevices;
  machine: string;
  /** Addresses that go, in the order of the guest. */
  devices: readonly string[];
  /** Those of them that the machine does not have yet. */
  fresh: readonly string[];
  mode: GiveMode;
  /** Bytes that the machine's process must be able to lock. */
  memory: number;
}

/** Devices that are to be bound: all that are not on vfio-pci itself. */
function toBind(addresses: readonly string[], { devices }: HostDevices): string[] {
  return addresses.filter((address) => devices[address].driver !== VFIO_DRIVER);
}

/** The groups of devices, in the order in which the devices name them. */
function groupsOf(addresses: readonly string[], found: HostDevices): string[] {
  return [...new Set(addresses.map((address) => found.devices[address].group))];
}

/** Whether the group's node has to be given to the user. */
function needsPermit(key: string, addresses: readonly string[], found: HostDevices): boolean {
  const members = addresses.filter((address) => found.devices[address].group === key);
  return toBind(members, found).length > 0 || members.some((address) => found.devices[address].findings.some(({ code, facts }) => code === 'no-vfio-access' && facts.path === `/dev/vfio/${key}`));
}

/** Whether more memory must be allowed than a process may lock now. */
export function needsMemory({ found: { host }, memory }: Pick<StepsQuestion, 'found' | 'memory'>): boolean {
  return host?.memlock !== undefined && host.memlock < memory;
}

/** What is asked of the helper before the machine's process is there; empty when nothing of it is needed. As `requestsFor` has it. */
export function requestsOf({ found, devices, memory }: Pick<StepsQuestion, 'found' | 'devices' | 'memory'>): TakingRequest[] {
  const groups = groupsOf(devices, found);
  if (devices.length === 0 || !(groups.some((key) => needsPermit(key, devices, found)) || needsMemory({ found, memory }))) return [];
  return takingRequests(devices, groups.map(Number));
}

/** The devices that the helper takes from their drivers, or from none. */
export function boundBy({ found, devices }: Pick<StepsQuestion, 'found' | 'devices'>): string[] {
  return toBind(devices, found);
}

/** The devices' names; with the slot where two have the same. */
function distinctNames(addresses: readonly string[], { devices }: HostDevices): string[] {
  const names = addresses.map((address) => devices[address].name);
  return names.map((name, at) => (names.indexOf(name) === names.lastIndexOf(name) ? name : `${name} (${shortAddress(addresses[at])})`));
}

export function stepsFor(question: StepsQuestion): PlanStep[] {
  const { found, machine, devices, fresh, mode, memory } = question;
  const { host } = found;
  const steps: PlanStep[] = [];
  const given = new Set(devices);
  if (fresh.length > 0) {
    steps.push({ what: 'machine', sentence: `Add ${listed(distinctNames(fresh, found))} to ${machine}`, detail: '', undo: `Take ${fresh.length === 1 ? 'it' : 'them'} out of ${machine}`, addresses: [...fresh] });
  }
  const binding = toBind(devices, found);
  if (binding.length > 0 && host?.vfioModule !== 'loaded') {
    // Unloading it could take devices of others along: docs/passthrough-lease.md.
    steps.push({ what: 'module', sentence: `Load the kernel module \`${VFIO_DRIVER}\``, detail: 'It stays loaded until the computer restarts.', undo: '', addresses: [] });
  }
  const groups = groupsOf(devices, found);
  for (const key of groups) {
    const members = devices.filter((address) => found.devices[address].group === key);
    const bound = toBind(members, found);
    for (const address of bound) {
      const { driver } = found.devices[address];
      if (driver === undefined) continue;
      steps.push({ what: 'unbind', sentence: `Stop the driver \`${driver}\` for slot ${shortAddress(address)}`, detail: consequence(found.devices[address], given, found), undo: `Give it back to \`${driver}\``, addresses: [address] });
    }
    if (!needsPermit(key, devices, found)) continue;
    const free = bound.filter((address) => found.devices[address].driver === undefined);
    const which = groups.length === 1 ? them(bound.length) : `slot ${listed(bound.map(shortAddress))}`;
    const open = `let your account open group ${key}`;
    if (bound.length > 0) {
      const undo = free.length === 0 ? 'Remove the permission' : `Take ${free.length === bound.length ? them(free.length) : listed(free.map(shortAddress))} off \`${VFIO_DRIVER}\` and remove the permission`;
      steps.push({ what: 'bind', sentence: `Hand ${which} to \`${VFIO_DRIVER}\` and ${open}`, detail: '', undo, addresses: bound });
    } else steps.push({ what: 'permit', sentence: `${open[0].toUpperCase()}${open.slice(1)}`, detail: '', undo: 'Remove the permission', addresses: members });
  }
  if (devices.length > 0 && needsMemory(question)) {
    const remaining = Math.max(0, host!.memory.available - memory);
    const when = mode === 'kept' ? 'Each time that it starts. ' : '';
    steps.push({ what: 'memlock', sentence: `Let this machine lock ${exactSize(memory)} of memory`, detail: `${when}Allowed now: ${exactSize(host!.memlock!)}. ${exactSize(remaining)} remain for the computer.`, undo: 'Ends with the machine', addresses: [...devices] });
  }
  return steps;
}
