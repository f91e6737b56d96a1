// Frames from a TAP queue, each with its header in one readv, straight into the driver's buffers. How long a frame is shows only when it has come, so
// buffers for the longest are held ready, and those that it left are for the next one.
import { EAGAIN, EINTR, errno } from '../../kvm/libc.ts';
import { ETHERNET_BYTES, HDR_NUM_BUFFERS, HEADER_BYTES } from '../../net/vnet-header.ts';
import { Vectors } from '../../net/vectors.ts';
import type { Chain, Virtqueue } from '../queue/virtqueue.ts';
import { LOOKED_AT, type RxFilter } from './filter.ts';
import { FRAMES_A_TURN, usable, type Agreed, type Receiver, type Turn } from './path.ts';

/** With a VLAN's tag. */
const ETHERNET_MOST = ETHERNET_BYTES + 4;
const LONGEST_PACKET = 65535;
const SINK_BYTES = 1024;

export interface TapReceiverOptions {
  readonly fd: number;
  readonly agreed: Readonly<Agreed>;
  /** Of the interface. */
  readonly mtu: number;
  readonly filter: RxFilter;
}

export class TapReceiver implements Receiver {
  readonly #o: TapReceiverOptions;
  readonly #vectors = new Vectors(SINK_BYTES);
  readonly #chains: Chain[] = [];
  #room = 0;
  readonly #look = new Uint8Array(LOOKED_AT);
  readonly #count = new Uint8Array(2);

  constructor(options: TapReceiverOptions) {
    this.#o = options;
  }

  run(queue: Virtqueue): Turn {
    const longest = HEADER_BYTES + ETHERNET_MOST + (this.#o.agreed.segments ? LONGEST_PACKET : Math.max(this.#o.mtu, 1500));
    for (let frames = 0; frames < FRAMES_A_TURN; frames++) {
      if (!this.#findRoom(queue, longest)) return 'starved';
      const list = this.#vectors;
      list.clear();
      for (const { writable } of this.#chains) {
        if (list.room < writable.pieces) break;
        list.addPieces(writable, 0, writable.bytes);
        if (list.bytes >= longest) break;
      }
      const bytes = list.read(this.#o.fd);
      if (bytes < 0) {
        const number = errno();
        if (number === EINTR) continue;
        return number === EAGAIN ? 'idle' : 'gone';
      }
      // A frame longer than the room is cut off by the kernel, which says its whole length: nobody's loss but a driver's that lends too little.
      if (bytes >= HEADER_BYTES + ETHERNET_BYTES && bytes <= list.bytes && this.#wanted(bytes)) this.#deliver(queue, bytes);
    }
    return 'more';
  }

  /** False when the driver has lent too little for the longest frame, and could lend more. */
  #findRoom(queue: Virtqueue, longest: number): boolean {
    let refused = 0;
    while (this.#room < longest) {
      if (!this.#o.agreed.merged && this.#chains.length > 0) return true;
      const chain = queue.take();
      // All of the ring is lent, and it is not enough for the longest: it has to do.
      if (chain === null) return this.#chains.length > 0 && this.#chains.length >= queue.size;
      if (!usable(chain, true)) {
        if (this.#chains.length > 0) {
          // What is held has to do. It is refused when it is the first: those before it may have to go back, and nothing after them may be used then.
          queue.untake(chain);
          return true;
        }
        queue.complete(chain, 0);
        if (++refused === FRAMES_A_TURN) return false;
        continue;
      }
      this.#chains.push(chain);
      this.#room += chain.writable.bytes;
    }
    return true;
  }

  #wanted(bytes: number): boolean {
    const { filter } = this.#o;
    const looked = Math.min(LOOKED_AT, bytes - HEADER_BYTES);
    let done = 0;
    let skip = HEADER_BYTES;
    for (const { writable } of this.#chains) {
      if (done === looked) break;
      const here = Math.min(looked - done, Math.max(0, writable.bytes - skip));
      writable.read(skip, this.#look.subarray(done, done + here));
      done += here;
      skip = Math.max(0, skip - writable.bytes);
    }
    return filter.wants(this.#look.subarray(0, looked));
  }

  #deliver(queue: Virtqueue, bytes: number): void {
    const used: Chain[] = [];
    const written: number[] = [];
    for (let left = bytes; left > 0; ) {
      const chain = this.#chains[used.length]!;
      const here = Math.min(left, chain.writable.bytes);
      used.push(chain);
      written.push(here);
      left -= here;
      this.#room -= chain.writable.bytes;
    }
    this.#count[0] = used.length & 0xff;
    this.#count[1] = used.length >>> 8;
    used[0]!.writable.write(HDR_NUM_BUFFERS, this.#count);
    queue.completeTogether(used, written);
    this.#chains.splice(0, used.length);
  }

  discard(): Turn {
    const list = this.#vectors;
    for (let frames = 0; frames < FRAMES_A_TURN; frames++) {
      list.clear();
      list.addScratch(0, SINK_BYTES);
      if (list.read(this.#o.fd) >= 0) continue;
      const number = errno();
      if (number !== EINTR) return number === EAGAIN ? 'idle' : 'gone';
    }
    return 'more';
  }

  release(queue: Virtqueue | undefined): void {
    for (let chain = this.#chains.pop(); chain !== undefined; chain = this.#chains.pop()) queue?.untake(chain);
    this.#room = 0;
  }
}
