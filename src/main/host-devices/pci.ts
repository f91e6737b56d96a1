// The PCI functions of a host as /sys/bus/pci/devices shows them (Documentation/ABI/testing/sysfs-bus-pci). What would wake a card that
// sleeps (its configuration space, its link's speed) is not read while it sleeps.
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Bar } from '../../shared/host-devices.ts';
import type { ConfigFacts } from './config-space.ts';
import { readConfigSpace } from './config-space.ts';
import { kindOf } from './kinds.ts';
import type { HostRoots } from './roots.ts';
import { bytes, hex, lines, link, linkName, names, number, real, text } from './roots.ts';

/** domain:bus:device.function; domains of a VMD have more than four digits. */
export const ADDRESS = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$/;

/** include/linux/ioport.h */
const IORESOURCE_IO = 0x100;
const IORESOURCE_MEM = 0x200;
const IORESOURCE_PREFETCH = 0x2000;
const IORESOURCE_MEM_64 = 0x100000;
const IORESOURCE_ROM_SHADOW = 0x2;
const BARS = 6;
const ROM_LINE = 6;

export interface PciFunction {
  address: string;
  /** "0000:03:00": the card. */
  slot: string;
  /** Its folder in /sys/devices, resolved. */
  path: string;
  vendorId: string;
  deviceId: string;
  subsystemVendorId?: string;
  subsystemDeviceId?: string;
  classCode: string;
  revision?: string;
  serial?: string;
  driver?: string;
  driverOverride?: string;
  bars: Bar[];
  rom?: { size: number; shadowed: boolean };
  bootVga: boolean;
  resets: string[];
  numaNode?: number;
  virtualFunctions?: { total: number; enabled: number; addresses: string[] };
  physicalFunction?: string;
  link?: { speed: string; width: number; maxSpeed: string; maxWidth: number };
  power?: string;
  label?: string;
  /** What the drive says of itself: "Samsung SSD 980 PRO 1TB". */
  drive?: string;
  /** The bridge above it. */
  parent?: string;
  /** The IOMMU group's number, as it is written. */
  group?: string;
  /** Absent while it sleeps, or when it cannot be read. */
  config?: ConfigFacts;
}

/** The lines of `resource`: "0xSTART 0xEND 0xFLAGS". Addresses may be beyond what a number holds exactly; sizes are not. */
function resources(path: string): { size: number; flags: number }[] {
  return lines(path, 'resource').map((line) => {
    const match = /^0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16})$/i.exec(line.trim());
    if (match === null) return { size: 0, flags: 0 };
    const [start, end, flags] = match.slice(1).map((digits) => BigInt(`0x${digits}`));
    if (end === 0n && start === 0n) return { size: 0, flags: Number(flags & 0xffffffffn) };
    return { size: end < start ? 0 : Number(end - start + 1n), flags: Number(flags & 0xffffffffn) };
  });
}

function barsOf(list: { size: number; flags: number }[]): Bar[] {
  return list.slice(0, BARS).flatMap(({ size, flags }, index): Bar[] => {
    if (size === 0 || (flags & (IORESOURCE_IO | IORESOURCE_MEM)) === 0) return [];
    const kind = (flags & IORESOURCE_IO) !== 0 ? 'io' : (flags & IORESOURCE_MEM_64) !== 0 ? 'memory64' : 'memory32';
    return [{ index, kind, prefetchable: (flags & IORESOURCE_PREFETCH) !== 0, size }];
  });
}

function resetsOf(path: string): string[] {
  if (!existsSync(join(path, 'reset'))) return [];
  // Before Linux 5.15 there is no list: the kernel knows some way.
  const list = text(path, 'reset_method');
  return list === undefined ? ['unknown'] : list.split(/\s+/).filter((word) => /^[a-z_]+$/.test(word));
}

function linkOf(path: string): PciFunction['link'] {
  const width = number(path, 'current_link_width');
  const maxWidth = number(path, 'max_link_width');
  const speed = text(path, 'current_link_speed');
  const maxSpeed = text(path, 'max_link_speed');
  if (width === undefined || maxWidth === undefined || speed === undefined || maxSpeed === undefined) return undefined;
  // 0 and 255: no link, or a register that does not answer.
  if (width === 0 || width === 255 || /unknown/i.test(speed)) return undefined;
  return { speed, width, maxSpeed, maxWidth };
}

/** ADDR_ASSIGN_TYPE of include/uapi/linux/netdevice.h: the card's own address. */
const NET_ADDR_PERM = '0';

/**
 * What tells the device from others of its kind. The PCI Express serial number is root's to read (and new in sysfs); amdgpu, NVMe and network
 * drivers say theirs to everybody, but only while they have the device.
 */
