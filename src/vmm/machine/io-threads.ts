// The I/O Workers of a machine, as the control thread has them: which device lives in which, and letters to them. Devices that move much data, or wait
// for the host's files, have a Worker each; the light ones share one.
import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads';
import { VitrineError } from '../../shared/errors.ts';
import type { VirtioConfig } from '../../shared/machine-config.ts';
import { close, eventfd, signalEventfd } from '../kvm/libc.ts';
import type { RamWindow } from '../memory/guest-memory.ts';
import type { ArenaDescription, Slices } from '../sync/arena.ts';
import type { VirtioDescription } from '../virtio/description.ts';
import type { IoLetter, IoMail, IoMessage, IoWorkerData } from '../virtio/io-worker.ts';
import type { DeviceNews } from '../virtio/news.ts';
import type { ThreadMessage } from './thread-platform.ts';

const LIGHT: readonly VirtioConfig['kind'][] = ['virtio-rng', 'virtio-console', 'virtio-balloon', 'virtio-input', 'virtio-vsock'];

const LIGHT_THREAD = 'light';

export interface IoThreadsOptions {
  /** The Worker's file. */
  readonly entry: string;
  readonly vm: number;
  readonly ram: readonly RamWindow[];
  heard(message: ThreadMessage): void;
  /** A device has something to say. */
  told(slot: number, news: DeviceNews): void;
  /** A Worker ended by an error of ours. */
  failed(thrown: unknown): void;
}

interface Waiter {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

interface Thread {
  readonly name: string;
  readonly mail: MessagePort;
  readonly wake: number;
  readonly gone: Promise<void>;
  readonly waiting: Map<number, Waiter>;
  /** Slots of its devices. */
  readonly slots: Set<number>;
  ended: boolean;
}

export class IoThreads {
  readonly #o: IoThreadsOptions;
  readonly #threads = new Map<string, Thread>();
  #letters = 0;
  #ending = false;

  constructor(options: IoThreadsOptions) {
    this.#o = options;
  }

  get left(): number {
    return this.#threads.size;
  }

  /**
   * The device's Worker builds it. Resolves when it has; rejects with a VitrineError when the host cannot give what the device needs.
   * @param arena as it is now @param slices what the device has in it, if the arena was known to Workers before
   */
  async add(device: VirtioDescription, arena: ArenaDescription, slices: Slices = {}): Promise<void> {
    const name = LIGHT.includes(device.config.kind) ? LIGHT_THREAD : `slot ${device.slot}`;
    const thread = this.#threads.get(name) ?? this.#start(name, arena);
    thread.slots.add(device.slot);
    try {
      await this.#ask(thread, { kind: 'add', device, slices });
    } catch (thrown) {
      await this.#forget(thread, device.slot);
      throw thrown;
    }
  }

  /** Resolves when the device's backend has let go of everything. Nothing happens when there is no device in this slot. */
  async drop(slot: number): Promise<void> {
    const thread = this.#at(slot);
    if (thread === undefined) return;
    await this.#ask(thread, { kind: 'drop', slot });
    await this.#forget(thread, slot);
  }

  /** A message for the device's backend. @returns its answer; rejects with a VitrineError with what cannot be done */
  async send(slot: number, message: unknown): Promise<unknown> {
    const thread = this.#at(slot);
    if (thread === undefined) throw new Error(`slot ${slot} has no virtio device`);
    return this.#ask(thread, { kind: 'device', slot, message });
  }

  /** Every device lets go, and the Workers end; `milliseconds` at most. @returns whether they did */
  async end(milliseconds: number): Promise<boolean> {
    this.#ending = true;
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<void>((resolve) => (timer = setTimeout(resolve, milliseconds)));
    const ends = [...this.#threads.values()].map(async (thread) => {
      await this.#ask(thread, { kind: 'end' }).catch(() => {}); // it is gone already
      await thread.gone;
    });
    await Promise.race([Promise.all(ends), patience]);
    clearTimeout(timer);
    return this.left === 0;
  }

  #at(slot: number): Thread | undefined {
    return [...this.#threads.values()].find(({ slots }) => slots.has(slot));
  }

  /** A Worker without devices ends, but for the one of the light ones, which will have some again. */
  async #forget(thread: Thread, slot: number): Promise<void> {
    thread.slots.delete(slot);
    this.#o.told(slot, { kind: 'gone' });
    if (thread.name === LIGHT_THREAD || thread.slots.size > 0 || thread.ended || this.#ending) return;
    await this.#ask(thread, { kind: 'end' }).catch(() => {});
    await thread.gone;
  }

  #ask(thread: Thread, mail: IoMail): Promise<unknown> {
    if (thread.ended) return Promise.reject(new Error(`the I/O thread "${thread.name}" has ended`));
    const number = this.#letters++;
    return new Promise((resolve, reject) => {
      thread.waiting.set(number, { resolve, reject });
      thread.mail.postMessage({ number, mail } satisfies IoLetter);
      signalEventfd(thread.wake);
    });
  }

  #start(name: string, arena: ArenaDescription): Thread {
    const { port1, port2 } = new MessageChannel();
    const wake = eventfd();
    const data: IoWorkerData = { name, arena, vm: this.#o.vm, ram: this.#o.ram, mail: port2, wake };
    const worker = new Worker(this.#o.entry, { workerData: data, transferList: [port2] });
    const waiting = new Map<number, Waiter>();
    const gone = new Promise<void>((resolve) => worker.once('exit', () => resolve(this.#gone(thread))));
    const thread: Thread = { name, mail: port1, wake, waiting, gone, slots: new Set(), ended: false };
    worker.on('message', (message: IoMessage) => this.#heard(thread, message));
    worker.on('error', (error) => this.#o.failed(error));
    this.#threads.set(name, thread);
    return thread;
  }

  #gone(thread: Thread): void {
    thread.ended = true;
    this.#threads.delete(thread.name);
    thread.mail.close();
    close(thread.wake);
    for (const { reject } of thread.waiting.values()) reject(new Error(`the I/O thread "${thread.name}" has ended`));
    thread.waiting.clear();
    if (thread.slots.size > 0 && !this.#ending) this.#o.failed(new Error(`the I/O thread "${thread.name}" ended without a word`));
  }

  #heard(thread: Thread, message: IoMessage): void {
    if (message.kind === 'ready') return;
    if (message.kind === 'failed') this.#o.failed(new Error(message.why));
    else if (message.kind === 'tell') this.#o.told(message.slot, message.news);
    else if (message.kind !== 'answer') this.#o.heard(message);
    else {
      const waiter = thread.waiting.get(message.number);
      thread.waiting.delete(message.number);
      if (message.problem === undefined) waiter?.resolve(message.value);
      else waiter?.reject(new VitrineError(message.problem));
    }
  }
}
