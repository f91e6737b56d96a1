// KVM's dirty log of the video memory: one memslot, or several while other BARs cover parts of it. Which they are is asked of the topology
// again whenever the bus was published anew. Pages without a slot are marked by the adapter's own handler.
//
// It is read under the topology lock. A slot that moved or shrank between asking and reading would say of pages that they are others, and one
// that grew would write more than there is room for.
import type { Bus } from '../bus/bus.ts';
import { VRAM_PAGES } from '../display/adapter.ts';
import type { DirtyLog } from '../display/screen-source.ts';
import type { DisplayAdapter } from '../display/adapter.ts';
import { allocateBuffer } from '../display/rows.ts';
import type { Topology } from '../pci/topology.ts';
import type { Vm } from '../kvm/vm.ts';
import type { KvmSlots } from './kvm-slots.ts';

const PAGE = 4096;
const FRAMEBUFFER_BAR = 0;
const BITMAP_BYTES = VRAM_PAGES / 8;

interface Part {
  readonly slot: number;
  /** First page of video memory, and how many. */
  readonly page: number;
  readonly pages: number;
}

export interface VramLogOptions {
  readonly vm: Pick<Vm, 'dirtyLog'>;
  readonly slots: Pick<KvmSlots, 'slot'>;
  readonly topology: Topology;
  readonly bus: Bus;
  readonly display: DisplayAdapter;
}

export class VramLog implements DirtyLog {
  readonly #o: VramLogOptions;
  #version = -1;
  #parts: Part[] = [];
  /** What KVM says of one slot, from the slot's first page on. */
  readonly #log = allocateBuffer(BITMAP_BYTES);

  constructor(options: VramLogOptions) {
    this.#o = options;
  }

  fetchAndClear(bitmap: Uint8Array): boolean {
    return this.#o.topology.run(() => {
      this.#look();
      bitmap.fill(0);
      for (const part of this.#parts) this.#fetch(part, bitmap);
      return this.#parts.length > 0;
    });
  }

  #look(): void {
    const { bus, topology, display, slots } = this.#o;
    if (bus.version === this.#version) return;
    this.#version = bus.version;
    this.#parts = topology.slotsOf(display, FRAMEBUFFER_BAR).map(({ key, offset, size }) => ({ slot: slots.slot(key), page: offset / PAGE, pages: size / PAGE }));
  }

  #fetch({ slot, page, pages }: Part, bitmap: Uint8Array): void {
    const { bytes, address } = this.#log;
    if (!this.#o.vm.dirtyLog(slot, address)) return;
    if (page % 8 === 0) {
      const whole = pages >> 3;
      for (let byte = 0; byte < whole; byte++) bitmap[(page >> 3) + byte]! |= bytes[byte]!;
    }
    for (let i = page % 8 === 0 ? pages & ~7 : 0; i < pages; i++) {
      if ((bytes[i >> 3]! & (1 << (i & 7))) !== 0) bitmap[(page + i) >> 3]! |= 1 << ((page + i) & 7);
    }
  }
}
