// Disks, CDs, networks and shared folders as the command line says them: "--disk F,readonly", "--cdrom F", "--net user,forward=tcp:2222:22",
// "--share TAG=DIR". A comma in a file's name is written twice.
import { isAbsolute, resolve } from 'node:path';
import * as v from 'valibot';
import { deviceConfig } from '../shared/machine-config.ts';
import type { Forward, forward } from '../shared/virtio-config.ts';
import type { DeviceWish } from './device-words.ts';
import { usage } from './usage.ts';

/** Options of `parseArgs`. */
export const VIRTIO_OPTIONS = {
  disk: { type: 'string', multiple: true }, cdrom: { type: 'string', multiple: true }, net: { type: 'string', multiple: true }, share: { type: 'string', multiple: true },
} as const;

type Words = Partial<Record<keyof typeof VIRTIO_OPTIONS, string[]>>;

/** Splits at single commas; two commas are one that is meant. */
function splitWords(text: string): string[] {
  const words = [''];
  for (const part of text.split(/(,,|,)/)) {
    if (part === ',') words.push('');
    else words[words.length - 1] += part === ',,' ? ',' : part;
  }
  return words;
}

function whole(text: string, cwd: string): string {
  return isAbsolute(text) ? text : resolve(cwd, text);
}

function checked(wish: Record<string, unknown>, on: string): DeviceWish {
  const found = v.safeParse(deviceConfig, wish);
  if (!found.success) throw usage(on, found.issues[0].message);
  return wish as DeviceWish;
}

/** Options that hold a number, and what they are called in a machine's file. */
const NUMBERS = new Map([['slot', 'slot'], ['queues', 'queues']]);
const TEXTS = new Map([['format', 'format'], ['cache', 'cache'], ['serial', 'serial'], ['on-error', 'onError'], ['mac', 'mac'], ['rings', 'rings']]);
const FLAGS = new Map([['readonly', 'readonly']]);

/** Puts options into `wish`; each once. @param allowed which of them there are here */
function takeOptions(words: readonly string[], allowed: readonly string[], wish: Record<string, unknown>, on: string): void {
  const given = new Set<string>();
  for (const word of words) {
    const [name, value] = word.split(/=(.*)/s, 2) as [string, string | undefined];
    const key = (value === undefined ? FLAGS.get(name) : (NUMBERS.get(name) ?? TEXTS.get(name)));
    if (key === undefined || !allowed.includes(name)) {
      throw usage(on, `"${word}" is no option of it: there are ${allowed.map((each) => (FLAGS.has(each) ? each : `${each}=…`)).join(', ')}.`, 'A comma in a file\'s name is written twice.');
    }
    if (given.has(name)) throw usage(on, `${name} is given twice.`);
    given.add(name);
    if (value !== undefined && NUMBERS.has(name) && !/^\d{1,3}$/.test(value)) throw usage(on, `"${value}" is no number.`);
    wish[key] = value === undefined ? true : NUMBERS.has(name) ? Number(value) : name === 'mac' ? value.toLowerCase() : value;
  }
}

/** "FILE[,format=raw|qcow2][,readonly][,cache=writeback|none|unsafe][,serial=TEXT][,queues=N][,on-error=report|pause][,slot=N]" */
export function parseDisk(text: string, cwd: string): DeviceWish {
  const on = `--disk ${text}`;
  const [file = '', ...options] = splitWords(text);
  if (file === '') throw usage(on, 'the file\'s name is empty.');
  const wish: Record<string, unknown> = { kind: 'virtio-blk', file: whole(file, cwd) };
  takeOptions(options, ['format', 'readonly', 'cache', 'serial', 'queues', 'on-error', 'slot', 'rings'], wish, on);
  return checked(wish, on);
}

/** Drives of one SCSI controller: files with media, or "none" for an empty drive. */
export function parseCdroms(texts: readonly string[], cwd: string): DeviceWish {
  const drives = texts.map((text) => {
    if (text === '') throw usage('--cdrom', 'the file\'s name is empty.', '"--cdrom none" is an empty drive.');
    return { kind: 'cdrom' as const, file: text === 'none' ? null : whole(text, cwd) };
  });
  return checked({ kind: 'virtio-scsi', drives }, '--cdrom');
}

