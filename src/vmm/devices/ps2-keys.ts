// Scan codes of the PS/2 keyboard: from Linux's evdev key code to what the keyboard sends in sets 1, 2 and 3.
// Facts: IBM PS/2 Hardware Interface Technical Reference (Keyboards); Microsoft, Keyboard Scan Code Specification 1.3a, with the media and
// the Japanese and Korean keys; Linux include/uapi/linux/input-event-codes.h.
//
// Sets 1 and 2 are one another's image under the translation that the 8042 does, and most evdev codes up to 88 are set 1 codes, because
// Linux numbered them so. So one table (evdev to set 1) and the translation give all of set 2; set 3 has a table of its own.

/** Flag in a code: sent with the prefix E0. */
export const EXTENDED = 0x100;
export const PREFIX_EXTENDED = 0xe0;
export const PREFIX_PAUSE = 0xe1;
export const PREFIX_BREAK = 0xf0;

export const KEY_LEFTCTRL = 29;
export const KEY_LEFTSHIFT = 42;
export const KEY_RIGHTSHIFT = 54;
export const KEY_LEFTALT = 56;
export const KEY_RIGHTCTRL = 97;
export const KEY_SYSRQ = 99;
export const KEY_RIGHTALT = 100;
export const KEY_PAUSE = 119;
export const KEY_HANGEUL = 122;
export const KEY_HANJA = 123;

/** Set 2 code of the key whose set 1 code is the index (0x00 to 0x7f). */
const SET2_OF_SET1 = Uint8Array.from(
  [
    '00 76 16 1e 26 25 2e 36 3d 3e 46 45 4e 55 66 0d',
    '15 1d 24 2d 2c 35 3c 43 44 4d 54 5b 5a 14 1c 1b',
    '23 2b 34 33 3b 42 4b 4c 52 0e 12 5d 1a 22 21 2a',
    '32 31 3a 41 49 4a 59 7c 11 29 58 05 06 04 0c 03',
    '0b 83 0a 01 09 77 7e 6c 75 7d 7b 6b 73 74 79 69',
    '72 7a 70 71 84 60 61 78 07 0f 17 1f 27 2f 37 3f',
    '47 4f 56 5e 08 10 18 20 28 30 38 40 48 50 57 6f',
    '13 19 39 51 53 5c 5f 62 63 64 65 67 68 6a 6d 6e',
  ]
    .join(' ')
    .split(' ')
    .map((byte) => parseInt(byte, 16)),
);

/** What the 8042 makes of a byte of set 2, prefixes aside; codes that the table lacks pass unchanged. */
const SET1_OF_SET2 = Uint8Array.from({ length: 256 }, (_, code) => {
  const index = SET2_OF_SET1.indexOf(code);
  return index >= 0 ? index : code;
});
SET1_OF_SET2[0x02] = 0x41; // F7 has two codes that become one
SET1_OF_SET2[0x7f] = 0x54; // as has SysRq

/** One byte through the 8042's translation table. */
export function translateByte(code: number): number {
  return SET1_OF_SET2[code];
}

