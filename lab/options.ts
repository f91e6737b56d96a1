// How a lab may be asked for: its kernel, IOMMU, devices and size.

import type { LabKernelName } from '../scripts/setup/lab.mjs';

/** The kernels that the emulated host can run. */
export const LAB_KERNELS = ['6.1', '6.12'] as const satisfies readonly LabKernelName[];
export type LabHostKernel = (typeof LAB_KERNELS)[number];

export const LAB_IOMMUS = ['none', 'intel', 'amd'] as const;
export type LabIommu = (typeof LAB_IOMMUS)[number];

/** Devices to give to guests, each in an IOMMU group of its own. */
export const LAB_DEVICES = ['e1000e', 'nvme', 'edu', 'xhci', 'bochs', 'virtio-net', 'ahci'] as const;
/** Cards of several functions behind a root port, all in one group: two 82540EM, which have no reset but that of their bus. */
export const LAB_CARDS = ['e1000-pair'] as const;
/** A second of a kind, so that two guests can have one each; also in groups of their own. */
export const LAB_TWINS = ['e1000e-twin', 'nvme-twin'] as const;
export type LabDevice = (typeof LAB_DEVICES)[number] | (typeof LAB_CARDS)[number] | (typeof LAB_TWINS)[number];

/** A folder of the host that the lab sees at the same path, beside the host's read-only root. */
export interface LabShare {
  path: string;
  /** Whether the lab can write to it; default true. */
  writable?: boolean;
  /**
   * 'coherent' (default): every read asks the host, so both sides see each other's changes at once.
   * 'cached': quick, and for what does not change on the host meanwhile.
   */
  mode?: 'coherent' | 'cached';
}

export interface LabOptions {
  /** Default '6.1'. */
  kernel?: LabHostKernel;
  /** Default 'none'. */
  iommu?: LabIommu;
  devices?: LabDevice[];
  /** The drivers of the devices and VFIO are not loaded while the lab boots, which takes seconds; LATE_DRIVERS loads them. Default false. */
  driversLater?: boolean;
  /** Virtual processors of the lab, 1 to 8; default 1: more are quicker and less reliable. */
  smp?: number;
  /** Bytes of the lab's memory, committed as it is used; default 2 GiB. */
  memory?: number;
  shares?: LabShare[];
  /** User id of the ordinary user inside; default the caller's, or 1000 if that is root. */
  uid?: number;
  gid?: number;
  /** QEMU's CPU model; for measurements. */
  cpu?: string;
  /** The Node that runs the agent; default the one that runs this code. It must lie on the host's root or in a share. */
  node?: { path: string; env?: Record<string, string> };
  /** Milliseconds until the lab must be up; default 120 s. */
  bootTimeout?: number;
  /** Milliseconds without any connection after which the lab powers off; default 5 s. */
  idle?: number;
  /** The cache that prepareLab filled; default the user's. */
  cache?: string;
  /** Lines of the lab's serial console as they come. */
  onConsole?: (line: string) => void;
}

/**
 * "2G", "512M" as bytes.
 * @throws RangeError with words
 */
export function parseMemory(text: string): number {
  const match = /^(\d+)([MG])$/i.exec(text);
  if (match === null) throw new RangeError(`"${text}" is no amount of memory: write it like 512M or 2G`);
  return Number(match[1]) * (match[2]!.toUpperCase() === 'G' ? 2 ** 30 : 2 ** 20);
}
