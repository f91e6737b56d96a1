// Hot-plug of PCI devices on bus 0 through ACPI (ACPI 6.5 §6.3; Linux: drivers/pci/hotplug/acpiphp*): a device object for each slot that can take
// one, and the method of general purpose event 1, which asks the controller (devices/pci-hotplug.ts) what happened and tells the system.
//
//   event 1 → \_GPE._E01 → PCI0.PCNT → Notify(slot, 1: look what is here) or Notify(slot, 3: give it back)
//   the system gives back → slot._EJ0 → writes the slot's bit and waits until the device is gone
import * as aml from './aml.ts';

export interface HotplugInput {
  /** First of the controller's ports, and how many. */
  readonly port: number;
  readonly ports: number;
  /** General purpose event, two hexadecimal digits in the method's name. */
  readonly event: number;
  readonly slots: readonly number[];
}

/** Values of Notify (§5.6.6). */
const DEVICE_CHECK = 1;
const EJECT_REQUEST = 3;

/** The device is gone within microseconds unless the computer is very busy; then the system is not kept for ever. */
const PATIENCE = 2000;
const LOOK_MS = 1;

const hex = (value: number): string => value.toString(16).toUpperCase().padStart(2, '0');
const slotName = (slot: number): string => `S${hex(slot)}_`;

/** Inside PCI0: the registers, the slots, and what looks at all of them. */
export function hotplugSlots({ port, ports, slots }: HotplugInput): aml.Aml[] {
  const tell = (bits: aml.Term, value: number): aml.Aml[] => slots.map((slot) => aml.ifThen(aml.and(bits, 2 ** slot), aml.notify(slotName(slot), value)));
  const take = (register: string, value: number): aml.Aml[] => [
    aml.store(aml.path(register), aml.local(0)),
    aml.store(aml.local(0), aml.path(register)), // clears what was read, and nothing that came since
    ...tell(aml.local(0), value),
  ];
  return [
    aml.operationRegion('HPRG', aml.REGION_IO, port, ports),
    aml.field('HPRG', [['HPUP', 32], ['HPDN', 32], ['HPEJ', 32], ['HPRM', 32]], aml.DWORD_ACCESS),
    ...slots.map((slot) =>
      aml.device(slotName(slot),
        aml.name('_ADR', slot * 0x1_0000),
        aml.name('_SUN', slot),
        aml.method('_EJ0', 1, false, aml.call('PEJ_', 2 ** slot)),
      )),
    aml.method('PEJ_', 1, true,
      aml.store(aml.arg(0), aml.path('HPEJ')),
      aml.store(PATIENCE, aml.local(0)),
      aml.whileTrue(aml.bothTrue(aml.and(aml.path('HPEJ'), aml.arg(0)), aml.local(0)), aml.sleep(LOOK_MS), aml.decrement(aml.local(0))),
    ),
    aml.method('PCNT', 0, true, ...take('HPUP', DEVICE_CHECK), ...take('HPDN', EJECT_REQUEST)),
  ];
}

export function hotplugEvent({ event }: HotplugInput): aml.Aml {
  return aml.scope('\\_GPE', aml.method(`_E${hex(event)}`, 0, false, aml.call('\\_SB.PCI0.PCNT')));
}
