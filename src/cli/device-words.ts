// A PCI device as the command line says it: "pci-test,slot=5,functions=2,window=1M,dirty-log", "virtio-input,form=tablet"; one of the host:
// "vfio-pci,0000:03:00.0,rom=FILE". Disks, networks and folders have options of their own (virtio-words.ts).
import { isAbsolute, resolve } from 'node:path';
import * as v from 'valibot';
import { deviceConfig } from '../shared/machine-config.ts';
import { usage } from './usage.ts';

/** As a machine's file has it, before defaults. */
export type DeviceWish = v.InferInput<typeof deviceConfig>;

const HOST_KIND = 'vfio-pci,';
const UNITS: Record<string, number> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };
const NUMBERS = new Map([['slot', 'slot'], ['functions', 'functions'], ['window', 'window'], ['ports', 'ports'], ['cid', 'cid']]);
const TEXTS = new Map([['form', 'form'], ['rings', 'rings']]);
/** Of which kinds each option is; of every kind unless told. */
const KINDS = new Map<string, readonly string[]>([
  ...['functions', 'window', 'dirty-log', 'shared-msix'].map((name) => [name, ['pci-test']] as const),
  ['ports', ['virtio-console']], ['cid', ['virtio-vsock']], ['form', ['virtio-input']],
  ['rings', ['virtio-console', 'virtio-rng', 'virtio-balloon', 'virtio-input', 'virtio-vsock']],
]);
/** What says these instead. */
const INSTEAD = new Map([['virtio-blk', '--disk FILE'], ['virtio-scsi', '--cdrom FILE'], ['virtio-net', '--net user'], ['virtio-9p', '--share TAG=FOLDER']]);
const FLAGS = new Map([['dirty-log', 'dirtyLog'], ['shared-msix', 'sharedMsix']]);

/**
 * @param where what stands before it, for errors: "--device "
 * @param cwd what relative files are relative to. Throws a problem with code "usage".
 */
export function parseDevice(text: string, where = '', cwd = process.cwd()): DeviceWish {
  const on = `${where}${text}`;
  if (text.startsWith(HOST_KIND)) return parseHostDevice(text.slice(HOST_KIND.length), cwd, `${where}${HOST_KIND}`);
  const [kind, ...options] = text.split(',');
  const instead = INSTEAD.get(kind!);
  if (instead !== undefined) throw usage(on, `such a device is said by ${instead}.`);
  const wish: Record<string, unknown> = { kind };
  for (const option of options) {
    const [name, value] = option.split(/=(.*)/s, 2) as [string, string | undefined];
    const key = value === undefined ? FLAGS.get(name) : (NUMBERS.get(name) ?? TEXTS.get(name));
    if (key === undefined || KINDS.get(name)?.includes(kind!) === false) throw usage(on, `"${option}" is no option of a device.`);
    if (key in wish) throw usage(on, `${name} is given twice.`);
    if (value !== undefined && TEXTS.has(name)) {
      wish[key] = value;
      continue;
    }
    const match = value === undefined ? null : /^(\d{1,12})([KMG]?)$/i.exec(value);
    if (value !== undefined && match === null) throw usage(on, `"${value}" is no ${name === 'window' ? 'size' : 'number'}.`);
    wish[key] = match === null ? true : Number(match[1]) * UNITS[match[2]!.toUpperCase()]!;
  }
  const checked = v.safeParse(deviceConfig, wish);
  if (!checked.success) throw usage(on, checked.issues[0].message);
  return wish as DeviceWish;
}

/**
 * What follows --vfio-pci: "ADDRESS[,rom=FILE|off][,slot=N]". A file may have commas in its name if it comes last.
 * @param cwd what a relative file is relative to. Throws a problem with code "usage".
 */
export function parseHostDevice(text: string, cwd: string, where = '--vfio-pci '): DeviceWish {
  const on = `${where}${text}`;
  const [address = '', rest = ''] = text.split(/,(.*)/s);
  const wish: Record<string, unknown> = { kind: 'vfio-pci', address };
  for (let left = rest; left !== ''; ) {
    const [, name, value, more = ''] = /^(slot)=([^,]*)(?:,(.*))?$/s.exec(left) ?? /^(rom)=(off)(?:,(.*))?$/s.exec(left) ?? /^(rom)=(.+)$/s.exec(left) ?? [];
    if (name === undefined || value === undefined) throw usage(on, `"${left}" is no option of it: there are rom=FILE, rom=off and slot=N.`);
    if (name in wish) throw usage(on, `${name} is given twice.`);
    if (name === 'slot' && !/^\d{1,3}$/.test(value)) throw usage(on, `"${value}" is no number.`);
    wish[name] = name === 'slot' ? Number(value) : value === 'off' ? 'off' : { file: isAbsolute(value) ? value : resolve(cwd, value) };
    left = more;
  }
  const checked = v.safeParse(deviceConfig, wish);
  if (!checked.success) throw usage(on, checked.issues[0].message);
  return wish as DeviceWish;
}
