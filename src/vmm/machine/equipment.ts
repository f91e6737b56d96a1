// What pluggable devices need of the host, on the control thread: given to a device before it is built, taken back when no thread has it.
import { isVirtio, type DeviceConfig } from '../../shared/machine-config.ts';
import type { Forward } from '../net/passt-program.ts';
import { PciTestStore } from '../devices/pci-test/parts.ts';
import type { PciDevice } from '../pci/device.ts';
import { HostDevices, type HostDevicesOptions } from '../vfio/host-devices.ts';
import { Passthrough } from '../vfio/passthrough.ts';
import { DropGate } from '../virtio/balloon/drop-gate.ts';
import type { VirtioDescription } from '../virtio/description.ts';
import { equipVirtio, unequipVirtio } from '../virtio/equip.ts';
import { Networks, type ToBackend } from './networks.ts';
import { equip, type PluggedDescription } from './plugged.ts';

export interface EquipmentOptions extends HostDevicesOptions {
  /** The machine's id. */
  readonly id: string;
  /** Whether guest RAM may be given back to the host is another thing now than it was: balloons shall look. */
  gateMoved(): void;
}

export class Equipment {
  readonly #machine: { readonly id: string; readonly name: string };
  readonly #virtio = new Set<VirtioDescription>();
  readonly #networks: Networks;
  readonly #store = new PciTestStore();
  readonly #host: HostDevices;
  readonly #gate = new DropGate();
  readonly #gateMoved: () => void;

  constructor(options: EquipmentOptions) {
    this.#machine = { id: options.id, name: options.name };
    this.#networks = new Networks(options);
    this.#host = new HostDevices(options);
    this.#gateMoved = () => options.gateMoved();
  }

  /** Throws VitrineError when the host cannot give what a device needs; nothing is taken then. */
  equip(config: DeviceConfig, slot: number): PluggedDescription {
    if (config.kind === 'vfio-pci') return { slot, config, taken: this.#pinned(() => this.#host.take({ address: config.address, rom: config.rom, slot })) };
    if (!isVirtio(config)) return equip(config, slot, this.#store);
    const description = equipVirtio(config, slot, this.#machine, this.#gate);
    this.#virtio.add(description);
    return description;
  }

  /** When the device's Worker has built its backend: what that needs while it works. Rejects with a VitrineError. @param send to the backend */
  async begin(description: PluggedDescription, send: ToBackend): Promise<void> {
    if ('wires' in description) await this.#networks.begin(description, send);
  }

  /** The ports of the host that lead into the guest by the network card in `slot`. Rejects with a VitrineError, with the forwards before in place. */
  forward(slot: number, forwards: readonly Forward[]): Promise<void> {
    return this.#networks.forward(slot, forwards);
  }

  /** A device of the host's reaches guest RAM from within `take` on. */
  #pinned<T>(take: () => T): T {
    this.#gate.close();
    try {
      const taken = take();
      this.#gateMoved();
      return taken;
    } catch (thrown) {
      this.#gate.open();
      throw thrown;
    }
  }

  /**
   * Before their own reset: what can be reset only with its neighbours. No vCPU runs, or no guest sees them.
   * @param functions the control thread's
   * @param running of other devices, which a guest uses meanwhile
   */
  reset(functions: readonly PciDevice[], running: readonly PciDevice[] = []): void {
    const devices = functions.filter((each) => each instanceof Passthrough);
    if (devices.length === 0) return;
    for (const device of devices) device.quiesce();
    this.#host.resetTogether(devices.map(({ address }) => address), running.filter((each) => each instanceof Passthrough).map(({ address }) => address));
  }

  /** No other thread has the device any more, and no guest sees it. @param functions the control thread's, as far as they were built */
  give(description: PluggedDescription, functions: readonly PciDevice[]): void {
    if ('wires' in description) {
      this.#networks.end(description.slot);
      if (this.#virtio.delete(description)) unequipVirtio(description);
      return;
    }
    if (!('taken' in description)) {
      for (const parts of description.parts) this.#store.give(parts);
      return;
    }
    try {
      for (const device of functions) if (device instanceof Passthrough) device.dispose();
    } finally {
      this.#host.give(description.config.address);
      this.#gate.open();
      this.#gateMoved();
    }
  }

  /** When no thread is left. @param functions the control thread's, whether guests see them or not */
  close(functions: readonly PciDevice[]): void {
    try {
      for (const device of functions) if (device instanceof Passthrough) device.dispose();
    } finally {
      this.#host.close();
      this.#store.close();
      this.#networks.close();
      for (const description of this.#virtio) unequipVirtio(description);
      this.#virtio.clear();
    }
  }
}
