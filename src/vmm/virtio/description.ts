// What decides a virtio device, in every thread alike: crosses to Workers by structured clone.
import type { VirtioConfig } from '../../shared/machine-config.ts';
import type { MsiSink } from '../pci/device.ts';
import type { Platform } from '../devices/device.ts';
import { virtioModel } from './models.ts';
import { VirtioPci, type VirtioWires } from './pci.ts';

export interface VirtioDescription {
  readonly slot: number;
  readonly config: VirtioConfig;
  readonly wires: VirtioWires;
  /** The machine's id and name: for what is derived of them, and for messages. */
  readonly machine: { readonly id: string; readonly name: string };
  /** What the control thread prepared of the host for the backend (equip.ts). */
  readonly prepared?: unknown;
}

export function buildVirtio(platform: Platform, msi: MsiSink, { slot, config, wires, machine }: VirtioDescription): VirtioPci {
  return new VirtioPci(platform, msi, { slot, model: virtioModel(config, machine.id, slot), packed: config.rings === 'packed', wires });
}
