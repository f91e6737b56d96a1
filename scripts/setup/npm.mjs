// The npm packages: `npm ci` when the lock and node_modules differ. No install scripts are needed: koffi and the build tools ship their
// native code prebuilt, and Electron's binary is set-up's own step.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SetupError, findCommand, hashOf, isFresh, root, run, step, systemEnvironment, writeStamp } from './run.mjs';

const lock = join(root, 'package-lock.json');
const stamp = join(root, 'node_modules/.vitrine-lock');

/** Whether npm's own list of what is installed has everything that the lock asks for on this machine. */
function installedAsLocked() {
  const list = join(root, 'node_modules/.package-lock.json');
  if (!existsSync(list)) return false;
  const installed = JSON.parse(readFileSync(list, 'utf8')).packages;
  const wanted = Object.entries(JSON.parse(readFileSync(lock, 'utf8')).packages).filter(([path]) => path !== '');
  return wanted.every(([path, { version, optional }]) => installed[path]?.version === version || (optional && installed[path] === undefined));
}

export async function prepareNpm() {
  const hash = hashOf([lock]);
  if (isFresh(stamp, hash, [])) return;
  if (!installedAsLocked()) {
    const npm = findCommand('npm');
    if (!npm) throw new SetupError('npm is missing. On Debian and Ubuntu: apt-get install npm');
    await step('Installing npm packages', () =>
      run('Installing npm packages', npm, ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
        cwd: root,
        env: systemEnvironment({ ELECTRON_SKIP_BINARY_DOWNLOAD: '1' }),
      }));
  }
  writeStamp(stamp, hash);
}
