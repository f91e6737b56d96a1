// The entropy device's work: random bytes of the host's kernel into whatever room the driver lends.
import { randomFillSync } from 'node:crypto';
import type { Backend, DriverSession } from '../backend.ts';

/** The most for one request: a guest that asks for gigabytes gets what it asks for in pieces. */
const MOST = 65536;

export class RngBackend implements Backend {
  readonly #bytes = new Uint8Array(MOST);
  #driver: DriverSession | undefined;

  start(driver: DriverSession): void {
    this.#driver = driver;
  }

  kicked(index: number): void {
    const queue = this.#driver!.queue(index)!;
    for (let chain = queue.take(); chain !== null; chain = queue.take()) {
      const random = randomFillSync(this.#bytes.subarray(0, Math.min(MOST, chain.writable.bytes)));
      queue.complete(chain, chain.writable.write(0, random));
    }
    this.#driver!.completed(queue);
  }

  quiesce(done: () => void): void {
    done();
  }

  resume(): void {}

  stop(): void {
    this.#driver = undefined;
  }

  dispose(): void {}
}
