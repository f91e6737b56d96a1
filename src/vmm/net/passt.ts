// passt, running: one process for each network card, connected by a pair of sockets. Frames go through it as QEMU sends them to its `-netdev
// stream`: four bytes of length, big-endian, then the Ethernet frame. It ends when our end of the pair is closed, however that happens, so it
// never outlives the machine. The control thread starts it and watches it; the I/O Worker reads and writes the socket.
import { spawn, type ChildProcess } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createServer, isIPv6 } from 'node:net';
import koffi from 'koffi';
import { VitrineError } from '../../shared/errors.ts';
import { close, readable } from '../kvm/libc.ts';
import { nonBlocking, readWhole, sendRoom, socketPair } from './calls.ts';
import { checkForwards, complaintsOf, findPasst, forwardProblem, type Forward, passtArguments, type PasstProgram, probeFrames, readHostNetwork, startProblem, whySlow } from './passt-program.ts';

const libc = koffi.load('libc.so.6');
const cRecv = libc.func('recv', 'int64_t', ['int', 'void *', 'uint64_t', 'int']) as (fd: number, buffer: Uint8Array, length: number, flags: number) => number;
const cSend = libc.func('send', 'int64_t', ['int', 'void *', 'uint64_t', 'int']) as (fd: number, buffer: Uint8Array, length: number, flags: number) => number;
const MSG_WAITALL = 0x100;
const MSG_NOSIGNAL = 0x4000;

/** Of the length before each frame. */
const LENGTH_BYTES = 4;
/** For passt's end, as much as passt itself asks for; the kernel's limit is lower almost everywhere. */
const SEND_ROOM = 16 * 2 ** 20;
/** For ours: all of it is less than passt reads at once (8 MiB), or its read could end within a length (see virtio/net/stream-transmit.ts). */
const OWN_ROOM = 2 * 2 ** 20;
/** Longer than any frame. */
const LONGEST_READ = 2 ** 20;
const FIRST_INHERITED = 3;
const PATIENCE_MS = 20_000;
const LOOK_MS = 2;
const MOST_WORDS = 8192;
const LAST_WORDS_MS = 500;
/** After so long without a crash the next one is taken for the first. */
const FORGIVEN_MS = 600_000;

export interface PasstOptions {
  /** The machine's, for problems. */
  readonly name: string;
  readonly mac: Uint8Array;
  readonly forwards: readonly Forward[];
  /** For tests; found unless told. */
  readonly program?: PasstProgram;
}

/** One life of the program. */
export class Passt {
  /** Our end of the pair; it does not block. Whoever closes it ends passt. */
  readonly socket: number;
  readonly #child: ChildProcess;
  #words = '';
  /** How it ended, for a person; null while it runs. */
  #ended: string | null = null;
  readonly #gone: Promise<void>;

  /** Starts it and waits until it serves. Throws VitrineError with what stood in its way. */
  static async start({ mac, forwards }: PasstOptions, program: PasstProgram): Promise<Passt> {
    checkForwards(forwards);
    const passt = new Passt(program, forwards);
    try {
      await passt.#serves(mac, forwards);
    } catch (thrown) {
      passt.close();
      throw thrown;
    }
    nonBlocking(passt.socket);
    return passt;
  }

