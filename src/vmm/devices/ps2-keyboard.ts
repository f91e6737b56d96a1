// A PS/2 keyboard: IBM PS/2 Hardware Interface Technical Reference, "Keyboards (101/102 keys)". It has sixteen bytes of buffer, as the real
// one has: drivers drain it when they start and give up when it never ends.
//
// A key event is told whole or not at all. Once a driver speaks to the keyboard, events that do not fit wait in a backlog. A press that
// finds no room is forgotten; a release never is: what the guest believes to be down and the host says is up gets released as soon as
// there is room.
//
// Left out: typematic repeat (the host's repeats arrive as presses of a key that is down), and the false shifts around the grey keys.
import type { Arena } from '../sync/arena.ts';
import { Ring } from './ring.ts';
import {
  hasKey, KEY_LEFTALT, KEY_LEFTCTRL, KEY_LEFTSHIFT, KEY_RIGHTALT, KEY_RIGHTCTRL, KEY_RIGHTSHIFT, PREFIX_BREAK,
  set1Sequence, set2Sequence, set3Code, SET3_MAKE_BREAK, variantOf, type Modifiers, type Variant,
} from './ps2-keys.ts';

/** Flag of what `take()` gives: a reply to a command, not a scan code. */
export const REPLY = 0x100;

export const ACK = 0xfa;
const BAT_PASSED = 0xaa;
const RESEND = 0xfe;
const ECHO = 0xee;

// Commands, downwards as the reference has them.
const CMD_RESET = 0xff;
const CMD_RESEND = 0xfe;
const CMD_KEY_MAKE_BREAK = 0xfc;
const CMD_KEY_MAKE = 0xfd;
const CMD_KEY_TYPEMATIC = 0xfb;
const CMD_ALL_TYPEMATIC_MAKE_BREAK = 0xfa;
const CMD_ALL_MAKE = 0xf9;
const CMD_ALL_MAKE_BREAK = 0xf8;
const CMD_ALL_TYPEMATIC = 0xf7;
const CMD_SET_DEFAULT = 0xf6;
const CMD_DISABLE = 0xf5;
const CMD_ENABLE = 0xf4;
const CMD_TYPEMATIC_RATE = 0xf3;
const CMD_IDENTIFY = 0xf2;
const CMD_SCAN_CODE_SET = 0xf0;
const CMD_ECHO = 0xee;
const CMD_LEDS = 0xed;
/** Below this a byte is an argument. */
const FIRST_COMMAND = 0xed;

const ID = [0xab, 0x83] as const;

/** Scan code bytes waiting, so that with the controller's one there are sixteen. */
const CODES = 15;
/** While no driver is there, presses leave this much for the releases that follow. */
const SPARE = 4;
const REPLIES = 16;
const BACKLOG = 256;
const EVENT_DOWN = 0x100;
const KEYS = 256;
const DEFAULT_RATE = 0x2b;

const S_SET = 0;
const S_DISABLED = 1;
/** Command that waits for its argument. */
const S_PENDING = 2;
const S_LEDS = 3;
const S_RATE = 4;
const S_LAST_SENT = 5;
/** 1 once a driver has spoken to the keyboard or its controller. */
const S_DRIVER = 6;
/** 1 while some key that the guest believes to be down may be up. */
const S_OWED = 7;
const STATE_WORDS = 8;

const VARIANTS: readonly Variant[] = ['plain', 'sysrq', 'bare'];

/** The keyboard's end of the cable. Every method is called with the controller's mutex held. */
export class Ps2Keyboard {
  readonly #s: Int32Array;
  readonly #replies: Ring;
  readonly #codes: Ring;
  readonly #backlog: Ring;
  /** Per evdev code: down by the host's word. */
  readonly #held: Uint8Array;
  /** Per evdev code: 0, or 1 plus the variant that the guest was told. */
  readonly #told: Uint8Array;
  /** Per set 3 code: whether it has a break code. */
  readonly #breaks: Uint8Array;

