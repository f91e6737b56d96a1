// The command line: from words to a request that is right in itself, or a problem with code "usage". Nothing is opened or started here.
import { isAbsolute, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import * as v from 'valibot';
import type { GiveMode } from '../shared/passthrough.ts';
import type { NewMachine } from '../shared/protocol/front.ts';
import type { DeviceChange } from '../shared/device-change.ts';
import { conflictsOf } from '../shared/device-conflicts.ts';
import { deviceConfig, MAX_CPUS, MAX_MEMORY, MAX_NAME, MIN_MEMORY } from '../shared/machine-config.ts';
import { REMOVE_SECONDS, type Backend } from '../shared/protocol/machine.ts';
import { canonicalAddress } from '../main/lease/protocol.ts';
import { DISK_FORMATS } from '../shared/virtio-config.ts';
import { parseSize } from '../shared/disks.ts';
import type { DiskWish } from './disks.ts';
import { parseDevice, parseHostDevice, type DeviceWish } from './device-words.ts';
import { HELP } from './help.ts';
import { usage } from './usage.ts';
import { VIRTIO_OPTIONS, virtioDevices } from './virtio-words.ts';

const MiB = 2 ** 20;
const DEFAULT_MEMORY = 512 * MiB;
const DEFAULT_STOP_SECONDS = 60;
const MAX_SECONDS = 7 * 24 * 3600;
const MAX_REMOVE_SECONDS = 3600;

/** What `vitrine run` has on the terminal: the first serial port, the first virtio console (hvc0), or nothing. */
export type Terminal = 'serial' | 'console' | 'none';

export type Request =
  | { command: 'help'; topic: string }
  | { command: 'version' }
  | { command: 'run'; machine: NewMachine; /** What is on the terminal. */ terminal: Terminal; backend?: Backend }
  | { command: 'start'; names: string[]; backend?: Backend; /** Seconds after which it is stopped, unless somebody says no. */ revert?: number }
  | { command: 'stop'; names: string[]; force: boolean; seconds: number }
  | { command: 'pause' | 'resume'; names: string[] }
  | { command: 'list'; json: boolean }
  | { command: 'screenshot'; name: string; file: string }
  | { command: 'balloon'; name: string; /** What the guest shall keep of its memory; to be shown unless told. */ bytes?: number }
  | { command: 'device'; action: 'list'; name: string; json: boolean }
  | { command: 'device'; action: 'add'; name: string; devices: DeviceWish[]; /** A running machine has them after its next start, too. */ keep: boolean }
  | { command: 'device'; action: 'remove'; name: string; slot: number; force: boolean; seconds: number }
  | { command: 'create'; machine: NewMachine }
  | { command: 'change'; name: string; /** Found out unless told. */ slot?: number; change: DeviceChange }
  | { command: 'disk'; wish: DiskWish }
  | { command: 'serve'; port: number; backend?: Backend }
  | { command: 'devices'; address?: string; machine?: string; json: boolean; all: boolean; lab: boolean }
  | { command: 'plan'; machine: string; addresses: string[]; mode: GiveMode; json: boolean }
  | { command: 'bind'; addresses: string[] }
  | { command: 'release'; addresses: string[] }
  | { command: 'helper'; what: 'show' | 'install' | 'remove'; json: boolean }
  | { command: 'doctor'; json: boolean; selftest: boolean; report?: string };

type Options = Record<string, { type: 'string' | 'boolean'; multiple?: boolean }>;

/** The words after the command. Every option may be given once, unless it says `multiple`. */
function words(command: string, args: string[], options: Options, positionals: { least: number; most: number; what: string }) {
  const remedy = `"vitrine help ${command}" shows what there is.`;
  let parsed;
  try {
    parsed = parseArgs({ args, options, allowPositionals: true, strict: true, tokens: true });
  } catch (thrown) {
    throw usage(command, `${(thrown as Error).message.split('. To specify')[0].replace(/\.$/, '')}.`, remedy);
  }
  const seen = new Set<string>();
  for (const token of parsed.tokens) {
    if (token.kind !== 'option' || options[token.name]?.multiple === true) continue;
    if (seen.has(token.name)) {
      // A display is what people give twice, hoping for two.
      if (token.name === 'display') throw usage(command, 'a machine has at most one display backend, and --display is given twice.', remedy);
      throw usage(command, `--${token.name} is given twice.`, remedy);
    }
    seen.add(token.name);
  }
  const { least, most, what } = positionals;
  if (parsed.positionals.length < least) throw usage(command, `${what} is missing.`, remedy);
  if (parsed.positionals.length > most) throw usage(command, `"${parsed.positionals[most]}" is one word too many.`, remedy);
  return { values: parsed.values as Record<string, string | boolean | string[] | undefined>, positionals: parsed.positionals };
}

function wholeNumber(text: string, option: string, least: number, most: number, what: string): number {
  const number = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!(number >= least && number <= most)) throw usage(`${option} ${text}`, `${what} is a whole number from ${least} to ${most}.`);
  return number;
}

