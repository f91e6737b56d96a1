// What KVM has of a machine: the VM with its interrupt controllers, RAM and vCPUs, before any thread. All of it or nothing.
import { CpuSetup } from '../arch/x86/cpu/cpu-setup.ts';
import { KVM_IDENTITY_MAP, KVM_TSS } from '../arch/x86/layout.ts';
import { chipRoutes } from '../irq/routing.ts';
import { Kvm } from '../kvm/kvm.ts';
import { advise, close, MADV_DONTDUMP, MADV_DONTFORK, MADV_HUGEPAGE } from '../kvm/libc.ts';
import { Vcpu } from '../kvm/vcpu.ts';
import { Vm } from '../kvm/vm.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import type { MachineConfig } from '../../shared/machine-config.ts';
import { checkHostLimits } from './host-limits.ts';
import { readChips, type ChipState } from './initial-chips.ts';

export class VmParts {
  readonly vm: Vm;
  readonly ram: GuestMemory;
  readonly vcpus: readonly Vcpu[];
  readonly cpus: CpuSetup;
  /** kvm_run of each vCPU. */
  readonly runs: readonly SharedArrayBuffer[];
  /** The interrupt chips as KVM made them. */
  readonly chips: ChipState;
  readonly #descriptors: number[] = [];

  /** Throws VitrineError or SystemError, and leaves nothing open. */
  constructor(config: MachineConfig) {
    try {
      const kvm = Kvm.open();
      this.#descriptors.push(kvm.fd);
      checkHostLimits(config, kvm);
      const vm = new Vm(kvm.createVm());
      this.#descriptors.push(vm.fd);
      vm.placeSystemPages(KVM_TSS, KVM_IDENTITY_MAP);
      vm.createInterruptControllers();
      vm.setRouting(chipRoutes()); // KVM's own table takes the timer to IOAPIC pin 0; ACPI says pin 2, as on every PC
      this.vm = vm;
      this.ram = GuestMemory.allocate(config.memory);
      this.#mapRam();
      this.vcpus = Array.from({ length: config.cpus }, (_, id) => {
        const fd = vm.createVcpu(id);
        this.#descriptors.push(fd);
        return new Vcpu(fd, id);
      });
      this.cpus = new CpuSetup(kvm, this.vcpus);
      this.cpus.setCpuids();
      this.chips = readChips(vm);
      this.runs = this.vcpus.map((vcpu) => vcpu.mapRun(kvm.limits.runBytes).buffer);
    } catch (thrown) {
      this.close();
      throw thrown;
    }
  }

  #mapRam(): void {
    this.ram.windows.forEach((window, slot) => {
      const hva = this.ram.windowHva(slot);
      for (const advice of [MADV_HUGEPAGE, MADV_DONTFORK, MADV_DONTDUMP]) advise(hva, window.size, advice);
      this.vm.setMemoryRegion({ slot, gpa: window.gpa, size: window.size, hva, dirtyLog: false, readonly: false });
    });
  }

  /** Closes every descriptor, the vCPUs' first; no vCPU may be in KVM_RUN, or enter it later. */
  close(): void {
    for (const fd of this.#descriptors.splice(0).reverse()) close(fd);
  }
}
