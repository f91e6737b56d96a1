// The devices of the host that a machine has, on its control thread: taken before the start, described for every thread, given back in order
// when no vCPU is left. All of them or none: what fails on the way is undone.
import { SystemError, close, errno, errnoName, eventfd, ioctlStruct, mapFixed, readAt, reserve, takeEventfd, unmap, writeAt } from '../kvm/libc.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';
import { COMMAND_MEMORY } from '../pci/bar.ts';
import { MAX_SLOTS_PER_BAR } from '../pci/commit-steps.ts';
import type { Backing } from '../pci/device.ts';
import { PCI_COMMAND, PCI_HEADER_TYPE } from '../pci/function.ts';
import { type ConfigLayout, layOutConfig } from './config-layout.ts';
import { VfioContainer } from './container.ts';
import { planDma } from './dma-plan.ts';
import type { HostFunctionDescription } from './host-function.ts';
import * as V from './ioctls.ts';
import { KvmVfio } from './kvm-vfio.ts';
import * as L from './layouts.ts';
import { locate, notWithVfio, type Location } from './locate.ts';
import { checkMemlock } from './memlock.ts';
import { MSIX_ENTRY_BYTES } from './msix-table.ts';
import type { PassthroughDescription } from './passthrough.ts';
import { type Extent, mappedPieces } from './pieces.ts';
import { romFromDevice, romFromFile } from './rom.ts';
import { planResets } from './shared-reset.ts';
import { refusal } from './words.ts';

const CONFIG_BYTES = 4096;
const PAGE = 4096;
const HUGE = 2 ** 21;
const LAST_BAR = 5;
const HEADER_TYPE = 0x7f;
/** How often the host's wishes are looked at. */
const NOTIFIER_MS = 500;
/** Functions that one reset reaches: a bus has 256. */
const MOST_TOGETHER = 256;

export interface HostDeviceWish {
  readonly address: string;
  readonly slot: number;
  readonly rom?: 'off' | { readonly file: string };
}

/** Crosses to a Worker by structured clone. */
export interface HostDeviceDescription {
  readonly passthrough: PassthroughDescription;
  readonly host: HostFunctionDescription;
}

export interface HostDevicesOptions {
  /** The machine's. */
  readonly name: string;
  readonly ram: GuestMemory;
  /** The VM's descriptor. */
  readonly vm: number;
  readonly log: (text: string) => void;
  /** The host wants this device back. */
  readonly wanted: (slot: number, address: string) => void;
  /** It reported an error that nobody can mend (PCIe AER). */
  readonly failed: (slot: number, address: string) => void;
}

interface Taken {
  readonly description: HostDeviceDescription;
  readonly location: Location;
  readonly reserved: readonly { address: number; length: number }[];
  readonly request?: number;
  readonly error?: number;
}