function serialOf(path: string, sleeps: boolean): string | undefined {
  const own = sleeps ? undefined : (text(path, 'serial_number') ?? text(path, 'unique_id'));
  const drive = names(path, 'nvme').map((name) => text(path, 'nvme', name, 'serial')).find((serial) => serial !== undefined);
  const link = names(path, 'net').filter((name) => text(path, 'net', name, 'addr_assign_type') === NET_ADDR_PERM).map((name) => text(path, 'net', name, 'address'))[0];
  const found = [own, drive, link].find((serial) => serial !== undefined && /[^0:\s-]/.test(serial));
  return found?.replaceAll(/\p{C}/gu, '');
}

function readFunction(bus: string, address: string): PciFunction | undefined {
  const path = real(bus, address);
  if (path === undefined) return undefined;
  const vendorId = hex(4, path, 'vendor');
  const deviceId = hex(4, path, 'device');
  const classCode = hex(6, path, 'class');
  // Half gone, or no PCI function at all.
  if (vendorId === undefined || deviceId === undefined || classCode === undefined) return undefined;
  const sleeps = text(path, 'power', 'runtime_status') === 'suspended' || (text(path, 'power_state') ?? '').startsWith('D3');
  const list = resources(path);
  const raw = sleeps ? undefined : bytes(path, 'config');
  const subsystem = [hex(4, path, 'subsystem_vendor'), hex(4, path, 'subsystem_device')];
  const hasSubsystem = subsystem[0] !== undefined && subsystem[0] !== '0000' && subsystem[0] !== 'ffff';
  const total = number(path, 'sriov_totalvfs') ?? 0;
  const virtual = names(path).filter((name) => /^virtfn\d+$/.test(name)).map((name) => linkName(path, name)).filter((name): name is string => name !== undefined && ADDRESS.test(name));
  const numa = number(path, 'numa_node');
  const override = text(path, 'driver_override');
  const parent = basename(dirname(path));
  const rom = list[ROM_LINE];
  return {
    address, path, vendorId, deviceId, classCode,
    slot: address.slice(0, -2),
    subsystemVendorId: hasSubsystem ? subsystem[0] : undefined,
    subsystemDeviceId: hasSubsystem ? subsystem[1] : undefined,
    revision: hex(2, path, 'revision'),
    serial: serialOf(path, sleeps),
    driver: linkName(path, 'driver'),
    driverOverride: override === undefined || override === '' || override === '(null)' ? undefined : override,
    bars: kindOf(classCode) === 'bridge' ? [] : barsOf(list),
    rom: rom !== undefined && rom.size > 0 && existsSync(join(path, 'rom')) ? { size: rom.size, shadowed: (rom.flags & IORESOURCE_ROM_SHADOW) !== 0 } : undefined,
    bootVga: text(path, 'boot_vga') === '1',
    resets: resetsOf(path),
    numaNode: numa === undefined || numa < 0 ? undefined : numa,
    virtualFunctions: total > 0 ? { total, enabled: number(path, 'sriov_numvfs') ?? virtual.length, addresses: virtual } : undefined,
    physicalFunction: link(path, 'physfn') === undefined ? undefined : linkName(path, 'physfn'),
    link: sleeps ? undefined : linkOf(path),
    power: /^D[0-3](hot|cold)?$/.exec(text(path, 'power_state') ?? '')?.[0],
    label: text(path, 'label')?.replaceAll(/\p{C}/gu, '') || undefined,
    drive: names(path, 'nvme').map((name) => text(path, 'nvme', name, 'model')).find((model) => model !== undefined && model !== '')?.replaceAll(/\p{C}/gu, ''),
    parent: ADDRESS.test(parent) ? parent : undefined,
    group: /^\d+$/.exec(linkName(path, 'iommu_group') ?? '')?.[0],
    config: raw === undefined || raw.length < 64 ? undefined : readConfigSpace(raw),
  };
}

/** What the firmware calls the slots: "0000:03:00" → "3". */
function slotNames(roots: HostRoots): Map<string, string> {
  const found = new Map<string, string>();
  for (const name of names(roots.sys, 'bus/pci/slots')) {
    const address = text(roots.sys, 'bus/pci/slots', name, 'address');
    if (address !== undefined) found.set(address, name);
  }
  return found;
}

/** All functions, by address. */
export function readFunctions(roots: HostRoots): PciFunction[] {
  const bus = join(roots.sys, 'bus/pci/devices');
  const slots = slotNames(roots);
  return names(bus).filter((name) => ADDRESS.test(name)).flatMap((address) => {
    const found = readFunction(bus, address);
    if (found === undefined) return [];
    const slot = slots.get(found.slot);
    return [found.label === undefined && slot !== undefined ? { ...found, label: `Slot ${slot}` } : found];
  });
}

/** Drivers under which a device belongs to VFIO: vfio-pci and its variants for some cards (mlx5-vfio-pci). */
export function isVfio(driver: string | undefined): boolean {
  return driver !== undefined && /(^|[-_])vfio[-_]pci$/.test(driver);
}
