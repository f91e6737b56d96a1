// What the system must have, by purpose: found by looking for the thing itself, so it works on any distribution; installed by apt where
// that is allowed, else the exact command is said.
import { existsSync, readdirSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import { SetupError, findCommand, run, step, systemEnvironment, tryRun } from './run.mjs';

const command = (name) => () => findCommand(name) !== undefined;
const file = (path) => () => existsSync(path);
const library = (name) => () => ['/usr/lib/x86_64-linux-gnu', '/usr/lib64', '/usr/lib', '/lib/x86_64-linux-gnu', '/lib64'].some((folder) => existsSync(`${folder}/${name}`));

/** For each thing: how it is recognised, who needs it, who can do without it (`optional`), Debian's package (alternatives: the name changed in 2024), and others' names. */
const needs = [
  { what: 'a C compiler', there: command('cc'), for: ['start', 'test'], debian: ['gcc'], fedora: 'gcc', arch: 'gcc', suse: 'gcc' },
  { what: 'the C library\'s headers', there: file('/usr/include/stdio.h'), for: ['start', 'test'], debian: ['libc6-dev'], fedora: 'glibc-devel', arch: 'glibc', suse: 'glibc-devel' },
  { what: 'the kernel\'s headers for programs', there: file('/usr/include/linux/kvm.h'), for: ['test'], debian: ['linux-libc-dev'], fedora: 'kernel-headers', arch: 'linux-api-headers', suse: 'linux-glibc-devel' },
  { what: 'xz', there: command('xz'), for: ['start', 'test'], debian: ['xz-utils'], fedora: 'xz', arch: 'xz', suse: 'xz' },
  { what: 'GTK, for Electron', there: library('libgtk-3.so.0'), for: ['electron', 'test'], debian: ['libgtk-3-0t64', 'libgtk-3-0'], fedora: 'gtk3', arch: 'gtk3', suse: 'libgtk-3-0' },
  { what: 'NSS, for Electron', there: library('libnss3.so'), for: ['electron', 'test'], debian: ['libnss3'], fedora: 'nss', arch: 'nss', suse: 'mozilla-nss' },
  { what: 'ALSA, for Electron', there: library('libasound.so.2'), for: ['electron', 'test'], debian: ['libasound2t64', 'libasound2'], fedora: 'alsa-lib', arch: 'alsa-lib', suse: 'libasound2' },
  { what: 'GBM, for Electron', there: library('libgbm.so.1'), for: ['electron', 'test'], debian: ['libgbm1'], fedora: 'mesa-libgbm', arch: 'mesa', suse: 'libgbm1' },
  { what: 'Chromium', there: () => ['chromium', 'chromium-browser', 'google-chrome'].some((name) => findCommand(name)), for: ['test'], debian: ['chromium', 'chromium-browser'], fedora: 'chromium', arch: 'chromium', suse: 'chromium' },
  { what: 'an X server without a screen', there: command('Xvfb'), for: ['test'], debian: ['xvfb'], fedora: 'xorg-x11-server-Xvfb', arch: 'xorg-server-xvfb', suse: 'xorg-x11-server-Xvfb' },
  { what: 'a small window manager', there: command('openbox'), for: ['test'], debian: ['openbox'], fedora: 'openbox', arch: 'openbox', suse: 'openbox' },
  { what: 'a font', there: () => existsSync('/usr/share/fonts') && readdirSync('/usr/share/fonts').length > 0, for: ['test'], debian: ['fonts-dejavu-core'], fedora: 'dejavu-sans-fonts', arch: 'ttf-dejavu', suse: 'dejavu-fonts' },
  { what: 'the ACPI compiler', there: command('iasl'), for: ['test'], debian: ['acpica-tools'], fedora: 'acpica-tools', arch: 'acpica', suse: 'acpica' },
  { what: 'pkexec, for a test in the lab', there: command('pkexec'), for: ['test'], debian: ['pkexec', 'policykit-1'], fedora: 'polkit', arch: 'polkit', suse: 'polkit' },
  { what: 'qemu-img, the judge of disk images', there: () => findCommand('qemu-img') !== undefined && findCommand('qemu-io') !== undefined, for: ['test'], debian: ['qemu-utils'], fedora: 'qemu-img', arch: 'qemu-img', suse: 'qemu-img' },
  { what: 'passt, the network of guests', there: command('passt'), for: ['test'], optional: ['start'], debian: ['passt'], fedora: 'passt', arch: 'passt', suse: 'passt' },
  { what: 'setpriv', there: command('setpriv'), for: ['test'], debian: ['util-linux'], fedora: 'util-linux', arch: 'util-linux', suse: 'util-linux' },
  { what: 'Python', there: command('python3'), for: ['substitute'], debian: ['python3'], fedora: 'python3', arch: 'python', suse: 'python3' },
  { what: 'pip', there: () => tryRun('python3', ['-m', 'pip', '--version']).status === 0 || findCommand('pip3') !== undefined, for: ['substitute'], debian: ['python3-pip'], fedora: 'python3-pip', arch: 'python-pip', suse: 'python3-pip' },
];

const managers = [
  { command: 'dnf', key: 'fedora', install: 'dnf install' },
  { command: 'pacman', key: 'arch', install: 'pacman -S' },
  { command: 'zypper', key: 'suse', install: 'zypper install' },
];

/** What is missing for these purposes. */
export function missingFor(purposes) {
  return needs.filter((need) => need.for.some((purpose) => purposes.includes(purpose)) && !need.there());
}

/** What is missing and can be done without: installed along with what cannot, else only said. */
export function optionalFor(purposes) {
  return needs.filter((need) => need.optional?.some((purpose) => purposes.includes(purpose)) && !need.there());
}

const isRoot = process.geteuid?.() === 0;
const interactive = () => Boolean(process.stdin.isTTY && process.stdout.isTTY) && process.env.CI === undefined;

/** Asks a yes-or-no question on the terminal; without one the answer is no. */
export async function ask(question) {
  if (!interactive()) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `)).trim());
  } finally {
    terminal.close();
  }
}

/** How one thing is installed here. */
function installWords(need) {
  const manager = managers.find((one) => findCommand(one.command));
  if (findCommand('apt-get')) return `To have it: sudo apt-get install ${packageOf(need)}`;
  return manager === undefined ? `Debian's package is ${need.debian.at(-1)}.` : `To have it: sudo ${manager.install} ${need[manager.key]}`;
}

const knownToApt = (name) => /Candidate: \d/.test(tryRun('apt-cache', ['policy', name], { env: systemEnvironment({ LC_ALL: 'C' }) }).stdout);

/** The Debian package of a need that apt knows, the first of its alternatives. */
const packageOf = ({ debian }) => debian.find(knownToApt) ?? debian.at(-1);

const aptInstall = (packages) => ['install', '-y', '-q', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=600', ...packages];

async function updateLists() {
  await step('Fetching the lists of Debian packages', () => run('apt-get update', 'apt-get', ['update', '-q'], { env: systemEnvironment({ DEBIAN_FRONTEND: 'noninteractive' }) }));
}

async function installAsRoot(missing) {
  const env = systemEnvironment({ DEBIAN_FRONTEND: 'noninteractive' });
  const lists = existsSync('/var/lib/apt/lists') ? readdirSync('/var/lib/apt/lists').filter((name) => /_Packages(\.lz4)?$/.test(name)) : [];
  if (lists.length === 0) await updateLists();
  let packages = missing.map(packageOf);
  const install = () => step(`Installing ${packages.join(', ')}`, () => run('apt-get install', 'apt-get', aptInstall(packages), { env }));
  try {
    await install();
  } catch {
    await updateLists();   // old lists name files that are gone
    packages = missing.map(packageOf);
    await install();
  }
}

/**
 * Brings what is missing for the purposes ('start', 'electron', 'test', 'substitute').
 * As root it installs: without a question in tests, in CI and without a terminal. Else it asks for sudo, or says the command.
 * Throws a SetupError when something is still missing.
 */
export async function preparePackages(purposes) {
  let missing = missingFor(purposes);
  const optional = optionalFor(purposes);
  if (missing.length === 0) {
    for (const need of optional) console.log(`  Left out: ${need.what}. ${installWords(need)}`);
    return;
  }
  const list = missing.map(({ what }) => what).join(', ');
  if (!findCommand('apt-get')) {
    const manager = managers.find((one) => findCommand(one.command));
    const names = missing.map((need) => (manager && need[manager.key]) ?? need.debian.at(-1));
    throw new SetupError(`Missing: ${list}.\nInstall them: ${manager ? `sudo ${manager.install} ${[...new Set(names)].join(' ')}` : `your distribution's packages like Debian's ${names.join(', ')}`}`);
  }
  const wanted = [...missing, ...optional.filter(({ debian }) => debian.some(knownToApt))];
  const packages = wanted.map(packageOf);
  const words = `apt-get install ${packages.join(' ')}`;
  if (isRoot && (!interactive() || purposes.includes('test') || (await ask(`Missing: ${list}. Run \`${words}\`?`)))) {
    await installAsRoot(wanted);
  } else if (!isRoot && findCommand('sudo') && (await ask(`Missing: ${list}. Run \`sudo ${words}\`?`))) {
    await run('sudo apt-get install', 'sudo', ['apt-get', ...aptInstall(packages)], { stdio: 'inherit' });
  } else {
    throw new SetupError(`Missing: ${list}.\nInstall them: ${isRoot ? '' : 'sudo '}${words}`);
  }
  missing = missingFor(purposes);
  if (missing.length > 0) throw new SetupError(`Still missing after installing packages: ${missing.map(({ what }) => what).join(', ')}. Debian's are ${missing.map(packageOf).join(', ')}.`);
}