export class HostDevices {
  readonly #options: HostDevicesOptions;
  readonly #taken: Taken[] = [];
  /** Held while there is any device. */
  #container: VfioContainer | undefined;
  /** Kept once it was made: KVM allows one for the life of a VM. */
  #kvm: KvmVfio | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: HostDevicesOptions) {
    this.#options = options;
  }

  /** Takes one; with the first the machine's RAM is pinned and mapped for devices. Throws VitrineError or SystemError, and holds no more than before then. */
  take(wish: HostDeviceWish): HostDeviceDescription {
    const { address } = wish;
    if (this.#taken.some(({ location }) => location.address === address)) throw refusal(address, 'this machine has it already.', 'Give it once.', 'device-twice');
    const location = locate(address);
    try {
      const container = (this.#container ??= this.#begin(address));
      if (container.addGroup(location)) {
        this.#kvm ??= new KvmVfio(this.#options.vm);
        this.#kvm.add(container.groupFd(location.group)!);
        // A group may narrow what the IOMMU translates, so it is looked at with each; what is mapped stays.
        const { ram, name } = this.#options;
        const windows = ram.windows.map((window, index) => ({ gpa: window.gpa, size: window.size, hva: ram.windowHva(index) }));
        container.map(planDma(windows, container.allowed()), name);
      }
      const taken = this.#open(container, location, wish);
      this.#taken.push(taken);
      this.#timer ??= setInterval(() => this.#listen(), NOTIFIER_MS);
      return taken.description;
    } catch (thrown) {
      this.#release(location.group);
      throw thrown;
    }
  }

  #begin(address: string): VfioContainer {
    checkMemlock(this.#options.ram.size, this.#options.name);
    return VfioContainer.open(address);
  }

  #open(container: VfioContainer, location: Location, { address, slot, rom: romWish }: HostDeviceWish): Taken {
    const { log } = this.#options;
    const fd = container.openDevice(location);
    const reserved: { address: number; length: number }[] = [];
    try {
      const info = L.sized(L.DEVICE_INFO);
      if (ioctlStruct(fd, V.VFIO_DEVICE_GET_INFO, info) < 0 || (L.header(info).flags & V.VFIO_DEVICE_FLAGS_PCI) === 0) throw refusal(address, 'VFIO does not know it as a PCI device.', '', 'vfio-device');
      const regions = Array.from({ length: V.VFIO_PCI_CONFIG_REGION_INDEX + 1 }, (_, index) => regionInfo(fd, index));
      const irqs = Array.from({ length: V.VFIO_PCI_REQ_IRQ_INDEX + 1 }, (_, index) => irqInfo(fd, index));
      const config = recordConfig(fd, regions[V.VFIO_PCI_CONFIG_REGION_INDEX]!, address);
      const layout = layOutConfig(config, regions.slice(0, LAST_BAR + 1).map(({ size }) => size));
      const resettable = (L.header(info).flags & V.VFIO_DEVICE_FLAGS_RESET) !== 0;
      const mapped = mapBars(fd, address, regions, layout, reserved, log);
      const rom = romWish === 'off' ? undefined : romWish === undefined ? ownRom(fd, address, regions, log) : romFromFile(romWish.file, address);
      if (layout.hidden.length > 0) log(`host ${address}: capabilities ${layout.hidden.join(', ')} are hidden from the guest`);
      return {
        location, reserved,
        description: { passthrough: { address, slot, config, mapped, rom }, host: { fd, regions, irqs, resettable } },
        request: notifier(fd, irqs[V.VFIO_PCI_REQ_IRQ_INDEX]!),
        error: notifier(fd, irqs[V.VFIO_PCI_ERR_IRQ_INDEX]!),
      };
    } catch (thrown) {
      for (const { address: at, length } of reserved) unmap(at, length);
      close(fd);
      throw thrown;
    }
  }

  #listen(): void {
    for (const { description, location, request, error } of this.#taken) {
      const { slot } = description.passthrough;
      if (request !== undefined && takeEventfd(request) > 0) this.#options.wanted(slot, location.address);
      if (error !== undefined && takeEventfd(error) > 0) this.#options.failed(slot, location.address);
    }
  }

  /**
   * Resets those of these devices that cannot be reset alone, with all that is reset with them. One that cannot be reset is in the log, with the
   * names of those in the way.
   * @param addresses of devices that are quiet
   * @param used devices of this machine that its guest uses meanwhile
   */
  resetTogether(addresses: readonly string[], used: readonly string[] = []): void {
    const { log } = this.#options;
    const container = this.#container;
    if (container === undefined) return;
    const fds = new Map(this.#taken.filter(({ description }) => !description.host.resettable).map(({ location, description }) => [location.address, description.host.fd]));
    const wishes = addresses.flatMap((address) => (fds.has(address) ? [{ address, affected: affected(fds.get(address)!) }] : []));
    const { resets, refused } = planResets(wishes, { held: container.groups.map(({ name }) => name), used, strangers: notWithVfio });
    for (const { address, why } of refused) log(`host ${address}: ${why}; it begins in the state in which it was`);
    for (const { by, reaches, groups } of resets) {
      const failed = ioctlStruct(fds.get(by)!, V.VFIO_DEVICE_PCI_HOT_RESET, L.hotReset(groups.map((group) => container.groupFd(group)!))) < 0;
      if (failed) log(`host ${by}: the reset of ${reaches.join(', ')} failed (${errnoName(errno())}); they begin in the state in which they were`);
    }
  }

  /** Gives one back: no thread uses it any more, and it is quiet. VFIO resets it. */
  give(address: string): void {
    const index = this.#taken.findIndex(({ location }) => location.address === address);
    if (index < 0) return;
    const [{ description, location, reserved, request, error }] = this.#taken.splice(index, 1) as [Taken];
    for (const { address: at, length } of reserved) unmap(at, length);
    close(description.host.fd);
    for (const fd of [request, error]) if (fd !== undefined) close(fd);
    this.#release(location.group);
  }

  /** Lets go of a group without devices, and of the container with the last. */
  #release(group: string): void {
    const container = this.#container;
    if (container === undefined || this.#taken.some(({ location }) => location.group === group)) return;
    const fd = container.groupFd(group);
    if (fd !== undefined) this.#kvm?.remove(fd);
    if (this.#taken.length > 0) {
      container.removeGroup(group);
      return;
    }
    clearInterval(this.#timer);
    this.#timer = undefined;
    container.close();
    this.#container = undefined;
  }

  /** Gives all of them back. No vCPU may run. */
  close(): void {
    for (const { location } of this.#taken.toReversed()) this.give(location.address);
    this.#kvm?.close();
    this.#kvm = undefined;
  }
}

/** Maps what may be mapped of each BAR, at one run of addresses a BAR. */
function mapBars(fd: number, address: string, regions: readonly L.RegionInfo[], layout: ConfigLayout, reserved: { address: number; length: number }[], log: (text: string) => void): Record<number, Backing | undefined> {
  const mapped: Record<number, Backing | undefined> = {};
  for (const { index, kind } of layout.bars) {
    const region = regions[index]!;
    if (kind === 'io' || (region.flags & V.VFIO_REGION_INFO_FLAG_MMAP) === 0) continue;
    const pieces = mappedPieces(region.size, region.sparse, msixExtents(layout, index), MAX_SLOTS_PER_BAR);
    if (pieces.length === 0) continue;
    const hva = reserve(region.size, region.size >= HUGE ? HUGE : PAGE);
    reserved.push({ address: hva, length: region.size });
    try {
      for (const { offset, size } of pieces) mapFixed(hva + offset, size, fd, region.offset + offset);
      mapped[index] = { hva, bytes: region.size, dirtyLog: false, pieces: pieces.map(({ offset, size }) => ({ offset, bytes: size })) };
    } catch (thrown) {
      if (!(thrown instanceof SystemError)) throw thrown;
      log(`host ${address}: BAR ${index} cannot be mapped (${thrown.code}); every access to it is forwarded`);
    }
  }
  return mapped;
}

function ownRom(fd: number, address: string, regions: readonly L.RegionInfo[], log: (text: string) => void): PassthroughDescription['rom'] {
  const region = regions[V.VFIO_PCI_ROM_REGION_INDEX]!;
  if (region.size === 0) return undefined;
  const config = regions[V.VFIO_PCI_CONFIG_REGION_INDEX]!;
  const command = new Uint8Array(2);
  readAt(fd, command, 2, config.offset + PCI_COMMAND);
  command[0] = command[0]! | COMMAND_MEMORY;
  writeAt(fd, command, 2, config.offset + PCI_COMMAND);
  const rom = romFromDevice(fd, region);
  if (rom === undefined) log(`host ${address}: its expansion ROM cannot be read; a file can take its place (rom=FILE)`);
  return rom;
}

/** All that is reset with a device, itself too; none when there is no such reset. */
function affected(fd: number): L.DependentDevice[] {
  const info = L.sized(L.HOT_RESET_INFO + MOST_TOGETHER * L.DEPENDENT_DEVICE);
  return ioctlStruct(fd, V.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info) < 0 ? [] : L.dependentDevices(info);
}

function regionInfo(fd: number, index: number): L.RegionInfo {
  let bytes = L.regionRequest(index);
  if (ioctlStruct(fd, V.VFIO_DEVICE_GET_REGION_INFO, bytes) < 0) return { index, flags: 0, size: 0, offset: 0, msixMappable: false };
  const { argsz } = L.header(bytes);
  if (argsz > bytes.length) {
    bytes = L.regionRequest(index, argsz);
    if (ioctlStruct(fd, V.VFIO_DEVICE_GET_REGION_INFO, bytes) < 0) return { index, flags: 0, size: 0, offset: 0, msixMappable: false };
  }
  return L.regionInfo(bytes);
}

function irqInfo(fd: number, index: number): L.IrqInfo {
  const bytes = L.irqRequest(index);
  return ioctlStruct(fd, V.VFIO_DEVICE_GET_IRQ_INFO, bytes) < 0 ? { index, flags: 0, count: 0 } : L.irqInfo(bytes);
}

/** The configuration space as VFIO gives it. Throws VitrineError when the device does not answer, or is no endpoint. */
function recordConfig(fd: number, region: L.RegionInfo, address: string): Uint8Array {
  const bytes = new Uint8Array(region.size >= CONFIG_BYTES ? CONFIG_BYTES : 256);
  for (let at = 0; at < bytes.length; at += 4) {
    if (readAt(fd, bytes.subarray(at), 4, region.offset + at) !== 4) throw refusal(address, 'its configuration space cannot be read.', 'If the device does not come back by itself, restart the computer.', 'device-gone');
  }
  if (bytes[0] === 0xff && bytes[1] === 0xff) throw refusal(address, 'it does not answer: it is switched off, or did not come back from a reset.', 'If it does not come back by itself, restart the computer.', 'device-gone');
  if ((bytes[PCI_HEADER_TYPE]! & HEADER_TYPE) !== 0) throw refusal(address, 'it is a bridge, and only devices can be given to a machine.', '', 'device-is-bridge');
  return bytes;
}

/** The bytes of a BAR that the guest must not reach. */
function msixExtents({ msix }: ConfigLayout, bar: number): Extent[] {
  if (msix === undefined) return [];
  const table = { ...msix.table, size: msix.vectors * MSIX_ENTRY_BYTES };
  const pba = { ...msix.pba, size: Math.ceil(msix.vectors / 64) * 8 };
  return [table, pba].filter((each) => each.bar === bar);
}

/** Wires a notifier of VFIO to an eventfd; undefined where there is none. */
function notifier(fd: number, irq: L.IrqInfo): number | undefined {
  if (irq.count === 0) return undefined;
  const event = eventfd();
  const set = L.irqSet({ index: irq.index, action: V.VFIO_IRQ_SET_ACTION_TRIGGER, start: 0, fds: [event] });
  if (ioctlStruct(fd, V.VFIO_DEVICE_SET_IRQS, set) === 0) return event;
  close(event);
  return undefined;
}
