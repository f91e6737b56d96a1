// The whole model: reads everything once, puts it together, and judges. Never throws for what the host shows.
import type { DeviceGroup, Finding, ForMachine, HostDevice, HostDevices, Use, Verdict } from '../../shared/host-devices.ts';
import { FINDING_CODES } from '../../shared/host-devices.ts';
import { readLasting } from '../lease/lasting.ts';
import { computerFindings } from './findings/computer.ts';
import { deviceFindings } from './findings/device.ts';
import type { Candidate, Claim, Scene } from './findings/finding.ts';
import { inside } from './findings/finding.ts';
import { sharedFindings, splitFindings } from './findings/group.ts';
import { readHost } from './host-facts.ts';
import { readIommu } from './iommu.ts';
import { KIND_WORDS, kindOf, roleOf } from './kinds.ts';
import { networkUses, readLinks } from './network.ts';
import { readPrograms } from './open-files.ts';
import type { PciFunction } from './pci.ts';
import { isVfio, readFunctions } from './pci.ts';
import type { Names } from './pci-names.ts';
import { knownAs, pciNames, shortVendor } from './pci-names.ts';
import { peripheralUses } from './peripherals.ts';
import type { HostRoots } from './roots.ts';
import { bootFramebuffer, readScreens, screenUses } from './screens.ts';
import { Storage } from './storage.ts';

export interface ReadOptions {
  roots: HostRoots;
  /** Where this runs. */
  on?: HostDevices['on'];
  /** Machines that have devices. */
  claims?: readonly Claim[];
  /** Judges for this machine: its memory, and what is its own already. */
  machine?: ForMachine;
}

/** Its class and subclass. */
const HOST_BRIDGE = '0600';

/** The worst first. */
const RANK: Record<Finding['severity'], number> = { refused: 2, care: 1, information: 0 };

function worst(findings: readonly Finding[]): Finding | undefined {
  return findings.reduce<Finding | undefined>((best, each) => (best === undefined || RANK[each.severity] > RANK[best.severity] ? each : best), undefined);
}

/** In the lab without what changes a computer: commands and buttons would change this one. */
function asInLab({ commands: _, undo: _undo, actions, ...finding }: Finding): Finding {
  const harmless = actions?.filter(({ verb }) => verb === 'move' || verb === 'ask-rom') ?? [];
  return harmless.length === 0 ? finding : { ...finding, actions: harmless };
}

function inOrder(findings: Finding[]): Finding[] {
  return findings.sort((a, b) => FINDING_CODES.indexOf(a.code) - FINDING_CODES.indexOf(b.code));
}

function naming(names: Names, fn: PciFunction): Pick<HostDevice, 'name' | 'vendor' | 'model' | 'className'> {
  const kind = kindOf(fn.classCode);
  const vendor = names.vendor(fn.vendorId);
  const model = names.device(fn.vendorId, fn.deviceId);
  const className = names.className(fn.classCode) ?? KIND_WORDS[kind];
  const word = kind === 'board' || kind === 'other' ? className : KIND_WORDS[kind];
  const name = fn.drive !== undefined ? fn.drive : model !== undefined ? knownAs(model, kind) : vendor === undefined ? `${word[0].toUpperCase()}${word.slice(1)} ${fn.vendorId}:${fn.deviceId}` : `${shortVendor(vendor)} ${word} ${fn.deviceId}`;
  return { name, vendor: vendor ?? `Vendor ${fn.vendorId}`, model: model ?? `Device ${fn.deviceId}`, className };
}

function merged(maps: readonly Map<string, Use[]>[]): (address: string) => Use[] {
  return (address) => maps.flatMap((map) => map.get(address) ?? []);
}

function verdictOf(severity: Finding['severity'] | undefined): Verdict {
  return severity === 'refused' ? 'not-possible' : severity === 'care' ? 'with-care' : 'ready';
}

function judgeDevice({ fn, role }: Candidate, findings: readonly Finding[], general: readonly Finding[], alone: boolean): Pick<HostDevice, 'verdict' | 'sentence'> {
  if (role === 'bridge') return { verdict: 'not-possible', sentence: 'A bridge: machines get what is behind it.' };
  if (role === 'board' && alone) return { verdict: 'not-possible', sentence: 'A part of the computer\'s board: of no use to a machine.' };
  // What stops every device comes first: nothing else counts before it is mended.
  const reason = worst([...general, ...findings]);
  if (reason !== undefined && reason.severity !== 'information') return { verdict: verdictOf(reason.severity), sentence: reason.sentence };
  if (isVfio(fn.driver)) return { verdict: 'ready', sentence: 'It is set aside for machines.' };
  if (fn.driver === undefined) return { verdict: 'ready', sentence: 'Nothing on this computer uses it.' };
  return { verdict: 'ready', sentence: findings.find(({ code }) => code === 'driver-in-use')?.sentence ?? 'Nothing on this computer uses it.' };
}

const VERDICT_RANK: Record<Verdict, number> = { ready: 0, 'with-care': 1, 'not-possible': 2 };

