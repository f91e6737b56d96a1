// QEMU's command line for the lab, and the files that tell the lab's init what to do. Nothing here starts anything.
//
// The machine is q35 under TCG with an emulated AMD CPU that has nested SVM. The lab's own devices sit in slots 0x10 and up of bus 0,
// so the devices to pass through have the same addresses whatever else is there (05.0 to 0e.0).

import fs from 'node:fs';
import path from 'node:path';
import type { LabKernel } from '../scripts/setup/lab.mjs';
import type { AgentProgram } from './agent-program.ts';
import { AGENT_PORT } from './protocol.ts';
import type { AgentConfig } from './protocol.ts';
import type { LabDevice, LabIommu, LabShare } from './options.ts';

/**
 * The CPU: without XSAVE, whose emulated state makes every exit dearer and which QEMU's nested SVM does not hand on fully (a guest
 * that sees AVX gets #UD), and with what x86-64-v2 programs expect. Measured in lab/README.md.
 */
export const LAB_CPU =
  'qemu64,+svm,+npt,+cx16,+lahf_lm,+popcnt,+ssse3,+sse4.1,+sse4.2,+rdrand,+rdtscp,+pdpe1gb,+fsgsbase,+bmi1,+bmi2,+movbe';

const LAB_MAC = '52:54:00:7a:b0:01';
const KERNEL_ARGUMENTS =
  'console=ttyS0 quiet loglevel=3 tsc=reliable no_timer_check nokaslr noreplace-smp rcupdate.rcu_expedited=1 cryptomgr.notests ' +
  'random.trust_cpu=on audit=0 selinux=0 apparmor=0 mitigations=off panic=-1';

const IOMMU: Record<LabIommu, { device: string[]; append: string }> = {
  none: { device: [], append: '' },
  intel: { device: ['-device', 'intel-iommu,intremap=on,caching-mode=on'], append: ' intel_iommu=on' },
  amd: { device: ['-device', 'amd-iommu,intremap=on'], append: ' amd_iommu=on' }
};

/** What a device to pass through adds to the command line. `folder` is the run's own. */
const DEVICES: Record<LabDevice, (folder: string) => string[]> = {
  e1000e: () => e1000e('e1000e', 5),
  nvme: (folder) => nvme(folder, 'nvme', 6),
  edu: () => ['-device', 'edu,addr=7'],
  xhci: (folder) => [...image(folder, 'stick'), '-device', 'qemu-xhci,id=dev-xhci,addr=8', '-device', 'usb-storage,bus=dev-xhci.0,drive=dev-stick'],
  bochs: () => ['-device', 'bochs-display,addr=9'],
  'virtio-net': () => [
    '-netdev', 'user,id=dev-virtio', '-device', `virtio-net-pci,netdev=dev-virtio,disable-legacy=on,iommu_platform=on,addr=0xa${withoutRom('efi-virtio.rom')}`
  ],
  ahci: (folder) => [...image(folder, 'disk'), '-device', 'ich9-ahci,id=dev-ahci,addr=0xb', '-device', 'ide-hd,bus=dev-ahci.0,drive=dev-disk'],
  'e1000-pair': () => [
    '-device', 'pcie-root-port,id=dev-port,addr=0xc,chassis=1', ...[0, 1].flatMap((number) => [
      '-netdev', `user,id=dev-pair${number}`, '-device', `e1000,netdev=dev-pair${number},bus=dev-port,addr=0.${number},multifunction=on,romfile=`
    ])
  ],
  'e1000e-twin': () => e1000e('e1000e-twin', 0xd),
  'nvme-twin': (folder) => nvme(folder, 'nvme-twin', 0xe)
};

function e1000e(name: string, slot: number): string[] {
  return ['-netdev', `user,id=dev-${name}`, '-device', `e1000e,netdev=dev-${name},addr=0x${slot.toString(16)}${withoutRom('efi-e1000e.rom')}`];
}

function nvme(folder: string, name: string, slot: number): string[] {
  return [...image(folder, name), '-device', `nvme,drive=dev-${name},serial=vitrine-${slot},addr=0x${slot.toString(16)}`];
}

/** The images that devices have, by device. */
const IMAGES: Partial<Record<LabDevice, string>> = { nvme: 'nvme', 'nvme-twin': 'nvme-twin', xhci: 'stick', ahci: 'disk' };

function image(folder: string, name: string): string[] {
  return ['-drive', `file=${escapeComma(path.join(folder, `${name}.img`))},if=none,id=dev-${name},format=raw`];
}

/** Makes the images that these devices need in the run's folder: empty and sparse. */
export function makeImages(folder: string, devices: readonly LabDevice[]): void {
  for (const device of devices) {
    const name = IMAGES[device];
    if (name === undefined) continue;
    const file = path.join(folder, `${name}.img`);
    fs.writeFileSync(file, '');
    fs.truncateSync(file, IMAGE_BYTES);
  }
}

/** Bytes of each drive. */
const IMAGE_BYTES = 64 * 2 ** 20;

