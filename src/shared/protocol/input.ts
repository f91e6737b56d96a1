// Input as it travels from a viewer to a machine: binary messages of 4 or 7 bytes, little-endian, the first byte the kind.
// Kind 1, the acknowledgement of a frame, is in frames.ts. A message of another length or kind is no input and decodes to null.

export const KIND_KEY = 2;
export const KIND_POINTER = 3;
export const KIND_TABLET = 4;
const KEY_BYTES = 4;
const POINTER_BYTES = 7;
const TABLET_BYTES = 7;

/** The last place of a tablet in both directions: the first is 0, whatever the picture's size. */
export const TABLET_MAX = 0x7fff;

/** Bits of `buttons`. */
export const BUTTON_LEFT = 1;
export const BUTTON_RIGHT = 2;
export const BUTTON_MIDDLE = 4;
const BUTTONS = BUTTON_LEFT | BUTTON_RIGHT | BUTTON_MIDDLE;

/** A key went down or up: u8 kind, u16 evdev KEY_* code, u8 down. */
export interface KeyInput {
  kind: 'key';
  code: number;
  down: boolean;
}

/** The pointer moved or its buttons changed: u8 kind, i16 dx, i16 dy (down is positive), i8 wheel (away from the user is positive), u8 buttons. */
export interface PointerInput {
  kind: 'pointer';
  dx: number;
  dy: number;
  wheel: number;
  buttons: number;
}

/** Where the pointer is: u8 kind, u16 x, u16 y (0 to TABLET_MAX over the picture), i8 wheel and u8 buttons as PointerInput. */
export interface TabletInput {
  kind: 'tablet';
  x: number;
  y: number;
  wheel: number;
  buttons: number;
}

export type Input = KeyInput | PointerInput | TabletInput;

function clamp(value: number, limit: number): number {
  return Math.max(-limit, Math.min(limit, Math.round(value)));
}

export function encodeKey(code: number, down: boolean): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(KEY_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, KIND_KEY);
  view.setUint16(1, code, true);
  view.setUint8(3, down ? 1 : 0);
  return bytes;
}

/** Movements beyond what fits are cut to it. */
export function encodePointer(dx: number, dy: number, wheel: number, buttons: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(POINTER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, KIND_POINTER);
  view.setInt16(1, clamp(dx, 0x7fff), true);
  view.setInt16(3, clamp(dy, 0x7fff), true);
  view.setInt8(5, clamp(wheel, 0x7f));
  view.setUint8(6, buttons & BUTTONS);
  return bytes;
}

/** Places beyond the edges are cut to them. */
export function encodeTablet(x: number, y: number, wheel: number, buttons: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(TABLET_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, KIND_TABLET);
  view.setUint16(1, Math.max(0, clamp(x, TABLET_MAX)), true);
  view.setUint16(3, Math.max(0, clamp(y, TABLET_MAX)), true);
  view.setInt8(5, clamp(wheel, 0x7f));
  view.setUint8(6, buttons & BUTTONS);
  return bytes;
}

/**
 * Where on a tablet the middle of pixel `pixel` of `size` is: a guest that spreads the tablet over its picture finds that pixel again, in every size up to
 * that of the tablet. Fractions of a pixel are pixels' parts.
 */
export function tabletPlace(pixel: number, size: number): number {
  return Math.max(0, Math.min(TABLET_MAX, Math.floor(((Math.floor(pixel) + 0.5) * (TABLET_MAX + 1)) / size)));
}

/** The input that a binary message carries, or null when it carries none. */
export function decodeInput(message: Uint8Array): Input | null {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  if (message.byteLength === KEY_BYTES && message[0] === KIND_KEY) {
    return { kind: 'key', code: view.getUint16(1, true), down: view.getUint8(3) !== 0 };
  }
  if (message.byteLength === POINTER_BYTES && message[0] === KIND_POINTER) {
    return { kind: 'pointer', dx: view.getInt16(1, true), dy: view.getInt16(3, true), wheel: view.getInt8(5), buttons: view.getUint8(6) & BUTTONS };
  }
  if (message.byteLength === TABLET_BYTES && message[0] === KIND_TABLET) {
    const [x, y] = [view.getUint16(1, true), view.getUint16(3, true)];
    if (x <= TABLET_MAX && y <= TABLET_MAX) return { kind: 'tablet', x, y, wheel: view.getInt8(5), buttons: view.getUint8(6) & BUTTONS };
  }
  return null;
}
