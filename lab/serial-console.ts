// A Linux guest's serial console as a program has it, whoever runs the guest: waits for what it says, and runs commands in its shell.
import { setTimeout as sleep } from 'node:timers/promises';

const LOOK_MS = 20;

export class SerialConsole {
  /** All that was said, as Latin-1. */
  text = '';
  readonly #write: (text: string) => void;
  readonly #patience: number;
  #read = 0;
  #next = 1;
  #gone = '';

  /**
   * @param write sends to the guest
   * @param patience how long the guest may take for what is expected of it, milliseconds
   */
  constructor(write: (text: string) => void, patience: number) {
    this.#write = write;
    this.#patience = patience;
  }

  hear(more: string): void {
    this.text += more;
  }

  /** Nothing more will be said; whoever waits fails with `why`. */
  end(why: string): void {
    this.#gone = why;
  }

  send(text: string): void {
    this.#write(text);
  }

  /** Waits for `pattern` after what was waited for before. Rejects with the last words. */
  async expect(pattern: RegExp): Promise<RegExpExecArray> {
    const deadline = performance.now() + this.#patience;
    for (;;) {
      const match = pattern.exec(this.text.slice(this.#read));
      if (match !== null) {
        this.#read += match.index + match[0].length;
        return match;
      }
      if (this.#gone !== '' || performance.now() > deadline) throw new Error(`${this.#gone || 'it takes too long'}; waited for ${pattern}. The last words:\n${this.text.slice(-3000)}`);
      await sleep(LOOK_MS);
    }
  }

  /** Waits for the prompt of the Try Linux machine's shell, and makes of the shell one that neither echoes nor edits. */
  async shell(): Promise<this> {
    await this.expect(/try-linux:~# /);
    this.send("stty -echo -onlcr; exec sh -c 'while IFS= read -r line; do eval \"$line\"; done'\n");
    await this.sh('true');
    return this;
  }

  /** Runs one line, which must not end in "&", and gives what it wrote. Rejects when its exit code is not 0. */
  async sh(command: string): Promise<string> {
    const mark = `${this.#next++}:`;
    const from = this.#read;
    this.send(`{ ${command}; } 2>&1; echo "@""@${mark}$?"\n`); // the mark is not in the line itself: the terminal may echo it
    const found = await this.expect(new RegExp(`@@${mark}(\\d+)\\r?\\n`));
    const output = this.text.slice(from, this.#read - found[0].length);
    if (found[1] !== '0') throw new Error(`${command}: exit code ${found[1]}: ${output}`);
    return output;
  }
}
