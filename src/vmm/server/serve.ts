// The machine process's server: one WebSocket protocol (src/shared/protocol/machine.ts) on one Unix socket, for any number of
// connections. Connections watch and call as they like; those that attach the screen are viewers, and one connection at a time owns
// the input. Who may connect is said by the file system: the socket is 0600 in a folder that only its user may enter.
import { chmodSync, lstatSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { createServer } from 'node:http';
import { createConnection } from 'node:net';
import { dirname } from 'node:path';
import type { WebSocket } from 'ws';
import { WebSocketServer } from 'ws';
import { VitrineError } from '../../shared/errors.ts';
import { MAX_TEXT } from '../../shared/protocol/wire.ts';
import type { MachineControl } from './control.ts';
import { Connection } from './connection.ts';
import { checkPrivateFolder } from './runtime-folder.ts';

/** How long `close` lets connections take what was already said to them, in milliseconds. */
const CLOSE_PATIENCE = 2000;
/** RFC 6455 §7.4.1: the endpoint goes away. */
const GOING_AWAY = 1001;

export interface MachineServerOptions {
  /** A path that no other machine uses; its folder is this user's alone. A dead socket there is removed: hold the machine's lock. */
  socketPath: string;
  machine: MachineControl;
}

export interface MachineServer {
  /** Connections, whether they have the screen attached or not. */
  readonly connections: number;
  /** Says good-bye to every connection after what was said before, and takes the socket away. */
  close(): Promise<void>;
}

/** What all connections of a machine share: who they are, and whose the input is. */
export class Hub {
  readonly machine: MachineControl;
  readonly connections = new Set<Connection>();
  #inputOwner: Connection | null = null;
  #nextViewer = 1;

  constructor(machine: MachineControl) {
    this.machine = machine;
    machine.facts.subscribe(() => this.changed());
  }

  newViewerId(): string {
    return `v${this.#nextViewer++}`;
  }

  get inputOwner(): Connection | null {
    return this.#inputOwner;
  }

  /** Gives the input to `connection`, or to nobody. What the last owner held down is let go of. */
  giveInput(connection: Connection | null): void {
    if (this.#inputOwner === connection) return;
    this.#inputOwner?.releaseHeld();
    this.#inputOwner = connection;
    this.changed();
  }

  /** Connections that have the screen attached. */
  get viewers(): number {
    let count = 0;
    for (const connection of this.connections) if (connection.attached) count++;
    return count;
  }

  /** Tells every watcher of the machine. */
  changed(): void {
    for (const connection of this.connections) connection.machineChanged();
  }
}

function whyNot(path: string, error: NodeJS.ErrnoException): VitrineError {
  return new VitrineError(
    { attempted: 'serve the machine', on: path, why: `its socket cannot be made (${error.message}).`, remedy: 'Check the folder and its free space.', code: 'socket' },
    { cause: error },
  );
}

/** Whether a process listens at `path`. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createConnection(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
}

/** Takes away the socket of a process that is gone. The machine's lock, which the caller holds, says that it is. */
async function removeStale(path: string): Promise<void> {
  try {
    if (!lstatSync(path).isSocket()) throw whyNot(path, new Error('something that is no socket lies there'));
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw thrown;
  }
  if (await answers(path)) throw whyNot(path, new Error('another process listens there'));
  rmSync(path, { force: true });
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(whyNot(path, error)));
    server.listen({ path }, () => {
      server.removeAllListeners('error');
      server.on('error', () => {});
      resolve();
    });
  });
}

/** Set to 1 by who wants every byte that the guest writes from the first on: a guest of ours may end within milliseconds. */
export const AWAIT_CONSOLE = 'VITRINE_AWAIT_CONSOLE';
/** Who asked for the wait may have died meanwhile; milliseconds. */
const CONSOLE_PATIENCE = 10_000;

/** Resolves when somebody watches the serial console, or the machine was ended before it began. */
async function consoleWatched(hub: Hub): Promise<void> {
  const deadline = Date.now() + CONSOLE_PATIENCE;
  const { facts } = hub.machine;
  const over = (): boolean => facts.value.state === 'stopping' || facts.value.state === 'ended';
  while (Date.now() < deadline && !over() && ![...hub.connections].some((connection) => connection.watchesSerial)) await new Promise((resolve) => setTimeout(resolve, 2));
}

/**
 * Serves `machine`. With VITRINE_AWAIT_CONSOLE=1 it resolves only once somebody watches the serial console, or after 10 s.
 * Throws a VitrineError when the folder is open to others or the socket cannot be made.
 */
export async function serveMachine({ socketPath, machine }: MachineServerOptions): Promise<MachineServer> {
  checkPrivateFolder(dirname(socketPath));
  await removeStale(socketPath);
  const hub = new Hub(machine);
  const server = createServer((_request, response) => {
    response.writeHead(426, { 'content-type': 'text/plain; charset=utf-8' });
    response.end('This socket speaks WebSocket.\n');
  });
  const sockets = new WebSocketServer({ server, maxPayload: MAX_TEXT, perMessageDeflate: false });
  let closing = false;
  sockets.on('connection', (socket: WebSocket) => {
    // Came through the door as it closed.
    if (closing) {
      socket.terminate();
      return;
    }
    const connection = new Connection(hub, socket);
    hub.connections.add(connection);
    socket.on('message', (data, isBinary) => connection.receive(data as Buffer, isBinary));
    socket.on('error', () => socket.terminate());
    socket.on('close', () => {
      hub.connections.delete(connection);
      connection.closed();
    });
  });
  await listen(server, socketPath);
  chmodSync(socketPath, 0o600);
  if (process.env[AWAIT_CONSOLE] === '1') await consoleWatched(hub);
  return {
    get connections() {
      return hub.connections.size;
    },
    async close() {
      closing = true;
      // No new connections, and the socket's file is gone; who lost this machine would otherwise be back at once.
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      // Calls that the end of the machine has answered say so now: a turn of the event loop later all of them have.
      await new Promise((resolve) => setImmediate(resolve));
      const gone = [...sockets.clients].map(
        (socket) =>
          new Promise<void>((resolve) => {
            if (socket.readyState === socket.CLOSED) resolve();
            else socket.once('close', () => resolve());
          }),
      );
      for (const socket of sockets.clients) socket.close(GOING_AWAY, 'The machine has ended.');
      let timer: NodeJS.Timeout | undefined;
      const patience = new Promise<void>((resolve) => (timer = setTimeout(resolve, CLOSE_PATIENCE)));
      await Promise.race([Promise.all(gone), patience]);
      clearTimeout(timer);
      for (const socket of sockets.clients) socket.terminate();
      server.closeAllConnections();
      await closed;
    },
  };
}
