// The ports of a machine's virtio consoles on the control thread: what guests wrote last, who wants the next of it, and bytes on their way in.
import { VitrineError } from '../../shared/errors.ts';
import type { ConsolePort } from '../../shared/protocol/machine.ts';
import { SerialBacklog } from '../server/control.ts';
import type { ConsoleMail } from '../virtio/console/backend.ts';
import { portName } from '../virtio/console/model.ts';
import type { DeviceNews } from '../virtio/news.ts';

/** A guest that writes faster than a watcher reads goes on no faster than a window in this time, milliseconds: watchers are cut off only if they read nothing at all. */
const PACE_MS = 100;

export interface ConsolesOptions {
  /** To the device's backend. Rejects when the device is gone. */
  send(slot: number, mail: ConsoleMail): Promise<unknown>;
  /** Another port, or one less, or one was opened or closed. */
  changed(ports: ConsolePort[]): void;
}

interface Pending {
  bytes: Uint8Array;
  readonly done: () => void;
}

interface Port {
  readonly slot: number;
  readonly number: number;
  readonly backlog: SerialBacklog;
  open: boolean;
  readonly pending: Pending[];
  pumping: boolean;
  /** How often there was room again. */
  rooms: number;
  /** Wakes the pump. */
  wake: () => void;
}

export class Consoles {
  readonly #o: ConsolesOptions;
  readonly #ports: Port[] = [];

  constructor(options: ConsolesOptions) {
    this.#o = options;
  }

  /** A machine that has not begun yet will have this device: its ports are there to be watched. */
  expect(slot: number, ports: number): void {
    for (let number = 0; number < ports; number++) this.#opened(slot, number, false);
  }

  /** What a device says. @returns whether it was a console's word */
  told(slot: number, news: DeviceNews): boolean {
    if (news.kind === 'console-open') this.#opened(slot, news.port, news.open);
    else if (news.kind === 'console') this.#output(this.#find(slot, news.port)!, news.bytes);
    else if (news.kind === 'console-room') {
      const port = this.#find(slot, news.port)!;
      port.rooms++;
      port.wake();
    } else return false;
    return true;
  }

  /** The device in this slot, if it was a console, is no more. */
  gone(slot: number): void {
    const leaving = this.#ports.filter((port) => port.slot === slot);
    if (leaving.length === 0) return;
    for (const port of leaving) {
      this.#ports.splice(this.#ports.indexOf(port), 1);
      endPending(port);
    }
    this.#changed();
  }

  /** Nobody waits any more for a guest to read. */
  close(): void {
    for (const port of this.#ports) endPending(port);
  }

  #find(slot: number, number: number): Port | undefined {
    return this.#ports.find((port) => port.slot === slot && port.number === number);
  }

  /** Throws VitrineError when there is no such port. */
  #port(slot: number, number: number, attempted: string): Port {
    const port = this.#find(slot, number);
    if (port === undefined) throw new VitrineError({ attempted, on: `port ${number} of slot ${slot}`, why: 'there is no such console.', remedy: '', code: 'no-such-console' });
    return port;
  }

  #opened(slot: number, number: number, open: boolean): void {
    let port = this.#find(slot, number);
    if (port === undefined) {
      port = { slot, number, backlog: new SerialBacklog(), open, pending: [], pumping: false, rooms: 0, wake: () => {} };
      this.#ports.push(port);
      this.#ports.sort((a, b) => a.slot - b.slot || a.number - b.number);
    }
    port.open = open;
    this.#changed();
  }

  #changed(): void {
    const slots = [...new Set(this.#ports.map(({ slot }) => slot))];
    // Linux numbers its consoles as it finds the devices, by slot.
    this.#o.changed(this.#ports.map(({ slot, number, open }) => ({ slot, port: number, name: number === 0 ? `hvc${slots.indexOf(slot)}` : portName(number), open })));
  }

  #output(port: Port, bytes: Uint8Array): void {
    port.backlog.push(bytes);
    const taken = (): void => void this.#o.send(port.slot, { kind: 'console-taken', port: port.number, bytes: bytes.length }).catch(() => {}); // it is gone, and counts no more
    if (port.backlog.behind) setTimeout(taken, PACE_MS).unref();
    else taken();
  }

  /** Throws VitrineError when there is no such port. */
  backlog(slot: number, number: number): SerialBacklog {
    return this.#port(slot, number, 'watch a console').backlog;
  }

  /** Resolves when the port has taken all of `bytes`, `signal` aborts or the device goes. Rejects with a VitrineError when there is no such port. */
  async write(slot: number, number: number, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    const port = this.#port(slot, number, 'write to a console');
    await new Promise<void>((resolve) => {
      const pending: Pending = { bytes, done: resolve };
      port.pending.push(pending);
      signal.addEventListener('abort', () => {
        pending.bytes = new Uint8Array(0);
        port.wake();
        resolve();
      }, { once: true });
      if (!port.pumping) void this.#pump(port);
    });
  }

  async #pump(port: Port): Promise<void> {
    port.pumping = true;
    for (let first = port.pending[0]; first !== undefined; first = port.pending[0]) {
      if (first.bytes.length > 0) {
        const { rooms } = port;
        let taken: number;
        try {
          taken = (await this.#o.send(port.slot, { kind: 'console-input', port: port.number, bytes: first.bytes })) as number;
        } catch {
          endPending(port);
          break;
        }
        first.bytes = first.bytes.subarray(taken);
        if (first.bytes.length > 0 && port.rooms === rooms) await new Promise<void>((resolve) => (port.wake = resolve));
      }
      if (first.bytes.length > 0 || port.pending[0] !== first) continue;
      port.pending.shift();
      first.done();
    }
    port.pumping = false;
  }

  /** The terminal that shows the port has this size now. Rejects with a VitrineError when there is no such port. */
  async resize(slot: number, number: number, columns: number, rows: number): Promise<void> {
    this.#port(slot, number, 'change the size of a console');
    await this.#o.send(slot, { kind: 'console-size', port: number, columns, rows });
  }
}

function endPending(port: Port): void {
  for (const { done } of port.pending.splice(0)) done();
  port.wake();
}
