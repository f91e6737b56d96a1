// A packed virtqueue (virtio 1.3 §2.8): one ring of descriptors that driver and device both write, and an event suppression structure of each.
//
//   descriptor  address (8), length (4), id (2), flags (2)        event suppression  descriptor offset and wrap counter (2), flags (2)
//
// Available to the device: AVAIL equals the wrap counter, USED does not. Used: both equal the device's wrap counter. Each counter begins at 1 and
// turns over at the end of the ring.
import { Allowance } from './allowance.ts';
import { ChainBuilder } from './descriptors.ts';
import { DESC_BYTES, DESC_INDIRECT, DESC_NEXT, DESC_WRITE, QueueError, RingArea, type Chain, type QueueOptions, type QueuePlace, type Virtqueue } from './virtqueue.ts';

const MAX_SIZE = 32768;
const AVAIL = 0x80;
const USED = 0x8000;

/** Event suppression (§2.8.10): halves, and values of the second. */
const EVENT_PLACE = 0;
const EVENT_FLAGS = 1;
const EVENT_BYTES = 4;
const ENABLE = 0;
const DISABLE = 1;
const AT_DESCRIPTOR = 2;
const WRAP = 0x8000;

export class PackedQueue implements Virtqueue {
  readonly index: number;
  readonly size: number;
  readonly place: QueuePlace;
  readonly #o: QueueOptions;
  readonly #words: Uint32Array;
  readonly #halves: Uint16Array;
  readonly #driver: Uint16Array;
  readonly #device: Uint16Array;
  #next = 0;
  #wrap = true;
  /** Where the next used descriptor goes. */
  #used = 0;
  #usedWrap = true;
  /** Slots that were completed since wantsInterrupt was asked last. */
  #since = 0;
  #quiet = false;
  readonly #allowance: Allowance;

  /** Throws QueueError for a queue that cannot be. */
  constructor(options: QueueOptions) {
    const { ram, index, size, descriptors, driver, device } = options;
    if (size < 1 || size > MAX_SIZE) throw new QueueError(index, `it has ${size} entries`);
    this.index = index;
    this.size = size;
    this.place = { index, size, descriptors, driver, device };
    this.#o = options;
    this.#allowance = new Allowance(index, size, options.turn ?? { began: () => {}, exhausted: () => {} });
    const ring = new RingArea(ram, index, 'descriptor ring', descriptors, size * DESC_BYTES, 16);
    this.#words = ring.words;
    this.#halves = ring.halves;
    this.#driver = new RingArea(ram, index, 'driver event suppression', driver, EVENT_BYTES, 4).halves;
    this.#device = new RingArea(ram, index, 'device event suppression', device, EVENT_BYTES, 4).halves;
  }

  refill(): void {
    this.#allowance.refill();
  }

  take(): Chain | null {
    if (!this.#allowance.some) return null;
    if (!this.#available()) {
      this.#listen();
      if (!this.#available()) return null;
    }
    this.#hush();
    const chain = this.#read();
    this.#allowance.take(chain.slots);
    return chain;
  }

  #available(): boolean {
    const flags = Atomics.load(this.#halves, this.#next * 8 + 7);
    return ((flags & AVAIL) !== 0) === this.#wrap && ((flags & USED) !== 0) !== this.#wrap;
  }

  #listen(): void {
    if (this.#o.eventIndex) {
      Atomics.store(this.#device, EVENT_PLACE, this.#next | (this.#wrap ? WRAP : 0));
      Atomics.store(this.#device, EVENT_FLAGS, AT_DESCRIPTOR);
    } else Atomics.store(this.#device, EVENT_FLAGS, ENABLE);
    this.#quiet = false;
  }

  #hush(): void {
    if (this.#quiet) return;
    this.#quiet = true;
    Atomics.store(this.#device, EVENT_FLAGS, DISABLE);
  }

  #read(): Chain {
    const chain = new ChainBuilder(this.#o.ram, this.index, this.#o.indirect);
    let at = this.#next;
    for (let slots = 1; ; slots++) {
      const low = this.#words[at * 4]!;
      const high = this.#words[at * 4 + 1]!;
      const length = this.#words[at * 4 + 2]!;
      const last = this.#words[at * 4 + 3]!;
      const flags = last >>> 16;
      if ((flags & DESC_INDIRECT) !== 0) {
        if ((flags & DESC_NEXT) !== 0) chain.fail('an indirect descriptor has a next one');
        chain.table(low, high, length, false);
      } else chain.buffer(low, high, length, flags);
      at = at + 1 === this.size ? 0 : at + 1;
      if ((flags & DESC_NEXT) === 0) {
        this.#skip(slots);
        return { readable: chain.readable, writable: chain.writable, id: last & 0xffff, slots };
      }
      if (slots === this.size) chain.fail('a chain is longer than the ring');
    }
  }

  #skip(slots: number): void {
    this.#next += slots;
    if (this.#next < this.size) return;
    this.#next -= this.size;
    this.#wrap = !this.#wrap;
  }

  untake(chain: Chain): void {
    this.#allowance.giveBack(chain.slots);
    this.#next -= chain.slots;
    if (this.#next >= 0) return;
    this.#next += this.size;
    this.#wrap = !this.#wrap;
  }

  complete(chain: Chain, written: number): void {
    Atomics.store(this.#halves, this.#used * 8 + 7, this.#put(chain, written));
    this.#advance(chain.slots);
  }

  completeTogether(chains: readonly Chain[], written: readonly number[]): void {
    if (chains.length === 0) return;
    const first = this.#used;
    const flags = this.#put(chains[0]!, written[0]!);
    this.#advance(chains[0]!.slots);
    for (let i = 1; i < chains.length; i++) this.complete(chains[i]!, written[i]!);
    // The driver looks at the first one, and at the others only when that is used.
    Atomics.store(this.#halves, first * 8 + 7, flags);
  }

  /** All of a used descriptor but its flags. @returns those */
  #put(chain: Chain, written: number): number {
    const at = this.#used;
    this.#words[at * 4 + 2] = written;
    this.#halves[at * 8 + 6] = chain.id;
    return (this.#usedWrap ? AVAIL | USED : 0) | (written > 0 ? DESC_WRITE : 0);
  }

  #advance(slots: number): void {
    this.#allowance.giveBack(slots);
    this.#since += slots;
    this.#used += slots;
    if (this.#used < this.size) return;
    this.#used -= this.size;
    this.#usedWrap = !this.#usedWrap;
  }

  wantsInterrupt(): boolean {
    const since = this.#since;
    this.#since = 0;
    if (since === 0) return false;
    const flags = Atomics.load(this.#driver, EVENT_FLAGS) & 3;
    if (flags === DISABLE) return false;
    if (flags !== AT_DESCRIPTOR || !this.#o.eventIndex) return true;
    const place = Atomics.load(this.#driver, EVENT_PLACE);
    // The place that the driver waits for, on a line on which the next used descriptor is #used.
    const event = (place & ~WRAP) - (((place & WRAP) !== 0) === this.#usedWrap ? 0 : this.size);
    return event < this.#used && event >= this.#used - since;
  }
}
