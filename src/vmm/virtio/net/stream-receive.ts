// Frames from passt: each behind its length (4 bytes, big-endian). A frame is read straight into the driver's buffers, and the length of the next one
// with it in the same readv, so that a frame costs one system call and no copy. The header before it is ours: passt's frames are whole, and their
// checksums were made a moment ago on this computer (DATA_VALID), so the driver need not look at them again.
import { EAGAIN, EINTR, errno } from '../../kvm/libc.ts';
import { ETHERNET_BYTES, HDR_F_DATA_VALID, HDR_NUM_BUFFERS, HEADER_BYTES } from '../../net/vnet-header.ts';
import { Vectors } from '../../net/vectors.ts';
import type { Chain, Virtqueue } from '../queue/virtqueue.ts';
import { FRAMES_A_TURN, usable, type Agreed, type Receiver, type Turn } from './path.ts';

const LENGTH_BYTES = 4;
/** Of what is thrown away in one call. */
const SINK_BYTES = 65536;
/** Longer than any frame: the stream has lost its place. */
const NONSENSE = 2 ** 20;

export interface StreamReceiverOptions {
  readonly fd: number;
  readonly agreed: Readonly<Agreed>;
}

export class StreamReceiver implements Receiver {
  readonly #o: StreamReceiverOptions;
  /** The length word, then room for what is thrown away. */
  readonly #vectors = new Vectors(LENGTH_BYTES + SINK_BYTES);
  readonly #header = new Uint8Array(HEADER_BYTES);
  /** Bytes of the next length word that have come; the frame is under way when all have. */
  #lengthHave = 0;
  #frame = 0;
  #frameHave = 0;
  /** Bytes of the length word after the frame under way. */
  #ahead = 0;
  /** The last call gave less than there was room for: nothing is left. */
  #dry = false;
  /** The frame under way goes nowhere. */
  #dropping = false;
  /** For the frame under way. */
  readonly #chains: Chain[] = [];
  #room = 0;

  constructor(options: StreamReceiverOptions) {
    this.#o = options;
  }

