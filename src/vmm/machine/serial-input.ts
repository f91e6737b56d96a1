// Bytes on their way into the guest's serial port: what the port does not take yet waits here, in order.
import type { Serial } from '../devices/serial.ts';

interface Pending {
  bytes: Uint8Array;
  done: () => void;
}

export class SerialInput {
  readonly #serial: Serial;
  readonly #pending: Pending[] = [];

  constructor(serial: Serial) {
    this.#serial = serial;
  }

  /** Resolves when the port has taken all of `bytes`, or `signal` aborts: then what is left of them is dropped. */
  write(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const pending: Pending = { bytes, done: resolve };
      this.#pending.push(pending);
      signal.addEventListener('abort', () => {
        pending.bytes = new Uint8Array(0);
        this.resume();
        resolve();
      }, { once: true });
      this.resume();
    });
  }

  /** The port has room again. */
  resume(): void {
    for (;;) {
      const first = this.#pending[0];
      if (first === undefined) return;
      first.bytes = first.bytes.subarray(this.#serial.receive(first.bytes));
      if (first.bytes.length > 0) return;
      this.#pending.shift();
      first.done();
    }
  }

  close(): void {
    for (const pending of this.#pending.splice(0)) pending.done();
  }
}
