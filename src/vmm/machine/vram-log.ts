// KVM's dirty log of the video memory: one memslot, or several while other BARs cover parts of it. Which they are is asked of the topology
// again whenever the bus was published anew. Pages without a slot are marked by the adapter's own handler.
import koffi from 'koffi';
import type { Bus } from '../bus/bus.ts';
import type { DirtyLog } from '../display/screen-source.ts';
import type { DisplayAdapter } from '../display/adapter.ts';
import type { Topology } from '../pci/topology.ts';
import type { Vm } from '../kvm/vm.ts';
import type { KvmSlots } from './kvm-slots.ts';

const PAGE = 4096;
const FRAMEBUFFER_BAR = 0;

interface Part {
  readonly slot: number;
  /** First page of video memory, and how many. */
  readonly page: number;
  readonly pages: number;
}

export class VramLog implements DirtyLog {
  readonly #vm: Vm;
  readonly #slots: KvmSlots;
  readonly #topology: Topology;
  readonly #bus: Bus;
  readonly #display: DisplayAdapter;
  #version = -1;
  #parts: Part[] = [];
  /** For a slot that does not begin at the first page. */
  #scratch = new Uint8Array(0);

  constructor(options: { vm: Vm; slots: KvmSlots; topology: Topology; bus: Bus; display: DisplayAdapter }) {
    this.#vm = options.vm;
    this.#slots = options.slots;
    this.#topology = options.topology;
    this.#bus = options.bus;
    this.#display = options.display;
  }

  fetchAndClear(bitmap: Uint8Array<ArrayBuffer>): boolean {
    const version = this.#bus.version;
    if (version !== this.#version) {
      this.#parts = this.#topology.run(() =>
        this.#topology.slotsOf(this.#display, FRAMEBUFFER_BAR).map(({ key, offset, size }) => ({ slot: this.#slots.slot(key), page: offset / PAGE, pages: size / PAGE })),
      );
      this.#version = version;
    }
    const [first] = this.#parts;
    if (this.#parts.length === 1 && first!.page === 0) return this.#vm.dirtyLog(first!.slot, Number(koffi.address(bitmap)));
    bitmap.fill(0);
    for (const part of this.#parts) this.#fetchPart(part, bitmap);
    return this.#parts.length > 0;
  }

  #fetchPart({ slot, page, pages }: Part, bitmap: Uint8Array): void {
    const bytes = Math.ceil(pages / 64) * 8;
    if (this.#scratch.length < bytes) this.#scratch = new Uint8Array(bytes);
    this.#scratch.fill(0, 0, bytes);
    if (!this.#vm.dirtyLog(slot, Number(koffi.address(this.#scratch)))) return;
    for (let i = 0; i < pages; i++) {
      if ((this.#scratch[i >> 3]! & (1 << (i & 7))) !== 0) bitmap[(page + i) >> 3]! |= 1 << ((page + i) & 7);
    }
  }
}
