// A PS/2 mouse with the wheel of Microsoft's IntelliMouse and the five buttons of the Explorer, both of which a driver asks for by setting
// the sample rate three times ("knocking"). IBM PS/2 Hardware Interface Technical Reference, "Mouse"; Microsoft, "IntelliMouse Mouse Control".
//
// What the host reports waits as a list of button states with the movement made in each. A packet is made when the one before has been
// read to its end: so it carries the newest movement, is never torn, and what a packet cannot hold goes into the next.
//
// Left out: the pace of the sample rate (kept and reported; the host's own pace and the guest's reading limit the packets), and the effect
// of the resolution (kept and reported; a count is what the host says it is).
import type { Arena } from '../sync/arena.ts';
import { Ring } from './ring.ts';
import { ACK, REPLY } from './ps2-keyboard.ts';

const BAT_PASSED = 0xaa;
const RESEND = 0xfe;

const CMD_RESET = 0xff;
const CMD_RESEND = 0xfe;
const CMD_SET_DEFAULT = 0xf6;
const CMD_DISABLE = 0xf5;
const CMD_ENABLE = 0xf4;
const CMD_SAMPLE_RATE = 0xf3;
const CMD_IDENTIFY = 0xf2;
const CMD_REMOTE_MODE = 0xf0;
const CMD_WRAP_MODE = 0xee;
const CMD_RESET_WRAP = 0xec;
const CMD_READ_DATA = 0xeb;
const CMD_STREAM_MODE = 0xea;
const CMD_STATUS = 0xe9;
const CMD_RESOLUTION = 0xe8;
const CMD_SCALING_2_1 = 0xe7;
const CMD_SCALING_1_1 = 0xe6;

const ID_STANDARD = 0;
const ID_WHEEL = 3;
const ID_EXPLORER = 4;
const KNOCK_WHEEL = 200 * 0x10000 + 100 * 0x100 + 80;
const KNOCK_EXPLORER = 200 * 0x10000 + 200 * 0x100 + 80;

// The first byte of a packet.
const PACKET_ALWAYS = 0x08;
const PACKET_X_SIGN = 0x10;
const PACKET_Y_SIGN = 0x20;
/** Nine bits of two's complement, without the overflow flags. */
const PACKET_MOST = 255;
const WHEEL_MOST = 7;

const STATUS_SCALING = 0x10;
const STATUS_ENABLED = 0x20;
const STATUS_REMOTE = 0x40;

const REPLIES = 16;
const PACKET = 4;
/** Button states that wait; beyond them movement goes to the last one and its buttons follow the host. */
const EVENTS = 32;
const EVENT_WORDS = 4;
/** Movement that waits in one event is limited to what a guest could still want to see. */
const MOVEMENT_MOST = 32767;

const S_ENABLED = 0;
const S_REMOTE = 1;
const S_WRAP = 2;
const S_SCALING = 3;
const S_RESOLUTION = 4;
const S_RATE = 5;
const S_ID = 6;
const S_PENDING = 7;
/** The last three sample rates, a byte each. */
const S_KNOCK = 8;
const S_LAST_SENT = 9;
/** Buttons as the last packet had them, and as the host has them. */
const S_TOLD_BUTTONS = 10;
const S_BUTTONS = 11;
const S_FIRST = 12;
const S_COUNT = 13;
const STATE_WORDS = 14;

const clamp = (value: number, most: number): number => Math.max(-most, Math.min(most, value));

/** Counts after 2:1 scaling, which acts in stream mode alone: 0 1 1 3 6 9, then twice. */
export function scale2to1(counts: number): number {
  const size = Math.abs(counts);
  const scaled = size <= 5 ? [0, 1, 1, 3, 6, 9][size] : size * 2;
  return counts < 0 ? -scaled : scaled;
}

/** The mouse's end of the cable. Every method is called with the controller's mutex held. */
export class Ps2Mouse {
  readonly #s: Int32Array;
  readonly #replies: Ring;
  readonly #packet: Ring;
  /** A ring of {buttons, dx, dy, wheel}. */
  readonly #events: Int32Array;

  constructor(arena: Arena, label: string) {
    this.#s = arena.int32(`${label}.state`, STATE_WORDS);
    this.#replies = Ring.bytes(arena, `${label}.replies`, REPLIES);
    this.#packet = Ring.bytes(arena, `${label}.packet`, PACKET);
    this.#events = arena.int32(`${label}.events`, EVENTS * EVENT_WORDS);
  }

