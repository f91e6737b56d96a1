// One viewer of a screen: what it has not been sent yet, what it has not acknowledged yet, and the messages' memory.
//
// What changes while a viewer owes acknowledgements is merged, tile by tile, so a slow viewer costs a byte per tile and at most
// MAX_IN_FLIGHT messages, and no other viewer waits for it. A message's memory is used again once the frame was acknowledged: then all
// of it has arrived. A viewer that acknowledges what it has not got spoils its own picture, nothing else.
import { FRAME_HEADER_BYTES, MAX_IN_FLIGHT, frameBytes, writeFrameHead } from '../../shared/protocol/frames.ts';
import { allocateBuffer, packRectangles } from './rows.ts';
import type { NativeBuffer } from './rows.ts';
import { mergeTiles } from './tiles.ts';
import type { TileGrid } from './tiles.ts';

/** What the screen needs of a connection. */
export interface FrameSink {
  /** Sends one binary message. The bytes do not change until the viewer has acknowledged it. */
  send(frame: Uint8Array): void;
  /** Bytes that wait in this process for the viewer to read them. */
  buffered(): number;
}

/** A picture that can be sent: the tight copy that compareRows keeps. */
export interface Picture {
  readonly grid: TileGrid;
  readonly shadow: number;
  readonly takenAt: number;
}

/** Messages below this are allocated anew; above, they are kept for the next. */
const SMALL = 128 * 1024;
/** Other messages of the connection may wait too. */
const SLACK = 2 ** 20;

interface InFlight {
  seq: number;
  length: number;
  buffer: NativeBuffer | null;
}

export class Viewer {
  readonly #sink: FrameSink;
  #damage = new Uint8Array(0);
  #damaged = false;
  /** The next message replaces everything. */
  #whole = true;
  #inFlight: InFlight[] = [];
  #spare: NativeBuffer[] = [];
  #owedBytes = 0;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Whether a frame may be sent now. */
  get ready(): boolean {
    return this.#inFlight.length < MAX_IN_FLIGHT && !this.held;
  }

  /** It acknowledged what it has not read: what waits for it in this process must go first, and no acknowledgement will tell. */
  get held(): boolean {
    return this.#sink.buffered() > this.#owedBytes + SLACK;
  }

  /** Something waits to be sent. */
  get pending(): boolean {
    return this.#whole || this.#damaged;
  }

  /** The picture has another size, or is not what it was: the next message replaces everything. */
  restart(tiles: number): void {
    this.#whole = true;
    if (this.#damage.length !== tiles) this.#damage = new Uint8Array(tiles);
  }

  /** Adds tiles that changed. */
  damage(changed: Uint8Array): void {
    if (this.#whole) return;
    const damage = this.#damage;
    for (let i = 0; i < damage.length; i++) damage[i] |= changed[i];
    this.#damaged = true;
  }

  /** Sends what waits. @returns bytes sent */
  send(seq: number, picture: Picture): number {
    const { grid } = picture;
    const rectangles = this.#whole ? [{ x: 0, y: 0, width: grid.width, height: grid.height }] : mergeTiles(grid, this.#damage);
    const length = frameBytes(rectangles);
    const buffer = this.#take(length, frameBytes([{ x: 0, y: 0, width: grid.width, height: grid.height }]));
    const pixels = writeFrameHead(buffer.bytes, { seq, whole: this.#whole, blank: false, width: grid.width, height: grid.height, takenAt: picture.takenAt }, rectangles);
    packRectangles(picture.shadow, grid.width, buffer.address + FRAME_HEADER_BYTES, rectangles.length, buffer.address + pixels);
    this.#sent(seq, buffer, length);
    return length;
  }

  /** Says that nothing is shown; `width` and `height` are those of the dark picture, or 0. @returns bytes sent */
  sendBlank(seq: number, width: number, height: number): number {
    const length = frameBytes([]);
    const buffer = allocateBuffer(length);
    writeFrameHead(buffer.bytes, { seq, whole: true, blank: true, width, height, takenAt: performance.timeOrigin + performance.now() }, []);
    this.#sent(seq, buffer, length);
    return length;
  }

  /** @returns whether that was a frame it owed */
  acknowledge(seq: number): boolean {
    const index = this.#inFlight.findIndex((one) => one.seq === seq);
    if (index < 0) return false;
    for (const { buffer, length } of this.#inFlight.splice(0, index + 1)) {
      this.#owedBytes -= length;
      if (buffer !== null && this.#spare.length < MAX_IN_FLIGHT) this.#spare.push(buffer);
    }
    return true;
  }

  #sent(seq: number, buffer: NativeBuffer, length: number): void {
    this.#inFlight.push({ seq, length, buffer: buffer.bytes.length > SMALL ? buffer : null });
    this.#owedBytes += length;
    this.#whole = false;
    this.#damaged = false;
    this.#damage.fill(0);
    this.#sink.send(buffer.bytes.subarray(0, length));
  }

  /** Memory of at least `length` bytes: a small piece of its own, or one that can take any frame of this size of picture. */
  #take(length: number, largest: number): NativeBuffer {
    if (length <= SMALL) return allocateBuffer(length);
    const size = Math.max(largest, length);
    const spare = this.#spare.pop();
    if (spare !== undefined && spare.bytes.length >= length && spare.bytes.length <= 2 * size) return spare;
    return allocateBuffer(size);
  }
}
