// `vitrine disk`: makes, resizes and describes disk images. No machine is needed for it.
import { sizeWords, type DiskDescription, type NewDisk } from '../shared/disks.ts';
import type { DiskFormat } from '../shared/virtio-config.ts';
import { create, describe, resize } from '../main/disks/work.ts';
import { EXIT_OK } from './exit-codes.ts';
import type { Output } from './machines.ts';

export type DiskWish =
  | { action: 'create'; disk: NewDisk }
  /** `bytes` are added when `relative`. */
  | { action: 'resize'; file: string; bytes: number; relative: boolean; format?: DiskFormat; shrink: boolean }
  | { action: 'info'; file: string; format?: DiskFormat; json: boolean };

function words({ file, format, bytes, allocated, backing, snapshots, dirty, corrupt }: DiskDescription): string {
  const size = (count: number) => `${sizeWords(count)} (${count} bytes)`;
  const rows: [string, string][] = [
    ['File', file],
    ['Format', format],
    ['Size of the disk', size(bytes)],
    ['Takes', allocated === undefined ? 'a block device' : size(allocated)],
    ...(backing === undefined ? [] : [['Overlay of', `${backing.file}${backing.format === undefined ? '' : ` (${backing.format})`}`] as [string, string]]),
    ...(snapshots.length === 0 ? [] : [['Snapshots', snapshots.join(', ')] as [string, string]]),
    ...(corrupt ? [['State', 'damaged: it can only be read until `qemu-img check -r all` has mended it'] as [string, string]] : dirty ? [['State', 'was not closed: it is looked through when a machine opens it'] as [string, string]] : []),
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  // A name may hold anything; a terminal must not obey it.
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value.replaceAll(/\p{C}/gu, '?')}\n`).join('');
}

export function disk(wish: DiskWish, output: Output): number {
  switch (wish.action) {
    case 'create':
      output.out(words(create(wish.disk)));
      return EXIT_OK;
    case 'resize': {
      const { file, format, shrink } = wish;
      const bytes = wish.relative ? describe(file, format).bytes + wish.bytes : wish.bytes;
      output.out(words(resize({ file, format, bytes, shrink })));
      return EXIT_OK;
    }
    case 'info': {
      const described = describe(wish.file, wish.format);
      output.out(wish.json ? `${JSON.stringify(described, null, 2)}\n` : words(described));
      return EXIT_OK;
    }
  }
}
