// Tests run as an ordinary user: root makes permissions and limits meaningless, and Electron with its sandbox does not start as root.
// When root calls `npm test`, this makes the user `vitrine-test`, gives it /dev/kvm by the group `kvm`, copies the work tree into its
// home (only what changed), shares node_modules by hard links, and runs the tests there.
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync, chownSync, closeSync, copyFileSync, cpSync, existsSync, lchownSync, lstatSync, mkdirSync, openSync, readFileSync, readdirSync, readlinkSync, rmSync,
  statSync, symlinkSync, writeFileSync, writeSync,
} from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { dirname, join } from 'node:path';
import { SetupError, hashOf, root, run, step, tryRun } from '../setup/run.mjs';

const name = 'vitrine-test';
const home = `/var/lib/${name}`;
const work = join(home, 'work');
export const userCache = join(home, '.cache');

/** The user's { uid, gid }, made where it is missing. */
export function prepareUser() {
  if (tryRun('getent', ['group', 'kvm']).status !== 0) mustRun('groupadd', ['--system', 'kvm']);
  if (tryRun('getent', ['passwd', name]).status !== 0) {
    console.log(`· Making the user ${name}, as whom the tests run …`);
    mustRun('useradd', ['--system', '--create-home', '--home-dir', home, '--shell', '/bin/sh', '--user-group', name]);
  }
  const groups = tryRun('id', ['-nG', name]).stdout.trim().split(' ');
  if (!groups.includes('kvm')) mustRun('usermod', ['--append', '--groups', 'kvm', name]);
  const id = (option) => Number(tryRun('id', [option, name]).stdout);
  const user = { uid: id('-u'), gid: id('-g') };
  mkdirSync(userCache, { recursive: true });
  for (const folder of [home, userCache]) chownSync(folder, user.uid, user.gid);
  return user;
}

function mustRun(command, words) {
  const { status, stdout, stderr } = tryRun(command, words);
  if (status !== 0) throw new SetupError(`${command} ${words.join(' ')} failed: ${stdout}${stderr}`);
}

/** Lets the group kvm use /dev/kvm, as udev's rule does on a desktop. */
export function allowKvm() {
  if (!existsSync('/dev/kvm')) return;
  const { mode } = statSync('/dev/kvm');
  if ((mode & 0o006) === 0o006) return;
  mustRun('chgrp', ['kvm', '/dev/kvm']);
  chmodSync('/dev/kvm', 0o660);
}

