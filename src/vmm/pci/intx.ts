// INTA to INTD of all functions, wired to PIRQ A to D, and these to GSIs.
//   PIRQ = (slot + pin) mod 4, pin 0 for INTA: the usual swizzle, so that single-function devices in neighbouring slots do not share.
//   In APIC mode PIRQ n arrives at GSI 16 + n, high while any function asserts it.
//   In PIC mode it arrives at the ISA interrupt that the LPC bridge's PIRQx_ROUT register names, besides (ICH9 datasheet §13.1.9).
// Lock order: device mutex → this router's mutex → irq lock.
import { PIRQ_GSI_FIRST } from '../arch/x86/layout.ts';
import { PCI_STATUS, STATUS_INTERRUPT } from './function.ts';
import type { IrqLine, Platform } from '../devices/device.ts';
import type { Mutex } from '../sync/mutex.ts';
import type { PciFunction } from './function.ts';

export const PIRQS = 4;
/** ISA interrupts that a PIRQ may be routed to. */
export const PIRQ_ISA_CHOICES: readonly number[] = [3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15];

/** @param pin 1 for INTA to 4 for INTD. @returns 0 for PIRQ A to 3 for PIRQ D. */
export function swizzle(slot: number, pin: number): number {
  return (slot + pin - 1) % PIRQS;
}

/** One row of ACPI's _PRT. `pin` as there: 0 for INTA. */
export interface PciRoute {
  readonly slot: number;
  readonly pin: number;
  /** 0 for PIRQ A: the link device in PIC mode. */
  readonly pirq: number;
  /** In APIC mode. */
  readonly gsi: number;
}

/** Where each pin of each slot of bus 0 arrives, for _PRT: all 32 slots, whether occupied or not. */
export function pciInterruptRouting(): PciRoute[] {
  const routes: PciRoute[] = [];
  for (let slot = 0; slot < 32; slot++) {
    for (let pin = 0; pin < 4; pin++) {
      const pirq = swizzle(slot, pin + 1);
      routes.push({ slot, pin, pirq, gsi: PIRQ_GSI_FIRST + pirq });
    }
  }
  return routes;
}

/** The pin of one function. */
export interface IntxPin {
  set(level: boolean): void;
  /** Interrupt Disable may have changed. */
  refresh(): void;
}

export class IntxRouter {
  #mutex: Mutex;
  /** Words 0-3: functions that assert PIRQ n. Words 4-7: the ISA interrupt it is routed to, 0 for none. */
  #state: Int32Array;
  /** Per function (slot * 8 + function): 1 while it asserts. */
  #asserted: Uint8Array;
  #lines: IrqLine[] = [];
  #isa: Map<number, IrqLine>[] = [];
  /** Hears of every route: for pins that do not come through here. Called with this router's mutex held, on whichever thread; 0 for none. */
  onRoute: ((pirq: number, irq: number) => void) | undefined;

  constructor(platform: Platform) {
    this.#mutex = platform.arena.mutex('pci.intx.lock');
    this.#state = platform.arena.int32('pci.intx.state', 2 * PIRQS);
    this.#asserted = platform.arena.uint8('pci.intx.asserted', 256);
    for (let pirq = 0; pirq < PIRQS; pirq++) {
      const owner = `PIRQ ${'ABCD'[pirq]}`;
      this.#lines.push(platform.irqLine(PIRQ_GSI_FIRST + pirq, owner));
      this.#isa.push(new Map(PIRQ_ISA_CHOICES.map((irq) => [irq, platform.irqLine(irq, owner)])));
    }
  }

  /** The pin of the function at `slot`.`number`, for PciFunction.attachIntx. */
  pin(config: PciFunction, slot: number, number: number): IntxPin {
    const pirq = swizzle(slot, config.interruptPin);
    const row = slot * 8 + number;
    const refresh = (): void => {
      const status = config.dword(PCI_STATUS & ~3);
      const level = (status & (STATUS_INTERRUPT << 16)) !== 0 && !config.intxDisabled;
      this.#mutex.lock();
      if ((this.#asserted[row] !== 0) !== level) {
        this.#asserted[row] = level ? 1 : 0;
        const count = (this.#state[pirq]! += level ? 1 : -1);
        if (count === (level ? 1 : 0)) {
          this.#lines[pirq]!.set(level);
          this.#isa[pirq]!.get(this.#state[PIRQS + pirq]!)?.set(level);
        }
      }
      this.#mutex.unlock();
    };
    return {
      refresh,
      set: (level) => {
        const before = config.dword(PCI_STATUS & ~3);
        const after = (level ? before | (STATUS_INTERRUPT << 16) : before & ~(STATUS_INTERRUPT << 16)) >>> 0;
        if (after !== before) config.store(PCI_STATUS & ~3, after);
        refresh();
      },
    };
  }

  /** Routes PIRQ `pirq` to the ISA interrupt `irq`, or to none (0, or what is no choice). A level that is high moves along. */
  route(pirq: number, irq: number): void {
    this.#mutex.lock();
    const before = this.#state[PIRQS + pirq]!;
    if (before !== irq) {
      if (this.#state[pirq]! > 0) {
        this.#isa[pirq]!.get(before)?.set(false);
        this.#isa[pirq]!.get(irq)?.set(true);
      }
      this.#state[PIRQS + pirq] = irq;
      this.onRoute?.(pirq, irq);
    }
    this.#mutex.unlock();
  }

  /** No PIRQ is routed to an ISA interrupt, as after power-on. */
  reset(): void {
    for (let pirq = 0; pirq < PIRQS; pirq++) this.route(pirq, 0);
  }
}
