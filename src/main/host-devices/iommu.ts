// The IOMMU: whether it works (there are groups), which it is, whether the firmware describes one, what the kernel was told, and whether
// interrupts go through it. Read from /sys/class/iommu, the names of ACPI tables, the kernel's configuration and parameters, never
// judged by the kernel's version.
import type { IommuFacts } from '../../shared/host-devices.ts';
import type { Host } from './host-facts.ts';
import type { HostRoots } from './roots.ts';
import { lines, names, text } from './roots.ts';

/** ACPI: DMA Remapping (Intel), I/O Virtualization Reporting (AMD), I/O Remapping (Arm), Virtual I/O Translation. */
const TABLES = ['DMAR', 'IVRS', 'IORT', 'VIOT'];

function kindOf(units: readonly string[]): IommuFacts['kind'] {
  if (units.some((name) => name.startsWith('dmar'))) return 'intel';
  if (units.some((name) => name.startsWith('ivhd'))) return 'amd';
  if (units.some((name) => name.startsWith('smmu'))) return 'smmu';
  if (units.some((name) => name.startsWith('viommu') || name.startsWith('virtio'))) return 'virtio';
  return units.length > 0 ? 'other' : 'none';
}

/** The chips of remapped interrupts are called IR-… in /proc/interrupts; only x86 has this question. */
function remapping(roots: HostRoots, host: Host): IommuFacts['interruptRemapping'] {
  if (host.cpuVendor === 'arm') return 'yes';
  const chips = lines(roots.proc, 'interrupts').filter((line) => /IO-APIC|PCI-MSI/.test(line));
  if (chips.length === 0) return 'unknown';
  return chips.some((line) => /\bIR-/.test(line)) ? 'yes' : 'no';
}

export function readIommu(roots: HostRoots, host: Host): IommuFacts {
  const units = names(roots.sys, 'class/iommu');
  // A group made for the unsafe mode without any IOMMU says so.
  const groups = names(roots.sys, 'kernel/iommu_groups').filter((name) => /^\d+$/.test(name) && text(roots.sys, 'kernel/iommu_groups', name, 'name') !== 'vfio-noiommu');
  const unsafe = text(roots.sys, 'module/vfio_iommu_type1/parameters/allow_unsafe_interrupts') ?? '';
  return {
    on: groups.length > 0,
    kind: kindOf(units),
    units,
    groups: groups.length,
    tables: names(roots.sys, 'firmware/acpi/tables').filter((name) => TABLES.includes(name)),
    parameters: host.parameters.filter((word) => /iommu|intremap|pcie_acs_override|^efi=|vfio/.test(word)),
    interruptRemapping: groups.length > 0 ? remapping(roots, host) : 'unknown',
    unsafeInterruptsAllowed: /^(Y|1)/.test(unsafe),
    acsOverride: host.parameters.find((word) => word.startsWith('pcie_acs_override='))?.slice('pcie_acs_override='.length),
  };
}

/** A stretch of addresses that a group's devices must see as they are, because the firmware says so. */
export function firmwareRegions(roots: HostRoots, group: string): string[] {
  return lines(roots.sys, 'kernel/iommu_groups', group, 'reserved_regions').filter((line) => /^0x[0-9a-f]+ 0x[0-9a-f]+ direct$/i.test(line.trim())).map((line) => line.trim().split(' ').slice(0, 2).join('-'));
}
