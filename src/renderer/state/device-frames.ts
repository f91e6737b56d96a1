// How the groups of a host stand on the page: one frame a group, in an order that does not change while hardware does, with what nobody
// would give away folded into one line.
import type { DeviceGroup, DeviceKind, HostDevice, HostDevices } from '../../shared/host-devices.ts';

export interface Frame {
  group: DeviceGroup;
  /** What goes with the group: all but its bridges. */
  devices: HostDevice[];
  /** Addresses of its bridges, which stay. */
  bridges: string[];
  /** "Group 14, goes together" */
  legend: string;
  /** "Radeon RX 7600 and 1 more" */
  title: string;
}

/** What people look for first. */
const ORDER: readonly DeviceKind[] = ['graphics', 'accelerator', 'network', 'wireless', 'nvme', 'storage', 'usb', 'audio', 'serial', 'input', 'other', 'board', 'bridge'];

function rank({ kind }: HostDevice): number {
  return ORDER.indexOf(kind);
}

function legendOf({ number, key }: DeviceGroup, count: number): string {
  // Without an IOMMU nothing goes at all.
  if (number === undefined) return `Slot ${key.replace(/^0000:/, '')}`;
  return count > 1 ? `Group ${number}, goes together` : `Group ${number}`;
}

function frameOf(group: DeviceGroup, found: HostDevices): Frame {
  const members = group.devices.map((address) => found.devices[address]).filter((device) => device !== undefined);
  const devices = members.filter(({ role }) => role !== 'bridge').sort((a, b) => rank(a) - rank(b) || (a.address < b.address ? -1 : 1));
  const shown = devices.length > 0 ? devices : members;
  const more = shown.length - 1;
  return {
    group, devices: shown,
    bridges: devices.length > 0 ? members.filter(({ role }) => role === 'bridge').map(({ address }) => address) : [],
    legend: legendOf(group, shown.length),
    title: shown.length === 0 ? '' : more === 0 ? shown[0].name : `${shown[0].name} and ${more} more`,
  };
}

/** @returns the frames in order, and those of bridges and of the board alone */
export function framesOf(found: HostDevices): { frames: Frame[]; folded: Frame[] } {
  const all = Object.values(found.groups).map((group) => frameOf(group, found)).filter(({ devices }) => devices.length > 0);
  const useful = (frame: Frame) => frame.devices.some(({ role }) => role === 'endpoint');
  const frames = all.filter(useful).sort((a, b) => rank(a.devices[0]) - rank(b.devices[0]) || (a.devices[0].address < b.devices[0].address ? -1 : 1));
  return { frames, folded: all.filter((frame) => !useful(frame)) };
}

/** "3 ready, 1 with care, 4 not possible": what is there, in words. */
export function countWords(frames: readonly Frame[]): string {
  const count = (verdict: string) => frames.filter(({ group }) => group.verdict === verdict).length;
  return ([['ready', 'ready'], ['with-care', 'with care'], ['not-possible', 'not possible']] as const)
    .map(([verdict, words]) => [count(verdict), words] as const).filter(([number]) => number > 0).map(([number, words]) => `${number} ${words}`).join(', ');
}

/** An address as short as it can be said: the domain is almost always 0. */
export function shortAddress(address: string): string {
  return address.replace(/^0000:/, '');
}

/** Whether a search by name, vendor, address, place or kind finds it; an empty one finds all. */
export function matchesFrame({ devices, legend }: Frame, search: string): boolean {
  const words = search.toLowerCase().split(/\s+/).filter((word) => word !== '');
  const text = [legend, ...devices.flatMap(({ name, vendor, model, className, address, place = '', kind, driver = '' }) => [name, vendor, model, className, address, place, kind, driver])].join(' ').toLowerCase();
  return words.every((word) => text.includes(word));
}
