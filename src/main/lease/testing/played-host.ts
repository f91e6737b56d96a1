// A written host (src/main/host-devices/testing) on which the privileged helper plays as well: its test build changes the files of the folder,
// so that what a button does can be seen in them and on the page. In a Playwright spec:
//
//   let host: PlayedHost;
//   test.use({ env: async ({}, provide) => { host = playHost(HOSTS.intelDesktop); await provide(host.env); host.remove(); } });
//   …press "Give …"…  expect(host.driverOf('03:00.0')).toBe('vfio-pci');
//
//   host.env            VITRINE_HOST_TREE and VITRINE_TREE_HELPER for the app, its CLI and its machines
//   host.driverOf       the driver that a device has now
//   host.log()          every change that the helper made, in order (native/lease/test/fake-effects.c)
//   host.snapshot()     all of /sys and /dev as text: the same again when everything was undone
//   host.answer(126)    the person dismisses each question for permission; 127: nobody can be asked, 0: allows it again
//   host.text(path)     a file of the host; null when it is not there: etc/modprobe.d/vitrine.conf, usr/local/libexec/vitrine-helper
//   host.write('hang/0000:03:00.0', '')   the driver does not let go; host.write('busy/15', '')   a machine uses the group
//
// Vitrine starts this helper directly and not as root (src/main/passthrough/place.ts). Needs cc; the program is compiled once a process.
import { chmodSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { PCI_IDS } from '../../host-devices/testing/hosts.ts';
import type { WrittenHost } from '../../host-devices/testing/tree.ts';
import { writeHost } from '../../host-devices/testing/tree.ts';
import { compileHelper, THIS_BOOT } from './fake-host.ts';

export interface PlayedHost extends WrittenHost {
  env: { VITRINE_HOST_TREE: string; VITRINE_TREE_HELPER: string };
  /** "03:00.0" → "nvidia"; '' for none. */
  driverOf: (short: string) => string;
  log: () => string[];
  forgetLog: () => void;
  text: (path: string) => string | null;
  snapshot: () => string;
  /** What the stand-in for pkexec ends with instead of starting the helper; 0 starts it. */
  answer: (code: 0 | 126 | 127) => void;
}

let program = '';

function helperProgram(): string {
  if (program !== '') return program;
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-played-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  compileHelper(join(folder, 'helper'));
  return (program = join(folder, 'helper'));
}

/**
 * Stands between: the answer of the person, processes whose limit is raised (really there, and known in the folder's /proc as ones that may
 * lock anything), and what loading KVM's module brings.
 */
const SCRIPT = `#!/bin/sh
root=$VITRINE_TEST_ROOT
if [ "$1" != granted ] && [ -e "$root/answer" ]; then exit "$(cat "$root/answer")"; fi
way=$1
machine=$2
case $1 in lease|apply|granted) ;; *) exec HELPER "$@" ;; esac
while IFS= read -r line; do
  set -- $line
  case "$1 $2" in
    "memlock "*)
      mkdir -p "$root/proc/$2"
      id=$(id -u)
      echo "$2 (vitrine) S 1 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1" > "$root/proc/$2/stat"
      printf 'Name:\\tvitrine\\nUid:\\t%s\\t%s\\t%s\\t%s\\nVmLck:\\t0 kB\\n' "$id" "$id" "$id" "$id" > "$root/proc/$2/status"
      echo "Max locked memory         unlimited            unlimited            bytes" > "$root/proc/$2/limits" ;;
    "module kvm"*) : > "$root/dev/kvm" ;;
  esac
  printf '%s\\n' "$line"
done | HELPER "$way" \${machine:+"$machine"}
`;

/** @param text in the language of writeHost. @param installed whether the helper is installed on it; the button that installs it does so */
export function playHost(text: string, pciIds = PCI_IDS, installed = true): PlayedHost {
  const host = writeHost(text, pciIds);
  const at = (...parts: string[]) => join(host.folder, ...parts);
  const devices = at('sys/bus/pci/devices');
  for (const folder of ['sys/class/block', 'sys/bus/pci/drivers', 'proc/self', 'dev/vfio', 'run', 'busy', 'hang', 'modules']) mkdirSync(at(folder), { recursive: true });
  if (!existsSync(at('proc/self/mountinfo'))) host.write('proc/self/mountinfo', '');
  host.write('proc/sys/kernel/random/boot_id', THIS_BOOT);
  host.write('sys/bus/pci/drivers_probe', '');
  for (const module of ['vfio-pci', 'kvm_intel', 'kvm_amd']) host.write(join('modules', module), '');
  for (const driver of readdirSync(at('sys/bus/pci/drivers'))) for (const file of ['bind', 'unbind']) host.write(join('sys/bus/pci/drivers', driver, file), '');
  const driverOf = (address: string) => {
    try {
      return basename(readlinkSync(join(devices, address, 'driver')));
    } catch {
      return '';
    }
  };
  for (const address of existsSync(devices) ? readdirSync(devices) : []) {
    const driver = driverOf(address);
    if (driver !== '' && driver !== 'vfio-pci') writeFileSync(join(devices, address, 'native'), driver);
  }
  // What makes the start-up files anew: host.write('initramfs', 'fail') makes it fail. What it took is in boot/initramfs.conf.
  host.write('usr/sbin/update-initramfs', '');
  if (installed) host.write('usr/local/libexec/vitrine-helper', '');
  const script = at('helper.sh');
  writeFileSync(script, SCRIPT.replaceAll('HELPER', helperProgram()));
  chmodSync(script, 0o700);

  const snapshot = () => {
    const rows: string[] = [];
    const walk = (path: string): void => {
      for (const name of readdirSync(at(path)).sort()) {
        const each = join(path, name);
        try {
          const found = lstatSync(at(each));
          if (found.isDirectory()) walk(each);
          else if (found.isSymbolicLink()) rows.push(`${each} -> ${readlinkSync(at(each))}`);
          else rows.push(`${each} ${(found.mode & 0o777).toString(8)} ${(found.mode & 0o400) === 0 ? '' : readFileSync(at(each), 'latin1').trim()}`);
        } catch (thrown) {
          // A guardian is at work. It is a part of the snapshot that something was on its way.
          if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw thrown;
          rows.push(`${each} went while it was looked at`);
        }
      }
    };
    walk('sys');
    walk('dev');
    return rows.join('\n');
  };
  return {
    ...host,
    env: { VITRINE_HOST_TREE: host.folder, VITRINE_TREE_HELPER: script },
    driverOf: (short) => driverOf(short.length < 12 ? `0000:${short}` : short),
    log: () => (existsSync(at('log')) ? readFileSync(at('log'), 'utf8').split('\n').filter(Boolean) : []),
    forgetLog: () => rmSync(at('log'), { force: true }),
    text: (path) => (existsSync(at(path)) ? readFileSync(at(path), 'utf8') : null),
    snapshot,
    answer: (code) => (code === 0 ? rmSync(at('answer'), { force: true }) : writeFileSync(at('answer'), String(code))),
    // A guardian may be on its way out.
    remove: () => rmSync(host.folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 20 }),
  };
}