/** Bytes from "512M", "2G", "1.5G", "512". Throws when it is no size, not whole MiB, or beyond what a machine can have. */
export function memorySize(text: string): number {
  const option = `--memory ${text}`;
  const match = /^(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?)(?:i?B)?$/i.exec(text);
  if (match === null) throw usage(option, 'a size is a number with K, M, G or T behind it, such as 512M.');
  const unit = { K: 1024, M: MiB, G: 1024 * MiB, T: MiB * MiB, '': MiB }[match[2].toUpperCase()]!;
  const bytes = Number(match[1]) * unit;
  if (bytes < MIN_MEMORY) throw usage(option, `a machine needs at least ${MIN_MEMORY / MiB} MiB of memory.`);
  if (bytes > MAX_MEMORY) throw usage(option, 'a machine can have at most 1 TiB of memory.');
  if (bytes % MiB !== 0) throw usage(option, 'memory is given in whole MiB.');
  return bytes;
}

function pciAddress(text: string): string {
  const address = canonicalAddress(text);
  if (address === null) throw usage(text, 'an address of a PCI device looks like 0000:03:00.0 or 03:00.0.', '`vitrine devices` lists them.');
  return address;
}

function oneOf<T extends string>(text: string, option: string, choices: readonly T[]): T {
  const found = choices.find((choice) => choice === text);
  if (found === undefined) throw usage(`${option} ${text}`, `${option} is ${choices.join(' or ')}.`);
  return found;
}

const BACKEND_OPTIONS: Options = { kvm: { type: 'boolean' }, lab: { type: 'boolean' } };

function backend(values: Record<string, unknown>): Backend | undefined {
  if (values.kvm === true && values.lab === true) throw usage('--kvm --lab', 'a machine runs in one place.');
  return values.kvm === true ? 'kvm' : values.lab === true ? 'lab' : undefined;
}

function display(text: string): NewMachine['display'] {
  const asked = text.split(',');
  if (asked.length > 1) throw usage(`--display ${text}`, 'a machine has at most one display backend.');
  return oneOf(text, '--display', ['canvas', 'none'] as const) === 'canvas' ? { kind: 'canvas' } : { kind: 'none' };
}

const MACHINE_OPTIONS: Options = {
  kernel: { type: 'string' }, initrd: { type: 'string' }, append: { type: 'string' }, memory: { type: 'string' }, cpus: { type: 'string' }, display: { type: 'string' },
  ...VIRTIO_OPTIONS, device: { type: 'string', multiple: true }, 'vfio-pci': { type: 'string', multiple: true },
};

type Values = ReturnType<typeof words>['values'];

/** Throws when two of the devices cannot be in one machine. */
function together(devices: DeviceWish[], command: string): DeviceWish[] {
  const [conflict] = conflictsOf(devices.map((each) => v.parse(deviceConfig, each)));
  if (conflict !== undefined) throw usage(command, conflict.message);
  return devices;
}

/** All devices that the options ask for. */
function devicesIn(values: Values, cwd: string, command: string): DeviceWish[] {
  const list = (name: string) => (values[name] ?? []) as string[];
  return together([
    ...virtioDevices(values as Parameters<typeof virtioDevices>[0], cwd),
    ...list('device').map((each) => parseDevice(each, '--device ', cwd)),
    ...list('vfio-pci').map((each) => parseHostDevice(each, cwd)),
  ], command);
}

/** What MACHINE_OPTIONS describe. @param screen the display unless told */
function machineIn(values: Values, cwd: string, command: string, screen: 'canvas' | 'none'): Omit<NewMachine, 'name'> {
  const text = (name: string) => values[name] as string | undefined;
  const path = (name: string) => {
    const given = text(name);
    if (given === undefined) return undefined;
    if (given === '') throw usage(`--${name}`, 'the file\'s name is empty.');
    return isAbsolute(given) ? given : resolve(cwd, given);
  };
  const kernel = path('kernel');
  if (kernel === undefined) throw usage(command, '--kernel FILE is missing.', `"vitrine help ${command}" shows what there is.`);
  return {
    memory: text('memory') === undefined ? DEFAULT_MEMORY : memorySize(text('memory')!),
    cpus: text('cpus') === undefined ? 1 : wholeNumber(text('cpus')!, '--cpus', 1, MAX_CPUS, 'the number of CPUs'),
    boot: { kernel, initrd: path('initrd'), append: text('append') ?? '' },
    display: display(text('display') ?? screen),
    devices: devicesIn(values, cwd, command),
  };
}

