// The DSDT: the devices that no bus enumerates. Host bridge with its windows and interrupt routing, the LPC bridge's legacy devices,
// reserved ranges, processors, and the sleep states. The power button is a fixed feature, so it is not here. Left out: DMA controller
// and coprocessor interrupt (the machine has neither), suspend (S1 to S3), hot-plug of processors and memory.
import * as aml from './aml.ts';
import type { AcpiInput, PciRoute } from './build.ts';
import { hotplugEvent, hotplugSlots } from './hotplug.ts';
import { busNumbers, INTERRUPT_OFFSET, ioPorts, ioWindow, isaIrq, memory, memoryWindow, pciInterrupts, resourceTemplate } from './resources.ts';

const PIRQ_NAMES = ['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H'] as const;
/** ISA interrupts that a link device may be set to; the others belong to ISA devices. */
const LINK_CHOICES = [5, 10, 11] as const;
/** ICH9 LPC bridge, configuration space: PIRQ A to D at 60h, E to H at 68h; bit 7 set is "not routed". */
const PIRQA_ROUT = 0x60;
const PIRQE_ROUT = 0x68;
const PIRQ_OFF = 0x80;

/** _STA: present, enabled, shown, functioning; and without "enabled". */
const STA_ON = 0x0b;
const STA_OFF = 0x09;

/** PCI Firmware Specification 3.3 §4.5.1. */
const OSC_PCI_UUID = '33DB4D5B-1FF7-401C-9657-7441C03DD766';
const OSC_UNRECOGNISED_UUID = 0x04;
const OSC_UNRECOGNISED_REVISION = 0x08;
const OSC_MASKED = 0x10;
/** Control that the system may have: native PCIe hot-plug, PME, AER, the PCIe capability, latency tolerance. Not SHPC hot-plug. */
const OSC_GRANTED = 0x3d;

const CRS = (...resources: Uint8Array[]): aml.Aml => aml.name('_CRS', resourceTemplate(...resources));
const HID = (id: string): aml.Aml => aml.name('_HID', aml.eisaId(id));
const UID = (uid: number): aml.Aml => aml.name('_UID', uid);
const ref = aml.path;

/** _OSC: what the system asks to control, less what it may not. */
function osc(): aml.Aml {
  return aml.method('_OSC', 4, true,
    aml.dwordField(aml.arg(3), 0, 'CDW1'),
    aml.ifThen(aml.equal(aml.arg(0), aml.uuid(OSC_PCI_UUID)),
      aml.dwordField(aml.arg(3), 8, 'CDW3'),
      aml.and(ref('CDW3'), OSC_GRANTED, aml.local(0)),
      aml.ifThen(aml.not(aml.equal(aml.arg(1), 1)), aml.or(ref('CDW1'), OSC_UNRECOGNISED_REVISION, ref('CDW1'))),
      aml.ifThen(aml.not(aml.equal(ref('CDW3'), aml.local(0))), aml.or(ref('CDW1'), OSC_MASKED, ref('CDW1'))),
      aml.store(aml.local(0), ref('CDW3')),
    ),
    aml.otherwise(aml.or(ref('CDW1'), OSC_UNRECOGNISED_UUID, ref('CDW1'))),
    aml.returning(aml.arg(3)),
  );
}

/** An interrupt link: LNKA sets the register PRQA. */
function link(index: number): aml.Aml {
  const letter = PIRQ_NAMES[index]!;
  const register = ref(`\\_SB.PCI0.LPC.PRQ${letter}`);
  return aml.device(`LNK${letter}`,
    HID('PNP0C0F'),
    UID(index + 1),
    aml.name('_PRS', resourceTemplate(pciInterrupts(LINK_CHOICES))),
    aml.method('_STA', 0, false, aml.ifThen(aml.and(register, PIRQ_OFF), aml.returning(STA_OFF)), aml.otherwise(aml.returning(STA_ON))),
    aml.method('_DIS', 0, false, aml.or(register, PIRQ_OFF, register)),
    aml.name('RBUF', resourceTemplate(pciInterrupts([0]))),
    aml.dwordField(ref('RBUF'), INTERRUPT_OFFSET, 'IRQN'),
    aml.method('_CRS', 0, false,
      aml.ifThen(aml.and(register, PIRQ_OFF), aml.store(0, ref('IRQN'))),
      aml.otherwise(aml.and(register, 0x0f, ref('IRQN'))),
      aml.returning(ref('RBUF')),
    ),
    aml.method('_SRS', 1, true, aml.dwordField(aml.arg(0), INTERRUPT_OFFSET, 'IRQS'), aml.store(ref('IRQS'), register)),
  );
}

