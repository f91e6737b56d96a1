// Which format a file has, by its magic. Raw is what is left, and is never guessed over a magic of something else.
import type { HostFile } from './host-file.ts';
import { imageError } from './host-file.ts';

export type DiskFormat = 'raw' | 'qcow2';

/** A format that is recognised in order to be refused: its name, and the command that makes a disk of it. */
interface Foreign {
  readonly name: string;
  readonly remedy: (path: string) => string;
}

const convert = (format: string) => (path: string): string => `Convert it: qemu-img convert -f ${format} -O qcow2 ${quote(path)} ${quote(`${path}.qcow2`)}`;
const unpack = (tool: string) => (path: string): string => `Unpack it first: ${tool} ${quote(path)}`;
const quote = (path: string): string => (/^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`);

const text = (s: string): number[] => Array.from(s, (c) => c.charCodeAt(0));

/** Magic, where it stands, and what it is. Offsets from the start of the file. */
const magics: readonly { at: number; bytes: readonly number[]; is: 'qcow2' | Foreign }[] = [
  { at: 0, bytes: [0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 1], is: { name: 'qcow (version 1)', remedy: convert('qcow') } },
  { at: 0, bytes: [0x51, 0x46, 0x49, 0xfb], is: 'qcow2' },
  { at: 0, bytes: text('KDMV'), is: { name: 'VMDK', remedy: convert('vmdk') } },
  { at: 0, bytes: text('COWD'), is: { name: 'VMDK', remedy: convert('vmdk') } },
  { at: 0, bytes: text('# Disk DescriptorFile'), is: { name: 'VMDK', remedy: convert('vmdk') } },
  { at: 64, bytes: [0x7f, 0x10, 0xda, 0xbe], is: { name: 'VDI', remedy: convert('vdi') } },
  { at: 0, bytes: text('vhdxfile'), is: { name: 'VHDX', remedy: convert('vhdx') } },
  { at: 0, bytes: text('conectix'), is: { name: 'VHD', remedy: convert('vpc') } },
  { at: 0, bytes: [...text('LUKS'), 0xba, 0xbe], is: { name: 'LUKS (encrypted)', remedy: () => 'Open it on the host (cryptsetup open) and give the block device that appears, or say format=raw when the guest itself is to open it.' } },
  { at: 0, bytes: text('QED\0'), is: { name: 'QED', remedy: convert('qed') } },
  { at: 0, bytes: text('WithoutFreeSpace'), is: { name: 'Parallels', remedy: convert('parallels') } },
  { at: 0, bytes: text('WithouFreSpacExt'), is: { name: 'Parallels', remedy: convert('parallels') } },
  { at: 0, bytes: text('Bochs Virtual HD Image'), is: { name: 'Bochs', remedy: convert('bochs') } },
  { at: 0, bytes: [0x1f, 0x8b, 8], is: { name: 'gzip', remedy: unpack('gunzip -k') } },
  { at: 0, bytes: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0], is: { name: 'xz', remedy: unpack('unxz -k') } },
  { at: 0, bytes: [0x28, 0xb5, 0x2f, 0xfd], is: { name: 'zstd', remedy: unpack('unzstd') } },
  { at: 0, bytes: text('BZh'), is: { name: 'bzip2', remedy: unpack('bunzip2 -k') } },
];

/** What stands in the last 512 bytes. */
const tails: readonly { bytes: readonly number[]; is: Foreign }[] = [
  { bytes: text('conectix'), is: { name: 'VHD', remedy: convert('vpc') } },
  { bytes: text('koly'), is: { name: 'DMG', remedy: convert('dmg') } },
];

const has = (bytes: Uint8Array, at: number, magic: readonly number[]): boolean => magic.every((byte, i) => bytes[at + i] === byte);

/** The format that the first 512 bytes of a file name, or 'raw' when they name none. */
export function formatOfStart(start: Uint8Array): 'raw' | 'qcow2' | Foreign {
  return magics.find(({ at, bytes }) => has(start, at, bytes))?.is ?? 'raw';
}

/** The format of an open image; throws VitrineError for one that must be converted first. */
export function probeFormat(file: HostFile): DiskFormat {
  let found = formatOfStart(file.readNow(0, 512));
  const size = file.size();
  if (found === 'raw' && size >= 1024) {
    const end = file.readNow(size - 512, 512);
    found = tails.find(({ bytes }) => has(end, 0, bytes))?.is ?? 'raw';
  }
  if (typeof found === 'string') return found;
  throw imageError('open the disk image', file.path, `it is of the format ${found.name}, and disks here are raw or qcow2.`, found.remedy(file.path), 'image-format');
}
