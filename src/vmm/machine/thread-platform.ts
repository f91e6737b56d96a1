// The Platform that devices see, in one thread of a machine: the control thread or a vCPU Worker.
import type { Arena } from '../sync/arena.ts';
import type { GuestClock, IrqLine, MachineRequest, Platform } from '../devices/device.ts';
import type { IrqLines } from '../irq/irq-lines.ts';
import type { Boots } from './boots.ts';

/** What a thread tells the control thread. */
export type ThreadMessage =
  | { kind: 'attention' }
  /** At most one a boot. */
  | { kind: 'request'; request: MachineRequest; boot: number }
  | { kind: 'log'; label: string; text: string };

/** Lines of one label that a thread may log in a second; more are counted and said in one line. */
const LOG_RATE = 20;

/** Flags that ask the control thread to look after a device. */
export class Attention {
  readonly #arena: Arena;
  readonly #any: Int32Array;
  readonly #flags = new Map<string, Int32Array>();

  constructor(arena: Arena) {
    this.#arena = arena;
    this.#any = arena.int32('attention', 1);
  }

  #flag(label: string): Int32Array {
    let flag = this.#flags.get(label);
    if (flag === undefined) this.#flags.set(label, (flag = this.#arena.int32(`attention.${label}`, 1)));
    return flag;
  }

  /** Makes the device's flag, on the control thread while the machine is built. */
  register(label: string): void {
    this.#flag(label);
  }

  /** @returns whether the control thread must be woken: nobody did since it looked last. */
  ask(label: string): boolean {
    const flag = this.#flag(label);
    if (Atomics.load(flag, 0) !== 0) return false;
    Atomics.store(flag, 0, 1);
    return Atomics.exchange(this.#any, 0, 1) === 0;
  }

  /** Control thread: before it looks at the flags. */
  begin(): void {
    Atomics.store(this.#any, 0, 0);
  }

  take(label: string): boolean {
    return Atomics.exchange(this.#flag(label), 0, 0) !== 0;
  }
}

export class ThreadPlatform implements Platform {
  readonly arena: Arena;
  readonly clock: GuestClock;
  readonly control: boolean;
  readonly #lines: IrqLines;
  readonly #attention: Attention;
  readonly #boots: Boots;
  readonly #post: (message: ThreadMessage) => void;
  readonly #logged = new Map<string, { second: number; count: number }>();

  constructor(options: { arena: Arena; clock: GuestClock; control: boolean; lines: IrqLines; attention: Attention; boots: Boots; post: (message: ThreadMessage) => void }) {
    this.arena = options.arena;
    this.clock = options.clock;
    this.control = options.control;
    this.#lines = options.lines;
    this.#attention = options.attention;
    this.#boots = options.boots;
    this.#post = options.post;
  }

  irqLine(gsi: number, owner: string): IrqLine {
    return this.#lines.line(gsi, owner);
  }

  attention(label: string): void {
    if (this.#attention.ask(label)) this.#post({ kind: 'attention' });
  }

  request(request: MachineRequest): void {
    if (this.#boots.ask()) this.#post({ kind: 'request', request, boot: this.#boots.number });
  }

  log(label: string, text: string): void {
    const second = Math.floor(performance.now() / 1000);
    const seen = this.#logged.get(label);
    if (seen === undefined || seen.second !== second) {
      const missed = (seen?.count ?? 0) - LOG_RATE;
      if (missed > 0) this.#post({ kind: 'log', label, text: `${missed} lines more` });
      this.#logged.set(label, { second, count: 1 });
    } else if (++seen.count > LOG_RATE) return;
    this.#post({ kind: 'log', label, text });
  }
}
