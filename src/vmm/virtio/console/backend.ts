// The console's work: what the guest writes to a port is told to the control thread, as long as that has taken what it was told before; what is written
// to a port from outside waits here, bounded, until the guest lends room. Control messages that are due are kept as bits of each port, not as a list: a
// driver that asks without end and never takes an answer makes nothing grow.
// The host's end of every port is always open: what nobody reads is kept by the control thread, bounded.
import { VitrineError } from '../../../shared/errors.ts';
import type { Backend, BackendHost, DriverSession } from '../backend.ts';
import type { Chain, Virtqueue } from '../queue/virtqueue.ts';
import { ByteQueue } from './byte-queue.ts';
import { COLUMNS, CONTROL_IN, CONTROL_OUT, F_MULTIPORT, portName, receiveQueue, ROWS, takeEmergency, transmitQueue } from './model.ts';

/** Bytes of a port that the control thread was told and has not taken, at most. */
export const OUTPUT_WINDOW = 128 * 1024;
/** Bytes of a port that wait for the guest, at most. */
export const INPUT_ROOM = 64 * 1024;
const PIECE = 32 * 1024;

/** What the control thread says. */
export type ConsoleMail =
  /** Bytes for the guest. Answered with how many of them found room; `console-room` is told when there is room again. */
  | { kind: 'console-input'; port: number; bytes: Uint8Array }
  /** So many bytes of the port's output were taken. */
  | { kind: 'console-taken'; port: number; bytes: number }
  /** The terminal's size, of a console. */
  | { kind: 'console-size'; port: number; columns: number; rows: number };

// Control messages: id (4), event (2), value (2) (§5.3.6.2).
const CONTROL_BYTES = 8;
const DEVICE_READY = 0;
const DEVICE_ADD = 1;
const PORT_READY = 3;
const CONSOLE_PORT = 4;
const RESIZE = 5;
const PORT_OPEN = 6;
const PORT_NAME = 7;
/** Those that a port may have due, in the order in which they go. */
const ANNOUNCED = [DEVICE_ADD, CONSOLE_PORT, RESIZE, PORT_NAME, PORT_OPEN] as const;

interface Port {
  readonly number: number;
  readonly input: ByteQueue;
  /** Somebody was told that there is no room. */
  refused: boolean;
  ready: boolean;
  /** Events that are due. */
  readonly due: Set<number>;
  /** The guest's end. */
  open: boolean;
  columns: number;
  rows: number;
  /** Told, not taken. */
  told: number;
  /** A chain of the transmit queue that did not fit the window: so much of it was told. */
  partial: { readonly queue: Virtqueue; readonly chain: Chain; at: number } | null;
}

export class ConsoleBackend implements Backend {
  readonly #host: BackendHost;
  readonly #ports: readonly Port[];
  #driver: DriverSession | undefined;
  #running = false;