  /** As after power-on, its self test already read. */
  powerOn(): void {
    this.#replies.clear();
    this.#s[S_LAST_SENT] = 0;
    this.#resetState();
  }

  /** Whether a driver asked for reports. */
  get reporting(): boolean {
    return this.#s[S_ENABLED] !== 0;
  }

  /**
   * Movement since the last call, in counts: `dx` to the right, `dy` downwards, `wheel` away from the user.
   * @param buttons held now: 1 left, 2 right, 4 middle, 8 back, 16 forward.
   */
  move(dx: number, dy: number, wheel: number, buttons: number): void {
    const s = this.#s;
    s[S_BUTTONS] = buttons & 0x1f;
    if (s[S_ENABLED] === 0 && s[S_REMOTE] === 0) return;
    const last = s[S_COUNT] === 0 ? -1 : this.#slot(s[S_COUNT] - 1);
    const events = this.#events;
    const newButtons = last < 0 || events[last] !== s[S_BUTTONS];
    let slot = last;
    if (newButtons && s[S_COUNT] < EVENTS) {
      slot = this.#slot(s[S_COUNT]);
      s[S_COUNT] += 1;
      events.fill(0, slot, slot + EVENT_WORDS);
    }
    events[slot] = s[S_BUTTONS];
    events[slot + 1] = clamp(events[slot + 1] + Math.trunc(dx), MOVEMENT_MOST);
    events[slot + 2] = clamp(events[slot + 2] + Math.trunc(dy), MOVEMENT_MOST);
    events[slot + 3] = clamp(events[slot + 3] + Math.trunc(wheel), MOVEMENT_MOST);
  }

  /** The next byte to the host, or -1; a reply has REPLY set. */
  take(): number {
    const s = this.#s;
    let byte = this.#replies.shift();
    if (byte >= 0) {
      s[S_LAST_SENT] = byte;
      return byte | REPLY;
    }
    byte = this.#packet.shift();
    if (byte < 0 && s[S_ENABLED] !== 0 && s[S_REMOTE] === 0 && s[S_WRAP] === 0 && this.#anythingNew()) {
      for (const part of this.#makePacket()) this.#packet.push(part);
      byte = this.#packet.shift();
    }
    if (byte >= 0) s[S_LAST_SENT] = byte;
    return byte;
  }

  /** A byte from the host. */
  command(byte: number): void {
    const s = this.#s;
    if (s[S_WRAP] !== 0 && byte !== CMD_RESET && byte !== CMD_RESET_WRAP) {
      this.#reply(byte);
      return;
    }
    this.#packet.clear(); // a command ends a packet that was begun, and the driver starts anew
    const pending = s[S_PENDING];
    s[S_PENDING] = 0;
    if (pending === CMD_SAMPLE_RATE) {
      this.#sampleRate(byte);
      return;
    }
    if (pending === CMD_RESOLUTION) {
      if (byte <= 3) s[S_RESOLUTION] = byte;
      this.#reply(byte <= 3 ? ACK : RESEND);
      return;
    }
    switch (byte) {
      case CMD_SCALING_1_1:
      case CMD_SCALING_2_1:
        s[S_SCALING] = byte === CMD_SCALING_2_1 ? 1 : 0;
        break;
      case CMD_RESOLUTION:
      case CMD_SAMPLE_RATE:
        s[S_PENDING] = byte;
        break;
      case CMD_STATUS: {
        const buttons = s[S_BUTTONS];
        // Here the left button is bit 2, the right one bit 0.
        const flags = ((buttons & 1) << 2) | ((buttons & 4) >> 1) | ((buttons & 2) >> 1);
        const modes = (s[S_SCALING] !== 0 ? STATUS_SCALING : 0) | (s[S_ENABLED] !== 0 ? STATUS_ENABLED : 0) | (s[S_REMOTE] !== 0 ? STATUS_REMOTE : 0);
        this.#reply(ACK, flags | modes, s[S_RESOLUTION], s[S_RATE]);
        return;
      }
      case CMD_STREAM_MODE:
      case CMD_REMOTE_MODE:
        s[S_REMOTE] = byte === CMD_REMOTE_MODE ? 1 : 0;
        this.#forget();
        break;
      case CMD_READ_DATA:
        this.#reply(ACK, ...this.#makePacket());
        return;
      case CMD_RESET_WRAP:
        s[S_WRAP] = 0;
        break;
      case CMD_WRAP_MODE:
        s[S_WRAP] = 1;
        this.#forget();
        break;
      case CMD_IDENTIFY:
        this.#reply(ACK, s[S_ID]);
        return;
      case CMD_ENABLE:
      case CMD_DISABLE:
        s[S_ENABLED] = byte === CMD_ENABLE ? 1 : 0;
        this.#forget();
        break;
      case CMD_SET_DEFAULT:
        this.#defaults();
        break;
      case CMD_RESEND:
        this.#reply(s[S_LAST_SENT]);
        return;
      case CMD_RESET:
        this.#replies.clear();
        this.#resetState();
        this.#reply(ACK, BAT_PASSED, ID_STANDARD);
        return;
      default:
        this.#reply(RESEND);
        return;
    }
    this.#reply(ACK);
  }

  #sampleRate(rate: number): void {
    const s = this.#s;
    if (![10, 20, 40, 60, 80, 100, 200].includes(rate)) {
      this.#reply(RESEND);
      return;
    }
    s[S_RATE] = rate;
    s[S_KNOCK] = ((s[S_KNOCK] << 8) | rate) & 0xffffff;
    if (s[S_KNOCK] === KNOCK_WHEEL && s[S_ID] === ID_STANDARD) s[S_ID] = ID_WHEEL;
    if (s[S_KNOCK] === KNOCK_EXPLORER) s[S_ID] = ID_EXPLORER;
    this.#reply(ACK);
  }

