// VFIO's groups and their container: how a process comes to hold devices, and to have its memory mapped for them. The group API of
// Documentation/driver-api/vfio.rst, with the type 1 IOMMU. What iommufd does differently is all in this file: there, an IOAS takes the place
// of the container, devices are opened one by one, and there is no group to open.
//
//   open container → open group, viable? → container of the group → IOMMU of the container (with its first group) → map RAM → device descriptors
//   at the end: devices closed → RAM unmapped → groups leave the container → groups closed → container closed
import { join } from 'node:path';
import { close, EBUSY, ENOMEM, EPERM, errno, errnoName, ioctlStruct, ioctlValue, O_RDWR, open, SystemError } from '../kvm/libc.ts';
import type { DmaPlan } from './dma-plan.ts';
import * as V from './ioctls.ts';
import * as L from './layouts.ts';
import { groupMembers, obstacles, type Location } from './locate.ts';
import { refusal } from './words.ts';

export interface HeldGroup {
  readonly name: string;
  readonly fd: number;
}

function opened(path: string, on: string): number {
  try {
    return open(path, O_RDWR);
  } catch (thrown) {
    if (!(thrown instanceof SystemError)) throw thrown;
    const { code } = thrown;
    if (code === 'EBUSY') throw refusal(on, `its IOMMU group is in use: another machine has it (${path}).`, 'End that machine first.', 'device-in-use');
    if (code === 'EACCES' || code === 'EPERM') throw refusal(on, `your account may not open ${path}.`, `"vitrine bind ${on}" gives it to you; or: sudo chown "$USER" ${path}`, 'vfio-permission');
    if (code === 'ENOENT' || code === 'ENODEV') throw refusal(on, `there is no ${path}: the VFIO modules are not loaded, or the device is not bound to vfio-pci.`, `Run: sudo modprobe vfio-pci, then vitrine bind ${on}`, 'no-vfio');
    throw refusal(on, `${path} cannot be opened (${code}).`, '', 'vfio');
  }
}

export class VfioContainer {
  readonly #fd: number;
  readonly #groups: HeldGroup[] = [];
  readonly #mapped: { iova: number; size: number }[] = [];
  readonly #dev: string;
  #hasIommu = false;

  private constructor(fd: number, dev: string) {
    this.#fd = fd;
    this.#dev = dev;
  }

  /** Throws VitrineError. @param on the device that it is for @param dev where VFIO's nodes are */
  static open(on: string, dev = '/dev/vfio'): VfioContainer {
    const fd = opened(join(dev, 'vfio'), on);
    const container = new VfioContainer(fd, dev);
    const version = ioctlValue(fd, V.VFIO_GET_API_VERSION, 0);
    if (version !== V.VFIO_API_VERSION || ioctlValue(fd, V.VFIO_CHECK_EXTENSION, V.VFIO_TYPE1v2_IOMMU) !== 1) {
      close(fd);
      throw refusal(on, "this kernel's VFIO has no IOMMU of type 1 (version 2).", 'Load the module: sudo modprobe vfio_iommu_type1', 'no-vfio');
    }
    return container;
  }

  get groups(): readonly HeldGroup[] {
    return this.#groups;
  }

  groupFd(group: string): number | undefined {
    return this.#groups.find(({ name }) => name === group)?.fd;
  }