const set1 = new Map<number, number>();
for (let code = 1; code <= 83; code++) set1.set(code, code);
const others: readonly (readonly [evdev: number, set1: number])[] = [
  [86, 0x56], [87, 0x57], [88, 0x58], // the key beside left shift, F11, F12
  // Japanese keyboards: Zenkaku/Hankaku shares its code with F24.
  [85, 0x76], [89, 0x73], [90, 0x78], [91, 0x77], [92, 0x79], [93, 0x70], [94, 0x7b], [124, 0x7d],
  [96, EXTENDED | 0x1c], [97, EXTENDED | 0x1d], [98, EXTENDED | 0x35], [100, EXTENDED | 0x38], // keypad Enter, right Ctrl, keypad /, right Alt
  // Home, Up, Page Up, Left, Right, End, Down, Page Down, Insert, Delete
  [102, EXTENDED | 0x47], [103, EXTENDED | 0x48], [104, EXTENDED | 0x49], [105, EXTENDED | 0x4b], [106, EXTENDED | 0x4d],
  [107, EXTENDED | 0x4f], [108, EXTENDED | 0x50], [109, EXTENDED | 0x51], [110, EXTENDED | 0x52], [111, EXTENDED | 0x53],
  [113, EXTENDED | 0x20], [114, EXTENDED | 0x2e], [115, EXTENDED | 0x30], [116, EXTENDED | 0x5e], // mute, quieter, louder, power
  [117, 0x59], [121, 0x7e], // keypad = and ,
  [125, EXTENDED | 0x5b], [126, EXTENDED | 0x5c], [127, EXTENDED | 0x5d], // the two logo keys, menu
  [128, EXTENDED | 0x68], [131, EXTENDED | 0x08], [133, EXTENDED | 0x18], [135, EXTENDED | 0x0a], [137, EXTENDED | 0x17], // stop, undo, copy, paste, cut
  [138, EXTENDED | 0x3b], [140, EXTENDED | 0x21], [142, EXTENDED | 0x5f], [143, EXTENDED | 0x63], // help, calculator, sleep, wake
  [144, EXTENDED | 0x6b], [157, EXTENDED | 0x6b], [155, EXTENDED | 0x6c], [156, EXTENDED | 0x66], // files or computer, mail, bookmarks
  [158, EXTENDED | 0x6a], [159, EXTENDED | 0x69], [161, EXTENDED | 0x2c], // back, forward, eject
  [163, EXTENDED | 0x19], [164, EXTENDED | 0x22], [165, EXTENDED | 0x10], [166, EXTENDED | 0x24], // next, play or pause, previous, stop
  [171, EXTENDED | 0x6d], [226, EXTENDED | 0x6d], [172, EXTENDED | 0x32], [173, EXTENDED | 0x67], [217, EXTENDED | 0x65], // media, home page, refresh, search
];
for (const [evdev, code] of others) set1.set(evdev, code);
for (let i = 0; i < 11; i++) set1.set(183 + i, 0x64 + i); // F13 to F23
set1.set(194, 0x76); // F24

/** Set 3 codes in the keyboard's own order; a key that is not here is not sent in set 3. */
const set3 = new Map<number, number>([
  [59, 0x07], [1, 0x08], [15, 0x0d], [41, 0x0e], [60, 0x0f], [29, 0x11], [42, 0x12], [86, 0x13], [58, 0x14], [16, 0x15], [2, 0x16], [61, 0x17],
  [56, 0x19], [44, 0x1a], [31, 0x1b], [30, 0x1c], [17, 0x1d], [3, 0x1e], [62, 0x1f], [46, 0x21], [45, 0x22], [32, 0x23], [18, 0x24], [5, 0x25],
  [4, 0x26], [63, 0x27], [57, 0x29], [47, 0x2a], [33, 0x2b], [20, 0x2c], [19, 0x2d], [6, 0x2e], [64, 0x2f], [49, 0x31], [48, 0x32], [35, 0x33],
  [34, 0x34], [21, 0x35], [7, 0x36], [65, 0x37], [100, 0x39], [50, 0x3a], [36, 0x3b], [22, 0x3c], [8, 0x3d], [9, 0x3e], [66, 0x3f], [51, 0x41],
  [37, 0x42], [23, 0x43], [24, 0x44], [11, 0x45], [10, 0x46], [67, 0x47], [52, 0x49], [53, 0x4a], [38, 0x4b], [39, 0x4c], [25, 0x4d], [12, 0x4e],
  [68, 0x4f], [40, 0x52], [26, 0x54], [13, 0x55], [87, 0x56], [99, 0x57], [97, 0x58], [54, 0x59], [28, 0x5a], [27, 0x5b], [43, 0x5c], [88, 0x5e],
  [70, 0x5f], [108, 0x60], [105, 0x61], [119, 0x62], [103, 0x63], [111, 0x64], [107, 0x65], [14, 0x66], [110, 0x67], [79, 0x69], [106, 0x6a],
  [75, 0x6b], [71, 0x6c], [109, 0x6d], [102, 0x6e], [104, 0x6f], [82, 0x70], [83, 0x71], [80, 0x72], [76, 0x73], [77, 0x74], [72, 0x75],
  [69, 0x76], [98, 0x77], [96, 0x79], [81, 0x7a], [78, 0x7c], [73, 0x7d], [55, 0x7e], [74, 0x84], [125, 0x8b], [126, 0x8c], [127, 0x8d],
]);

