// The keyboard controller of a PC/AT with an auxiliary port: ports 0x60 (data) and 0x64 (command, status), IRQ 1 and IRQ 12.
// IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller"; the commands that Linux's i8042 driver uses.
//
// There is one output buffer of one byte, which the controller, the keyboard and the mouse share. It is filled again when it has been read,
// in that order; the interrupt of its source falls with the read and rises with the next byte.
//
// Left out: passwords, the input buffer (always empty: a command is done when the write returns), time-outs and parity errors, the lock
// key, active multiplexing (its knock is answered as an ordinary loop, which says "none").
import type { Mutex } from '../sync/mutex.ts';
import type { Device, FixedRange, IrqLine, Platform } from './device.ts';
import { bytePorts } from './byte-ports.ts';
import { Ps2Keyboard, REPLY } from './ps2-keyboard.ts';
import { PREFIX_BREAK, translateByte } from './ps2-keys.ts';
import { Ps2Mouse } from './ps2-mouse.ts';
import { Ring } from './ring.ts';

export const I8042_DATA_PORT = 0x60;
export const I8042_COMMAND_PORT = 0x64;

// Status register.
const STATUS_OUTPUT_FULL = 0x01;
const STATUS_SYSTEM = 0x04;
const STATUS_COMMAND = 0x08;
const STATUS_UNLOCKED = 0x10;
const STATUS_AUX_FULL = 0x20;

// Configuration byte, which is byte 0 of the controller's memory.
const CONFIG_KEYBOARD_IRQ = 0x01;
const CONFIG_AUX_IRQ = 0x02;
const CONFIG_SYSTEM = 0x04;
const CONFIG_KEYBOARD_OFF = 0x10;
const CONFIG_AUX_OFF = 0x20;
const CONFIG_TRANSLATE = 0x40;
/** As firmware leaves it when no mouse is used: a kernel that is booted directly expects translation to be on. */
const CONFIG_START = CONFIG_TRANSLATE | CONFIG_AUX_OFF | CONFIG_SYSTEM | CONFIG_KEYBOARD_IRQ;
const MEMORY_BYTES = 32;

// Output port.
const OUTPUT_NO_RESET = 0x01;
const OUTPUT_A20 = 0x02;
const OUTPUT_KEYBOARD_FULL = 0x10;
const OUTPUT_AUX_FULL = 0x20;
const OUTPUT_IDLE_LINES = 0xc0;
/** Input port: the keyboard is not locked. */
const INPUT_PORT = 0x80;

// Commands.
const CMD_READ_MEMORY = 0x20; // to 0x3f
const CMD_WRITE_MEMORY = 0x60; // to 0x7f
const CMD_TEST_PASSWORD = 0xa4;
const CMD_AUX_DISABLE = 0xa7;
const CMD_AUX_ENABLE = 0xa8;
const CMD_AUX_TEST = 0xa9;
const CMD_SELF_TEST = 0xaa;
const CMD_KEYBOARD_TEST = 0xab;
const CMD_KEYBOARD_DISABLE = 0xad;
const CMD_KEYBOARD_ENABLE = 0xae;
const CMD_READ_INPUT_PORT = 0xc0;
const CMD_READ_OUTPUT_PORT = 0xd0;
const CMD_WRITE_OUTPUT_PORT = 0xd1;
const CMD_WRITE_KEYBOARD_BUFFER = 0xd2;
const CMD_WRITE_AUX_BUFFER = 0xd3;
const CMD_WRITE_AUX = 0xd4;
const CMD_A20_OFF = 0xdd;
const CMD_A20_ON = 0xdf;
const CMD_READ_TEST_INPUTS = 0xe0;
/** To the keyboard: forgets what waits. */
const KEYBOARD_RESET = 0xff;
const CMD_PULSE = 0xf0; // to 0xff: the bits that are 0 are pulsed low

const SELF_TEST_PASSED = 0x55;
const PORT_TEST_PASSED = 0x00;
const NO_PASSWORD = 0xf1;

/** A cell of the controller's own answers: the byte, with this bit for the auxiliary port. */
const CELL_AUX = 0x100;
const ANSWERS = 16;

