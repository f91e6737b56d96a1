// MSI-X (PCI 3.0 §6.8.2): the capability, and the vector table and pending bits as handlers for the device to place in a BAR of its own. The
// table is in the arena. Left out: messages from other processes (irqfds), which a device adds through `onVector`.
import { allOnes } from '../bus/handler.ts';
import type { Handler, Width } from '../bus/handler.ts';
import type { Arena } from '../sync/arena.ts';
import type { ConfigImage } from './config-image.ts';
import type { Capability, PciFunction } from './function.ts';
import type { MsiSink } from './device.ts';

const ID_MSIX = 0x11;
const CONTROL = 2;
const TABLE = 4;
const PBA = 8;
const ENABLE = 0x8000;
const FUNCTION_MASK = 0x4000;

export const MSIX_ENTRY_BYTES = 16;
const ENTRY_DWORDS = 4; // address low, address high, data, control
const ENTRY_MASKED = 0x1;

export interface MsixPlace {
  readonly vectors: number;
  /** BAR and offset (a multiple of 8) of the table. */
  readonly table: { bar: number; offset: number };
  readonly pba: { bar: number; offset: number };
  /** The message or the masking of `vector` may have changed: a device with irqfds sets their routes anew. Device mutex held. */
  readonly onVector?: (vector: number) => void;
}

export class MsixCapability implements Capability {
  readonly id = ID_MSIX;
  readonly bytes = 12;
  readonly vectors: number;
  /** Offsets count from the table's start. */
  readonly table: Handler;
  readonly pba: Handler;
  #place: MsixPlace;
  #sink: MsiSink;
  #entries: Uint32Array;
  #pending: Uint32Array;
  #config: PciFunction | undefined;
  #offset = 0;

  /** @param label the device's: names the slice. */
  constructor(arena: Arena, label: string, sink: MsiSink, place: MsixPlace) {
    this.vectors = place.vectors;
    this.#place = place;
    this.#sink = sink;
    this.#entries = arena.uint32(`pci.msix.${label}`, place.vectors * ENTRY_DWORDS);
    this.#pending = arena.uint32(`pci.msix.pending.${label}`, Math.ceil(place.vectors / 64) * 2);
    const limit = place.vectors * MSIX_ENTRY_BYTES;
    this.table = {
      read: (offset, width) => (offset + width > limit ? 0 : readDwords(this.#entries, offset, width)),
      write: (offset, width, value) => {
        // Only whole dwords (and quadwords as two): PCI 3.0 §6.8.2.
        if (width === 4 && offset % 4 === 0 && offset < limit) this.#writeEntry(offset / 4, value);
      },
    };
    this.pba = { read: (offset, width) => (offset + width > this.#pending.length * 4 ? 0 : readDwords(this.#pending, offset, width)), write: () => undefined };
  }

  install(image: ConfigImage, offset: number, config: PciFunction): void {
    this.#config = config;
    this.#offset = offset;
    image.set(offset + CONTROL, 2, this.vectors - 1).allow(offset + CONTROL, 2, ENABLE | FUNCTION_MASK);
    image.set(offset + TABLE, 4, this.#place.table.offset | this.#place.table.bar).set(offset + PBA, 4, this.#place.pba.offset | this.#place.pba.bar);
  }

  /** Every vector masked, nothing pending: the device's reset() calls this. */
  reset(): void {
    this.#entries.fill(0);
    this.#pending.fill(0);
    for (let vector = 0; vector < this.vectors; vector++) this.#entries[vector * ENTRY_DWORDS + 3] = ENTRY_MASKED;
  }

  get enabled(): boolean {
    return (this.#config!.read(this.#offset + CONTROL, 2) & ENABLE) !== 0;
  }

  /** The vector's message, or undefined while it may not be sent. */
  message(vector: number): { address: number; data: number } | undefined {
    const control = this.#config!.read(this.#offset + CONTROL, 2);
    const at = vector * ENTRY_DWORDS;
    if ((control & (ENABLE | FUNCTION_MASK)) !== ENABLE || (this.#entries[at + 3]! & ENTRY_MASKED) !== 0) return undefined;
    return { address: this.#entries[at + 1]! * 2 ** 32 + this.#entries[at]!, data: this.#entries[at + 2]! };
  }

  /** Sends `vector` with the device's mutex held, or notes it pending while masked. @returns false if MSI-X is off. */
  send(vector: number): boolean {
    if (!this.enabled) return false;
    const message = this.message(vector);
    const word = vector >>> 5;
    if (message === undefined) this.#pending[word] = this.#pending[word]! | (1 << (vector & 31));
    else if (this.#config!.busMaster) this.#sink.send(message.address, message.data);
    return true;
  }

  #writeEntry(index: number, value: number): void {
    const before = this.#entries[index]!;
    this.#entries[index] = index % ENTRY_DWORDS === 3 ? value & ENTRY_MASKED : index % ENTRY_DWORDS === 0 ? value & ~3 : value;
    if (this.#entries[index] === before) return;
    const vector = Math.floor(index / ENTRY_DWORDS);
    this.#place.onVector?.(vector);
    this.#flush(vector);
  }

  #flush(vector: number): void {
    const word = vector >>> 5;
    const bit = 1 << (vector & 31);
    if ((this.#pending[word]! & bit) === 0 || this.message(vector) === undefined) return;
    this.#pending[word] = this.#pending[word]! & ~bit;
    this.send(vector);
  }

  changed(): void {
    for (let vector = 0; vector < this.vectors; vector++) {
      this.#place.onVector?.(vector);
      this.#flush(vector);
    }
  }
}

function readDwords(from: Uint32Array, offset: number, width: Width): number {
  if ((offset & 3) + width > 4) return allOnes(width);
  const value = from[offset >>> 2]! >>> (8 * (offset & 3));
  return width === 4 ? value : width === 2 ? value & 0xffff : value & 0xff;
}
