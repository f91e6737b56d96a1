// PCI devices that come and go while the guest runs. The control thread leads; every vCPU's thread has an instance of each device and must have
// done its part before the next step:
//
//   in:   the control thread builds the device, noting its shared slices → every thread builds it → all have answered → guests see it → the guest is told
//   out:  the guest is asked → it gives the device back (or is not asked) → guests see it no more → every thread drops it, between two exits, so that
//         none is inside a handler of it → all have answered → what it needed of the host is free
import { VitrineError } from '../../shared/errors.ts';
import type { DeviceConfig } from '../../shared/machine-config.ts';
import type { PluggedDevice } from '../../shared/protocol/machine.ts';
import { chooseSlots } from '../../shared/slots.ts';
import type { PciDevice } from '../pci/device.ts';
import type { Slices } from '../sync/arena.ts';
import type { InputForm } from '../virtio/input/model.ts';
import { isVirtioDevice } from '../virtio/pci.ts';
import { PoisonedError } from '../sync/mutex.ts';
import type { Equipment } from './equipment.ts';
import type { IoThreads } from './io-threads.ts';
import { buildPlugged, type PluggedDescription } from './plugged.ts';
import type { MachineThread } from './thread.ts';

/** What a vCPU's thread is told; see VcpuThreads.tell. */
export type PlugMail =
  | { kind: 'plug'; device: PluggedDescription; slices: Slices }
  | { kind: 'unplug'; slot: number };

/** A vCPU's thread does what it is told. */
export function obeyPlugMail(thread: MachineThread, mail: PlugMail): void {
  if (mail.kind === 'unplug') {
    thread.devices.host.unplug(mail.slot);
    return;
  }
  thread.arena.learn(mail.slices);
  thread.devices.host.plug(buildPlugged(thread.platform, thread, mail.device), mail.device.slot);
}

export interface HotPlugParts {
  readonly name: string;
  /** The control thread's. */
  readonly thread: MachineThread;
  readonly equipment: Equipment;
  /** Devices that the machine began with. */
  readonly plugged: readonly PluggedDescription[];
  tell(mail: PlugMail): Promise<void>;
  readonly io: IoThreads;
  log(text: string): void;
  /** A step that nobody waits for failed: a defect of ours. */
  failed(thrown: unknown): void;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (why: VitrineError) => void;
  readonly timer: NodeJS.Timeout;
}

export class HotPlug {
  readonly #parts: HotPlugParts;
  readonly #descriptions = new Map<number, PluggedDescription>();
  /** Slots whose device is being built or dropped. */
  readonly #busy = new Set<number>();
  /** Who waits for the guest to give a device back, by slot. */
  readonly #waiters = new Map<number, Waiter[]>();

  constructor(parts: HotPlugParts) {
    this.#parts = parts;
    const { hotplug } = parts.thread.devices;
    for (const device of parts.plugged) this.#descriptions.set(device.slot, device);
    hotplug.onEject = (slot) => void this.#eject(slot, 'the guest gave it back').catch((thrown: unknown) => parts.failed(thrown));
  }

