// The MSI-X table and pending bits that the guest has in place of the device's (PCI 3.0 §6.8.2): entries are kept in the arena, and what a
// vector sends goes to the interrupt wiring. The device's own table is the host's; VFIO fills it.
// Only whole dwords write an entry, as the specification asks of software; a quadword comes as two of them from the bus.
import { allOnes, type Handler, type Width } from '../bus/handler.ts';
import type { Arena } from '../sync/arena.ts';
import type { Message } from './interrupts.ts';

export const MSIX_ENTRY_BYTES = 16;
const ENTRY_DWORDS = 4; // address low, address high, data, control
const ENTRY_MASKED = 0x1;

export interface MsixTableOptions {
  readonly arena: Arena;
  readonly label: string;
  readonly vectors: number;
  /** The message or the masking of this vector changed; device mutex held. */
  readonly changed: (vector: number) => void;
  /** Whether an interrupt of this vector waits here, besides what the device itself says. */
  readonly pending: (vector: number) => boolean;
  /** The device's own pending bits of vectors `dword` * 32 to `dword` * 32 + 31. */
  readonly devicePending: (dword: number) => number;
}

export class MsixTable {
  /** Offsets count from the table's start. */
  readonly table: Handler;
  readonly pba: Handler;
  readonly bytes: number;
  readonly pbaBytes: number;
  readonly #entries: Uint32Array;
  readonly #vectors: number;

  constructor(options: MsixTableOptions) {
    const { vectors, changed, pending, devicePending } = options;
    this.#vectors = vectors;
    this.bytes = vectors * MSIX_ENTRY_BYTES;
    this.pbaBytes = Math.ceil(vectors / 64) * 8;
    const entries = (this.#entries = options.arena.uint32(`vfio.msix.${options.label}`, vectors * ENTRY_DWORDS));
    this.table = {
      read: (offset, width) => (offset + width > this.bytes ? allOnes(width) : part(entries[offset >>> 2]!, offset, width)),
      write: (offset, width, value) => {
        if (width !== 4 || offset % 4 !== 0 || offset >= this.bytes) return;
        const index = offset / 4;
        const field = index % ENTRY_DWORDS;
        const after = field === 3 ? value & ENTRY_MASKED : field === 0 ? (value & ~3) >>> 0 : value;
        if (entries[index] === after) return;
        entries[index] = after;
        const vector = Math.floor(index / ENTRY_DWORDS);
        // While it is masked the new message concerns nobody.
        if (field === 3 || (entries[vector * ENTRY_DWORDS + 3]! & ENTRY_MASKED) === 0) changed(vector);
      },
    };
    this.pba = {
      read: (offset, width) => {
        if (offset + width > this.pbaBytes) return allOnes(width);
        const first = (offset >>> 2) * 32;
        let bits = devicePending(offset >>> 2);
        for (let vector = first; vector < Math.min(first + 32, vectors); vector++) if (pending(vector)) bits |= 1 << (vector & 31);
        return part(bits >>> 0, offset, width);
      },
      write: () => {},
    };
  }

  /** Every vector masked. */
  reset(): void {
    this.#entries.fill(0);
    for (let vector = 0; vector < this.#vectors; vector++) this.#entries[vector * ENTRY_DWORDS + 3] = ENTRY_MASKED;
  }

  /** What the vector sends, or undefined while its entry is masked. */
  message(vector: number): Message | undefined {
    const at = vector * ENTRY_DWORDS;
    if (vector >= this.#vectors || (this.#entries[at + 3]! & ENTRY_MASKED) !== 0) return undefined;
    return { address: this.#entries[at + 1]! * 2 ** 32 + this.#entries[at]!, data: this.#entries[at + 2]! };
  }
}

function part(dword: number, offset: number, width: Width): number {
  if ((offset & 3) + width > 4) return allOnes(width);
  const value = dword >>> (8 * (offset & 3));
  return width === 4 ? value >>> 0 : width === 2 ? value & 0xffff : value & 0xff;
}
