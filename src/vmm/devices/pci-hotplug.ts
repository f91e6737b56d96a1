// The hot-plug controller of bus 0: 16 ports by which ACPI's methods in the DSDT (arch/x86/acpi/hotplug.ts) learn which slots have got a device, or
// shall give theirs back, and say that they do. One bit for each slot. A design of ours, of the kind that PCs have had since PCI was hot-plugged
// through ACPI (ACPI 6.5 §6.3): no driver but the system's own ACPI is needed.
//
//   0x0  UP         a device came here; writing 1 clears
//   0x4  DOWN       the device here shall go; writing 1 clears
//   0x8  EJECT      writing 1 gives the device back; reads 1 until it is gone
//   0xc  REMOVABLE  slots whose device can be given back
//
// General purpose event 1 says that UP or DOWN has a new bit. The device itself comes and goes on the control thread (machine/hot-plug.ts).
import type { Mutex } from '../sync/mutex.ts';
import type { Width } from '../bus/handler.ts';
import type { Device, FixedRange, Platform } from './device.ts';
import type { PowerManagement } from './pm.ts';

/** Beside the legacy ports, where no BAR lies; 0xcf8 follows. */
export const HOTPLUG_PORT = 0xcc0;
export const HOTPLUG_PORTS = 0x10;
export const HOTPLUG_GPE = 1;
export const UP = 0x0;
export const DOWN = 0x4;
export const EJECT = 0x8;
export const REMOVABLE = 0xc;

export class PciHotplug implements Device {
  readonly label = 'pci-hotplug';
  readonly mutex: Mutex;
  readonly ranges: readonly FixedRange[];
  /** Control thread: the guest gives a device back. Called by service(), until `gone`. */
  onEject: ((slot: number) => void) | null = null;
  readonly #platform: Platform;
  readonly #pm: PowerManagement;
  readonly #words: Uint32Array;

  constructor(platform: Platform, pm: PowerManagement) {
    this.#platform = platform;
    this.#pm = pm;
    this.mutex = platform.arena.mutex('pci-hotplug.mutex');
    this.#words = platform.arena.uint32('pci-hotplug.state', HOTPLUG_PORTS / 4);
    const handler = { read: (offset: number, width: Width) => this.#read(offset, width), write: (offset: number, width: Width, value: number) => this.#write(offset, width, value) };
    this.ranges = [{ space: 'io', start: HOTPLUG_PORT, size: HOTPLUG_PORTS, handler }];
  }

  /** Nothing is new and nothing is asked; devices stay where they are. */
  reset(): void {
    this.#words[UP / 4] = 0;
    this.#words[DOWN / 4] = 0;
    this.#words[EJECT / 4] = 0;
  }

  /** The slot's device can be given back. */
  allow(slot: number): void {
    this.#change(REMOVABLE, slot);
  }

  /** A device came. @returns whether the guest listens. */
  came(slot: number): boolean {
    this.allow(slot);
    this.#change(UP, slot);
    return this.#pm.raiseGpe(HOTPLUG_GPE);
  }

  /** The guest shall give the device back. @returns whether it listens. */
  ask(slot: number): boolean {
    this.#change(DOWN, slot);
    return this.#pm.raiseGpe(HOTPLUG_GPE);
  }

  /** The guest need not give the device back after all. */
  forget(slot: number): void {
    this.mutex.run(() => (this.#words[DOWN / 4]! &= ~(1 << slot)));
  }

  /** The slot is empty. */
  gone(slot: number): void {
    this.mutex.run(() => {
      for (const register of [UP, DOWN, EJECT, REMOVABLE]) this.#words[register / 4]! &= ~(1 << slot);
    });
  }

  removable(slot: number): boolean {
    return (this.#words[REMOVABLE / 4]! & (1 << slot)) !== 0;
  }

  /** Slots that were asked to be given back, or are being given back. */
  leaving(): number[] {
    const bits = this.mutex.run(() => this.#words[DOWN / 4]! | this.#words[EJECT / 4]!);
    return Array.from({ length: 32 }, (_, slot) => slot).filter((slot) => (bits & (1 << slot)) !== 0);
  }

  service(): undefined {
    const bits = this.mutex.run(() => this.#words[EJECT / 4]!);
    for (let slot = 0; slot < 32; slot++) if ((bits & (1 << slot)) !== 0) this.onEject?.(slot);
  }

  #change(register: number, slot: number): void {
    this.mutex.run(() => (this.#words[register / 4]! |= 1 << slot));
  }

  // Dwords; anything narrower reads its part and writes nothing.

  #read(offset: number, width: Width): number {
    if ((offset & 3) + width > 4) return 0;
    const value = this.#words[offset >> 2]! >>> (8 * (offset & 3));
    return width === 4 ? value : width === 2 ? value & 0xffff : value & 0xff;
  }

  #write(offset: number, width: Width, value: number): void {
    if (width !== 4 || offset % 4 !== 0) return;
    const words = this.#words;
    if (offset === UP || offset === DOWN) words[offset / 4]! &= ~value;
    else if (offset === EJECT) {
      words[EJECT / 4]! |= value & words[REMOVABLE / 4]!;
      if (words[EJECT / 4] !== 0) this.#platform.attention(this.label);
    }
  }
}
