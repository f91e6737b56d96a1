// What is on a machine's screen, out of the PNG file that it gives (src/vmm/display/png.ts): pixels to look at, and to compare.
import assert from 'node:assert/strict';
import { inflateSync } from 'node:zlib';

/** A part of a picture, in pixels from its top left corner; right and bottom are outside of it. */
export interface Box {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

const SIGNATURE_BYTES = 8;
/** 8 bits a channel, truecolour, deflate, the usual filters, not interlaced. */
const KIND = [8, 2, 0, 0, 0];

export class Picture {
  readonly width: number;
  readonly height: number;
  /** Rows of R G B, each after a zero: its filter type. */
  readonly #raw: Uint8Array;

  /** Reads a PNG file as the machine writes it: truecolour with unfiltered rows. */
  constructor(png: Uint8Array) {
    const file = Buffer.from(png);
    const data: Buffer[] = [];
    let header = Buffer.alloc(0);
    for (let at = SIGNATURE_BYTES; at < file.length; ) {
      const length = file.readUInt32BE(at);
      const type = file.toString('latin1', at + 4, at + 8);
      const content = file.subarray(at + 8, at + 8 + length);
      if (type === 'IHDR') header = content;
      if (type === 'IDAT') data.push(content);
      at += 12 + length;
    }
    assert.deepEqual([...header.subarray(8)], KIND);
    this.width = header.readUInt32BE(0);
    this.height = header.readUInt32BE(4);
    this.#raw = inflateSync(Buffer.concat(data));
    assert.equal(this.#raw.length, this.#stride * this.height);
    for (let y = 0; y < this.height; y++) assert.equal(this.#raw[y * this.#stride], 0, `the filter type of row ${y}`);
  }

  get #stride(): number {
    return 1 + this.width * 3;
  }

  get whole(): Box {
    return { left: 0, top: 0, right: this.width, bottom: this.height };
  }

  /** The colour of a pixel as 0xRRGGBB. */
  at(x: number, y: number): number {
    const from = y * this.#stride + 1 + x * 3;
    return (this.#raw[from]! << 16) | (this.#raw[from + 1]! << 8) | this.#raw[from + 2]!;
  }

  /** How many pixels of a part are such. */
  count(box: Box, such: (colour: number, x: number, y: number) => boolean): number {
    let found = 0;
    for (let y = box.top; y < box.bottom; y++) for (let x = box.left; x < box.right; x++) if (such(this.at(x, y), x, y)) found++;
    return found;
  }

  /** The colour that most pixels of a part have. */
  commonest(box: Box): number {
    const counts = new Map<number, number>();
    this.count(box, (colour) => {
      counts.set(colour, (counts.get(colour) ?? 0) + 1);
      return false;
    });
    return [...counts].reduce((best, one) => (one[1] > best[1] ? one : best))[0];
  }

  /** The smallest part that holds all differences from another picture of the same size; undefined when there are none. */
  difference(other: Picture, box: Box = this.whole): Box | undefined {
    let found: Box | undefined;
    this.count(box, (colour, x, y) => {
      if (colour === other.at(x, y)) return false;
      found = found === undefined
        ? { left: x, top: y, right: x + 1, bottom: y + 1 }
        : { left: Math.min(found.left, x), top: found.top, right: Math.max(found.right, x + 1), bottom: y + 1 };
      return true;
    });
    return found;
  }
}
