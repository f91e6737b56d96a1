// A short text that changes when hardware comes or goes, a driver binds, a disk is mounted, a cable is pulled: read once a second, so it
// reads little, nothing that takes a device's lock (a driver that hangs must not hang who looks), and nothing that wakes a sleeping card.
import { join } from 'node:path';
import type { HostRoots } from './roots.ts';
import { lines, link, names, text } from './roots.ts';

/** Classes whose members are looked at, and which of their files may change. */
const CLASSES: readonly (readonly [string, readonly string[]])[] = [
  ['block', []], ['net', ['operstate']], ['drm', ['status', 'enabled']], ['input', []], ['sound', []], ['nvme', []], ['iommu', []],
];

/** Tables with columns that stay while nothing changes; others count packets, users and what is swapped out. */
const TABLES: readonly (readonly [string, readonly number[]])[] = [['swaps', [0, 1]], ['net/route', [0, 1, 2, 3]], ['net/ipv6_route', [0, 1, 4, 8, 9]], ['modules', [0]]];

export function fingerprint(roots: HostRoots): string {
  const bus = join(roots.sys, 'bus/pci/devices');
  const parts: (string | undefined)[] = [];
  for (const address of names(bus)) parts.push(address, link(bus, address, 'driver'), link(bus, address, 'iommu_group'), text(bus, address, 'sriov_numvfs'));
  for (const [name, files] of CLASSES) {
    const folder = join(roots.sys, 'class', name);
    for (const device of names(folder)) parts.push(device, ...files.map((file) => text(folder, device, file)));
  }
  for (const node of names(roots.dev, 'vfio')) parts.push(node, String(roots.mayUse(join(roots.dev, 'vfio', node))));
  parts.push(String(roots.mayUse(join(roots.dev, 'kvm'))), ...names(roots.sys, 'bus/usb/devices'));
  parts.push(text(roots.proc, 'self/mountinfo'), text(roots.varLib, 'vitrine/state'));
  for (const [file, columns] of TABLES) for (const line of lines(roots.proc, file)) parts.push(columns.map((column) => line.trim().split(/\s+/)[column]).join(' '));
  return parts.join('\n');
}
