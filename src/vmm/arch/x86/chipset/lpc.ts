// The ICH9 LPC bridge, function 00:1f.0 (Intel ICH9 datasheet §13; 8086:2918): PMBASE places the power management block, PIRQx_ROUT route PCI interrupts
// to the PIC. RCBA, GPIO, decode ranges and the rest are kept as written. Left out: what they would place; SERIRQ; the other functions
// of device 1f, so the header says single function.
import { PM_BASE, PM_SIZE, SLOT_LPC } from '../layout.ts';
import { PCI_COMMAND, PciFunction } from '../../../pci/function.ts';
import { PIRQS, PIRQ_ISA_CHOICES } from '../../../pci/intx.ts';
import type { Handler } from '../../../bus/handler.ts';
import type { Platform } from '../../../devices/device.ts';
import type { Mutex } from '../../../sync/mutex.ts';
import type { PciDevice, Span } from '../../../pci/device.ts';
import type { PciHost } from '../../../pci/host.ts';

const INTEL = 0x8086;
const ICH9_LPC = 0x2918;
const ISA_BRIDGE = 0x06_01_00;
const REVISION = 2;

export const PMBASE = 0x40;
export const ACPI_CNTL = 0x44;
const GPIOBASE = 0x48;
const GPIO_CNTL = 0x4c;
export const PIRQA_ROUT = 0x60; // to D at 0x63
const SIRQ_CNTL = 0x64;
export const PIRQE_ROUT = 0x68; // to H at 0x6b
const LPC_IO_DEC = 0x80;
const LPC_EN = 0x82;
const GEN_DEC = 0x84; // 1 to 4
const GEN_PMCON = 0xa0; // 1 to 3
export const RCBA = 0xf0;

const DECODES_ALWAYS = 0x7; // I/O, memory, bus master: read-only ones in ICH9
const PARITY_AND_SERR = 0x140;
const PMBASE_IO = 0x1; // read-only one: a range of ports
const PMBASE_ADDRESS = 0xff80;
const ACPI_ENABLE = 0x80;
const PIRQ_DISABLED = 0x80;
const PIRQ_IRQ = 0x0f;

/** The ISA interrupts of PIRQ A to D as firmware for Q35 sets them. */
export const FIRMWARE_PIRQ_ISA: readonly number[] = [10, 10, 11, 11];

export class LpcBridge implements PciDevice {
  readonly label = '00:1f.0 LPC bridge';
  readonly mutex: Mutex;
  readonly ranges = [];
  readonly config: PciFunction;
  #host: PciHost;

  /** @param pm the power management block: PM_SIZE ports, and the mutex that guards them. */
  constructor(platform: Platform, host: PciHost, pm: { readonly handler: Handler; readonly mutex: Mutex }) {
    this.mutex = platform.arena.mutex('lpc.lock');
    this.#host = host;
    this.config = new PciFunction(platform.arena, {
      label: this.label,
      vendorId: INTEL,
      deviceId: ICH9_LPC,
      classCode: ISA_BRIDGE,
      revision: REVISION,
      extra(image) {
        image.set(PCI_COMMAND, 2, DECODES_ALWAYS);
        image.writable.fill(0, PCI_COMMAND, PCI_COMMAND + 2);
        image.allow(PCI_COMMAND, 2, PARITY_AND_SERR);
        image.set(PMBASE, 4, PMBASE_IO).allow(PMBASE, 4, PMBASE_ADDRESS);
        image.allow(ACPI_CNTL, 1, 0x87);
        image.set(GPIOBASE, 4, 0x1).allow(GPIOBASE, 4, PMBASE_ADDRESS).allow(GPIO_CNTL, 1, 0x11);
        for (let at = 0; at < 4; at++) {
          image.set(PIRQA_ROUT + at, 1, PIRQ_DISABLED).allow(PIRQA_ROUT + at, 1, 0x8f);
          image.set(PIRQE_ROUT + at, 1, PIRQ_DISABLED).allow(PIRQE_ROUT + at, 1, 0x8f);
        }
        image.set(SIRQ_CNTL, 1, 0x10).allow(SIRQ_CNTL, 1, 0xff);
        image.allow(LPC_IO_DEC, 2, 0x1377).allow(LPC_EN, 2, 0x3fff);
        for (let at = 0; at < 4; at++) image.allow(GEN_DEC + 4 * at, 4, 0x00fc_fffd).allow(GEN_PMCON + 2 * at, 2, at < 3 ? 0xffff : 0);
        image.allow(RCBA, 4, 0xffff_c001);
      },
    });
    host.topology.addMovable(this, { name: 'pm block', space: 'io', handler: pm.handler, mutex: pm.mutex, where: pmSpan });
  }

  reset(): void {
    // Nothing beyond the configuration space and the PIRQ routes, which the host resets.
  }

  configChanged(register: number): void {
    if (register !== PIRQA_ROUT) return;
    for (let pirq = 0; pirq < PIRQS; pirq++) {
      const rout = this.config.read(PIRQA_ROUT + pirq, 1);
      const irq = rout & PIRQ_IRQ;
      this.#host.intx.route(pirq, (rout & PIRQ_DISABLED) === 0 && PIRQ_ISA_CHOICES.includes(irq) ? irq : 0);
    }
  }

  /** Where the PM block is now, for FADT; undefined while it is off. */
  pm(): Span | undefined {
    return pmSpan((register) => this.config.dword(register));
  }

  /** What firmware would do: the PM block at `pmBase`, SCI on IRQ 9, PIRQs routed. Topology lock not held. */
  program(pmBase = PM_BASE): void {
    this.#host.topology.run(() => {
      const place = SLOT_LPC * 8;
      this.#host.write(place, PMBASE, 4, pmBase);
      this.#host.write(place, ACPI_CNTL, 1, ACPI_ENABLE);
      for (const first of [PIRQA_ROUT, PIRQE_ROUT]) FIRMWARE_PIRQ_ISA.forEach((irq, at) => this.#host.write(place, first + at, 1, irq));
    });
  }
}

function pmSpan(dword: (register: number) => number): Span | undefined {
  const base = dword(PMBASE) & PMBASE_ADDRESS;
  if ((dword(ACPI_CNTL) & ACPI_ENABLE) === 0 || base === 0) return undefined;
  return { start: base, end: base + PM_SIZE };
}
