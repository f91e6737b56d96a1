// What a machine's RAM becomes for the IOMMU: device addresses are guest-physical addresses, so every RAM window is mapped where the guest has it.
// What the IOMMU does not translate (reserved regions: its interrupt window, firmware's direct mappings, AMD's HyperTransport hole) cannot be
// RAM of a guest that has devices, since they would be told to reach there.
import type { IovaRange } from './layouts.ts';

/** RAM as one window: guest-physical address, where it is in this process, bytes. */
export interface DmaWindow {
  readonly gpa: number;
  readonly hva: number;
  readonly size: number;
}

export interface DmaPlan {
  readonly maps: readonly { readonly iova: number; readonly hva: number; readonly size: number }[];
  /** Parts of RAM that no device could reach, in ascending order; the plan is no good unless there are none. */
  readonly unreachable: readonly IovaRange[];
}

/** @param allowed ranges that the IOMMU translates; undefined when the kernel does not say, which means all */
export function planDma(windows: readonly DmaWindow[], allowed: readonly IovaRange[] | undefined): DmaPlan {
  const maps: { iova: number; hva: number; size: number }[] = [];
  const unreachable: IovaRange[] = [];
  const ranges = allowed === undefined ? [{ start: 0, end: Infinity }] : [...allowed].sort((a, b) => a.start - b.start);
  for (const { gpa, hva, size } of [...windows].sort((a, b) => a.gpa - b.gpa)) {
    const end = gpa + size;
    let at = gpa;
    for (const range of ranges) {
      const from = Math.max(at, range.start);
      const to = Math.min(end, range.end);
      if (to <= from) continue;
      if (from > at) unreachable.push({ start: at, end: from });
      maps.push({ iova: from, hva: hva + (from - gpa), size: to - from });
      at = to;
    }
    if (at < end) unreachable.push({ start: at, end });
  }
  return { maps, unreachable };
}
