import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { decodeAck, decodeFrame, encodeAck, frameBytes, writeFrameHead } from './frames.ts';
import type { FrameHeader, Rectangle } from './frames.ts';

const header: FrameHeader = { seq: 0xfffffffe, whole: true, blank: false, width: 100, height: 50, takenAt: 1_700_000_000_123.5 };

function message(rectangles: Rectangle[], head = header): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(frameBytes(rectangles));
  const at = writeFrameHead(bytes, head, rectangles);
  for (let i = at; i < bytes.length; i++) bytes[i] = i & 0xff;
  return bytes;
}

test('a frame comes out as it went in', () => {
  const rectangles = [{ x: 0, y: 0, width: 100, height: 2 }, { x: 97, y: 49, width: 3, height: 1 }];
  const bytes = message(rectangles);
  const frame = decodeFrame(bytes);
  assert.ok(frame);
  const { rectangles: got, pixels, ...head } = frame;
  assert.deepEqual(head, header);
  assert.deepEqual(got, rectangles);
  assert.equal(pixels.length, (200 + 3) * 4);
  assert.equal(pixels.byteOffset % 4, 0, 'pixels can be viewed as words');
});

test('a frame without rectangles is one', () => {
  const frame = decodeFrame(message([], { ...header, blank: true, width: 0, height: 0 }));
  assert.equal(frame?.blank, true);
  assert.equal(frame?.rectangles.length, 0);
});

test('what does not fit together is no frame', () => {
  const good = message([{ x: 0, y: 0, width: 10, height: 10 }]);
  assert.equal(decodeFrame(good.slice(0, -1)), null);
  assert.equal(decodeFrame(good.slice(0, 20)), null);
  assert.equal(decodeFrame(message([{ x: 91, y: 0, width: 10, height: 1 }])), null);
  assert.equal(decodeFrame(message([{ x: 0, y: 50, width: 1, height: 1 }])), null);
  assert.equal(decodeFrame(message([{ x: 0, y: 0, width: 0, height: 1 }])), null);
});

test('no bytes make the decoder throw or give a rectangle outside of the picture', () => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 0, maxLength: 80 }), (bytes) => {
    if (bytes.length > 0) bytes[0] = 1;
    const frame = decodeFrame(bytes as Uint8Array<ArrayBuffer>);
    for (const r of frame?.rectangles ?? []) assert.ok(r.x + r.width <= frame!.width && r.y + r.height <= frame!.height);
  }));
});

test('an acknowledgement is five bytes', () => {
  const ack = encodeAck(0xdeadbeef);
  assert.deepEqual([...ack], [1, 0xef, 0xbe, 0xad, 0xde]);
  assert.equal(decodeAck(ack), 0xdeadbeef);
  assert.equal(decodeAck(ack.subarray(1)), null);
});
