// The computer as a whole: its CPU, memory, limits, the running kernel's parameters, configuration and modules.
import { gunzipSync } from 'node:zlib';
import type * as v from 'valibot';
import type { hostFactsSchema } from '../../shared/host-devices.ts';
import type { HostRoots } from './roots.ts';
import { bytes, lines, names, text } from './roots.ts';

export type HostFacts = v.InferOutput<typeof hostFactsSchema>;

/** include/uapi/linux/capability.h: whoever has it may lock any amount. */
const CAP_IPC_LOCK = 14;

function cpu(roots: HostRoots): Pick<HostFacts, 'cpuVendor' | 'virtual'> & { flags: Set<string> } {
  const info = lines(roots.proc, 'cpuinfo');
  const value = (key: string) => info.find((line) => line.startsWith(key))?.split(':')[1]?.trim() ?? '';
  const vendor = value('vendor_id');
  const flags = new Set(value('flags').split(' '));
  const cpuVendor = vendor === 'GenuineIntel' ? 'intel' : /^(AuthenticAMD|HygonGenuine)$/.test(vendor) ? 'amd' : value('CPU implementer') !== '' ? 'arm' : 'other';
  return { cpuVendor, virtual: flags.has('hypervisor'), flags };
}

/** Bytes that a line of /proc/meminfo says; 0 when it is not there. */
function memory(roots: HostRoots, key: string): number {
  const found = new RegExp(`^${key}: +(\\d+) kB`, 'm').exec(text(roots.proc, 'meminfo') ?? '');
  return found === null ? 0 : Number(found[1]) * 1024;
}

/** Bytes that a process started from here may lock; undefined without a limit. */
function memlock(roots: HostRoots): number | undefined {
  const capabilities = /^CapEff:\s*([0-9a-f]+)/m.exec(text(roots.proc, 'self/status') ?? '')?.[1];
  if (capabilities !== undefined && (Number.parseInt(capabilities.slice(-8), 16) & (1 << CAP_IPC_LOCK)) !== 0) return undefined;
  const soft = /^Max locked memory +(\d+|unlimited)/m.exec(text(roots.proc, 'self/limits') ?? '')?.[1];
  return soft === undefined || soft === 'unlimited' ? undefined : Number(soft);
}

/** The parameters that the running kernel was started with. */
export function kernelParameters(roots: HostRoots): string[] {
  return (text(roots.proc, 'cmdline') ?? '').split(/\s+/).filter(Boolean);
}

/** The running kernel's configuration: "INTEL_IOMMU" → "y", "m" or "n"; undefined where it does not say, or there is none to read. */
export function kernelConfig(roots: HostRoots, release: string): (option: string) => string | undefined {
  let content = text(roots.boot, `config-${release}`) ?? text(roots.lib, 'modules', release, 'config');
  if (content === undefined) {
    try {
      content = gunzipSync(bytes(roots.proc, 'config.gz') ?? new Uint8Array()).toString('utf8');
    } catch {
      content = undefined;
    }
  }
  if (content === undefined || content === '') return () => undefined;
  const known = content;
  // What a configuration does not name at all, this kernel has not.
  return (option) => new RegExp(`^CONFIG_${option}=(\\S+)`, 'm').exec(known)?.[1] ?? 'n';
}

function vfioModule(roots: HostRoots, release: string, config: (option: string) => string | undefined): HostFacts['vfioModule'] {
  // A driver that is there is there, however it came.
  if (names(roots.sys, 'bus/pci/drivers').includes('vfio-pci') || names(roots.sys, 'module').includes('vfio_pci')) return 'loaded';
  const folder = `modules/${release}`;
  for (const list of ['modules.builtin', 'modules.dep']) if (/(^|\/)vfio-pci\.ko/m.test(text(roots.lib, folder, list) ?? '')) return 'available';
  const configured = config('VFIO_PCI');
  if (configured === 'n') return 'missing';
  if (text(roots.lib, folder, 'modules.dep') !== undefined) return 'missing';
  return configured === undefined ? 'unknown' : 'available';
}

export interface Host extends HostFacts {
  cpuFlags: Set<string>;
  parameters: string[];
  config: (option: string) => string | undefined;
}

export function readHost(roots: HostRoots): Host {
  const { flags, ...vendor } = cpu(roots);
  const kernel = text(roots.proc, 'sys/kernel/osrelease') ?? '';
  const config = kernelConfig(roots, kernel);
  return {
    ...vendor,
    kernel,
    memory: { total: memory(roots, 'MemTotal'), available: memory(roots, 'MemAvailable') },
    memlock: memlock(roots),
    lockdown: /\[(\w+)\]/.exec(text(roots.sys, 'kernel/security/lockdown') ?? '')?.[1],
    vfioModule: vfioModule(roots, kernel, config),
    cpuFlags: flags,
    parameters: kernelParameters(roots),
    config,
  };
}
