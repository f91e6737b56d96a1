// How things are done on this distribution: a parameter for the kernel, a new initramfs. Each boot loader and each distribution has its
// own way, and a wrong one costs a restart.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Finding } from '../../shared/host-devices.ts';
import type { HostRoots } from './roots.ts';
import { lines, names } from './roots.ts';

export type Remedy = Pick<Finding, 'remedy' | 'commands' | 'undo'>;

/** ID and ID_LIKE of os-release(5). */
function distribution(roots: HostRoots): string[] {
  const release = lines(roots.etc, 'os-release');
  const value = (key: string) => release.find((line) => line.startsWith(`${key}=`))?.slice(key.length + 1).replaceAll('"', '') ?? '';
  return [value('ID'), ...value('ID_LIKE').split(' ')];
}

function isA(roots: HostRoots, ...wanted: string[]): boolean {
  return distribution(roots).some((id) => wanted.some((each) => id === each || id.startsWith(`${each}-`)));
}

/** How a parameter comes to the kernel and goes again; both count from the next start of the computer. */
export function addParameter(roots: HostRoots, parameter: string): Remedy {
  const has = (path: string) => existsSync(join(roots.etc, path));
  const restart = 'restart the computer.';
  const byCommand = (add: string, remove: string): Remedy => ({ remedy: `Give the kernel the parameter ${parameter}, and ${restart}`, commands: [add], undo: [remove] });
  const byFile = (edit: string, ...commands: string[]): Remedy => ({ remedy: `${edit}${commands.length === 0 ? '' : ', run the command below'}, and ${restart}`, ...(commands.length === 0 ? {} : { commands }) });
  if (isA(roots, 'nixos')) return byFile(`Add "${parameter}" to boot.kernelParams`, 'sudo nixos-rebuild boot');
  if (has('kernelstub')) return byCommand(`sudo kernelstub -a "${parameter}"`, `sudo kernelstub -d "${parameter}"`);
  if (isA(roots, 'fedora', 'rhel')) return byCommand(`sudo grubby --update-kernel=ALL --args="${parameter}"`, `sudo grubby --update-kernel=ALL --remove-args="${parameter}"`);
  if (has('default/grub')) {
    const update = isA(roots, 'debian', 'ubuntu') ? 'sudo update-grub' : isA(roots, 'suse', 'opensuse') ? 'sudo grub2-mkconfig -o /boot/grub2/grub.cfg' : 'sudo grub-mkconfig -o /boot/grub/grub.cfg';
    return byFile(`Add ${parameter} to GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub`, update);
  }
  if (has('kernel/cmdline')) return byFile(`Add ${parameter} to /etc/kernel/cmdline`, 'sudo kernel-install add-all');
  if (names(roots.boot, 'loader/entries').length > 0) return byFile(`Add ${parameter} to the line "options" in /boot/loader/entries/*.conf`);
  return byFile(`Add ${parameter} to the kernel's parameters in the boot loader`);
}

export function removeParameter(roots: HostRoots, parameter: string): Remedy {
  const { commands, undo } = addParameter(roots, parameter);
  const remedy = `Take ${parameter} out of the kernel's parameters, and restart the computer.`;
  return undo === undefined ? { remedy } : { remedy, commands: undo, undo: commands };
}

/** How all modules of the kernel come onto the computer, where small images leave some out. @param release as uname has it */
export function installModules(roots: HostRoots, release: string): Remedy {
  const install = (command: string, restart: boolean): Remedy => ({ remedy: `Install the kernel's full set of modules${restart ? ', and restart the computer' : ''}.`, commands: [command] });
  if (isA(roots, 'ubuntu')) return install(`sudo apt install linux-modules-extra-${release}`, false);
  if (isA(roots, 'debian')) return install('sudo apt install linux-image-$(dpkg --print-architecture)', true);
  if (isA(roots, 'fedora', 'rhel')) return install(`sudo dnf install kernel-modules-${release}`, false);
  if (isA(roots, 'suse', 'opensuse')) return install('sudo zypper install kernel-default', true);
  if (isA(roots, 'alpine')) return install('sudo apk add linux-lts', true);
  return { remedy: 'Install the kernel\'s full set of modules, or start a kernel with CONFIG_VFIO_PCI.' };
}

/** What makes the initramfs anew, so that a file of modprobe.d counts from the start. */
export function initramfsCommand(roots: HostRoots): string {
  if (isA(roots, 'fedora', 'rhel', 'suse', 'opensuse')) return 'sudo dracut --force';
  return isA(roots, 'arch') ? 'sudo mkinitcpio -P' : 'sudo update-initramfs -u';
}
