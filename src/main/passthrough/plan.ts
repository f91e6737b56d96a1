// The plan of giving devices to a machine: what would change on the computer, what is to be known before, who has to allow it. A pure function
// of what was read; the same facts give the same plan, and its digest says whether they are still the same when it is carried out.
import { createHash } from 'node:crypto';
import { isAbsolute } from 'node:path';
import type { Problem } from '../../shared/errors.ts';
import { hostDevicesOf } from '../../shared/machine-config.ts';
import type { Finding, HostDevices, Severity, Verdict } from '../../shared/host-devices.ts';
import type { MachineConfig } from '../../shared/machine-config.ts';
import type { GiveChoice, Grant, Leases, Plan } from '../../shared/passthrough.ts';
import type { Claim } from '../host-devices/findings/finding.ts';
import { inside } from '../host-devices/findings/finding.ts';
import { listed } from '../host-devices/owner.ts';
import { HELPER } from '../lease/installed.ts';
import { lockedBytes } from '../lease/pinned.ts';
import { requestLine } from '../lease/protocol.ts';
import { sudoCommand } from '../lease/start.ts';
import { deviceTroubles, identityOf, shortAddress } from './identity.ts';
import type { StepsQuestion } from './steps.ts';
import { boundBy, requestsOf, stepsFor, VFIO_DRIVER } from './steps.ts';

export interface PlanQuestion {
  /** Judged for this machine. */
  found: HostDevices;
  config: MachineConfig;
  running: boolean;
  claims: readonly Claim[];
  choice: Pick<GiveChoice, 'groups' | 'mode' | 'roms'>;
  helper: Leases['helper'];
  /** Whoever runs this needs nobody's permission. */
  root: boolean;
  grants: readonly Pick<Grant, 'machine' | 'addresses' | 'memory'>[];
}

const RANK: Record<Severity, number> = { refused: 2, care: 1, information: 0 };
const WORSE: Record<Severity, Verdict> = { refused: 'not-possible', care: 'with-care', information: 'ready' };
/** Findings that the plan's own steps mend, or that it says in another way. */
const MENDED = new Set(['memlock-low', 'no-vfio-access']);

/** Addresses that go: what the machine has, then the chosen groups whole. */
export function devicesOf({ config, choice, found }: Pick<PlanQuestion, 'config' | 'choice' | 'found'>): { all: string[]; fresh: string[] } {
  const own = hostDevicesOf(config).map(({ address }) => address);
  const chosen = choice.groups.flatMap((key) => (Object.hasOwn(found.groups, key) ? found.groups[key].given : []));
  const fresh = [...new Set(chosen)].filter((address) => !own.includes(address));
  return { all: [...own, ...fresh], fresh };
}

/** The machine's devices after the plan, for its file. */
export function devicesAfter({ config, choice, found }: Pick<PlanQuestion, 'config' | 'choice' | 'found'>): MachineConfig['devices'] {
  const rom = (address: string) => (Object.hasOwn(choice.roms, address) ? { rom: choice.roms[address] } : {});
  const kept = config.devices.map((device) => (device.kind === 'vfio-pci' ? { ...device, ...rom(device.address) } : device));
  return [...kept, ...devicesOf({ config, choice, found }).fresh.map((address) => ({ kind: 'vfio-pci' as const, address, identity: identityOf(found.devices[address]), ...rom(address) }))];
}

type Warning = Plan['warnings'][number];

/** Findings of the devices that go and of the computer, each once with the devices that it is about, in the order of the codes. */
function findingsOf(found: HostDevices, addresses: readonly string[]): Warning[] {
  const all = new Map<string, Warning>();
  const note = (finding: Finding, address?: string) => {
    const key = `${finding.code} ${finding.aspect ?? ''} ${finding.sentence}`;
    const seen = all.get(key) ?? { ...finding, devices: [] };
    all.set(key, address === undefined ? seen : { ...seen, devices: [...seen.devices, address] });
  };
  for (const finding of found.findings) note(finding);
  for (const address of addresses) for (const finding of found.devices[address].findings) note(finding, address);
  return [...all.values()];
}

/** "05:00.0 (82574L)": what the group needs besides and does not get. */
function missingFrom(key: string, addresses: readonly string[], { groups, devices }: HostDevices): string[] {
  const stays = (address: string) => {
    const { role, driver } = devices[address];
    return !addresses.includes(address) && driver !== VFIO_DRIVER && role !== 'bridge';
  };
  return groups[key].devices.filter(stays);
}

/** Only the desktop that asks is in the way: of the only graphics card, or of what is in its group. */
function onlyNotFromHere({ code, aspect, facts }: Finding, { devices }: HostDevices): boolean {
  if (code === 'only-gpu') return aspect === 'desktop';
  if (code !== 'group-shared' || !Array.isArray(facts.stay)) return false;
  return facts.stay.every((address) => devices[address].findings.every((each) => each.severity !== 'refused' || each.code === 'group-shared' || (each.code === 'only-gpu' && each.aspect === 'desktop')));
}

