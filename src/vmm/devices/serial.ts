// A 16550A UART: National Semiconductor PC16550D data sheet; in a PC, COM1 at ports 0x3F8 to 0x3FF on IRQ 4, gated by MCR's OUT2.
//
// What differs from the chip is time. A byte written to THR is in the host's ring at once, so the transmitter is empty again with the next
// instruction, until too much is on its way: then THRE stays clear until the control thread has taken the bytes. That is the backpressure
// (the vCPU never waits here, a driver that looks at THRE loses nothing), and it keeps a driver that loops in its interrupt handler while
// THRE is pending (Linux counts to 512, then complains) from going round for ever. Bytes from the host come all at once, so the FIFO's
// time-out of four character times counts as over as soon as fewer bytes than the trigger level are left.
//
// Left out: baud rates (kept, without effect), parity and framing errors (the host's bytes have none), DMA mode, RI and lost carriers.
import type { Mutex } from '../sync/mutex.ts';
import type { Device, FixedRange, IrqLine, Platform } from './device.ts';
import { bytePorts } from './byte-ports.ts';
import { Ring } from './ring.ts';

export const SERIAL_PORT = 0x3f8;
const PORTS = 8;

// Registers by offset. With LCR.DLAB set, 0 and 1 are the divisor latch.
const RBR_THR = 0;
const IER = 1;
const IIR_FCR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;

const IER_RX = 0x01;
const IER_THRE = 0x02;
const IER_LINE = 0x04;
const IER_MODEM = 0x08;
const IER_MASK = 0x0f;

const IIR_NONE = 0x01;
const IIR_MODEM = 0x00;
const IIR_THRE = 0x02;
const IIR_RX = 0x04;
const IIR_TIMEOUT = 0x0c;
const IIR_LINE = 0x06;
const IIR_FIFOS = 0xc0;

const FCR_ENABLE = 0x01;
const FCR_CLEAR_RX = 0x02;
const FCR_TRIGGER_SHIFT = 6;
const TRIGGER_LEVELS = [1, 4, 8, 14] as const;

const LCR_DLAB = 0x80;

const MCR_DTR = 0x01;
const MCR_RTS = 0x02;
const MCR_OUT1 = 0x04;
const MCR_OUT2 = 0x08;
const MCR_LOOP = 0x10;
const MCR_MASK = 0x1f;

const LSR_DATA = 0x01;
const LSR_OVERRUN = 0x02;
const LSR_BREAK = 0x10;
const LSR_THRE = 0x20;
const LSR_TEMT = 0x40;
const LSR_FIFO_ERROR = 0x80;

const MSR_CTS = 0x10;
const MSR_DSR = 0x20;
const MSR_RI = 0x40;
const MSR_DCD = 0x80;
/** The host's end of the cable is always there and ready. */
const MSR_CONNECTED = MSR_CTS | MSR_DSR | MSR_DCD;

const FIFO_DEPTH = 16;
const OUT_BYTES = 64 * 1024;
/** From here on THRE stays clear; what lies above is for drivers that write without looking. */
const OUT_HIGH = 48 * 1024;
/** Bytes that may be written between two visits of the control thread before THRE stays clear. */
const OUT_BURST = 4096;
const IN_CELLS = 16 * 1024;
/** A cell of the in ring or the FIFO: the byte, and with this bit a break was received. */
const CELL_BREAK = 0x100;
const CHUNK = 16 * 1024;
/** Pieces taken in one visit of the control thread: all that the ring can hold. A guest that writes on and on waits for the next visit. */
const CHUNKS = OUT_BYTES / CHUNK;

// Words of the shared state.
const S_IER = 0;
const S_LCR = 1;
const S_MCR = 2;
const S_SCRATCH = 3;
const S_DIVISOR_LOW = 4;
const S_DIVISOR_HIGH = 5;
const S_FCR = 6;
/** Error bits of LSR that were not read yet. */
const S_ERRORS = 7;
const S_LAST_RX = 8;
const S_MODEM_DELTA = 9;
/** 1 while "THR empty" waits to be identified. */
const S_THRE_PENDING = 10;
const S_BURST = 11;
const S_TX_HELD = 12;
const S_IRQ = 13;
/** 1 once the guest has raised RTS: from then on a lowered RTS holds the host's bytes back. */
const S_RTS_USED = 14;
const S_WANTS_ROOM = 15;
const S_SINK_FULL = 16;
const S_OVERFLOWED = 17;
/** Breaks in the FIFO that LSR does not show yet. */
const S_BREAKS = 18;
const STATE_WORDS = 19;

