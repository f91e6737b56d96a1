// Where a device of the host is for VFIO: its IOMMU group and who else is in it, read from sysfs (Documentation/ABI/testing/sysfs-bus-pci,
// sysfs-kernel-iommu_groups). Nothing is changed. What the whole host has, and what may be given away, is the business of src/main.
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { HOST_ADDRESS } from '../../shared/machine-config.ts';
import { refusal } from './words.ts';

/** The drivers that hold a device for VFIO: vfio-pci and what derives from it (mlx5-vfio-pci, …). */
const FOR_VFIO = /vfio[-_]pci$/;
/** Drivers beside which VFIO calls a group whole (drivers/vfio/group.c, drivers/iommu): a bridge's, and the one that does nothing. */
const HARMLESS = /^(pci-stub|pcieport)$/;

export interface Member {
  readonly address: string;
  readonly driver: string | undefined;
}

export interface Location {
  readonly address: string;
  /** The group's number, which is the name of its node in /dev/vfio. */
  readonly group: string;
  readonly driver: string;
  readonly members: readonly Member[];
}

function linkName(path: string): string | undefined {
  try {
    return basename(readlinkSync(path));
  } catch {
    return undefined;
  }
}

/** Throws VitrineError no-such-device, no-iommu or device-not-bound. @param sys where sysfs is */
export function locate(address: string, sys = '/sys'): Location {
  const device = join(sys, 'bus/pci/devices', address);
  if (!HOST_ADDRESS.test(address) || !existsSync(device)) {
    throw refusal(address, 'this computer has no such PCI device.', '"vitrine devices" lists what there is; an address looks like 0000:03:00.0.', 'no-such-device');
  }
  const group = linkName(join(device, 'iommu_group'));
  if (group === undefined) {
    throw refusal(address, 'it is in no IOMMU group: no IOMMU keeps its memory accesses apart.', 'Switch on VT-d or AMD-Vi in the firmware set-up, and start Linux with intel_iommu=on on Intel.', 'no-iommu');
  }
  const driver = linkName(join(device, 'driver'));
  if (driver === undefined || !FOR_VFIO.test(driver)) {
    const has = driver === undefined ? 'it has no driver' : `the host's driver ${driver} has it`;
    throw refusal(address, `${has}; it must be bound to vfio-pci first.`, `Run: vitrine bind ${address}`, 'device-not-bound');
  }
  return { address, group, driver, members: groupMembers(group, sys) };
}

export function groupMembers(group: string, sys = '/sys'): Member[] {
  const folder = join(sys, 'kernel/iommu_groups', group, 'devices');
  try {
    return readdirSync(folder).sort().map((address) => ({ address, driver: linkName(join(sys, 'bus/pci/devices', address, 'driver')) }));
  } catch {
    return [];
  }
}

/** Of these devices, those that no driver of VFIO has: "0000:03:00.1 (snd_hda_intel)". What a reset takes along must all be VFIO's. */
export function notWithVfio(addresses: readonly string[], sys = '/sys'): string[] {
  return addresses.flatMap((address) => {
    const driver = linkName(join(sys, 'bus/pci/devices', address, 'driver'));
    return driver !== undefined && FOR_VFIO.test(driver) ? [] : [`${address} (${driver ?? 'no driver'})`];
  });
}

/** The members that keep a group from being given away: other drivers have them. */
export function obstacles(members: readonly Member[]): Member[] {
  return members.filter(({ driver }) => driver !== undefined && !FOR_VFIO.test(driver) && !HARMLESS.test(driver));
}
