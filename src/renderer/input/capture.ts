// Takes the person's keyboard and pointer for the guest while they work in its screen, and gives them back.
//
// A click takes both: the element has the focus, the pointer is locked to it, the machine hears that this viewer owns the input.
// Ctrl+Alt alone gives them back, so does losing the window. Browsers let Escape break the pointer's lock and keep that key to
// themselves; the guest is then told of it here, the keyboard stays, and the next click locks the pointer again.
//
// A guest that works a tablet is told where the pointer is, so it is not locked: it comes and goes over the screen as over any other part of the
// window, and a click there gives the guest the keyboard too.
import { BUTTON_LEFT, BUTTON_MIDDLE, BUTTON_RIGHT, encodeKey, encodePointer, encodeTablet, tabletPlace } from '../../shared/protocol/input.ts';
import { GuestKeyboard } from './keyboard.ts';
import { PointerAccumulator } from './pointer.ts';

export interface CaptureOptions {
  /** Focusable; covers the guest's screen. */
  element: HTMLElement;
  send: (message: Uint8Array<ArrayBuffer>) => void;
  /** CSS pixels per pixel of the guest. */
  scale: () => number;
  /** The guest's picture in its pixels, while the guest works a tablet; else null. */
  tablet: () => { width: number; height: number } | null;
  /** Keyboard (and pointer, where it could be locked) came to the guest or went back. */
  onChange: (captured: boolean) => void;
}

const BUTTONS = BUTTON_LEFT | BUTTON_RIGHT | BUTTON_MIDDLE;
/** Within this many milliseconds an Escape and the loss of the lock are one thing. */
const SAME_ESCAPE = 80;

export class InputCapture {
  readonly #options: CaptureOptions;
  readonly #keyboard: GuestKeyboard;
  readonly #pointer = new PointerAccumulator();
  readonly #abort = new AbortController();
  #captured = false;
  #buttons = 0;
  /** They were pressed at the tablet, not at the mouse. */
  #atTablet = false;
  #letGoOfPointer = false;
  #lastEscape = -Infinity;
  /** Where the tablet's pointer was last. */
  #place = { x: 0, y: 0 };

