// The loop of an I/O Worker: epoll, timers, and work that waits for the end of a turn. Such a Worker sits in epoll_wait, so nothing of Node's own
// loop (promises, timers, events) happens there while it runs. epoll(7).
import koffi from 'koffi';
import { close, EEXIST, EINTR, errno, SystemError } from '../kvm/libc.ts';

const libc = koffi.load('libc.so.6');
const cEpollCreate = libc.func('epoll_create1', 'int', ['int']) as (flags: number) => number;
const cEpollCtl = libc.func('epoll_ctl', 'int', ['int', 'int', 'int', 'void *']) as (epoll: number, operation: number, fd: number, event: Uint8Array) => number;
const cEpollWait = libc.func('epoll_wait', 'int', ['int', 'void *', 'int', 'int']) as (epoll: number, events: Uint8Array, most: number, timeout: number) => number;

export const EPOLLIN = 0x001;
export const EPOLLOUT = 0x004;
export const EPOLLERR = 0x008;
export const EPOLLHUP = 0x010;
/** Tells of what came new, not of what is still there: an eventfd's counter needs no taking. */
export const EPOLLET = 2 ** 31;

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;

/** struct epoll_event: packed on x86-64 alone. */
const EVENT_BYTES = process.arch === 'x64' ? 12 : 16;
const DATA = EVENT_BYTES - 8;
const EVENTS = 64;
const NO_TIMEOUT = -1;
const MAX_TIMEOUT = 2 ** 31 - 1;

/** What those who live in a loop may do with it. */
export interface Loop {
  /** Calls `handler` with what happened at `fd` whenever it is one of `events`, until unwatch. Throws SystemError, and when it is watched already. */
  watch(fd: number, events: number, handler: (events: number) => void): void;
  /** Other events from now on; 0 for none but errors. */
  change(fd: number, events: number): void;
  /** Before the descriptor is closed. Nothing happens if it is not watched. */
  unwatch(fd: number): void;
  /** Calls `act` once, `milliseconds` from now or a little later. */
  after(milliseconds: number, act: () => void): Timer;
  /** Calls `act` once when all that happened in this turn was handled: for what is done once for many (a batch's system call, one interrupt). */
  atEndOfTurn(act: () => void): void;
}

export interface Timer {
  /** Nothing happens if it has fired. */
  cancel(): void;
}

interface Due {
  /** By performance.now(). */
  readonly at: number;
  readonly act: () => void;
}

export class EventLoop implements Loop {
  readonly #epoll: number;
  readonly #handlers = new Map<number, (events: number) => void>();
  readonly #timers = new Set<Due>();
  #late: (() => void)[] = [];
  readonly #event = new Uint8Array(EVENT_BYTES);
  readonly #events = new Uint8Array(EVENTS * EVENT_BYTES);
  readonly #happened = new DataView(this.#events.buffer);
  #stopped = false;

  constructor() {
    this.#epoll = cEpollCreate(EPOLL_CLOEXEC);
    if (this.#epoll < 0) throw new SystemError('epoll_create1', errno());
  }

  watch(fd: number, events: number, handler: (events: number) => void): void {
    if (this.#handlers.has(fd)) throw new SystemError(`watch descriptor ${fd}`, EEXIST);
    this.#control(EPOLL_CTL_ADD, fd, events);
    this.#handlers.set(fd, handler);
  }

  change(fd: number, events: number): void {
    this.#control(EPOLL_CTL_MOD, fd, events);
  }

  unwatch(fd: number): void {
    if (!this.#handlers.delete(fd)) return;
    this.#control(EPOLL_CTL_DEL, fd, 0);
  }

  #control(operation: number, fd: number, events: number): void {
    const view = new DataView(this.#event.buffer);
    view.setUint32(0, events, true);
    view.setUint32(DATA, fd, true);
    view.setUint32(DATA + 4, 0, true);
    if (cEpollCtl(this.#epoll, operation, fd, this.#event) < 0) throw new SystemError(`epoll_ctl for descriptor ${fd}`, errno());
  }

  after(milliseconds: number, act: () => void): Timer {
    const due: Due = { at: performance.now() + milliseconds, act };
    this.#timers.add(due);
    return { cancel: () => void this.#timers.delete(due) };
  }

  atEndOfTurn(act: () => void): void {
    this.#late.push(act);
  }

  /** Turns until stop(), which may have come before. */
  run(): void {
    while (!this.#stopped) this.turn();
    this.#stopped = false;
  }

  stop(): void {
    this.#stopped = true;
  }

  /**
   * One turn: waits for something to happen and handles it.
   * @param most how long to wait, in milliseconds; for ever unless told, or until the next timer
   */
  turn(most = NO_TIMEOUT): void {
    this.#finish();
    const count = cEpollWait(this.#epoll, this.#events, EVENTS, this.#timeout(most));
    if (count < 0 && errno() !== EINTR) throw new SystemError('epoll_wait', errno());
    const view = this.#happened;
    for (let i = 0; i < count; i++) {
      const events = view.getUint32(i * EVENT_BYTES, true);
      this.#handlers.get(view.getInt32(i * EVENT_BYTES + DATA, true))?.(events);
    }
    this.#fire();
    this.#finish();
  }

  #timeout(most: number): number {
    let wait = most;
    const now = this.#timers.size === 0 ? 0 : performance.now();
    for (const { at } of this.#timers) {
      const left = Math.max(0, Math.ceil(at - now));
      if (wait < 0 || left < wait) wait = left;
    }
    return Math.min(wait, MAX_TIMEOUT);
  }

  #fire(): void {
    if (this.#timers.size === 0) return;
    const now = performance.now();
    // Those that are set meanwhile wait for the next turn; one may cancel another.
    const due = [...this.#timers].filter(({ at }) => at <= now);
    for (const each of due) if (this.#timers.delete(each)) each.act();
  }

  /** What is added meanwhile is done too. */
  #finish(): void {
    while (this.#late.length > 0) {
      const late = this.#late;
      this.#late = [];
      for (const act of late) act();
    }
  }

  close(): void {
    close(this.#epoll);
  }
}