function judgeGroup(key: string, members: readonly HostDevice[], general: Finding | undefined): DeviceGroup {
  const number = /^\d+$/.test(key) ? Number(key) : undefined;
  const given = members.filter(({ role }) => role !== 'bridge');
  const base = { key, number, devices: members.map(({ address }) => address), given: given.map(({ address }) => address) };
  if (given.length === 0) return { ...base, verdict: 'not-possible', sentence: members.length === 1 ? members[0].sentence : 'Bridges: machines get what is behind them.' };
  const judged = given.reduce((bad, each) => (VERDICT_RANK[each.verdict] > VERDICT_RANK[bad.verdict] ? each : bad));
  // The member with a reason of its own says it; the others only say that it is in their group.
  const own = given.find(({ verdict, findings }) => verdict === judged.verdict && worst(findings)?.code !== 'group-shared') ?? judged;
  const plain = given.length === 1 || general?.sentence === own.sentence || own.verdict === 'ready';
  const everyone = own.verdict === 'ready' && given.length > 1 ? (given.every(({ onVfio }) => onVfio) ? 'They are set aside for machines.' : 'Nothing on this computer uses them now.') : own.sentence;
  return { ...base, verdict: judged.verdict, sentence: plain ? everyone : `${own.name}: ${inside(own.sentence)}` };
}

/** In the order in which people count: 9 before 10, then those without a number. */
function groupOrder(a: string, b: string): number {
  const [x, y] = [a, b].map((key) => (/^\d+$/.test(key) ? Number(key) : Infinity));
  return x === y ? (a < b ? -1 : 1) : x - y;
}

export function readHostDevices({ roots, on = 'host', claims = [], machine }: ReadOptions): HostDevices {
  const names = pciNames(roots.pciIds);
  const host = readHost(roots);
  const iommu = readIommu(roots, host);
  const functions = readFunctions(roots);
  const links = readLinks(roots);
  const framebuffer = bootFramebuffer(roots, functions);
  const programs = readPrograms(roots);
  const usesOf = merged([new Storage(roots).uses(), networkUses(links), screenUses(readScreens(roots)), ...peripheralUses(roots)]);

  const titles = new Map(functions.map((fn) => [fn.address, naming(names, fn)]));
  const devices = new Map<string, Candidate>();
  const groups = new Map<string, Candidate[]>();
  for (const fn of functions) {
    const kind = kindOf(fn.classCode);
    const uses = usesOf(fn.address);
    if (framebuffer?.address === fn.address) uses.push({ kind: 'framebuffer', sentence: 'The picture that the computer started with lies in this.', detail: framebuffer.name });
    const running = programs.devices.get(fn.address);
    if (running !== undefined) uses.push({ kind: 'programs', sentence: `Held open by ${running.join(', ')}.`, detail: running.join(', ') });
    const candidate: Candidate = { fn, name: titles.get(fn.address)!.name, kind, role: roleOf(kind), uses, group: fn.group ?? fn.slot };
    devices.set(fn.address, candidate);
    groups.set(candidate.group, [...(groups.get(candidate.group) ?? []), candidate]);
  }
  // A host bridge that no driver wants stays with the computer, as the ports beside it do (AMD's processors have one at each root).
  for (const members of groups.values()) {
    if (!members.some(({ role }) => role === 'endpoint')) continue;
    for (const member of members) if (member.fn.classCode.startsWith(HOST_BRIDGE) && member.fn.driver === undefined) member.role = 'bridge';
  }
  const scene: Scene = { roots, host, iommu, devices, groups, links, framebuffer, programs, claims, machine, lasting: readLasting(roots.varLib, roots.proc) };
  const general = computerFindings(scene);
  const stopping = general.filter(({ severity }) => severity !== 'information');
  const own = new Map([...devices.values()].map((device) => [device.fn.address, deviceFindings(scene, device)]));
  const refused = new Set([...own].filter(([, findings]) => findings.some(({ severity }) => severity === 'refused')).map(([address]) => address));

  const judged = new Map<string, HostDevice>();
  for (const device of devices.values()) {
    const { fn } = device;
    const shared = device.role === 'bridge' || fn.group === undefined ? [] : [...sharedFindings(scene, device, refused), ...splitFindings(scene, device)];
    const findings = inOrder([...own.get(fn.address)!, ...shared]);
    const alone = (groups.get(device.group) ?? []).every(({ role }) => role !== 'endpoint');
    judged.set(fn.address, {
      address: fn.address, ...titles.get(fn.address)!, kind: device.kind, role: device.role,
      vendorId: fn.vendorId, deviceId: fn.deviceId, subsystemVendorId: fn.subsystemVendorId, subsystemDeviceId: fn.subsystemDeviceId,
      classCode: fn.classCode, revision: fn.revision, serial: fn.serial, place: fn.label, parent: fn.parent,
      driver: fn.driver, driverOverride: fn.driverOverride, onVfio: isVfio(fn.driver),
      bars: fn.bars, rom: fn.rom, bootVga: fn.bootVga, resets: fn.resets, numaNode: fn.numaNode,
      virtualFunctions: fn.virtualFunctions, physicalFunction: fn.physicalFunction, link: fn.link, power: fn.power,
      group: device.group, uses: device.uses, ...judgeDevice(device, findings, stopping, alone), findings,
    });
  }
  if (on === 'lab') {
    for (const device of judged.values()) device.findings = device.findings.map(asInLab);
  }
  const worstGeneral = worst(stopping);
  const { cpuVendor, virtual, kernel, memory, memlock, lockdown, vfioModule } = host;
  return {
    state: 'ready', on,
    host: { cpuVendor, virtual, kernel, memory, memlock, lockdown, vfioModule },
    iommu,
    findings: on === 'lab' ? general.map(asInLab) : general,
    devices: Object.fromEntries(judged),
    groups: Object.fromEntries([...groups.keys()].sort(groupOrder).map((key) => [key, judgeGroup(key, groups.get(key)!.map(({ fn }) => judged.get(fn.address)!), worstGeneral)])),
  };
}
