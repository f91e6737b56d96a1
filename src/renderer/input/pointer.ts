// The pointer's way to the guest: movements over the page become movements over the guest's pixels, whole ones, with the rest kept
// for the next; the wheel becomes notches.

/** What one notch of a wheel scrolls in a browser, in pixels. */
const PIXELS_A_NOTCH = 100;
/** WheelEvent.deltaMode: lines and pages instead of pixels; a notch is three lines. */
const LINE_MODE = 1;
const LINES_A_NOTCH = 3;

export class PointerAccumulator {
  #x = 0;
  #y = 0;
  #wheel = 0;

  /**
   * @param dx, dy in CSS pixels
   * @param scale CSS pixels per pixel of the guest
   * @returns whole pixels of the guest
   */
  move(dx: number, dy: number, scale: number): { dx: number; dy: number } {
    this.#x += dx / scale;
    this.#y += dy / scale;
    const whole = { dx: Math.trunc(this.#x) + 0, dy: Math.trunc(this.#y) + 0 };
    this.#x -= whole.dx;
    this.#y -= whole.dy;
    return whole;
  }

  /** @returns whole notches; away from the person is positive */
  scroll(deltaY: number, deltaMode: number): number {
    this.#wheel -= deltaMode === 0 ? deltaY / PIXELS_A_NOTCH : deltaMode === LINE_MODE ? deltaY / LINES_A_NOTCH : deltaY;
    const whole = Math.trunc(this.#wheel) + 0; // no minus zero
    this.#wheel -= whole;
    return whole;
  }

  clear(): void {
    this.#x = 0;
    this.#y = 0;
    this.#wheel = 0;
  }
}
