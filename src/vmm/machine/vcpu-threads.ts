// The Workers of a machine's vCPUs, as the control thread has them: started together, and counted as they go.
import { Worker } from 'node:worker_threads';
import type { ThreadDescription } from './thread.ts';
import type { VcpuMessage, VcpuWorkerData } from './vcpu-worker.ts';

export interface VcpuThreadsOptions {
  /** The Worker's file. */
  readonly entry: string;
  readonly thread: ThreadDescription;
  readonly vcpus: readonly { readonly id: number; readonly fd: number }[];
  heard(message: Exclude<VcpuMessage, { kind: 'ready' }>): void;
  /** A thread ended by an error that it could not tell of itself: it did not begin, or memory ran out. */
  failed(thrown: unknown): void;
}

export class VcpuThreads {
  #left = 0;
  readonly #gone: Promise<void>[] = [];
  /** Resolves when every thread has built its devices and waits for the start; rejects when one cannot. */
  readonly ready: Promise<void>;

  constructor(options: VcpuThreadsOptions) {
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

  #start({ entry, heard, failed }: VcpuThreadsOptions, data: VcpuWorkerData): Promise<void> {
    const worker = new Worker(entry, { workerData: data });
    this.#left++;
    this.#gone.push(
      new Promise((resolve) => {
        worker.once('exit', () => {
          this.#left--;
          resolve();
        });
      }),
    );
    return new Promise((resolve, reject) => {
      worker.on('message', (message: VcpuMessage) => (message.kind === 'ready' ? resolve() : heard(message)));
      worker.on('error', (error) => {
        reject(error);
        failed(error);
      });
      worker.once('exit', () => reject(new Error(`the thread of CPU ${data.id} ended before it began`)));
    });
  }
}