const FORWARD = /^(tcp|udp):(?:(\[[0-9a-f:.]+\]|\d+(?:\.\d+){3}):)?(\d{1,5}):(\d{1,5})$/i;

/** "tcp:[ADDRESS:]2222:22": what comes to port 2222 of this computer goes to port 22 of the guest. */
export function parseForward(text: string, on: string): v.InferInput<typeof forward> {
  const match = FORWARD.exec(text);
  if (match === null) throw usage(on, `"${text}" forwards nothing: it is like tcp:2222:22 or udp:127.0.0.1:5353:53, this computer's port first.`);
  const [, protocol, address, host, guest] = match as unknown as [string, string, string | undefined, string, string];
  return { protocol: protocol.toLowerCase() as Forward['protocol'], ...(address === undefined ? {} : { address: address.replaceAll(/[[\]]/g, '') }), host: Number(host), guest: Number(guest) };
}

/** "user[,forward=…]…", "tap=NAME[,queues=N]" or "none", and mac=ADDRESS, link=up|down, slot=N with each. */
export function parseNet(text: string): DeviceWish {
  const on = `--net ${text}`;
  const [first = '', ...options] = splitWords(text);
  const wish: Record<string, unknown> = { kind: 'virtio-net' };
  const common = ['mac', 'slot', 'rings'];
  const links = options.filter((option) => option.startsWith('link='));
  if (links.length > 1) throw usage(on, 'link is given twice.');
  if (links.length === 1) {
    if (!/^link=(up|down)$/.test(links[0]!)) throw usage(on, 'link is up or down.');
    wish.linkUp = links[0] === 'link=up';
  }
  const rest = options.filter((option) => !links.includes(option));
  const tap = /^tap=(.*)$/s.exec(first)?.[1];
  if (first === 'user') {
    const forwards = rest.filter((option) => option.startsWith('forward='));
    wish.backend = { kind: 'user', forwards: forwards.map((option) => parseForward(option.slice('forward='.length), on)) };
    takeOptions(rest.filter((option) => !forwards.includes(option)), common, wish, on);
  } else if (tap !== undefined) {
    const own: Record<string, unknown> = {};
    takeOptions(rest.filter((option) => option.startsWith('queues=')), ['queues'], own, on);
    wish.backend = { kind: 'tap', name: tap, ...own };
    takeOptions(rest.filter((option) => !option.startsWith('queues=')), common, wish, on);
  } else if (first === 'none') {
    wish.backend = { kind: 'none' };
    takeOptions(rest, common, wish, on);
  } else throw usage(on, `"${first}" is no network: there are user, tap=NAME and none.`);
  return checked(wish, on);
}

/** "TAG=FOLDER[,readonly][,slot=N]" */
export function parseShare(text: string, cwd: string): DeviceWish {
  const on = `--share ${text}`;
  const [first = '', ...options] = splitWords(text);
  const [, tag, folder] = /^([^=]*)=(.*)$/s.exec(first) ?? [];
  if (tag === undefined || folder === undefined || tag === '' || folder === '') throw usage(on, 'it is TAG=FOLDER: what the guest mounts, and the folder of this computer.');
  const wish: Record<string, unknown> = { kind: 'virtio-9p', tag, folder: whole(folder, cwd) };
  takeOptions(options, ['readonly', 'slot', 'rings'], wish, on);
  return checked(wish, on);
}

/** The devices that these options ask for, in the order disks, CDs, networks, folders. Throws a problem with code "usage". */
export function virtioDevices({ disk = [], cdrom = [], net = [], share = [] }: Words, cwd: string): DeviceWish[] {
  return [
    ...disk.map((each) => parseDisk(each, cwd)),
    ...(cdrom.length === 0 ? [] : [parseCdroms(cdrom, cwd)]),
    ...net.map(parseNet),
    ...share.map((each) => parseShare(each, cwd)),
  ];
}
