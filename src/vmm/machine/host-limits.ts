// What is asked of this computer against what it has, before anything is taken.
import { totalmem } from 'node:os';
import { VitrineError } from '../../shared/errors.ts';
import type { MachineConfig } from '../../shared/machine-config.ts';
import type { Kvm } from '../kvm/kvm.ts';

const GiB = 2 ** 30;

const inGiB = (bytes: number): string => `${(bytes / GiB).toFixed(1)} GiB`;

/** Throws VitrineError when the machine can never run here. */
export function checkHostLimits(config: MachineConfig, kvm: Kvm): void {
  const refuse = (why: string, remedy: string, code: string): never => {
    throw new VitrineError({ attempted: 'start the machine', on: config.name, why, remedy, code });
  };
  if (config.cpus > kvm.limits.vcpus) refuse(`it wants ${config.cpus} CPUs, and KVM gives at most ${kvm.limits.vcpus} here.`, `Give it ${kvm.limits.vcpus} CPUs or fewer.`, 'too-many-cpus');
  const total = totalmem();
  if (config.memory > total) refuse(`it wants ${inGiB(config.memory)} of memory, and this computer has ${inGiB(total)}.`, 'Give it less memory.', 'too-much-memory');
}
