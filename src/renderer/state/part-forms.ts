// What a person types to describe a disk, a network card or a shared folder, and what is wrong with it while they type: the machine's whole
// configuration, as it would be, is held against its schema.
import * as v from 'valibot';
import { conflictsOf } from '../../shared/device-conflicts.ts';
import { parseSize } from '../../shared/disks.ts';
import { deviceConfig, type DeviceConfig } from '../../shared/machine-config.ts';
import type { DiskCache, DiskFormat } from '../../shared/virtio-config.ts';
import type { Card, DiskSettings, Share } from './parts.ts';

export const ABSOLUTE = 'Write the whole path, beginning with “/”.';

/** What is wrong, by the place in the device: "file", "backend.forwards.1.host". Only what has been typed is looked at. */
export function findings(device: unknown, others: readonly DeviceConfig[]): Record<string, string> {
  const found: Record<string, string> = {};
  const parsed = v.safeParse(deviceConfig, device);
  if (!parsed.success) {
    for (const issue of parsed.issues) found[v.getDotPath(issue) ?? ''] ??= issue.message;
    return found;
  }
  for (const { device: index, path, message } of conflictsOf([...others, parsed.output])) if (index === others.length) found[path.join('.')] ??= message;
  return found;
}

/** A path field: what is wrong with the text, before anybody has looked at the file. */
export function pathError(text: string, what: string): string | undefined {
  const path = text.trim();
  if (path === '') return `${what} is missing.`;
  return path.startsWith('/') ? undefined : ABSOLUTE;
}

// Disks.

export interface DiskForm {
  file: string;
  /** '': found out. */
  format: DiskFormat | '';
  /** Of a new image. */
  size: string;
  /** The image that a new one shows. */
  backing: string;
  readonly: boolean;
  cache: DiskCache;
  onError: 'report' | 'pause';
  serial: string;
}

export type DiskFormKind = 'new' | 'existing' | 'overlay' | 'settings';

export function emptyDiskForm(kind: DiskFormKind, file: string): DiskForm {
  return { file: kind === 'existing' ? '' : file, format: kind === 'existing' ? '' : 'qcow2', size: '20 GiB', backing: '', readonly: false, cache: 'writeback', onError: 'report', serial: '' };
}

export function diskFormOf({ file, format, readonly, cache, onError, serial }: DiskSettings): DiskForm {
  return { file, format: format ?? '', size: '', backing: '', readonly, cache, onError, serial: serial ?? '' };
}

/** The settings as a machine's file has them. */
export function diskSettings({ file, format, readonly, cache, onError, serial }: DiskForm): DiskSettings {
  return { file: file.trim(), ...(format === '' ? {} : { format }), readonly, cache, onError, ...(serial.trim() === '' ? {} : { serial: serial.trim() }) };
}

export function diskDevice(form: DiskForm): DeviceConfig {
  return { kind: 'virtio-blk', rings: 'split', queues: 1, ...diskSettings(form) };
}

/** A disk of at least one sector. */
export function sizeError(text: string): string | undefined {
  const bytes = parseSize(text, 'g');
  if (Number.isNaN(bytes)) return 'Such as 20 GiB or 512 MiB.';
  if (bytes < 2 ** 20) return 'At least 1 MiB.';
  return bytes > 2 ** 53 - 1 ? 'At most 8 PiB.' : undefined;
}

export type DiskErrors = Partial<Record<keyof DiskForm, string>>;

export function checkDisk(kind: DiskFormKind, form: DiskForm, others: readonly DeviceConfig[]): DiskErrors {
  const errors: DiskErrors = {};
  const found = findings(diskDevice(form), others);
  const file = pathError(form.file, 'The image') ?? found.file;
  if (file !== undefined) errors.file = file;
  if (found.serial !== undefined) errors.serial = found.serial;
  const size = kind === 'new' ? sizeError(form.size) : undefined;
  if (size !== undefined) errors.size = size;
  if (kind === 'overlay') {
    const backing = pathError(form.backing, 'The image below') ?? (form.backing.trim() === form.file.trim() ? 'An image cannot lie over itself.' : undefined);
    if (backing !== undefined) errors.backing = backing;
  }
  return errors;
}

// Network cards.

export interface ForwardForm {
  /** For lists on the page. */
  key: number;
  protocol: 'tcp' | 'udp';
  address: string;
  host: string;
  guest: string;
}

export interface CardForm {
  kind: 'user' | 'tap' | 'none';
  forwards: ForwardForm[];
  name: string;
  queues: string;
  mac: string;
}

let nextKey = 1;

export function emptyForward(): ForwardForm {
  return { key: nextKey++, protocol: 'tcp', address: '', host: '', guest: '' };
}

