// Small tools of set-up: the project's places, a step that says what it does, commands. Dependency-free, Node 20 and later.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The project's folder. */
export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** Where downloads are kept, outside git. Read at each call: the tests' set-up moves it. */
export const cacheFolder = () => join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'vitrine');

/** What is built from the sources and for the app, in the tree and outside git. */
export const buildFolder = join(root, 'build');

/** PATH without node_modules/.bin, which npm puts in front: `node` and `npm` there are not the ones of the system. */
export const systemPath = (process.env.PATH ?? '').split(delimiter).filter((folder) => !folder.includes('node_modules')).join(delimiter);

/** The environment for a command of the system, whatever npm added for its scripts. */
export function systemEnvironment(more = {}) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_(package|lifecycle|command|config_local_prefix|config_prefix|execpath|node_execpath)/.test(name)));
  return { ...env, PATH: systemPath, ...more };
}

/** A failure that a person can act on; printed without a stack. */
export class SetupError extends Error {}

/** Says what is being done, does it, and says how long it took when that was over a second. */
export async function step(what, work) {
  const start = performance.now();
  console.log(`· ${what} …`);
  const result = await work();
  const seconds = (performance.now() - start) / 1000;
  if (seconds > 1) console.log(`  done in ${seconds.toFixed(1)} s`);
  return result;
}

/** The path of a command in PATH, or undefined. */
export function findCommand(name) {
  return [...systemPath.split(delimiter), '/usr/sbin', '/sbin'].map((folder) => join(folder, name)).find((path) => existsSync(path));
}

/** Runs a command to its end and returns { status, stdout, stderr }; never throws. */
export function tryRun(command, words, options = {}) {
  const { status, error, stdout, stderr } = spawnSync(command, words, { encoding: 'utf8', env: systemEnvironment(), maxBuffer: 1 << 28, ...options });
  return { status: error ? -1 : status, stdout: stdout ?? '', stderr: error ? error.message : (stderr ?? '') };
}

/** Runs a command, quiet unless it fails: then everything it said is in the error. */
export function run(what, command, words, options = {}) {
  return new Promise((done, failed) => {
    const child = spawn(command, words, { env: systemEnvironment(), stdio: ['ignore', 'pipe', 'pipe'], ...options });
    let said = '';
    let stdout = '';
    child.stdout?.setEncoding('utf8').on('data', (text) => { said += text; stdout += text; });
    child.stderr?.setEncoding('utf8').on('data', (text) => { said += text; });
    child.on('error', (error) => failed(new SetupError(`${what} failed: ${command}: ${error.message}`)));
    child.on('close', (code, signal) => {
      if (code === 0) done(stdout);
      else failed(new SetupError(`${what} failed (${signal ?? `exit code ${code}`}): ${command} ${words.join(' ')}\n${said.trimEnd()}`));
    });
  });
}

/** Files below a folder, sorted, without what `skip(path)` names. */
export function filesBelow(folder, skip = () => false) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (skip(path)) return [];
      if (entry.isDirectory()) return filesBelow(path, skip);
      return entry.isFile() ? [path] : [];
    })
    .sort();
}

/** A hash of files' names and contents and of further words. */
export function hashOf(files, ...words) {
  const hash = createHash('sha256');
  for (const file of files) {
    const content = readFileSync(file);
    hash.update(`${file.startsWith(root) ? file.slice(root.length) : file}\0${content.length}\0`).update(content);
  }
  for (const word of words) hash.update(`${word}\0`);
  return hash.digest('hex');
}

/** Whether `stamp` says that `targets` were made from what hashes to `hash`. */
export function isFresh(stamp, hash, targets) {
  return existsSync(stamp) && readFileSync(stamp, 'utf8').trim() === hash && targets.every((target) => existsSync(target) && statSync(target).size > 0);
}

export function writeStamp(stamp, hash) {
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, `${hash}\n`);
}
