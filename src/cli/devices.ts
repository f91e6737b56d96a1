// `vitrine devices`: the host's PCI devices in their IOMMU groups, which can be given to machines, and why not. It looks, and changes nothing.
import { VitrineError } from '../shared/errors.ts';
import type { DeviceGroup, Finding, HostDevice, HostDevices, Verdict } from '../shared/host-devices.ts';
import { VERDICT_WORDS } from '../shared/host-devices.ts';
import { claimsOf } from '../main/host-devices/claims.ts';
import type { ReadOptions } from '../main/host-devices/read.ts';
import { readHostDevices } from '../main/host-devices/read.ts';
import { realRoots } from '../main/host-devices/roots.ts';
import { readOnce, startReader } from '../main/host-devices/watch.ts';
import { Library } from '../main/library/library.ts';
import { EXIT_NOT_POSSIBLE, EXIT_OK } from './exit-codes.ts';
import type { Output } from './machines.ts';

const SIGNS: Record<Verdict, string> = { ready: '✓', 'with-care': '!', 'not-possible': '–' };
const HEADINGS: Record<Verdict, string> = { ready: 'Ready', 'with-care': 'With care', 'not-possible': 'Not possible' };
const SEVERITY_SIGNS: Record<Finding['severity'], string> = { information: '·', care: '!', refused: '–' };
/** A terminal must not obey what a device calls itself. */
const plain = (text: string) => text.replaceAll(/\p{C}/gu, '?');

/** What is to be judged for: a machine of the library, by id or name. Throws code "no-such-machine". */
function optionsFor(machine: string | undefined): ReadOptions {
  const library = new Library();
  const on = process.env.VITRINE_IN_LAB === '1' ? 'lab' : 'host';
  const base: ReadOptions = { roots: realRoots(), on, claims: claimsOf(library) };
  if (machine === undefined) return base;
  const { id, name, memory } = library.config(library.find(machine));
  return { ...base, machine: { id, name, memory } };
}

export function wrapped(text: string, indent: string, width = 110): string[] {
  const rows: string[] = [];
  let row = '';
  for (const word of text.split(' ')) {
    if (row !== '' && row.length + word.length >= width) {
      rows.push(`${indent}${row}`);
      row = '';
    }
    row += row === '' ? word : ` ${word}`;
  }
  return row === '' ? rows : [...rows, `${indent}${row}`];
}

/** What the app has a button for. */
function actionLines({ actions = [] }: Finding, indent: string): string[] {
  return actions.map(({ label }) => `${indent}  In Vitrine's window: ${plain(label)}`);
}

export function findingLines(finding: Finding, indent = ''): string[] {
  const deeper = `${indent}  `;
  return [
    ...wrapped(plain(finding.sentence), deeper).map((row, at) => (at === 0 ? `${indent}${SEVERITY_SIGNS[finding.severity]} ${row.trimStart()}` : row)),
    ...wrapped(plain(finding.remedy), `${deeper}  `),
    ...(finding.commands ?? []).map((command) => `${deeper}    ${plain(command)}`),
    ...actionLines(finding, deeper),
    ...(finding.undo === undefined ? [] : [`${deeper}  Undo:`, ...finding.undo.map((command) => `${deeper}    ${plain(command)}`)]),
  ];
}

function where({ number }: DeviceGroup): string {
  return number === undefined ? '-' : String(number);
}

/** Groups that nobody would want to give away: bridges and parts of the board alone. */
function isBoard(group: DeviceGroup, { devices }: HostDevices): boolean {
  return group.devices.every((address) => devices[address].role !== 'endpoint');
}

function groupLines(group: DeviceGroup, found: HostDevices, nameWidth: number): string[] {
  const members = group.devices.map((address) => found.devices[address]).filter(({ role }) => role !== 'bridge');
  const rows = members.map(({ address, name, driver }, at) => `  ${(at === 0 ? where(group) : '').padStart(5)}  ${address}  ${plain(name).padEnd(nameWidth)}  ${driver ?? '-'}`);
  return [...rows, ...wrapped(plain(group.sentence), ' '.repeat(9))];
}

/** The table that people read. */
export function devicesInWords(found: HostDevices, all: boolean): string {
  const groups = Object.values(found.groups);
  const shown = groups.filter((group) => group.devices.length > 0 && (all || !isBoard(group, found)));
  const folded = groups.length - shown.length;
  const lines: string[] = [];
  if (found.on === 'lab') lines.push('These are the devices of the lab, an emulated computer.', '');
  const { iommu } = found;
  if (iommu?.on === true) lines.push(`IOMMU: on (${iommu.units.join(', ') || iommu.kind}), ${iommu.groups} ${iommu.groups === 1 ? 'group' : 'groups'}`, '');
  for (const finding of found.findings) lines.push(...findingLines(finding));
  if (found.findings.length > 0) lines.push('');
  const nameWidth = Math.min(60, Math.max(0, ...shown.flatMap(({ devices }) => devices.map((address) => found.devices[address])).map(({ role, name }) => (role === 'bridge' ? 0 : name.length))));
  for (const verdict of ['ready', 'with-care', 'not-possible'] as const) {
    const own = shown.filter((group) => group.verdict === verdict);
    if (own.length === 0) continue;
    lines.push(`${SIGNS[verdict]} ${HEADINGS[verdict]}`);
    // A reason that all of them share is said once.
    const shared = own.length > 1 && own.every(({ sentence }) => sentence === own[0].sentence) ? own[0].sentence : undefined;
    if (shared !== undefined) lines.push(...wrapped(plain(shared), '  '));
    for (const group of own) lines.push(...(shared === undefined ? groupLines(group, found, nameWidth) : groupLines({ ...group, sentence: '' }, found, nameWidth)));
    lines.push('');
  }
  if (groups.length === 0) lines.push('There are no PCI devices here.', '');
  if (folded > 0) lines.push(`${folded} ${folded === 1 ? 'group holds' : 'groups hold'} bridges and parts of the board alone; --all shows them.`);
  lines.push('"vitrine devices ADDRESS" says more about one.');
  return `${lines.join('\n')}\n`;
}

