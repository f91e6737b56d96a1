// What a device's group means for it: devices of one group can reach each other's memory unseen by the IOMMU, so the kernel gives them
// away together or not at all (Documentation/driver-api/vfio.rst). Bridges of a group stay with the host.
import type { Finding } from '../../../shared/host-devices.ts';
import { listedUpTo } from '../owner.ts';
import type { Candidate, Scene } from './finding.ts';
import { called, finding } from './finding.ts';

/** @param refused what of the group must stay, by address */
export function sharedFindings(scene: Scene, device: Candidate, refused: ReadonlySet<string>): Finding[] {
  const members = (scene.groups.get(device.group) ?? []).filter((other) => other !== device);
  const others = members.filter(({ role }) => role !== 'bridge');
  const bridges = members.filter(({ role }) => role === 'bridge');
  const stay = others.filter(({ fn }) => refused.has(fn.address));
  const addresses = others.map(({ fn }) => fn.address);
  const slot = 'A slot behind another bridge may have a group of its own: moving the card there helps.';
  if (stay.length > 0) {
    return [finding('group-shared', 'refused', `It shares its group with ${listedUpTo(2, stay.map(called))}, which must stay with the computer.`, slot, { others: addresses, stay: stay.map(({ fn }) => fn.address) }, 'needed')];
  }
  // Functions of one card belong together; on a root bus they are parts of the chipset that have little to do with each other.
  const foreign = others.filter(({ fn }) => fn.slot !== device.fn.slot || fn.parent === undefined);
  if (foreign.length > 0) {
    return [finding('group-shared', 'care', `It shares its group with ${listedUpTo(3, others.map(called))}: they go together.`, `Take ${others.length === 1 ? 'it' : 'them'} along. ${slot}`, { others: addresses }, 'others')];
  }
  if (others.length > 0) return [finding('group-shared', 'information', `Its other ${others.length === 1 ? 'function goes' : 'functions go'} with it: ${listedUpTo(3, others.map(called))}.`, '', { others: addresses }, 'functions')];
  if (bridges.length > 0) return [finding('group-shared', 'information', `The bridge that it is behind is in its group, and stays with the computer: ${listedUpTo(3, bridges.map(({ fn }) => fn.address))}.`, '', { bridges: bridges.map(({ fn }) => fn.address) }, 'bridge')];
  return [];
}

/**
 * Whether pcie_acs_override has made this group smaller than the hardware's isolation says (a patch that some distributions carry):
 * `downstream` for what is behind ports without ACS, `multifunction` for functions of one card, `id:VVVV:DDDD` for certain ports.
 */
export function splitFindings(scene: Scene, device: Candidate): Finding[] {
  const { acsOverride } = scene.iommu;
  const { fn, role } = device;
  if (acsOverride === undefined || role === 'bridge' || fn.group === undefined || fn.physicalFunction !== undefined) return [];
  const words = acsOverride.toLowerCase().split(',');
  const near = [...scene.devices.values()].filter((other) => other !== device && other.group !== device.group);
  const split = new Set<string>();
  if (words.includes('multifunction')) for (const other of near) if (other.fn.slot === fn.slot && other.fn.physicalFunction === undefined) split.add(other.fn.address);
  const believed = (port: Candidate | undefined) => port === undefined || port.fn.config?.acs === true;
  for (let port = scene.devices.get(fn.parent ?? ''); port !== undefined; port = scene.devices.get(port.fn.parent ?? '')) {
    const named = words.includes(`id:${port.fn.vendorId}:${port.fn.deviceId}`) || words.includes('downstream');
    if (!named || believed(port)) continue;
    // What is behind ports beside this one could be reached without the IOMMU seeing it.
    for (const other of near) {
      const beside = scene.devices.get(other.fn.parent ?? '');
      if (other.role !== 'bridge' && beside !== undefined && beside !== port && beside.fn.parent === port.fn.parent && beside.fn.slot.slice(0, -2) === port.fn.slot.slice(0, -2)) split.add(other.fn.address);
    }
  }
  if (split.size === 0) return [];
  const others = [...split].sort();
  return [finding('acs-override', 'care', `Its group was split by the kernel parameter pcie_acs_override: the hardware does not promise that it is kept apart from ${listedUpTo(2, others.map((address) => called(scene.devices.get(address)!)))}.`, 'Give it only to guests that you trust, or take the others along as well.', { parameter: `pcie_acs_override=${acsOverride}`, others })];
}
