// /dev/kvm itself: opening it, asking what it can do, and the words for what is missing. Never judged by cpuinfo: KVM is asked.
import { readFileSync } from 'node:fs';
import { VitrineError } from '../../shared/errors.ts';
import * as k from './ioctls.ts';
import { close, errno, errnoName, ioctlStruct, ioctlValue, open, O_RDWR, SystemError } from './libc.ts';

/** What Vitrine cannot do without, each with what it is for. */
const NEEDED: readonly [capability: number, name: string, purpose: string][] = [
  [k.KVM_CAP_IRQCHIP, 'KVM_CAP_IRQCHIP', 'interrupt controllers in the kernel'],
  [k.KVM_CAP_USER_MEMORY, 'KVM_CAP_USER_MEMORY', 'guest memory'],
  [k.KVM_CAP_SET_TSS_ADDR, 'KVM_CAP_SET_TSS_ADDR', 'real mode'],
  [k.KVM_CAP_EXT_CPUID, 'KVM_CAP_EXT_CPUID', 'CPUID'],
  [k.KVM_CAP_MP_STATE, 'KVM_CAP_MP_STATE', 'more than one CPU'],
  [k.KVM_CAP_IRQ_ROUTING, 'KVM_CAP_IRQ_ROUTING', 'interrupt routing'],
  [k.KVM_CAP_IRQFD, 'KVM_CAP_IRQFD', 'interrupts from devices'],
  [k.KVM_CAP_PIT2, 'KVM_CAP_PIT2', 'the interval timer'],
  [k.KVM_CAP_IOEVENTFD, 'KVM_CAP_IOEVENTFD', 'fast notifications'],
  [k.KVM_CAP_ADJUST_CLOCK, 'KVM_CAP_ADJUST_CLOCK', 'pausing'],
  [k.KVM_CAP_VCPU_EVENTS, 'KVM_CAP_VCPU_EVENTS', 'resetting'],
  [k.KVM_CAP_SIGNAL_MSI, 'KVM_CAP_SIGNAL_MSI', 'message-signalled interrupts'],
  [k.KVM_CAP_IMMEDIATE_EXIT, 'KVM_CAP_IMMEDIATE_EXIT', 'stopping a CPU (Linux 4.11 or newer)'],
];

/** Runs an ioctl that must succeed. Throws SystemError with its name. */
export function must(result: number, what: string): number {
  if (result < 0) throw new SystemError(what, errno());
  return result;
}

const problem = (why: string, remedy: string, code: string): VitrineError =>
  new VitrineError({ attempted: 'use the virtualisation of this computer', on: '/dev/kvm', why, remedy, code });

/** The group that may open /dev/kvm here, for the words of a refusal. */
function kvmGroup(): string {
  try {
    return /^(kvm):/m.exec(readFileSync('/etc/group', 'utf8'))?.[1] ?? 'kvm';
  } catch {
    return 'kvm';
  }
}

export interface KvmLimits {
  vcpus: number;
  memslots: number;
  runBytes: number;
}

/** The open /dev/kvm. */
export class Kvm {
  readonly fd: number;
  readonly limits: KvmLimits;

  private constructor(fd: number) {
    this.fd = fd;
    const vcpus = this.extension(k.KVM_CAP_MAX_VCPUS) || this.extension(k.KVM_CAP_NR_VCPUS) || 4;
    this.limits = {
      vcpus,
      memslots: this.extension(k.KVM_CAP_NR_MEMSLOTS) || 32,
      runBytes: must(ioctlValue(fd, k.KVM_GET_VCPU_MMAP_SIZE, 0), 'KVM_GET_VCPU_MMAP_SIZE'),
    };
  }

  /** Opens and checks it. Throws VitrineError with code no-kvm, kvm-permission, kvm-old or kvm-capability. */
  static open(path = '/dev/kvm'): Kvm {
    let fd: number;
    try {
      fd = open(path, O_RDWR);
    } catch (thrown) {
      if (!(thrown instanceof SystemError)) throw thrown;
      if (thrown.code === 'EACCES' || thrown.code === 'EPERM') {
        const group = kvmGroup();
        throw problem(`your account may not open it; its group is ${group}.`, `Add yourself to the group: sudo usermod -aG ${group} $USER, then log in again.`, 'kvm-permission');
      }
      throw problem(
        thrown.code === 'ENOENT' ? 'this computer offers no KVM.' : `it cannot be opened (${thrown.code}).`,
        'Switch on virtualisation (Intel VT-x or AMD SVM) in the firmware set-up, then load the module: sudo modprobe kvm_intel or kvm_amd. Without it, machines run in the lab, more slowly: --lab.',
        'no-kvm',
      );
    }
    try {
      const version = ioctlValue(fd, k.KVM_GET_API_VERSION, 0);
      if (version !== k.KVM_API_VERSION) throw problem(`it speaks version ${version} of the KVM interface, not 12.`, 'Update the kernel.', 'kvm-old');
      const kvm = new Kvm(fd);
      for (const [capability, name, purpose] of NEEDED) {
        if (kvm.extension(capability) <= 0) throw problem(`this kernel's KVM lacks ${name}, which is needed for ${purpose}.`, 'Update the kernel, or run in the lab: --lab.', 'kvm-capability');
      }
      return kvm;
    } catch (thrown) {
      close(fd);
      throw thrown;
    }
  }

  /** KVM_CHECK_EXTENSION: 0 when absent. */
  extension(capability: number): number {
    return ioctlValue(this.fd, k.KVM_CHECK_EXTENSION, capability);
  }

  /** The kvm_cpuid2 that this KVM supports, as bytes: an 8-byte header with the count, then 40 bytes an entry. */
  supportedCpuid(): Uint8Array {
    for (let entries = 128; entries <= 1024; entries *= 2) {
      const bytes = new Uint8Array(8 + entries * 40);
      const view = new DataView(bytes.buffer);
      view.setUint32(0, entries, true);
      if (ioctlStruct(this.fd, k.KVM_GET_SUPPORTED_CPUID, bytes) >= 0) return bytes.slice(0, 8 + view.getUint32(0, true) * 40);
      const number = errno();
      if (errnoName(number) !== 'E2BIG') throw new SystemError('KVM_GET_SUPPORTED_CPUID', number);
    }
    throw new SystemError('KVM_GET_SUPPORTED_CPUID', 7);
  }

  createVm(): number {
    return must(ioctlValue(this.fd, k.KVM_CREATE_VM, 0), 'KVM_CREATE_VM');
  }

  close(): void {
    close(this.fd);
  }
}
