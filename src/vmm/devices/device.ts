// The interface of every device, and what the machine gives to one. A device keeps all of its state in slices of the arena: every thread
// has an instance of its own over the same slices, and whichever vCPU exits runs the handler there.
import type { Arena } from '../sync/arena.ts';
import type { Mutex } from '../sync/mutex.ts';
import type { Handler } from '../bus/handler.ts';

/** A fixed range of I/O ports or guest-physical addresses that a device answers; PCI BARs are the business of pci/. */
export interface FixedRange {
  readonly space: 'io' | 'memory';
  readonly start: number;
  /** In ports or bytes. */
  readonly size: number;
  readonly handler: Handler;
}

export interface Device {
  /** As it appears in logs and errors: "serial0", "00:02.0 display". */
  readonly label: string;
  /** Held by the bus around every handler call; methods called by others (the control thread) take it themselves. */
  readonly mutex: Mutex;
  readonly ranges: readonly FixedRange[];
  /** To the state after power-on. Called with no vCPU running. */
  reset(): void;
  /**
   * Runs on the control thread after `Platform.attention`, and when the time it returned last has come: sends what was queued, fires timers.
   * @returns guest time in nanoseconds (Platform.clock) at which to be called again, or undefined.
   */
  service?(): number | undefined;
}

/** An interrupt input as one function sees it. Several may share a GSI: it is high while any of them asserts. */
export interface IrqLine {
  set(level: boolean): void;
}

/** Guest time: stops while the machine is paused. */
export interface GuestClock {
  /** Nanoseconds since the machine began, as float64. */
  now(): number;
}

/** What a device asks of the whole machine. Carried out by the control thread, later; the handler returns at once. */
export type MachineRequest =
  | { kind: 'reset'; why: string }
  | { kind: 'power-off'; why: string }
  /** isa-debug-exit: the process ends with `status`. */
  | { kind: 'exit'; status: number };

export interface Platform {
  readonly arena: Arena;
  readonly clock: GuestClock;
  /** True on the control thread, where timers and consumers are. */
  readonly control: boolean;
  /** The line of `owner` into `gsi`; the same owner and GSI give the same line in every thread. */
  irqLine(gsi: number, owner: string): IrqLine;
  /** Has the control thread call `service()` of the device with this label, soon; cheap when already asked for. */
  attention(label: string): void;
  request(request: MachineRequest): void;
  /** A line for the machine's log; rate-limited per `label`. */
  log(label: string, text: string): void;
}
