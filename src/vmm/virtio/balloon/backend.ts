// The balloon's work: pages that the guest gives go back to the host, the target stands in the configuration, statistics are asked for while somebody
// watches. Beside a device that is passed through nothing is given back (drop-gate.ts): then the guest is asked for nothing, and what it still gives or
// reports stays where it is.
import { VitrineError } from '../../../shared/errors.ts';
import type { GuestMemoryStats } from '../../../shared/protocol/machine.ts';
import type { Backend, BackendHost, DriverSession } from '../backend.ts';
import type { Timer } from '../../io/event-loop.ts';
import type { Chain, Virtqueue } from '../queue/virtqueue.ts';
import type { DropGate } from './drop-gate.ts';
import { dropBuffers, dropRuns, runsOf } from './drop.ts';
import { ACTUAL, DEFLATE, F_PAGE_POISON, F_REPORTING, F_STATS_VQ, INFLATE, NUM_PAGES, PAGE, POISON, REPORTING, STATS } from './model.ts';
import { readStatistics, STATISTICS_BYTES } from './statistics.ts';

/** What the control thread says. */
export type BalloonMail =
  /** What the guest shall keep of its memory, bytes. */
  | { kind: 'balloon'; bytes: number }
  /** Somebody looks at the statistics, or nobody any more. */
  | { kind: 'balloon-watch'; on: boolean }
  /** The gate was opened or closed. */
  | { kind: 'balloon-gate' };

const ASK_MS = 2000;
/** A guest that changes its mind a million times a second is told of no more often than this. */
const TELL_MS = 100;
/** Of page numbers in one request. Linux has 256 of them. */
const MOST_NUMBERS = 2 ** 20;
/** The least that a guest keeps: an unhappy one is better than one that cannot say so. */
export const LEAST = 16 * 2 ** 20;

export class BalloonBackend implements Backend {
  readonly #host: BackendHost;
  readonly #gate: DropGate;
  /** Guest RAM, bytes. */
  readonly #memory: number;
  #wanted = 0;
  #driver: DriverSession | undefined;
  #running = false;
  /** The statistics' buffer, while the guest does not write it. */
  #held: { readonly queue: Virtqueue; readonly chain: Chain } | null = null;
  #asking: Timer | null = null;
  #watched = false;
  #telling: Timer | null = null;
  #stats: GuestMemoryStats | undefined;
  #closed: boolean;
  #bad = false;

  constructor(host: BackendHost, gate: DropGate) {
    this.#host = host;
    this.#gate = gate;
    this.#memory = host.ram.size;
    this.#closed = gate.closed;
    host.offer(F_REPORTING, !gate.closed);
    if (gate.closed) host.log('the balloon is off: a device is passed through, and it needs all the guest\'s memory where it is');
    this.#tell();
  }

  // The driver.

  start(driver: DriverSession): void {
    this.#driver = driver;
    this.#running = true;
  }

