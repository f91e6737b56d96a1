// Input devices (virtio 1.3 §5.8): a keyboard, or a tablet whose pointer is at a place and not moved by steps, so that it can come and go. What they
// can do is read through a window in the configuration: the driver writes `select` and `subsel`, and reads what is there. Codes are Linux' evdev
// codes (include/uapi/linux/input-event-codes.h).
//
//   select  subsel  size  reserved (5)  what was asked for (128)
import { allKeys } from '../../../shared/keys.ts';
import { TABLET_MAX } from '../../../shared/protocol/input.ts';
import { TYPE_INPUT } from '../constants.ts';
import type { VirtioModel } from '../model.ts';

const QUEUE_SIZE = 64;
/** Events to the driver, and status (lamps) from it. */
export const EVENT_QUEUE = 0;
export const STATUS_QUEUE = 1;

const CLASS_KEYBOARD = 0x09_00_00;
/** Other than a mouse or digitizer. */
const CLASS_TABLET = 0x09_80_00;

const CONFIG_BYTES = 136;
const SIZE = 2;
const CONTENT = 8;
const CONTENT_BYTES = CONFIG_BYTES - CONTENT;

const ID_NAME = 0x01;
const ID_SERIAL = 0x02;
const ID_DEVIDS = 0x03;
const EV_BITS = 0x11;
const ABS_INFO = 0x12;

export const EV_SYN = 0x00;
export const EV_KEY = 0x01;
export const EV_REL = 0x02;
export const EV_ABS = 0x03;
export const EV_LED = 0x11;
const EV_REP = 0x14;

export const SYN_REPORT = 0;
export const REL_WHEEL = 0x08;
export const ABS_X = 0x00;
export const ABS_Y = 0x01;
export const BTN_LEFT = 0x110;
export const BTN_RIGHT = 0x111;
export const BTN_MIDDLE = 0x112;
export const LED_NUML = 0x00;
export const LED_CAPSL = 0x01;
export const LED_SCROLLL = 0x02;

/** BUS_VIRTUAL, and identities of our own. */
const BUS_VIRTUAL = 0x06;
const VENDOR = 0x0627;
const PRODUCT = { keyboard: 0x0001, tablet: 0x0003 } as const;

export type InputForm = keyof typeof PRODUCT;

function bits(codes: readonly number[]): Uint8Array {
  const set = new Uint8Array(CONTENT_BYTES);
  for (const code of codes) set[code >>> 3] = set[code >>> 3]! | (1 << (code & 7));
  return set.subarray(0, set.findLastIndex((byte) => byte !== 0) + 1);
}

function words16(...values: number[]): Uint8Array {
  return new Uint8Array(Uint16Array.from(values).buffer);
}

function words32(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

/** What is asked for by (select, subsel), by select * 256 + subsel. What is not there has size 0. */
function answers(form: InputForm): Map<number, Uint8Array> {
  const text = new TextEncoder();
  const found = new Map<number, Uint8Array>([
    [ID_NAME << 8, text.encode(form === 'keyboard' ? 'Vitrine Keyboard' : 'Vitrine Tablet')],
    [ID_SERIAL << 8, text.encode(form)],
    [ID_DEVIDS << 8, words16(BUS_VIRTUAL, VENDOR, PRODUCT[form], 1)],
  ]);
  const can = (type: number, codes: readonly number[]): void => void found.set((EV_BITS << 8) | type, bits(codes));
  if (form === 'keyboard') {
    can(EV_KEY, allKeys().map(([, code]) => code));
    can(EV_REP, [0, 1]);
    can(EV_LED, [LED_NUML, LED_CAPSL, LED_SCROLLL]);
  } else {
    can(EV_KEY, [BTN_LEFT, BTN_RIGHT, BTN_MIDDLE]);
    can(EV_REL, [REL_WHEEL]);
    can(EV_ABS, [ABS_X, ABS_Y]);
    for (const axis of [ABS_X, ABS_Y]) found.set((ABS_INFO << 8) | axis, words32(0, TABLET_MAX, 0, 0, 0)); // least, most, fuzz, flat, resolution
  }
  return found;
}

export function inputModel(form: InputForm): VirtioModel {
  const found = answers(form);
  return {
    type: TYPE_INPUT, name: `virtio-${form}`, classCode: form === 'keyboard' ? CLASS_KEYBOARD : CLASS_TABLET, queues: [QUEUE_SIZE, QUEUE_SIZE], features: [],
    config: new Uint8Array(CONFIG_BYTES),
    configWrite: (bytes, offset, width, value) => {
      if (width === 1 && offset < SIZE) bytes[offset] = value;
      else if (width === 2 && offset === 0) bytes.set([value & 0xff, value >>> 8]);
      else return false;
      const answer = found.get((bytes[0]! << 8) | bytes[1]!) ?? new Uint8Array(0);
      bytes[SIZE] = answer.length;
      bytes.fill(0, CONTENT);
      bytes.set(answer, CONTENT);
      return false;
    },
  };
}
