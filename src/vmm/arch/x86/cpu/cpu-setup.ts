// Gives a machine's vCPUs their CPUID once, and their whole register state at power-on and at every reset of the guest. The values are made
// by the files beside this one; here they go to KVM, in an order in which it takes them. No vCPU may be in KVM_RUN.
import { LOW_RAM_END } from '../../../memory/guest-memory.ts';
import * as k from '../../../kvm/ioctls.ts';
import { type Kvm, must } from '../../../kvm/kvm.ts';
import { ioctlStruct } from '../../../kvm/libc.ts';
import type { Vcpu } from '../../../kvm/vcpu.ts';
import type { BootEntry } from '../boot/entry.ts';
import { type CpuidEntry, encodeCpuid, guestCpuid, hasVmx, parseCpuid, signature, supportedPhysBits } from './cpuid.ts';
import { legacyPins, resetLapic } from './lapic.ts';
import { initialMsrs } from './msrs.ts';
import { entryRegs, entrySregs, initialDebugRegs, initialFpu, initialXcrs, MP_STATE_RUNNABLE, MP_STATE_UNINITIALIZED, noEvents, resetRegs, resetSregs } from './registers.ts';

const KVM_CAP_XCRS = 56;

export class CpuSetup {
  /** Physical address bits of the guest's CPUs. */
  readonly physicalBits: number;
  readonly #kvm: Kvm;
  /** In the order of their APIC ids, which are their numbers. */
  readonly #vcpus: readonly Vcpu[];
  readonly #supported: readonly CpuidEntry[];
  readonly #pmu: boolean;

  /** @param options.physicalBits fewer than KVM supports; @param options.pmu show performance counters. */
  constructor(kvm: Kvm, vcpus: readonly Vcpu[], options: { readonly physicalBits?: number; readonly pmu?: boolean } = {}) {
    this.#kvm = kvm;
    this.#vcpus = vcpus;
    this.#supported = parseCpuid(kvm.supportedCpuid());
    this.physicalBits = Math.min(supportedPhysBits(this.#supported), options.physicalBits ?? Infinity);
    this.#pmu = options.pmu === true;
  }

  #cpuid(vcpu: Vcpu): CpuidEntry[] {
    return guestCpuid(this.#supported, {
      cpus: this.#vcpus.length,
      apicId: vcpu.id,
      tscKhz: vcpu.tscKhz(),
      physBits: this.physicalBits,
      tscDeadline: this.#kvm.extension(k.KVM_CAP_TSC_DEADLINE_TIMER) > 0,
      pmu: this.#pmu,
    });
  }

  /** Before any vCPU has run; KVM takes no other CPUID afterwards. */
  setCpuids(): void {
    for (const vcpu of this.#vcpus) vcpu.setCpuid(encodeCpuid(this.#cpuid(vcpu)));
  }

  /** Every vCPU as after a reset; the first one at `entry`, or at the reset vector for firmware when that is null; the others wait for SIPI. */
  reset(entry: BootEntry | null): void {
    const model = signature(this.#supported);
    const msrs = initialMsrs({ physBits: this.physicalBits, hole: LOW_RAM_END, vmx: hasVmx(this.#supported) });
    const xcrs = this.#kvm.extension(KVM_CAP_XCRS) > 0;
    for (const vcpu of this.#vcpus) {
      const first = vcpu.id === 0;
      vcpu.setEvents(noEvents());
      vcpu.setSregs(resetSregs(first)); // first the APIC base: it says in which form the APIC's page is
      vcpu.setLapic(this.#lapic(vcpu, entry !== null));
      // On AMD, KVM empties a vCPU's control block after a triple fault, and the TSC's offset with it, which it then still reckons with: without
      // this the guest's timers would be late by the age of the host.
      const offset = vcpu.getTscOffset();
      if (offset !== null) vcpu.setTscOffset(offset);
      vcpu.setMsrs(msrs); // those that this KVM does not know are not there for the guest either
      vcpu.setFpu(initialFpu());
      if (xcrs) must(ioctlStruct(vcpu.fd, k.KVM_SET_XCRS, initialXcrs()), `KVM_SET_XCRS of CPU ${vcpu.id}`);
      must(ioctlStruct(vcpu.fd, k.KVM_SET_DEBUGREGS, initialDebugRegs()), `KVM_SET_DEBUGREGS of CPU ${vcpu.id}`);
      vcpu.setRegs(resetRegs(model));
      vcpu.setMpState(first ? MP_STATE_RUNNABLE : MP_STATE_UNINITIALIZED);
    }
    const first = this.#vcpus[0];
    if (entry === null) return;
    first.setSregs(entrySregs(entry, first.getSregs()));
    first.setRegs(entryRegs(entry));
  }

  #lapic(vcpu: Vcpu, direct: boolean): Uint8Array {
    const page = resetLapic(vcpu.getLapic(), vcpu.id);
    return direct ? legacyPins(page) : page;
  }
}
