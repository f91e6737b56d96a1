// Interrupts of a passed-through device: INTx, MSI or MSI-X, one of them at a time, each from VFIO's eventfd straight into KVM's irqfd.
//
//   host's interrupt → VFIO signals an eventfd → KVM's irqfd injects what the GSI's route says: the pin, or the guest's own message
//
// A vector is wired when the guest first unmasks it. Masked again, it is cut from KVM and stays with VFIO: what arrives meanwhile is kept in the
// eventfd's counter, which is the pending bit, and KVM injects it when the vector is unmasked. MSI-X vectors cannot be added later on kernels
// that say NORESIZE, so there the whole table is set up at enable, entries without eventfd staying silent.
// INTx is level-triggered: VFIO masks it as it signals; KVM signals the second eventfd at the guest's end of interrupt, and VFIO unmasks.
// State is in the arena. The device's mutex is held around every method; its users are the table's handler and configuration writes.
import { close, eventfd, readable, takeEventfd } from '../kvm/libc.ts';
import type { Arena } from '../sync/arena.ts';
import { PoisonedError } from '../sync/mutex.ts';
import { irqError, type HostFunction } from './host-function.ts';
import * as V from './ioctls.ts';

/** KVM's side. */
export interface InterruptWiring {
  /** KVM_IRQFD. Throws SystemError. */
  irqfd(eventfd: number, gsi: number, options?: { resample?: number; remove?: boolean }): void;
  readonly routes: {
    allocate(address: number, data: number): number;
    update(gsi: number, address: number, data: number): void;
    free(...gsis: readonly number[]): void;
    takePin(pirq: number): number;
    releasePin(pirq: number): void;
    /** In PIC mode PIRQ 0 to 3 arrives at this ISA interrupt; 0 for none. */
    routePin(pirq: number, isa: number): void;
  };
}

export interface Message {
  readonly address: number;
  readonly data: number;
}

/** What vector `n` sends, or undefined while it is masked. */
export type Messages = (vector: number) => Message | undefined;

export const MODE_NONE = 0;
export const MODE_INTX = 1;
export const MODE_MSI = 2;
export const MODE_MSIX = 3;
export type Mode = typeof MODE_NONE | typeof MODE_INTX | typeof MODE_MSI | typeof MODE_MSIX;

const INDEX = { [MODE_INTX]: V.VFIO_PCI_INTX_IRQ_INDEX, [MODE_MSI]: V.VFIO_PCI_MSI_IRQ_INDEX, [MODE_MSIX]: V.VFIO_PCI_MSIX_IRQ_INDEX } as const;
const NAMES = { [MODE_INTX]: 'its interrupt pin', [MODE_MSI]: 'MSI', [MODE_MSIX]: 'MSI-X' } as const;

const MSI_VECTORS = 32;

// words of the state
const STATE_MODE = 0;
/** Vectors that the guest has in this mode, and how many the host gave; more than are wired where vectors can grow. */
const STATE_WANTED = 1;
const STATE_GIVEN = 2;
const STATE_WORDS = 3;

// Words of a vector. Vector 0's eventfd is the pin's too; the resampling one comes after all vectors.
const FD = 0; // 0 for none
const FLAGS = 1;
const GSI = 2;
const ADDRESS_LOW = 3;
const ADDRESS_HIGH = 4;
const DATA = 5;
const VECTOR_WORDS = 6;
const WITH_VFIO = 1;
const WITH_KVM = 2;

export interface InterruptOptions {
  readonly arena: Arena;
  /** Names the slices. */
  readonly label: string;
  readonly host: HostFunction;
  readonly wiring: InterruptWiring;
  /** PIRQ 0 to 3 of the pin, if it has one. */
  readonly pirq?: number;
  readonly log: (text: string) => void;
  /** Makes an eventfd; for tests. */
  readonly newEventfd?: () => number;
}

export class Interrupts {
  readonly #state: Int32Array;
  readonly #vectors: Uint32Array;
  readonly #resample: Int32Array;
  readonly #most: number;
  readonly #o: InterruptOptions;
  readonly #newEventfd: () => number;

  constructor(options: InterruptOptions) {
    this.#o = options;
    this.#newEventfd = options.newEventfd ?? eventfd;
    this.#most = Math.max(MSI_VECTORS, this.#count(MODE_MSIX));
    this.#state = options.arena.int32(`vfio.irq.${options.label}`, STATE_WORDS);
    this.#vectors = options.arena.uint32(`vfio.vectors.${options.label}`, this.#most * VECTOR_WORDS);
    this.#resample = options.arena.int32(`vfio.resample.${options.label}`, 1);
  }

