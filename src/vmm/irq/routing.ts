// GSI routing: which chip pin or MSI message a GSI means to KVM. The first 24 are the chips' own (as after KVM_CREATE_IRQCHIP);
// those above are handed out to message-signalled interrupts that arrive by irqfd. Source: Documentation/virt/kvm/api.rst, 4.52.
// Lives on the control thread alone; a table is replaced as a whole, which KVM does atomically.
import { KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE } from '../kvm/ioctls.ts';
import type { Route } from '../kvm/vm.ts';
import { IOAPIC_PINS } from '../arch/x86/layout.ts';

const PIC_PINS = 8;
/** KVM_MAX_IRQ_ROUTES on every kernel that Vitrine runs on. */
const MAX_ROUTES = 4096;

/** What the in-kernel chips answer to: each ISA IRQ at its PIC and at its IOAPIC pin; IRQ 0 arrives at IOAPIC pin 2. */
export function chipRoutes(): Route[] {
  const routes: Route[] = [];
  for (let gsi = 0; gsi < IOAPIC_PINS; gsi++) {
    if (gsi < PIC_PINS) routes.push({ gsi, kind: 'chip', chip: KVM_IRQCHIP_PIC_MASTER, pin: gsi });
    else if (gsi < 2 * PIC_PINS) routes.push({ gsi, kind: 'chip', chip: KVM_IRQCHIP_PIC_SLAVE, pin: gsi - PIC_PINS });
    if (gsi === 0) routes.push({ gsi, kind: 'chip', chip: KVM_IRQCHIP_IOAPIC, pin: 2 });
    else if (gsi !== 2) routes.push({ gsi, kind: 'chip', chip: KVM_IRQCHIP_IOAPIC, pin: gsi });
  }
  return routes;
}

export class GsiRouting {
  readonly #apply: (routes: readonly Route[]) => void;
  readonly #messages = new Map<number, { address: number; data: number }>();

  /** @param apply gives the whole table to KVM. */
  constructor(apply: (routes: readonly Route[]) => void) {
    this.#apply = apply;
  }

  /** A free GSI for an MSI message, routed at once. Throws when the table is full. */
  allocate(address: number, data: number): number {
    for (let gsi = IOAPIC_PINS; gsi < MAX_ROUTES - IOAPIC_PINS; gsi++) {
      if (this.#messages.has(gsi)) continue;
      this.update(gsi, address, data);
      return gsi;
    }
    throw new Error(`all ${MAX_ROUTES} interrupt routes are in use`);
  }

  /** The guest rewrote the message. */
  update(gsi: number, address: number, data: number): void {
    this.#messages.set(gsi, { address, data });
    this.commit();
  }

  free(gsi: number): void {
    if (this.#messages.delete(gsi)) this.commit();
  }

  commit(): void {
    const routes = chipRoutes();
    for (const [gsi, message] of this.#messages) routes.push({ gsi, kind: 'msi', ...message });
    this.#apply(routes);
  }
}
