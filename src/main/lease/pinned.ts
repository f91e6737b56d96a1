// How much memory a machine with devices of the host pins: said in findings and plans, and asked of the helper when the machine starts.
const MiB = 2 ** 20;
/** Pinned beside the guest's RAM: its firmware, the emulated screen, page tables of the IOMMU, the process's own. Bytes. */
export const PINNED_BESIDE = 128 * MiB;

/** Bytes that a machine's process has to be allowed to lock. */
export function lockedBytes({ memory }: { memory: number }): number {
  return memory + PINNED_BESIDE;
}
