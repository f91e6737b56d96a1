// Disk images, as the window and the commands ask for them: what one is, a new one, another size.
import * as v from 'valibot';
import { DISK_FORMATS } from './virtio-config.ts';
import { problemSchema } from './protocol/wire.ts';

/** In a machine's folder in the library: disks that were made for it, and go with it. */
export const DISKS_FOLDER = 'disks';

/** What an image is; asked without its lock, so also of one that a machine uses. */
export const diskDescription = v.object({
  file: v.string(),
  format: v.picklist(DISK_FORMATS),
  /** Of the disk, as the guest sees it. */
  bytes: v.number(),
  /** What the file takes on its file system; absent for a block device. */
  allocated: v.optional(v.number()),
  /** The image that it shows where nothing was written to it. */
  backing: v.optional(v.object({ file: v.string(), format: v.optional(v.picklist(DISK_FORMATS)) })),
  /** Names of the snapshots in it. */
  snapshots: v.array(v.string()),
  /** It was not closed, or is damaged: its metadata is looked through when a machine opens it; or it is opened only to be read. */
  dirty: v.boolean(),
  corrupt: v.boolean(),
});
export type DiskDescription = v.InferOutput<typeof diskDescription>;

/** An image with the problem of looking at it. */
export const lookedAt = v.union([v.object({ disk: diskDescription }), v.object({ problem: problemSchema })]);
export type LookedAt = v.InferOutput<typeof lookedAt>;

const file = v.pipe(v.string(), v.startsWith('/', 'Write the whole path, beginning with “/”.'));
const SIZE = 'A disk has a size of at least 512 bytes.';
const bytes = v.pipe(v.number(), v.integer(SIZE), v.minValue(512, SIZE), v.maxValue(Number.MAX_SAFE_INTEGER));
const format = v.picklist(DISK_FORMATS);

export const newDisk = v.object({
  file,
  format,
  /** As large as the other image unless told. */
  bytes: v.optional(bytes),
  /** It shows this image, which stays as it is, and takes what is written (qcow2). */
  backing: v.optional(v.object({ file, format: v.optional(format) })),
});
export type NewDisk = v.InferOutput<typeof newDisk>;

export const newSize = v.object({ file, format: v.optional(format), bytes, /** What lies behind the new end is lost. */ shrink: v.optional(v.boolean(), false) });
export type NewSize = v.InferOutput<typeof newSize>;

const UNITS: Record<string, number> = { '': 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40, p: 2 ** 50 };

/** Bytes of "20G", "512 MiB", "1.5 TB"; NaN when it is no size. Units are powers of 1024. @param unit of a number alone */
export function parseSize(text: string, unit: '' | 'g' = ''): number {
  const found = /^\s*(\d{1,15}(?:[.,]\d{1,6})?)\s*(?:([kmgtp])?(?:i?b)?|(b))\s*$/i.exec(text);
  if (found === null) return Number.NaN;
  const named = (found[2] ?? found[3] ?? unit).toLowerCase();
  return Math.round(Number(found[1]!.replace(',', '.')) * UNITS[named]!);
}

/** "20 GiB", "1.5 MiB", "196 KiB": at most one digit behind the point. */
export function sizeWords(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = bytes;
  let unit = 0;
  while (unit < units.length - 1 && Math.round(value * 10) / 10 >= 1024) {
    value /= 1024;
    unit++;
  }
  return `${Math.round(value * 10) / 10} ${units[unit]}`;
}
