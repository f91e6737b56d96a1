// A split virtqueue (virtio 1.3 §2.7): descriptor table, available ring and used ring.
//
//   descriptor  address (8), length (4), flags (2), next (2)
//   available   flags (2), idx (2), ring of heads (2 each), used_event (2)
//   used        flags (2), idx (2), ring of { id (4), length (4) }, avail_event (2)
//
// Each idx counts modulo 65536. The order of our store of an index or event and our next look at the driver's is what Atomics give: one order for all.
import { Allowance } from './allowance.ts';
import { ChainBuilder } from './descriptors.ts';
import { DESC_BYTES, DESC_INDIRECT, DESC_NEXT, QueueError, RingArea, type Chain, type QueueOptions, type QueuePlace, type Virtqueue } from './virtqueue.ts';

const MAX_SIZE = 32768;
const FLAGS = 0;
const INDEX = 1;
const RING = 2;
const NO_NOTIFY = 1;
const NO_INTERRUPT = 1;

export class SplitQueue implements Virtqueue {
  readonly index: number;
  readonly size: number;
  readonly place: QueuePlace;
  readonly #o: QueueOptions;
  readonly #table: Uint32Array;
  readonly #available: Uint16Array;
  readonly #used: Uint16Array;
  readonly #usedWords: Uint32Array;
  /** The next entry of the available ring. */
  #next = 0;
  /** idx of the used ring, as it is and when an interrupt was decided on last. */
  #completed = 0;
  #signalled = 0;
  #quiet = false;
  readonly #allowance: Allowance;

  /** Throws QueueError for a queue that cannot be. */
  constructor(options: QueueOptions) {
    const { ram, index, size, descriptors, driver, device } = options;
    if (size < 1 || size > MAX_SIZE || (size & (size - 1)) !== 0) throw new QueueError(index, `it has ${size} entries`);
    this.index = index;
    this.size = size;
    this.place = { index, size, descriptors, driver, device };
    this.#o = options;
    this.#allowance = new Allowance(index, size, options.turn ?? { began: () => {}, exhausted: () => {} });
    this.#table = new RingArea(ram, index, 'descriptor table', descriptors, size * DESC_BYTES, 16).words;
    this.#available = new RingArea(ram, index, 'available ring', driver, 6 + 2 * size, 2).halves;
    const used = new RingArea(ram, index, 'used ring', device, 6 + 8 * size, 4);
    this.#used = used.halves;
    this.#usedWords = used.words;
  }

  refill(): void {
    this.#allowance.refill();
  }

  take(): Chain | null {
    if (!this.#allowance.some) return null;
    let waiting = this.#waiting();
    if (waiting === 0) {
      this.#listen();
      // What came while the driver was still asked not to kick.
      waiting = this.#waiting();
      if (waiting === 0) return null;
    }
    if (waiting > this.size) throw new QueueError(this.index, `its available index is ${waiting} ahead, with ${this.size} entries`);
    this.#hush();
    const head = this.#available[RING + (this.#next & (this.size - 1))]!;
    const chain = this.#read(head);
    this.#next = (this.#next + 1) & 0xffff;
    this.#allowance.take(chain.slots);
    return chain;
  }

  #waiting(): number {
    return (Atomics.load(this.#available, INDEX) - this.#next) & 0xffff;
  }

  /** Asks for a kick at the next chain. */
  #listen(): void {
    if (this.#o.eventIndex) Atomics.store(this.#used, RING + 4 * this.size, this.#next);
    else if (this.#quiet) Atomics.store(this.#used, FLAGS, 0);
    this.#quiet = false;
  }

  #hush(): void {
    if (this.#quiet) return;
    this.#quiet = true;
    if (!this.#o.eventIndex) Atomics.store(this.#used, FLAGS, NO_NOTIFY);
  }

  #read(head: number): Chain {
    const chain = new ChainBuilder(this.#o.ram, this.index, this.#o.indirect);
    let at = head;
    for (let seen = 0; ; seen++) {
      if (at >= this.size) chain.fail(`it has no descriptor ${at}`);
      if (seen === this.size) chain.fail('a chain runs in a circle');
      const low = this.#table[at * 4]!;
      const high = this.#table[at * 4 + 1]!;
      const length = this.#table[at * 4 + 2]!;
      const last = this.#table[at * 4 + 3]!;
      const flags = last & 0xffff;
      if ((flags & DESC_INDIRECT) !== 0) {
        if ((flags & DESC_NEXT) !== 0) chain.fail('an indirect descriptor has a next one');
        chain.table(low, high, length, true);
      } else chain.buffer(low, high, length, flags);
      if ((flags & DESC_NEXT) === 0) break;
      at = last >>> 16;
    }
    return { readable: chain.readable, writable: chain.writable, id: head, slots: 1 };
  }

  untake(chain: Chain): void {
    this.#allowance.giveBack(chain.slots);
    this.#next = (this.#next - 1) & 0xffff;
  }

  complete(chain: Chain, written: number): void {
    this.#put(chain, written);
    Atomics.store(this.#used, INDEX, this.#completed);
  }

  completeTogether(chains: readonly Chain[], written: readonly number[]): void {
    for (let i = 0; i < chains.length; i++) this.#put(chains[i]!, written[i]!);
    Atomics.store(this.#used, INDEX, this.#completed);
  }

  #put(chain: Chain, written: number): void {
    this.#allowance.giveBack(chain.slots);
    const at = 1 + 2 * (this.#completed & (this.size - 1));
    this.#usedWords[at] = chain.id;
    this.#usedWords[at + 1] = written;
    this.#completed = (this.#completed + 1) & 0xffff;
  }

  wantsInterrupt(): boolean {
    const before = this.#signalled;
    const now = (this.#signalled = this.#completed);
    if (now === before) return false;
    if (!this.#o.eventIndex) return (Atomics.load(this.#available, FLAGS) & NO_INTERRUPT) === 0;
    const event = Atomics.load(this.#available, RING + this.size);
    return ((now - event - 1) & 0xffff) < ((now - before) & 0xffff);
  }
}
