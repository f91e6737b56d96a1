// Frames to a TAP queue: one in each writev, behind the header that says what the kernel shall finish. The header is a private copy that was looked
// at; the kernel looks at it once more against the frame.
import { EAGAIN, EINTR, errno } from '../../kvm/libc.ts';
import { MAX_VECTORS } from '../../net/calls.ts';
import { headerFault, HEADER_BYTES } from '../../net/vnet-header.ts';
import { Vectors } from '../../net/vectors.ts';
import type { Chain, Virtqueue } from '../queue/virtqueue.ts';
import { FRAMES_A_TURN, type Agreed, type Refusals, type Transmitter, type Turn } from './path.ts';

/** The longest IP packet and its Ethernet header, with a VLAN's tag. */
const LONGEST_FRAME = 65535 + 18;
const EBADFD = 77;

export class TapTransmitter implements Transmitter {
  readonly #fd: number;
  readonly #agreed: Readonly<Agreed>;
  readonly #refusals: Refusals;
  readonly #vectors = new Vectors(HEADER_BYTES);

  constructor(fd: number, agreed: Readonly<Agreed>, refusals: Refusals) {
    this.#fd = fd;
    this.#agreed = agreed;
    this.#refusals = refusals;
  }

  run(queue: Virtqueue): Turn {
    for (let frames = 0; frames < FRAMES_A_TURN; frames++) {
      const chain = queue.take();
      if (chain === null) return 'idle';
      const fault = this.#send(chain);
      if (fault === 'full') {
        queue.untake(chain);
        return 'full';
      }
      if (fault === 'gone') return 'gone';
      if (fault !== undefined) this.#refusals.refuse(fault);
      queue.complete(chain, 0);
    }
    return 'more';
  }

  /** @returns 'full' or 'gone', why it was thrown away, or undefined when it went */
  #send({ readable }: Chain): string | undefined {
    const list = this.#vectors;
    if (readable.read(0, list.scratch) < HEADER_BYTES) return 'it is shorter than its header';
    const bytes = readable.bytes - HEADER_BYTES;
    if (bytes > LONGEST_FRAME) return `it has ${bytes} bytes`;
    if (readable.pieces >= MAX_VECTORS) return `it lies in ${readable.pieces} pieces`;
    const fault = headerFault(list.scratchView, bytes, this.#agreed.sends);
    if (fault !== undefined) return fault;
    list.clear();
    list.addScratch(0, HEADER_BYTES);
    list.addPieces(readable, HEADER_BYTES, bytes);
    for (;;) {
      if (list.write(this.#fd) >= 0) return undefined;
      const number = errno();
      if (number === EINTR) continue;
      if (number === EAGAIN) return 'full';
      if (number === EBADFD) return 'gone'; // the interface was deleted
      return undefined; // the kernel throws it away, as on an interface that is down
    }
  }

  finish(): Turn {
    return 'idle';
  }

  release(): void {} // frames go whole, or not
}
