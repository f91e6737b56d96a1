// `vitrine doctor`: what this computer can do for machines, each finding with what it means and what to do about it. It looks and asks,
// and changes nothing.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, statSync } from 'node:fs';
import { release, totalmem, userInfo } from 'node:os';
import { join } from 'node:path';
import type { Finding as DeviceFinding, HostDevices } from '../shared/host-devices.ts';
import { chooseBackend } from '../main/launcher/backend.ts';
import type { BackendChoice } from '../main/launcher/backend.ts';
import { readHostDevices } from '../main/host-devices/read.ts';
import { realRoots } from '../main/host-devices/roots.ts';
import { libraryFolder } from '../main/library/folders.ts';
import { builtinImages } from '../main/library/builtin.ts';
import { vitrineVersion } from '../main/install.ts';
import { runtimeFolder } from '../vmm/server/runtime-folder.ts';

/** `ok`: works. `limited`: works with less. `missing`: does not work, or is not there. */
export type Verdict = 'ok' | 'limited' | 'missing';

export interface Finding {
  what: string;
  verdict: Verdict;
  /** What was found. */
  found: string;
  /** What to do, empty when nothing is needed. */
  remedy: string;
}

const KVM = '/dev/kvm';
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** Where distributions put what a machine's firmware will need. */
const FIRMWARE = {
  SeaBIOS: ['/usr/share/seabios/bios-256k.bin', '/usr/share/qemu/bios-256k.bin', '/usr/share/qemu/bios.bin'],
  OVMF: ['/usr/share/OVMF/OVMF_CODE_4M.fd', '/usr/share/OVMF/OVMF_CODE.fd', '/usr/share/edk2/ovmf/OVMF_CODE.fd', '/usr/share/edk2/x64/OVMF_CODE.4m.fd', '/usr/share/qemu/ovmf-x86_64-code.bin'],
} as const;

function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return null;
  }
}

/** The full path of a program, or null. */
export function findProgram(name: string): string | null {
  const folders = [...(process.env.PATH ?? '').split(':').filter(Boolean), ...SYSTEM_FOLDERS];
  return folders.map((folder) => join(folder, name)).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return statSync(path).isFile();
    } catch {
      return false;
    }
  }) ?? null;
}

/** The name of the group that owns a file, from /etc/group; its number when it has no name there. */
export function groupOf(path: string): string {
  const { gid } = statSync(path);
  const line = (readText('/etc/group') ?? '').split('\n').find((entry) => entry.split(':')[2] === String(gid));
  return line?.split(':')[0] ?? String(gid);
}

function permissions(): Finding {
  const what = 'Permission to use KVM';
  if (!existsSync(KVM)) {
    const remedy = 'Switch virtualisation on in the computer\'s firmware (VT-x or SVM) and load the module kvm_intel or kvm_amd. In a virtual machine, nested virtualisation must be on.';
    return { what, verdict: 'missing', found: `there is no ${KVM}`, remedy };
  }
  const group = groupOf(KVM);
  try {
    accessSync(KVM, constants.R_OK | constants.W_OK);
    return { what, verdict: 'ok', found: `${KVM} may be used (group ${group})`, remedy: '' };
  } catch {
    const { username } = userInfo();
    return { what, verdict: 'missing', found: `${KVM} belongs to the group ${group}, and ${username} is not in it`, remedy: `sudo usermod -aG ${group} ${username}, then log out and in again.` };
  }
}

function kvm({ kvm: { usable, canBootLinux, problem } }: BackendChoice): Finding {
  const what = 'KVM, tried by running instructions';
  if (canBootLinux) return { what, verdict: 'ok', found: 'runs guests, and what a Linux kernel needs', remedy: '' };
  const why = problem === null ? '' : `: ${problem.why.replace(/\.$/, '')}`;
  if (usable) return { what, verdict: 'limited', found: `runs small guests, but no Linux kernel${why}`, remedy: problem?.remedy ?? '' };
  return { what, verdict: 'missing', found: `does not run guests${why}`, remedy: problem?.remedy ?? '' };
}

function lab(): Finding {
  const what = 'The lab (an emulated host)';
  const qemu = findProgram('qemu-system-x86_64');
  if (qemu === null) return { what, verdict: 'missing', found: 'qemu-system-x86_64 is not installed', remedy: '`npm start` sets the lab up; on Debian and Ubuntu it installs qemu-system-x86.' };
  return { what, verdict: 'ok', found: qemu, remedy: '' };
}

/** What the model of the host's devices says of the computer as a whole. */
export function passthrough(found: HostDevices): Finding[] {
  const what = 'IOMMU, for giving devices to machines';
  const about = found.findings.filter(({ code }) => code !== 'kvm-unusable');
  const off = about.find(({ code }) => code === 'iommu-off');
  const written = ({ remedy, commands = [], actions = [] }: DeviceFinding) => [remedy, ...commands, ...actions.map(({ label }) => `In Vitrine's window: ${label}`)].filter(Boolean).join('\n    ');
  const { iommu } = found;
  const first: Finding = off !== undefined || iommu === undefined
    ? { what, verdict: 'missing', found: off?.sentence.replace(/\.$/, '') ?? 'unknown', remedy: off === undefined ? '' : written(off) }
    : { what, verdict: 'ok', found: `${iommu.units.join(', ') || iommu.kind}, ${iommu.groups} groups`, remedy: '' };
  const rest = about.filter(({ code, severity }) => code !== 'iommu-off' && severity !== 'information').map((finding): Finding => ({
    what: { 'no-interrupt-remapping': 'Interrupt remapping', 'kernel-modules': 'vfio-pci' }[finding.code as string] ?? 'Giving devices to machines',
    verdict: finding.severity === 'refused' ? 'missing' : 'limited', found: finding.sentence.replace(/\.$/, ''), remedy: written(finding),
  }));
  if (off !== undefined) return [first, ...rest];
  const count = (verdict: string) => Object.values(found.groups).filter((group) => group.verdict === verdict).length;
  const [ready, care] = [count('ready'), count('with-care')];
  return [first, ...rest, { what: 'Groups of devices for machines', verdict: ready + care > 0 ? 'ok' : 'limited', found: `${ready} ready, ${care} with care`, remedy: '`vitrine devices` shows them.' }];
}

