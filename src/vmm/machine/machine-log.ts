// The machine's log: its last lines for viewers, all lines for its file. A guest can cause lines as fast as it likes, by resets, by what its
// devices say of it, and by its own debug port; for those there is a bucket of BURST lines that fills by RATE a second, so that no guest fills the
// host's disk, and what is left out is counted. What a guest writes itself is shown without control characters: it shall not look like ours,
// nor talk to a terminal.
import type { LogLine } from '../../shared/protocol/machine.ts';
import { LogBacklog } from '../server/control.ts';

const BURST = 1000;
const RATE = 2;
/** Longer lines of the debug port are cut. */
const LINE_BYTES = 400;
const NEWLINE = 10;

const escaped = (text: string): string => text.replace(/(?!\t)\p{Cc}/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`);

export class MachineLog {
  readonly lines = new LogBacklog();
  readonly #file: (text: string) => void;
  readonly #now: () => number;
  #left = BURST;
  #filledAt: number;
  #missed = 0;
  #line: number[] = [];

  /** @param file gets each line; @param now milliseconds, for tests */
  constructor(file: (text: string) => void, now: () => number = () => performance.now()) {
    this.#file = file;
    this.#now = now;
    this.#filledAt = now();
  }

  /** A line of ours. */
  say(level: LogLine['level'], text: string): void {
    this.lines.push(level, text);
    this.#file(`${new Date().toISOString()} ${level} ${text}`);
  }

  /** A line that the guest caused. */
  sayOfGuest(level: LogLine['level'], text: string): void {
    if (!this.#take()) {
      this.#missed++;
      return;
    }
    if (this.#missed > 0) this.say('warning', `${this.#missed} lines that the guest caused are left out`);
    this.#missed = 0;
    this.say(level, text);
  }

  /** What the guest wrote to its debug port: a line of the log each, at most LINE_BYTES long. */
  debugOutput(bytes: Uint8Array): void {
    for (const byte of bytes) {
      if (byte !== NEWLINE) this.#line.push(byte);
      if (byte === NEWLINE || this.#line.length === LINE_BYTES) this.endLine();
    }
  }

  /** Says what was written to the debug port without an end of line. */
  endLine(): void {
    if (this.#line.length === 0) return;
    this.sayOfGuest('debug', `debug port: ${escaped(Buffer.from(this.#line).toString('latin1').trimEnd())}`);
    this.#line = [];
  }

  #take(): boolean {
    const now = this.#now();
    const filled = Math.floor(((now - this.#filledAt) / 1000) * RATE);
    if (filled > 0) {
      this.#left = Math.min(BURST, this.#left + filled);
      this.#filledAt = this.#left === BURST ? now : this.#filledAt + (filled * 1000) / RATE;
    }
    if (this.#left === 0) return false;
    this.#left--;
    return true;
  }
}
