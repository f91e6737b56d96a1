// The devices that a machine has of its own, sorted as people look for them: disks, CD drives, network cards, shared folders, the rest. And how each
// is said.
import type { DiskDescription, LookedAt } from '../../shared/disks.ts';
import { DISKS_FOLDER, sizeWords } from '../../shared/disks.ts';
import { FORWARD_ADDRESS } from '../../shared/device-conflicts.ts';
import type { DeviceConfig, MachineConfig, VirtioConfigOf } from '../../shared/machine-config.ts';
import type { LibraryEntry, Library } from '../../shared/protocol/front.ts';
import { withSlots } from '../../shared/slots.ts';
import type { DiskCache, Forward } from '../../shared/virtio-config.ts';

type Placed<Device extends DeviceConfig> = Device & { slot: number };
type ScsiDrive = VirtioConfigOf<'virtio-scsi'>['drives'][number];
export type DiskSettings = Omit<Extract<ScsiDrive, { kind: 'disk' }>, 'kind'>;
export type Card = Placed<VirtioConfigOf<'virtio-net'>>;
export type Share = Placed<VirtioConfigOf<'virtio-9p'>>;
export type Scsi = Placed<VirtioConfigOf<'virtio-scsi'>>;
export type OtherDevice = Placed<VirtioConfigOf<'virtio-console' | 'virtio-rng' | 'virtio-balloon' | 'virtio-input' | 'virtio-vsock' | 'virtio-scsi'>>;

export interface DiskPart {
  slot: number;
  disk: DiskSettings;
  /** On a SCSI controller: the controller, and its place there. */
  at?: { controller: Scsi; drive: number };
  /** A virtio-blk as its file has it. */
  device?: Placed<VirtioConfigOf<'virtio-blk'>>;
}

export interface CdPart {
  slot: number;
  drive: number;
  file: string | null;
  controller: Scsi;
}

export interface Parts {
  disks: DiskPart[];
  drives: CdPart[];
  cards: Card[];
  shares: Share[];
  others: OtherDevice[];
}

/** The devices with their slots; a file in which they cannot all have one shows none. */
export function placedDevices(config: Pick<MachineConfig, 'devices'> | undefined): Placed<DeviceConfig>[] {
  try {
    return withSlots(config?.devices ?? []);
  } catch {
    return [];
  }
}

export function partsOf(config: Pick<MachineConfig, 'devices'> | undefined): Parts {
  const parts: Parts = { disks: [], drives: [], cards: [], shares: [], others: [] };
  for (const device of placedDevices(config)) {
    const { slot } = device;
    switch (device.kind) {
      case 'virtio-blk':
        parts.disks.push({ slot, disk: device, device });
        break;
      case 'virtio-scsi':
        device.drives.forEach((each, drive) => {
          if (each.kind === 'disk') parts.disks.push({ slot, disk: each, at: { controller: device, drive } });
          else parts.drives.push({ slot, drive, file: each.file, controller: device });
        });
        if (device.drives.length === 0) parts.others.push(device);
        break;
      case 'virtio-net':
        parts.cards.push(device);
        break;
      case 'virtio-9p':
        parts.shares.push(device);
        break;
      case 'virtio-console':
      case 'virtio-rng':
      case 'virtio-balloon':
      case 'virtio-input':
      case 'virtio-vsock':
        parts.others.push(device);
        break;
      case 'pci-test':
      case 'vfio-pci':
    }
  }
  return parts;
}

export function fileName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1) || path;
}

/** "qcow2, 20 GiB, takes 196 KiB, overlay of base.qcow2" */
export function diskWords({ format, bytes, allocated, backing }: DiskDescription): string {
  return [format, sizeWords(bytes), ...(allocated === undefined ? ['a block device'] : [`takes ${sizeWords(allocated)}`]), ...(backing === undefined ? [] : [`overlay of ${fileName(backing.file)}`])].join(', ');
}

const CACHES: Record<DiskCache, string> = { writeback: '', none: 'past the page cache', unsafe: 'flushes ignored' };

/** What of a disk's settings is not as usual: "read-only, flushes ignored". */
export function settingWords({ readonly, cache, onError, serial }: DiskSettings): string {
  return [readonly ? 'read-only' : '', CACHES[cache], onError === 'pause' ? 'pauses at an error' : '', serial === undefined ? '' : `serial ${serial}`].filter((each) => each !== '').join(', ');
}

/** Why an image is not as it should be; null when all is well, or not known yet. */
export function imageTrouble(look: LookedAt | undefined): string | null {
  if (look === undefined) return null;
  if ('problem' in look) return `${look.problem.why} ${look.problem.remedy}`.trim();
  if (look.disk.corrupt) return 'it is damaged: it can only be read until “qemu-img check -r all” has mended it.';
  return null;
}

/** Names of the other machines that have this file as a disk or a medium, with those that run first. */
export function othersWith(machines: Library | null, file: string, id: string): { name: string; live: boolean }[] {
  return Object.values(machines ?? {}).filter((entry) => entry.id !== id && filesOf(entry).includes(file))
    .map((entry) => ({ name: entry.config?.name ?? entry.id, live: entry.state !== 'off' && entry.state !== 'failed' }))
    .sort((a, b) => Number(b.live) - Number(a.live) || a.name.localeCompare(b.name));
}