  constructor(arena: Arena, label: string) {
    this.#s = arena.int32(`${label}.state`, STATE_WORDS);
    this.#replies = Ring.bytes(arena, `${label}.replies`, REPLIES);
    this.#codes = Ring.bytes(arena, `${label}.codes`, CODES);
    this.#backlog = Ring.words(arena, `${label}.backlog`, BACKLOG);
    this.#held = arena.uint8(`${label}.held`, KEYS);
    this.#told = arena.uint8(`${label}.told`, KEYS);
    this.#breaks = arena.uint8(`${label}.breaks`, 256);
  }

  /** As after power-on, its self test already read. Keys that the host holds stay held. */
  powerOn(): void {
    this.#s[S_DRIVER] = 0;
    this.#s[S_LEDS] = 0;
    this.#s[S_LAST_SENT] = 0;
    this.#replies.clear();
    this.#codes.clear();
    this.#backlog.clear();
    this.#told.fill(0);
    this.#defaults();
  }

  /** LEDs as the guest set them: 1 scroll lock, 2 num lock, 4 caps lock. */
  get leds(): number {
    return this.#s[S_LEDS];
  }

  /** A driver is there: it drained the buffer, and from now on no event is lost. */
  driverPresent(): void {
    this.#s[S_DRIVER] = 1;
  }

  /** A key changed on the host; a press of a key that is down is a repeat. Codes that no PS/2 keyboard has are ignored. */
  key(evdev: number, down: boolean): void {
    if (!hasKey(evdev)) return;
    const s = this.#s;
    const repeat = down && this.#held[evdev] !== 0;
    this.#held[evdev] = down ? 1 : 0;
    if (s[S_DISABLED] !== 0) {
      s[S_OWED] = 1;
      return;
    }
    if (repeat && (this.#backlog.used > 0 || this.#codes.used > 0)) return;
    if (s[S_DRIVER] !== 0) {
      if (!this.#backlog.push(evdev | (down ? EVENT_DOWN : 0))) s[S_OWED] = 1;
      this.#pump();
    } else if (!this.#tell(evdev, down, down ? SPARE : 0) && !down) s[S_OWED] = 1;
  }

  /** Whether the next byte to the host is a reply. */
  get replying(): boolean {
    return this.#replies.used > 0;
  }

  /** The next byte to the host, or -1; a reply has REPLY set. */
  take(): number {
    let byte = this.#replies.shift();
    if (byte >= 0) {
      this.#s[S_LAST_SENT] = byte;
      return byte | REPLY;
    }
    if (this.#codes.used === 0) this.#pump();
    byte = this.#codes.shift();
    if (byte >= 0) {
      this.#s[S_LAST_SENT] = byte;
      this.#pump();
    }
    return byte;
  }

  /** A byte from the host. */
  command(byte: number): void {
    const s = this.#s;
    s[S_DRIVER] = 1;
    const pending = s[S_PENDING];
    s[S_PENDING] = 0;
    if (pending !== 0 && byte < FIRST_COMMAND) {
      this.#argument(pending, byte);
      return;
    }
    switch (byte) {
      case CMD_LEDS:
      case CMD_SCAN_CODE_SET:
      case CMD_TYPEMATIC_RATE:
      case CMD_KEY_TYPEMATIC:
      case CMD_KEY_MAKE_BREAK:
      case CMD_KEY_MAKE:
        s[S_PENDING] = byte;
        this.#reply(ACK);
        return;
      case CMD_ECHO:
        this.#reply(ECHO);
        return;
      case CMD_IDENTIFY:
        this.#reply(ACK, ...ID);
        return;
      case CMD_ENABLE:
        s[S_DISABLED] = 0;
        s[S_OWED] = 1;
        this.#reply(ACK);
        return;
      case CMD_DISABLE:
        this.#defaults();
        s[S_DISABLED] = 1;
        this.#reply(ACK);
        return;
      case CMD_SET_DEFAULT:
        this.#defaults();
        this.#reply(ACK);
        return;
      case CMD_ALL_TYPEMATIC:
      case CMD_ALL_MAKE:
        this.#breaks.fill(0);
        this.#reply(ACK);
        return;
      case CMD_ALL_MAKE_BREAK:
      case CMD_ALL_TYPEMATIC_MAKE_BREAK:
        this.#breaks.fill(1);
        this.#reply(ACK);
        return;
      case CMD_RESEND:
        this.#reply(s[S_LAST_SENT]);
        return;
      case CMD_RESET:
        this.#replies.clear();
        this.#codes.clear();
        this.#backlog.clear();
        s[S_LEDS] = 0;
        this.#defaults();
        this.#told.fill(0);
        this.#reply(ACK, BAT_PASSED);
        return;
      default:
        this.#reply(RESEND);
    }
  }

  #argument(command: number, value: number): void {
    const s = this.#s;
    switch (command) {
      case CMD_LEDS:
        s[S_LEDS] = value & 7;
        this.#reply(ACK);
        return;
      case CMD_TYPEMATIC_RATE:
        s[S_RATE] = value & 0x7f;
        this.#reply(ACK);
        return;
      case CMD_SCAN_CODE_SET:
        if (value === 0) {
          this.#reply(ACK, s[S_SET]);
        } else if (value <= 3) {
          this.#codes.clear();
          s[S_SET] = value;
          this.#reply(ACK);
        } else {
          this.#reply(RESEND);
        }
        return;
      default:
        // FB, FC, FD: set 3 codes one by one, until the next command.
        this.#breaks[value] = command === CMD_KEY_MAKE_BREAK ? 1 : 0;
        s[S_PENDING] = command;
        this.#reply(ACK);
    }
  }

  /** Scan codes that wait are kept, where the real keyboard drops them: a release among them would leave a key stuck. */
  #defaults(): void {
    const s = this.#s;
    s[S_SET] = 2;
    s[S_DISABLED] = 0;
    s[S_PENDING] = 0;
    s[S_RATE] = DEFAULT_RATE;
    s[S_OWED] = 1;
    this.#breaks.fill(0);
    for (const code of SET3_MAKE_BREAK) this.#breaks[code] = 1;
  }

  #reply(...bytes: number[]): void {
    for (const byte of bytes) this.#replies.push(byte);
  }

  #modifiers(): Modifiers {
    const told = this.#told;
    return {
      ctrl: told[KEY_LEFTCTRL] !== 0 || told[KEY_RIGHTCTRL] !== 0,
      shift: told[KEY_LEFTSHIFT] !== 0 || told[KEY_RIGHTSHIFT] !== 0,
      alt: told[KEY_LEFTALT] !== 0 || told[KEY_RIGHTALT] !== 0,
    };
  }

  #sequence(evdev: number, down: boolean, variant: Variant): readonly number[] {
    const set = this.#s[S_SET];
    if (set === 1) return set1Sequence(evdev, down, variant);
    if (set === 2) return set2Sequence(evdev, down, variant);
    const code = set3Code(evdev);
    if (code === undefined) return [];
    if (down) return [code];
    return this.#breaks[code] !== 0 ? [PREFIX_BREAK, code] : [];
  }

