// The PCI devices that a machine's file asks for, or that are added while it runs: what each needs of the host, and the building of it,
// alike in every thread. Which slot it takes: src/shared/slots.ts.
import type { HostDeviceConfig, PciTestConfig } from '../../shared/machine-config.ts';
import { PciTest, type PciTestParts } from '../devices/pci-test/pci-test.ts';
import type { PciTestStore } from '../devices/pci-test/parts.ts';
import type { Platform } from '../devices/device.ts';
import type { MsiSink, PciDevice } from '../pci/device.ts';
import type { HostDeviceDescription } from '../vfio/host-devices.ts';
import { VfioFunction } from '../vfio/host-function.ts';
import type { InterruptWiring } from '../vfio/interrupts.ts';
import { buildVirtio, type VirtioDescription } from '../virtio/description.ts';
import { Passthrough } from '../vfio/passthrough.ts';

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
