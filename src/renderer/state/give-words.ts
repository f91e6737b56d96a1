// The words of giving devices to machines: titles, the button that says what it does, what was done. Plain functions, so that they are tested.
import type { Finding, HostDevices, Verdict } from '../../shared/host-devices.ts';
import { VERDICTS } from '../../shared/host-devices.ts';
import type { GiveMode, Plan, RemedyRequest } from '../../shared/passthrough.ts';
import type { Frame } from './device-frames.ts';

/** "A", "A and B", "A and 2 more": a list as short as a button can say it. */
export function shortList(names: readonly string[]): string {
  if (names.length <= 1) return names[0] ?? '';
  return names.length === 2 ? `${names[0]} and ${names[1]}` : `${names[0]} and ${names.length - 1} more`;
}

/** "A, B and C". */
export function listWords(names: readonly string[]): string {
  return names.length <= 1 ? (names[0] ?? '') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

/** What one calls what lies in these frames: the first of each, which is what people know. */
export function chosenWords(frames: readonly Frame[]): string {
  return shortList(frames.map(({ devices }) => devices[0].name));
}

/** The worst of some verdicts; ready without any. */
export function worst(verdicts: readonly Verdict[]): Verdict {
  return VERDICTS[Math.max(0, ...verdicts.map((verdict) => VERDICTS.indexOf(verdict)))];
}

const BY_GRAVITY = { refused: 0, care: 1, information: 2 } as const;

/** What stands in the way first, then what stops, then what is good to know; each in the order in which it was found. */
export function byGravity<F extends Finding>(findings: readonly F[]): F[] {
  return [...findings].sort((a, b) => BY_GRAVITY[a.severity] - BY_GRAVITY[b.severity]);
}

/** What refuses a start from this desktop alone: the machine can have it, and be started from a text console. */
function isForLater(finding: Finding, { devices }: HostDevices): boolean {
  const only = ({ code, aspect }: Finding): boolean => code === 'only-gpu' && aspect === 'desktop';
  if (finding.code !== 'group-shared' || !Array.isArray(finding.facts.stay)) return only(finding);
  return finding.facts.stay.every((address) => devices[address]?.findings.every((each) => each.severity !== 'refused' || each.code === 'group-shared' || only(each)) === true);
}

/** What must be settled before the chosen groups can go: their names, and the computer's own sentences. */
export function blocking(found: HostDevices, chosen: readonly Frame[]): { frames: Frame[]; computer: Finding[] } {
  return {
    frames: chosen.filter(({ group, devices }) => {
      if (group.verdict !== 'not-possible') return false;
      const refused = devices.flatMap(({ findings }) => findings.filter(({ severity }) => severity === 'refused'));
      return refused.length === 0 || !refused.every((finding) => isForLater(finding, found));
    }),
    computer: found.findings.filter(({ severity }) => severity === 'refused'),
  };
}

/** Whether doing the plan asks for a password now. What happens at the machine's start is asked for then. */
export function asksNow(permission: Plan['permission'], mode: GiveMode, grant: boolean): boolean {
  return permission === 'password' && (mode === 'kept' || grant);
}

/** "Give Radeon RX 7600 (asks for your password)". */
export function giveLabel(what: string, permission: Plan['permission'], mode: GiveMode, grant: boolean): string {
  return `Give ${what}${asksNow(permission, mode, grant) ? ' (asks for your password)' : ''}`;
}

/** The parts of a sentence in which backquotes stand around technical names. */
export function technicalParts(sentence: string): { text: string; technical: boolean }[] {
  return sentence.split('`').map((text, at) => ({ text, technical: at % 2 === 1 })).filter(({ text }) => text !== '');
}

/** Said once a button's work is done. @param on what it was about, as people call it */
export function remedyDone(request: RemedyRequest, on: string): string {
  switch (request.verb) {
    case 'load-modules': return 'The modules are loaded.';
    case 'reserve': return `${on} is reserved for machines from the next start of the computer.`;
    case 'unreserve': return `${on} is the computer’s own again from its next start.`;
    case 'set-functions': return request.count === 0 ? `${on} has no virtual functions any more.` : `${on} has ${request.count} virtual ${request.count === 1 ? 'function' : 'functions'} now.`;
    case 'restore-functions': return `${on} has as many virtual functions as before.`;
    case 'use-at': return `${on} is used in its new slot.`;
    case 'move': return `${on} is free for another machine.`;
    case 'release': return `The computer has ${on} back.`;
    case 'grant': return `${on} may have these devices without a password.`;
    case 'revoke': return `What ${on} was allowed without a password is withdrawn.`;
    case 'install-helper': return 'The helper is set up.';
    case 'remove-helper': return 'The helper is removed.';
  }
}

/** Whether the privileged helper does it, after somebody allowed that. */
export function needsHelper(verb: RemedyRequest['verb'] | 'ask-rom'): boolean {
  return !['ask-rom', 'use-at', 'move', 'install-helper', 'remove-helper'].includes(verb);
}

/** A number of virtual functions as a person typed it; what is wrong with it otherwise. */
export function parseFunctions(text: string, most: number): { count: number } | { error: string } {
  if (!/^\s*\d+\s*$/.test(text)) return { error: 'A whole number.' };
  const count = Number(text);
  return count > most ? { error: `At most ${most}.` } : { count };
}
