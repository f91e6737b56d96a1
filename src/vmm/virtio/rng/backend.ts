// The entropy device's work: random bytes of the host's kernel into whatever room the driver lends.
import { randomFillSync } from 'node:crypto';
import type { Backend, BackendHost, DriverSession } from '../backend.ts';
import { Portions } from '../portions.ts';

/** The most for one request: a guest that asks for gigabytes gets what it asks for in pieces. */
const MOST = 65536;

export class RngBackend implements Backend {
  readonly #bytes = new Uint8Array(MOST);
  readonly #portions: Portions;
  #driver: DriverSession | undefined;

  constructor(host: Pick<BackendHost, 'loop'>) {
    this.#portions = new Portions(host.loop);
  }

  start(driver: DriverSession): void {
    this.#driver = driver;
  }

  kicked(index: number): void {
    const queue = this.#driver!.queue(index)!;
    this.#portions.run(index, () => {
      const chain = queue.take();
      if (chain === null) return false;
      const random = randomFillSync(this.#bytes.subarray(0, Math.min(MOST, chain.writable.bytes)));
      queue.complete(chain, chain.writable.write(0, random));
      return true;
    }, () => this.kicked(index));
    this.#driver!.completed(queue);
  }

  quiesce(done: () => void): void {
    this.#portions.drop();
    done();
  }

  resume(): void {}

  stop(): void {
    this.#driver = undefined;
  }

  dispose(): void {}
}
