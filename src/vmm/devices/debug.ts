// Ports for whoever writes code for a machine: 0xE9 prints a byte (Bochs' debug port; it reads as 0xE9, which says that it is there), 0xF4
// ends the machine with a status (QEMU's isa-debug-exit; test guests use it), 0x80 takes the codes of power-on self tests, which Linux also
// writes to pass some time.
import type { Mutex } from '../sync/mutex.ts';
import type { Handler, Width } from '../bus/handler.ts';
import type { Device, FixedRange, Platform } from './device.ts';
import { bytePorts } from './byte-ports.ts';
import { Ring } from './ring.ts';

export const POST_PORT = 0x80;
export const DEBUG_PORT = 0xe9;
export const EXIT_PORT = 0xf4;
const EXIT_PORTS = 4;
const OUT_BYTES = 16 * 1024;
const S_POST = 0;
const STATE_WORDS = 1;

export interface DebugPortsOptions {
  /** Whether 0xF4 ends the machine: for test guests. Without it the port does not answer. */
  readonly exit: boolean;
  /** On the control thread: bytes written to 0xE9. What comes faster than it is taken is dropped. */
  readonly onOutput?: (bytes: Uint8Array) => void;
}

export class DebugPorts implements Device {
  readonly label = 'debug';
  readonly mutex: Mutex;
  readonly ranges: readonly FixedRange[];
  readonly #options: DebugPortsOptions;
  readonly #out: Ring;
  readonly #s: Int32Array;

  constructor(platform: Platform, options: DebugPortsOptions) {
    this.#options = options;
    this.mutex = platform.arena.mutex('debug.mutex');
    const out = Ring.bytes(platform.arena, 'debug.out', OUT_BYTES);
    const s = platform.arena.int32('debug.state', STATE_WORDS);
    this.#out = out;
    this.#s = s;
    const print = {
      readPort: () => DEBUG_PORT,
      writePort: (_: number, value: number) => {
        if (out.used === 0) platform.attention(this.label);
        out.push(value);
      },
    };
    const post = {
      readPort: () => s[S_POST],
      writePort: (_: number, value: number) => {
        s[S_POST] = value;
      },
    };
    const exit: Handler = {
      read: (): number => 0,
      write: (_offset: number, _width: Width, value: number): void => platform.request({ kind: 'exit', status: ((value << 1) | 1) >>> 0 }),
    };
    this.ranges = [
      { space: 'io', start: POST_PORT, size: 1, handler: bytePorts(post, 1) },
      { space: 'io', start: DEBUG_PORT, size: 1, handler: bytePorts(print, 1) },
      ...(options.exit ? [{ space: 'io', start: EXIT_PORT, size: EXIT_PORTS, handler: exit } as const] : []),
    ];
  }

  reset(): void {
    this.#s[S_POST] = 0;
  }

  service(): undefined {
    const bytes = this.mutex.run(() => this.#out.take(OUT_BYTES));
    if (bytes.length > 0) this.#options.onOutput?.(bytes);
    return undefined;
  }
}
