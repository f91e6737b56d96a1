// The 9P device's work: messages of the queue to a server over one folder, one after the other. A request may wait for the host's disk or network, so
// the device has an I/O Worker of its own; nothing else waits with it but the guest's other requests to the same folder.
import { NinepServer } from '../../ninep/server.ts';
import type { ShareOptions } from '../../ninep/share.ts';
import type { Backend, BackendHost, DriverSession } from '../backend.ts';

/** Requests until the loop gets a turn: a guest that never stops asking must not keep a pause or a reset waiting. */
const REQUESTS_IN_A_ROW = 256;

export class NinepBackend implements Backend {
  readonly #host: BackendHost;
  readonly #server: NinepServer;
  #driver: DriverSession | undefined;
  #quiet = true;
  /** More requests are known to be there, and are taken in the next turn. */
  #more = false;

  /** Throws VitrineError when the folder cannot be shared. */
  constructor(host: BackendHost, options: ShareOptions) {
    this.#host = host;
    this.#server = new NinepServer(options);
  }

  start(driver: DriverSession): void {
    this.#driver = driver;
    this.#quiet = false;
  }

  kicked(index: number): void {
    const queue = this.#driver?.queue(index);
    if (this.#quiet || queue === undefined) return;
    for (let i = 0; i < REQUESTS_IN_A_ROW; i++) {
      const chain = queue.take();
      if (chain === null) return;
      queue.complete(chain, this.#server.answer(chain.readable, chain.writable));
      this.#driver!.completed(queue);
    }
    if (this.#more) return;
    this.#more = true;
    this.#host.loop.after(0, () => {
      this.#more = false;
      this.kicked(index);
    });
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
    this.#server.reset();
  }

  dispose(): void {
    this.#server.dispose();
  }
}
