// Frames to passt: each behind its length (4 bytes, big-endian), many in one writev straight out of guest RAM. The socket may take a part: what is left
// of a frame that was begun must follow, whatever becomes of the driver, or the other end loses its place.
//
// Where the kernel cuts matters. Debian 12's passt forgets up to 4 bytes at the end of what it reads, so that a cut in a length word, or right behind one,
// loses the place for good. Linux queues a Unix stream in blocks of 36,544 bytes (SKB_MAX_HEAD(0) + 32 KiB, net/unix/af_unix.c), each whole or not at all,
// and the reader may see one before the next is there. So several frames go together only as far as one block holds them all; a longer frame goes alone,
// is cut in its middle, and passt waits for the rest (net/passt.ts, SO_RCVLOWAT).
import { EAGAIN, EINTR, errno } from '../../kvm/libc.ts';
import { headerFault, HEADER_BYTES } from '../../net/vnet-header.ts';
import { Vectors } from '../../net/vectors.ts';
import { MAX_VECTORS } from '../../net/calls.ts';
import type { Chain, Virtqueue } from '../queue/virtqueue.ts';
import { FRAMES_A_TURN, type Agreed, type Refusals, type Transmitter, type Turn } from './path.ts';

/** passt throws away longer ones (ETH_MAX_MTU). */
const LONGEST_FRAME = 65535;
const LENGTH_BYTES = 4;
/** Frames of one writev. */
const BATCH = 64;
/** Of one writev of several frames, their lengths included: below a block of the socket's. */
const WHOLE = 32_768;
/** Pieces of one frame: Linux has 19 at most, and a frame must fit into one list beside its length. */
const MAX_PIECES = MAX_VECTORS - 1;

export class StreamTransmitter implements Transmitter {
  readonly #fd: number;
  readonly #agreed: Readonly<Agreed>;
  readonly #refusals: Refusals;
  /** The length words of the batch. */
  readonly #vectors = new Vectors(BATCH * LENGTH_BYTES);
  readonly #header = new DataView(new ArrayBuffer(HEADER_BYTES));
  readonly #headerBytes = new Uint8Array(this.#header.buffer);
  /** Taken and not sent whole; the first may be begun. */
  readonly #waiting: Chain[] = [];
  #waitingBytes = 0;
  /** Of the first that waits: bytes that went, its length included. */
  #begun = 0;
  /** In this turn. */
  #taken = 0;
  /** Of a frame whose buffers were given back. */
  #rest: Uint8Array = new Uint8Array(0);

  constructor(fd: number, agreed: Readonly<Agreed>, refusals: Refusals) {
    this.#fd = fd;
    this.#agreed = agreed;
    this.#refusals = refusals;
  }

  run(queue: Virtqueue): Turn {
    const rest = this.finish();
    if (rest !== 'idle') return rest;
    for (this.#taken = 0; this.#taken < FRAMES_A_TURN; ) {
      const all = this.#collect(queue);
      if (this.#waiting.length > 0) {
        const turn = this.#send(queue);
        if (turn !== 'more') return turn;
      } else if (all) return 'idle';
    }
    return 'more';
  }

  /** @returns whether the driver has no more just now */
  #collect(queue: Virtqueue): boolean {
    while (this.#waiting.length < BATCH && this.#waitingBytes < WHOLE && this.#taken < FRAMES_A_TURN) {
      const chain = queue.take();
      if (chain === null) return true;
      this.#taken++;
      const { readable } = chain;
      const bytes = readable.bytes - HEADER_BYTES;
      const short = readable.read(0, this.#headerBytes) < HEADER_BYTES;
      const fault = short ? 'it is shorter than its header' : bytes > LONGEST_FRAME ? `it has ${bytes} bytes` : readable.pieces > MAX_PIECES ? `it lies in ${readable.pieces} pieces` : headerFault(this.#header, bytes, this.#agreed.sends);
      if (fault !== undefined) {
        if (this.#waiting.length > 0) {
          // Later, when it is the first: chains that wait may have to go back, and nothing after them may be used then.
          queue.untake(chain);
          this.#taken--;
          return false;
        }
        this.#refusals.refuse(fault);
        queue.complete(chain, 0);
        continue;
      }
      this.#waiting.push(chain);
      this.#waitingBytes += bytes;
    }
    return false;
  }

  #send(queue: Virtqueue): Turn {
    const list = this.#vectors;
    list.clear();
    let skip = this.#begun;
    for (const [index, { readable }] of this.#waiting.entries()) {
      if (list.room < readable.pieces + 1) break;
      const bytes = readable.bytes - HEADER_BYTES;
      if (list.bytes > 0 && list.bytes + LENGTH_BYTES + bytes > WHOLE) break;
      list.scratchView.setUint32(index * LENGTH_BYTES, bytes);
      const ofLength = Math.min(skip, LENGTH_BYTES);
      list.addScratch(index * LENGTH_BYTES + ofLength, LENGTH_BYTES - ofLength);
      list.addPieces(readable, HEADER_BYTES + skip - ofLength, bytes);
      skip = 0;
    }
    const sent = list.write(this.#fd);
    if (sent < 0) {
      const number = errno();
      return number === EINTR ? 'more' : number === EAGAIN ? 'full' : 'gone';
    }
    this.#account(queue, sent);
    return sent < list.bytes ? 'full' : 'more';
  }

  #account(queue: Virtqueue, sent: number): void {
    let left = this.#begun + sent;
    let done = 0;
    for (const chain of this.#waiting) {
      const bytes = chain.readable.bytes - HEADER_BYTES;
      if (left < LENGTH_BYTES + bytes) break;
      left -= LENGTH_BYTES + bytes;
      this.#waitingBytes -= bytes;
      queue.complete(chain, 0);
      done++;
    }
    this.#waiting.splice(0, done);
    this.#begun = left;
  }

  finish(): Turn {
    while (this.#rest.length > 0) {
      const list = this.#vectors;
      const bytes = Math.min(this.#rest.length, list.scratch.length);
      list.clear();
      list.scratch.set(this.#rest.subarray(0, bytes));
      list.addScratch(0, bytes);
      const sent = list.write(this.#fd);
      if (sent < 0) {
        const number = errno();
        if (number === EINTR) continue;
        return number === EAGAIN ? 'full' : 'gone';
      }
      this.#rest = this.#rest.subarray(sent);
    }
    return 'idle';
  }

  release(queue: Virtqueue | undefined): void {
    const first = this.#waiting[0];
    if (first !== undefined && this.#begun > 0) {
      const bytes = first.readable.bytes - HEADER_BYTES;
      const whole = new Uint8Array(LENGTH_BYTES + bytes);
      new DataView(whole.buffer).setUint32(0, bytes);
      first.readable.read(HEADER_BYTES, whole.subarray(LENGTH_BYTES));
      this.#rest = whole.slice(this.#begun);
      this.#waiting.shift();
    }
    const begun = this.#begun > 0 ? first : undefined;
    this.#begun = 0;
    for (let chain = this.#waiting.pop(); chain !== undefined; chain = this.#waiting.pop()) queue?.untake(chain);
    if (begun !== undefined) queue?.complete(begun, 0);
    this.#waitingBytes = 0;
  }
}