  /** After the hot-plug controller's reset. */
  reset(): void {
    for (const slot of this.#descriptions.keys()) if (!this.#busy.has(slot)) this.#parts.thread.devices.hotplug.allow(slot);
  }

  /** The devices that guests see, in slot order. */
  list(): PluggedDevice[] {
    return this.#parts.thread.devices.host.functions().map(({ slot, number, device }) => {
      const description = this.#busy.has(slot) ? undefined : this.#descriptions.get(slot);
      return { slot, function: number, label: device.label, ...(description === undefined ? {} : { kind: description.config.kind }), removable: description !== undefined };
    });
  }

  /** The slot of an input device of this form that a driver works. */
  inputSlot(form: InputForm): number | undefined {
    for (const { slot, config } of this.#descriptions.values()) {
      if (config.kind !== 'virtio-input' || config.form !== form || this.#busy.has(slot)) continue;
      const device = this.#parts.thread.devices.host.functions().find((each) => each.slot === slot)?.device;
      if (device !== undefined && isVirtioDevice(device) && device.registers.session) return slot;
    }
    return undefined;
  }

  /** The device in this slot, as it was asked for; undefined when it is the machine's own, or none is there. */
  configAt(slot: number): DeviceConfig | undefined {
    return this.#busy.has(slot) ? undefined : this.#descriptions.get(slot)?.config;
  }

  #problem(attempted: string, why: string, remedy: string, code: string): VitrineError {
    return new VitrineError({ attempted, on: this.#parts.name, why, remedy, code });
  }

  /**
   * Adds a device. Resolves when guests see it. Rejects with a VitrineError when there is no slot or no room for it; nothing is left behind then.
   * @returns its slot, and whether the guest was told: one that does not listen finds it when it looks
   */
  async add(config: DeviceConfig): Promise<{ slot: number; told: boolean }> {
    const attempted = 'add the device';
    const { thread, equipment } = this.#parts;
    const { host, hotplug } = thread.devices;
    const taken = [...host.functions().map(({ slot }) => slot), ...this.#busy];
    const [slot] = chooseSlots([config], taken, attempted) as [number];
    this.#busy.add(slot);
    let description: PluggedDescription | undefined;
    let functions: readonly PciDevice[] = [];
    try {
      const device = (description = equipment.equip(config, slot));
      const { built, slices } = thread.arena.record(() => {
        const functions = buildPlugged(thread.platform, thread, device);
        for (const each of functions) thread.attention.register(each.label);
        return functions;
      });
      functions = built;
      host.plug(built, slot);
      await this.#parts.tell({ kind: 'plug', device, slices });
      if ('wires' in device) {
        await this.#parts.io.add(device, thread.arena.describe(), slices);
        await equipment.begin(device, (message) => this.#parts.io.send(slot, message));
      }
      equipment.reset(built, host.functions().filter((each) => each.slot !== slot).map(({ device }) => device));
      for (const each of built) each.reset();
      host.publish(slot);
    } catch (thrown) {
      if (thrown instanceof PoisonedError) throw thrown;
      host.unplug(slot);
      // A thread that ended needs nothing of it any more; those that did not build it have nothing to drop.
      await this.#parts.tell({ kind: 'unplug', slot }).catch(() => {});
      await this.#parts.io.drop(slot).catch(() => {});
      if (description !== undefined) equipment.give(description, functions);
      this.#busy.delete(slot);
      if (thrown instanceof VitrineError) throw thrown;
      throw this.#problem(attempted, `it could not be built: ${thrown instanceof Error ? thrown.message : String(thrown)}.`, '', 'device-not-built');
    }
    this.#descriptions.set(slot, description);
    this.#busy.delete(slot);
    const told = hotplug.came(slot);
    this.#parts.log(`${config.kind} came into slot ${slot}${told ? '' : '; the guest does not listen for it'}`);
    return { slot, told };
  }

  /**
   * Asks the guest for the device, and resolves when it is gone. Rejects with a VitrineError when the guest does not listen, or does not give it back
   * in time: then it stays, and may still go later.
   * @param options force: takes the device without asking, as pulling a card out would. seconds: patience with the guest.
   */
  async remove(slot: number, options: { readonly force: boolean; readonly seconds: number }): Promise<void> {
    const attempted = 'remove the device';
    const { hotplug, host } = this.#parts.thread.devices;
    if (this.#busy.has(slot)) throw this.#problem(attempted, `the device in slot ${slot} is coming or going just now.`, '', 'device-busy');
    if (!this.#descriptions.has(slot)) {
      const there = host.functions().find((each) => each.slot === slot);
      if (there === undefined) throw this.#problem(attempted, `slot ${slot} is empty.`, '', 'no-such-device');
      throw this.#problem(attempted, `${there.device.label} is part of the machine.`, '', 'not-removable');
    }
    if (options.force) {
      await this.#eject(slot, 'it was taken out by force');
      return;
    }
    if (!hotplug.ask(slot)) {
      hotplug.forget(slot);
      throw this.#problem(attempted, 'the guest does not listen for such requests.', 'Take it out by force (--force) if the guest does not use it.', 'guest-does-not-listen');
    }
    await new Promise<void>((resolve, reject) => {
      const waiters = this.#waiters.get(slot) ?? [];
      const timer = setTimeout(() => {
        waiters.splice(waiters.indexOf(waiter), 1);
        reject(this.#problem(attempted, `the guest did not give it back within ${options.seconds} seconds.`, 'It may do so later; --force takes it without asking.', 'guest-does-not-respond'));
      }, options.seconds * 1000);
      const waiter = { resolve, reject, timer };
      waiters.push(waiter);
      this.#waiters.set(slot, waiters);
    });
  }

  /** Before a reset, with every vCPU parked: what the guest was asked for or was giving back goes now, as the next life of the guest expects. */
  settle(): void {
    const { hotplug } = this.#parts.thread.devices;
    for (const slot of new Set([...hotplug.leaving(), ...this.#waiters.keys()])) {
      void this.#eject(slot, 'the guest was reset while it was asked for it').catch((thrown: unknown) => this.#parts.failed(thrown));
    }
  }

  /** The machine ends: nobody waits any more. */
  close(): void {
    for (const waiters of this.#waiters.values()) {
      for (const { timer, reject } of waiters) {
        clearTimeout(timer);
        reject(this.#problem('remove the device', 'the machine ended first.', '', 'not-running'));
      }
    }
    this.#waiters.clear();
  }

  /** Up to the first await everything happens at once: when this returns, guests see nothing of the device any more. */
  async #eject(slot: number, why: string): Promise<void> {
    const description = this.#descriptions.get(slot);
    if (description === undefined || this.#busy.has(slot)) return;
    const { thread, equipment } = this.#parts;
    const { host, hotplug } = thread.devices;
    this.#busy.add(slot);
    this.#descriptions.delete(slot);
    const functions = host.functions().filter((each) => each.slot === slot).map(({ device }) => device);
    for (const device of functions) if (isVirtioDevice(device)) device.silence();
    host.withdraw(slot);
    host.unplug(slot);
    hotplug.gone(slot);
    for (const { timer } of this.#waiters.get(slot) ?? []) clearTimeout(timer);
    this.#parts.log(`${description.config.kind} left slot ${slot}: ${why}`);
    await this.#parts.tell({ kind: 'unplug', slot });
    await this.#parts.io.drop(slot);
    equipment.give(description, functions);
    this.#busy.delete(slot);
    for (const { resolve } of this.#waiters.get(slot) ?? []) resolve();
    this.#waiters.delete(slot);
  }
}
