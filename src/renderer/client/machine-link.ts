// The connection to one machine, shared by everything on the page that looks at it: opened when the first asks, closed when the last
// has gone. Whoever needs more than the machine's state (the screen, the console, the log) hangs on `onOpen` and gets every new client.
import { VitrineError } from '../../shared/errors.ts';
import type { ProtocolClient } from '../../shared/protocol/client.ts';
import { machineProtocol } from '../../shared/protocol/machine.ts';
import type { MachineProtocol, MachineState } from '../../shared/protocol/machine.ts';
import { MACHINE_DELAYS, connect } from './connection.ts';
import type { Connection } from './connection.ts';

export type MachineClient = ProtocolClient<MachineProtocol>;

export interface LinkView {
  link: 'connecting' | 'online' | 'lost';
  /** As it was last seen; kept when the machine goes. */
  machine: MachineState | null;
}

type Listener = () => void;
/** Called with every client that opens; what it returns is called when that client is gone. */
type Opened = (client: MachineClient) => (() => void) | void;

export class MachineLink {
  readonly id: string;
  #view: LinkView = { link: 'connecting', machine: null };
  #client: MachineClient | null = null;
  #connection: Connection | null = null;
  #holders = 0;
  readonly #listeners = new Set<Listener>();
  readonly #opened = new Map<Opened, (() => void) | void>();
  readonly #waiting: Array<{ resolve: (client: MachineClient) => void; reject: (thrown: unknown) => void }> = [];

  constructor(id: string) {
    this.id = id;
  }

  get view(): LinkView {
    return this.#view;
  }

  get client(): MachineClient | null {
    return this.#client;
  }

  subscribe(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Runs with the client now, if it is open, and again with each one that opens later. */
  onOpen(opened: Opened): () => void {
    this.#opened.set(opened, this.#client === null ? undefined : opened(this.#client));
    return () => {
      this.#opened.get(opened)?.();
      this.#opened.delete(opened);
    };
  }

  hold(): () => void {
    this.#holders++;
    this.#connection ??= connect(machineProtocol, `/machine/${this.id}`, MACHINE_DELAYS, {
      onOpen: (client) => this.#open(client),
      onLost: () => this.#lost(),
    });
    let released = false;
    return () => {
      if (released) return;
      released = true;
      this.#holders--;
      // A moment's grace: a page that goes to another tab takes it up again at once.
      setTimeout(() => this.#closeIfFree(), 200);
    };
  }

  /** The client, once it is open. Rejects when the machine cannot be reached at the next attempt. */
  opened(): Promise<MachineClient> {
    if (this.#client !== null) return Promise.resolve(this.#client);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  #open(client: MachineClient): void {
    this.#client = client;
    client.watch('machine', (machine) => this.#set({ link: 'online', machine }), () => {});
    for (const opened of this.#opened.keys()) this.#opened.set(opened, opened(client));
    for (const one of this.#waiting.splice(0)) one.resolve(client);
  }

  #lost(): void {
    this.#client = null;
    for (const [opened, undo] of this.#opened) {
      undo?.();
      this.#opened.set(opened, undefined);
    }
    const unreachable = new VitrineError({
      attempted: 'reach the machine', on: this.id, why: 'It does not answer.', remedy: 'It may have ended; its state in the library says so.', code: 'unreachable',
    });
    for (const one of this.#waiting.splice(0)) one.reject(unreachable);
    this.#set({ link: 'lost', machine: this.#view.machine });
  }

  #closeIfFree(): void {
    if (this.#holders > 0 || this.#connection === null) return;
    this.#connection.close();
    this.#connection = null;
    this.#client = null;
    this.#view = { link: 'connecting', machine: this.#view.machine };
  }

  #set(view: LinkView): void {
    this.#view = view;
    for (const listener of this.#listeners) listener();
  }
}

const links = new Map<string, MachineLink>();

export function machineLink(id: string): MachineLink {
  let link = links.get(id);
  if (link === undefined) links.set(id, link = new MachineLink(id));
  return link;
}