  /** Queues one event, leaving `spare` bytes; true when done or when there is nothing to tell, false when there is no room. */
  #tell(evdev: number, down: boolean, spare: number): boolean {
    const told = this.#told[evdev];
    if (!down && told === 0) return true;
    const variant = told !== 0 ? VARIANTS[told - 1] : variantOf(evdev, this.#modifiers());
    const bytes = this.#sequence(evdev, down, variant);
    if (bytes.length + spare > this.#codes.room) return false;
    for (const byte of bytes) this.#codes.push(byte);
    this.#told[evdev] = down ? 1 + VARIANTS.indexOf(variant) : 0;
    return true;
  }

  /** Moves what waits into the buffer as far as there is room. */
  #pump(): void {
    const s = this.#s;
    if (s[S_DISABLED] !== 0) return;
    for (let event = this.#backlog.peek(); event >= 0; event = this.#backlog.peek()) {
      if (!this.#tell(event & 0xff, (event & EVENT_DOWN) !== 0, 0)) return;
      this.#backlog.shift();
    }
    if (s[S_OWED] === 0) return;
    for (let evdev = 0; evdev < KEYS; evdev++) {
      if (this.#told[evdev] !== 0 && this.#held[evdev] === 0 && !this.#tell(evdev, false, 0)) return;
    }
    s[S_OWED] = 0;
  }
}
