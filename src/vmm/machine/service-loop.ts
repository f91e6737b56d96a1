// Calls the devices' service() on the control thread: when they asked for attention, and when the time that they named has come.
import type { Device, GuestClock } from '../devices/device.ts';
import type { Attention } from './thread-platform.ts';

const NS_PER_MS = 1e6;
const MAX_TIMEOUT = 2 ** 31 - 1;

export class ServiceLoop {
  readonly #devices: { readonly all: readonly Device[] };
  readonly #clock: GuestClock;
  readonly #attention: Attention;
  readonly #failed: (thrown: unknown) => void;
  readonly #due = new Map<Device, number>();
  #timer: NodeJS.Timeout | undefined;
  #running = false;

  /** @param devices whose `all` are those of the moment: some come and go */
  constructor(devices: { readonly all: readonly Device[] }, clock: GuestClock, attention: Attention, failed: (thrown: unknown) => void) {
    this.#devices = devices;
    this.#clock = clock;
    this.#attention = attention;
    this.#failed = failed;
  }

  #served(): Device[] {
    return this.#devices.all.filter((device) => device.service !== undefined);
  }

  /** Begins, or goes on after a pause: everything is looked after once. */
  start(): void {
    this.#running = true;
    for (const device of this.#served()) this.#serve(device);
    this.#arm();
  }

  /** While the machine is paused nothing is due; attention that is asked for waits. */
  stop(): void {
    this.#running = false;
    clearTimeout(this.#timer);
  }

  /** A thread asked for attention. */
  attend(): void {
    this.#attention.begin();
    for (const device of this.#served()) if (this.#attention.take(device.label)) this.#serve(device);
    if (this.#running) this.#arm();
  }

  /** A last look, so that what the guest said before its end is not lost. */
  drain(): void {
    for (const device of this.#served()) this.#serve(device);
  }

  #serve(device: Device): void {
    try {
      const due = device.service!();
      if (due === undefined) this.#due.delete(device);
      else this.#due.set(device, due);
    } catch (thrown) {
      this.#failed(thrown);
    }
  }

  #arm(): void {
    clearTimeout(this.#timer);
    if (this.#due.size === 0) return;
    const next = Math.min(...this.#due.values());
    const wait = Math.min(MAX_TIMEOUT, Math.max(0, Math.ceil((next - this.#clock.now()) / NS_PER_MS)));
    this.#timer = setTimeout(() => this.#tick(), wait);
  }

  #tick(): void {
    const now = this.#clock.now();
    const served = this.#served();
    for (const device of this.#due.keys()) if (!served.includes(device)) this.#due.delete(device);
    for (const [device, due] of this.#due) if (due <= now) this.#serve(device);
    this.#arm();
  }
}