function refusal(question: PlanQuestion, all: readonly string[]): Problem | undefined {
  const { found, config, running, claims, choice } = question;
  const problem = (why: string, remedy: string, code: string, on = config.name): Problem => ({ attempted: 'give devices to the machine', on, why, remedy, code });
  const within = (sentence: string) => inside(sentence);
  if (found.state !== 'ready') return found.problem ?? problem('the devices have not been read yet.', '', 'devices-reader');
  const unknown = choice.groups.find((key) => !Object.hasOwn(found.groups, key));
  if (unknown !== undefined) return problem(`there is no group ${unknown} any more.`, 'Choose again.', 'no-such-group');
  if (found.on === 'lab' && choice.mode === 'kept') return problem('in the lab a machine has devices while it runs, and no longer.', 'Give them at the start of the machine.', 'lab-kept');
  const useless = choice.groups.find((key) => found.groups[key].given.every((address) => found.devices[address].role !== 'endpoint'));
  if (useless !== undefined) return problem(within(found.groups[useless].sentence), '', 'plan-refused', `group ${useless}`);
  const [trouble] = deviceTroubles(config, found, claims);
  if (trouble !== undefined) return problem(within(trouble.sentence), trouble.remedy, `device-${trouble.kind}`);
  if (running) return problem('it is running.', 'Shut it down first.', 'machine-running');
  const findings = findingsOf(found, all);
  // What concerns one device tells more than that it is in the group of another.
  // A machine that has the only graphics card can be started from a text console, or over SSH: nothing ends by giving it at its start.
  const refused = findings.filter((each) => each.severity === 'refused' && !(choice.mode === 'start' && onlyNotFromHere(each, found)));
  const worst = refused.find(({ devices, code }) => devices.length === 0 && code !== 'memory-pinned') ?? refused.find(({ code }) => code !== 'group-shared') ?? refused[0];
  if (worst !== undefined) return problem(within(worst.sentence), worst.remedy, worst.code, worst.devices.length === 0 ? config.name : listed(worst.devices.map((address) => found.devices[address].name)));
  const groups = [...new Set(all.map((address) => found.devices[address].group))];
  const noNumber = groups.find((key) => found.groups[key].number === undefined);
  if (noNumber !== undefined) return problem('without an IOMMU nothing can be given away.', '', 'iommu-off');
  for (const key of groups) {
    const missing = missingFrom(key, all, found);
    if (missing.length === 0) continue;
    const named = listed(missing.map((address) => `${found.devices[address].name} (${shortAddress(address)})`));
    return problem(`${named} ${missing.length === 1 ? 'is' : 'are'} in group ${key} as well, and a group goes together or not at all.`, 'Give the whole group, or take the others out of the machine.', 'group-shared');
  }
  const relative = Object.values(choice.roms).find((rom) => rom !== 'off' && !isAbsolute(rom.file));
  if (relative !== undefined && relative !== 'off') return problem(`the path "${relative.file}" of a ROM does not begin with a slash.`, 'Give the whole path.', 'bad-machine');
  return undefined;
}

function permissionOf({ root, found, config, choice, helper, grants }: PlanQuestion, all: readonly string[], needed: boolean): Plan['permission'] {
  // Nobody is asked in the lab: its root is the user's own (lab-lease.ts).
  if (!needed || root || found.on === 'lab') return 'none';
  if (helper.state !== 'installed') return 'helper';
  const covers = grants.some(({ machine, addresses, memory }) => machine.id === config.id && memory >= lockedBytes(config) && all.every((address) => addresses.includes(address)));
  if (covers && choice.mode === 'start') return 'granted';
  return helper.canAsk ? 'password' : 'terminal';
}

/** Of everything that a step rests on: drivers, groups, ids, limits, configuration. Not of free memory, nor of who uses what just now. */
function digestOf({ found, config, choice }: PlanQuestion, all: readonly string[], steps: Plan['steps']): string {
  const devices = all.map((address) => {
    const device = Object.hasOwn(found.devices, address) ? found.devices[address] : undefined;
    return device === undefined ? address : [address, device.vendorId, device.deviceId, device.subsystemVendorId, device.subsystemDeviceId, device.serial, device.driver, device.driverOverride, device.group, found.groups[device.group]?.devices];
  });
  const facts = [devices, found.on, found.host?.memlock, found.host?.vfioModule, config, choice.groups, choice.mode, Object.entries(choice.roms).sort(), steps.map(({ what, sentence, undo, addresses }) => [what, sentence, undo, addresses])];
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex');
}

export function planFor(question: PlanQuestion): Plan {
  const { found, config, choice, helper } = question;
  const { all, fresh } = devicesOf(question);
  const problem = refusal(question, all);
  const known = all.filter((address) => Object.hasOwn(found.devices, address));
  const findings = findingsOf(found, known);
  const severity = findings.reduce<Severity>((worst, each) => (RANK[each.severity] > RANK[worst] ? each.severity : worst), 'information');
  const about: StepsQuestion = { found, machine: config.name, devices: all, fresh, mode: choice.mode, memory: lockedBytes(config) };
  const steps = problem === undefined ? stepsFor(about) : [];
  const requests = problem === undefined ? requestsOf(about) : [];
  const bound = problem === undefined ? boundBy(about) : [];
  // A limit for good, where nobody can be asked to raise it for this machine.
  const limit = requests.length === 0 ? undefined : found.findings.find(({ code }) => code === 'memlock-low');
  const changes = requests.length > 0 && steps.some(({ what }) => what === 'unbind' || what === 'bind' || what === 'permit' || what === 'module');
  return {
    devices: all,
    verdict: problem !== undefined ? 'not-possible' : severity === 'refused' ? 'with-care' : WORSE[severity],
    ...(problem === undefined ? {} : { problem }),
    steps,
    warnings: findings.filter((each) => each.severity !== 'information' && (problem !== undefined || !MENDED.has(each.code))),
    permission: permissionOf(question, all, requests.length > 0),
    // In a terminal they would change this computer and not the lab.
    ...(found.on === 'lab' ? { commands: [], undo: [] } : {
      commands: [
        ...(changes && helper.state !== 'installed' ? helper.install : []),
        ...(changes ? [sudoCommand('apply', requests.map(requestLine))] : []),
        ...(limit?.commands ?? []),
      ],
      undo: [...bound.map((address) => `sudo ${HELPER} release ${address}`), ...(limit?.undo ?? [])],
    }),
    digest: digestOf(question, all, steps),
  };
}
