// Electron's sandbox needs a user namespace of an ordinary user. Some kernels refuse one; Ubuntu since 23.10 refuses it to every program
// without an AppArmor profile that allows it (kernel.apparmor_restrict_unprivileged_userns). The sandbox is never switched off for that.
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { ask } from './packages.mjs';
import { findCommand, run } from './run.mjs';

const profilePath = '/etc/apparmor.d/vitrine-electron';

/** What the kernel says about user namespaces, as far as it says anything. */
export function readLimits(read = (path) => (existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined)) {
  return {
    restrictedByAppArmor: read('/proc/sys/kernel/apparmor_restrict_unprivileged_userns') === '1',
    forbidden: read('/proc/sys/kernel/unprivileged_userns_clone') === '0' || read('/proc/sys/user/max_user_namespaces') === '0',
  };
}

/** The profile that allows the binary at `path` a user namespace and restricts nothing else. */
export function profileFor(path) {
  return `# Lets Electron's sandbox make user namespaces, for Vitrine.
abi <abi/4.0>,
include <tunables/global>

profile vitrine-electron "${path}" flags=(unconfined) {
  userns,

  include if exists <local/vitrine-electron>
}
`;
}

/** Whether Chromium's older sandbox, a program of root's with the set-uid bit, lies beside the binary. */
function hasSetuidHelper(path) {
  const helper = join(dirname(path), 'chrome-sandbox');
  if (!existsSync(helper)) return false;
  const { uid, mode } = statSync(helper);
  return uid === 0 && (mode & 0o4001) === 0o4001;
}

/**
 * Why Electron at `path` cannot run with its sandbox here, or undefined when it can. Where an AppArmor profile is all that is missing,
 * offers to install it: shows the text and asks before sudo.
 */
export async function sandboxProblem(path, limits = readLimits()) {
  if (hasSetuidHelper(path)) return undefined;
  if (limits.forbidden) return 'this kernel gives ordinary users no user namespaces, which Electron\'s sandbox needs';
  if (!limits.restrictedByAppArmor) return undefined;
  const profile = profileFor(path);
  if (existsSync(profilePath) && readFileSync(profilePath, 'utf8') === profile) return undefined;
  console.log(`\nThis system gives user namespaces only to programs with an AppArmor profile, and Electron's sandbox needs one.\nThe profile would be ${profilePath}:\n\n${profile}`);
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-profile-'));
  const file = join(folder, 'vitrine-electron');
  try {
    writeFileSync(file, profile);
    const put = ['install', '-m', '0644', file, profilePath];
    if (findCommand('sudo') && (await ask('Install it with sudo?'))) {
      await run('Installing the profile', 'sudo', put, { stdio: 'inherit' });
      await run('Loading the profile', 'sudo', ['apparmor_parser', '-r', profilePath], { stdio: 'inherit' });
      return undefined;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return `AppArmor keeps Electron's sandbox from running (write the text above to ${profilePath} and run \`sudo apparmor_parser -r ${profilePath}\`)`;
}
