// The keyboard that the guest holds while it has the person's: which keys are down, and the chord that gives it back.
//
// Ctrl+Alt alone, let go, releases: both went down, nothing else did, and one of them comes up. Ctrl+Alt+F2 is no release, since F2
// was pressed in between; the guest sees every key of both. Keys that are down when the keyboard goes away are let go in the guest.
import {
  KEY_LEFTALT, KEY_LEFTCTRL, KEY_RIGHTALT, KEY_RIGHTCTRL, evdevOf,
} from '../../shared/keys.ts';

export interface KeyboardSink {
  /** A key of the guest's keyboard went down (again, when it repeats) or up. */
  key: (code: number, down: boolean) => void;
  /** Ctrl+Alt alone was let go: give keyboard and pointer back. */
  release: () => void;
}

const isCtrl = (code: number): boolean => code === KEY_LEFTCTRL || code === KEY_RIGHTCTRL;
const isAlt = (code: number): boolean => code === KEY_LEFTALT || code === KEY_RIGHTALT;

export class GuestKeyboard {
  readonly #sink: KeyboardSink;
  readonly #down = new Set<number>();
  /** No key but Ctrl and Alt was touched since the first of those now down went down. */
  #onlyChord = true;

  constructor(sink: KeyboardSink) {
    this.#sink = sink;
  }

  /** @returns whether the key is one that a guest's keyboard has */
  keyDown(name: string): boolean {
    const code = evdevOf(name);
    if (code === null) return false;
    if (this.#down.size === 0) this.#onlyChord = true;
    if (!isCtrl(code) && !isAlt(code)) this.#onlyChord = false;
    this.#down.add(code);
    this.#sink.key(code, true);
    return true;
  }

  keyUp(name: string): boolean {
    const code = evdevOf(name);
    if (code === null) return false;
    const held = [...this.#down];
    const chord = this.#onlyChord && held.some(isCtrl) && held.some(isAlt) && (isCtrl(code) || isAlt(code));
    // A key that was down before the keyboard came here goes up without having gone down: no guest wants to hear of it.
    if (this.#down.delete(code)) this.#sink.key(code, false);
    if (chord) {
      this.releaseAll();
      this.#sink.release();
    }
    return true;
  }

  /** A mouse button or the wheel was used while Ctrl+Alt is down: then it is no chord of its own any more. */
  touched(): void {
    this.#onlyChord = false;
  }

  /** Lets every key go that is down, the last one first. */
  releaseAll(): void {
    for (const code of [...this.#down].reverse()) this.#sink.key(code, false);
    this.#down.clear();
    this.#onlyChord = true;
  }
}
