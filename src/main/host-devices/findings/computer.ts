// What concerns the computer as a whole: virtualisation, the IOMMU, remapped interrupts, memory and its limits, modules.
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Finding } from '../../../shared/host-devices.ts';
import type { Remedy } from '../distribution.ts';
import { addParameter, installModules, removeParameter } from '../distribution.ts';
import { lines } from '../roots.ts';
import { PINNED_BESIDE } from '../../lease/pinned.ts';
import type { Scene } from './finding.ts';
import { finding, remedy, size, withActions } from './finding.ts';

const MiB = 2 ** 20;
/** What must remain for the host once a guest's RAM is pinned, in bytes: as the privileged helper counts when it raises the limit. */
const LEAST_REMAINING = 512 * MiB;

export function mustRemain(total: number): number {
  return Math.max(LEAST_REMAINING, total / 16);
}

const SETUP = 'In the firmware\'s set-up (a key such as F2 or Del while the computer starts)';

/** The group that a node of /dev belongs to; undefined for root's own, which nobody should join. */
function groupName({ roots }: Scene, path: string): string | undefined {
  const gid = statSync(path, { throwIfNoEntry: false })?.gid ?? 0;
  if (gid === 0) return undefined;
  return lines(roots.etc, 'group').map((line) => line.split(':')).find((entry) => entry[2] === String(gid))?.[0] ?? String(gid);
}

function kvm(scene: Scene): Finding[] {
  const { roots, host } = scene;
  const path = join(roots.dev, 'kvm');
  if (!existsSync(path)) {
    const flag = host.cpuFlags.has('vmx') ? 'kvm_intel' : host.cpuFlags.has('svm') ? 'kvm_amd' : undefined;
    if (flag !== undefined) {
      const unloaded = finding('kvm-unusable', 'refused', 'The CPU can virtualise, but KVM is not there: its module is not loaded.', remedy('Load the module.', [`sudo modprobe ${flag}`]), { module: flag }, 'module');
      return [withActions(unloaded, { label: 'Load KVM\'s module', verb: 'load-modules', modules: 'kvm' })];
    }
    const setting = { intel: '"Intel Virtualization Technology" (VT-x)', amd: '"SVM Mode"', arm: 'virtualisation', other: 'virtualisation' }[host.cpuVendor];
    const what = host.virtual ? 'This computer is a virtual machine: switch nested virtualisation on where it runs.' : `${SETUP}, switch ${setting} on.`;
    return [finding('kvm-unusable', 'refused', 'CPU virtualisation is off: there is no /dev/kvm.', what, { path: '/dev/kvm' }, 'missing')];
  }
  if (roots.mayUse(path)) return [];
  const group = groupName(scene, path);
  const what = group === undefined
    ? remedy('It belongs to root alone: the rules of udev that give it to the group kvm are missing. Until the computer restarts, you can take it.', ['sudo chown $USER /dev/kvm'])
    : remedy(`Join the group ${group}, then log out and in again.`, [`sudo usermod -aG ${group} $USER`]);
  return [finding('kvm-unusable', 'refused', 'You may not use /dev/kvm.', what, { path: '/dev/kvm', ...(group === undefined ? {} : { group }) }, 'permission')];
}

function iommuOff(scene: Scene): Finding {
  const { roots, host, iommu } = scene;
  const off = (sentence: string, what: string | Remedy, aspect: string, facts: Finding['facts'] = {}) =>
    finding('iommu-off', 'refused', sentence, what, { ...facts, tables: iommu.tables, parameters: iommu.parameters }, aspect);
  const described = iommu.tables.length > 0;
  const vendor = iommu.tables.includes('DMAR') ? 'intel' : iommu.tables.includes('IVRS') ? 'amd' : host.cpuVendor;
  const option = { intel: 'INTEL_IOMMU', amd: 'AMD_IOMMU', arm: 'ARM_SMMU_V3', other: 'IOMMU_SUPPORT' }[vendor];
  if (host.virtual && !described) {
    return off('The IOMMU is missing: this computer is a virtual machine, and was given none.', 'Give it an IOMMU where it runs: with QEMU -device intel-iommu,intremap=on,caching-mode=on, with libvirt <iommu model=\'intel\'/>.', 'hypervisor');
  }
  const against = host.parameters.find((word) => /^(iommu|intel_iommu|amd_iommu)=(.*,)?off(,|$)/.test(word));
  if (against !== undefined) return off(`The IOMMU is switched off by the kernel parameter ${against}.`, removeParameter(roots, against), 'parameter', { parameter: against });
  if (host.config(option) === 'n') {
    return off('The IOMMU is off: this kernel was built without its driver.', `Start a kernel that has CONFIG_${option}; the distributions' own kernels have it.`, 'kernel', { option: `CONFIG_${option}` });
  }
  const wanted = vendor === 'intel' && !host.parameters.some((word) => /^intel_iommu=(.*,)?on(,|$)/.test(word)) && host.config('INTEL_IOMMU_DEFAULT_ON') !== 'y';
  if (!described) {
    const setting = {
      intel: 'switch "Intel VT-d" on (also called "Directed I/O"; often under Advanced, System Agent or Chipset)',
      amd: 'switch "IOMMU" on (also called "AMD-Vi"; often under Advanced, AMD CBS, NBIO)',
      arm: 'switch the SMMU on', other: 'switch the IOMMU on',
    }[vendor];
    const then = addParameter(roots, 'intel_iommu=on');
    const what = `${SETUP}, ${setting}.`;
    return off('The IOMMU is off in the computer\'s firmware.', wanted ? { ...then, remedy: `${what} Then ${then.remedy[0].toLowerCase()}${then.remedy.slice(1)}` } : what, 'firmware', wanted ? { parameter: 'intel_iommu=on' } : {});
  }
  if (wanted) return off('The IOMMU is there, and this kernel does not use it.', addParameter(roots, 'intel_iommu=on'), 'parameter', { parameter: 'intel_iommu=on' });
  return off('The firmware describes an IOMMU, and the kernel did not take it into use.', remedy('The kernel\'s log says why. An update of the firmware often helps.', ['sudo dmesg | grep -i -e DMAR -e IOMMU -e AMD-Vi']), 'firmware');
}