const STDIO = ['stdio', 'none'] as const;

function terminalIn(values: Record<string, unknown>): Terminal {
  const own = oneOf((values.console as string | undefined) ?? 'none', '--console', STDIO);
  const serial = oneOf((values.serial as string | undefined) ?? (own === 'stdio' ? 'none' : 'stdio'), '--serial', STDIO);
  if (own === 'stdio' && serial === 'stdio') throw usage('--serial stdio --console stdio', 'one of them can be on the terminal.');
  return own === 'stdio' ? 'console' : serial === 'stdio' ? 'serial' : 'none';
}

function parseRun(args: string[], cwd: string): Request {
  const { values } = words('run', args, { ...MACHINE_OPTIONS, serial: { type: 'string' }, console: { type: 'string' }, 'exit-on-halt': { type: 'boolean' }, ...BACKEND_OPTIONS }, { least: 0, most: 0, what: '' });
  const machine = machineIn(values, cwd, 'run', 'none');
  const terminal = terminalIn(values);
  // A console needs its device.
  const devices = machine.devices ?? [];
  if (terminal === 'console' && !devices.some(({ kind }) => kind === 'virtio-console')) machine.devices = [...devices, { kind: 'virtio-console' }];
  return {
    command: 'run',
    terminal,
    backend: backend(values),
    machine: {
      name: `${machine.boot.kernel.split('/').at(-1)} (vitrine run)`.slice(-MAX_NAME),
      ...machine,
      onReset: 'stop',
      testDevices: true,
      exitOnHalt: values['exit-on-halt'] === true,
    },
  };
}

function parseCreate(args: string[], cwd: string): Request {
  const { values, positionals } = words('create', args, MACHINE_OPTIONS, { least: 1, most: 1, what: 'the machine\'s name' });
  const name = positionals[0]!.trim();
  if (name === '' || name.length > MAX_NAME) throw usage('create', `a name has 1 to ${MAX_NAME} characters.`);
  return { command: 'create', machine: { name, ...machineIn(values, cwd, 'create', 'canvas') } };
}

function slotNumber(text: string): number {
  return wholeNumber(text, 'slot', 0, 31, 'a slot');
}

function parseChange(args: string[], cwd: string): Request {
  const { values, positionals } = words('change', args, { eject: { type: 'boolean' }, drive: { type: 'string' }, slot: { type: 'string' } }, { least: 2, most: 3, what: 'the machine\'s name, or cd or link' });
  const [name, what, how] = positionals as [string, string, string | undefined];
  const slot = values.slot === undefined ? {} : { slot: slotNumber(values.slot as string) };
  if (what === 'link') {
    if (values.eject === true || values.drive !== undefined) throw usage('change', '--eject and --drive belong to cd.');
    if (how !== 'up' && how !== 'down') throw usage('change', 'link is up or down.');
    return { command: 'change', name, ...slot, change: { kind: 'link', up: how === 'up' } };
  }
  if (what !== 'cd') throw usage('change', `"${what}" is not cd or link.`);
  if ((how === undefined) !== (values.eject === true)) throw usage('change', how === undefined ? 'the medium\'s file or --eject is missing.' : 'a medium is put in or ejected, not both.');
  if (how === '') throw usage('change', 'the file\'s name is empty.');
  const drive = values.drive === undefined ? 0 : wholeNumber(values.drive as string, '--drive', 0, 63, 'a drive');
  return { command: 'change', name, ...slot, change: { kind: 'medium', drive, file: how === undefined ? null : isAbsolute(how) ? how : resolve(cwd, how) } };
}

