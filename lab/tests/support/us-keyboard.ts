// Text as keys of a US keyboard: Linux's evdev codes (include/uapi/linux/input-event-codes.h), row by row.

export const KEY_ENTER = 28;
export const KEY_LEFTSHIFT = 42;
export const KEY_CAPSLOCK = 58;

/** Rows of the keyboard: the code of the first key, and its characters without and with Shift. */
const ROWS: [first: number, plain: string, shifted: string][] = [
  [2, '1234567890-=', '!@#$%^&*()_+'],
  [16, 'qwertyuiop[]', 'QWERTYUIOP{}'],
  [30, "asdfghjkl;'`", 'ASDFGHJKL:"~'],
  [43, '\\zxcvbnm,./', '|ZXCVBNM<>?'],
  [57, ' ', ' '],
];

const KEYS = new Map<string, number[]>([['\n', [KEY_ENTER]]]);
for (const [first, plain, shifted] of ROWS) {
  for (let i = 0; i < plain.length; i++) {
    KEYS.set(shifted[i]!, [KEY_LEFTSHIFT, first + i]);
    KEYS.set(plain[i]!, [first + i]);
  }
}

/** For each character the keys that are held together, in the order in which they go down. */
export function keysFor(text: string): number[][] {
  return [...text].map((character) => {
    const keys = KEYS.get(character);
    if (keys === undefined) throw new Error(`no key writes ${JSON.stringify(character)}`);
    return keys;
  });
}
