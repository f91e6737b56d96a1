// The two machines that the first window shows: "Try Linux" and "Framebuffer demo". Made once; a person who removes one has removed it.
// Their kernels are made by set-up. When the project has moved since, the paths in the machine's file are set right.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NewMachine } from '../../shared/protocol/front.ts';
import { writeFileAtomic } from '../../vmm/server/atomic-file.ts';
import { buildFolders } from '../install.ts';
import type { Library } from './library.ts';

const MiB = 2 ** 20;
/** Which of them were made already, one id a line. */
const MADE_FILE = '.builtin';

interface Builtin {
  id: string;
  machine: NewMachine;
  files: { kernel: string; initrd?: string };
}

/** The first of the folders with built files that has `path`; where set-up would put it, if none has. */
function imagePath(path: string): string {
  const folders = buildFolders();
  return folders.map((folder) => join(folder, path)).find((candidate) => existsSync(candidate)) ?? join(folders[0], path);
}

/** The files that set-up makes for these machines, whether they are there or not. */
export function builtinImages(): { tryLinux: { kernel: string; initrd: string }; demo: { kernel: string } } {
  return {
    tryLinux: { kernel: imagePath('try-linux/vmlinuz'), initrd: imagePath('try-linux/initrd.gz') },
    demo: { kernel: imagePath('guests/demo.elf') },
  };
}

function builtins(): Builtin[] {
  const { tryLinux, demo } = builtinImages();
  return [
    {
      id: 'try-linux',
      files: tryLinux,
      machine: {
        name: 'Try Linux',
        memory: 512 * MiB,
        cpus: 1,
        // The last console is /dev/console, where the shell is: the screen. The kernel's own messages go to both.
        boot: { ...tryLinux, append: 'console=ttyS0 console=tty0' },
      },
    },
    { id: 'framebuffer-demo', files: demo, machine: { name: 'Framebuffer demo', memory: 64 * MiB, cpus: 1, boot: demo } },
  ];
}

function alreadyMade(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').filter(Boolean);
  } catch {
    return [];
  }
}

/** Makes the machines that were never made, and sets right the paths of those whose kernel is no longer where their file says. */
export async function ensureBuiltins(library: Library): Promise<void> {
  const path = join(library.folder, MADE_FILE);
  const made = alreadyMade(path);
  for (const { id, machine, files } of builtins()) {
    if (!made.includes(id)) library.createAs(id, machine, 'builtin');
    else await mendPaths(library, id, files);
  }
  const all = [...new Set([...made, ...builtins().map(({ id }) => id)])];
  if (all.length > made.length) writeFileAtomic(path, `${all.join('\n')}\n`);
}

async function mendPaths(library: Library, id: string, files: Builtin['files']): Promise<void> {
  if (!library.ids().includes(id)) return;
  const read = library.read(id);
  if ('damaged' in read || read.config.origin !== 'builtin' || existsSync(read.config.boot.kernel) || !existsSync(files.kernel)) return;
  // Running, or being changed by another front, which mends it too: nothing to do then.
  await library.update(id, { boot: { ...read.config.boot, ...files } }).catch(() => {});
}