function parseDeviceCommand(args: string[], cwd: string): Request {
  const [action = '', ...rest] = args;
  const name = "the machine's name";
  switch (action) {
    case 'list': {
      const { values, positionals } = words('device', rest, { json: { type: 'boolean' } }, { least: 1, most: 1, what: name });
      return { command: 'device', action, name: positionals[0]!, json: values.json === true };
    }
    case 'add': {
      const { values, positionals } = words('device', rest, { ...VIRTIO_OPTIONS, keep: { type: 'boolean' } }, { least: 1, most: 2, what: name });
      const devices = [...(positionals[1] === undefined ? [] : [parseDevice(positionals[1], '', cwd)]), ...devicesIn(values, cwd, 'device')];
      if (devices.length === 0) throw usage('device', 'the device is missing.', '"vitrine help device" shows what there is.');
      return { command: 'device', action, name: positionals[0]!, devices: together(devices, 'device'), keep: values.keep === true };
    }
    case 'remove': {
      const { values, positionals } = words('device', rest, { force: { type: 'boolean' }, timeout: { type: 'string' } }, { least: 2, most: 2, what: `${name} or the slot` });
      const seconds = values.timeout === undefined ? REMOVE_SECONDS : wholeNumber(values.timeout as string, '--timeout', 0, MAX_REMOVE_SECONDS, 'the time in seconds');
      return { command: 'device', action, name: positionals[0]!, slot: slotNumber(positionals[1]!), force: values.force === true, seconds };
    }
    default:
      throw usage('device', action === '' ? 'list, add or remove is missing.' : `"${action}" is not list, add or remove.`, '"vitrine help device" shows what there is.');
  }
}

function diskBytes(text: string): number {
  const bytes = parseSize(text);
  if (!(bytes >= 512 && bytes <= Number.MAX_SAFE_INTEGER)) throw usage(text, 'a disk\'s size is a number with K, M, G or T behind it, such as 20G, of at least 512 bytes.');
  return bytes;
}

function parseDiskCommand(args: string[], cwd: string): Request {
  const [action = '', ...rest] = args;
  const whole = (file: string): string => {
    if (file === '') throw usage('disk', 'the file\'s name is empty.');
    return isAbsolute(file) ? file : resolve(cwd, file);
  };
  const format = (values: Values) => (values.format === undefined ? {} : { format: oneOf(values.format as string, '--format', DISK_FORMATS) });
  switch (action) {
    case 'create': {
      const { values, positionals } = words('disk', rest, { format: { type: 'string' }, backing: { type: 'string' } }, { least: 1, most: 2, what: 'the file\'s name' });
      const [file, size] = positionals as [string, string | undefined];
      if (size === undefined && values.backing === undefined) throw usage('disk', 'the size is missing.', '"vitrine help disk" shows what there is.');
      if (values.backing !== undefined && values.format === 'raw') throw usage('--backing --format raw', 'only a qcow2 image can be an overlay of another.');
      return {
        command: 'disk',
        wish: {
          action, disk: {
            file: whole(file), format: format(values).format ?? 'qcow2', ...(size === undefined ? {} : { bytes: diskBytes(size) }), ...(values.backing === undefined ? {} : { backing: { file: whole(values.backing as string) } }),
          },
        },
      };
    }
    case 'resize': {
      const { values, positionals } = words('disk', rest, { format: { type: 'string' }, shrink: { type: 'boolean' } }, { least: 2, most: 2, what: 'the file\'s name or the size' });
      const [file, size] = positionals as [string, string];
      const relative = size.startsWith('+');
      return { command: 'disk', wish: { action, file: whole(file), bytes: diskBytes(relative ? size.slice(1) : size), relative, ...format(values), shrink: values.shrink === true } };
    }
    case 'info': {
      const { values, positionals } = words('disk', rest, { format: { type: 'string' }, json: { type: 'boolean' } }, { least: 1, most: 1, what: 'the file\'s name' });
      return { command: 'disk', wish: { action, file: whole(positionals[0]!), ...format(values), json: values.json === true } };
    }
    default:
      throw usage('disk', action === '' ? 'create, resize or info is missing.' : `"${action}" is not create, resize or info.`, '"vitrine help disk" shows what there is.');
  }
}

