// Opening a disk by its path: finding its format, taking its lock, and opening the chain of files that it stands on.
import { dirname, resolve } from 'node:path';
import type { DiskImage, OpenOptions } from './disk-image.ts';
import { probeFormat, type DiskFormat } from './formats.ts';
import { HostFile, imageError } from './host-file.ts';
import { readHeader, type Qcow2Header } from './qcow2/header.ts';
import { Qcow2Image } from './qcow2/image.ts';
import { RawImage } from './raw-image.ts';
import { SystemError } from '../kvm/libc.ts';

/** The longest chain of backing files that is opened. */
const MOST_LAYERS = 64;

export interface DiskOptions extends OpenOptions {
  /** What the file is; found out when it is not said. */
  readonly format?: DiskFormat;
}

const formats: Record<string, DiskFormat> = { raw: 'raw', file: 'raw', host_device: 'raw', qcow2: 'qcow2' };

/** Opens a disk and everything that it stands on. Throws VitrineError. */
export function openDisk(path: string, options: DiskOptions): DiskImage {
  return openLayer(resolve(path), options, [], false);
}

function openLayer(path: string, options: DiskOptions, above: readonly string[], guessedBacking: boolean): DiskImage {
  const isBacking = above.length > 0;
  const write = !options.readonly && !isBacking;
  let file = HostFile.open(path, { io: options.io, write, direct: options.direct, unsafe: options.unsafe, lock: write ? 'write' : 'read' });
  let backing: DiskImage | null = null;
  try {
    if (above.includes(file.identity)) throw imageError('open the disk image', path, 'it stands on itself: it is its own backing file.', 'Give the right one: qemu-img rebase -u -b FILE -F FORMAT', 'image-loop');
    if (above.length >= MOST_LAYERS) throw imageError('open the disk image', path, `it has more than ${MOST_LAYERS} layers of backing files.`, 'Make them fewer: qemu-img commit', 'image-chain');
    const format = options.format ?? probeFormat(file);
    if (format === 'raw') {
      file = withoutDirect(file, options, write, file.size() % file.alignment !== 0, 'its size is no multiple of the blocks that O_DIRECT needs');
      return new RawImage(file, !write, options.format === undefined);
    }
    const header = readHeader(file);
    file = withoutDirect(file, options, write, header.clusterBytes < file.alignment, 'its clusters are smaller than the blocks that O_DIRECT needs');
    if (header.backingFile !== null) {
      if (guessedBacking) {
        throw imageError('open the disk image', path, 'it is a backing file whose format was not recorded, and it names a further one.', 'Record the formats: qemu-img rebase -u -b FILE -F FORMAT', 'image-backing');
      }
      backing = openBacking(path, header, options, [...above, file.identity]);
    }
    return Qcow2Image.open(file, header, backing, { readonly: !write, log: options.log });
  } catch (thrown) {
    file.close();
    backing?.close();
    if (thrown instanceof SystemError) throw imageError('open the disk image', path, `it cannot be read or written (${thrown.code}).`, '', 'image-io');
    throw thrown;
  }
}

/** The same file, or one opened anew through the page cache where O_DIRECT does not do. */
function withoutDirect(file: HostFile, options: DiskOptions, write: boolean, needed: boolean, why: string): HostFile {
  if (!needed || file.alignment === 1) return file;
  options.log?.(`${file.path} is opened without O_DIRECT: ${why}`);
  file.close();
  return HostFile.open(file.path, { io: options.io, write, unsafe: options.unsafe, lock: write ? 'write' : 'read' });
}

/** The path of the backing file that a header names, relative to the image's folder. Throws VitrineError for what is no file. */
export function backingPath(path: string, header: Qcow2Header): string {
  const name = header.backingFile!.replace(/^file:(?=\/|\.)/, '');
  if (/^[a-z][a-z0-9+.-]*:/.test(name)) {
    throw imageError('open the disk image', path, `its backing file is "${name}", which is no path of a file.`, 'Give it one: qemu-img rebase -u -b FILE -F FORMAT', 'image-backing');
  }
  return resolve(dirname(path), name);
}

/** The recorded format of the backing file; undefined when none is recorded. Throws VitrineError for one that is not known. */
export function backingFormat(path: string, header: Qcow2Header): DiskFormat | undefined {
  if (header.backingFormat === null) return undefined;
  const format = formats[header.backingFormat];
  if (format !== undefined) return format;
  throw imageError('open the disk image', path, `its backing file is of the format ${header.backingFormat}, and disks here are raw or qcow2.`, `Convert all of it: qemu-img convert -O qcow2 ${path} COPY`, 'image-backing');
}

function openBacking(path: string, header: Qcow2Header, options: DiskOptions, above: readonly string[]): DiskImage {
  const format = backingFormat(path, header);
  return openLayer(backingPath(path, header), { ...options, format }, above, format === undefined);
}