/** Every image and medium that a machine names. */
export function filesOf({ config }: Pick<LibraryEntry, 'config'>): string[] {
  const { disks, drives } = partsOf(config);
  return [...disks.map(({ disk }) => disk.file), ...drives.flatMap(({ file }) => (file === null ? [] : [file]))];
}

/** The folder for disks that go with a machine. */
export function disksFolder(library: string, id: string): string {
  return `${library}/${id}/${DISKS_FOLDER}`;
}

/** A file there that no disk of the machine has. */
export function freeDiskName(library: string, entry: Pick<LibraryEntry, 'id' | 'config'>, word = 'disk'): string {
  const taken = filesOf(entry);
  for (let number = 1; ; number++) {
    const file = `${disksFolder(library, entry.id)}/${word}${number === 1 ? '' : `-${number}`}.qcow2`;
    if (!taken.includes(file)) return file;
  }
}

/** Images of a machine that lie in its own folder and go with it. */
export function ownDisks(library: string | undefined, entry: Pick<LibraryEntry, 'id' | 'config'>): string[] {
  return library === undefined ? [] : filesOf(entry).filter((file) => file.startsWith(`${library}/${entry.id}/`));
}

export function cardWords({ backend }: Pick<Card, 'backend'>): string {
  if (backend.kind === 'user') return 'User-mode network';
  return backend.kind === 'tap' ? `Interface ${backend.name}` : 'Not connected';
}

/** "tcp 127.0.0.1:2222 to 22" */
export function forwardLine({ protocol, address = FORWARD_ADDRESS, host, guest }: Forward): string {
  return `${protocol} ${address.includes(':') ? `[${address}]` : address}:${host} to ${guest}`;
}

/** What a shell takes for one word. */
function quoted(word: string): string {
  return /^[\w.+-]+$/.test(word) ? word : `'${word.replaceAll('\'', String.raw`'\''`)}'`;
}

/** How a Linux guest mounts a shared folder. */
export function mountCommand({ tag, readonly }: Pick<Share, 'tag' | 'readonly'>): string {
  return `mount -t 9p -o ${readonly ? 'ro,' : ''}trans=virtio,version=9p2000.L ${quoted(tag)} /mnt`;
}

/** A device of the last kind: its name, and what it is for. */
export function otherWords(device: OtherDevice): { name: string; use: string } {
  switch (device.kind) {
    case 'virtio-console': return { name: 'Console', use: device.ports === 1 ? 'The guest’s hvc0.' : `${device.ports} ports, the first of them the guest’s hvc0.` };
    case 'virtio-rng': return { name: 'Random numbers', use: 'This computer’s entropy for the guest.' };
    case 'virtio-balloon': return { name: 'Balloon', use: 'Gives memory that the guest does not use back to this computer.' };
    case 'virtio-input': return device.form === 'tablet' ? { name: 'Tablet', use: 'The pointer enters and leaves the guest’s screen freely.' } : { name: 'Keyboard', use: 'Beside the PS/2 keyboard that every machine has.' };
    case 'virtio-vsock': return { name: 'Sockets', use: `To programs of this computer, without a network; the guest is number ${device.cid}.` };
    case 'virtio-scsi': return { name: 'SCSI controller', use: 'Without drives.' };
  }
}

/** A number for the socket device of one more machine. */
export function freeCid(machines: Library | null): number {
  const taken = Object.values(machines ?? {}).flatMap(({ config }) => (config?.devices ?? []).flatMap((device) => (device.kind === 'virtio-vsock' ? [device.cid] : [])));
  let cid = 3;
  while (taken.includes(cid)) cid++;
  return cid;
}

/** What may be added of the last kind, with what a machine has of it taken into account. */
export function addableOthers(parts: Parts, machines: Library | null): { text: string; device: DeviceConfig }[] {
  const rings = 'split';
  const has = (kind: OtherDevice['kind']): boolean => parts.others.some((device) => device.kind === kind);
  const hasForm = (form: 'keyboard' | 'tablet'): boolean => parts.others.some((device) => device.kind === 'virtio-input' && device.form === form);
  return [
    ...(has('virtio-console') ? [] : [{ text: 'Console', device: { kind: 'virtio-console', rings, ports: 1 } as const }]),
    ...(has('virtio-rng') ? [] : [{ text: 'Random numbers', device: { kind: 'virtio-rng', rings } as const }]),
    ...(has('virtio-balloon') ? [] : [{ text: 'Balloon', device: { kind: 'virtio-balloon', rings } as const }]),
    ...(hasForm('keyboard') ? [] : [{ text: 'Keyboard', device: { kind: 'virtio-input', rings, form: 'keyboard' } as const }]),
    ...(hasForm('tablet') ? [] : [{ text: 'Tablet', device: { kind: 'virtio-input', rings, form: 'tablet' } as const }]),
    ...(has('virtio-vsock') ? [] : [{ text: 'Sockets to this computer', device: { kind: 'virtio-vsock', rings, cid: freeCid(machines) } as const }]),
  ];
}