/** @param cwd what relative paths are relative to */
export function parseCommandLine(args: string[], cwd: string): Request {
  const [command = 'help', ...rest] = args;
  if (command === '--version' || command === '-V') return { command: 'version' };
  if (command === 'help' || command === '--help' || command === '-h') {
    const topic = rest[0] ?? '';
    if (!Object.hasOwn(HELP, topic)) throw usage(topic, 'there is no such command.');
    return { command: 'help', topic };
  }
  if (command === '' || !Object.hasOwn(HELP, command)) throw usage(command, 'there is no such command.');
  const end = rest.indexOf('--');
  if (rest.slice(0, end === -1 ? undefined : end).some((word) => word === '--help' || word === '-h')) return { command: 'help', topic: command };
  const names = { least: 1, most: Infinity, what: 'the machine\'s name' };
  const none = { least: 0, most: 0, what: '' };
  switch (command) {
    case 'run':
      return parseRun(rest, cwd);
    case 'start': {
      const { values, positionals } = words(command, rest, { revert: { type: 'string' }, ...BACKEND_OPTIONS }, names);
      const revert = values.revert === undefined ? {} : { revert: wholeNumber(values.revert as string, '--revert', 1, MAX_SECONDS, 'the time in seconds') };
      return { command, names: positionals, backend: backend(values), ...revert };
    }
    case 'stop': {
      const { values, positionals } = words(command, rest, { force: { type: 'boolean' }, timeout: { type: 'string' } }, names);
      const seconds = values.timeout === undefined ? DEFAULT_STOP_SECONDS : wholeNumber(values.timeout as string, '--timeout', 0, MAX_SECONDS, 'the time in seconds');
      return { command, names: positionals, force: values.force === true, seconds };
    }
    case 'pause':
    case 'resume':
      return { command, names: words(command, rest, {}, names).positionals };
    case 'list':
      return { command, json: words(command, rest, { json: { type: 'boolean' } }, none).values.json === true };
    case 'balloon': {
      const { positionals } = words(command, rest, {}, { least: 1, most: 2, what: 'the machine\'s name' });
      return { command, name: positionals[0]!, ...(positionals[1] === undefined ? {} : { bytes: memorySize(positionals[1]) }) };
    }
    case 'screenshot': {
      const { positionals } = words(command, rest, {}, { least: 2, most: 2, what: 'the machine\'s name or the file' });
      if (positionals[1] === '') throw usage(command, 'the file\'s name is empty.');
      return { command, name: positionals[0], file: positionals[1] };
    }
    case 'device':
      return parseDeviceCommand(rest, cwd);
    case 'create':
      return parseCreate(rest, cwd);
    case 'change':
      return parseChange(rest, cwd);
    case 'disk':
      return parseDiskCommand(rest, cwd);
    case 'serve': {
      const { values } = words(command, rest, { port: { type: 'string' }, ...BACKEND_OPTIONS }, none);
      return { command, port: values.port === undefined ? 0 : wholeNumber(values.port as string, '--port', 0, 65535, 'a port'), backend: backend(values) };
    }
    case 'devices': {
      const { values, positionals } = words(command, rest, { json: { type: 'boolean' }, all: { type: 'boolean' }, lab: { type: 'boolean' }, machine: { type: 'string' } }, { least: 0, most: 1, what: '' });
      if (positionals[0] === '' || values.machine === '') throw usage(command, 'a name is empty.');
      return { command, address: positionals[0], machine: values.machine as string | undefined, json: values.json === true, all: values.all === true, lab: values.lab === true };
    }
    case 'plan': {
      const { values, positionals } = words(command, rest, { keep: { type: 'boolean' }, json: { type: 'boolean' } }, names);
      const [machine, ...addresses] = positionals;
      if (machine === '') throw usage(command, 'a name is empty.');
      return { command, machine, addresses: [...new Set(addresses.map(pciAddress))], mode: values.keep === true ? 'kept' : 'start', json: values.json === true };
    }
    case 'bind': {
      const { positionals } = words(command, rest, {}, { least: 1, most: Infinity, what: 'the device\'s address' });
      return { command, addresses: [...new Set(positionals.map(pciAddress))] };
    }
    case 'release': {
      const { positionals } = words(command, rest, {}, { least: 0, most: Infinity, what: '' });
      return { command, addresses: [...new Set(positionals.map(pciAddress))] };
    }
    case 'helper': {
      const { values, positionals } = words(command, rest, { json: { type: 'boolean' } }, { least: 0, most: 1, what: '' });
      const what = positionals[0] ?? 'show';
      if (what !== 'show' && what !== 'install' && what !== 'remove') throw usage(command, `"${what}" is neither install nor remove.`);
      if (what !== 'show' && values.json === true) throw usage(command, `--json does not go with ${what}.`);
      return { command, what, json: values.json === true };
    }
    default: {
      const { values } = words('doctor', rest, { json: { type: 'boolean' }, selftest: { type: 'boolean' }, report: { type: 'string' } }, none);
      if (values.report !== undefined && values.selftest !== true) throw usage('doctor', '--report belongs to --selftest.');
      return { command: 'doctor', json: values.json === true, selftest: values.selftest === true, report: values.report as string | undefined };
    }
  }
}