function firmware(name: keyof typeof FIRMWARE): Finding {
  const path = FIRMWARE[name].find((candidate) => existsSync(candidate));
  const what = `${name} firmware`;
  if (path !== undefined) return { what, verdict: 'ok', found: path, remedy: '' };
  return { what, verdict: 'missing', found: 'not installed', remedy: `On Debian and Ubuntu: apt install ${name.toLowerCase()}. Kernels that are loaded directly do without.` };
}

function passt(): Finding {
  const what = 'passt, for networks without root';
  const path = findProgram('passt');
  return path === null ? { what, verdict: 'missing', found: 'not installed', remedy: 'On Debian and Ubuntu: apt install passt.' } : { what, verdict: 'ok', found: path, remedy: '' };
}

function userNamespaces(): Finding {
  const what = 'User namespaces, for the sandbox of Electron';
  const unshare = findProgram('unshare');
  const tried = unshare === null ? null : spawnSync(unshare, ['--user', '--map-root-user', 'true'], { stdio: 'ignore', timeout: 10_000 });
  if (tried?.status === 0 && readText('/proc/sys/kernel/apparmor_restrict_unprivileged_userns') !== '1') return { what, verdict: 'ok', found: 'a program may make one', remedy: '' };
  if (readText('/proc/sys/kernel/apparmor_restrict_unprivileged_userns') === '1') {
    return { what, verdict: 'limited', found: 'AppArmor gives them to programs with a profile alone', remedy: '`npm start` offers a profile for Electron; else `vitrine serve` opens Vitrine in a browser.' };
  }
  const why = readText('/proc/sys/kernel/unprivileged_userns_clone') === '0' ? 'switched off (kernel.unprivileged_userns_clone = 0)' : readText('/proc/sys/user/max_user_namespaces') === '0' ? 'switched off (user.max_user_namespaces = 0)' : 'an ordinary program cannot make one';
  return { what, verdict: 'missing', found: why, remedy: '`vitrine serve` opens Vitrine in a browser instead.' };
}

function user(): Finding {
  const what = 'User';
  if (process.geteuid!() === 0) return { what, verdict: 'limited', found: 'root', remedy: 'Run Vitrine as an ordinary user: a machine needs no rights of root\'s, and Electron does not start with them.' };
  return { what, verdict: 'ok', found: `${userInfo().username} (${process.geteuid!()})`, remedy: '' };
}

function sockets(): Finding {
  const what = 'Folder of the machines\' sockets';
  try {
    return { what, verdict: 'ok', found: runtimeFolder(), remedy: '' };
  } catch (thrown) {
    return { what, verdict: 'missing', found: (thrown as Error).message, remedy: '' };
  }
}

function images(): Finding[] {
  const { tryLinux, demo } = builtinImages();
  return [
    { what: 'The machine "Try Linux"', paths: [tryLinux.kernel, tryLinux.initrd] },
    { what: 'The machine "Framebuffer demo"', paths: [demo.kernel] },
  ].map(({ what, paths }) => {
    const missing = paths.filter((path) => !existsSync(path));
    if (missing.length === 0) return { what, verdict: 'ok', found: paths[0], remedy: '' };
    return { what, verdict: 'missing', found: `not prepared: ${missing.join(', ')}`, remedy: '`npm start` prepares it.' };
  });
}

export interface Report {
  vitrine: string;
  node: string;
  kernel: string;
  /** Bytes. */
  memory: number;
  library: string;
  backend: BackendChoice['backend'];
  why: string;
  findings: Finding[];
  /** Whether machines can run at all, on KVM or in the lab. */
  able: boolean;
}

export async function examine(): Promise<Report> {
  const choice = await chooseBackend();
  const findings = [user(), permissions(), kvm(choice), lab(), userNamespaces(), sockets(), ...passthrough(readHostDevices({ roots: realRoots() })), firmware('SeaBIOS'), firmware('OVMF'), passt(), ...images()];
  const labThere = findings.some(({ what, verdict }) => what.startsWith('The lab') && verdict === 'ok');
  return {
    vitrine: vitrineVersion(), node: process.versions.node, kernel: release(), memory: totalmem(), library: libraryFolder(), backend: choice.backend, why: choice.why, findings,
    able: choice.kvm.canBootLinux || labThere,
  };
}

const SIGNS: Record<Verdict, string> = { ok: '✓', limited: '!', missing: '–' };

export function inWords(report: Report): string {
  const lines = [`Vitrine ${report.vitrine} on Linux ${report.kernel}, Node ${report.node}, ${(report.memory / 2 ** 30).toFixed(1)} GiB of memory`, `Library: ${report.library}`, ''];
  for (const { what, verdict, found, remedy } of report.findings) {
    lines.push(`${SIGNS[verdict]} ${what}: ${found}`);
    if (remedy !== '') lines.push(`    ${remedy}`);
  }
  const name = { kvm: 'on KVM', lab: 'in the lab' };
  lines.push('', `Linux machines run ${name[report.backend.linux]}, freestanding guests ${name[report.backend.freestanding]}.`);
  if (report.why !== '') lines.push(report.why);
  return `${lines.join('\n')}\n`;
}