const S_OUTPUT = 0;
const S_FULL = 1;
const S_AUX = 2;
/** 1 when the last write went to the command port. */
const S_COMMAND_LAST = 3;
/** The command that waits for a byte at the data port. */
const S_PENDING = 4;
const S_OUTPUT_PORT = 5;
/** 1 after the keyboard sent F0, which the translation swallows. */
const S_BREAK = 6;
const S_KEYBOARD_LINE = 7;
const S_AUX_LINE = 8;
/** 1 while the output buffer holds a scan code of the keyboard's. */
const S_CODE = 9;
/** A scan code that was taken back from the output buffer, plus 1. */
const S_RECALLED = 10;
const STATE_WORDS = 11;

export interface I8042Options {
  readonly keyboardGsi?: number;
  readonly mouseGsi?: number;
}

export class I8042 implements Device {
  readonly label = 'i8042';
  readonly mutex: Mutex;
  readonly ranges: readonly FixedRange[];
  readonly #platform: Platform;
  readonly #s: Int32Array;
  readonly #memory: Uint8Array;
  readonly #answers: Ring;
  readonly #keyboard: Ps2Keyboard;
  readonly #mouse: Ps2Mouse;
  readonly #keyboardIrq: IrqLine;
  readonly #mouseIrq: IrqLine;

