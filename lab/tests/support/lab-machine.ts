// A machine in the lab, as a test has it: start it, read and write its serial port, run commands in its shell, look at its screen.
// The machine is src/vmm's own, in a process in the lab (driver.ts), bundled first: under emulation, stripping types from every file in
// every thread costs seconds.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import type { MachineConfig } from '../../../src/shared/machine-config.ts';
import type { MachineStats, Outcome } from '../../../src/shared/protocol/machine.ts';
import type { MachineFacts } from '../../../src/vmm/server/control.ts';
import type { LabCommand } from '../../client.ts';
import type { LabHost } from '../../host.ts';
import { keysFor } from './us-keyboard.ts';

export const top = fileURLToPath(new URL('../../..', import.meta.url));
/** Two levels below the project, as out/main is: entry.ts finds Workers beside it and build/native two levels up. Of this process alone: two run side by side. */
export const bundle = path.join(top, `out/lab-tests-${process.pid}`);
process.once('exit', () => fs.rmSync(bundle, { recursive: true, force: true }));
const PATIENCE = 180_000;

/** Builds what runs in the lab, by the names of the files that come of it. Before the lab starts: it caches what it has read of the host. */
export async function buildForLab(input: Record<string, string>): Promise<void> {
  await build({
    configFile: false, root: top, logLevel: 'error', publicDir: false,
    build: {
      outDir: bundle, emptyOutDir: true, target: 'node24', ssr: true, minify: false,
      rolldownOptions: {
        input: Object.fromEntries(Object.entries(input).map(([name, file]) => [name, path.join(top, file)])),
        external: ['koffi'],
        output: { format: 'es', entryFileNames: '[name].js', chunkFileNames: '[name]-[hash].js' },
      },
    },
    ssr: { noExternal: true, external: ['koffi'] },
  });
}

export const buildDriver = (): Promise<void> => buildForLab({ driver: 'lab/tests/support/driver.ts', vcpu: 'src/vmm/machine/vcpu-worker.ts', io: 'src/vmm/virtio/io-worker.ts' });

export type MachineSpec = Pick<MachineConfig, 'boot'> & Partial<Omit<MachineConfig, 'boot' | 'version' | 'id'>>;

type Message =
  | { id: number; result?: unknown; error?: string }
  | { serial: string }
  | { console: string; data: string }
  | { facts: MachineFacts }
  | { log: string }
  | { stats: MachineStats }
  | { outcome: Outcome };

interface Waiter {
  readonly what: string;
  /** Checks what it waits for; true when it is there. */
  readonly look: () => boolean;
  readonly fail: (error: Error) => void;
}

export class LabMachine {
  /** Everything that the guest has written to its serial port, as Latin-1. */
  serial = '';
  /** What it has written to ports of virtio consoles that are watched, by "SLOT.PORT". */
  readonly consoles = new Map<string, Buffer>();
  facts!: MachineFacts;
  readonly log: string[] = [];
  readonly stats: MachineStats[] = [];
  outcome: Outcome | undefined;
  readonly #command: LabCommand;
  readonly #calls = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  readonly #waiters = new Set<Waiter>();
  #next = 0;
  #read = 0;
  #errors = '';

  /**
   * Starts a machine; resolves when its vCPUs run. Rejects when it does not start.
   * @param memlock the ordinary user's limit of locked memory, as prlimit has it; else the lab's
   */
  static async start(lab: LabHost, spec: MachineSpec, memlock?: string): Promise<LabMachine> {
    const config = { version: 1, id: 'lab-test', name: 'Lab test', memory: 512 * 2 ** 20, cpus: 1, ...spec };
    const own = [process.execPath, path.join(bundle, 'driver.js'), JSON.stringify(config)];
    // Only root may raise the limit; the machine is an ordinary user's all the same.
    const raised = ['/bin/sh', '-c', `exec prlimit --memlock=${memlock} setpriv --reuid=$U --regid=$G --init-groups --inh-caps=-all --bounding-set=-all "$@"`, 'machine', ...own];
    const ids = memlock === undefined ? [] : (await lab.run(['sh', '-c', 'id -u; id -g'])).stdout.trim().split(/\s+/);
    const command = memlock === undefined ? await lab.start(own, { cwd: top }) : await lab.start(raised, { cwd: top, user: 'root', env: { U: ids[0]!, G: ids[1]! } });
    const machine = new LabMachine(command);
    await machine.call('start');
    if (machine.outcome !== undefined) throw machine.#error(`the machine did not start: ${JSON.stringify(machine.outcome.problem)}`);
    return machine;
  }