export interface SerialOptions {
  readonly label?: string;
  /** First port; default COM1. */
  readonly port?: number;
  readonly gsi?: number;
  /** On the control thread: bytes that the guest sent, its own copy. False means "full": nothing more comes before `resumeOutput()`. */
  readonly onOutput?: (bytes: Uint8Array) => boolean | void;
  /** On the control thread: after `receive` took less than it was given, there is room again. */
  readonly onInputRoom?: () => void;
}

export class Serial implements Device {
  readonly label: string;
  readonly mutex: Mutex;
  readonly ranges: readonly FixedRange[];
  readonly #platform: Platform;
  readonly #options: SerialOptions;
  readonly #s: Int32Array;
  readonly #out: Ring;
  readonly #in: Ring;
  readonly #fifo: Ring;
  readonly #irq: IrqLine;

  constructor(platform: Platform, options: SerialOptions = {}) {
    this.label = options.label ?? 'serial0';
    this.#platform = platform;
    this.#options = options;
    const { arena } = platform;
    this.mutex = arena.mutex(`${this.label}.mutex`);
    this.#s = arena.int32(`${this.label}.state`, STATE_WORDS);
    this.#out = Ring.bytes(arena, `${this.label}.out`, OUT_BYTES);
    this.#in = Ring.words(arena, `${this.label}.in`, IN_CELLS);
    this.#fifo = Ring.words(arena, `${this.label}.fifo`, FIFO_DEPTH);
    this.#irq = platform.irqLine(options.gsi ?? 4, this.label);
    this.ranges = [{ space: 'io', start: options.port ?? SERIAL_PORT, size: PORTS, handler: bytePorts(this, PORTS) }];
  }

  /** As after MR. Bytes on their way to the host stay; input that was not read is dropped. */
  reset(): void {
    const held = this.#s[S_SINK_FULL];
    this.#s.fill(0);
    this.#s[S_SINK_FULL] = held;
    this.#s[S_DIVISOR_LOW] = 12; // 9600 baud
    this.#in.clear();
    this.#fifo.clear();
    this.#irq.set(false);
  }

  readPort(offset: number): number {
    const s = this.#s;
    switch (offset) {
      case RBR_THR:
        return (s[S_LCR] & LCR_DLAB) !== 0 ? s[S_DIVISOR_LOW] : this.#readData();
      case IER:
        return (s[S_LCR] & LCR_DLAB) !== 0 ? s[S_DIVISOR_HIGH] : s[S_IER];
      case IIR_FCR: {
        const source = this.#source();
        if (source === IIR_THRE) {
          s[S_THRE_PENDING] = 0;
          this.#updateIrq();
        }
        return source | ((s[S_FCR] & FCR_ENABLE) !== 0 ? IIR_FIFOS : 0);
      }
      case LCR:
        return s[S_LCR];
      case MCR:
        return s[S_MCR];
      case LSR: {
        const status = this.#lineStatus();
        if (s[S_ERRORS] !== 0) {
          s[S_ERRORS] = 0;
          this.#updateIrq();
        }
        return status;
      }
      case MSR: {
        const status = this.#modemStatus(s[S_MCR]) | s[S_MODEM_DELTA];
        if (s[S_MODEM_DELTA] !== 0) {
          s[S_MODEM_DELTA] = 0;
          this.#updateIrq();
        }
        return status;
      }
      default:
        return s[S_SCRATCH];
    }
  }

  writePort(offset: number, value: number): void {
    const s = this.#s;
    switch (offset) {
      case RBR_THR:
        if ((s[S_LCR] & LCR_DLAB) !== 0) s[S_DIVISOR_LOW] = value;
        else this.#transmit(value);
        return;
      case IER: {
        if ((s[S_LCR] & LCR_DLAB) !== 0) {
          s[S_DIVISOR_HIGH] = value;
          return;
        }
        // Switching the interrupt on while THR is empty raises it (data sheet §8.6): Linux tests for this.
        const turnedOn = value & ~s[S_IER] & IER_THRE;
        s[S_IER] = value & IER_MASK;
        if (turnedOn !== 0 && s[S_TX_HELD] === 0) s[S_THRE_PENDING] = 1;
        this.#updateIrq();
        return;
      }
      case IIR_FCR:
        this.#fifoControl(value);
        return;
      case LCR:
        s[S_LCR] = value;
        return;
      case MCR:
        this.#modemControl(value);
        return;
      case LSR:
      case MSR:
        return; // for factory tests only
      default:
        s[S_SCRATCH] = value;
    }
  }

