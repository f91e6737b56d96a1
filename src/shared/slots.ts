// Which slot of PCI bus 0 each device of a machine takes: the machine itself, its file and the window see it alike.
import { VitrineError } from './errors.ts';
import { DISPLAY_SLOT, FIRST_SLOT, LAST_SLOT, type DeviceConfig } from './machine-config.ts';

/** Slots for devices of this kind, ascending. */
export const DEVICE_SLOTS: readonly number[] = Array.from({ length: LAST_SLOT - FIRST_SLOT + 1 }, (_, i) => FIRST_SLOT + i).filter((slot) => slot !== DISPLAY_SLOT);

function problem(attempted: string, on: string, why: string, remedy: string, code: string): VitrineError {
  return new VitrineError({ attempted, on, why, remedy, code });
}

/**
 * A slot for each device: those that name one first, the others the lowest that is free. Throws VitrineError when there is none.
 * @param taken slots that have a device already
 */
export function chooseSlots(devices: readonly Pick<DeviceConfig, 'kind' | 'slot'>[], taken: readonly number[] = [], attempted = 'start the machine'): number[] {
  const used = new Set(taken);
  for (const { kind, slot } of devices) {
    if (slot === undefined) continue;
    if (used.has(slot)) throw problem(attempted, `${kind} in slot ${slot}`, 'this slot has a device already.', 'Give it another slot, or none: then it takes a free one.', 'slot-taken');
    used.add(slot);
  }
  return devices.map(({ kind, slot }) => {
    if (slot !== undefined) return slot;
    const free = DEVICE_SLOTS.find((each) => !used.has(each));
    if (free === undefined) throw problem(attempted, kind, `all ${DEVICE_SLOTS.length} slots for PCI devices are taken.`, 'Take a device out of the machine.', 'no-free-slot');
    used.add(free);
    return free;
  });
}

/**
 * The devices, each with the slot that it has: what the guest knows a device by, and what a network card's address is made of, stays when another
 * device goes. Throws VitrineError as chooseSlots does.
 */
export function withSlots<Device extends Pick<DeviceConfig, 'kind' | 'slot'>>(devices: readonly Device[], attempted?: string): (Device & { slot: number })[] {
  const slots = chooseSlots(devices, [], attempted);
  return devices.map((device, index) => ({ ...device, slot: slots[index]! }));
}
