// What is said to the privileged helper (native/lease) and what it answers: a line for a request, lines up to an empty one for its answer.
// The helper judges every request by itself; this side only spells it.
import { VitrineError } from '../../shared/errors.ts';

export type LeaseRequest =
  | { verb: 'plan' | 'bind' | 'unbind'; address: string }
  | { verb: 'permit'; group: number }
  | { verb: 'memlock'; pid: number; bytes: number }
  | { verb: 'module'; name: LeaseModule }
  | { verb: 'keep' | 'held' | 'kept' };

/** What a machine's devices are taken by. */
export type TakingRequest = { verb: 'bind'; address: string } | { verb: 'permit'; group: number };

/** Each device bound, then each group's node. */
export function takingRequests(addresses: readonly string[], groups: Iterable<number>): TakingRequest[] {
  return [...addresses.map((address) => ({ verb: 'bind' as const, address })), ...Array.from(groups, (group) => ({ verb: 'permit' as const, group }))];
}

/** How many devices one request of the command line names at most (native/lease/helper.h, MAX_GRANTED). */
export const MOST_NAMED = 32;

/** What the helper loads (native/lease/request.c). */
export const LEASE_MODULES = ['vfio', 'vfio_iommu_type1', 'vfio-pci', 'kvm', 'kvm_intel', 'kvm_amd'] as const;
export type LeaseModule = (typeof LEASE_MODULES)[number];

/** The request as the one line that the helper takes, without its end. */
export function requestLine(request: LeaseRequest): string {
  switch (request.verb) {
    case 'plan':
    case 'bind':
    case 'unbind':
      return `${request.verb} ${request.address}`;
    case 'permit':
      return `permit ${request.group}`;
    case 'memlock':
      return `memlock ${request.pid} ${request.bytes}`;
    case 'module':
      return `module ${request.name}`;
    default:
      return request.verb;
  }
}

/** An address as people write it (03:00.0, 0000:03:00.0, capitals) as the kernel does; null when it is none. */
export function canonicalAddress(text: string): string | null {
  const match = /^(?:([0-9a-f]{4}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])$/.exec(text.toLowerCase());
  return match === null ? null : `${match[1] ?? '0000'}:${match[2]}:${match[3]}.${match[4]}`;
}

export interface LeaseAnswer {
  /** "ok", or the helper's word for what was wrong. */
  code: string;
  /** Why it was refused, in words; empty when it was not. */
  why: string;
  /** Lines of data: "step override 0000:03:00.0 -" is kind "step". */
  data: { kind: string; words: string[] }[];
  /** What happened besides. */
  notes: string[];
}

/** One answer's lines. Throws when they are no answer. */
export function readAnswer(lines: string[]): LeaseAnswer {
  const answer: LeaseAnswer = { code: '', why: '', data: [], notes: [] };
  for (const line of lines) {
    const [kind, ...words] = line.split(' ');
    if (kind === 'note') answer.notes.push(words.join(' '));
    else if (kind === 'ok') answer.code = 'ok';
    else if (kind === 'error') [answer.code, answer.why] = [words[0] ?? '', words.slice(1).join(' ')];
    else answer.data.push({ kind: kind!, words });
  }
  return answer;
}

/** Makes answers of what comes from the helper, piece by piece. */
export class AnswerReader {
  #rest = '';

  push(text: string): LeaseAnswer[] {
    const blocks = (this.#rest + text).split('\n\n');
    this.#rest = blocks.pop()!;
    return blocks.map((block) => readAnswer(block.split('\n').filter((line) => line !== '')));
  }

  /** What came after the last whole answer: a way without requests ends so. */
  end(): LeaseAnswer {
    return readAnswer(this.#rest.split('\n').filter((line) => line !== ''));
  }
}

/** What a user can do about the helper's refusals. */
const REMEDIES: Record<string, string> = {
  'no-device': '`vitrine devices` lists what there is.',
  bridge: 'Give away what lies behind it.',
  'no-group': 'Switch the IOMMU on: `vitrine devices` says how on this computer.',
  'virtual-functions': 'Set their number to 0 first, or give one of them to the machine.',
  'not-viable': 'Everything in a group goes together, or nothing: name all of its devices.',
  leased: 'It is free when that machine has ended or its user has released it.',
  held: 'Stop that machine.',
  'in-use': 'Stop the machine that uses it.',
  hang: 'Reserving it from start-up is the way that works for such devices.',
  memory: 'Give the machine less memory, or end other programs.',
  module: 'Install the kernel\'s modules for VFIO; some distributions have them in a package of their own.',
  bind: '`dmesg` shows what the kernel says about it.',
  'no-sriov': 'Only cards with SR-IOV show themselves as several.',
  'no-driver': 'Its driver must be loaded: give the card back to it first.',
  functions: 'Choose a smaller number.',
  twin: '`driverctl set-override ADDRESS vfio-pci` reserves by address and leaves the other alone.',
  'built-in': '`driverctl set-override ADDRESS vfio-pci` takes it from its driver early at start-up.',
  'only-display': 'Put another card in, or switch the processor\'s own graphics on in the firmware\'s set-up.',
  'no-initramfs': 'Write the file in /etc/modprobe.d by hand, in the way of this distribution.',
  initramfs: 'Make room on /boot or repair what it says, then try again.',
  virtual: 'Give the card that it belongs to, or set the number of its virtual functions at each start.',
  'not-granted': 'Allow it for this machine on the Devices page, or start it with a password.',
  'other-device': 'Revoke what was allowed, and allow the new device.',
  untrusted: 'Only root may be able to change that folder: sudo chown root: and sudo chmod go-w.',
  'not-leased': '`vitrine release` without an address shows what is kept.',
};

/** The helper's refusal as the error that users see: code "lease-" and its word. */
export function refusal(answer: LeaseAnswer, attempted: string, on: string): VitrineError {
  const why = answer.why === '' ? 'the helper did not say why.' : `${answer.why}.`;
  const also = answer.notes.length === 0 ? '' : ` (${answer.notes.join('; ')})`;
  return new VitrineError({ attempted, on, why: `${why}${also}`, remedy: REMEDIES[answer.code] ?? '', code: `lease-${answer.code === '' ? 'failed' : answer.code}` });
}
