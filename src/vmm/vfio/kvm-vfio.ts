// KVM's own VFIO device: KVM hears of the groups whose devices the guest has, for what only it can arrange (non-coherent DMA and the guest's
// cache control; drivers that ask for the machine). Documentation/virt/kvm/devices/vfio.rst.
import { must } from '../kvm/kvm.ts';
import * as k from '../kvm/ioctls.ts';
import { close, ioctlStruct } from '../kvm/libc.ts';
import { allocateWindow } from '../memory/window.ts';

export class KvmVfio {
  readonly #fd: number;
  readonly #groups: number[] = [];
  /** Where KVM reads a group's descriptor. */
  readonly #value = allocateWindow(4096);

  /** @param vm the machine's descriptor. Throws SystemError. */
  constructor(vm: number) {
    const create = new Uint8Array(12);
    const view = new DataView(create.buffer);
    view.setUint32(0, k.KVM_DEV_TYPE_VFIO, true);
    must(ioctlStruct(vm, k.KVM_CREATE_DEVICE, create), 'KVM_CREATE_DEVICE for VFIO');
    this.#fd = view.getUint32(4, true);
  }

  #set(attribute: number, group: number): number {
    new DataView(this.#value.buffer, 0, 4).setInt32(0, group, true);
    const view = new DataView(new ArrayBuffer(24));
    view.setUint32(4, k.KVM_DEV_VFIO_GROUP, true);
    view.setBigUint64(8, BigInt(attribute), true);
    view.setBigUint64(16, BigInt(this.#value.address), true);
    return ioctlStruct(this.#fd, k.KVM_SET_DEVICE_ATTR, new Uint8Array(view.buffer));
  }

  /** Throws SystemError. @param group its descriptor */
  add(group: number): void {
    must(this.#set(k.KVM_DEV_VFIO_GROUP_ADD, group), 'KVM_DEV_VFIO_GROUP_ADD');
    this.#groups.push(group);
  }

  remove(group: number): void {
    const index = this.#groups.indexOf(group);
    if (index < 0) return;
    this.#groups.splice(index, 1);
    this.#set(k.KVM_DEV_VFIO_GROUP_DEL, group);
  }

  close(): void {
    for (const group of this.#groups.splice(0).reverse()) this.#set(k.KVM_DEV_VFIO_GROUP_DEL, group);
    close(this.#fd);
  }
}
