// A virtual machine's file descriptor: memory, interrupt controllers, clock. Wraps the descriptor only, so each thread has its own instance.
import * as k from './ioctls.ts';
import { must } from './kvm.ts';
import { close, errno, ioctlStruct, ioctlValue, SystemError } from './libc.ts';

export interface MemoryRegion {
  slot: number;
  gpa: number;
  /** Bytes, whole pages; 0 removes the slot. */
  size: number;
  hva: number;
  dirtyLog: boolean;
  readonly: boolean;
}

/** A route of a GSI: to a pin of an in-kernel chip, or an MSI message. */
export type Route =
  | { gsi: number; kind: 'chip'; chip: number; pin: number }
  | { gsi: number; kind: 'msi'; address: number; data: number };

const PIT_STATE = 112;

export class Vm {
  readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
  }

  setMemoryRegion(region: MemoryRegion): void {
    const view = new DataView(new ArrayBuffer(32));
    view.setUint32(0, region.slot, true);
    view.setUint32(4, (region.dirtyLog ? k.KVM_MEM_LOG_DIRTY_PAGES : 0) | (region.readonly ? k.KVM_MEM_READONLY : 0), true);
    view.setBigUint64(8, BigInt(region.gpa), true);
    view.setBigUint64(16, BigInt(region.size), true);
    view.setBigUint64(24, BigInt(region.hva), true);
    must(ioctlStruct(this.fd, k.KVM_SET_USER_MEMORY_REGION, new Uint8Array(view.buffer)), `KVM_SET_USER_MEMORY_REGION of ${region.size} bytes at ${region.gpa.toString(16)}`);
  }

  /** The pages written since the last call, a bit each (`bitmap` has whole 8 bytes), and clears the log. False when the slot is gone. */
  dirtyLog(slot: number, bitmapAddress: number): boolean {
    const view = new DataView(new ArrayBuffer(16));
    view.setUint32(0, slot, true);
    view.setBigUint64(8, BigInt(bitmapAddress), true);
    return ioctlStruct(this.fd, k.KVM_GET_DIRTY_LOG, new Uint8Array(view.buffer)) >= 0;
  }

  /** The pages that KVM uses on Intel for real mode; before any vCPU. */
  placeSystemPages(tss: number, identityMap: number): void {
    const address = new Uint8Array(8);
    new DataView(address.buffer).setBigUint64(0, BigInt(identityMap), true);
    must(ioctlStruct(this.fd, k.KVM_SET_IDENTITY_MAP_ADDR, address), 'KVM_SET_IDENTITY_MAP_ADDR');
    must(ioctlValue(this.fd, k.KVM_SET_TSS_ADDR, tss), 'KVM_SET_TSS_ADDR');
  }

  /** PICs, IOAPIC, LAPICs and the PIT in the kernel; port 0x61 is KVM's too. Before any vCPU. */
  createInterruptControllers(): void {
    must(ioctlValue(this.fd, k.KVM_CREATE_IRQCHIP, 0), 'KVM_CREATE_IRQCHIP');
    const config = new Uint8Array(64);
    new DataView(config.buffer).setUint32(0, k.KVM_PIT_SPEAKER_DUMMY, true);
    must(ioctlStruct(this.fd, k.KVM_CREATE_PIT2, config), 'KVM_CREATE_PIT2');
  }

  createVcpu(id: number): number {
    return must(ioctlValue(this.fd, k.KVM_CREATE_VCPU, id), `KVM_CREATE_VCPU ${id}`);
  }

  #irq = new Uint8Array(8);
  #irqView = new DataView(this.#irq.buffer);

  irqLine(gsi: number, level: boolean): void {
    this.#irqView.setUint32(0, gsi, true);
    this.#irqView.setUint32(4, level ? 1 : 0, true);
    must(ioctlStruct(this.fd, k.KVM_IRQ_LINE, this.#irq), `KVM_IRQ_LINE ${gsi}`);
  }

  /** Replaces all routes at once. */
  setRouting(routes: readonly Route[]): void {
    const bytes = new Uint8Array(8 + routes.length * 48);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, routes.length, true);
    routes.forEach((route, i) => {
      const at = 8 + i * 48;
      view.setUint32(at, route.gsi, true);
      view.setUint32(at + 4, route.kind === 'chip' ? k.KVM_IRQ_ROUTING_IRQCHIP : k.KVM_IRQ_ROUTING_MSI, true);
      if (route.kind === 'chip') {
        view.setUint32(at + 16, route.chip, true);
        view.setUint32(at + 20, route.pin, true);
      } else {
        view.setBigUint64(at + 16, BigInt(route.address), true);
        view.setUint32(at + 24, route.data >>> 0, true);
      }
    });
    must(ioctlStruct(this.fd, k.KVM_SET_GSI_ROUTING, bytes), 'KVM_SET_GSI_ROUTING');
  }

  /** Wires an eventfd to a GSI; with `resample`, level-triggered: that eventfd is signalled at the guest's end of interrupt. */
  irqfd(eventfd: number, gsi: number, options: { resample?: number; remove?: boolean } = {}): void {
    const view = new DataView(new ArrayBuffer(32));
    view.setUint32(0, eventfd, true);
    view.setUint32(4, gsi, true);
    view.setUint32(8, (options.remove === true ? k.KVM_IRQFD_FLAG_DEASSIGN : 0) | (options.resample === undefined ? 0 : k.KVM_IRQFD_FLAG_RESAMPLE), true);
    view.setUint32(12, options.resample ?? 0, true);
    must(ioctlStruct(this.fd, k.KVM_IRQFD, new Uint8Array(view.buffer)), `KVM_IRQFD on GSI ${gsi}`);
  }

  #msi = new Uint8Array(32);
  #msiView = new DataView(this.#msi.buffer);

  /** Sends one message-signalled interrupt. False when the guest blocked it. */
  signalMsi(address: number, data: number): boolean {
    this.#msiView.setUint32(0, address % 2 ** 32, true);
    this.#msiView.setUint32(4, Math.floor(address / 2 ** 32), true);
    this.#msiView.setUint32(8, data >>> 0, true);
    return ioctlStruct(this.fd, k.KVM_SIGNAL_MSI, this.#msi) > 0;
  }

  /** State of PIT channel 0 to 2, opaque. */
  getPit(): Uint8Array {
    const state = new Uint8Array(PIT_STATE);
    must(ioctlStruct(this.fd, k.KVM_GET_PIT2, state), 'KVM_GET_PIT2');
    return state;
  }

  setPit(state: Uint8Array): void {
    must(ioctlStruct(this.fd, k.KVM_SET_PIT2, state), 'KVM_SET_PIT2');
  }

  /** kvmclock in nanoseconds. */
  getClock(): bigint {
    const bytes = new Uint8Array(48);
    must(ioctlStruct(this.fd, k.KVM_GET_CLOCK, bytes), 'KVM_GET_CLOCK');
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }

  setClock(nanoseconds: bigint): void {
    const bytes = new Uint8Array(48);
    new DataView(bytes.buffer).setBigUint64(0, nanoseconds, true);
    must(ioctlStruct(this.fd, k.KVM_SET_CLOCK, bytes), 'KVM_SET_CLOCK');
  }

  /** State of one in-kernel chip (KVM_IRQCHIP_*): kvm_irqchip, 520 bytes. */
  getIrqchip(chip: number): Uint8Array {
    const bytes = new Uint8Array(520);
    new DataView(bytes.buffer).setUint32(0, chip, true);
    must(ioctlStruct(this.fd, k.KVM_GET_IRQCHIP, bytes), 'KVM_GET_IRQCHIP');
    return bytes;
  }

  setIrqchip(state: Uint8Array): void {
    must(ioctlStruct(this.fd, k.KVM_SET_IRQCHIP, state), 'KVM_SET_IRQCHIP');
  }

  /** Wires writes of `width` bytes at `address` to an eventfd. Throws SystemError EEXIST when one is there. */
  ioeventfd(options: { eventfd: number; address: number; width: number; io: boolean; match?: number; remove?: boolean }): void {
    const view = new DataView(new ArrayBuffer(64));
    const flags = (options.match === undefined ? 0 : 1) | (options.io ? 2 : 0) | (options.remove === true ? 4 : 0);
    view.setBigUint64(0, BigInt(options.match ?? 0), true);
    view.setBigUint64(8, BigInt(options.address), true);
    view.setUint32(16, options.width, true);
    view.setInt32(20, options.eventfd, true);
    view.setUint32(24, flags, true);
    if (ioctlStruct(this.fd, k.KVM_IOEVENTFD, new Uint8Array(view.buffer)) < 0) throw new SystemError(`KVM_IOEVENTFD at ${options.address.toString(16)}`, errno());
  }

  close(): void {
    close(this.fd);
  }
}
