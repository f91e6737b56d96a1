// IOMMU groups as far as a lease needs them, read from sysfs by an ordinary user: which group a device is in, and who else. The helper
// judges by itself; this is for plans, and for what users are told before they are asked for permission.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { VitrineError } from '../../shared/errors.ts';
import { Lease } from './lease.ts';
import type { LeaseOptions } from './lease.ts';
import type { TakingRequest } from './protocol.ts';
import { takingRequests } from './protocol.ts';

const GIVE = 'give devices to vfio-pci';

function linkName(path: string): string | null {
  try {
    return basename(readlinkSync(path));
  } catch {
    return null;
  }
}

/** The IOMMU group of a device. Throws codes "lease-no-device" and "lease-no-group", which the helper would say after a question. */
export function groupOf(address: string, sys = '/sys'): number {
  const device = join(sys, 'bus/pci/devices', address);
  if (linkName(device) === null) throw new VitrineError({ attempted: GIVE, on: address, why: 'there is no such PCI device.', remedy: '`vitrine devices` lists what there is.', code: 'lease-no-device' });
  const group = linkName(join(device, 'iommu_group'));
  if (group === null) throw new VitrineError({ attempted: GIVE, on: address, why: 'it is in no IOMMU group: the IOMMU is off, or does not see it.', remedy: '`vitrine devices` says how to switch it on.', code: 'lease-no-group' });
  return Number(group);
}

/** Host bridges without a driver stay with the computer as ports do (native/lease/device.c). */
function isHostBridge(address: string, sys: string): boolean {
  try {
    return readFileSync(join(sys, 'bus/pci/devices', address, 'class'), 'latin1').startsWith('0x0600');
  } catch {
    return false;
  }
}

/** Members of the devices' groups that would stay with a driver of the host, bridges aside. */
export function leftOut(addresses: string[], sys = '/sys'): string[] {
  const groups = new Set(addresses.map((address) => groupOf(address, sys)));
  return [...groups].flatMap((group) => readdirSync(join(sys, 'kernel/iommu_groups', String(group), 'devices'))).filter((address) => {
    const driver = linkName(join(sys, 'bus/pci/devices', address, 'driver'));
    return !addresses.includes(address) && driver !== 'vfio-pci' && driver !== 'pcieport' && !(driver === null && isHostBridge(address, sys));
  });
}

/** What makes devices usable for machines of this user: each bound, then each group's node. */
export function requestsFor(addresses: string[], sys = '/sys'): TakingRequest[] {
  const groups = new Set(addresses.map((address) => groupOf(address, sys)));
  return takingRequests(addresses, groups);
}

/** The helper's refusal of an incomplete group, with the devices that are to be named as well; any other error as it is. */
export function nameTheOthers(thrown: unknown, addresses: string[], sys = '/sys'): unknown {
  if (!(thrown instanceof VitrineError && thrown.problem.code === 'lease-not-viable')) return thrown;
  const others = leftOut(addresses, sys);
  if (others.length === 0) return thrown;
  return new VitrineError({ ...thrown.problem, remedy: `Everything in a group goes together, or nothing: vitrine bind ${[...addresses, ...others].join(' ')}` }, { cause: thrown });
}

/**
 * A lease of devices with their groups, all or none of them, for a machine that is about to start. Give `descriptor` to the machine's process,
 * have `memlock` raise its limit, and let go with `release`. Nobody is asked for what `options.granted` names (lasting.ts, `grantedFor`).
 */
export async function leaseDevices(addresses: string[], options: LeaseOptions = {}, sys = '/sys'): Promise<Lease> {
  try {
    return await Lease.take(requestsFor(addresses, sys), options);
  } catch (thrown) {
    throw nameTheOthers(thrown, addresses, sys);
  }
}
