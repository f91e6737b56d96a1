// The steps of `npm test`: each runs programs, keeps all that they say in test-results/NAME.log, and returns counts.
import { spawn } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { buildApp } from '../setup/build.mjs';
import { SetupError, root, systemEnvironment } from '../setup/run.mjs';
import { nothing, readNodeTests, readPlaywright } from './results.mjs';

const results = join(root, 'test-results');
const node24 = join(root, 'scripts/node24');
const reporter = join(root, 'scripts/test/reporter.mjs');

/** The most that a step may take, in minutes: a hang must not take the whole run. */
const limits = { ordinary: 10, lab: 35, long: 240 };

/** A test that hangs is ended, and named, well before its step is. */
const hangMinutes = (stepMinutes) => Math.max(2, stepMinutes / 5);

/** Process groups that run now. Who ends this process ends them too: they are no part of the terminal's own group. */
const groups = new Set();

function endGroup(group, signal) {
  try {
    process.kill(-group, signal);
  } catch {
    // It is gone.
  }
}

/** What runs in a process group: the last words of each command line, which for a test file is its name. */
function commandsOf(group) {
  return readdirSync('/proc').filter((pid) => /^\d+$/.test(pid)).flatMap((pid) => {
    try {
      // proc(5): the fifth field of stat, the third behind the name in parentheses, is the group.
      const own = Number(readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1).split(' ')[2]);
      return own === group ? [`  ${pid} ${readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0').slice(-4).join(' ')}`] : [];
    } catch {
      return [];
    }
  });
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    for (const group of groups) endGroup(group, 'SIGTERM');
    setTimeout(() => {
      for (const group of groups) endGroup(group, 'SIGKILL');
      process.exit(130);
    }, groups.size > 0 ? 1000 : 0);
  });
}

/**
 * Runs a program in a process group of its own, to its end or its time limit; then the group is gone.
 * @returns {Promise<{ code: number, output: string, timedOut: boolean }>}
 */
export async function runLogged(name, command, words, { env = {}, minutes = limits.ordinary } = {}) {
  mkdirSync(results, { recursive: true });
  const log = createWriteStream(join(results, `${name.replaceAll(/\W+/g, '-')}.log`));
  const child = spawn(command, words, { cwd: root, env: systemEnvironment(env), stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  const chunks = [];
  const keep = (chunk) => {
    chunks.push(chunk);
    log.write(chunk);
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  if (child.pid !== undefined) groups.add(child.pid);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    keep(Buffer.from(`\nEnded after ${minutes} minutes. Still running:\n${commandsOf(child.pid).join('\n')}\n`));
    endGroup(child.pid, 'SIGTERM');
    setTimeout(() => endGroup(child.pid, 'SIGKILL'), 5000).unref();
  }, minutes * 60_000);
  const code = await new Promise((done) => {
    child.on('error', (error) => {
      keep(Buffer.from(`${command}: ${error.message}\n`));
      done(-1);
    });
    child.on('exit', (status) => done(status ?? -1));
  });
  clearTimeout(timer);
  await Promise.race([finished(child.stdout).catch(() => {}), new Promise((done) => { setTimeout(done, 2000); })]);   // a stray child may hold the pipe
  endGroup(child.pid, 'SIGKILL');
  groups.delete(child.pid);
  child.stdout.destroy();
  child.stderr.destroy();
  log.end();
  return { code, timedOut, output: Buffer.concat(chunks).toString('utf8') };
}

/** A check that passes or fails as a whole. */
async function check(name, command, words) {
  const { code, output } = await runLogged(name, command, words);
  return { ...nothing(), ...(code === 0 ? { passed: 1 } : { failed: 1 }), output };
}

const tool = (path) => [node24, join(root, 'node_modules', path)];

export function typeCheck() {
  const [command, script] = tool('typescript/bin/tsc');
  return check('type-check', command, [script, '--noEmit', '-p', 'tsconfig.json']);
}

/** Lint and the rules of what may import what. */
export function lint() {
  const [command, script] = tool('oxlint/bin/oxlint');
  return check('lint', command, [script, '--deny-warnings']);
}

export async function build() {
  try {
    await buildApp();
    return { ...nothing(), passed: 1, output: '' };
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    return { ...nothing(), failed: 1, output: error.message };
  }
}

/** Runs files of node:test. `prefix` is a command that runs another, for the lab. */
export async function nodeTests(name, files, { prefix = [], long = false, concurrency = 2, minutes } = {}) {
  minutes ??= long ? limits.long : limits.ordinary;
  const words = [
    ...prefix, node24, '--test', '--test-force-exit', `--test-concurrency=${concurrency}`, `--test-timeout=${hangMinutes(minutes) * 60_000}`, `--test-reporter=${reporter}`, '--test-reporter-destination=stdout', ...files.map((file) => join(root, file)),
  ];
  const { code, timedOut, output } = await runLogged(name, words[0], words.slice(1), { env: long ? { VITRINE_LONG: '1' } : {}, minutes });
  const { counts, text } = readNodeTests(output);
  // A run that ends badly and counts no failure has failed all the same.
  if ((code !== 0 || timedOut) && counts.failed === 0) counts.failed = 1;
  return { ...counts, output: code === 0 ? '' : text };
}

/** KVM tests inside the lab: the same files, where /dev/kvm is missing. One of their machines has 6 GiB. What is compiled once is kept: every Worker loads the sources anew. */
export const inLab = (minutes) => [process.execPath, join(root, 'scripts/lab.mjs'), '--timeout', String(minutes * 60), '--memory', '8G', '--env', 'NODE_COMPILE_CACHE=/tmp/compiled', '--'];
export const labMinutes = limits.lab;

/** One shell's run of the specs. */
export async function playwright(project, files, { env, long }) {
  const json = join(results, `playwright-${project}.json`);
  rmSync(json, { force: true });
  const [command, script] = tool('@playwright/test/cli.js');
  const { code, timedOut, output } = await runLogged(`playwright-${project}`, command, [script, 'test', `--project=${project}`, ...files], {
    env: { ...env, VITRINE_PLAYWRIGHT_JSON: json, ...(long ? { VITRINE_LONG: '1' } : {}) },
    minutes: long ? limits.long : limits.lab,
  });
  const counts = existsSync(json) ? readPlaywright(readFileSync(json, 'utf8')) : nothing();
  if ((code !== 0 || timedOut) && counts.failed === 0) counts.failed = 1;
  return { ...counts, output: code === 0 ? '' : output };
}