/** Keys whose set 3 code has a break code by default: caps lock, the shifts, left Ctrl, left Alt. */
export const SET3_MAKE_BREAK: readonly number[] = [0x14, 0x12, 0x59, 0x11, 0x19];

/** How a pressed key was told to the guest, so that its release is told in the same way. */
export type Variant = 'plain' | 'sysrq' | 'bare';

/** Modifiers that change what Print Screen and Pause send. */
export interface Modifiers {
  readonly ctrl: boolean;
  readonly shift: boolean;
  readonly alt: boolean;
}

/** Whether a PS/2 keyboard has this key. */
export function hasKey(evdev: number): boolean {
  return set1.has(evdev) || evdev === KEY_SYSRQ || evdev === KEY_PAUSE || evdev === KEY_HANGEUL || evdev === KEY_HANJA;
}

/** How a press of `evdev` is told now. */
export function variantOf(evdev: number, held: Modifiers): Variant {
  if (evdev === KEY_SYSRQ) return held.alt ? 'sysrq' : held.ctrl || held.shift ? 'bare' : 'plain';
  if (evdev === KEY_PAUSE) return held.ctrl ? 'bare' : 'plain';
  return 'plain';
}

/** The bytes that the keyboard sends in set 2; empty where a release sends nothing. */
export function set2Sequence(evdev: number, down: boolean, variant: Variant): readonly number[] {
  if (evdev === KEY_PAUSE) {
    // Make and break at once; with Ctrl it is the Break key.
    if (!down) return [];
    return variant === 'bare' ? [0xe0, 0x7e, 0xe0, 0xf0, 0x7e] : [0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77];
  }
  if (evdev === KEY_SYSRQ) {
    // Print Screen carries a false left shift, unless a shift or Ctrl is held; with Alt it is SysRq.
    if (variant === 'sysrq') return down ? [0x84] : [0xf0, 0x84];
    if (variant === 'bare') return down ? [0xe0, 0x7c] : [0xe0, 0xf0, 0x7c];
    return down ? [0xe0, 0x12, 0xe0, 0x7c] : [0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12];
  }
  if (evdev === KEY_HANGEUL || evdev === KEY_HANJA) return down ? [evdev === KEY_HANGEUL ? 0xf2 : 0xf1] : []; // Korean keys never break
  const code = set1.get(evdev);
  if (code === undefined) return [];
  const prefix = (code & EXTENDED) !== 0 ? [PREFIX_EXTENDED] : [];
  return [...prefix, ...(down ? [] : [PREFIX_BREAK]), SET2_OF_SET1[code & 0x7f]];
}

/** The same in set 1: F0 becomes bit 7 of the code that follows. */
export function set1Sequence(evdev: number, down: boolean, variant: Variant): readonly number[] {
  const bytes: number[] = [];
  let broken = 0;
  for (const byte of set2Sequence(evdev, down, variant)) {
    if (byte === PREFIX_BREAK) broken = 0x80;
    else {
      bytes.push(translateByte(byte) | broken);
      broken = 0;
    }
  }
  return bytes;
}

/** The set 3 code of a key, or undefined. */
export function set3Code(evdev: number): number | undefined {
  return set3.get(evdev);
}
