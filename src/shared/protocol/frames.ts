// The guest's picture as it travels from a machine to a viewer: binary messages, little-endian, the first byte the kind.
//
//   frame, machine → viewer             offset  type  what
//                                            0  u8    kind, 1
//                                            1  u8    flags: 1 = whole (nothing of an earlier picture remains), 2 = blank (show nothing)
//                                            2  u16   number of rectangles
//                                            4  u32   sequence number, to be acknowledged
//                                            8  u16   width of the picture in pixels; 0 while the guest shows none
//                                           10  u16   height
//                                           12  u32   zero
//                                           16  f64   when it was taken, milliseconds since 1970 on the machine's host
//                                           24        rectangles: u16 x, y, width, height each
//                                          ...        their pixels, rectangle by rectangle, rows without gaps, B G R X
//   acknowledgement, viewer → machine        0  u8    kind, 1
//                                            1  u32   sequence number: this frame and all before it were shown
//
// A machine has at most MAX_IN_FLIGHT unacknowledged frames on the way to a viewer; what changes meanwhile is merged into the next.
// A viewer that lost its picture attaches again, which begins with a whole frame. Sequence numbers wrap.

export const KIND_FRAME = 1;
export const KIND_ACK = 1;
export const ACK_BYTES = 5;

export const FLAG_WHOLE = 1;
export const FLAG_BLANK = 2;

export const FRAME_HEADER_BYTES = 24;
export const RECTANGLE_BYTES = 8;
export const PIXEL_BYTES = 4;
/** Frames that a machine sends ahead of a viewer's acknowledgements. */
export const MAX_IN_FLIGHT = 2;

/** In pixels of the guest. */
export interface Rectangle {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface FrameHeader {
  seq: number;
  whole: boolean;
  blank: boolean;
  width: number;
  height: number;
  /** Milliseconds since 1970. */
  takenAt: number;
}

export interface Frame extends FrameHeader {
  rectangles: Rectangle[];
  /** Of all rectangles, one after the other: B G R X, rows without gaps. A view of the message. */
  pixels: Uint8Array<ArrayBuffer>;
}

/** Bytes of a frame message with these rectangles. */
export function frameBytes(rectangles: readonly Rectangle[]): number {
  let pixels = 0;
  for (const { width, height } of rectangles) pixels += width * height;
  return FRAME_HEADER_BYTES + rectangles.length * RECTANGLE_BYTES + pixels * PIXEL_BYTES;
}

/** Writes everything but the pixels. @returns the offset at which they begin */
export function writeFrameHead(message: Uint8Array, header: FrameHeader, rectangles: readonly Rectangle[]): number {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  view.setUint8(0, KIND_FRAME);
  view.setUint8(1, (header.whole ? FLAG_WHOLE : 0) | (header.blank ? FLAG_BLANK : 0));
  view.setUint16(2, rectangles.length, true);
  view.setUint32(4, header.seq, true);
  view.setUint16(8, header.width, true);
  view.setUint16(10, header.height, true);
  view.setUint32(12, 0, true);
  view.setFloat64(16, header.takenAt, true);
  let at = FRAME_HEADER_BYTES;
  for (const { x, y, width, height } of rectangles) {
    view.setUint16(at, x, true);
    view.setUint16(at + 2, y, true);
    view.setUint16(at + 4, width, true);
    view.setUint16(at + 6, height, true);
    at += RECTANGLE_BYTES;
  }
  return at;
}

/** The frame that a message carries, or null when it carries none: every rectangle lies in the picture, every pixel is there. */
export function decodeFrame(message: Uint8Array<ArrayBuffer>): Frame | null {
  if (message.byteLength < FRAME_HEADER_BYTES || message[0] !== KIND_FRAME) return null;
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const flags = view.getUint8(1);
  const count = view.getUint16(2, true);
  const width = view.getUint16(8, true);
  const height = view.getUint16(10, true);
  const start = FRAME_HEADER_BYTES + count * RECTANGLE_BYTES;
  if (message.byteLength < start) return null;
  const rectangles: Rectangle[] = [];
  for (let at = FRAME_HEADER_BYTES; at < start; at += RECTANGLE_BYTES) {
    const one = { x: view.getUint16(at, true), y: view.getUint16(at + 2, true), width: view.getUint16(at + 4, true), height: view.getUint16(at + 6, true) };
    if (one.width === 0 || one.height === 0 || one.x + one.width > width || one.y + one.height > height) return null;
    rectangles.push(one);
  }
  if (frameBytes(rectangles) !== message.byteLength) return null;
  return {
    seq: view.getUint32(4, true),
    whole: (flags & FLAG_WHOLE) !== 0,
    blank: (flags & FLAG_BLANK) !== 0,
    width,
    height,
    takenAt: view.getFloat64(16, true),
    rectangles,
    pixels: message.subarray(start),
  };
}

/** Says that frame `seq` and all before it were shown. */
export function encodeAck(seq: number): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(ACK_BYTES);
  message[0] = KIND_ACK;
  new DataView(message.buffer).setUint32(1, seq, true);
  return message;
}

/** The sequence number of an acknowledgement, or null for any other message. */
export function decodeAck(message: Uint8Array): number | null {
  if (message.byteLength !== ACK_BYTES || message[0] !== KIND_ACK) return null;
  return new DataView(message.buffer, message.byteOffset, message.byteLength).getUint32(1, true);
}