/** _PRT: by link devices while the PIC is used, by GSI with the IOAPIC. */
function routing(routes: readonly PciRoute[]): aml.Aml[] {
  const table = (where: string, target: (route: PciRoute) => [aml.Term, number]): aml.Aml =>
    aml.name(where, aml.packageOf(...routes.map((route) => aml.packageOf(route.slot * 0x1_0000 + 0xffff, route.pin, ...target(route)))));
  return [
    table('PRTP', (route) => [ref(`\\_SB.LNK${PIRQ_NAMES[route.pirq]!}`), 0]),
    table('PRTA', (route) => [0, route.gsi]),
    aml.method('_PRT', 0, false, aml.ifThen(ref('\\PICF'), aml.returning(ref('PRTA'))), aml.otherwise(aml.returning(ref('PRTP')))),
  ];
}

function lpc(): aml.Aml {
  return aml.device('LPC',
    aml.name('_ADR', 0x1f_0000),
    aml.operationRegion('PRQS', aml.REGION_PCI_CONFIG, PIRQA_ROUT, 4),
    aml.field('PRQS', PIRQ_NAMES.slice(0, 4).map((letter) => [`PRQ${letter}`, 8] as const)),
    aml.operationRegion('PRQT', aml.REGION_PCI_CONFIG, PIRQE_ROUT, 4),
    aml.field('PRQT', PIRQ_NAMES.slice(4).map((letter) => [`PRQ${letter}`, 8] as const)),
    aml.device('PIC', HID('PNP0000'), CRS(ioPorts(0x20, 2), ioPorts(0xa0, 2), ioPorts(0x4d0, 2), isaIrq(2))),
    aml.device('TIMR', HID('PNP0100'), CRS(ioPorts(0x40, 4), isaIrq(0))),
    aml.device('RTC', HID('PNP0B00'), CRS(ioPorts(0x70, 2), isaIrq(8))),
    aml.device('KBD', HID('PNP0303'), aml.name('_STA', 0x0f), CRS(ioPorts(0x60, 1), ioPorts(0x64, 1), isaIrq(1))),
    aml.device('MOU', HID('PNP0F13'), aml.name('_STA', 0x0f), CRS(isaIrq(12))),
    aml.device('COM1', HID('PNP0501'), UID(1), aml.name('_STA', 0x0f), CRS(ioPorts(0x3f8, 8), isaIrq(4))),
  );
}

function hostBridge(input: AcpiInput): aml.Aml {
  const windows = [
    busNumbers(0, input.ecam === null ? 255 : input.ecam.size / 2 ** 20 - 1),
    ioPorts(0xcf8, 8),
    // The LPC bridge decodes the power management block: Linux claims it there, below the bridge's windows, and complains if it lies in none.
    ioWindow(input.pm.base, input.pm.base + input.pm.size),
    ioWindow(input.ioWindow.start, input.ioWindow.end),
    memoryWindow(input.memoryWindow.start, input.memoryWindow.end),
  ];
  if (input.highWindow !== null) windows.push(memoryWindow(input.highWindow.start, input.highWindow.end));
  return aml.device('PCI0',
    HID('PNP0A08'),
    aml.name('_CID', aml.eisaId('PNP0A03')),
    aml.name('_SEG', 0),
    aml.name('_BBN', 0),
    UID(0),
    CRS(...windows),
    osc(),
    ...routing(input.routes),
    lpc(),
    ...(input.hotplug === null ? [] : hotplugSlots(input.hotplug)),
  );
}

/** What the chipset decodes itself, so that nobody else is put there: ECAM, the power management block, ports of ours. */
function motherboard(input: AcpiInput): aml.Aml {
  const taken = [ioPorts(input.pm.base, input.pm.size), ...input.reservedPorts.map((range) => ioPorts(range.start, range.size))];
  if (input.hotplug !== null) taken.push(ioPorts(input.hotplug.port, input.hotplug.ports));
  if (input.ecam !== null) taken.push(memory(input.ecam.start, input.ecam.start + input.ecam.size));
  return aml.device('MBRD', HID('PNP0C02'), UID(1), CRS(...taken));
}

const processor = (uid: number): aml.Aml => aml.device(`C${uid.toString(16).toUpperCase().padStart(3, '0')}`, aml.name('_HID', 'ACPI0007'), UID(uid));

/** _S4, _S5: what the system writes to PM1a's SLP_TYP. */
const sleepState = (where: string, type: number): aml.Aml => aml.name(where, aml.packageOf(type, 0, 0, 0));

/** The DSDT's body, behind its header. */
export function dsdt(input: AcpiInput): aml.Aml {
  const links = [...new Set(input.routes.map((route) => route.pirq))].sort((a, b) => a - b);
  return aml.concat([
    aml.name('PICF', 0),
    aml.method('_PIC', 1, false, aml.store(aml.arg(0), ref('PICF'))),
    aml.scope('\\_SB', hostBridge(input), ...links.map(link), motherboard(input), ...input.apicIds.map((_, uid) => processor(uid))),
    ...(input.hotplug === null ? [] : [hotplugEvent(input.hotplug)]),
    ...(input.sleep.s4 === null ? [] : [sleepState('_S4', input.sleep.s4)]),
    sleepState('_S5', input.sleep.s5),
  ]);
}
