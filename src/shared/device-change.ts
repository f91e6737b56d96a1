// What can be changed of a device while the machine runs (`changeDevice`), which device each change is for, and what of it stays in the machine's file.
import * as v from 'valibot';
import { forwardWords } from './device-conflicts.ts';
import type { DeviceConfig } from './machine-config.ts';
import { forward } from './virtio-config.ts';

const wholePath = v.pipe(v.string(), v.startsWith('/', 'Write the whole path, beginning with “/”.'));

export const deviceChange = v.variant('kind', [
  /** Another medium into a CD-ROM drive of a virtio-scsi, or none. */
  v.object({ kind: v.literal('medium'), /** Its place in the controller's `drives`. */ drive: v.pipe(v.number(), v.integer(), v.minValue(0)), file: v.nullable(wholePath) }),
  /** The cable of a virtio-net: plugged in or pulled. */
  v.object({ kind: v.literal('link'), up: v.boolean() }),
  /** The ports that a virtio-net with user-mode networking forwards, all of them. */
  v.object({ kind: v.literal('forwards'), forwards: v.array(forward) }),
  /** Bytes of its memory that the guest is asked to keep, by its virtio-balloon: the rest is the host's. */
  v.object({ kind: v.literal('balloon'), bytes: v.pipe(v.number(), v.integer(), v.minValue(0)) }),
], (issue) => `Nothing of a device is changed by "${String(issue.received)}".`);
export type DeviceChange = v.InferOutput<typeof deviceChange>;

/** Why this change is not for this device, as a sentence; null when it is. */
export function whyNotFor(device: DeviceConfig, change: DeviceChange): string | null {
  switch (change.kind) {
    case 'medium': {
      if (device.kind !== 'virtio-scsi') return `a medium is put into a drive of a SCSI controller, and this is a ${device.kind}.`;
      const drive = device.drives[change.drive];
      if (drive === undefined) return `the controller has ${device.drives.length} drives, and number ${change.drive} is not among them.`;
      return drive.kind === 'cdrom' ? null : `drive ${change.drive} is a disk, and disks have no medium to change.`;
    }
    case 'link':
      return device.kind === 'virtio-net' ? null : `only a network card has a cable, and this is a ${device.kind}.`;
    case 'forwards':
      if (device.kind !== 'virtio-net') return `only a network card forwards ports, and this is a ${device.kind}.`;
      return device.backend.kind === 'user' ? null : 'ports are forwarded by user-mode networking alone.';
    case 'balloon':
      return device.kind === 'virtio-balloon' ? null : `only a balloon takes memory, and this is a ${device.kind}.`;
  }
}

/** The device as its machine's file has it after the change; the same object when nothing of it is kept. The change is for this device. */
export function changedConfig(device: DeviceConfig, change: DeviceChange): DeviceConfig {
  if (change.kind === 'medium' && device.kind === 'virtio-scsi') {
    return { ...device, drives: device.drives.map((drive, index) => (index === change.drive && drive.kind === 'cdrom' ? { ...drive, file: change.file } : drive)) };
  }
  if (change.kind === 'link' && device.kind === 'virtio-net') return { ...device, linkUp: change.up };
  if (change.kind === 'forwards' && device.kind === 'virtio-net' && device.backend.kind === 'user') return { ...device, backend: { ...device.backend, forwards: change.forwards } };
  return device;
}

/** For a log: "medium of drive 0: /data/debian.iso". */
export function changeWords(change: DeviceChange): string {
  switch (change.kind) {
    case 'medium': return `medium of drive ${change.drive}: ${change.file ?? 'none'}`;
    case 'link': return `link ${change.up ? 'up' : 'down'}`;
    case 'forwards': return `forwards ${change.forwards.map(forwardWords).join(', ') || 'no port'}`;
    case 'balloon': return `keep ${change.bytes} bytes of memory`;
  }
}
