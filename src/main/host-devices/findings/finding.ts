// What every finder works on, and how a finding is written.
import type { Finding, FindingCode, ForMachine, HostDevice, IommuFacts, Severity, Use } from '../../../shared/host-devices.ts';
import type { Lasting } from '../../lease/lasting.ts';
import type { Remedy } from '../distribution.ts';
import type { Host } from '../host-facts.ts';
import type { NetworkLink } from '../network.ts';
import type { Programs } from '../open-files.ts';
import type { PciFunction } from '../pci.ts';
import type { HostRoots } from '../roots.ts';

/** A machine that has devices, running or not. */
export interface Claim {
  address: string;
  /** The machine's name. */
  machine: string;
  /** Its id; names need not be unique. */
  id?: string;
  running: boolean;
}

export interface Candidate {
  fn: PciFunction;
  name: string;
  kind: HostDevice['kind'];
  role: HostDevice['role'];
  uses: Use[];
  /** The key of its group. */
  group: string;
}

export interface Scene {
  roots: HostRoots;
  host: Host;
  iommu: IommuFacts;
  devices: ReadonlyMap<string, Candidate>;
  /** Members by the group's key, in order. */
  groups: ReadonlyMap<string, Candidate[]>;
  links: readonly NetworkLink[];
  framebuffer?: { address: string; name: string };
  programs: Programs;
  claims: readonly Claim[];
  machine?: ForMachine;
  /** What the privileged helper was told that lasts. */
  lasting: Lasting;
}

export function finding(code: FindingCode, severity: Severity, sentence: string, remedy: string | Remedy = '', facts: Finding['facts'] = {}, aspect?: string): Finding {
  return { code, aspect, severity, sentence, ...(typeof remedy === 'string' ? { remedy } : remedy), facts };
}

/** What to do, with the commands that do it. */
export function remedy(words: string, commands: string[], undo?: string[]): Remedy {
  return { remedy: words, commands, ...(undo === undefined ? {} : { undo }) };
}

/** A sentence within another: "Your screen …" becomes "your screen …"; a program's name stays as it is. */
export function inside(sentence: string): string {
  return /^(A|It|Its|Interrupts|Memory|Nothing|One|Sound|The|There|They|You|Your)\b/.test(sentence) ? sentence[0].toLowerCase() + sentence.slice(1) : sentence;
}

/** "Radeon RX 7600 (0000:03:00.0)": names are not unique, addresses are. */
export function called({ name, fn }: Candidate): string {
  return `${name} (${fn.address})`;
}

/** The finding with what a button can do about it. */
export function withActions(each: Finding, ...actions: NonNullable<Finding['actions']>): Finding {
  return { ...each, actions };
}

/** "8 MiB", "1.5 GiB". */
export function size(bytes: number): string {
  const GiB = 2 ** 30;
  const MiB = 2 ** 20;
  const round = (value: number) => String(value < 10 ? Math.round(value * 10) / 10 : Math.round(value));
  if (bytes >= GiB) return `${round(bytes / GiB)} GiB`;
  if (bytes >= MiB) return `${round(bytes / MiB)} MiB`;
  return bytes >= 1024 ? `${round(bytes / 1024)} KiB` : `${bytes} bytes`;
}