  /** Bytes from the host, on the control thread. @returns how many were taken; when fewer than given, `onInputRoom` follows. */
  receive(bytes: Uint8Array): number {
    return this.mutex.run(() => {
      const count = Math.min(bytes.length, this.#in.room);
      for (let i = 0; i < count; i++) this.#in.push(bytes[i]);
      if (count < bytes.length) this.#s[S_WANTS_ROOM] = 1;
      this.#feed();
      this.#updateIrq();
      return count;
    });
  }

  /** A break on the line from the host (Linux: SysRq). */
  sendBreak(): void {
    this.mutex.run(() => {
      this.#in.push(CELL_BREAK);
      this.#feed();
      this.#updateIrq();
    });
  }

  /** The consumer that answered false has room again. */
  resumeOutput(): void {
    this.mutex.run(() => (this.#s[S_SINK_FULL] = 0));
    this.service();
  }

  service(): undefined {
    let overflowed = false;
    let room = false;
    for (let visit = 0; ; visit++) {
      if (visit === CHUNKS) {
        this.#platform.attention(this.label);
        break;
      }
      const chunk = this.mutex.run(() => {
        const s = this.#s;
        if (s[S_WANTS_ROOM] !== 0 && this.#in.used <= IN_CELLS / 2) {
          s[S_WANTS_ROOM] = 0;
          room = true;
        }
        if (s[S_SINK_FULL] !== 0) return null;
        const bytes = this.#out.take(CHUNK);
        overflowed ||= s[S_OVERFLOWED] !== 0;
        s[S_OVERFLOWED] = 0;
        s[S_BURST] = 0;
        if (s[S_TX_HELD] !== 0 && this.#out.used < OUT_HIGH) {
          s[S_TX_HELD] = 0;
          s[S_THRE_PENDING] = 1;
          this.#updateIrq();
        }
        return bytes;
      });
      if (chunk === null || chunk.length === 0) break;
      if (this.#options.onOutput?.(chunk) === false) this.mutex.run(() => (this.#s[S_SINK_FULL] = 1));
    }
    if (overflowed) this.#platform.log(this.label, 'the guest wrote without looking at THRE while the output was held: bytes were lost');
    if (room) this.#options.onInputRoom?.();
    return undefined;
  }

  #trigger(): number {
    const fcr = this.#s[S_FCR];
    return (fcr & FCR_ENABLE) !== 0 ? TRIGGER_LEVELS[fcr >> FCR_TRIGGER_SHIFT] : 1;
  }

  /** The highest pending and enabled interrupt, in IIR's coding. */
  #source(): number {
    const s = this.#s;
    const enabled = s[S_IER];
    if ((enabled & IER_LINE) !== 0 && s[S_ERRORS] !== 0) return IIR_LINE;
    const waiting = this.#fifo.used;
    if ((enabled & IER_RX) !== 0 && waiting > 0) return waiting >= this.#trigger() ? IIR_RX : IIR_TIMEOUT;
    if ((enabled & IER_THRE) !== 0 && s[S_THRE_PENDING] !== 0) return IIR_THRE;
    if ((enabled & IER_MODEM) !== 0 && s[S_MODEM_DELTA] !== 0) return IIR_MODEM;
    return IIR_NONE;
  }

  #setLine(level: number): void {
    if (this.#s[S_IRQ] === level) return;
    this.#s[S_IRQ] = level;
    this.#irq.set(level !== 0);
  }

  #updateIrq(): void {
    // The line to the interrupt controller passes a gate that OUT2 opens; in loopback the OUT2 pin is inactive.
    const gate = (this.#s[S_MCR] & (MCR_OUT2 | MCR_LOOP)) === MCR_OUT2;
    this.#setLine(gate && this.#source() !== IIR_NONE ? 1 : 0);
  }

  #lineStatus(): number {
    const s = this.#s;
    const errors = s[S_ERRORS];
    let status = errors;
    if (this.#fifo.used > 0) status |= LSR_DATA;
    if (s[S_TX_HELD] === 0) status |= LSR_THRE | LSR_TEMT;
    if ((s[S_FCR] & FCR_ENABLE) !== 0 && (s[S_BREAKS] > 0 || (errors & ~LSR_OVERRUN) !== 0)) status |= LSR_FIFO_ERROR;
    return status;
  }

  #modemStatus(mcr: number): number {
    if ((mcr & MCR_LOOP) === 0) return MSR_CONNECTED;
    return (
      ((mcr & MCR_RTS) !== 0 ? MSR_CTS : 0) |
      ((mcr & MCR_DTR) !== 0 ? MSR_DSR : 0) |
      ((mcr & MCR_OUT1) !== 0 ? MSR_RI : 0) |
      ((mcr & MCR_OUT2) !== 0 ? MSR_DCD : 0)
    );
  }

  #modemControl(value: number): void {
    const s = this.#s;
    const before = this.#modemStatus(s[S_MCR]);
    s[S_MCR] = value & MCR_MASK;
    const after = this.#modemStatus(s[S_MCR]);
    const changed = before ^ after;
    // Deltas lie four bits below the states; RI counts its trailing edge alone.
    s[S_MODEM_DELTA] = s[S_MODEM_DELTA] | ((changed & (MSR_CTS | MSR_DSR | MSR_DCD)) >> 4) | ((changed & before & MSR_RI) >> 4);
    if ((value & MCR_LOOP) === 0 && (value & MCR_RTS) !== 0) s[S_RTS_USED] = 1;
    this.#feed();
    this.#updateIrq();
  }