  #defaults(): void {
    const s = this.#s;
    s[S_ENABLED] = 0;
    s[S_REMOTE] = 0;
    s[S_SCALING] = 0;
    s[S_RESOLUTION] = 2;
    s[S_RATE] = 100;
    s[S_PENDING] = 0;
    this.#forget();
  }

  #resetState(): void {
    const s = this.#s;
    s[S_WRAP] = 0;
    s[S_ID] = ID_STANDARD;
    s[S_KNOCK] = 0;
    s[S_TOLD_BUTTONS] = 0;
    this.#defaults();
  }

  /** The movement counters go to zero; the buttons are what they are. */
  #forget(): void {
    this.#packet.clear();
    this.#s[S_FIRST] = 0;
    this.#s[S_COUNT] = 0;
  }

  #reply(...bytes: number[]): void {
    for (const byte of bytes) this.#replies.push(byte);
  }

  /** Index of the words of the event number `n` that waits. */
  #slot(n: number): number {
    return ((this.#s[S_FIRST] + n) % EVENTS) * EVENT_WORDS;
  }

  #anythingNew(): boolean {
    const s = this.#s;
    return s[S_COUNT] > 0 || s[S_TOLD_BUTTONS] !== s[S_BUTTONS];
  }

  /** The next packet, of 3 or 4 bytes, taken out of what waits. */
  #makePacket(): number[] {
    const s = this.#s;
    const events = this.#events;
    let buttons = s[S_BUTTONS];
    let dx = 0;
    let dy = 0;
    let wheel = 0;
    if (s[S_COUNT] > 0) {
      const slot = this.#slot(0);
      const scaled = s[S_SCALING] !== 0 && s[S_REMOTE] === 0;
      const most = scaled ? PACKET_MOST >> 1 : PACKET_MOST;
      buttons = events[slot];
      dx = clamp(events[slot + 1], most);
      dy = clamp(events[slot + 2], most);
      wheel = s[S_ID] === ID_STANDARD ? events[slot + 3] : clamp(events[slot + 3], WHEEL_MOST);
      events[slot + 1] -= dx;
      events[slot + 2] -= dy;
      events[slot + 3] -= wheel;
      if (scaled) {
        dx = scale2to1(dx);
        dy = scale2to1(dy);
      }
      if (events[slot + 1] === 0 && events[slot + 2] === 0 && events[slot + 3] === 0) {
        s[S_FIRST] = (s[S_FIRST] + 1) % EVENTS;
        s[S_COUNT] -= 1;
      }
    }
    s[S_TOLD_BUTTONS] = buttons;
    const up = -dy; // the mouse counts upwards
    const packet = [PACKET_ALWAYS | (buttons & 7) | (dx < 0 ? PACKET_X_SIGN : 0) | (up < 0 ? PACKET_Y_SIGN : 0), dx & 0xff, up & 0xff];
    const towards = -wheel; // and the wheel towards the user
    if (s[S_ID] === ID_WHEEL) packet.push(towards & 0xff);
    if (s[S_ID] === ID_EXPLORER) packet.push((towards & 0x0f) | ((buttons & 0x18) << 1));
    return packet;
  }
}