  kicked(index: number): void {
    const queue = this.#driver!.queue(index)!;
    if (index === STATS && this.#driver!.has(F_STATS_VQ)) return this.#takeStatistics(queue);
    if (index === INFLATE) this.#each(queue, (chain) => this.#inflate(chain));
    else if (index === DEFLATE) this.#each(queue, () => {});
    else if (index === this.#reporting()) this.#each(queue, (chain) => this.#reported(chain));
  }

  #each(queue: Virtqueue, act: (chain: Chain) => void): void {
    for (let chain = queue.take(); chain !== null; chain = queue.take()) {
      act(chain);
      queue.complete(chain, 0);
    }
    this.#driver!.completed(queue);
  }

  /** The number of the reporting queue, as the specification has it or as older Linux does (model.ts); -1 without one. */
  #reporting(): number {
    if (!this.#driver!.has(F_REPORTING)) return -1;
    if (this.#driver!.queue(REPORTING) !== undefined) return REPORTING;
    return this.#driver!.has(F_STATS_VQ) ? STATS + 1 : STATS;
  }

  #inflate({ readable }: Chain): void {
    if (readable.bytes > MOST_NUMBERS) return this.#host.broken(`the driver names ${readable.bytes / 4} pages at once`);
    const numbers = new Uint8Array(readable.bytes - (readable.bytes % 4));
    readable.read(0, numbers);
    const pages = Float64Array.from(new Uint32Array(numbers.buffer), (number) => number * PAGE);
    const runs = runsOf(this.#host.ram, pages);
    const good = runs.reduce((sum, [, bytes]) => sum + bytes / PAGE, 0);
    if (good < pages.length && !this.#bad) {
      this.#bad = true;
      this.#host.log('the driver names pages that are no memory, or names some twice; they are passed over');
    }
    this.#gate.pass(() => dropRuns(this.#host.ram, runs));
  }

  #reported({ writable }: Chain): void {
    // A guest that fills free pages with a value of its own wants to find it there again (§5.5.6.7).
    if (this.#driver!.has(F_PAGE_POISON) && this.#host.config.view.getUint32(POISON, true) !== 0) return;
    this.#gate.pass(() => dropBuffers(writable));
  }

  quiesce(done: () => void): void {
    this.#running = false;
    done();
  }

  resume(): void {
    this.#running = true;
    if (this.#held !== null && this.#held.queue !== this.#driver!.queue(STATS)) this.#held = null;
  }

  stop(): void {
    this.#driver = undefined;
    this.#held = null;
    this.#stats = undefined;
    this.#bad = false;
    this.#host.config.view.setUint32(ACTUAL, 0, true);
    this.#host.config.view.setUint32(POISON, 0, true);
    this.#tellSoon();
  }

  configWritten(): void {
    this.#tellSoon();
  }

  dispose(): void {
    this.#asking?.cancel();
    this.#telling?.cancel();
  }

  // Statistics.

  #takeStatistics(queue: Virtqueue): void {
    for (let chain = queue.take(); chain !== null; chain = queue.take()) {
      // There is one buffer; a driver that gives more gets the others back.
      if (this.#held !== null) {
        queue.complete(this.#held.chain, 0);
        this.#driver!.completed(queue);
      }
      this.#held = { queue, chain };
      const bytes = new Uint8Array(Math.min(STATISTICS_BYTES, chain.readable.bytes));
      chain.readable.read(0, bytes);
      this.#stats = readStatistics(bytes) ?? this.#stats;
      this.#tellSoon();
    }
  }

  /** Asks by giving the buffer back. */
  #ask(): void {
    if (this.#running && this.#held !== null) {
      const { queue, chain } = this.#held;
      this.#held = null;
      queue.complete(chain, 0);
      this.#driver!.completed(queue);
    }
    this.#asking = this.#host.loop.after(ASK_MS, () => this.#ask());
  }

  // The control thread.

  mail(message: unknown): unknown {
    const mail = message as BalloonMail;
    if (mail.kind === 'balloon') this.#aim(mail.bytes);
    else if (mail.kind === 'balloon-gate') this.#gateMoved();
    else if (mail.on !== this.#watched) {
      this.#watched = mail.on;
      this.#asking?.cancel();
      this.#asking = null;
      if (mail.on) this.#ask();
    }
    return undefined;
  }

  #aim(bytes: number): void {
    const problem = (why: string, remedy: string, code: string): VitrineError => new VitrineError({ attempted: 'change the guest\'s memory', on: this.#host.label, why, remedy, code });
    if (this.#gate.closed) throw problem('a device is passed through, and it needs all the guest\'s memory where it is.', 'Take the device out of the machine first.', 'balloon-off');
    if (bytes < LEAST || bytes > this.#memory) {
      throw problem(`the guest can have from ${LEAST / 2 ** 20} to ${this.#memory / 2 ** 20} MiB.`, 'More than that needs another size of the machine, which it gets when it is started.', 'bad-size');
    }
    this.#wanted = Math.floor((this.#memory - bytes) / PAGE);
    this.#apply();
  }

  #gateMoved(): void {
    const { closed } = this.#gate;
    if (closed === this.#closed) return;
    this.#closed = closed;
    this.#host.log(closed
      ? 'the balloon is off from now on, and the guest has all its memory: a device is passed through, and it needs that memory where it is'
      : 'the balloon works again: no device is passed through any more');
    this.#apply();
  }

  #apply(): void {
    const pages = this.#closed ? 0 : this.#wanted;
    if (this.#host.config.view.getUint32(NUM_PAGES, true) !== pages) this.#host.config.update((view) => view.setUint32(NUM_PAGES, pages, true));
    this.#tellSoon();
  }

  #tellSoon(): void {
    this.#telling ??= this.#host.loop.after(TELL_MS, () => {
      this.#telling = null;
      this.#tell();
    });
  }

  #tell(): void {
    const { view } = this.#host.config;
    const given = (at: number): number => Math.min(view.getUint32(at, true) * PAGE, this.#memory);
    this.#host.tell({
      kind: 'balloon', target: this.#memory - given(NUM_PAGES), actual: this.#memory - given(ACTUAL), off: this.#closed,
      ...(this.#stats === undefined ? {} : { guest: this.#stats }),
    });
  }
}
