// The host's side of the agent's protocol: commands, pipes to Unix sockets, and connections that keep a lab alive.

import net from 'node:net';
import { PassThrough, Writable } from 'node:stream';
import type { Readable } from 'node:stream';
import { VitrineError } from '../src/shared/errors.ts';
import { FRAME, FrameReader, LineReader, frame } from './protocol.ts';
import type { ExitFrame, LabUser, Reply, Request } from './protocol.ts';

/** How to reach a running lab's agent. */
export interface LabEndpoint {
  /** Port on 127.0.0.1. */
  port: number;
  token: string;
}

export interface CommandOptions {
  /** Default 'user'. */
  user?: LabUser;
  /** Folder in the lab; default the caller's own. */
  cwd?: string;
  env?: Record<string, string>;
  /** Let the command see what has changed on the host since the lab's start, also where the lab caches; default false. */
  fresh?: boolean;
}

export interface CommandResult {
  /** Exit code as a shell has it: 128 and the signal's number for a command that a signal ended. */
  code: number;
  /** The signal that ended it, or null. */
  signal: string | null;
}

/** Signal numbers of Linux, for exit codes. */
const SIGNAL_NUMBERS: Record<string, number> = {
  SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGILL: 4, SIGTRAP: 5, SIGABRT: 6, SIGBUS: 7, SIGFPE: 8, SIGKILL: 9, SIGUSR1: 10, SIGSEGV: 11, SIGUSR2: 12, SIGPIPE: 13, SIGALRM: 14, SIGTERM: 15
};

/** Bytes of input sent before the agent must have taken them. */
const STDIN_PIECE = 1 << 16;

/** A command that runs in the lab. Its output must be read (or resumed), or the command waits. */
export interface LabCommand {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Settles after both outputs have ended; rejects when the lab is gone. */
  readonly exited: Promise<CommandResult>;
  /** Sends a signal to the command's process group. */
  signal(name: NodeJS.Signals): void;
  /** Kills the command with everything it started, however detached. */
  kill(): void;
}

function gone(attempted: string, on: string, why: string, cause?: unknown): VitrineError {
  return new VitrineError({ attempted, on, why, remedy: 'Try again: the lab is started anew.', code: 'lab-gone' }, { cause });
}

/** Opens a connection, sends the request, and gives the connection and what came after the agent's yes. */
export function request(endpoint: LabEndpoint, message: Request, attempted: string, on = 'the lab'): Promise<{ socket: net.Socket; rest: Buffer }> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ port: endpoint.port, host: '127.0.0.1', allowHalfOpen: message.op === 'pipe', noDelay: true });
    const reader = new LineReader();
    const fail = (error?: Error): void => {
      socket.destroy();
      reject(gone(attempted, on, error === undefined ? 'the lab closed the connection.' : `the lab does not answer (${error.message}).`, error));
    };
    const data = (chunk: Buffer): void => {
      let found: { line: string; rest: Buffer } | undefined;
      let answer: Reply | undefined;
      try {
        found = reader.push(chunk);
        if (found !== undefined) answer = JSON.parse(found.line) as Reply;
      } catch (error) {
        fail(error as Error);
        return;
      }
      if (found === undefined || answer === undefined) return;
      socket.off('data', data);
      socket.off('error', fail);
      socket.off('close', closed);
      if (answer.ok) {
        socket.pause();
        resolve({ socket, rest: found.rest });
      } else {
        socket.destroy();
        reject(new VitrineError({ attempted, on, why: `the lab says: ${answer.why}.`, remedy: '', code: 'lab-refused' }));
      }
    };
    const closed = (): void => fail();
    socket.on('error', fail);
    socket.on('close', closed);
    socket.on('data', data);
    socket.write(JSON.stringify({ ...message, token: endpoint.token }) + '\n');
  });
}

