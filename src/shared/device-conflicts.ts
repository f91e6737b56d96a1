// What cannot be together in one machine, though each device is right by itself: two disks of one image, two folders of one tag, one port
// forwarded twice. Found while the machine is described, so that no start fails on it.
import type { DeviceConfig } from './machine-config.ts';
import type { Forward } from './virtio-config.ts';

export interface Conflict {
  /** Of the later device. */
  readonly device: number;
  /** Where in it: ["backend", "forwards", 1, "host"]. */
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** What a port is forwarded at unless told. */
export const FORWARD_ADDRESS = '127.0.0.1';
const EVERY = ['0.0.0.0', '::'];

/** "tcp 127.0.0.1:2222" */
export function forwardWords({ protocol, address = FORWARD_ADDRESS, host }: Pick<Forward, 'protocol' | 'address' | 'host'>): string {
  return `${protocol} ${address.includes(':') ? `[${address}]` : address}:${host}`;
}

function sameFamily(a: string, b: string): boolean {
  return a.includes(':') === b.includes(':');
}

/**
 * Two forwards that would listen at one place: the kernel refuses an address beside "every address", too. One card has a port once, whatever the
 * address: passt keeps its forwards by the port alone.
 */
function clash(a: Forward, b: Forward, oneCard: boolean): boolean {
  if (a.protocol !== b.protocol || a.host !== b.host) return false;
  if (oneCard) return true;
  const [first, second] = [a.address ?? FORWARD_ADDRESS, b.address ?? FORWARD_ADDRESS];
  return first === second || (sameFamily(first, second) && (EVERY.includes(first) || EVERY.includes(second)));
}

interface Image {
  readonly file: string;
  readonly readonly: boolean;
  readonly path: readonly (string | number)[];
}

function imagesOf(device: DeviceConfig): Image[] {
  if (device.kind === 'virtio-blk') return [{ file: device.file, readonly: device.readonly, path: ['file'] }];
  if (device.kind !== 'virtio-scsi') return [];
  return device.drives.flatMap((drive, index) => {
    if (drive.kind === 'disk') return [{ file: drive.file, readonly: drive.readonly, path: ['drives', index, 'file'] }];
    return drive.file === null ? [] : [{ file: drive.file, readonly: true, path: ['drives', index, 'file'] }];
  });
}

/** At most one of these, for a guest's driver serves only one. */
const SINGLE: Partial<Record<DeviceConfig['kind'], string>> = {
  'virtio-balloon': 'A machine has at most one balloon.',
  'virtio-vsock': 'A machine has at most one socket device (virtio-vsock).',
};

/** In the order of the devices. */
export function conflictsOf(devices: readonly DeviceConfig[]): Conflict[] {
  const found: Conflict[] = [];
  const images: Image[] = [];
  const forwards: { readonly card: number; readonly forward: Forward }[] = [];
  const seen = new Set<string>();
  devices.forEach((device, index) => {
    const say = (path: readonly (string | number)[], message: string): void => void found.push({ device: index, path, message });
    const once = (key: string, path: readonly (string | number)[], message: string): void => {
      if (seen.has(key)) say(path, message);
      seen.add(key);
    };
    for (const image of imagesOf(device)) {
      const other = images.find(({ file, readonly }) => file === image.file && !(readonly && image.readonly));
      if (other !== undefined) say(image.path, `The image ${image.file} is in this machine twice, and one of them writes to it.`);
      images.push(image);
    }
    const single = SINGLE[device.kind];
    if (single !== undefined) once(device.kind, ['kind'], single);
    if (device.kind === 'virtio-9p') once(`tag ${device.tag}`, ['tag'], `Two shared folders have the tag "${device.tag}".`);
    if (device.kind !== 'virtio-net') return;
    if (device.mac !== undefined) once(`mac ${device.mac}`, ['mac'], `Two network cards have the address ${device.mac}.`);
    if (device.backend.kind === 'tap') once(`tap ${device.backend.name}`, ['backend', 'name'], `Two network cards use the interface ${device.backend.name}.`);
    if (device.backend.kind !== 'user') return;
    device.backend.forwards.forEach((forward, at) => {
      const other = forwards.find((each) => clash(each.forward, forward, each.card === index));
      if (other !== undefined) {
        const same = (other.forward.address ?? FORWARD_ADDRESS) === (forward.address ?? FORWARD_ADDRESS);
        say(['backend', 'forwards', at, 'host'], `The port ${forwardWords(forward)} is forwarded twice${same || other.card !== index ? '' : ': one card forwards a port once, whatever the address'}.`);
      }
      forwards.push({ card: index, forward });
    });
  });
  return found;
}
