// How a PC resets itself, keyboard controller and triple fault aside: the reset control register 0xCF9 (ICH9 data sheet §13.7.5) and system
// control port A, 0x92 (fast A20 and INIT). A vCPU cannot be reset alone here: all of them reset the machine.
//
// 0xCF9 lies inside the four ports of the PCI address latch 0xCF8, which answers only to accesses of four bytes: its owner passes accesses of
// one byte on to `register`. It touches one shared word at once and needs no mutex.
import type { Mutex } from '../sync/mutex.ts';
import type { Handler, Width } from '../bus/handler.ts';
import type { Device, FixedRange, Platform } from './device.ts';
import { bytePorts } from './byte-ports.ts';

export const PORT_A = 0x92;

const RESET_SYSTEM = 0x02;
const RESET_CPU = 0x04;
const RESET_FULL = 0x08;
const RESET_KEPT = RESET_SYSTEM | RESET_FULL;

const PORT_A_INIT = 0x01;
const PORT_A_A20 = 0x02;

const S_CONTROL = 0;
const S_PORT_A = 1;
const STATE_WORDS = 2;

export class ResetControl implements Device {
  readonly label = 'reset';
  readonly mutex: Mutex;
  /** Port 0x92. */
  readonly ranges: readonly FixedRange[];
  /** The byte at 0xCF9. */
  readonly register: Handler;
  readonly #s: Int32Array;

  constructor(platform: Platform) {
    const s = platform.arena.int32('reset.state', STATE_WORDS);
    this.#s = s;
    this.mutex = platform.arena.mutex('reset.mutex');
    this.register = {
      read: (): number => Atomics.load(s, S_CONTROL),
      write: (_offset: number, _width: Width, value: number): void => {
        // The bit that resets reads as zero: here there is nobody left to read it.
        Atomics.store(s, S_CONTROL, value & RESET_KEPT);
        if ((value & RESET_CPU) !== 0) platform.request({ kind: 'reset', why: 'reset control register' });
      },
    };
    const portA = {
      readPort: () => s[S_PORT_A],
      writePort: (_: number, value: number) => {
        const init = value & ~s[S_PORT_A] & PORT_A_INIT;
        s[S_PORT_A] = value & (PORT_A_INIT | PORT_A_A20);
        if (init !== 0) platform.request({ kind: 'reset', why: 'system control port' });
      },
    };
    this.ranges = [{ space: 'io', start: PORT_A, size: 1, handler: bytePorts(portA, 1) }];
  }

  reset(): void {
    this.#s[S_CONTROL] = 0;
    this.#s[S_PORT_A] = PORT_A_A20;
  }
}
