// The PCI devices that a machine's file asks for, or that are added while it runs: which slot each takes, what it needs of the host, and the
// building of it, alike in every thread.
import { VitrineError } from '../../shared/errors.ts';
import { DISPLAY_SLOT, FIRST_SLOT, LAST_SLOT, type DeviceConfig, type HostDeviceConfig, type PciTestConfig } from '../../shared/machine-config.ts';
import { PciTest, type PciTestParts } from '../devices/pci-test/pci-test.ts';
import type { PciTestStore } from '../devices/pci-test/parts.ts';
import type { Platform } from '../devices/device.ts';
import type { MsiSink, PciDevice } from '../pci/device.ts';
import type { HostDeviceDescription } from '../vfio/host-devices.ts';
import { VfioFunction } from '../vfio/host-function.ts';
import type { InterruptWiring } from '../vfio/interrupts.ts';
import { buildVirtio, type VirtioDescription } from '../virtio/description.ts';
import { Passthrough } from '../vfio/passthrough.ts';

/** Slots for devices of this kind, ascending. */
export const DEVICE_SLOTS: readonly number[] = Array.from({ length: LAST_SLOT - FIRST_SLOT + 1 }, (_, i) => FIRST_SLOT + i).filter((slot) => slot !== DISPLAY_SLOT);

/** Crosses to a Worker by structured clone: what a device is, and what it needs of the host (equipment.ts). */
export type PluggedDescription = PciTestDescription | VirtioDescription | { readonly slot: number; readonly config: HostDeviceConfig; readonly taken: HostDeviceDescription };

export interface PciTestDescription {
  readonly slot: number;
  readonly config: PciTestConfig;
  /** For each function. */
  readonly parts: readonly PciTestParts[];
}

/** What devices need of the machine. */
export interface PluggedSide {
  readonly msi: MsiSink;
  readonly interrupts: InterruptWiring;
}

function problem(attempted: string, on: string, why: string, remedy: string, code: string): VitrineError {
  return new VitrineError({ attempted, on, why, remedy, code });
}

/**
 * A slot for each device: those that name one first, the others the lowest that is free. Throws VitrineError when there is none.
 * @param taken slots that have a device already
 */
export function chooseSlots(devices: readonly DeviceConfig[], taken: readonly number[] = [], attempted = 'start the machine'): number[] {
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

/** Control thread: what the functions of a test device need of the host. */
export function equip(config: PciTestConfig, slot: number, store: PciTestStore): PciTestDescription {
  return { slot, config, parts: Array.from({ length: config.functions }, () => store.take()) };
}

/** The functions of a device, function 0 first; in no slot yet. */
export function buildPlugged(platform: Platform, { msi, interrupts }: PluggedSide, description: PluggedDescription): PciDevice[] {
  const { slot } = description;
  if ('taken' in description) {
    const { passthrough, host } = description.taken;
    return [new Passthrough(platform, passthrough, { host: new VfioFunction(host), wiring: interrupts })];
  }
  if ('wires' in description) return [buildVirtio(platform, msi, description)];
  return description.parts.map((each, number) => new PciTest(platform, msi, slot * 8 + number, each, description.config));
}
