// GSI routing: which chip pin or MSI message a GSI means to KVM. The first 24 are the chips' own (as after KVM_CREATE_IRQCHIP).
// Above them come four more for PIRQ A to D of devices whose pins arrive by irqfd: to KVM's resampling a pin of a chip belongs to one GSI,
// the last one routed to it, and so it is theirs while one of them is in use. The rest are handed out to message-signalled interrupts that
// arrive by irqfd. Source: Documentation/virt/kvm/api.rst, 4.52.
// The table lies in the arena; any thread changes it, and KVM replaces its own as a whole, under the table's lock (an irq lock: nothing else is
// taken under it).
import { KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE } from '../kvm/ioctls.ts';
import type { Route } from '../kvm/vm.ts';
import { IOAPIC_PINS, PIRQ_GSI_FIRST } from '../arch/x86/layout.ts';
import type { Arena } from '../sync/arena.ts';
import type { Mutex } from '../sync/mutex.ts';

const PIC_PINS = 8;
/** KVM_MAX_IRQ_ROUTES on every kernel that Vitrine runs on. */
const MAX_ROUTES = 4096;
const PIRQS = 4;
const FIRST_PIN_GSI = IOAPIC_PINS;
const FIRST_MESSAGE_GSI = FIRST_PIN_GSI + PIRQS;
/** What remains when the chips have theirs, two routes an ISA interrupt and two a PIRQ at most. */
const MESSAGES = MAX_ROUTES - 2 * IOAPIC_PINS - 2 * PIRQS;
const MESSAGE_WORDS = 4; // in use, address low and high, data

/** What the in-kernel chips answer to: each ISA IRQ at its PIC and at its IOAPIC pin; IRQ 0 arrives at IOAPIC pin 2. */
export function chipRoutes(): Route[] {
  const routes: Route[] = [];
  for (let gsi = 0; gsi < IOAPIC_PINS; gsi++) {
    if (gsi < 2 * PIC_PINS) routes.push(picRoute(gsi, gsi));
    if (gsi === 0) routes.push({ gsi, kind: 'chip', chip: KVM_IRQCHIP_IOAPIC, pin: 2 });
    else if (gsi !== 2) routes.push({ gsi, kind: 'chip', chip: KVM_IRQCHIP_IOAPIC, pin: gsi });
  }
  return routes;
}

function picRoute(gsi: number, irq: number): Route {
  return irq < PIC_PINS ? { gsi, kind: 'chip', chip: KVM_IRQCHIP_PIC_MASTER, pin: irq } : { gsi, kind: 'chip', chip: KVM_IRQCHIP_PIC_SLAVE, pin: irq - PIC_PINS };
}

export class GsiRouting {
  readonly #apply: (routes: readonly Route[]) => void;
  readonly #lock: Mutex;
  readonly #messages: Uint32Array;
  /** Words 0-3: how many devices use the pin. Words 4-7: the ISA interrupt of PIRQ n, 0 for none. Word 8: messages below this number were in use. */
  readonly #pins: Int32Array;

  /** Allocates slices of the arena. @param apply gives the whole table to KVM. */
  constructor(arena: Arena, apply: (routes: readonly Route[]) => void) {
    this.#apply = apply;
    this.#lock = arena.mutex('irq.routes.lock');
    this.#messages = arena.uint32('irq.routes', MESSAGES * MESSAGE_WORDS);
    this.#pins = arena.int32('irq.routes.pins', 2 * PIRQS + 1);
  }

  /** A free GSI for an MSI message, routed at once. Throws when the table is full. */
  allocate(address: number, data: number): number {
    return this.#lock.run(() => {
      for (let index = 0; index < MESSAGES; index++) {
        if (this.#messages[index * MESSAGE_WORDS] !== 0) continue;
        this.#put(index, address, data);
        if (index >= this.#pins[2 * PIRQS]!) this.#pins[2 * PIRQS] = index + 1;
        this.#commit();
        return FIRST_MESSAGE_GSI + index;
      }
      throw new Error(`all ${MAX_ROUTES} interrupt routes are in use`);
    });
  }

  /** The guest rewrote the message. */
  update(gsi: number, address: number, data: number): void {
    this.#lock.run(() => {
      this.#put(gsi - FIRST_MESSAGE_GSI, address, data);
      this.#commit();
    });
  }

  free(...gsis: readonly number[]): void {
    if (gsis.length === 0) return;
    this.#lock.run(() => {
      for (const gsi of gsis) this.#messages[(gsi - FIRST_MESSAGE_GSI) * MESSAGE_WORDS] = 0;
      this.#commit();
    });
  }

  /** The GSI of PIRQ 0 to 3 for irqfds, until releasePin. */
  takePin(pirq: number): number {
    this.#lock.run(() => {
      this.#pins[pirq] = this.#pins[pirq]! + 1;
      if (this.#pins[pirq] === 1) this.#commit();
    });
    return FIRST_PIN_GSI + pirq;
  }

  releasePin(pirq: number): void {
    this.#lock.run(() => {
      this.#pins[pirq] = this.#pins[pirq]! - 1;
      if (this.#pins[pirq] === 0) this.#commit();
    });
  }

  /** In PIC mode PIRQ 0 to 3 arrives at this ISA interrupt; 0 for none. */
  routePin(pirq: number, isa: number): void {
    this.#lock.run(() => {
      this.#pins[PIRQS + pirq] = isa;
      if (this.#pins[pirq]! > 0) this.#commit();
    });
  }

  commit(): void {
    this.#lock.run(() => this.#commit());
  }

  #put(index: number, address: number, data: number): void {
    this.#messages.set([1, address % 2 ** 32, Math.floor(address / 2 ** 32), data], index * MESSAGE_WORDS);
  }

  #commit(): void {
    const routes = chipRoutes();
    for (let pirq = 0; pirq < PIRQS; pirq++) {
      if (this.#pins[pirq] === 0) continue;
      const gsi = FIRST_PIN_GSI + pirq;
      const isa = this.#pins[PIRQS + pirq]!;
      routes.push({ gsi, kind: 'chip', chip: KVM_IRQCHIP_IOAPIC, pin: PIRQ_GSI_FIRST + pirq });
      if (isa !== 0) routes.push(picRoute(gsi, isa));
    }
    const messages = this.#messages;
    for (let index = 0; index < this.#pins[2 * PIRQS]!; index++) {
      const at = index * MESSAGE_WORDS;
      if (messages[at] !== 0) routes.push({ gsi: FIRST_MESSAGE_GSI + index, kind: 'msi', address: messages[at + 2]! * 2 ** 32 + messages[at + 1]!, data: messages[at + 3]! });
    }
    this.#apply(routes);
  }
}