/** Holds the user's home for one run at a time; waits for another run. Returns the function that lets go. */
export async function takeTurn() {
  const lock = join(home, 'lock');
  let waiting = false;
  for (;;) {
    try {
      const fd = openSync(lock, 'wx', 0o600);
      writeSync(fd, `${process.pid}`);
      closeSync(fd);
      return () => rmSync(lock, { force: true });
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const holder = Number(existsSync(lock) ? readFileSync(lock, 'utf8') : 0);
    if (holder > 0 && !existsSync(`/proc/${holder}`)) {
      rmSync(lock, { force: true });
      continue;
    }
    if (!waiting) console.log(`· Waiting for another run of the tests (process ${holder}) …`);
    waiting = true;
    await sleep(500);
  }
}

/** Files of the work tree as they stand: tracked and untracked, not what is ignored. */
function treeFiles() {
  const { status, stdout, stderr } = tryRun('git', ['-c', `safe.directory=${root}`, '-C', root, 'ls-files', '-z', '--cached', '--others', '--exclude-standard']);
  if (status !== 0) throw new SetupError(`The files to test could not be listed: git ls-files: ${stderr}`);
  return [...new Set(stdout.split('\0'))].filter((path) => path !== '' && exists(join(root, path)));
}

function exists(path) {
  try {
    lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

/** What the copy has of its own, which a new copy leaves alone. */
const kept = new Set(['node_modules', 'out', 'build', 'test-results']);

/** Makes the copy equal to the work tree and returns its folder. */
export async function copyTree(user) {
  const wanted = new Set(treeFiles());
  const folders = new Set();
  for (const path of wanted) for (let folder = dirname(path); folder !== '.'; folder = dirname(folder)) folders.add(folder);
  mkdirSync(work, { recursive: true });
  chownSync(work, user.uid, user.gid);
  prune('', wanted, folders);
  for (const folder of [...folders].sort()) {
    if (!exists(join(work, folder))) mkdirSync(join(work, folder));
    chownSync(join(work, folder), user.uid, user.gid);
  }
  for (const path of wanted) copyIfChanged(join(root, path), join(work, path), user);
  await shareModules(user);
  return work;
}

/** Removes from the copy what the work tree has no more. */
function prune(folder, wanted, folders) {
  for (const entry of readdirSync(join(work, folder), { withFileTypes: true })) {
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
    if (folder === '' && kept.has(path)) continue;
    if (entry.isDirectory() && folders.has(path)) prune(path, wanted, folders);
    else if (entry.isDirectory() || !wanted.has(path)) rmSync(join(work, path), { recursive: true, force: true });
  }
}

function copyIfChanged(from, to, user) {
  const stat = lstatSync(from);
  if (stat.isSymbolicLink()) {
    rmSync(to, { force: true });
    symlinkSync(readlinkSync(from), to);
  } else if (stat.isFile()) {
    const same = exists(to) && lstatSync(to).isFile() && statSync(to).size === stat.size && readFileSync(from).equals(readFileSync(to));
    if (!same) {
      rmSync(to, { force: true, recursive: true });
      copyFileSync(from, to);
    }
    chmodSync(to, stat.mode & 0o777 & ~0o022 | 0o444);
  } else {
    return;
  }
  lchownSync(to, user.uid, user.gid);
}

/** node_modules by hard links where the file system allows it: no time and no space. Root's files, so the tests cannot change them. */
async function shareModules(user) {
  const from = join(root, 'node_modules');
  const to = join(work, 'node_modules');
  const electron = join(from, 'electron/path.txt');
  const hash = hashOf([join(root, 'package-lock.json'), ...(existsSync(electron) ? [electron] : [])], from, String(statSync(from).ino));
  const stamp = join(home, 'node_modules.stamp');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === hash && existsSync(to)) return;
  await step('Sharing the npm packages with the tests\' user', async () => {
    rmSync(to, { recursive: true, force: true });
    if (tryRun('cp', ['-al', from, to]).status !== 0) {
      rmSync(to, { recursive: true, force: true });
      await run('Copying node_modules', 'cp', ['-a', from, to]);
    }
    chownSync(to, user.uid, user.gid);
  });
  writeFileSync(stamp, hash);
}

/** Gives the user what was downloaded for it. */
export function ownCache(user) {
  mustRun('chown', ['-R', '-h', `${user.uid}:${user.gid}`, userCache]);
}

/** Of root's environment only what a download or a terminal needs. */
const passed = /^(LANG|LC_ALL|TERM|COLORTERM|NO_COLOR|FORCE_COLOR|TZ|CI|https?_proxy|no_proxy|HTTPS?_PROXY|NO_PROXY|NODE_EXTRA_CA_CERTS|SSL_CERT_(FILE|DIR)|VITRINE_\w+|ELECTRON_\w+)$/;

/** Runs a command in the copy as the user, with a clean environment, to its end; returns its exit code. */
export async function runAsUser(user, command, words, more) {
  const runtime = join(home, 'run');
  rmSync(runtime, { recursive: true, force: true });
  mkdirSync(runtime, { mode: 0o700 });
  chownSync(runtime, user.uid, user.gid);
  // An X server of an ordinary user cannot make the folder of its socket.
  if (!existsSync('/tmp/.X11-unix')) {
    mkdirSync('/tmp/.X11-unix');
    chmodSync('/tmp/.X11-unix', 0o1777);
  }
  const env = {
    ...Object.fromEntries(Object.entries(process.env).filter(([key]) => passed.test(key))),
    HOME: home, USER: name, LOGNAME: name, SHELL: '/bin/sh', PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    XDG_CACHE_HOME: userCache, XDG_RUNTIME_DIR: runtime, DBUS_SESSION_BUS_ADDRESS: 'disabled:', ...more,
  };
  const code = await new Promise((done, failed) => {
    const child = spawn('setpriv', [`--reuid=${user.uid}`, `--regid=${user.gid}`, '--init-groups', '--inh-caps=-all', '--', command, ...words], { cwd: work, env, stdio: ['ignore', 'inherit', 'inherit'] });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill('SIGTERM'));
    child.on('error', failed);
    child.on('exit', (status) => done(status ?? 1));
  });
  await endProcessesOf(user);
  return code;
}

/** Ends what the tests left running. The user exists for the tests alone, and `takeTurn` lets one run at a time have it. */
export async function endProcessesOf(user) {
  for (let turn = 0; turn < 50; turn++) {
    const left = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && runsAs(pid, user.uid));
    if (left.length === 0) return;
    for (const pid of left) spawnSync('kill', [turn < 10 ? '-TERM' : '-KILL', pid], { stdio: 'ignore' });
    await sleep(100);
  }
}

/** Whether a process is this user's and not yet dead. By its status: the owner of its folder in /proc is root's for some. */
function runsAs(pid, uid) {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return new RegExp(`^Uid:\\s+${uid}\\s`, 'm').test(status) && !/^State:\s+Z/m.test(status);
  } catch {
    return false;
  }
}

/** Brings the pictures and logs of the run into the work tree, where git ignores them. */
export function fetchResults() {
  const from = join(work, 'test-results');
  const to = join(root, 'test-results');
  rmSync(to, { recursive: true, force: true });
  if (existsSync(from)) cpSync(from, to, { recursive: true });
}
