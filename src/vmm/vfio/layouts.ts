// The structures of linux/vfio.h as bytes, both ways, and nothing else. Sizes and offsets are tested against the header.
// Regions lie at file offsets below 2^44 and IOVAs below 2^53, so all of them are exact as numbers.
import * as V from './ioctls.ts';

/** [start, end) of I/O virtual addresses. */
export interface IovaRange {
  readonly start: number;
  readonly end: number;
}

export interface RegionInfo {
  readonly index: number;
  readonly flags: number;
  /** Bytes; 0 when the device has no such region. */
  readonly size: number;
  /** Of the region in the device's descriptor, for pread, pwrite and mmap. */
  readonly offset: number;
  /** The parts that may be mapped; undefined when all of it may. */
  readonly sparse?: readonly { readonly offset: number; readonly size: number }[];
  /** The pages of the MSI-X table may be mapped too. */
  readonly msixMappable: boolean;
}

export interface IrqInfo {
  readonly index: number;
  readonly flags: number;
  readonly count: number;
}

/** A device that is reset together with another (vfio_pci_dependent_device). */
export interface DependentDevice {
  readonly group: number;
  /** "0000:03:00.0" */
  readonly address: string;
}

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const u64 = (from: DataView, at: number): number => Number(from.getBigUint64(at, true));

export const DEVICE_INFO = 20;
export const REGION_INFO = 32;
export const IRQ_INFO = 16;
export const GROUP_STATUS = 8;
export const IOMMU_INFO = 20;
export const DMA_MAP = 32;
export const DMA_UNMAP = 24;
export const IRQ_SET = 20;
export const HOT_RESET_INFO = 12;
export const DEPENDENT_DEVICE = 8;
export const HOT_RESET = 12;

/** A zeroed structure of `size` bytes whose argsz says so. */
export function sized(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  view(bytes).setUint32(0, size, true);
  return bytes;
}

/** argsz and flags of any structure that has them: what the kernel wants, and what it says. */
export function header(bytes: Uint8Array): { argsz: number; flags: number } {
  return { argsz: view(bytes).getUint32(0, true), flags: view(bytes).getUint32(4, true) };
}

/** The capabilities in an information structure, by id. A chain that points outside or backwards ends. */
export function capabilities(bytes: Uint8Array, first: number): Map<number, number> {
  const found = new Map<number, number>();
  const from = view(bytes);
  let last = 0;
  for (let at = first; at > last && at + 8 <= bytes.length; at = from.getUint32(at + 4, true)) {
    last = at;
    const id = from.getUint16(at, true);
    if (!found.has(id)) found.set(id, at);
  }
  return found;
}

export function regionRequest(index: number, size = REGION_INFO): Uint8Array {
  const bytes = sized(size);
  view(bytes).setUint32(8, index, true);
  return bytes;
}

export function regionInfo(bytes: Uint8Array): RegionInfo {
  const from = view(bytes);
  const { flags } = header(bytes);
  const info = { index: from.getUint32(8, true), flags, size: u64(from, 16), offset: u64(from, 24), msixMappable: false };
  if ((flags & V.VFIO_REGION_INFO_FLAG_CAPS) === 0) return info;
  const caps = capabilities(bytes, from.getUint32(12, true));
  const at = caps.get(V.VFIO_REGION_INFO_CAP_SPARSE_MMAP);
  const msixMappable = caps.has(V.VFIO_REGION_INFO_CAP_MSIX_MAPPABLE);
  if (at === undefined) return { ...info, msixMappable };
  const areas = Math.min(from.getUint32(at + 8, true), Math.floor((bytes.length - at - 16) / 16));
  const sparse = Array.from({ length: areas }, (_, area) => ({ offset: u64(from, at + 16 + area * 16), size: u64(from, at + 24 + area * 16) }));
  return { ...info, msixMappable, sparse };
}