/** ",romfile=" where the boot ROM's package (ipxe-qemu) is not installed: QEMU would not start. */
function withoutRom(name: string): string {
  return ['/usr/lib/ipxe/qemu', '/usr/share/qemu', '/usr/share/ipxe/qemu', '/usr/share/ipxe.efi'].some((folder) => fs.existsSync(path.join(folder, name))) ? '' : ',romfile=';
}

/** A value in one of QEMU's comma-separated options. */
function escapeComma(value: string): string {
  return value.replaceAll(',', ',,');
}

export interface QemuPlan {
  kernel: LabKernel & { initramfs: string };
  /** The cache of scripts/setup/lab.mjs; seen inside as LAB_CACHE. */
  cache: string;
  /** The run's private folder: configuration, control socket, images. */
  folder: string;
  iommu: LabIommu;
  devices: LabDevice[];
  smp: number;
  memory: number;
  cpu: string;
  shares: Required<LabShare>[];
}

/** The arguments for qemu-system-x86_64. */
export function qemuArguments(plan: QemuPlan): string[] {
  let slot = 0x10;
  const ninep = (tag: string, folder: string, readonly: boolean): string[] => [
    '-fsdev', `local,id=${tag},path=${escapeComma(folder)},security_model=none,multidevs=remap${readonly ? ',readonly=on' : ''}`,
    '-device', `virtio-9p-pci,fsdev=${tag},mount_tag=${tag},addr=0x${(slot++).toString(16)}`
  ];
  return [
    '-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none',
    '-machine', 'q35', '-accel', 'tcg,thread=multi,tb-size=512', '-cpu', plan.cpu,
    '-m', `${Math.round(plan.memory / 2 ** 20)}M`, '-smp', String(plan.smp),
    '-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console',
    '-qmp', `unix:${escapeComma(path.join(plan.folder, 'qmp'))},server=on,wait=off`,
    '-kernel', plan.kernel.vmlinux, '-initrd', plan.kernel.initramfs,
    '-append', KERNEL_ARGUMENTS + IOMMU[plan.iommu].append,
    ...IOMMU[plan.iommu].device,
    '-netdev', `user,id=lab,hostfwd=tcp:127.0.0.1:0-:${AGENT_PORT}`,
    '-device', `virtio-net-pci,netdev=lab,mac=${LAB_MAC},romfile=,addr=0xf`,
    ...ninep('config', path.join(plan.folder, 'config'), true),
    ...ninep('host', '/', true),
    ...ninep('cache', plan.cache, true),
    ...plan.shares.flatMap((share, index) => ninep(`share${index}`, share.path, !share.writable)),
    ...plan.devices.flatMap((device) => DEVICES[device](plan.folder))
  ];
}

export interface InitConfig {
  agent: AgentConfig;
  program: AgentProgram;
  node: string;
  nodeEnv: Record<string, string>;
  iommu: LabIommu;
  devices: LabDevice[];
  driversLater: boolean;
  shares: Required<LabShare>[];
}

const VFIO_MODULES = 'vfio-pci vfio_iommu_type1';

/** For root in a lab with `driversLater`: loads what others load while they boot. */
export const LATE_DRIVERS = ['/bin/sh', '-c', `/sbin/modprobe -a ${VFIO_MODULES}; /sbin/modprobe -aqb $(cat /sys/bus/pci/devices/0000:00:0[5-9ab].0/modalias 2>/dev/null)`];

/** Writes the folder that init mounts as `config`. */
export function writeInitConfig(folder: string, config: InitConfig): void {
  const variables = {
    ...config.nodeEnv,
    LAB_NODE: config.node,
    LAB_AGENT: config.program.entry,
    LAB_UID: String(config.agent.uid),
    LAB_GID: String(config.agent.gid),
    LAB_USER: config.agent.user,
    LAB_HOME: config.agent.home,
    LAB_MAC,
    LAB_MODPROBE: config.iommu === 'none' || config.driversLater ? '' : VFIO_MODULES,
    LAB_COLDPLUG: config.devices.length > 0 && !config.driversLater ? '1' : ''
  };
  const env = Object.entries(variables).map(([name, value]) => `export ${name}=${quote(value)}\n`);
  const cache = { coherent: 'mmap', cached: 'loose' };
  const shares = config.shares.map((share, index) => ['share' + index, share.writable ? 'rw' : 'ro', cache[share.mode], share.path].join('\t') + '\n');
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(path.join(folder, 'env'), env.join(''), { mode: 0o600 });
  fs.writeFileSync(path.join(folder, 'shares'), shares.join(''), { mode: 0o600 });
  for (const [file, source] of Object.entries(config.program.files)) fs.writeFileSync(path.join(folder, file), source, { mode: 0o600 });
  fs.writeFileSync(path.join(folder, 'agent.json'), JSON.stringify(config.agent), { mode: 0o600 });
}

function quote(value: string): string {
  return `'${value.replaceAll("'", "'\\''")}'`;
}
