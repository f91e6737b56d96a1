// An initrd with more of a kernel's modules: an archive behind another is unpacked over it (Documentation/driver-api/early-userspace/buffer-format.rst).
import fs from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { Cpio } from '../../../scripts/setup/cpio.mjs';

/**
 * Writes `target`: the archive `initrd` and, in /lib/extra, the uncompressed modules `names` with what they depend on.
 * @param modules a kernel's lib/modules/RELEASE
 * @returns the module files' names in the order to load them
 */
export function addModules(initrd: string, modules: string, names: readonly string[], target: string): string[] {
  const files = new Map(fs.readdirSync(modules, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ko')).map((file) => [moduleName(file), path.join(modules, file)]));
  const archive = new Cpio();
  archive.folder('lib');
  archive.folder('lib/extra');
  const order: string[] = [];
  const add = (asked: string): void => {
    const name = asked.replaceAll('-', '_');
    const file = files.get(name);
    if (file === undefined || order.includes(`${name}.ko`)) return; // what is no file is built in
    const content = fs.readFileSync(file);
    for (const needed of (/\0depends=([^\0]*)\0/.exec(content.toString('latin1'))?.[1] ?? '').split(',').filter(Boolean)) add(needed);
    archive.file(`lib/extra/${name}.ko`, content);
    order.push(`${name}.ko`);
  };
  for (const name of names) add(name);
  fs.writeFileSync(target, Buffer.concat([fs.readFileSync(initrd), gzipSync(archive.end(), { level: 1 })]));
  return order;
}

function moduleName(file: string): string {
  return path.basename(file, '.ko').replaceAll('-', '_');
}