  constructor(host: BackendHost, ports: number) {
    this.#host = host;
    this.#ports = Array.from({ length: ports }, (_, number) => ({
      number, input: new ByteQueue(), refused: false, ready: false, due: new Set<number>(), open: false, columns: 80, rows: 25, told: 0, partial: null,
    }));
    for (const { number } of this.#ports) host.tell({ kind: 'console-open', port: number, open: false });
  }

  start(driver: DriverSession): void {
    this.#driver = driver;
    this.#running = true;
    if (!driver.has(F_MULTIPORT)) this.#setOpen(this.#ports[0]!, true);
  }

  kicked(index: number): void {
    if (index === CONTROL_IN) this.#announce();
    else if (index === CONTROL_OUT) this.#obey();
    else {
      const port = this.#ports[index < 2 ? 0 : (index >>> 1) - 1]!;
      if (index % 2 === 0) this.#feed(port);
      else this.#drain(port);
    }
  }

  quiesce(done: () => void): void {
    this.#running = false;
    done();
  }

  resume(): void {
    this.#running = true;
    // A queue that was reset meanwhile took its chains along.
    for (const port of this.#ports) if (port.partial !== null && port.partial.queue !== this.#driver!.queue(transmitQueue(port.number))) port.partial = null;
  }

  stop(): void {
    this.#driver = undefined;
    for (const port of this.#ports) {
      this.#setOpen(port, false);
      port.ready = false;
      port.due.clear();
      port.partial = null;
    }
  }

  configWritten(): void {
    const [first] = this.#ports;
    this.#tell(first!, takeEmergency(this.#host.config.hidden, OUTPUT_WINDOW - first!.told));
  }

  writtenEarly(): void {
    this.configWritten();
  }

  dispose(): void {
    this.#running = false;
  }

  /** What a letter makes possible: a driver that broke its rings is the driver's fault, not the letter's. */
  #later(act: () => void): void {
    this.#host.loop.atEndOfTurn(() => {
      if (this.#running) act();
    });
  }

  #port(number: number): Port {
    const port = this.#ports[number];
    if (port === undefined) throw new VitrineError({ attempted: `use port ${number}`, on: this.#host.label, why: `it has ${this.#ports.length} ports.`, remedy: '', code: 'no-such-port' });
    return port;
  }

  mail(message: unknown): unknown {
    const mail = message as ConsoleMail;
    const port = this.#port(mail.port);
    if (mail.kind === 'console-input') return this.#input(port, mail.bytes);
    if (mail.kind === 'console-taken') {
      port.told -= mail.bytes;
      if (port.number === 0) this.configWritten();
      this.#later(() => this.#drain(port));
      return undefined;
    }
    this.#resize(port, mail.columns, mail.rows);
    return undefined;
  }

  // Output.

  #tell(port: Port, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    port.told += bytes.length;
    this.#host.tell({ kind: 'console', port: port.number, bytes });
  }

  /** Tells what the guest wrote, as far as the window allows. */
  #drain(port: Port): void {
    const queue = this.#driver?.queue(transmitQueue(port.number));
    if (queue === undefined) return;
    const pieces: Uint8Array[] = [];
    let room = OUTPUT_WINDOW - port.told;
    let completed = false;
    while (room > 0) {
      if (port.partial === null) {
        const chain = queue.take();
        if (chain === null) break;
        port.partial = { queue, chain, at: 0 };
      }
      const { partial } = port;
      const bytes = new Uint8Array(Math.min(room, PIECE, partial.chain.readable.bytes - partial.at));
      partial.chain.readable.read(partial.at, bytes);
      if (bytes.length > 0) pieces.push(bytes);
      partial.at += bytes.length;
      room -= bytes.length;
      if (partial.at < partial.chain.readable.bytes) continue;
      queue.complete(partial.chain, 0);
      port.partial = null;
      completed = true;
    }
    if (completed) this.#driver!.completed(queue);
    this.#tell(port, pieces.length === 1 ? pieces[0]! : Uint8Array.from(Buffer.concat(pieces)));
  }

  // Input.

  #input(port: Port, bytes: Uint8Array): number {
    const taken = Math.min(bytes.length, INPUT_ROOM - port.input.length);
    port.input.push(bytes.subarray(0, taken));
    if (taken < bytes.length) port.refused = true;
    this.#later(() => this.#feed(port));
    return taken;
  }

  #feed(port: Port): void {
    const queue = this.#driver?.queue(receiveQueue(port.number));
    if (queue === undefined || !port.open) return;
    let completed = false;
    while (port.input.length > 0) {
      const chain = queue.take();
      if (chain === null) break;
      let at = 0;
      for (let bytes = port.input.take(chain.writable.bytes); bytes.length > 0; bytes = port.input.take(chain.writable.bytes - at)) at += chain.writable.write(at, bytes);
      queue.complete(chain, at);
      completed = true;
    }
    if (completed) this.#driver!.completed(queue);
    if (!port.refused || port.input.length > INPUT_ROOM / 2) return;
    port.refused = false;
    this.#host.tell({ kind: 'console-room', port: port.number });
  }

  #setOpen(port: Port, open: boolean): void {
    if (port.open === open) return;
    port.open = open;
    this.#host.tell({ kind: 'console-open', port: port.number, open });
    if (open && this.#running) this.#feed(port);
  }

  // Control messages.

  #obey(): void {
    const queue = this.#driver!.queue(CONTROL_OUT)!;
    const header = new Uint8Array(CONTROL_BYTES);
    const view = new DataView(header.buffer);
    for (let chain = queue.take(); chain !== null; chain = queue.take()) {
      const whole = chain.readable.read(0, header) === CONTROL_BYTES;
      queue.complete(chain, 0);
      if (whole) this.#told(view.getUint32(0, true), view.getUint16(4, true), view.getUint16(6, true) === 1);
    }
    this.#driver!.completed(queue);
    this.#announce();
  }

  #told(id: number, event: number, yes: boolean): void {
    if (event === DEVICE_READY) {
      if (yes) for (const port of this.#ports) port.due.add(DEVICE_ADD);
      else this.#host.log('the guest\'s driver could not set the device up');
      return;
    }
    const port = this.#ports[id];
    if (port === undefined) return;
    if (event === PORT_OPEN) this.#setOpen(port, yes);
    if (event !== PORT_READY) return;
    port.ready = yes;
    if (!yes) return;
    for (const due of port.number === 0 ? [CONSOLE_PORT, RESIZE, PORT_OPEN] : [PORT_NAME, PORT_OPEN]) port.due.add(due);
  }

  /** Says what is due as far as the driver lends room for it. */
  #announce(): void {
    const queue = this.#driver?.queue(CONTROL_IN);
    if (queue === undefined || !this.#driver!.has(F_MULTIPORT)) return;
    let completed = false;
    for (const port of this.#ports) {
      for (const event of ANNOUNCED) {
        if (!port.due.has(event)) continue;
        const chain = queue.take();
        if (chain === null) {
          if (completed) this.#driver!.completed(queue);
          return;
        }
        port.due.delete(event);
        queue.complete(chain, chain.writable.write(0, controlMessage(port, event)));
        completed = true;
      }
    }
    if (completed) this.#driver!.completed(queue);
  }

  #resize(port: Port, columns: number, rows: number): void {
    port.columns = columns;
    port.rows = rows;
    if (port.number === 0) {
      this.#host.config.update((view) => {
        view.setUint16(COLUMNS, columns, true);
        view.setUint16(ROWS, rows, true);
      });
    }
    if (port.number !== 0 || !port.ready) return;
    port.due.add(RESIZE);
    this.#later(() => this.#announce());
  }
}

function controlMessage(port: Port, event: number): Uint8Array {
  const name = event === PORT_NAME ? Buffer.from(portName(port.number)) : Buffer.alloc(0);
  const message = new Uint8Array(CONTROL_BYTES + (event === RESIZE ? 4 : name.length));
  const view = new DataView(message.buffer);
  view.setUint32(0, port.number, true);
  view.setUint16(4, event, true);
  view.setUint16(6, event === DEVICE_ADD ? 0 : 1, true);
  if (event === RESIZE) {
    view.setUint16(8, port.columns, true);
    view.setUint16(10, port.rows, true);
  }
  message.set(name, CONTROL_BYTES);
  return message;
}
