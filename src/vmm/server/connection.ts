// One connection to a machine process: its calls and watches (Session), its frames, and its input if it owns it.
import type { WebSocket } from 'ws';
import type { Problem } from '../../shared/errors.ts';
import { VitrineError } from '../../shared/errors.ts';
import { decodeAck } from '../../shared/protocol/frames.ts';
import { decodeInput, type PointerInput, type TabletInput } from '../../shared/protocol/input.ts';
import type { MachineProtocol, MachineState } from '../../shared/protocol/machine.ts';
import { machineProtocol } from '../../shared/protocol/machine.ts';
import type { MethodHandlers, TopicHandlers } from '../../shared/protocol/session.ts';
import { Session } from '../../shared/protocol/session.ts';
import type { ScreenAttachment, SerialBacklog } from './control.ts';
import type { Hub } from './serve.ts';

/** A connection that lets this many bytes wait is cut off: it would fill the machine's memory. Frames stop far earlier, unacknowledged. */
const MAX_WAITING = 64 * 2 ** 20;

/** With this much waiting a connection does not read as fast as a guest writes. */
const BEHIND = 2 ** 20;

const MAX_KEY = 0x2ff;

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}

export class Connection {
  readonly id: string;
  readonly #hub: Hub;
  readonly #socket: WebSocket;
  readonly #session: Session<MachineProtocol>;
  readonly #machineWatchers = new Set<(value: MachineState) => void>();
  /** evdev codes that are down, in the order in which they went down. */
  readonly #held = new Set<number>();
  #pointed: PointerInput | TabletInput | undefined;
  #serialWatches = 0;
  #attachment: ScreenAttachment | null = null;

  constructor(hub: Hub, socket: WebSocket) {
    this.#hub = hub;
    this.#socket = socket;
    this.id = hub.newViewerId();
    this.#session = new Session({ spec: machineProtocol, methods: this.#methods(), topics: this.#topics(), send: (text) => this.#send(text) });
  }

  get attached(): boolean {
    return this.#attachment !== null;
  }

  get watchesSerial(): boolean {
    return this.#serialWatches > 0;
  }

  receive(data: Buffer, isBinary: boolean): void {
    if (isBinary) this.#receiveBinary(data);
    else this.#session.receive(data.toString('utf8'));
  }