function facts(device: HostDevice, group: DeviceGroup): [string, string][] {
  const size = (bytes: number) => (bytes >= 2 ** 30 ? `${bytes / 2 ** 30} GiB` : bytes >= 2 ** 20 ? `${bytes / 2 ** 20} MiB` : bytes >= 1024 ? `${bytes / 1024} KiB` : `${bytes} bytes`);
  const kinds = { io: 'I/O', memory32: '32-bit', memory64: '64-bit' };
  const id = `${device.vendorId}:${device.deviceId}`;
  const rows: [string, string | undefined][] = [
    ['Device', `${device.model} [${id}]${device.revision === undefined ? '' : `, revision ${device.revision}`}`],
    ['Vendor', device.vendor],
    ['Subsystem', device.subsystemVendorId === undefined ? undefined : `${device.subsystemVendorId}:${device.subsystemDeviceId}`],
    ['Kind', `${device.className} [${device.classCode}]`],
    ['Place', device.place],
    ['Behind', device.parent],
    ['Group', `${where(group)}${group.devices.length > 1 ? `, with ${group.devices.filter((address) => address !== device.address).join(', ')}` : ''}`],
    ['Driver', device.driver ?? 'none'],
    ['Override', device.driverOverride],
    ['BARs', device.bars.map(({ index, kind, size: bytes, prefetchable }) => `${index}: ${size(bytes)}, ${kinds[kind]}${prefetchable ? ', prefetchable' : ''}`).join('; ') || undefined],
    ['ROM', device.rom === undefined ? undefined : `${size(device.rom.size)}${device.rom.shadowed ? ', the firmware\'s copy' : ''}`],
    ['Resets', device.role === 'endpoint' ? device.resets.join(', ') || 'none' : undefined],
    ['Link', device.link === undefined ? undefined : `${device.link.speed} x${device.link.width} (of ${device.link.maxSpeed} x${device.link.maxWidth})`],
    ['NUMA node', device.numaNode === undefined ? undefined : String(device.numaNode)],
    ['Virtual functions', device.virtualFunctions === undefined ? undefined : `${device.virtualFunctions.enabled} of ${device.virtualFunctions.total}`],
    ['Virtual function of', device.physicalFunction],
    ['Power', device.power],
  ];
  return rows.filter((row): row is [string, string] => row[1] !== undefined);
}

/** All about one device. */
export function deviceInWords(found: HostDevices, device: HostDevice): string {
  const group = found.groups[device.group];
  const lines = [`${plain(device.name)} (${device.address}): ${VERDICT_WORDS[device.verdict]}`, ...wrapped(plain(device.sentence), '  '), ''];
  const rows = facts(device, group);
  const width = Math.max(...rows.map(([title]) => title.length));
  for (const [title, value] of rows) lines.push(`  ${title.padEnd(width)}  ${plain(value)}`);
  if (device.uses.length > 0) lines.push('', 'Used for', ...device.uses.map(({ sentence, detail }) => `  ${plain(sentence)} (${plain(detail)})`));
  if (device.findings.length > 0) lines.push('', 'What to know', ...device.findings.flatMap((finding) => findingLines(finding, '  ')));
  if (found.findings.length > 0) lines.push('', 'About this computer', ...found.findings.flatMap((finding) => findingLines(finding, '  ')));
  if (group.devices.length > 1) lines.push('', `Its group as a whole: ${VERDICT_WORDS[group.verdict]}. ${plain(group.sentence)}`);
  return `${lines.join('\n')}\n`;
}

/** The device that is meant by "0000:03:00.0", "03:00.0" or "3:0.0". Throws code "no-such-device". */
export function findDevice(found: HostDevices, text: string): HostDevice {
  const match = /^(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i.exec(text);
  const address = match === null ? text : `${(match[1] ?? '0').padStart(4, '0')}:${match[2].padStart(2, '0')}:${match[3].padStart(2, '0')}.${match[4]}`.toLowerCase();
  if (Object.hasOwn(found.devices, address)) return found.devices[address];
  const why = match === null ? 'that is no PCI address; they look like 0000:03:00.0.' : 'this computer has no such PCI device.';
  throw new VitrineError({ attempted: 'find the device', on: text, why, remedy: '`vitrine devices --all` shows them all.', code: 'no-such-device' });
}

/** The lab's devices, read there; the lab is started if it does not run. */
async function readInLab(machine: string | undefined): Promise<HostDevices> {
  const { claims = [], machine: judged } = optionsFor(machine);
  return readOnce(startReader(process.env, new Library().folder), { claims: [...claims], machine: judged });
}

export async function devices(request: { address?: string; machine?: string; json: boolean; all: boolean; lab: boolean }, output: Output): Promise<number> {
  const found = request.lab ? await readInLab(request.machine) : readHostDevices(optionsFor(request.machine));
  if (request.address === undefined) {
    output.out(request.json ? `${JSON.stringify(found, null, 2)}\n` : devicesInWords(found, request.all));
    return EXIT_OK;
  }
  const device = findDevice(found, request.address);
  output.out(request.json ? `${JSON.stringify(device, null, 2)}\n` : deviceInWords(found, device));
  return found.groups[device.group].verdict === 'not-possible' ? EXIT_NOT_POSSIBLE : EXIT_OK;
}
