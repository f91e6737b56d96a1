import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { FrameReader, LineReader, frame } from './protocol.ts';

/** Cuts bytes at the given places. */
function cut(bytes: Buffer, places: number[]): Buffer[] {
  const at = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...at, bytes.length].map((end, i) => bytes.subarray(i === 0 ? 0 : at[i - 1]!, end));
}

describe("the lab's protocol", () => {
  it('finds the same frames however the stream is cut', () => {
    const frames = fc.array(fc.tuple(fc.integer({ min: 1, max: 7 }), fc.uint8Array({ maxLength: 300 })), { maxLength: 12 });
    fc.assert(fc.property(frames, fc.array(fc.nat()), (sent, places) => {
      const seen: [number, Uint8Array][] = [];
      const reader = new FrameReader((type, payload) => seen.push([type, new Uint8Array(payload)]));
      for (const piece of cut(Buffer.concat(sent.map(([type, payload]) => frame(type, payload))), places)) reader.push(piece);
      assert.deepEqual(seen, sent.map(([type, payload]) => [type, new Uint8Array(payload)]));
    }));
  });

  it('refuses a frame of a silly length', () => {
    assert.throws(() => new FrameReader(() => {}).push(Buffer.from([1, 0xff, 0xff, 0xff, 0xff])), /no frame/);
  });

  it('splits the first line from what follows, however the stream is cut', () => {
    fc.assert(fc.property(fc.string().filter((line) => !line.includes('\n')), fc.uint8Array(), fc.array(fc.nat()), (line, rest, places) => {
      const reader = new LineReader();
      const after: Buffer[] = [];
      let found: string | undefined;
      for (const piece of cut(Buffer.concat([Buffer.from(`${line}\n`), rest]), places)) {
        if (found !== undefined) {
          after.push(piece);
          continue;
        }
        const result = reader.push(piece);
        if (result === undefined) continue;
        found = result.line;
        after.push(result.rest);
      }
      assert.equal(found, line.toWellFormed());
      assert.deepEqual(new Uint8Array(Buffer.concat(after)), new Uint8Array(rest));
    }));
  });

  it('refuses an endless first line', () => {
    assert.throws(() => new LineReader().push(Buffer.alloc(2 ** 21, 0x20)), /too long/);
  });
});
