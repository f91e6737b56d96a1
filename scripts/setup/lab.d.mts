// Types of lab.mjs, which is plain JavaScript because it runs before `npm ci`.

export interface LabKernel {
  /** `uname -r` of this kernel. */
  release: string;
  /** Debian's vmlinuz. */
  bzImage: string;
  /** The kernel's configuration; may be missing where the host's own kernel stands in. */
  config: string;
  /** The ELF image, which boots by PVH. */
  vmlinux: string;
  /** Its lib/modules/RELEASE folder. */
  modules: string;
  /** The lab's initramfs for it; absent for '6.1-cloud'. */
  initramfs?: string;
}

export type LabKernelName = '6.1' | '6.12' | '6.1-cloud';

export interface LabPaths {
  cache: string;
  qemu: string | undefined;
  busybox: string | undefined;
  kernels: Partial<Record<LabKernelName, LabKernel>>;
}

export interface PrepareOptions {
  log?: (line: string) => void;
  kernels?: LabKernelName[];
  guest?: boolean;
  install?: boolean;
  cache?: string;
}

export function labCache(): string;
export function findProgram(name: string): string | undefined;
export function labPaths(cache?: string): LabPaths;
export function prepareLab(options?: PrepareOptions): Promise<LabPaths>;
export function extractVmlinux(bzImage: string, target: string): Promise<void>;
