// The files and folders that a machine's devices name, looked at before the machine starts or gets the device: what is missing is said in words and at
// once. What is inside of an image is the machine's to judge, when it opens it.
import { accessSync, constants, realpathSync, statSync, type Stats } from 'node:fs';
import { isAbsolute, sep } from 'node:path';
import { VitrineError } from '../../shared/errors.ts';
import type { DeviceConfig } from '../../shared/machine-config.ts';

export interface FileCheck {
  /** "start the machine" */
  readonly attempted: string;
  /** For a machine in the lab: the library's folder, all that the lab can write to of this computer. */
  readonly lab?: string;
}

type Refuse = (on: string, why: string, remedy: string, code: string) => VitrineError;

function refuser(attempted: string): Refuse {
  return (on, why, remedy, code) => new VitrineError({ attempted, on, why, remedy, code });
}

function look(path: string, what: 'disk' | 'medium' | 'folder', refuse: Refuse): Stats {
  const words = { disk: 'the image', medium: 'the image', folder: 'the folder' }[what];
  if (!isAbsolute(path)) throw refuse(path, `the path of ${words} does not begin with a slash.`, 'Give the whole path.', `${what}-path`);
  try {
    return statSync(path);
  } catch (thrown) {
    const { code, message } = thrown as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      const remedy = what === 'medium' ? 'Choose another, or eject it.' : what === 'disk' ? 'Choose another, or take the disk out of the machine.' : 'Choose another, or take it out of the machine.';
      throw refuse(path, `${words} is not there.`, remedy, `${what}-missing`);
    }
    if (code === 'EACCES') throw refuse(path, `this user may not look into the folder that ${words} is in.`, 'Check who owns the folders on the way to it.', `${what}-unreadable`);
    throw refuse(path, `${message}.`, '', `${what}-unreadable`);
  }
}

function may(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

function isIn(path: string, folder: string): boolean {
  const [inner, outer] = [realpathSync(path), realpathSync(folder)];
  return inner === outer || inner.startsWith(outer.endsWith(sep) ? outer : outer + sep);
}

const LAB = 'this machine runs in the lab, which can read this computer\'s files';

function checkImage(file: string, { what, readonly }: { what: 'disk' | 'medium'; readonly: boolean }, { lab }: FileCheck, refuse: Refuse): void {
  const stat = look(file, what, refuse);
  if (stat.isDirectory()) throw refuse(file, 'this is a folder, not an image.', 'Choose the image in it.', `${what}-not-a-file`);
  if (!stat.isFile() && !stat.isBlockDevice()) throw refuse(file, 'this is neither a file nor a block device.', 'Choose an image.', `${what}-not-a-file`);
  if (!may(file, constants.R_OK)) throw refuse(file, 'this user may not read it.', 'Check who owns it.', `${what}-unreadable`);
  if (!readonly && !may(file, constants.W_OK)) throw refuse(file, 'this user may not write to it.', 'Check who owns it, or have the disk read-only.', `${what}-not-writable`);
  if (lab === undefined) return;
  if (stat.isBlockDevice()) throw refuse(file, `${LAB}, but has none of its disks.`, 'Use an image file.', 'disk-not-in-lab');
  if (!readonly && !isIn(file, lab)) throw refuse(file, `${LAB}, but write only to those in ${lab}: what the guest writes here would be lost.`, 'Put the image there, or have the disk read-only.', 'disk-not-in-lab');
}

/** Throws VitrineError for the first that is not as its device needs it. */
export function checkDeviceFiles(devices: readonly DeviceConfig[], check: FileCheck): void {
  const refuse = refuser(check.attempted);
  for (const device of devices) {
    if (device.kind === 'virtio-blk') checkImage(device.file, { what: 'disk', readonly: device.readonly }, check, refuse);
    else if (device.kind === 'virtio-scsi') {
      for (const drive of device.drives) {
        if (drive.kind === 'disk') checkImage(drive.file, { what: 'disk', readonly: drive.readonly }, check, refuse);
        else if (drive.file !== null) checkImage(drive.file, { what: 'medium', readonly: true }, check, refuse);
      }
    } else if (device.kind === 'virtio-9p') {
      const { folder, readonly } = device;
      if (!look(folder, 'folder', refuse).isDirectory()) throw refuse(folder, 'this is a file, not a folder.', 'Share the folder that it is in.', 'folder-not-a-folder');
      if (!may(folder, constants.R_OK | constants.X_OK)) throw refuse(folder, 'this user may not look into it.', 'Check who owns it.', 'folder-unreadable');
      if (check.lab !== undefined && !readonly && !isIn(folder, check.lab)) {
        throw refuse(folder, `${LAB}, but write only to those in ${check.lab}: what the guest writes here would be lost.`, 'Share it read-only, or share a folder there.', 'folder-not-in-lab');
      }
    } else if (device.kind === 'virtio-net' && device.backend.kind === 'tap' && check.lab !== undefined) {
      throw refuse(device.backend.name, 'this machine runs in the lab, which has none of this computer\'s interfaces.', 'Use user-mode networking there.', 'tap-not-in-lab');
    }
  }
}