  private constructor(command: LabCommand) {
    this.#command = command;
    command.stderr.on('data', (chunk: Buffer) => (this.#errors += chunk.toString()));
    createInterface({ input: command.stdout }).on('line', (line) => this.#take(JSON.parse(line) as Message));
    const gone = (): void => {
      const error = this.#error('the machine\'s process has ended');
      for (const call of this.#calls.values()) call.reject(error);
      for (const waiter of this.#waiters) waiter.fail(error);
    };
    command.exited.then(gone, gone);
  }

  #take(message: Message): void {
    if ('id' in message) {
      const call = this.#calls.get(message.id)!;
      this.#calls.delete(message.id);
      if (message.error === undefined) call.resolve(message.result);
      else call.reject(new Error(message.error));
      return;
    }
    if ('serial' in message) this.serial += Buffer.from(message.serial, 'base64').toString('latin1');
    else if ('console' in message) this.consoles.set(message.console, Buffer.concat([this.consoles.get(message.console) ?? Buffer.alloc(0), Buffer.from(message.data, 'base64')]));
    else if ('facts' in message) this.facts = message.facts;
    else if ('log' in message) this.log.push(message.log);
    else if ('stats' in message) this.stats.push(message.stats);
    else this.outcome = message.outcome;
    for (const waiter of this.#waiters) if (waiter.look()) this.#waiters.delete(waiter);
    if (this.outcome !== undefined) this.#giveUp(`the machine has ended: ${JSON.stringify(this.outcome)}`);
  }

  /** Nothing that is waited for comes any more. */
  #giveUp(why: string): void {
    for (const waiter of this.#waiters) waiter.fail(this.#error(`${why}; it never came to this: ${waiter.what}`));
    this.#waiters.clear();
  }

  #error(what: string): Error {
    const parts = [what, `machine's log:\n${this.log.join('\n')}`, `end of its serial output:\n${this.serial.slice(-2000)}`, this.#errors];
    return new Error(parts.filter((part) => part !== '').join('\n'));
  }

  /** Resolves as soon as `condition` holds; looked at whenever the machine says something. */
  until(what: string, condition: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = (error: Error): void => {
        clearTimeout(timer);
        reject(error);
      };
      const waiter: Waiter = {
        what, fail,
        look: () => {
          if (!condition()) return false;
          clearTimeout(timer);
          resolve();
          return true;
        },
      };
      const timer = setTimeout(() => {
        this.#waiters.delete(waiter);
        reject(this.#error(`it never came to this: ${what}`));
      }, PATIENCE);
      if (waiter.look()) return;
      this.#waiters.add(waiter);
      if (this.outcome !== undefined) this.#giveUp('the machine has ended');
    });
  }

  call(name: string, ...args: unknown[]): Promise<unknown> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject });
      this.#command.stdin.write(`${JSON.stringify({ id, call: name, args })}\n`);
    });
  }

  /** Waits for `pattern` in what the serial port says after what was waited for before. */
  async expect(pattern: RegExp): Promise<RegExpExecArray> {
    let match: RegExpExecArray | null = null;
    await this.until(`the serial port says ${pattern}`, () => (match = pattern.exec(this.serial.slice(this.#read))) !== null);
    this.#read += match!.index + match![0].length;
    return match!;
  }

  async write(bytes: string | Uint8Array): Promise<void> {
    await this.call('serialWrite', Buffer.from(bytes as string).toString('base64'));
  }

  /** Waits for the shell's prompt on the serial port, and makes of the shell one that neither echoes nor edits. */
  async shell(): Promise<this> {
    await this.expect(/try-linux:~# /);
    await this.write("stty -echo -onlcr; exec sh -c 'while IFS= read -r line; do eval \"$line\"; done'\n");
    assert.equal((await this.#run('true')).code, 0);
    return this;
  }

  async #run(command: string): Promise<{ code: number; output: string }> {
    const mark = `${this.#next}:`;
    const from = this.#read;
    await this.write(`{ ${command}; } 2>&1; echo "@""@${mark}$?"\n`); // the mark is not in the line itself: the terminal may echo it
    const found = await this.expect(new RegExp(`@@${mark}(\\d+)\\r?\\n`));
    return { code: Number(found[1]), output: this.serial.slice(from, this.#read - found[0].length) };
  }

  /** Runs one line in the guest's shell, which must not end in "&", and gives what it wrote. Fails when its exit code is not 0. */
  async sh(command: string): Promise<string> {
    const { code, output } = await this.#run(command);
    assert.equal(code, 0, `${command}: ${output}`);
    return output;
  }

  /** Presses keys (evdev codes) one after the other, and lets go of them in the opposite order. */
  async keys(...codes: number[]): Promise<void> {
    for (const down of [true, false]) for (const code of down ? codes : codes.toReversed()) await this.call('key', code, down);
  }

  async type(text: string): Promise<void> {
    for (const codes of keysFor(text)) await this.keys(...codes);
  }

  async screenshot(): Promise<{ png: Uint8Array; width: number; height: number }> {
    const { png, width, height } = (await this.call('screenshot')) as { png: string; width: number; height: number };
    return { png: Buffer.from(png, 'base64'), width, height };
  }

  /** How the machine ends, once it does. */
  async ended(): Promise<Outcome> {
    await this.until('the machine ends', () => this.outcome !== undefined);
    return this.outcome!;
  }

  /** Kills the machine's process as kill -9 does. */
  async kill(): Promise<void> {
    this.#command.signal('SIGKILL');
    await this.#command.exited.catch(() => {});
  }

  /** Cuts the machine's power, if it has not ended by itself, and ends its process. */
  async close(): Promise<void> {
    this.#command.stdin.end();
    await this.#command.exited.catch(() => {});
  }
}