  constructor(platform: Platform, options: I8042Options = {}) {
    this.#platform = platform;
    const { arena } = platform;
    this.mutex = arena.mutex('i8042.mutex');
    this.#s = arena.int32('i8042.state', STATE_WORDS);
    this.#memory = arena.uint8('i8042.memory', MEMORY_BYTES);
    this.#answers = Ring.words(arena, 'i8042.answers', ANSWERS);
    this.#keyboard = new Ps2Keyboard(arena, 'i8042.keyboard');
    this.#mouse = new Ps2Mouse(arena, 'i8042.mouse');
    this.#keyboardIrq = platform.irqLine(options.keyboardGsi ?? 1, 'i8042.keyboard');
    this.#mouseIrq = platform.irqLine(options.mouseGsi ?? 12, 'i8042.mouse');
    const data = bytePorts({ readPort: () => this.#readData(), writePort: (_, value) => this.#writeData(value) }, 1);
    const command = bytePorts({ readPort: () => this.#status(), writePort: (_, value) => this.#writeCommand(value) }, 1);
    this.ranges = [
      { space: 'io', start: I8042_DATA_PORT, size: 1, handler: data },
      { space: 'io', start: I8042_COMMAND_PORT, size: 1, handler: command },
    ];
  }

  reset(): void {
    this.#s.fill(0);
    this.#memory.fill(0);
    this.#memory[0] = CONFIG_START;
    this.#s[S_OUTPUT_PORT] = OUTPUT_NO_RESET | OUTPUT_A20;
    this.#answers.clear();
    this.#keyboard.powerOn();
    this.#mouse.powerOn();
    this.#keyboardIrq.set(false);
    this.#mouseIrq.set(false);
  }

  /** A key of the host's keyboard changed: Linux's evdev code. A press of a key that is down is a repeat. On the control thread. */
  key(evdev: number, down: boolean): void {
    this.mutex.run(() => {
      this.#keyboard.key(evdev, down);
      this.#fill();
    });
  }

  /** The pointer moved; units and signs as in Ps2Mouse.move. On the control thread. */
  move(dx: number, dy: number, wheel: number, buttons: number): void {
    this.mutex.run(() => {
      this.#mouse.move(dx, dy, wheel, buttons);
      this.#fill();
    });
  }

  /** LEDs as the guest set them: 1 scroll lock, 2 num lock, 4 caps lock. */
  leds(): number {
    return this.mutex.run(() => this.#keyboard.leds);
  }

  /** Whether the guest's driver listens to the mouse. */
  mouseReporting(): boolean {
    return this.mutex.run(() => this.#mouse.reporting);
  }

  #status(): number {
    const s = this.#s;
    let status = STATUS_UNLOCKED;
    if (s[S_FULL] !== 0) status |= STATUS_OUTPUT_FULL | (s[S_AUX] !== 0 ? STATUS_AUX_FULL : 0);
    if ((this.#memory[0] & CONFIG_SYSTEM) !== 0) status |= STATUS_SYSTEM;
    if (s[S_COMMAND_LAST] !== 0) status |= STATUS_COMMAND;
    return status;
  }

  #readData(): number {
    const s = this.#s;
    const value = s[S_OUTPUT];
    if (s[S_FULL] !== 0) {
      s[S_FULL] = 0;
      this.#updateIrqs();
      this.#fill();
    }
    return value;
  }

  #updateIrqs(): void {
    const s = this.#s;
    const config = this.#memory[0];
    const keyboard = s[S_FULL] !== 0 && s[S_AUX] === 0 && (config & CONFIG_KEYBOARD_IRQ) !== 0 ? 1 : 0;
    const aux = s[S_FULL] !== 0 && s[S_AUX] !== 0 && (config & CONFIG_AUX_IRQ) !== 0 ? 1 : 0;
    if (s[S_KEYBOARD_LINE] !== keyboard) {
      s[S_KEYBOARD_LINE] = keyboard;
      this.#keyboardIrq.set(keyboard !== 0);
    }
    if (s[S_AUX_LINE] !== aux) {
      s[S_AUX_LINE] = aux;
      this.#mouseIrq.set(aux !== 0);
    }
  }

  #show(byte: number, aux: boolean): void {
    const s = this.#s;
    s[S_OUTPUT] = byte;
    s[S_AUX] = aux ? 1 : 0;
    s[S_FULL] = 1;
    s[S_CODE] = 0;
    this.#updateIrqs();
  }

  /** Fills the output buffer, if it is empty, from the first source that has a byte. */
  #fill(): void {
    if (this.#s[S_FULL] !== 0) return;
    const answer = this.#answers.shift();
    if (answer >= 0) {
      this.#show(answer & 0xff, (answer & CELL_AUX) !== 0);
      return;
    }
    const config = this.#memory[0];
    if ((config & CONFIG_KEYBOARD_OFF) === 0) {
      const byte = this.#fromKeyboard((config & CONFIG_TRANSLATE) !== 0);
      if (byte >= 0) {
        this.#show(byte & 0xff, false);
        this.#s[S_CODE] = (byte & REPLY) === 0 ? 1 : 0;
        return;
      }
    }
    if ((config & CONFIG_AUX_OFF) === 0) {
      const byte = this.#mouse.take();
      if (byte >= 0) this.#show(byte & 0xff, true);
    }
  }

  /** The keyboard's next byte, translated to set 1 when that is on; -1 when there is none. A reply has REPLY set. */
  #fromKeyboard(translate: boolean): number {
    const s = this.#s;
    for (;;) {
      if (s[S_RECALLED] !== 0 && !this.#keyboard.replying) {
        const code = s[S_RECALLED] - 1;
        s[S_RECALLED] = 0;
        return code;
      }
      const taken = this.#keyboard.take();
      if (taken < 0) return -1;
      const byte = taken & 0xff;
      if (!translate) {
        s[S_BREAK] = 0;
        return taken;
      }
      if ((taken & REPLY) !== 0) return translateByte(byte) | REPLY; // a reply between F0 and its code leaves the break waiting
      if (byte === PREFIX_BREAK) {
        s[S_BREAK] = 1;
        continue;
      }
      const broken = s[S_BREAK] !== 0 ? 0x80 : 0;
      s[S_BREAK] = 0;
      return translateByte(byte) | broken;
    }
  }

  /**
   * Before a byte goes to the keyboard: a scan code that the guest has not read yet waits behind the reply. A driver that waits for the reply
   * drops what comes before it (Linux's ps2_handle_ack), and a key whose release is dropped is held for ever.
   */
  #recall(command: number): void {
    const s = this.#s;
    if (s[S_FULL] !== 0 && s[S_CODE] !== 0) {
      s[S_RECALLED] = s[S_OUTPUT] + 1;
      s[S_FULL] = 0;
    }
    if (command === KEYBOARD_RESET) s[S_RECALLED] = 0;
  }

  #answer(cell: number): void {
    this.#answers.push(cell);
    this.#fill();
  }

  #setConfig(value: number): void {
    this.#memory[0] = value;
    this.#updateIrqs();
    this.#fill();
  }

