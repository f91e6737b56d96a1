// The Workers of a machine's vCPUs, as the control thread has them: started together, and counted as they go.
import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads';
import type { PlugMail } from './hot-plug.ts';
import type { ThreadDescription } from './thread.ts';
import type { Letter, VcpuMessage, VcpuWorkerData } from './vcpu-worker.ts';

export interface VcpuThreadsOptions {
  /** The Worker's file. */
  readonly entry: string;
  readonly thread: ThreadDescription;
  readonly vcpus: readonly { readonly id: number; readonly fd: number }[];
  heard(message: Exclude<VcpuMessage, { kind: 'ready' | 'answer' }>): void;
  /** Has the thread of this vCPU look for its mail. */
  wake(id: number): void;
  /** A thread ended by an error that it could not tell of itself: it did not begin, or memory ran out. */
  failed(thrown: unknown): void;
  /** A thread is gone, told to or not; if not, it may have left locks held. */
  gone(id: number): void;
}

interface Thread {
  readonly id: number;
  readonly mail: MessagePort;
  /** Letters that it has not answered. */
  readonly waiting: Map<number, { resolve: () => void; reject: (error: Error) => void }>;
}

export class VcpuThreads {
  #left = 0;
  #letters = 0;
  readonly #threads = new Set<Thread>();
  readonly #wake: (id: number) => void;
  readonly #gone: Promise<void>[] = [];
  /** Resolves when every thread has built its devices and waits for the start; rejects when one cannot. */
  readonly ready: Promise<void>;

  constructor(options: VcpuThreadsOptions) {
    this.#wake = options.wake;
    const ready = options.vcpus.map(({ id, fd }) => this.#start(options, { thread: options.thread, id, fd }));
    this.ready = Promise.all(ready).then(() => {});
  }

  /** Threads that have not ended. */
  get left(): number {
    return this.#left;
  }

  /** Waits until all have ended, `milliseconds` at most. They must have been told to stop. @returns whether they did */
  async ended(milliseconds: number): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<void>((resolve) => (timer = setTimeout(resolve, milliseconds)));
    await Promise.race([Promise.all(this.#gone), patience]);
    clearTimeout(timer);
    return this.#left === 0;
  }

  /**
   * Has every thread do the same, each between two exits of its vCPU, also while the machine is paused. Resolves when all have: none of them is inside
   * a handler that it entered before. Rejects when one could not, once all have answered, or is gone.
   */
  async tell(mail: PlugMail): Promise<void> {
    const number = this.#letters++;
    const answers = [...this.#threads].map(
      (thread) =>
        new Promise<void>((resolve, reject) => {
          thread.waiting.set(number, { resolve, reject });
          thread.mail.postMessage({ number, mail } satisfies Letter);
          this.#wake(thread.id);
        }),
    );
    const refused = (await Promise.allSettled(answers)).find((answer) => answer.status === 'rejected');
    if (refused !== undefined) throw refused.reason;
  }

  #start({ entry, heard, failed, gone }: VcpuThreadsOptions, description: Omit<VcpuWorkerData, 'mail'>): Promise<void> {
    const { port1, port2 } = new MessageChannel();
    const data: VcpuWorkerData = { ...description, mail: port2 };
    const thread: Thread = { id: data.id, mail: port1, waiting: new Map() };
    const worker = new Worker(entry, { workerData: data, transferList: [port2] });
    this.#threads.add(thread);
    this.#left++;
    this.#gone.push(
      new Promise((resolve) => {
        worker.once('exit', () => {
          this.#left--;
          this.#threads.delete(thread);
          port1.close();
          for (const { reject: give } of thread.waiting.values()) give(new Error(`the thread of CPU ${data.id} has ended`));
          resolve();
          gone(data.id);
        });
      }),
    );
    return new Promise((resolve, reject) => {
      worker.on('message', (message: VcpuMessage) => {
        if (message.kind === 'ready') resolve();
        else if (message.kind === 'answer') answered(thread, message.number, message.error);
        else heard(message);
      });
      worker.on('error', (error) => {
        reject(error);
        failed(error);
      });
      worker.once('exit', () => reject(new Error(`the thread of CPU ${data.id} ended before it began`)));
    });
  }
}

function answered({ id, waiting }: Thread, number: number, error: string | undefined): void {
  const waiter = waiting.get(number);
  waiting.delete(number);
  if (error === undefined) waiter?.resolve();
  else waiter?.reject(new Error(`CPU ${id}: ${error}`));
}
