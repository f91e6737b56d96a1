// The devices of the host that a machine has, on its control thread: taken before the start, described for every thread, given back in order
// when no vCPU is left. All of them or none: what fails on the way is undone.
import { SystemError, close, eventfd, ioctlStruct, mapFixed, readAt, reserve, takeEventfd, unmap, writeAt } from '../kvm/libc.ts';
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
import { locate, type Location } from './locate.ts';
import { checkMemlock } from './memlock.ts';
import { MSIX_ENTRY_BYTES } from './msix-table.ts';
import type { PassthroughDescription } from './passthrough.ts';
import { type Extent, mappedPieces } from './pieces.ts';
import { romFromDevice, romFromFile } from './rom.ts';
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
  readonly name: string;
  readonly wishes: readonly HostDeviceWish[];
  readonly ram: GuestMemory;
  /** The VM's descriptor. */
  readonly vm: number;
  readonly log: (text: string) => void;
}

interface Taken {
  readonly description: HostDeviceDescription;
  readonly reserved: readonly { address: number; length: number }[];
  /** The host wants it back; the device reported an error. */
  readonly request?: number;
  readonly error?: number;
}

export class HostDevices {
  readonly #container: VfioContainer;
  readonly #kvm: KvmVfio;
  readonly #taken: Taken[] = [];
  readonly #log: (text: string) => void;
  #timer: NodeJS.Timeout | undefined;

  /** Takes them. Throws VitrineError, and holds nothing then. */
  static take(options: HostDevicesOptions): HostDevices {
    const { name, wishes, ram, vm, log } = options;
    const addresses = new Set<string>();
    const locations = wishes.map(({ address }) => {
      if (addresses.has(address)) throw refusal(address, 'it is given to this machine twice.', 'Give it once.', 'device-twice');
      addresses.add(address);
      return locate(address);
    });
    checkMemlock(ram.size, name);
    const container = VfioContainer.open(name, wishes[0]!.address);
    let devices: HostDevices | undefined;
    try {
      for (const location of locations) container.addGroup(location);
      const windows = ram.windows.map((window, index) => ({ gpa: window.gpa, size: window.size, hva: ram.windowHva(index) }));
      container.map(planDma(windows, container.allowed()));
      devices = new HostDevices(container, new KvmVfio(vm), log);
      for (const { fd } of container.groups) devices.#kvm.add(fd);
      for (const [index, wish] of wishes.entries()) devices.#take(locations[index]!, wish);
      return devices;
    } catch (thrown) {
      if (devices === undefined) container.close();
      else devices.close();
      throw thrown;
    }
  }

  private constructor(container: VfioContainer, kvm: KvmVfio, log: (text: string) => void) {
    this.#container = container;
    this.#kvm = kvm;
    this.#log = log;
  }

  get descriptions(): HostDeviceDescription[] {
    return this.#taken.map(({ description }) => description);
  }

  #take(location: Location, { address, slot, rom: romWish }: HostDeviceWish): void {
    const fd = this.#container.openDevice(location);
    const reserved: { address: number; length: number }[] = [];
    try {
      const info = L.sized(L.DEVICE_INFO);
      if (ioctlStruct(fd, V.VFIO_DEVICE_GET_INFO, info) < 0 || (L.header(info).flags & V.VFIO_DEVICE_FLAGS_PCI) === 0) throw refusal(address, 'VFIO does not know it as a PCI device.', '', 'vfio-device');
      const regions = Array.from({ length: V.VFIO_PCI_CONFIG_REGION_INDEX + 1 }, (_, index) => regionInfo(fd, index));
      const irqs = Array.from({ length: V.VFIO_PCI_REQ_IRQ_INDEX + 1 }, (_, index) => irqInfo(fd, index));
      const config = recordConfig(fd, regions[V.VFIO_PCI_CONFIG_REGION_INDEX]!, address);
      const layout = layOutConfig(config, regions.slice(0, LAST_BAR + 1).map(({ size }) => size));
      const resettable = (L.header(info).flags & V.VFIO_DEVICE_FLAGS_RESET) !== 0;
      const mapped = this.#mapBars(fd, address, regions, layout, reserved);
      const rom = romWish === 'off' ? undefined : romWish === undefined ? this.#ownRom(fd, address, regions) : romFromFile(romWish.file, address);
      const description = {
        passthrough: { address, slot, config, mapped, rom },
        host: { fd, regions, irqs, resettable, together: resettable ? undefined : this.#together(fd) },
      };
      if (layout.hidden.length > 0) this.#log(`host ${address}: capabilities ${layout.hidden.join(', ')} are hidden from the guest`);
      this.#taken.push({ description, reserved, request: notifier(fd, irqs[V.VFIO_PCI_REQ_IRQ_INDEX]!), error: notifier(fd, irqs[V.VFIO_PCI_ERR_IRQ_INDEX]!) });
    } catch (thrown) {
      for (const { address: at, length } of reserved) unmap(at, length);
      close(fd);
      throw thrown;
    }
  }

