// The 9P device's work: messages of the queue to a server over one folder, one after the other. A request may wait for the host's disk or network, so
// the device has an I/O Worker of its own; nothing else waits with it but the guest's other requests to the same folder.
import { NinepServer } from '../../ninep/server.ts';
import type { ShareOptions } from '../../ninep/share.ts';
import type { Backend, DriverSession } from '../backend.ts';

export class NinepBackend implements Backend {
  readonly #server: NinepServer;
  #driver: DriverSession | undefined;
  #quiet = true;

  /** Throws VitrineError when the folder cannot be shared. */
  constructor(options: ShareOptions) {
    this.#server = new NinepServer(options);
  }

  start(driver: DriverSession): void {
    this.#driver = driver;
    this.#quiet = false;
  }

  kicked(index: number): void {
    const queue = this.#driver?.queue(index);
    if (this.#quiet || queue === undefined) return;
    for (let chain = queue.take(); chain !== null; chain = queue.take()) {
      queue.complete(chain, this.#server.answer(chain.readable, chain.writable));
      this.#driver!.completed(queue);
    }
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