export function irqRequest(index: number): Uint8Array {
  const bytes = sized(IRQ_INFO);
  view(bytes).setUint32(8, index, true);
  return bytes;
}

export function irqInfo(bytes: Uint8Array): IrqInfo {
  const from = view(bytes);
  return { flags: from.getUint32(4, true), index: from.getUint32(8, true), count: from.getUint32(12, true) };
}

/** vfio_irq_set with eventfds (-1 for none) as its data, or without data when `fds` is null; `count` is then its own. */
export function irqSet(options: { index: number; action: number; start: number; fds: readonly number[] | null; count?: number }): Uint8Array {
  const { index, action, start, fds } = options;
  const bytes = sized(IRQ_SET + 4 * (fds?.length ?? 0));
  const into = view(bytes);
  into.setUint32(4, action | (fds === null ? V.VFIO_IRQ_SET_DATA_NONE : V.VFIO_IRQ_SET_DATA_EVENTFD), true);
  into.setUint32(8, index, true);
  into.setUint32(12, start, true);
  into.setUint32(16, fds?.length ?? options.count ?? 0, true);
  fds?.forEach((fd, at) => into.setInt32(IRQ_SET + 4 * at, fd, true));
  return bytes;
}

/** The ranges that the IOMMU translates; undefined when the kernel (before 5.4) does not say. */
export function iovaRanges(bytes: Uint8Array): IovaRange[] | undefined {
  const from = view(bytes);
  if ((header(bytes).flags & V.VFIO_IOMMU_INFO_CAPS) === 0) return undefined;
  const at = capabilities(bytes, from.getUint32(16, true)).get(V.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE);
  if (at === undefined) return undefined;
  const count = Math.min(from.getUint32(at + 8, true), Math.floor((bytes.length - at - 16) / 16));
  // The kernel's ends are the last address. What is beyond 2^53 only has to stay beyond all RAM.
  return Array.from({ length: count }, (_, range) => ({ start: u64(from, at + 16 + range * 16), end: u64(from, at + 24 + range * 16) + 1 }));
}

export function dmaMap(map: { hva: number; iova: number; size: number }): Uint8Array {
  const bytes = sized(DMA_MAP);
  const into = view(bytes);
  into.setUint32(4, V.VFIO_DMA_MAP_FLAG_READ | V.VFIO_DMA_MAP_FLAG_WRITE, true);
  into.setBigUint64(8, BigInt(map.hva), true);
  into.setBigUint64(16, BigInt(map.iova), true);
  into.setBigUint64(24, BigInt(map.size), true);
  return bytes;
}

export function dmaUnmap(map: { iova: number; size: number }): Uint8Array {
  const bytes = sized(DMA_UNMAP);
  const into = view(bytes);
  into.setBigUint64(8, BigInt(map.iova), true);
  into.setBigUint64(16, BigInt(map.size), true);
  return bytes;
}

/** vfio_pci_hot_reset_info, read with room for `count` devices. */
export function dependentDevices(bytes: Uint8Array): DependentDevice[] {
  const from = view(bytes);
  const count = Math.min(from.getUint32(8, true), Math.floor((bytes.length - HOT_RESET_INFO) / DEPENDENT_DEVICE));
  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
  return Array.from({ length: count }, (_, index) => {
    const at = HOT_RESET_INFO + index * DEPENDENT_DEVICE;
    const devfn = from.getUint8(at + 7);
    return { group: from.getUint32(at, true), address: `${hex(from.getUint16(at + 4, true), 4)}:${hex(from.getUint8(at + 6), 2)}:${hex(devfn >> 3, 2)}.${devfn & 7}` };
  });
}

export function hotReset(groupFds: readonly number[]): Uint8Array {
  const bytes = sized(HOT_RESET + 4 * groupFds.length);
  const into = view(bytes);
  into.setUint32(8, groupFds.length, true);
  groupFds.forEach((fd, at) => into.setInt32(HOT_RESET + 4 * at, fd, true));
  return bytes;
}
