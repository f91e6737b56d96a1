// An initrd with more of a kernel's modules: an archive behind another is unpacked over it (Documentation/driver-api/early-userspace/buffer-format.rst).
import fs from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { Cpio } from '../../../scripts/setup/cpio.mjs';

/**
 * Writes `target`: the archive `initrd` and, in /lib/extra, the uncompressed modules `names` with what they depend on.
 * @param modules a kernel's lib/modules/RELEASE
 * @param programs for /bin, by name
 * @returns the module files' names in the order to load them
 */
export function addModules(initrd: string, modules: string, names: readonly string[], target: string, programs: Record<string, Uint8Array> = {}): string[] {
  const archive = new Cpio();
  archive.folder('lib');
  archive.folder('lib/extra');
  const order = moduleOrder(modules, names);
  for (const { file, content } of order) archive.file(`lib/extra/${file}`, content);
  archive.folder('bin');
  for (const [name, program] of Object.entries(programs)) archive.file(`bin/${name}`, program, 0o755);
  fs.writeFileSync(target, Buffer.concat([fs.readFileSync(initrd), gzipSync(archive.end(), { level: 1 })]));
  return order.map(({ file }) => file);
}

/** Modules with what they depend on, in the order to load them. */
export function moduleOrder(modules: string, names: readonly string[]): { file: string; content: Buffer }[] {
  const files = new Map(fs.readdirSync(modules, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ko')).map((file) => [moduleName(file), path.join(modules, file)]));
  const order: { file: string; content: Buffer }[] = [];
  const add = (asked: string): void => {
    const name = moduleName(asked);
    const file = files.get(name);
    if (file === undefined || order.some((each) => each.file === `${name}.ko`)) return; // what is no file is built in
    const content = fs.readFileSync(file);
    for (const needed of (/\0depends=([^\0]*)\0/.exec(content.toString('latin1'))?.[1] ?? '').split(',').filter(Boolean)) add(needed);
    order.push({ file: `${name}.ko`, content });
  };
  for (const name of names) add(name);
  return order;
}

function moduleName(file: string): string {
  return path.basename(file, '.ko').replaceAll('-', '_');
}
