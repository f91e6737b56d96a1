// The front server: HTTP and WebSockets on 127.0.0.1, behind the guard.
//   /front        the front's protocol: the library and this host
//   /machine/ID   piped to that machine's socket
//   the rest      the pages, for the browser shell
import { randomBytes } from 'node:crypto';
import type { IncomingMessage, Server } from 'node:http';
import { createServer, STATUS_CODES } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { WebSocketServer } from 'ws';
import { VitrineError } from '../../shared/errors.ts';
import type { FrontProtocol, Host } from '../../shared/protocol/front.ts';
import { frontProtocol } from '../../shared/protocol/front.ts';
import { Session } from '../../shared/protocol/session.ts';
import { MAX_TEXT } from '../../shared/protocol/wire.ts';
import { machineSockets } from '../launcher/launch.ts';
import { isMachineId } from '../library/folders.ts';
import { Library } from '../library/library.ts';
import type { GuardOptions, Refusal } from './guard.ts';
import { addressOf, refuse } from './guard.ts';
import { pipeToMachine, refuseUpgrade } from './pipe.ts';
import { FrontService } from './service.ts';
import { securityHeaders, serveStatic } from './static-files.ts';

const LOOPBACK = '127.0.0.1';
/** A connection that lets this much wait is cut off. */
const MAX_WAITING = 64 * 2 ** 20;

export interface FrontOptions {
  shell: Host['shell'];
  /** An origin besides the front's own, for Electron's pages: "app://vitrine". */
  origin?: string;
  /** The folder of the built pages; none are served without it. */
  staticDir?: string;
  /** 0, the default, takes any free port. */
  port?: number;
  env?: NodeJS.ProcessEnv;
  library?: Library;
  /** Runs instead of the machine process; for tests. */
  entry?: string;
}

export interface Front {
  readonly port: number;
  /** What every request must show; new at each start. */
  readonly token: string;
  /** "ws://127.0.0.1:PORT": /front and /machine/ID are under it. */
  readonly address: string;
  /** The page's address with the token, for a browser. */
  readonly url: string;
  /** Machines run on. */
  close(): Promise<void>;
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const taken = error.code === 'EADDRINUSE';
      reject(new VitrineError({
        attempted: 'open the front', on: `${LOOPBACK}:${port}`, why: taken ? 'another program has this port.' : `${error.message}.`, remedy: taken ? 'Choose another port, or none.' : '', code: 'front-port',
      }, { cause: error }));
    });
    server.listen(port, LOOPBACK, () => resolve((server.address() as AddressInfo).port));
  });
}

/** Starts a front. Rejects with a VitrineError when the port is taken or the library cannot be opened. */
export async function startFront(options: FrontOptions): Promise<Front> {
  const { shell, staticDir = null, env = process.env, library = new Library() } = options;
  const service = await FrontService.open({ shell, env, library, entry: options.entry });
  const token = randomBytes(32).toString('hex');
  const guard: GuardOptions = { token, port: 0, origins: options.origin === undefined ? [] : [options.origin] };

  const server = createServer((request, response) => {
    const refusal = refuse(request, guard);
    if (refusal === null) {
      serveStatic(request, response, staticDir, token, guard.port).catch(() => response.destroy());
      return;
    }
    // Host is not checked yet: nothing of the request goes into the answer.
    response.writeHead(refusal.status, { ...securityHeaders(LOOPBACK), 'content-type': 'text/plain; charset=utf-8' });
    response.end(`${refusal.words}\n`);
  });
  const sockets = new WebSocketServer({ noServer: true, maxPayload: MAX_TEXT, perMessageDeflate: false });
  const piped = new Set<Duplex>();
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const refusal: Refusal | null = refuse(request, guard);
    if (refusal !== null) {
      refuseUpgrade(socket, refusal.status, STATUS_CODES[refusal.status]!, refusal.words);
      return;
    }
    const { pathname } = addressOf(request)!;
    const machine = /^\/machine\/([^/]+)$/.exec(pathname)?.[1];
    if (pathname === '/front') {
      sockets.handleUpgrade(request, socket, head, (accepted) => serveFront(accepted, service));
    } else if (machine !== undefined && isMachineId(machine)) {
      piped.add(socket);
      socket.once('close', () => piped.delete(socket));
      let paths: string[];
      try {
        paths = machineSockets(library.folderOf(machine), machine, env);
      } catch (thrown) {
        refuseUpgrade(socket, 503, 'Service Unavailable', thrown instanceof Error ? thrown.message : String(thrown));
        return;
      }
      pipeToMachine(request, socket, head, paths);
    } else {
      refuseUpgrade(socket, 404, 'Not Found', 'Only /front and /machine/ID speak WebSocket.');
    }
  });

  try {
    guard.port = await listen(server, options.port ?? 0);
  } catch (thrown) {
    service.close();
    throw thrown;
  }
  return {
    port: guard.port,
    token,
    address: `ws://${LOOPBACK}:${guard.port}`,
    url: `http://${LOOPBACK}:${guard.port}/?token=${token}`,
    async close() {
      service.close();
      for (const socket of sockets.clients) socket.terminate();
      for (const socket of piped) socket.destroy();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections?.();
      await closed;
    },
  };
}

function serveFront(socket: WebSocket, service: FrontService): void {
  const session = new Session<FrontProtocol>({
    spec: frontProtocol,
    methods: service.methods,
    topics: service.topics,
    send: (text) => {
      if (socket.readyState !== socket.OPEN) return;
      if (socket.bufferedAmount > MAX_WAITING) socket.terminate();
      else socket.send(text);
    },
  });
  socket.on('message', (data, isBinary) => {
    if (!isBinary) session.receive((data as Buffer).toString('utf8'));
  });
  socket.on('error', () => socket.terminate());
  socket.on('close', () => session.close());
}
