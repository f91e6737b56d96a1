// The real graphical installer of Debian 12, which the tests boot: kernel and initrd of Debian's own package of network boot images,
// downloaded and unpacked, never installed. Only these two files of it are kept (80 of 130 MB). Needs no root.
//
//   ${XDG_CACHE_HOME:-~/.cache}/vitrine/installer/PACKAGE/usr/lib/debian-installer/images/12/amd64/gtk/…
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SetupError, cacheFolder, findCommand, step } from './run.mjs';
import { unpackPackages } from './unpack.mjs';

const PACKAGE = 'debian-installer-12-netboot-amd64';
const FOLDER = 'usr/lib/debian-installer/images/12/amd64/gtk/debian-installer/amd64';
const kept = () => join(cacheFolder(), 'installer', PACKAGE);

/** Where kernel and initrd lie once they are prepared: { kernel, initrd }. */
export function installerPaths() {
  return { kernel: join(kept(), FOLDER, 'linux'), initrd: join(kept(), FOLDER, 'initrd.gz') };
}

/** Whether they are there. */
export const installerPrepared = () => Object.values(installerPaths()).every((path) => existsSync(path));

/** Downloads them. Throws a SetupError where apt does not know the package, as on other distributions. */
export async function prepareInstaller() {
  if (installerPrepared()) return;
  if (!findCommand('apt-get')) throw new SetupError(`Debian's installer comes from the package ${PACKAGE}, and there is no apt-get here to download it.`);
  await step('Downloading Debian\'s installer, a guest for the tests (130 MB)', () => unpackPackages([PACKAGE], kept(), [`${FOLDER}/linux`, `${FOLDER}/initrd.gz`]));
}