  /** Takes a device's whole group. @returns false if it is held already. Throws VitrineError. */
  addGroup({ address, group }: Location): boolean {
    if (this.groupFd(group) !== undefined) return false;
    const fd = opened(join(this.#dev, group), address);
    try {
      const status = L.sized(L.GROUP_STATUS);
      if (ioctlStruct(fd, V.VFIO_GROUP_GET_STATUS, status) < 0) throw refusal(address, `its IOMMU group ${group} gives no status (${errnoName(errno())}).`, '', 'vfio');
      const { flags } = L.header(status);
      if ((flags & V.VFIO_GROUP_FLAGS_CONTAINER_SET) !== 0) throw refusal(address, 'its IOMMU group is in use by another machine.', 'End that machine first.', 'device-in-use');
      if ((flags & V.VFIO_GROUP_FLAGS_VIABLE) === 0) throw this.#notViable(address, group);
      if (ioctlStruct(fd, V.VFIO_GROUP_SET_CONTAINER, int32(this.#fd)) < 0) throw refusal(address, `its IOMMU group ${group} cannot join the others of this machine (${errnoName(errno())}).`, '', 'vfio');
    } catch (thrown) {
      close(fd);
      throw thrown;
    }
    this.#groups.push({ name: group, fd });
    if (this.#hasIommu) return true;
    if (ioctlValue(this.#fd, V.VFIO_SET_IOMMU, V.VFIO_TYPE1v2_IOMMU) < 0) {
      const why = errno();
      const unsafe = why === EPERM ? ' This computer cannot keep the interrupts of devices apart (no interrupt remapping).' : '';
      throw refusal(address, `its IOMMU cannot be used (${errnoName(why)}).${unsafe}`, unsafe === '' ? '' : 'Switch on interrupt remapping in the firmware set-up. It can be forced with the parameter allow_unsafe_interrupts=1 of vfio_iommu_type1; then a guest could disturb the host.', 'vfio-iommu');
    }
    this.#hasIommu = true;
    return true;
  }

  /** Gives a group back; none of its devices may be open. */
  removeGroup(group: string): void {
    const index = this.#groups.findIndex(({ name }) => name === group);
    if (index < 0) return;
    const [{ fd }] = this.#groups.splice(index, 1) as [HeldGroup];
    ioctlValue(fd, V.VFIO_GROUP_UNSET_CONTAINER, 0);
    close(fd);
  }

  #notViable(address: string, group: string): Error {
    const others = obstacles(groupMembers(group)).map((member) => `${member.address} (${member.driver})`);
    const who = others.length === 0 ? 'some of it is in use by the host' : `the host uses ${others.join(', ')} of it`;
    return refusal(address, `a device can be given away only with its whole IOMMU group ${group}, and ${who}.`, 'Bind all of them to vfio-pci, or put the card into another slot.', 'group-not-viable');
  }

  /** What the IOMMU translates; undefined when the kernel does not say. */
  allowed(): L.IovaRange[] | undefined {
    let info = L.sized(L.IOMMU_INFO);
    if (ioctlStruct(this.#fd, V.VFIO_IOMMU_GET_INFO, info) < 0) return undefined;
    const { argsz } = L.header(info);
    if (argsz > info.length) {
      info = L.sized(argsz);
      if (ioctlStruct(this.#fd, V.VFIO_IOMMU_GET_INFO, info) < 0) return undefined;
    }
    return L.iovaRanges(info);
  }

  /** Maps the machine's RAM, which pins it, as far as it is not mapped yet. Throws VitrineError; what was mapped goes with close(). @param on the machine's name */
  map(plan: DmaPlan, on: string): void {
    const [hole] = plan.unreachable;
    if (hole !== undefined) {
      const place = `0x${hole.start.toString(16)} to 0x${(hole.end - 1).toString(16)}`;
      throw refusal(on, `its memory would lie at ${place}, which devices cannot reach on this computer.`, 'Give the machine less memory, or no device of the host.', 'reserved-region');
    }
    for (const { iova, hva, size } of plan.maps) {
      if (this.#mapped.some((each) => iova >= each.iova && iova + size <= each.iova + each.size)) continue;
      if (ioctlStruct(this.#fd, V.VFIO_IOMMU_MAP_DMA, L.dmaMap({ iova, hva, size })) < 0) {
        const why = errno();
        const remedy = why === ENOMEM ? 'Give the machine less memory, or raise the limit of locked memory.' : '';
        throw refusal(on, `${Math.round(size / 2 ** 20)} MiB of its memory at 0x${iova.toString(16)} cannot be mapped for devices (${errnoName(why)}).`, remedy, why === ENOMEM ? 'memlock-too-low' : 'vfio');
      }
      this.#mapped.push({ iova, size });
    }
  }

  /** A descriptor of one device of a group that is held. Throws VitrineError. */
  openDevice({ address, group }: Location): number {
    const fd = ioctlStruct(this.groupFd(group)!, V.VFIO_GROUP_GET_DEVICE_FD, new TextEncoder().encode(`${address}\0`));
    if (fd < 0) {
      const why = errno();
      if (why === EBUSY) throw refusal(address, 'it is in use by another machine.', 'End that machine first.', 'device-in-use');
      throw refusal(address, `VFIO does not give it out (${errnoName(why)}). The kernel's log may say more: sudo dmesg | tail.`, 'If it does not answer any more, only a restart of the computer brings it back.', 'vfio-device');
    }
    return fd;
  }

  /** In order; every device descriptor must be closed. */
  close(): void {
    for (const mapping of this.#mapped.splice(0).reverse()) ioctlStruct(this.#fd, V.VFIO_IOMMU_UNMAP_DMA, L.dmaUnmap(mapping));
    for (const { name } of this.#groups.toReversed()) this.removeGroup(name);
    close(this.#fd);
  }
}

function int32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}