  #fifoControl(value: number): void {
    const s = this.#s;
    const toggled = ((value ^ s[S_FCR]) & FCR_ENABLE) !== 0;
    if (toggled || ((value & FCR_ENABLE) !== 0 && (value & FCR_CLEAR_RX) !== 0)) {
      this.#fifo.clear();
      s[S_ERRORS] = s[S_ERRORS] & LSR_OVERRUN;
      s[S_BREAKS] = 0;
    }
    // The other bits count only while FIFOs are enabled by the same write. The transmit FIFO has nothing to clear: it is never filled.
    s[S_FCR] = (value & FCR_ENABLE) !== 0 ? value & (FCR_ENABLE | (3 << FCR_TRIGGER_SHIFT)) : 0;
    this.#feed();
    this.#updateIrq();
  }

  #readData(): number {
    const s = this.#s;
    const cell = this.#fifo.shift();
    if (cell < 0) return s[S_LAST_RX];
    s[S_LAST_RX] = cell & 0xff;
    // An interrupt controller with edge-triggered inputs must see the line fall between "data available" and the next character's
    // time-out, as it does on the chip, or a handler that reads less than everything would never be called again.
    if (this.#fifo.used < this.#trigger() && (s[S_IER] & IER_RX) !== 0) this.#setLine(0);
    this.#showErrors();
    this.#feed();
    this.#updateIrq();
    return s[S_LAST_RX];
  }

  /** A break shows in LSR when its byte is the next to be read. */
  #showErrors(): void {
    const first = this.#fifo.peek();
    if (first < 0 || (first & CELL_BREAK) === 0) return;
    this.#fifo.replaceFirst(first & 0xff);
    this.#s[S_BREAKS] = this.#s[S_BREAKS] - 1;
    this.#s[S_ERRORS] = this.#s[S_ERRORS] | LSR_BREAK;
  }

  /** Moves the host's bytes into the empty FIFO (or holding register), unless the guest's RTS holds them back. */
  #feed(): void {
    const s = this.#s;
    if (this.#in.used === 0 || this.#fifo.used > 0 || (s[S_MCR] & MCR_LOOP) !== 0) return;
    if (s[S_RTS_USED] !== 0 && (s[S_MCR] & MCR_RTS) === 0) return;
    const depth = (s[S_FCR] & FCR_ENABLE) !== 0 ? FIFO_DEPTH : 1;
    while (this.#fifo.used < depth) {
      const cell = this.#in.shift();
      if (cell < 0) break;
      this.#fifo.push(cell);
      if ((cell & CELL_BREAK) !== 0) s[S_BREAKS] = s[S_BREAKS] + 1;
    }
    this.#showErrors();
    if (s[S_WANTS_ROOM] !== 0 && this.#in.used <= IN_CELLS / 2) this.#platform.attention(this.label);
  }

  #transmit(value: number): void {
    const s = this.#s;
    if ((s[S_MCR] & MCR_LOOP) !== 0) {
      const depth = (s[S_FCR] & FCR_ENABLE) !== 0 ? FIFO_DEPTH : 1;
      if (this.#fifo.used < depth) this.#fifo.push(value);
      else s[S_ERRORS] = s[S_ERRORS] | LSR_OVERRUN;
      s[S_THRE_PENDING] = 1;
      this.#updateIrq();
      return;
    }
    if (this.#out.used === 0) this.#platform.attention(this.label);
    if (!this.#out.push(value)) s[S_OVERFLOWED] = 1;
    s[S_BURST] = s[S_BURST] + 1;
    if (s[S_BURST] >= OUT_BURST || this.#out.used >= OUT_HIGH) {
      s[S_TX_HELD] = 1;
      s[S_THRE_PENDING] = 0;
      this.#platform.attention(this.label);
    } else {
      s[S_THRE_PENDING] = 1;
    }
    this.#updateIrq();
  }
}