  get mode(): Mode {
    return this.#state[STATE_MODE] as Mode;
  }

  /** How many vectors the guest has, in MSI and MSI-X mode. */
  get wanted(): number {
    return this.#state[STATE_WANTED]!;
  }

  /** All eventfds that were made. */
  get #descriptors(): number[] {
    const fds = Array.from({ length: this.#most }, (_, vector) => this.#vectors[vector * VECTOR_WORDS + FD]!);
    return [...fds, this.#resample[0]!].filter((fd) => fd !== 0);
  }

  /** Closes the eventfds; everything must be off. */
  close(): void {
    for (const fd of this.#descriptors) close(fd);
    this.#vectors.fill(0);
    this.#resample[0] = 0;
  }

  #count(mode: Exclude<Mode, typeof MODE_NONE>): number {
    return this.#o.host.irqs[INDEX[mode]]?.count ?? 0;
  }

  /** Everything off. */
  disable(): void {
    const { host, wiring } = this.#o;
    const mode = this.mode;
    if (mode === MODE_NONE) return;
    if (mode === MODE_INTX) this.#cutPin();
    else {
      const gsis: number[] = [];
      for (let vector = 0; vector < this.#most; vector++) {
        const at = vector * VECTOR_WORDS;
        if (this.#vectors[at + GSI] === 0 && this.#vectors[at + FLAGS] === 0) continue;
        this.#cutFromKvm(vector);
        if (this.#vectors[at + GSI] !== 0) gsis.push(this.#vectors[at + GSI]!);
        this.#vectors.fill(0, at + FLAGS, at + VECTOR_WORDS);
      }
      wiring.routes.free(...gsis);
    }
    host.setIrqs({ index: INDEX[mode], action: V.VFIO_IRQ_SET_ACTION_TRIGGER, start: 0, fds: null, count: 0 });
    // What arrived too late belongs to no one.
    for (const fd of this.#descriptors) takeEventfd(fd);
    this.#state.fill(0);
  }

  /** The interrupt pin, if the device has one. Everything else must be off. */
  enablePin(): void {
    const { host, wiring, pirq } = this.#o;
    if (pirq === undefined || this.#count(MODE_INTX) === 0) return;
    const trigger = this.#fd(0);
    if (this.#resample[0] === 0) this.#resample[0] = this.#newEventfd();
    const resample = this.#resample[0]!;
    const index = V.VFIO_PCI_INTX_IRQ_INDEX;
    const result = host.setIrqs({ index, action: V.VFIO_IRQ_SET_ACTION_TRIGGER, start: 0, fds: [trigger] });
    if (result < 0) {
      this.#o.log(`the host cannot give it its interrupt pin (${irqError(result)}); MSI and MSI-X may still work`);
      return;
    }
    const unmask = host.setIrqs({ index, action: V.VFIO_IRQ_SET_ACTION_UNMASK, start: 0, fds: [resample] });
    if (unmask < 0) this.#o.log(`the host cannot unmask its interrupt pin at the guest's end of interrupt (${irqError(unmask)})`);
    // An interrupt that came first waits in the eventfd, and KVM takes it from there.
    const gsi = wiring.routes.takePin(pirq);
    wiring.irqfd(trigger, gsi, { resample });
    this.#vectors[GSI] = gsi;
    this.#state.set([MODE_INTX, 1, 1]);
  }

  #cutPin(): void {
    const { wiring, pirq } = this.#o;
    wiring.irqfd(this.#fd(0), this.#vectors[GSI]!, { remove: true });
    wiring.routes.releasePin(pirq!);
    this.#vectors[GSI] = 0;
  }

  /** MSI or MSI-X with `wanted` vectors. Everything else must be off. */
  enable(mode: typeof MODE_MSI | typeof MODE_MSIX, wanted: number, messages: Messages): void {
    const info = this.#o.host.irqs[INDEX[mode]];
    const most = Math.min(wanted, info?.count ?? 0, this.#most);
    if (most === 0) {
      this.#o.log(`the host gives it no ${NAMES[mode]} vectors`);
      return;
    }
    const grows = mode === MODE_MSIX && (info!.flags & V.VFIO_IRQ_INFO_NORESIZE) === 0;
    const given = this.#setUp(mode, grows ? 1 : most, messages);
    if (given === 0) return;
    this.#state.set([mode, wanted, grows ? most : given]);
    if (!grows && given < wanted) this.#o.log(`it has ${given} ${NAMES[mode]} vectors of the ${wanted} that the guest wants: the host has no more`);
    for (let vector = 0; vector < most; vector++) this.update(vector, messages(vector));
  }

  /** Has VFIO set up `count` vectors, or as many as it can. @returns how many */
  #setUp(mode: typeof MODE_MSI | typeof MODE_MSIX, count: number, messages: Messages): number {
    while (count > 0) {
      const fds = Array.from({ length: count }, (_, vector) => (messages(vector) === undefined ? -1 : this.#fd(vector)));
      const result = this.#o.host.setIrqs({ index: INDEX[mode], action: V.VFIO_IRQ_SET_ACTION_TRIGGER, start: 0, fds });
      if (result === 0) {
        fds.forEach((fd, vector) => {
          if (fd !== -1) this.#vectors[vector * VECTOR_WORDS + FLAGS] = WITH_VFIO;
        });
        return count;
      }
      if (result < 0 || result >= count) {
        this.#o.log(`the host cannot give it ${count} ${NAMES[mode]} vectors${result < 0 ? ` (${irqError(result)})` : ''}`);
        return 0;
      }
      count = mode === MODE_MSI ? 2 ** Math.floor(Math.log2(result)) : result;
    }
    return 0;
  }

  /** The message or the masking of a vector may have changed, in MSI or MSI-X mode. */
  update(vector: number, message: Message | undefined): void {
    if (this.mode < MODE_MSI || vector >= this.#state[STATE_GIVEN]!) return;
    try {
      this.#wire(vector, message);
    } catch (thrown) {
      // Descriptors, routes and memory of the kernel end somewhere, and a guest may ask for more.
      if (thrown instanceof PoisonedError) throw thrown;
      this.#o.log(`interrupt vector ${vector} cannot be wired: ${(thrown as Error).message}`);
    }
  }

  #wire(vector: number, message: Message | undefined): void {
    const { host, wiring } = this.#o;
    if (message === undefined) {
      this.#cutFromKvm(vector);
      return;
    }
    const at = vector * VECTOR_WORDS;
    const fd = this.#fd(vector);
    const low = message.address % 2 ** 32;
    const high = Math.floor(message.address / 2 ** 32);
    const gsi = this.#vectors[at + GSI]!;
    if (gsi === 0) this.#vectors[at + GSI] = wiring.routes.allocate(message.address, message.data);
    else if (this.#vectors[at + ADDRESS_LOW] !== low || this.#vectors[at + ADDRESS_HIGH] !== high || this.#vectors[at + DATA] !== message.data) wiring.routes.update(gsi, message.address, message.data);
    this.#vectors.set([low, high, message.data], at + ADDRESS_LOW);
    if ((this.#vectors[at + FLAGS]! & WITH_KVM) === 0) {
      wiring.irqfd(fd, this.#vectors[at + GSI]!);
      this.#vectors[at + FLAGS] = this.#vectors[at + FLAGS]! | WITH_KVM;
    }
    if ((this.#vectors[at + FLAGS]! & WITH_VFIO) !== 0) return;
    const result = host.setIrqs({ index: INDEX[this.mode as typeof MODE_MSIX], action: V.VFIO_IRQ_SET_ACTION_TRIGGER, start: vector, fds: [fd] });
    if (result === 0) this.#vectors[at + FLAGS] = this.#vectors[at + FLAGS]! | WITH_VFIO;
    else this.#o.log(`the host cannot give it interrupt vector ${vector}${result < 0 ? ` (${irqError(result)})` : ''}`);
  }

  /** Whether an interrupt of a masked vector waits. */
  pending(vector: number): boolean {
    const at = vector * VECTOR_WORDS;
    return vector < this.#most && (this.#vectors[at + FLAGS]! & (WITH_VFIO | WITH_KVM)) === WITH_VFIO && readable(this.#vectors[at + FD]!);
  }

  #cutFromKvm(vector: number): void {
    const at = vector * VECTOR_WORDS;
    if ((this.#vectors[at + FLAGS]! & WITH_KVM) === 0) return;
    this.#o.wiring.irqfd(this.#vectors[at + FD]!, this.#vectors[at + GSI]!, { remove: true });
    this.#vectors[at + FLAGS] = this.#vectors[at + FLAGS]! & ~WITH_KVM;
  }

  #fd(vector: number): number {
    const at = vector * VECTOR_WORDS + FD;
    if (this.#vectors[at] === 0) this.#vectors[at] = this.#newEventfd();
    return this.#vectors[at]!;
  }
}
