// The work of an input device: events wait for room that the driver lends, one event to a buffer, in groups that end with a report. When a guest does not
// take them, places of the pointer are forgotten, the oldest first, and at last everything, with what was held let go: no key stays down for ever.
import type { Backend, BackendHost, DriverSession } from '../backend.ts';
import { ABS_X, ABS_Y, BTN_LEFT, BTN_MIDDLE, BTN_RIGHT, EV_ABS, EV_KEY, EV_LED, EV_REL, EV_SYN, EVENT_QUEUE, LED_CAPSL, LED_NUML, LED_SCROLLL, REL_WHEEL, STATUS_QUEUE, SYN_REPORT } from './model.ts';

/** What the control thread sends. */
export type InputMail =
  | { kind: 'key'; code: number; down: boolean }
  /** x and y from 0 to TABLET_MAX; wheel in notches away from the person; buttons as PointerInput has them. */
  | { kind: 'tablet'; x: number; y: number; wheel: number; buttons: number };

type Event = readonly [type: number, code: number, value: number];

const EVENT_BYTES = 8;
/** Groups that wait: seconds of typing. */
const MOST = 512;
/** Bit n of `buttons`. */
const BUTTONS = [BTN_LEFT, BTN_RIGHT, BTN_MIDDLE];

/** Bits of the lamps as the PS/2 keyboard has them: 1 scroll lock, 2 num lock, 4 caps lock. */
const LAMPS = new Map([[LED_SCROLLL, 1], [LED_NUML, 2], [LED_CAPSL, 4]]);

export class InputBackend implements Backend {
  readonly #host: BackendHost;
  #driver: DriverSession | undefined;
  #quiet = true;
  #waiting: { readonly events: readonly Event[]; readonly place: boolean }[] = [];
  /** Keys and buttons that are down once everything that waits is told. */
  readonly #down = new Set<number>();
  /** Those that the guest knows of. */
  readonly #told = new Set<number>();
  #x = -1;
  #y = -1;
  #lamps = 0;

  constructor(host: BackendHost) {
    this.#host = host;
  }

  mail(message: unknown): void {
    if (this.#driver === undefined) return;
    const mail = message as InputMail;
    if (mail.kind === 'key') this.#key(mail.code, mail.down);
    else this.#tablet(mail);
    this.#send();
  }

  /** A key that is down goes down again when it repeats: the guest repeats by itself. */
  #key(code: number, down: boolean): void {
    if (this.#down.has(code) === down) return;
    this.#note(code, down);
    this.#queue([[EV_KEY, code, down ? 1 : 0]], false);
  }

  #note(code: number, down: boolean): void {
    if (down) this.#down.add(code);
    else this.#down.delete(code);
  }

  #tablet({ x, y, wheel, buttons }: Extract<InputMail, { kind: 'tablet' }>): void {
    const events: Event[] = [];
    if (x !== this.#x) events.push([EV_ABS, ABS_X, x]);
    if (y !== this.#y) events.push([EV_ABS, ABS_Y, y]);
    this.#x = x;
    this.#y = y;
    const placed = events.length;
    if (wheel !== 0) events.push([EV_REL, REL_WHEEL, wheel]);
    BUTTONS.forEach((code, bit) => {
      const down = (buttons & (1 << bit)) !== 0;
      if (this.#down.has(code) === down) return;
      this.#note(code, down);
      events.push([EV_KEY, code, down ? 1 : 0]);
    });
    if (events.length > 0) this.#queue(events, events.length === placed);
  }

  #queue(events: readonly Event[], place: boolean): void {
    this.#waiting.push({ events: [...events, [EV_SYN, SYN_REPORT, 0]], place });
    if (this.#waiting.length <= MOST) return;
    // Where the pointer was is of no use once it is elsewhere; but both axes of the last place must be told.
    this.#waiting = this.#waiting.filter((group) => !group.place);
    if (this.#waiting.length > MOST) {
      const up = Array.from(this.#told, (code): Event => [EV_KEY, code, 0]);
      this.#waiting = [];
      // In groups that find room in any queue.
      while (up.length > 0) this.#waiting.push({ events: [...up.splice(0, 4), [EV_SYN, SYN_REPORT, 0]], place: false });
      this.#down.clear();
    }
    if (this.#x >= 0) this.#waiting.push({ events: [[EV_ABS, ABS_X, this.#x], [EV_ABS, ABS_Y, this.#y], [EV_SYN, SYN_REPORT, 0]], place: true });
  }

  /** Whole groups, as long as there is room. */
  #send(): void {
    const queue = this.#driver?.queue(EVENT_QUEUE);
    if (queue === undefined || this.#quiet) return;
    while (this.#waiting.length > 0) {
      const { events } = this.#waiting[0]!;
      const chains = [];
      for (const _ of events) {
        const chain = queue.take();
        if (chain === null) break;
        chains.push(chain);
      }
      if (chains.length < events.length) {
        for (const chain of chains.reverse()) queue.untake(chain);
        return;
      }
      this.#waiting.shift();
      chains.forEach((chain, i) => {
        const bytes = new DataView(new ArrayBuffer(EVENT_BYTES));
        const [type, code, value] = events[i]!;
        if (type === EV_KEY && value !== 0) this.#told.add(code);
        else if (type === EV_KEY) this.#told.delete(code);
        bytes.setUint16(0, type, true);
        bytes.setUint16(2, code, true);
        bytes.setInt32(4, value, true);
        queue.complete(chain, chain.writable.write(0, new Uint8Array(bytes.buffer)));
      });
      this.#driver!.completed(queue);
    }
  }

  kicked(index: number): void {
    if (index === EVENT_QUEUE) this.#send();
    else this.#readStatus();
  }

  #readStatus(): void {
    const queue = this.#driver!.queue(STATUS_QUEUE)!;
    const bytes = new Uint8Array(EVENT_BYTES);
    const view = new DataView(bytes.buffer);
    let lamps = this.#lamps;
    for (let chain = queue.take(); chain !== null; chain = queue.take()) {
      if (chain.readable.read(0, bytes) === EVENT_BYTES && view.getUint16(0, true) === EV_LED) {
        const bit = LAMPS.get(view.getUint16(2, true)) ?? 0;
        lamps = view.getUint32(4, true) !== 0 ? lamps | bit : lamps & ~bit;
      }
      queue.complete(chain, 0);
    }
    this.#driver!.completed(queue);
    if (lamps === this.#lamps) return;
    this.#lamps = lamps;
    this.#host.tell({ kind: 'lamps', lamps });
  }

  start(driver: DriverSession): void {
    this.#driver = driver;
    this.#quiet = false;
  }

  quiesce(done: () => void): void {
    this.#quiet = true;
    done();
  }

  resume(): void {
    this.#quiet = false;
  }

  stop(): void {
    this.#driver = undefined;
    this.#waiting = [];
    this.#down.clear();
    this.#told.clear();
    this.#x = this.#y = -1;
    this.#lamps = 0;
  }

  dispose(): void {}
}
