// What the host and the agent in the lab say to each other, over TCP connections through QEMU's user-mode network.
//
// One connection is one purpose. It begins with one line of JSON from the host (a Request), which carries the token, and one line of
// JSON back (a Reply). After that:
//   hold      nothing: the open connection keeps the lab alive
//   run       frames both ways, until the command's `exit`; a connection that ends earlier kills the command and all it started
//   pipe      raw bytes to and from a Unix socket in the lab
//   ping, shutdown   nothing: the connection is closed
// A frame is a type byte, a 32-bit big-endian length, and the payload. Left out: compression, and windows, other than for stdin,
// where the host waits for `taken` before it sends the next piece, because the agent must never stop reading (or it would not see
// that the host is gone).

/** The port in the lab on which the agent listens; QEMU forwards a free port of 127.0.0.1 to it. */
export const AGENT_PORT = 7080;

/** Where the lab sees the cache of scripts/setup/lab.mjs: its own modules, and the kernels for guests. */
export const LAB_CACHE = '/run/lab/cache';

/** A private folder of the lab's ordinary user, for the sockets of machines. */
export const LAB_SOCKETS = '/run/lab/sockets';

/** What the agent prints on the serial console once it listens. */
export const READY_LINE = 'VITRINE-LAB READY';

/** What the lab's init prints on the serial console, with the reason, when it gives up. */
export const FAILED_LINE = 'VITRINE-LAB FAILED';

/** Who runs a command in the lab: the ordinary user, or root. */
export type LabUser = 'user' | 'root';

export interface RunRequest {
  op: 'run';
  argv: string[];
  /** Folder in the lab; it must exist there. */
  cwd: string;
  /** Added to the agent's base environment (PATH, HOME, USER, XDG_RUNTIME_DIR, LANG). */
  env: Record<string, string>;
  user: LabUser;
  /** First forget what the lab has cached of the host's files: for a lab that lives long. */
  fresh: boolean;
}

export type Request =
  | RunRequest
  | { op: 'pipe'; path: string }
  | { op: 'hold' }
  | { op: 'ping' }
  | { op: 'shutdown' };

export type Reply = { ok: true } | { ok: false; why: string };

/** What the agent reads at its start (agent.json). */
export interface AgentConfig {
  token: string;
  port: number;
  uid: number;
  gid: number;
  user: string;
  home: string;
  /** Powers off this long after the last connection has gone. */
  idleMilliseconds: number;
  /** Powers off if nobody connects this long after the start. */
  firstMilliseconds: number;
}

/** Frame types of a `run` connection. */
export const FRAME = {
  /** host to agent: bytes for the command's input; answered by TAKEN */
  STDIN: 1,
  /** host to agent: the input has ended */
  STDIN_END: 2,
  /** host to agent: a signal's name, for the command's process group */
  SIGNAL: 3,
  /** agent to host */
  STDOUT: 4,
  /** agent to host */
  STDERR: 5,
  /** agent to host: JSON of an ExitFrame; the last frame */
  EXIT: 6,
  /** agent to host: the last STDIN frame has been taken */
  TAKEN: 7
} as const;

export interface ExitFrame {
  code: number | null;
  signal: string | null;
}

const FRAME_HEADER = 5;
/** Larger frames are a mistake on the other side. */
const FRAME_LIMIT = 1 << 24;

/** One frame, ready to be written. */
export function frame(type: number, payload: Uint8Array): Buffer {
  const buffer = Buffer.allocUnsafe(FRAME_HEADER + payload.length);
  buffer[0] = type;
  buffer.writeUInt32BE(payload.length, 1);
  buffer.set(payload, FRAME_HEADER);
  return buffer;
}

/** Cuts a stream of bytes into frames. `push` throws on a length over 16 MiB. */
export class FrameReader {
  private pending: Buffer = Buffer.alloc(0);
  private readonly onFrame: (type: number, payload: Buffer) => void;

  constructor(onFrame: (type: number, payload: Buffer) => void) {
    this.onFrame = onFrame;
  }

  push(chunk: Buffer): void {
    let buffer = this.pending.length === 0 ? chunk : Buffer.concat([this.pending, chunk]);
    while (buffer.length >= FRAME_HEADER) {
      const length = buffer.readUInt32BE(1);
      if (length > FRAME_LIMIT) throw new Error(`a frame of ${length} bytes is no frame of the lab's protocol`);
      if (buffer.length < FRAME_HEADER + length) break;
      const payload = buffer.subarray(FRAME_HEADER, FRAME_HEADER + length);
      const type = buffer[0]!;
      buffer = buffer.subarray(FRAME_HEADER + length);
      this.onFrame(type, payload);
    }
    this.pending = buffer;
  }
}

/** Longest first line that is accepted; environments of commands travel in it. */
const LINE_LIMIT = 1 << 20;

/** Collects the first line of a connection; gives it and the bytes after it once it is whole. */
export class LineReader {
  private pending: Buffer = Buffer.alloc(0);

  push(chunk: Buffer): { line: string; rest: Buffer } | undefined {
    this.pending = this.pending.length === 0 ? chunk : Buffer.concat([this.pending, chunk]);
    const end = this.pending.indexOf(0x0a);
    if (end < 0) {
      if (this.pending.length > LINE_LIMIT) throw new Error("the first line of a connection is too long for the lab's protocol");
      return undefined;
    }
    return { line: this.pending.toString('utf8', 0, end), rest: this.pending.subarray(end + 1) };
  }
}