function remapping({ roots, host, iommu }: Scene): Finding[] {
  if (iommu.interruptRemapping !== 'no') return [];
  const against = host.parameters.find((word) => /^(intremap=(.*,)?off|nointremap$)/.test(word));
  if (iommu.unsafeInterruptsAllowed) {
    return [finding('no-interrupt-remapping', 'care', 'Interrupts are not remapped: a guest can make a device send any interrupt to this computer, and you have allowed that.', 'Give devices only to guests that you trust.', { allowed: true })];
  }
  const file = '/etc/modprobe.d/vfio-unsafe-interrupts.conf';
  const what = against !== undefined ? removeParameter(roots, against) : remedy(
    `${SETUP}, switch interrupt remapping and x2APIC on, where there is such a setting. Or allow it without, only for guests that you trust, and restart the computer.`,
    [`echo "options vfio_iommu_type1 allow_unsafe_interrupts=1" | sudo tee ${file}`], [`sudo rm ${file}`],
  );
  return [finding('no-interrupt-remapping', 'refused', 'Interrupts are not remapped: a device could send this computer interrupts that are not its own.', what, against === undefined ? {} : { parameter: against })];
}

function memory({ host, machine }: Scene): Finding[] {
  const found: Finding[] = [];
  const need = (machine?.memory ?? 0) + PINNED_BESIDE;
  if (host.memlock !== undefined && host.memlock < need) {
    const facts = { limit: host.memlock, ...(machine === undefined ? {} : { needed: need }) };
    const sentence = machine === undefined
      ? `A program may lock ${size(host.memlock)} of memory; a machine with devices needs all of its memory locked.`
      : `A program may lock ${size(host.memlock)} of memory, and ${machine.name} needs ${size(need)}.`;
    const kilobytes = Math.ceil(need / 1024);
    const file = '/etc/security/limits.d/vitrine.conf';
    const what = machine === undefined
      ? 'Vitrine asks to raise the limit for a machine when it starts.'
      : remedy('Vitrine asks to raise it for this machine when it starts. Or raise it for good, and log out and in again.', [`echo "$USER - memlock ${kilobytes}" | sudo tee -a ${file}`], [`sudo rm ${file}`]);
    found.push(finding('memlock-low', 'information', sentence, what, facts));
  }
  if (machine !== undefined && host.memory.total > 0) {
    const remaining = host.memory.available - need;
    const facts = { needed: need, available: host.memory.available, remaining: Math.max(0, remaining) };
    if (remaining < mustRemain(host.memory.total)) {
      const largest = Math.max(0, host.memory.available - mustRemain(host.memory.total) - PINNED_BESIDE);
      const what = largest >= 64 * MiB ? `Close programs, or give ${machine.name} at most ${size(Math.floor(largest / MiB / 64) * 64 * MiB)}.` : 'Close programs that use much memory.';
      found.push(finding('memory-pinned', 'refused', `The memory of ${machine.name} is taken all at once: ${size(need)} of the ${size(host.memory.available)} that are free, and too little would remain for this computer.`, what, facts));
    } else {
      found.push(finding('memory-pinned', 'information', `The memory of ${machine.name} is taken all at once: ${size(remaining)} remain for this computer.`, '', facts));
    }
  }
  return found;
}

function modules({ roots, host, iommu, machine }: Scene): Finding[] {
  const found: Finding[] = [];
  if (host.vfioModule === 'missing') {
    found.push(finding('kernel-modules', 'refused', 'This kernel has no vfio-pci, the module that gives devices to machines.', installModules(roots, host.kernel), { module: 'vfio-pci', kernel: host.kernel }, 'missing'));
  }
  // Only who is about to give something wants to know: by itself it is loaded with the first device.
  if (host.vfioModule === 'available' && iommu.on && machine !== undefined) {
    const unloaded = finding('kernel-modules', 'information', 'The module vfio-pci, which gives devices to machines, is not loaded.', remedy('It is loaded when a device is first given, or now. It stays until the computer restarts.', ['sudo modprobe vfio-pci'], ['sudo modprobe -r vfio-pci']), { module: 'vfio-pci' }, 'unloaded');
    found.push(withActions(unloaded, { label: 'Load vfio-pci', verb: 'load-modules', modules: 'vfio' }));
  }
  if (host.lockdown !== undefined && host.lockdown !== 'none') {
    found.push(finding('kernel-modules', 'information', `The kernel is locked down (${host.lockdown}), as it is with Secure Boot: only signed modules load. Those of the distribution are.`, '', { lockdown: host.lockdown }, 'lockdown'));
  }
  return found;
}

/** In the order of the codes. */
export function computerFindings(scene: Scene): Finding[] {
  return [...kvm(scene), ...(scene.iommu.on ? [] : [iommuOff(scene)]), ...remapping(scene), ...memory(scene), ...modules(scene)];
}
