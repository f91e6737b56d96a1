// `vitrine plan`: what giving devices to a machine would change on this computer, before anything is changed. The same plan as in the wizard.
import { VitrineError } from '../shared/errors.ts';
import type { HostDevices } from '../shared/host-devices.ts';
import type { GiveMode, Plan } from '../shared/passthrough.ts';
import { isHeld } from '../vmm/server/run-record.ts';
import { claimsOf } from '../main/host-devices/claims.ts';
import { readHostDevices } from '../main/host-devices/read.ts';
import { realRoots } from '../main/host-devices/roots.ts';
import { grantsOf } from '../main/passthrough/given.ts';
import { shortAddress } from '../main/passthrough/identity.ts';
import { hostPlace } from '../main/passthrough/place.ts';
import { planFor } from '../main/passthrough/plan.ts';
import { Library } from '../main/library/library.ts';
import { findDevice, findingLines, wrapped } from './devices.ts';
import { EXIT_NOT_POSSIBLE, EXIT_NO_PERMISSION, EXIT_OK } from './exit-codes.ts';
import type { Output } from './machines.ts';

const PERMISSION: Record<Plan['permission'], string> = {
  none: 'Nobody has to allow it.',
  password: 'You are asked for permission, once.',
  granted: 'It was allowed for this machine and these devices: nobody is asked.',
  terminal: 'Nobody can be asked for permission here; these commands do it in a terminal:',
  helper: 'The privileged helper has to be installed first. These commands do both:',
};

/** The groups of these addresses, each once. Throws code "no-such-device". */
function groupsOf(addresses: readonly string[], found: HostDevices): string[] {
  return [...new Set(addresses.map((address) => findDevice(found, address).group))];
}

/** What people read. */
export function planInWords(plan: Plan, machine: string, found: HostDevices): string {
  const lines: string[] = [];
  const plain = (text: string) => text.replaceAll('`', '').replaceAll(/\p{C}/gu, '?');
  if (plan.problem !== undefined) lines.push(...wrapped(plain(`Not possible: ${plan.problem.on === machine ? '' : `${plan.problem.on}: `}${plan.problem.why}`), ''), ...wrapped(plain(plan.problem.remedy), '  '), '');
  else if (plan.devices.length === 0) lines.push(`${plain(machine)} has no devices of this computer.`, '');
  else if (plan.steps.length === 0) lines.push('Nothing has to be changed.', '');
  for (const [at, { sentence, detail, undo }] of plan.steps.entries()) {
    const number = `${at + 1}. `.padStart(4);
    lines.push(...wrapped(plain(sentence), '    ').map((row, index) => (index === 0 ? `${number}${row.trimStart()}` : row)), ...wrapped(plain(detail), '      '), ...(undo === '' ? [] : wrapped(plain(`Undone: ${undo[0].toLowerCase()}${undo.slice(1)}`), '      ')));
  }
  if (plan.steps.length > 0) lines.push('');
  if (plan.warnings.length > 0) {
    lines.push('What to know before');
    for (const warning of plan.warnings) {
      const names = warning.devices.map((address) => `${found.devices[address].name} (${shortAddress(address)})`).join(', ');
      lines.push(...(names === '' ? [] : [`  ${plain(names)}`]), ...findingLines(warning, '  '));
    }
    lines.push('');
  }
  if (plan.problem !== undefined || plan.devices.length === 0) return `${lines.join('\n').trimEnd()}\n`;
  lines.push(PERMISSION[plan.permission]);
  if (plan.commands.length > 0) {
    if (plan.permission === 'password' || plan.permission === 'granted' || plan.permission === 'none') lines.push('The same in a terminal:');
    lines.push(...plan.commands.map((command) => `  ${plain(command)}`));
    if (plan.undo.length > 0) lines.push('Undo:', ...plan.undo.map((command) => `  ${plain(command)}`));
  }
  return `${lines.join('\n').trimEnd()}\n`;
}

export async function plan(request: { machine: string; addresses: string[]; mode: GiveMode; json: boolean }, output: Output): Promise<number> {
  const library = new Library();
  const id = library.find(request.machine);
  const config = library.config(id);
  const place = hostPlace(process.env);
  const claims = claimsOf(library);
  const on = process.env.VITRINE_IN_LAB === '1' ? 'lab' : 'host';
  const found = readHostDevices({ roots: realRoots(), on, claims, machine: { id, name: config.name, memory: config.memory } });
  if (found.problem !== undefined) throw new VitrineError(found.problem);
  const made = planFor({ found, config, running: isHeld(library.folderOf(id)), claims, choice: { groups: groupsOf(request.addresses, found), mode: request.mode, roms: {} }, helper: place.helper(), root: place.root, grants: grantsOf(place, () => undefined, true) });
  output.out(request.json ? `${JSON.stringify(made, null, 2)}\n` : planInWords(made, config.name, found));
  if (made.problem !== undefined) return EXIT_NOT_POSSIBLE;
  return made.permission === 'terminal' || made.permission === 'helper' ? EXIT_NO_PERMISSION : EXIT_OK;
}
