// What is asked of disk images, done here: in the command's own process, or for the window in a process of its own (main.ts), for a network folder may
// hang whoever looks into it.
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import type { DiskDescription, LookedAt, NewDisk, NewSize } from '../../shared/disks.ts';
import { toProblem, VitrineError } from '../../shared/errors.ts';
import { createDisk, createOverlay, describeDisk, resizeDisk } from '../../vmm/block/make-disk.ts';
import type { DiskFormat } from '../../shared/virtio-config.ts';

/** Throws VitrineError. */
export function describe(file: string, format?: DiskFormat): DiskDescription {
  const { bytes, format: found, allocatedBytes, qcow2 } = describeDisk(file, format);
  const backing = qcow2?.backing ?? null;
  return {
    file, format: found, bytes,
    ...(allocatedBytes === null ? {} : { allocated: allocatedBytes }),
    ...(backing === null ? {} : { backing: { file: backing.path, ...(backing.format === null ? {} : { format: backing.format }) } }),
    snapshots: (qcow2?.snapshots ?? []).map(({ id, name }) => (name === '' ? id : name)),
    dirty: qcow2?.dirty ?? false,
    corrupt: qcow2?.corrupt ?? false,
  };
}

/** Throws VitrineError; an existing file is never touched. @param makeFolder the file's folder is made, too, if it is this one and not there */
export function create({ file, format, bytes, backing }: NewDisk, makeFolder?: string): DiskDescription {
  const refuse = (why: string): VitrineError => new VitrineError({ attempted: 'make the disk image', on: file, why, remedy: '', code: 'image-shape' });
  if (backing !== undefined && format !== 'qcow2') throw refuse('only a qcow2 image can show another one.');
  if (backing === undefined && bytes === undefined) throw refuse('its size is missing.');
  if (makeFolder !== undefined && dirname(file) === makeFolder) mkdirSync(makeFolder, { recursive: true, mode: 0o700 });
  if (backing === undefined) createDisk({ path: file, format, bytes: bytes! });
  else createOverlay({ path: file, backing: backing.file, backingFormat: backing.format, bytes });
  return describe(file, format);
}

/** Throws VitrineError. */
export function resize({ file, format, bytes, shrink }: NewSize): DiskDescription {
  resizeDisk({ path: file, format, bytes, shrink });
  return describe(file, format);
}

export type DiskRequest =
  | { do: 'describe'; files: { file: string; format?: DiskFormat }[] }
  | { do: 'create'; disk: NewDisk; makeFolder?: string }
  | { do: 'resize'; disk: NewSize };

export type DiskAnswer<R extends DiskRequest> = R extends { do: 'describe' } ? { disks: LookedAt[] } : { disk: DiskDescription };

/** Throws VitrineError. */
export function perform(request: DiskRequest): { disks: LookedAt[] } | { disk: DiskDescription } {
  if (request.do === 'create') return { disk: create(request.disk, request.makeFolder) };
  if (request.do === 'resize') return { disk: resize(request.disk) };
  return {
    disks: request.files.map(({ file, format }) => {
      try {
        return { disk: describe(file, format) };
      } catch (thrown) {
        return { problem: toProblem(thrown, 'look at the disk image', file) };
      }
    }),
  };
}
