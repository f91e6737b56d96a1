// The devices of the host, live, for any number of watchers: the process that reads them (main.ts) runs while there is one. A reader that
// ends is started again; one that hangs in a driver is left behind when the last watcher goes.
import { spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { createInterface } from 'node:readline';
import * as v from 'valibot';
import type { HostDevices } from '../../shared/host-devices.ts';
import { VitrineError } from '../../shared/errors.ts';
import { hostDevicesSchema } from '../../shared/host-devices.ts';
import { sameJson } from '../../shared/protocol/patch.ts';
import { entryPath, nodeRuntime } from '../install.ts';
import { cleanEnvironment } from '../launcher/environment.ts';
import type { Question } from './question.ts';

/** A running reader: here, or in the lab. */
export interface Reader {
  stdin: Writable;
  stdout: Readable;
  /** Settles when it has ended, with its last words. */
  ended: Promise<string>;
  kill: () => void;
}

export type StartReader = () => Promise<Reader>;

/** Milliseconds before a reader that ended by itself is started again, the first time; twice as long each time after. */
const AGAIN = 500;
const AGAIN_MOST = 30_000;
const SAID = 2000;

const NOTHING: HostDevices = { state: 'reading', on: 'host', findings: [], devices: {}, groups: {} };

/** Starts the reader. @param library the folder of the machines, for the reader in the lab; on this host without it */
export function startReader(env: NodeJS.ProcessEnv, library?: string): StartReader {
  return async () => {
    const node = nodeRuntime();
    const entry = library === undefined ? [entryPath('devices')] : [entryPath('devicesInLab'), library];
    // The session decides whether the only graphics card is under a desktop.
    const { DISPLAY, WAYLAND_DISPLAY } = env;
    const child = spawn(node.path, ['--disable-warning=ExperimentalWarning', ...entry], { env: { ...cleanEnvironment(env), DISPLAY, WAYLAND_DISPLAY, ...node.env }, stdio: ['pipe', 'pipe', 'pipe'] });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-SAID)));
    child.stdin.on('error', () => {});
    const ended = new Promise<string>((resolve) => {
      child.on('error', (error) => resolve(error.message));
      child.on('close', (code, signal) => resolve(said.trim() || `it ended with ${signal ?? `code ${code}`}.`));
    });
    return {
      stdin: child.stdin, stdout: child.stdout, ended,
      kill() {
        child.stdin.end();
        child.kill('SIGKILL');
        child.unref();
      },
    };
  };
}

/** Reads once, for one question. Rejects when the reader ends without an answer. @param signal gives up */
export async function readOnce(start: StartReader, question: Question, signal?: AbortSignal): Promise<HostDevices> {
  const reader = await start();
  try {
    return await new Promise((resolve, reject) => {
      const attempted = 'read the devices';
      signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      reader.ended.then((why) => reject(new VitrineError({ attempted, on: '', why, remedy: '', code: 'devices-reader' })), reject);
      createInterface({ input: reader.stdout }).once('line', (line) => {
        try {
          resolve(v.parse(hostDevicesSchema, JSON.parse(line)));
        } catch (thrown) {
          reject(new VitrineError({ attempted, on: '', why: 'the reader said something else.', remedy: '', code: 'devices-reader' }, { cause: thrown }));
        }
      });
      reader.stdin.write(`${JSON.stringify(question)}\n`);
    });
  } finally {
    reader.kill();
  }
}

export class DeviceWatch {
  readonly #start: StartReader;
  readonly #listeners = new Set<(value: HostDevices) => void>();
  #question: Question = { claims: [] };
  #value: HostDevices = NOTHING;
  #reader: Reader | null = null;
  /** Counts the readers, so that one that was given up says nothing any more. */
  #turn = 0;
  #again = AGAIN;
  #timer: NodeJS.Timeout | null = null;

  constructor(start: StartReader) {
    this.#start = start;
  }

  /** Which machines have devices; read anew when that is another than before. */
  setClaims(claims: Question['claims']): void {
    if (sameJson(claims, this.#question.claims)) return;
    this.#question = { ...this.#question, claims };
    this.#ask();
  }

  /** Tells `listener` at once what is known, and of every change. Returns what ends that. */
  watch(listener: (value: HostDevices) => void): () => void {
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) this.#begin();
    listener(this.#value);
    let over = false;
    return () => {
      if (over) return;
      over = true;
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.#end();
    };
  }

  close(): void {
    this.#listeners.clear();
    this.#end();
  }

  #ask(): void {
    this.#reader?.stdin.write(`${JSON.stringify(this.#question)}\n`);
  }

  #tell(value: HostDevices): void {
    this.#value = value;
    for (const listener of this.#listeners) listener(value);
  }

  #begin(): void {
    const turn = ++this.#turn;
    // What was known when the last watcher went may be long past.
    this.#value = { ...NOTHING, on: this.#value.on };
    void this.#run(turn);
  }

  async #run(turn: number): Promise<void> {
    let why: string;
    try {
      const reader = await this.#start();
      if (turn !== this.#turn) {
        reader.kill();
        return;
      }
      this.#reader = reader;
      createInterface({ input: reader.stdout }).on('line', (line) => {
        if (turn === this.#turn) this.#take(line);
      });
      this.#ask();
      why = await reader.ended;
    } catch (thrown) {
      why = thrown instanceof Error ? thrown.message : String(thrown);
    }
    if (turn !== this.#turn) return;
    this.#reader = null;
    // What was read stays in sight; it is said that it may be old.
    this.#tell({ ...this.#value, state: 'failed', problem: { attempted: 'read the devices', on: '', why, remedy: 'It is tried again by itself.', code: 'devices-reader' } });
    this.#timer = setTimeout(() => void this.#run(turn), this.#again);
    this.#again = Math.min(this.#again * 2, AGAIN_MOST);
  }

  #take(line: string): void {
    try {
      this.#tell(v.parse(hostDevicesSchema, JSON.parse(line)));
      this.#again = AGAIN;
    } catch {
      // A line that was cut off when the reader was killed.
    }
  }

  #end(): void {
    this.#turn++;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#again = AGAIN;
    this.#reader?.kill();
    this.#reader = null;
  }
}
