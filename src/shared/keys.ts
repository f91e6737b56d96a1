// From the browser's name of a physical key (KeyboardEvent.code, UI Events KeyboardEvent code Values §3) to Linux's evdev key code
// (include/uapi/linux/input-event-codes.h), which is what a viewer sends to a machine. Both name a place on the keyboard, not a
// letter, so the guest's own keymap decides what is typed. 105-key, JIS, ABNT, Korean and ISO extras, F13 to F24 and media keys.

/** evdev codes that are wanted by name: combinations in menus, and the modifiers that the viewer looks at. */
export const KEY_ESC = 1;
export const KEY_BACKSPACE = 14;
export const KEY_TAB = 15;
export const KEY_ENTER = 28;
export const KEY_LEFTCTRL = 29;
export const KEY_LEFTSHIFT = 42;
export const KEY_RIGHTSHIFT = 54;
export const KEY_LEFTALT = 56;
export const KEY_CAPSLOCK = 58;
export const KEY_F1 = 59;
export const KEY_NUMLOCK = 69;
export const KEY_SCROLLLOCK = 70;
export const KEY_F11 = 87;
export const KEY_F12 = 88;
export const KEY_RIGHTCTRL = 97;
export const KEY_SYSRQ = 99;
export const KEY_RIGHTALT = 100;
export const KEY_DELETE = 111;
export const KEY_PAUSE = 119;
export const KEY_LEFTMETA = 125;
export const KEY_RIGHTMETA = 126;

const codes: Readonly<Record<string, number>> = {
  // The writing system keys, row by row.
  Escape: 1, Digit1: 2, Digit2: 3, Digit3: 4, Digit4: 5, Digit5: 6, Digit6: 7, Digit7: 8, Digit8: 9, Digit9: 10, Digit0: 11,
  Minus: 12, Equal: 13, Backspace: 14,
  Tab: 15, KeyQ: 16, KeyW: 17, KeyE: 18, KeyR: 19, KeyT: 20, KeyY: 21, KeyU: 22, KeyI: 23, KeyO: 24, KeyP: 25,
  BracketLeft: 26, BracketRight: 27, Enter: 28,
  ControlLeft: 29, KeyA: 30, KeyS: 31, KeyD: 32, KeyF: 33, KeyG: 34, KeyH: 35, KeyJ: 36, KeyK: 37, KeyL: 38,
  Semicolon: 39, Quote: 40, Backquote: 41,
  ShiftLeft: 42, Backslash: 43, KeyZ: 44, KeyX: 45, KeyC: 46, KeyV: 47, KeyB: 48, KeyN: 49, KeyM: 50,
  Comma: 51, Period: 52, Slash: 53, ShiftRight: 54,
  AltLeft: 56, Space: 57, CapsLock: 58,
  // Function keys.
  F1: 59, F2: 60, F3: 61, F4: 62, F5: 63, F6: 64, F7: 65, F8: 66, F9: 67, F10: 68, F11: 87, F12: 88,
  F13: 183, F14: 184, F15: 185, F16: 186, F17: 187, F18: 188, F19: 189, F20: 190, F21: 191, F22: 192, F23: 193, F24: 194,
  // The numeric keypad.
  NumLock: 69, ScrollLock: 70, NumpadMultiply: 55, Numpad7: 71, Numpad8: 72, Numpad9: 73, NumpadSubtract: 74,
  Numpad4: 75, Numpad5: 76, Numpad6: 77, NumpadAdd: 78, Numpad1: 79, Numpad2: 80, Numpad3: 81, Numpad0: 82, NumpadDecimal: 83,
  NumpadEnter: 96, NumpadDivide: 98, NumpadEqual: 117, NumpadComma: 121, NumpadParenLeft: 179, NumpadParenRight: 180,
  // ISO, ABNT and JIS keys, and those of Korean keyboards.
  IntlBackslash: 86, IntlRo: 89, IntlYen: 124, Convert: 92, NonConvert: 94, KanaMode: 93,
  Lang1: 122, Lang2: 123, Lang3: 90, Lang4: 91, Lang5: 85,
  // Control and arrow pads.
  ControlRight: 97, PrintScreen: 99, AltRight: 100, Home: 102, ArrowUp: 103, PageUp: 104, ArrowLeft: 105, ArrowRight: 106, End: 107,
  ArrowDown: 108, PageDown: 109, Insert: 110, Delete: 111, Pause: 119, MetaLeft: 125, MetaRight: 126, ContextMenu: 127,
  // Sound, players, browsers, programs.
  AudioVolumeMute: 113, AudioVolumeDown: 114, AudioVolumeUp: 115, VolumeMute: 113, VolumeDown: 114, VolumeUp: 115,
  MediaTrackNext: 163, MediaPlayPause: 164, MediaTrackPrevious: 165, MediaStop: 166, MediaSelect: 171, Eject: 161,
  BrowserStop: 128, BrowserFavorites: 156, BrowserBack: 158, BrowserForward: 159, BrowserHome: 172, BrowserRefresh: 173, BrowserSearch: 217,
  LaunchApp1: 144, LaunchApp2: 140, LaunchMail: 155,
  Power: 116, Sleep: 142, WakeUp: 143,
  // Keys of older and of Sun's keyboards.
  Again: 129, Props: 130, Undo: 131, Select: 132, Copy: 133, Open: 134, Paste: 135, Find: 136, Cut: 137, Help: 138,
};

/** The evdev code of a KeyboardEvent.code, or null for a key that no keyboard of a guest has ("Fn", "Unidentified", ""). */
export function evdevOf(code: string): number | null {
  return Object.hasOwn(codes, code) ? codes[code] : null;
}

/** Every pair of the table, for tests and for what must know all keys. */
export function allKeys(): [code: string, evdev: number][] {
  return Object.entries(codes);
}