  #writeCommand(command: number): void {
    const s = this.#s;
    s[S_COMMAND_LAST] = 1;
    s[S_PENDING] = 0;
    const config = this.#memory[0];
    if (command >= CMD_PULSE) {
      if ((command & OUTPUT_NO_RESET) === 0) this.#platform.request({ kind: 'reset', why: 'keyboard controller' });
      return;
    }
    if (command >= CMD_READ_MEMORY && command < CMD_READ_MEMORY + MEMORY_BYTES) {
      this.#answer(this.#memory[command - CMD_READ_MEMORY]);
      return;
    }
    if (command >= CMD_WRITE_MEMORY && command < CMD_WRITE_MEMORY + MEMORY_BYTES) {
      s[S_PENDING] = command;
      return;
    }
    switch (command) {
      case CMD_TEST_PASSWORD:
        this.#answer(NO_PASSWORD);
        return;
      case CMD_AUX_DISABLE:
        this.#setConfig(config | CONFIG_AUX_OFF);
        return;
      case CMD_AUX_ENABLE:
        this.#setConfig(config & ~CONFIG_AUX_OFF);
        return;
      case CMD_AUX_TEST:
      case CMD_KEYBOARD_TEST:
        this.#answer(PORT_TEST_PASSED);
        return;
      case CMD_SELF_TEST:
        this.#memory[0] = config | CONFIG_SYSTEM;
        this.#answer(SELF_TEST_PASSED);
        return;
      case CMD_KEYBOARD_DISABLE:
        this.#setConfig(config | CONFIG_KEYBOARD_OFF);
        return;
      case CMD_KEYBOARD_ENABLE:
        this.#setConfig(config & ~CONFIG_KEYBOARD_OFF);
        return;
      case CMD_READ_INPUT_PORT:
        this.#answer(INPUT_PORT);
        return;
      case CMD_READ_OUTPUT_PORT: {
        const full = s[S_FULL] === 0 ? 0 : s[S_AUX] !== 0 ? OUTPUT_AUX_FULL : OUTPUT_KEYBOARD_FULL;
        this.#answer((s[S_OUTPUT_PORT] & (OUTPUT_NO_RESET | OUTPUT_A20)) | OUTPUT_IDLE_LINES | full);
        return;
      }
      case CMD_WRITE_OUTPUT_PORT:
      case CMD_WRITE_KEYBOARD_BUFFER:
      case CMD_WRITE_AUX_BUFFER:
      case CMD_WRITE_AUX:
        s[S_PENDING] = command;
        return;
      case CMD_A20_OFF:
        s[S_OUTPUT_PORT] &= ~OUTPUT_A20;
        return;
      case CMD_A20_ON:
        s[S_OUTPUT_PORT] |= OUTPUT_A20;
        return;
      case CMD_READ_TEST_INPUTS:
        this.#answer(0x03); // both clocks are high
    }
  }

  #writeData(value: number): void {
    const s = this.#s;
    s[S_COMMAND_LAST] = 0;
    const pending = s[S_PENDING];
    s[S_PENDING] = 0;
    if (pending >= CMD_WRITE_MEMORY && pending < CMD_WRITE_MEMORY + MEMORY_BYTES) {
      if (pending === CMD_WRITE_MEMORY) {
        this.#keyboard.driverPresent();
        this.#setConfig(value);
      } else this.#memory[pending - CMD_WRITE_MEMORY] = value;
      return;
    }
    switch (pending) {
      case CMD_WRITE_OUTPUT_PORT:
        s[S_OUTPUT_PORT] = value;
        if ((value & OUTPUT_NO_RESET) === 0) this.#platform.request({ kind: 'reset', why: 'keyboard controller' });
        return;
      case CMD_WRITE_KEYBOARD_BUFFER:
        this.#answer(value);
        return;
      case CMD_WRITE_AUX_BUFFER:
        this.#answer(value | CELL_AUX);
        return;
      case CMD_WRITE_AUX:
        this.#mouse.command(value);
        this.#setConfig(this.#memory[0] & ~CONFIG_AUX_OFF); // sending needs the clock, and leaves it on
        return;
      default:
        this.#recall(value);
        this.#keyboard.command(value);
        this.#setConfig(this.#memory[0] & ~CONFIG_KEYBOARD_OFF);
    }
  }
}