export const emptyCardForm: CardForm = { kind: 'user', forwards: [], name: '', queues: '1', mac: '' };

export function cardFormOf({ backend, mac }: Card): CardForm {
  return {
    kind: backend.kind,
    forwards: backend.kind === 'user' ? backend.forwards.map(({ protocol, address, host, guest }) => ({ key: nextKey++, protocol, address: address ?? '', host: String(host), guest: String(guest) })) : [],
    name: backend.kind === 'tap' ? backend.name : '',
    queues: backend.kind === 'tap' ? String(backend.queues) : '1',
    mac: mac ?? '',
  };
}

function wholeNumber(text: string): number {
  return /^\s*\d{1,9}\s*$/.test(text) ? Number(text) : Number.NaN;
}

function forwardsOf({ forwards }: CardForm) {
  return forwards.map(({ protocol, address, host, guest }) => ({ protocol, ...(address.trim() === '' ? {} : { address: address.trim() }), host: wholeNumber(host), guest: wholeNumber(guest) }));
}

export function cardDevice(form: CardForm, before?: Card): DeviceConfig {
  const backend = form.kind === 'user' ? { kind: 'user' as const, forwards: forwardsOf(form) } : form.kind === 'tap' ? { kind: 'tap' as const, name: form.name.trim(), queues: wholeNumber(form.queues) } : { kind: 'none' as const };
  const { mac: _, ...kept } = before ?? { kind: 'virtio-net' as const, rings: 'split' as const, linkUp: true };
  return { ...kept, backend, ...(form.mac.trim() === '' ? {} : { mac: form.mac.trim().toLowerCase() }) };
}

export interface CardErrors {
  name?: string;
  queues?: string;
  mac?: string;
  /** By the forward's key. */
  forwards: Record<number, { address?: string; host?: string; guest?: string }>;
}

const PORT = 'From 1 to 65535.';

export function checkCard(form: CardForm, others: readonly DeviceConfig[]): CardErrors {
  const found = findings(cardDevice(form), others);
  const errors: CardErrors = { forwards: {} };
  if (form.kind === 'tap') {
    const name = form.name.trim() === '' ? 'The interface is missing.' : found['backend.name'];
    if (name !== undefined) errors.name = name;
    if (found['backend.queues'] !== undefined) errors.queues = 'From 1 to 8.';
  }
  if (found.mac !== undefined) errors.mac = found.mac;
  if (form.kind !== 'user') return errors;
  form.forwards.forEach(({ key, host, guest }, index) => {
    const at = (name: string) => found[`backend.forwards.${index}.${name}`];
    const of = {
      ...(at('address') === undefined ? {} : { address: at('address') }),
      ...(at('host') === undefined ? {} : { host: Number.isNaN(wholeNumber(host)) ? PORT : at('host')!.endsWith('twice.') ? 'Forwarded twice.' : at('host') }),
      ...(at('guest') === undefined ? {} : { guest: Number.isNaN(wholeNumber(guest)) ? PORT : at('guest') }),
    };
    if (Object.keys(of).length > 0) errors.forwards[key] = of;
  });
  return errors;
}

export function cardIsRight(errors: CardErrors): boolean {
  return errors.name === undefined && errors.queues === undefined && errors.mac === undefined && Object.keys(errors.forwards).length === 0;
}

// Shared folders.

export interface ShareForm {
  tag: string;
  folder: string;
  readonly: boolean;
}

export const emptyShareForm: ShareForm = { tag: '', folder: '', readonly: false };

export function shareFormOf({ tag, folder, readonly }: Share): ShareForm {
  return { tag, folder, readonly };
}

export function shareDevice({ tag, folder, readonly }: ShareForm): DeviceConfig {
  return { kind: 'virtio-9p', rings: 'split', tag: tag.trim(), folder: folder.trim(), readonly };
}

export function checkShare(form: ShareForm, others: readonly DeviceConfig[]): Partial<Record<keyof ShareForm, string>> {
  const found = findings(shareDevice(form), others);
  const folder = pathError(form.folder, 'The folder');
  const tag = form.tag.trim() === '' ? 'The guest needs a tag to mount it by.' : found.tag;
  return { ...(tag === undefined ? {} : { tag }), ...(folder === undefined ? {} : { folder }) };
}

/** A tag like the folder's name, where that can be one. */
export function suggestedTag(folder: string): string {
  const name = folder.trim().replace(/\/+$/, '').split('/').at(-1) ?? '';
  return name.normalize('NFKD').replaceAll(/[^\x21-\x7e]+|,/g, '-').replaceAll(/^-+|-+$/g, '').slice(0, 32);
}
