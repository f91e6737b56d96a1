// What the machine process's server needs of a machine. The machine implements it; tests have a fake one. Everything here runs on the
// control thread.
import type { PointerInput, TabletInput } from '../../shared/protocol/input.ts';
import type { DeviceChange } from '../../shared/device-change.ts';
import type { DeviceConfig } from '../../shared/machine-config.ts';
import type { LogLine, MachineState, MachineStats, PluggedDevice } from '../../shared/protocol/machine.ts';
import { LOG_BACKLOG, SERIAL_BACKLOG } from '../../shared/protocol/machine.ts';

export type Unsubscribe = () => void;

/** A value that others watch. `set` with an equal value tells nobody. */
export class Watched<T> {
  #value: T;
  readonly #listeners = new Set<(value: T) => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set(value: T): void {
    if (value === this.#value) return;
    this.#value = value;
    for (const listener of this.#listeners) listener(value);
  }

  /** Replaces some members; for values that are objects. */
  update(changes: Partial<T>): void {
    this.set({ ...this.#value, ...changes });
  }

  /** Tells `listener` of every change from now on. */
  subscribe(listener: (value: T) => void): Unsubscribe {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** The last bytes that a guest wrote to its serial port, and those who want the next ones. */
export class SerialBacklog {
  readonly #listeners = new Set<(bytes: Uint8Array) => void>();
  readonly #behind = new Set<() => boolean>();
  #chunks: Uint8Array[] = [];
  #size = 0;
  #dropped = 0;
  readonly #limit: number;

  constructor(limit = SERIAL_BACKLOG) {
    this.#limit = limit;
  }

  /** Adds what the guest wrote; the bytes are kept, so the caller must not reuse the array. */
  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#chunks.push(bytes);
    this.#size += bytes.length;
    while (this.#size > this.#limit) {
      const first = this.#chunks[0];
      const excess = this.#size - this.#limit;
      const cut = Math.min(first.length, excess);
      if (cut === first.length) this.#chunks.shift();
      else this.#chunks[0] = first.subarray(cut);
      this.#size -= cut;
      this.#dropped += cut;
    }
    // A guest that writes byte by byte would otherwise leave an array of a quarter of a million arrays.
    if (this.#chunks.length > 1024) this.#chunks = [Uint8Array.from(Buffer.concat(this.#chunks))];
    for (const listener of this.#listeners) listener(bytes);
  }

  /** What is kept, and how many bytes before it are gone. */
  backlog(): { bytes: Uint8Array; dropped: number } {
    return { bytes: Buffer.concat(this.#chunks), dropped: this.#dropped };
  }

  /** @param behind whether the listener has more waiting than it reads, for those who can make the guest wait */
  subscribe(listener: (bytes: Uint8Array) => void, behind: () => boolean = () => false): Unsubscribe {
    this.#listeners.add(listener);
    this.#behind.add(behind);
    return () => {
      this.#listeners.delete(listener);
      this.#behind.delete(behind);
    };
  }

  /** Somebody does not read as fast as the guest writes. */
  get behind(): boolean {
    return [...this.#behind].some((behind) => behind());
  }
}

/** The last lines of the machine's own log, and those who want the next ones. */
export class LogBacklog {
  readonly #listeners = new Set<(line: LogLine) => void>();
  readonly #lines: LogLine[] = [];

  push(level: LogLine['level'], text: string): void {
    const line: LogLine = { at: Date.now(), level, text };
    this.#lines.push(line);
    if (this.#lines.length > LOG_BACKLOG) this.#lines.shift();
    for (const listener of this.#listeners) listener(line);
  }

  backlog(): LogLine[] {
    return [...this.#lines];
  }

  subscribe(listener: (line: LogLine) => void): Unsubscribe {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** What a machine says of itself; the server adds viewers, the owner of the input and each connection's own id. */
export type MachineFacts = Omit<MachineState, 'viewers' | 'inputOwner' | 'you'>;

/** A viewer as the display's sender sees it. */
export interface ScreenViewer {
  readonly id: string;
  /** Sends one binary frame message (frames.ts). The bytes are taken before it returns or the array must not change until they are. */
  send(frame: Uint8Array): void;
  /** Bytes that wait in this process for the viewer to read them. */
  buffered(): number;
}

/** The display's side of an attached viewer. */
export interface ScreenAttachment {
  /** The viewer has shown frame `seq`. Comes from outside: any number may come. */
  acknowledge(seq: number): void;
  /** The viewer is gone; no frame is sent to it any more. */
  detach(): void;
}

export interface MachineControl {
  readonly facts: Watched<MachineFacts>;
  readonly serial: SerialBacklog;
  readonly log: LogBacklog;

  /** Calls `listener` once a second, the first time at once; measuring may stop while nobody listens. */
  watchStats(listener: (stats: MachineStats) => void): Unsubscribe;

  // Each resolves when it is done and rejects with a VitrineError.
  pause(): Promise<void>;
  resume(): Promise<void>;
  powerButton(): Promise<void>;
  reset(): Promise<void>;
  /** Resolves when the vCPUs have stopped; the process ends after that by itself. */
  forceOff(): Promise<void>;
  /** What is on the PCI bus, in slot order. */
  listDevices(): PluggedDevice[];
  addDevice(device: DeviceConfig): Promise<{ slot: number; told: boolean }>;
  removeDevice(slot: number, options: { readonly force: boolean; readonly seconds: number }): Promise<void>;
  changeDevice(slot: number, change: DeviceChange): Promise<void>;
  /** The guest's screen; rejects when the machine has no display. */
  screenshot(): Promise<{ png: Uint8Array; width: number; height: number }>;
  /** Resolves when the port's queue has taken all bytes; `signal` gives up waiting. */
  serialWrite(bytes: Uint8Array, signal: AbortSignal): Promise<void>;
  /** What the guest wrote to a port of a virtio console. Throws a VitrineError when there is no such port. */
  console(slot: number, port: number): SerialBacklog;
  /** As serialWrite. */
  consoleWrite(slot: number, port: number, bytes: Uint8Array, signal: AbortSignal): Promise<void>;
  consoleSize(slot: number, port: number, columns: number, rows: number): Promise<void>;
  /** Asks the guest to keep `bytes` of its memory. */
  setBalloon(bytes: number): Promise<void>;

  /** An evdev key, checked to be 1 to 0x2ff; codes that a PS/2 keyboard does not have are ignored. */
  key(code: number, down: boolean): void;
  pointer(input: PointerInput): void;
  /** Nothing happens while the guest works no tablet. */
  tablet(input: TabletInput): void;

  /** Begins to send frames, a whole one first. Throws a VitrineError when the machine has no display. */
  attachViewer(viewer: ScreenViewer): ScreenAttachment;
}