  /** The machine's state, as this connection sees it, has changed. */
  machineChanged(): void {
    if (this.#machineWatchers.size === 0) return;
    const state = this.#state();
    for (const update of this.#machineWatchers) update(state);
  }

  /** Lets go of every key and button that this connection holds down in the guest. */
  releaseHeld(): void {
    const { machine } = this.#hub;
    for (const code of [...this.#held].reverse()) machine.key(code, false);
    this.#held.clear();
    const last = this.#pointed;
    this.#pointed = undefined;
    if (last === undefined || last.buttons === 0) return;
    if (last.kind === 'tablet') machine.tablet({ ...last, wheel: 0, buttons: 0 });
    else machine.pointer({ kind: 'pointer', dx: 0, dy: 0, wheel: 0, buttons: 0 });
  }

  /** The socket is gone. */
  closed(): void {
    this.#session.close();
    this.#detach();
    if (this.#hub.inputOwner === this) this.#hub.giveInput(null);
    this.#hub.changed();
  }

  #state(): MachineState {
    const owner = this.#hub.inputOwner;
    return { ...this.#hub.machine.facts.value, viewers: this.#hub.viewers, you: this.id, ...(owner === null ? {} : { inputOwner: owner.id }) };
  }

  #send(data: string | Uint8Array): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    if (this.#socket.bufferedAmount > MAX_WAITING) {
      this.#socket.terminate();
      return;
    }
    this.#socket.send(data);
  }

  #receiveBinary(data: Buffer): void {
    const acknowledged = decodeAck(data);
    if (acknowledged !== null) {
      this.#attachment?.acknowledge(acknowledged);
      return;
    }
    // Input of those who do not own it (any more) is dropped: it crossed with the news that someone else took it.
    if (this.#hub.inputOwner !== this) return;
    const input = decodeInput(data);
    if (input === null) return;
    const { machine } = this.#hub;
    if (input.kind !== 'key') {
      this.#pointed = input;
      if (input.kind === 'tablet') machine.tablet(input);
      else machine.pointer(input);
      return;
    }
    if (input.code === 0 || input.code > MAX_KEY) return;
    this.#held.delete(input.code);
    if (input.down) this.#held.add(input.code);
    machine.key(input.code, input.down);
  }

  #detach(): void {
    this.#attachment?.detach();
    this.#attachment = null;
  }

  #methods(): MethodHandlers<MachineProtocol> {
    const { machine } = this.#hub;
    const done = async (promise: Promise<void>) => {
      await promise;
      return {};
    };
    return {
      pause: () => done(machine.pause()),
      resume: () => done(machine.resume()),
      powerButton: () => done(machine.powerButton()),
      reset: () => done(machine.reset()),
      forceOff: () => done(machine.forceOff()),
      listDevices: () => ({ devices: machine.listDevices() }),
      addDevice: ({ device }) => machine.addDevice(device),
      removeDevice: ({ slot, force, seconds }) => done(machine.removeDevice(slot, { force, seconds })),
      changeDevice: ({ slot, change }) => done(machine.changeDevice(slot, change)),
      screenshot: async () => {
        const { png, width, height } = await machine.screenshot();
        return { png: toBase64(png), width, height };
      },
      serialWrite: ({ data }, { signal }) => done(machine.serialWrite(Buffer.from(data, 'base64'), signal)),
      consoleWrite: ({ slot, port, data }, { signal }) => done(machine.consoleWrite(slot, port, Buffer.from(data, 'base64'), signal)),
      consoleSize: ({ slot, port, columns, rows }) => done(machine.consoleSize(slot, port, columns, rows)),
      setBalloon: ({ bytes }) => done(machine.setBalloon(bytes)),
      sendKeys: ({ codes }) => {
        for (const code of codes) machine.key(code, true);
        for (const code of [...codes].reverse()) machine.key(code, false);
        return {};
      },
      attachScreen: () => {
        // A second attach begins anew, with a whole frame.
        this.#detach();
        this.#attachment = machine.attachViewer({ id: this.id, send: (frame) => this.#send(frame), buffered: () => this.#socket.bufferedAmount });
        this.#hub.changed();
        return {};
      },
      detachScreen: () => {
        this.#detach();
        this.#hub.changed();
        return {};
      },
      takeInput: () => {
        this.#hub.giveInput(this);
        return {};
      },
      releaseInput: () => {
        if (this.#hub.inputOwner !== this) {
          throw new VitrineError({ attempted: 'release the input', on: machine.facts.value.name, why: 'this viewer does not have it.', remedy: '', code: 'not-input-owner' });
        }
        this.#hub.giveInput(null);
        return {};
      },
    };
  }

  #watchConsole(backlog: SerialBacklog, start: (snapshot: { data: string; dropped: number }) => void, append: (data: string) => void): () => void {
    const { bytes, dropped } = backlog.backlog();
    start({ data: toBase64(bytes), dropped });
    this.#serialWatches++;
    const stop = backlog.subscribe((more) => append(toBase64(more)), () => this.#socket.bufferedAmount > BEHIND);
    return () => {
      this.#serialWatches--;
      stop();
    };
  }

  #topics(): TopicHandlers<MachineProtocol> {
    const { machine } = this.#hub;
    type End = (problem: Problem) => void;
    return {
      machine: (update) => {
        this.#machineWatchers.add(update);
        update(this.#state());
        return () => this.#machineWatchers.delete(update);
      },
      serial: (start, append) => this.#watchConsole(machine.serial, start, append),
      console: (start, append, _end: End, { slot, port }) => this.#watchConsole(machine.console(slot, port), start, append),
      log: (start, append, _end: End) => {
        start({ lines: machine.log.backlog() });
        return machine.log.subscribe((line) => append([line]));
      },
      stats: (update) => machine.watchStats(update),
    };
  }
}