  run(queue: Virtqueue): Turn {
    for (let frames = 0; frames < FRAMES_A_TURN; ) {
      if (this.#lengthHave === LENGTH_BYTES && !this.#dropping && !this.#findRoom(queue)) return 'starved';
      const turn = this.#read();
      if (turn !== 'more') return turn;
      if (this.#lengthHave === LENGTH_BYTES && this.#frameHave === this.#frame) {
        if (!this.#dropping) this.#deliver(queue);
        this.#next();
        frames++;
      }
      if (this.#dry) return 'idle';
    }
    return 'more';
  }

  discard(): Turn {
    for (let frames = 0; frames < FRAMES_A_TURN; ) {
      this.#dropping ||= this.#lengthHave === LENGTH_BYTES;
      const turn = this.#read();
      if (turn !== 'more') return turn;
      if (this.#lengthHave === LENGTH_BYTES && this.#frameHave === this.#frame) {
        this.#next();
        frames++;
      }
      if (this.#dry) return 'idle';
    }
    return 'more';
  }

  /** The frame under way is done, and the next one's length came with it, or a part of it. */
  #next(): void {
    this.#lengthHave = this.#ahead;
    this.#ahead = 0;
    this.#frameHave = 0;
    this.#dropping = false;
    this.#begin();
  }

  #begin(): void {
    if (this.#lengthHave < LENGTH_BYTES) return;
    this.#frame = this.#vectors.scratchView.getUint32(0);
    this.#dropping = this.#frame < ETHERNET_BYTES;
  }

  /** Room for the frame under way. False when the driver has lent too little so far; a frame that never fits is thrown away. */
  #findRoom(queue: Virtqueue): boolean {
    const need = HEADER_BYTES + this.#frame;
    let refused = 0;
    while (this.#room < need) {
      if (this.#chains.length >= queue.size || (!this.#o.agreed.merged && this.#chains.length > 0)) return this.#giveUp(queue);
      const chain = queue.take();
      if (chain === null) return false;
      if (!usable(chain, this.#chains.length === 0)) {
        if (this.#chains.length > 0) {
          // It is refused when it is the first: those before it may have to go back, and nothing after them may be used then.
          queue.untake(chain);
          return this.#giveUp(queue);
        }
        queue.complete(chain, 0);
        if (++refused === FRAMES_A_TURN) return this.#giveUp(queue);
        continue;
      }
      this.#chains.push(chain);
      this.#room += chain.writable.bytes;
    }
    return true;
  }

  #giveUp(queue: Virtqueue): true {
    this.release(queue);
    this.#dropping = true;
    return true;
  }

  /** One readv: what is left of the frame under way and the length after it, or of the length alone. */
  #read(): Turn {
    const list = this.#vectors;
    list.clear();
    const framed = this.#lengthHave === LENGTH_BYTES;
    let left = 0;
    if (framed) {
      left = this.#frame - this.#frameHave;
      const listed = this.#dropping ? this.#addSink(left) : this.#addChains();
      if (listed === left) list.addScratch(0, LENGTH_BYTES);
    } else list.addScratch(this.#lengthHave, LENGTH_BYTES - this.#lengthHave);
    const bytes = list.read(this.#o.fd);
    if (bytes < 0) {
      const number = errno();
      return number === EINTR ? 'more' : number === EAGAIN ? 'idle' : 'gone';
    }
    if (bytes === 0) return 'gone';
    this.#dry = bytes < list.bytes;
    if (framed) {
      const ofFrame = Math.min(bytes, left);
      this.#frameHave += ofFrame;
      this.#ahead = bytes - ofFrame;
    } else {
      this.#lengthHave += bytes;
      this.#begin();
    }
    return this.#frame > NONSENSE ? 'gone' : 'more';
  }

  #addSink(left: number): number {
    const bytes = Math.min(left, SINK_BYTES);
    this.#vectors.addScratch(LENGTH_BYTES, bytes);
    return bytes;
  }

  /** @returns how much of the rest of the frame is in the list */
  #addChains(): number {
    let skip = HEADER_BYTES + this.#frameHave;
    let left = this.#frame - this.#frameHave;
    let listed = 0;
    for (const { writable } of this.#chains) {
      if (skip >= writable.bytes) {
        skip -= writable.bytes;
        continue;
      }
      if (this.#vectors.room < writable.pieces + 1) break; // many small buffers: a part now, the rest with the next call
      const bytes = this.#vectors.addPieces(writable, skip, left);
      skip = 0;
      left -= bytes;
      listed += bytes;
      if (left === 0) break;
    }
    return listed;
  }

  #deliver(queue: Virtqueue): void {
    const view = new DataView(this.#header.buffer);
    this.#header.fill(0);
    this.#header[0] = this.#o.agreed.checksum ? HDR_F_DATA_VALID : 0;
    view.setUint16(HDR_NUM_BUFFERS, this.#chains.length, true);
    this.#chains[0]!.writable.write(0, this.#header);
    let left = HEADER_BYTES + this.#frame;
    const written = this.#chains.map(({ writable }) => {
      const bytes = Math.min(left, writable.bytes);
      left -= bytes;
      return bytes;
    });
    queue.completeTogether(this.#chains, written);
    this.#chains.length = 0;
    this.#room = 0;
  }

  release(queue: Virtqueue | undefined): void {
    for (let chain = this.#chains.pop(); chain !== undefined; chain = this.#chains.pop()) queue?.untake(chain);
    this.#room = 0;
    // What has come of the frame is lost with the buffers that it lay in: the rest of it goes nowhere.
    if (this.#lengthHave === LENGTH_BYTES && this.#frameHave > 0) this.#dropping = true;
  }
}
