// Linux with a shared folder of the host, run by us, by QEMU or by kvmtool, all with the same kernel, initrd and memory.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ourLinux, qemuLinux, startKvmtool, type Wish } from '../passthrough/guest.ts';

const TAG = 'work';
const source = fileURLToPath(new URL('work.c', import.meta.url));

export const MODULES = ['virtio_pci', '9pnet_virtio', '9p'];

/** The program that does the work, for the guest; linked statically, so that it needs nothing there. */
export function compileWork(): Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-work-'));
  try {
    const target = join(folder, 'work');
    execFileSync('cc', ['-O2', '-static', '-o', target, source], { stdio: ['ignore', 'ignore', 'inherit'] });
    return execFileSync('cat', [target], { maxBuffer: 2 ** 26 });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The guest's whole part as one short word: kvmtool's serial port takes no more than 64 bytes at once. */
export const measureScript = (load: string, files: number, repeats: number): string => `#!/bin/sh
set -e
${load}
mkdir -p /mnt/work
[ -d /mnt/work/made ] || mount -t 9p -o trans=virtio,version=9p2000.L ${TAG} /mnt/work
i=0; while [ $i -lt ${repeats} ]; do work /mnt/work ${files}; i=$((i + 1)); done
echo "@@measured"
`;

export interface Guest {
  /** What the script says. */
  measure(): Promise<string>;
  end(): Promise<void>;
}

export type Plan = Omit<Wish, 'addresses' | 'more'> & { folder: string };

export async function oursWith({ folder, ...wish }: Plan): Promise<Guest> {
  const { sh, end } = await ourLinux({ ...wish, addresses: [], more: { ours: [{ kind: 'virtio-9p', tag: TAG, folder, readonly: false, rings: 'split' }] } });
  return { measure: () => sh('measure'), end };
}

export async function qemusWith(program: string, { folder, ...wish }: Plan): Promise<Guest> {
  const words = ['-fsdev', `local,id=share,path=${folder},security_model=none`, '-device', `virtio-9p-pci,fsdev=share,mount_tag=${TAG}`];
  const { sh, end } = await qemuLinux(program, { ...wish, addresses: [], more: { qemu: words } });
  return { measure: () => sh('measure'), end };
}

export async function kvmtoolsWith(program: string, { folder, ...wish }: Plan): Promise<Guest> {
  const { console: port, end } = startKvmtool(program, { ...wish, addresses: [], more: { kvmtool: ['--9p', `${folder},${TAG}`] } });
  try {
    await port.expect(/try-linux:~# /);
  } catch (thrown) {
    await end();
    throw thrown;
  }
  return {
    measure: async () => {
      port.send('measure\n');
      return (await port.expect(/[^]*@@measured/))[0];
    },
    end,
  };
}
