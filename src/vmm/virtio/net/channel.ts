// One pair of queues and the descriptor that its frames come from and go to, in the Worker's loop: what is waited for, and when.
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, type Loop, type Timer } from '../../io/event-loop.ts';
import type { Virtqueue } from '../queue/virtqueue.ts';
import type { Receiver, Transmitter, Turn } from './path.ts';

export interface ChannelParts {
  readonly loop: Loop;
  readonly fd: number;
  readonly receiver: Receiver;
  readonly transmitter: Transmitter;
  /** What comes without a driver or a cable is read and thrown away, for the other end would wait; else it is left where it is. */
  readonly drains: boolean;
  /** The driver's queues, as they are now. */
  readonly queues: { receive(): Virtqueue | undefined; transmit(): Virtqueue | undefined };
  completed(queue: Virtqueue): void;
  /** The other end is not there any more; the channel is closed. */
  gone(): void;
}

/**
 * serving: between driver and descriptor. draining: what comes goes nowhere. still: nothing is touched.
 */
type Mode = 'serving' | 'draining' | 'still' | 'closed';

/** Rounds of discarding before a card that was off the net serves: more than any interface keeps. */
const STALE_ROUNDS = 64;

export class Channel {
  readonly #o: ChannelParts;
  #mode: Mode = 'still';
  /** What epoll is asked for. */
  #interest = 0;
  #again: Timer | undefined;
  #detached = false;

  constructor(parts: ChannelParts) {
    this.#o = parts;
    parts.loop.watch(parts.fd, 0, (events) => this.#happened(events));
  }

  get serving(): boolean {
    return this.#mode === 'serving';
  }

  #want(events: number, wanted: boolean): void {
    const interest = wanted ? this.#interest | events : this.#interest & ~events;
    if (interest === this.#interest || this.#mode === 'closed' || this.#detached) return;
    this.#interest = interest;
    this.#o.loop.change(this.#o.fd, interest);
  }

  #happened(events: number): void {
    if ((events & (EPOLLHUP | EPOLLERR)) !== 0) {
      this.#end();
      return;
    }
    if ((events & EPOLLIN) !== 0) this.receive();
    if ((events & EPOLLOUT) !== 0) this.send();
  }

  /** Frames come to the driver, as many as a turn has. */
  receive(): void {
    if (this.#mode === 'draining') {
      this.#received(this.#o.receiver.discard());
      return;
    }
    const queue = this.#mode === 'serving' ? this.#o.queues.receive() : undefined;
    if (queue === undefined) {
      this.#want(EPOLLIN, false);
      return;
    }
    this.#received(this.#guard(() => this.#o.receiver.run(queue)));
    if (this.#mode === 'serving') this.#o.completed(queue);
  }

  #received(turn: Turn): void {
    if (turn === 'gone') this.#end();
    else this.#want(EPOLLIN, turn !== 'starved'); // the loop comes back by itself while there is more
  }

  /** The driver's frames go, as many as a turn has. */
  send(): void {
    this.#again?.cancel();
    this.#again = undefined;
    const queue = this.#mode === 'serving' ? this.#o.queues.transmit() : undefined;
    if (queue === undefined) {
      if (this.#mode === 'draining') this.#sent(this.#o.transmitter.finish());
      return;
    }
    this.#sent(this.#guard(() => this.#o.transmitter.run(queue)));
    if (this.#mode === 'serving') this.#o.completed(queue);
  }

  #sent(turn: Turn): void {
    if (turn === 'gone') {
      this.#end();
      return;
    }
    this.#want(EPOLLOUT, turn === 'full');
    if (turn === 'more') this.#again = this.#o.loop.after(0, () => this.send());
  }

  /** A driver that breaks a queue is not served any more, or what comes for it would wake us again and again. */
  #guard(act: () => Turn): Turn {
    try {
      return act();
    } catch (thrown) {
      this.still();
      throw thrown;
    }
  }

  /** Between driver and descriptor from now on. */
  serve(): void {
    if (this.#mode === 'serving' || this.#mode === 'closed' || this.#detached) return;
    if (!this.#o.drains) for (let i = 0; i < STALE_ROUNDS && this.#o.receiver.discard() === 'more'; i++);
    this.#mode = 'serving';
    this.#want(EPOLLIN, true);
    this.send();
  }

  /** Gives back what is held of the driver's; nothing of it is touched after this. */
  still(): void {
    if (this.#mode === 'closed') return;
    const { receiver, transmitter, queues, completed } = this.#o;
    const [receive, transmit] = [queues.receive(), queues.transmit()];
    receiver.release(receive);
    transmitter.release(transmit);
    if (transmit !== undefined && this.#mode === 'serving') completed(transmit);
    this.#again?.cancel();
    this.#again = undefined;
    this.#mode = 'still';
    this.#want(EPOLLIN | EPOLLOUT, false);
  }

  /** Off the net: no driver, or no cable. */
  off(): void {
    this.still();
    if (this.#mode === 'closed' || this.#detached || !this.#o.drains) return;
    this.#mode = 'draining';
    this.#want(EPOLLIN, true);
    this.send();
  }

  /** Not in use: the kernel gives no frames to the descriptor, which cannot be watched then. @param act tells the kernel */
  detach(act: () => void): void {
    this.still();
    if (this.#mode === 'closed' || this.#detached) return;
    this.#detached = true;
    this.#o.loop.unwatch(this.#o.fd);
    act();
  }

  /** In use again, still. */
  attach(act: () => void): void {
    if (this.#mode === 'closed' || !this.#detached) return;
    act();
    this.#detached = false;
    this.#interest = 0;
    this.#o.loop.watch(this.#o.fd, 0, (events) => this.#happened(events));
  }

  #end(): void {
    this.close();
    this.#o.gone();
  }

  /** The descriptor is not watched any more, nor anything of the driver's held. */
  close(): void {
    if (this.#mode === 'closed') return;
    this.still();
    this.#mode = 'closed';
    this.#o.loop.unwatch(this.#o.fd);
  }
}
