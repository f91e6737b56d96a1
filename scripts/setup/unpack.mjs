// Files out of Debian packages that are downloaded and unpacked, never installed: a kernel to boot as a guest needs no place in /boot.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { run, systemEnvironment } from './run.mjs';

const UNPACK_SOME = 'set -e; mkdir -p "$2"; package=$1; target=$2; shift 2; dpkg-deb --fsys-tarfile "$package" | tar -x -f - -C "$target" --no-same-owner "$@"';

/**
 * Downloads packages with apt and unpacks them into a new folder, which appears whole or not at all: two set-ups may run at once.
 * @param names    packages, as apt knows them
 * @param folder   where the packages' files go, below it as they would lie below /
 * @param only     paths in the packages, without the leading slash: nothing else is unpacked. Default: everything
 * @throws SetupError with what apt or dpkg-deb said
 */
export async function unpackPackages(names, folder, only = []) {
  mkdirSync(dirname(folder), { recursive: true });
  const work = mkdtempSync(join(dirname(folder), '.packages-'));
  try {
    await run(`Downloading ${names.join(', ')}`, 'apt-get', ['download', '-q', ...names], { cwd: work, env: systemEnvironment() });
    const made = join(work, 'tree');
    for (const name of readdirSync(work).filter((entry) => entry.endsWith('.deb'))) {
      const file = join(work, name);
      if (only.length === 0) await run(`Unpacking ${name}`, 'dpkg-deb', ['-x', file, made]);
      else await run(`Unpacking ${name}`, 'sh', ['-c', UNPACK_SOME, 'sh', file, made, ...only.map((path) => `./${path}`)]);
    }
    if (!existsSync(folder)) renameSync(made, folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