  /** Maps what may be mapped of each BAR, at one run of addresses a BAR. */
  #mapBars(fd: number, address: string, regions: readonly L.RegionInfo[], layout: ConfigLayout, reserved: { address: number; length: number }[]): Record<number, Backing | undefined> {
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
        this.#log(`host ${address}: BAR ${index} cannot be mapped (${thrown.code}); every access to it is forwarded`);
      }
    }
    return mapped;
  }

  #ownRom(fd: number, address: string, regions: readonly L.RegionInfo[]): PassthroughDescription['rom'] {
    const region = regions[V.VFIO_PCI_ROM_REGION_INDEX]!;
    if (region.size === 0) return undefined;
    const config = regions[V.VFIO_PCI_CONFIG_REGION_INDEX]!;
    const command = new Uint8Array(2);
    readAt(fd, command, 2, config.offset + PCI_COMMAND);
    command[0] = command[0]! | COMMAND_MEMORY;
    writeAt(fd, command, 2, config.offset + PCI_COMMAND);
    const rom = romFromDevice(fd, region);
    if (rom === undefined) this.#log(`host ${address}: its expansion ROM cannot be read; a file can take its place (rom=FILE)`);
    return rom;
  }

  /** The groups to be reset with a device that cannot be reset alone, if all of them are this machine's. */
  #together(fd: number): number[] | undefined {
    const info = L.sized(L.HOT_RESET_INFO + MOST_TOGETHER * L.DEPENDENT_DEVICE);
    if (ioctlStruct(fd, V.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info) < 0) return undefined;
    const groups = new Set(L.dependentDevices(info).map(({ group }) => String(group)));
    const held = this.#container.groups.filter(({ name }) => groups.has(name));
    return held.length === groups.size && groups.size > 0 ? held.map(({ fd: group }) => group) : undefined;
  }

  /** Listens for the host. @param wanted the host wants the device at this address back @param failed it reported an error that nobody can mend */
  watch(wanted: (address: string) => void, failed: (address: string) => void): void {
    this.#timer = setInterval(() => {
      for (const { description, request, error } of this.#taken) {
        const { address } = description.passthrough;
        if (request !== undefined && takeEventfd(request) > 0) wanted(address);
        if (error !== undefined && takeEventfd(error) > 0) failed(address);
      }
    }, NOTIFIER_MS);
  }

  /**
   * Gives them back. No vCPU may run. Devices are quiet by now (Passthrough.quiesce); each is reset by VFIO when its descriptor goes.
   * @param descriptors eventfds that were made for their interrupts
   */
  close(descriptors: readonly number[] = []): void {
    clearInterval(this.#timer);
    for (const { description, reserved, request, error } of this.#taken.splice(0).reverse()) {
      for (const { address, length } of reserved) unmap(address, length);
      close(description.host.fd);
      for (const fd of [request, error]) if (fd !== undefined) close(fd);
    }
    this.#kvm.close();
    this.#container.close();
    for (const fd of descriptors) close(fd);
  }
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