  private constructor(program: PasstProgram, forwards: readonly Forward[]) {
    const [own, its] = socketPair();
    this.socket = own;
    try {
      sendRoom(own, OWN_ROOM);
      sendRoom(its, SEND_ROOM);
      // Releases before July 2024 take the rest of a frame for whole, however much of it has come.
      readWhole(its, LONGEST_READ);
      const args = passtArguments(program, { socket: FIRST_INHERITED, forwards, network: readHostNetwork() });
      this.#child = spawn(program.path, args, { cwd: '/', env: { PATH: '/usr/bin:/bin' }, stdio: ['ignore', 'ignore', 'pipe', its] });
    } catch (thrown) {
      close(own);
      throw thrown;
    } finally {
      close(its);
    }
    this.#child.stderr!.on('data', (chunk: Buffer) => (this.#words = (this.#words + chunk.toString()).slice(-MOST_WORDS)));
    this.#gone = new Promise((resolve) => {
      const ended = (how: string): void => {
        this.#ended ??= how;
        resolve();
      };
      this.#child.once('error', (error) => ended(error.message));
      const exited = (code: number | null, signal: string | null): void => ended(signal === null ? `exit code ${code}` : signal);
      this.#child.once('close', exited);
      // What it started itself may have its standard error still.
      this.#child.once('exit', (code, signal) => setTimeout(() => exited(code, signal), LAST_WORDS_MS));
    });
  }

  /** Its process. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Resolves when it has ended, with how, and with what it said. */
  async ended(): Promise<{ how: string; words: string }> {
    await this.#gone;
    return { how: this.#ended!, words: complaintsOf(this.#words) };
  }

  /** It serves when it has answered: by then it has bound every port and closed itself in. */
  async #serves(mac: Uint8Array, forwards: readonly Forward[]): Promise<void> {
    const length = new Uint8Array(LENGTH_BYTES);
    for (const frame of probeFrames(mac)) {
      new DataView(length.buffer).setUint32(0, frame.length);
      const message = Uint8Array.from([...length, ...frame]);
      if (cSend(this.socket, message, message.length, MSG_NOSIGNAL) < 0 && this.#ended !== null) break; // what it says is more than the error
    }
    const patience = performance.now() + PATIENCE_MS;
    for (;;) {
      if (readable(this.socket) && Number(cRecv(this.socket, length, LENGTH_BYTES, MSG_WAITALL)) === LENGTH_BYTES) {
        const frame = new Uint8Array(new DataView(length.buffer).getUint32(0));
        if (Number(cRecv(this.socket, frame, frame.length, MSG_WAITALL)) === frame.length) return;
      }
      if (this.#ended !== null) throw await startProblem(this.#words, this.#ended, forwards, refusedPort);
      if (performance.now() > patience) {
        throw new VitrineError({ attempted: 'connect the machine to the network', on: 'passt', why: `passt has not answered within ${PATIENCE_MS / 1000} seconds.`, remedy: 'Look at what else this computer does, and try again.', code: 'passt-silent' });
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /** Ends it. Nobody may use the socket any more. */
  close(): void {
    this.#child.kill('SIGTERM'); // it also ends by itself, but only when it looks at the socket
    close(this.socket);
  }
}

const PRIVILEGED = 1024;

/** Why the host's port of a forward cannot be had, or undefined if it can. */
export async function refusedPort(forward: Forward): Promise<VitrineError | undefined> {
  const { protocol, host, address = '127.0.0.1' } = forward;
  const code = await new Promise<string | undefined>((resolve) => {
    const failed = (error: NodeJS.ErrnoException): void => resolve(error.code);
    if (protocol === 'tcp') {
      const server = createServer().once('error', failed);
      server.listen({ port: host, host: address, exclusive: true }, () => server.close(() => resolve(undefined)));
    } else {
      const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4').once('error', failed);
      socket.bind({ port: host, address, exclusive: true }, () => socket.close(() => resolve(undefined)));
    }
  });
  if (code === undefined) return undefined;
  const first = unprivilegedFrom();
  if (code === 'EADDRINUSE') return forwardProblem(forward, 'another program of this computer has this port.', `Choose another port, or end that program: "ss -${protocol === 'tcp' ? 't' : 'u'}lnp 'sport = :${host}'" shows it.`, 'port-in-use');
  if (code === 'EACCES') return forwardProblem(forward, `ports below ${first} are for the administrator's programs.`, `Choose a port from ${first} on, or allow it: sudo sysctl net.ipv4.ip_unprivileged_port_start=${host}.`, 'port-privileged');
  if (code === 'EADDRNOTAVAIL' || code === 'EINVAL' || code === 'ENOTFOUND') return forwardProblem(forward, `this computer has no address ${address}.`, 'Leave it out to listen on 127.0.0.1, or give 0.0.0.0 for every IPv4 address, :: for every IPv6 address.', 'no-such-address');
  return forwardProblem(forward, `the port cannot be had (${code}).`, 'Choose another port.', 'port-refused');
}

function unprivilegedFrom(): number {
  try {
    return Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'));
  } catch {
    return PRIVILEGED;
  }
}

export interface UserNetworkOptions extends PasstOptions {
  log(text: string): void;
  /**
   * The Worker takes this socket and lets go of the one before; null when there is none any more. Resolves when it has.
   * The one before is closed then.
   */
  use(socket: number | null): Promise<void>;
  /** By performance.now(); for tests. */
  readonly now?: () => number;
}

/** The network of one card for as long as the machine runs: passt, and another passt if that crashes. */
export class UserNetwork {
  readonly #options: UserNetworkOptions;
  readonly #program: PasstProgram;
  #forwards: readonly Forward[];
  /** Null when it crashed too often, and while it is between two lives. */
  #passt: Passt | null;
  #crashed = -Infinity;
  #closed = false;
  /** What is done with passt, one thing at a time. */
  #turn: Promise<unknown> = Promise.resolve();

  /** Resolves when the Worker has the first socket. Throws VitrineError. */
  static async start(options: UserNetworkOptions): Promise<UserNetwork> {
    const program = options.program ?? findPasst();
    const passt = await Passt.start(options, program);
    try {
      await options.use(passt.socket);
    } catch (thrown) {
      passt.close();
      throw thrown;
    }
    const slow = whySlow(program, readHostNetwork().sendRoom);
    if (slow !== undefined) options.log(slow);
    return new UserNetwork(options, program, passt);
  }

  private constructor(options: UserNetworkOptions, program: PasstProgram, passt: Passt) {
    this.#options = options;
    this.#program = program;
    this.#forwards = options.forwards;
    this.#passt = passt;
    this.#watch(passt);
  }

  /** passt's process; undefined when there is none. */
  get pid(): number | undefined {
    return this.#passt?.pid;
  }

  #inTurn(act: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(act);
    this.#turn = done.catch(() => {});
    return done;
  }

  #watch(passt: Passt): void {
    void passt.ended().then(({ how, words }) => this.#inTurn(() => this.#crash(passt, how, words))).catch((thrown: unknown) => this.#options.log(`passt was not started again: ${(thrown as Error).message}`));
  }

  async #crash(passt: Passt, how: string, words: string): Promise<void> {
    if (this.#closed || passt !== this.#passt) return;
    const { log, now = () => performance.now() } = this.#options;
    const again = now() - this.#crashed > FORGIVEN_MS;
    this.#crashed = now();
    log(`passt ended by itself (${how})${words === '' ? '' : `: ${words}`}. ${again ? 'It is started again; connections of the guest are lost.' : 'It did so shortly before as well, so the card has no network from now on. Start the machine anew to connect it.'}`);
    await this.#end();
    if (again) await this.#begin();
  }

  /** The Worker lets go of passt, and it is closed. When the Worker does not, it stays, so that close() closes it. @returns it */
  async #end(): Promise<Passt | null> {
    await this.#options.use(null);
    const old = this.#passt; // null when close() came meanwhile
    this.#passt = null;
    old?.close();
    return old;
  }

  async #begin(): Promise<void> {
    if (this.#closed) return;
    const passt = await Passt.start({ ...this.#options, forwards: this.#forwards }, this.#program);
    if (this.#closed) {
      passt.close();
      return;
    }
    this.#passt = passt;
    try {
      await this.#options.use(passt.socket);
    } catch (thrown) {
      this.#closeOwn();
      throw thrown;
    }
    this.#watch(passt);
  }

  #closeOwn(): void {
    this.#passt?.close();
    this.#passt = null;
  }

  /** Other forwards from now on: passt is started anew, and connections of the guest are lost. Throws VitrineError, with the forwards before in place. */
  async forward(forwards: readonly Forward[]): Promise<void> {
    checkForwards(forwards);
    await this.#inTurn(() => this.#replace(forwards));
  }

  async #replace(forwards: readonly Forward[]): Promise<void> {
    const before = this.#forwards;
    const old = await this.#end();
    await old?.ended(); // its ports are free then
    this.#forwards = forwards;
    try {
      await this.#begin();
    } catch (thrown) {
      this.#forwards = before;
      await this.#begin();
      throw thrown;
    }
  }

  /** The Worker uses the socket no more. */
  close(): void {
    this.#closed = true;
    this.#closeOwn();
  }
}