/** Starts a command in the lab. */
export async function startCommand(endpoint: LabEndpoint, argv: readonly string[], options: CommandOptions = {}): Promise<LabCommand> {
  const name = argv[0] ?? '';
  const message: Request = { op: 'run', argv: [...argv], cwd: options.cwd ?? process.cwd(), env: options.env ?? {}, user: options.user ?? 'user', fresh: options.fresh ?? false };
  const { socket, rest } = await request(endpoint, message, 'run a command in the lab', name);
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  let taken: (() => void) | undefined;
  let killed = false;

  const stdin = new Writable({
    highWaterMark: STDIN_PIECE,
    write(chunk: Buffer, _encoding, done) {
      let offset = 0;
      const next = (): void => {
        if (offset >= chunk.length || socket.destroyed) {
          taken = undefined;
          done();
          return;
        }
        taken = next;
        socket.write(frame(FRAME.STDIN, chunk.subarray(offset, (offset += STDIN_PIECE))));
      };
      next();
    },
    final(done) {
      if (socket.writable) socket.write(frame(FRAME.STDIN_END, Buffer.alloc(0)));
      done();
    }
  });
  // a command may end before it has read everything: what is left is dropped
  stdin.on('error', () => {});

  const exited = new Promise<CommandResult>((resolve, reject) => {
    let exit: ExitFrame | undefined;
    const waiting = new Set<PassThrough>();
    const deliver = (stream: PassThrough, payload: Buffer): void => {
      if (stream.write(payload) || waiting.has(stream)) return;
      waiting.add(stream);
      socket.pause();
      stream.once('drain', () => {
        waiting.delete(stream);
        if (waiting.size === 0) socket.resume();
      });
    };
    const reader = new FrameReader((type, payload) => {
      if (type === FRAME.STDOUT) deliver(stdout, payload);
      else if (type === FRAME.STDERR) deliver(stderr, payload);
      else if (type === FRAME.TAKEN) taken?.();
      else if (type === FRAME.EXIT) exit = JSON.parse(payload.toString()) as ExitFrame;
    });
    socket.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    socket.on('error', () => {}); // told by close
    socket.on('close', () => {
      stdin.destroy();
      const unblock = taken;
      taken = undefined;
      unblock?.();
      stdout.end();
      stderr.end();
      if (exit !== undefined) resolve({ code: exit.code ?? 128 + (SIGNAL_NUMBERS[exit.signal ?? ''] ?? 0), signal: exit.signal });
      else if (killed) resolve({ code: 128 + SIGNAL_NUMBERS['SIGKILL']!, signal: 'SIGKILL' });
      else reject(gone('run a command in the lab', name, 'the lab ended before the command did.'));
    });
    if (rest.length > 0) reader.push(rest);
    socket.resume();
  });
  exited.catch(() => {}); // whoever waits for it sees it

  return {
    stdin,
    stdout,
    stderr,
    exited,
    signal(signal) {
      if (socket.writable) socket.write(frame(FRAME.SIGNAL, Buffer.from(signal)));
    },
    kill() {
      killed = true;
      socket.destroy();
    }
  };
}

/** Connects to a Unix socket in the lab; the stream carries raw bytes and half-closes. */
export async function connectInLab(endpoint: LabEndpoint, path: string): Promise<net.Socket> {
  const { socket, rest } = await request(endpoint, { op: 'pipe', path }, 'connect to a socket in the lab', path);
  if (rest.length > 0) socket.unshift(rest);
  return socket;
}

/** Keeps the lab alive until the connection is destroyed; 'close' tells that the lab has gone. */
export async function holdLab(endpoint: LabEndpoint): Promise<net.Socket> {
  const { socket } = await request(endpoint, { op: 'hold' }, 'reach the lab');
  socket.on('error', () => {});
  socket.resume();
  return socket;
}

/** Asks the agent for a sign of life. */
export async function pingLab(endpoint: LabEndpoint, timeout: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(gone('reach the lab', 'the lab', `it did not answer within ${timeout} ms.`)), timeout);
  });
  try {
    const { socket } = await Promise.race([request(endpoint, { op: 'ping' }, 'reach the lab'), late]);
    socket.destroy();
  } finally {
    clearTimeout(timer);
  }
}

/** Asks the agent to end every command and power off. */
export async function shutDownLab(endpoint: LabEndpoint): Promise<void> {
  const { socket } = await request(endpoint, { op: 'shutdown' }, 'shut the lab down');
  socket.destroy();
}