  constructor(options: CaptureOptions) {
    this.#options = options;
    this.#keyboard = new GuestKeyboard({
      key: (code, down) => options.send(encodeKey(code, down)),
      release: () => this.release(),
    });
    const { element } = options;
    const { signal } = this.#abort;
    element.addEventListener('mousedown', (event) => this.#mouseDown(event), { signal });
    element.addEventListener('contextmenu', (event) => event.preventDefault(), { signal });
    element.addEventListener('wheel', (event) => this.#wheel(event), { signal, passive: false });
    element.addEventListener('blur', () => this.release(), { signal });
    // In the capturing phase, before any shortcut of the page.
    addEventListener('keydown', (event) => this.#key(event, true), { signal, capture: true });
    addEventListener('keyup', (event) => this.#key(event, false), { signal, capture: true });
    addEventListener('mousemove', (event) => this.#mouseMove(event), { signal });
    addEventListener('mouseup', (event) => this.#mouseUp(event), { signal });
    addEventListener('blur', () => this.release(), { signal });
    document.addEventListener('pointerlockchange', () => this.#lockChanged(), { signal });
    document.addEventListener('visibilitychange', () => { if (document.hidden) this.release(); }, { signal });
  }

  get captured(): boolean {
    return this.#captured;
  }

  /** Takes keyboard and pointer, as a click does. */
  take(): void {
    this.#options.element.focus({ preventScroll: true });
    if (!this.#captured) {
      this.#captured = true;
      this.#pointer.clear();
      this.#options.onChange(true);
    }
    this.#lock();
  }

  /** Gives both back; keys and buttons that are down are let go in the guest. */
  release(): void {
    if (!this.#captured) return;
    this.#captured = false;
    this.#keyboard.releaseAll();
    if (this.#buttons !== 0) {
      this.#buttons = 0;
      this.#sendPointer(0, 0, 0);
    }
    if (this.#locked) this.#unlock();
    this.#options.onChange(false);
  }

  dispose(): void {
    this.release();
    this.#abort.abort();
  }

  get #locked(): boolean {
    return document.pointerLockElement === this.#options.element;
  }

  /** The guest began to work a tablet, or ceased to. */
  tabletChanged(): void {
    const tablet = this.#options.tablet() !== null;
    if (this.#buttons !== 0 && this.#atTablet !== tablet) {
      // Let go where it was pressed: the other device knows nothing of it.
      this.#buttons = 0;
      this.#sendTo(this.#atTablet, 0, 0, 0);
    }
    if (tablet && this.#locked) this.#unlock();
  }

  #unlock(): void {
    this.#letGoOfPointer = true;
    document.exitPointerLock();
  }

  #lock(): void {
    if (this.#locked || this.#options.tablet() !== null) return;
    // Refused when the person has just broken the lock, or where there is none: the keyboard works all the same.
    const asked: unknown = this.#options.element.requestPointerLock();
    if (asked instanceof Promise) asked.catch(() => {});
  }

  #lockChanged(): void {
    if (this.#locked) {
      // Granted when it was not wanted any more: the tablet came, or the pointer was given back.
      if (!this.#captured || this.#options.tablet() !== null) this.#unlock();
      return;
    }
    if (this.#letGoOfPointer) {
      this.#letGoOfPointer = false;
      return;
    }
    if (!this.#captured) return;
    const lostAt = performance.now();
    setTimeout(() => {
      if (!this.#captured || !document.hasFocus() || Math.abs(this.#lastEscape - lostAt) < SAME_ESCAPE) return;
      this.#keyboard.keyDown('Escape');
      this.#keyboard.keyUp('Escape');
    }, SAME_ESCAPE);
  }

  #key(event: KeyboardEvent, down: boolean): void {
    if (!this.#captured || event.isComposing) return;
    if (event.code === 'Escape') this.#lastEscape = performance.now();
    const known = down ? this.#keyboard.keyDown(event.code) : this.#keyboard.keyUp(event.code);
    if (!known) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }

  #mouseDown(event: MouseEvent): void {
    event.preventDefault();
    if (!this.#captured) {
      // The click that takes the pointer is for the window, not for the guest.
      if (event.button !== 0) return;
      this.take();
      // Where there is a tablet the person sees what they click, and means it.
      if (this.#options.tablet() === null) return;
    } else if (!this.#locked && this.#options.tablet() === null) {
      this.take();
      return;
    }
    this.#keyboard.touched();
    this.#findPlace(event);
    this.#sendButtons(event);
  }

  #mouseUp(event: MouseEvent): void {
    if (this.#captured && this.#buttons !== 0) this.#sendButtons(event);
  }

  #sendButtons(event: MouseEvent): void {
    this.#buttons = event.buttons & BUTTONS;
    this.#atTablet = this.#options.tablet() !== null;
    this.#sendPointer(0, 0, 0);
  }

  /** By the tablet, whose pointer is where it is, or by steps. */
  #sendPointer(dx: number, dy: number, wheel: number): void {
    this.#sendTo(this.#options.tablet() !== null, dx, dy, wheel);
  }

  #sendTo(tablet: boolean, dx: number, dy: number, wheel: number): void {
    this.#options.send(tablet ? encodeTablet(this.#place.x, this.#place.y, wheel, this.#buttons) : encodePointer(dx, dy, wheel, this.#buttons));
  }

  /** @returns whether the place is another one */
  #findPlace(event: MouseEvent): boolean {
    const picture = this.#options.tablet();
    if (picture === null) return false;
    const { left, top, width, height } = this.#options.element.getBoundingClientRect();
    const x = tabletPlace(((event.clientX - left) / width) * picture.width, picture.width);
    const y = tabletPlace(((event.clientY - top) / height) * picture.height, picture.height);
    const moved = x !== this.#place.x || y !== this.#place.y;
    this.#place = { x, y };
    return moved;
  }

  #mouseMove(event: MouseEvent): void {
    if (!this.#captured) return;
    if (this.#options.tablet() !== null) {
      // Beyond the edge the guest hears of the pointer only while it holds a button that was pressed inside.
      const inside = event.target instanceof Node && this.#options.element.contains(event.target);
      if ((inside || this.#buttons !== 0) && this.#findPlace(event)) this.#sendPointer(0, 0, 0);
      return;
    }
    if (!this.#locked) return;
    const { dx, dy } = this.#pointer.move(event.movementX, event.movementY, this.#options.scale());
    if (dx !== 0 || dy !== 0) this.#options.send(encodePointer(dx, dy, 0, this.#buttons));
  }

  #wheel(event: WheelEvent): void {
    if (!this.#captured) return;
    event.preventDefault();
    this.#keyboard.touched();
    const notches = this.#pointer.scroll(event.deltaY, event.deltaMode);
    if (notches === 0) return;
    this.#findPlace(event);
    this.#sendPointer(0, 0, notches);
  }
}
