// The socket device's work is the host's kernel's: it serves the rings, hears the driver's kicks, and says by an eventfd when the driver is to be
// interrupted, which is all that is left to do here.
import { close, eventfd, SystemError } from '../../kvm/libc.ts';
import { EPOLLET, EPOLLIN } from '../../io/event-loop.ts';
import type { Backend, BackendHost, DriverSession } from '../backend.ts';
import * as c from '../constants.ts';
import { F_SEQPACKET, RECEIVE, TRANSMIT } from './model.ts';
import { VhostVsock } from './vhost.ts';

/** Those that the rings' server decides on, which here is not us. */
const RING_FEATURES = [c.F_RING_INDIRECT_DESC, c.F_RING_EVENT_IDX, c.F_VERSION_1, F_SEQPACKET];
const SERVED = [RECEIVE, TRANSMIT];

/** What the backend needs of vhost; a test has one of its own. */
export type Vhost = Pick<VhostVsock, 'features' | 'start' | 'run' | 'close'>;

interface Wires {
  readonly kick: number;
  readonly call: number;
  readonly error: number;
}

export class VsockBackend implements Backend {
  readonly #host: BackendHost;
  readonly #vhost: Vhost;
  readonly #wires: readonly Wires[];
  #driver: DriverSession | undefined;
  /** The kernel knows the rings. */
  #begun = false;

  /** Throws VitrineError. */
  constructor(host: BackendHost, cid: number, vhost: Vhost = new VhostVsock(host.ram, cid, host.label)) {
    this.#host = host;
    this.#vhost = vhost;
    for (const feature of RING_FEATURES) host.offer(feature, this.#can(feature));
    host.offer(c.F_RING_PACKED, false);
    host.offer(c.F_RING_RESET, false);
    this.#wires = SERVED.map((queue) => ({ kick: host.giveKick(queue), call: eventfd(), error: eventfd() }));
    this.#wires.forEach(({ call, error }, queue) => {
      host.loop.watch(call, EPOLLIN | EPOLLET, () => this.#driver?.interrupt(queue));
      host.loop.watch(error, EPOLLIN | EPOLLET, () => {
        if (this.#driver !== undefined) host.broken(`the host's kernel could not make sense of queue ${queue}`);
      });
    });
  }

  #can(feature: number): boolean {
    return (this.#vhost.features[feature >>> 5]! & (1 << (feature & 31))) !== 0;
  }

  start(driver: DriverSession): void {
    this.#driver = driver;
    this.#begin();
  }

  /** Once the driver has given both queues. */
  #begin(): void {
    const queues = SERVED.map((index) => this.#driver!.queue(index));
    if (this.#begun || !queues.every((queue) => queue !== undefined)) return;
    const features: [number, number] = [0, 0];
    for (const feature of RING_FEATURES) if (this.#driver!.has(feature)) features[feature >>> 5]! |= 1 << (feature & 31);
    try {
      this.#vhost.start(this.#host.ram, [features[0] >>> 0, features[1] >>> 0], queues.map((queue, index) => ({ place: queue.place, ...this.#wires[index]! })));
      this.#begun = true;
    } catch (thrown) {
      if (!(thrown instanceof SystemError)) throw thrown;
      this.#host.broken(`the host's kernel refuses the driver's queues (${thrown.message})`);
    }
  }

  kicked(): void {
    this.#begin();
  }

  quiesce(done: () => void): void {
    if (this.#begun) this.#vhost.run(false);
    done();
  }

  resume(): void {
    if (this.#begun) this.#vhost.run(true);
  }

  stop(): void {
    this.#driver = undefined;
    this.#begun = false;
  }

  dispose(): void {
    for (const { call, error } of this.#wires) {
      this.#host.loop.unwatch(call);
      this.#host.loop.unwatch(error);
      close(call);
      close(error);
    }
    this.#vhost.close();
  }
}
