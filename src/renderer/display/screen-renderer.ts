// A guest's screen on a canvas: takes frame messages as they come, draws at the display's pace, acknowledges what was shown.
//
// Rectangles are uploaded as they arrive; a draw and the acknowledgement of everything in it follow at the next animation frame. So a hidden
// page, which has none, holds the machine back by itself. A lost WebGL context takes the picture with it: `reattach` asks for a
// whole one. The canvas says what it shows in data attributes, for tests and statistics:
//   data-width, data-height   the picture in the guest's pixels; absent while there is none
//   data-frames               how often it was drawn
//   data-received             frames received, data-pixels of them in all
//   data-latency              milliseconds from the machine's look at its memory to the last draw (both clocks must be one host's)
//   data-painter              webgl2 or 2d;  data-blank while the guest shows nothing or turned its screen off
import { PIXEL_BYTES, decodeFrame, encodeAck } from '../../shared/protocol/frames.ts';
import type { Frame } from '../../shared/protocol/frames.ts';
import { createPainter } from './painter.ts';
import type { Painter } from './painter.ts';

export interface PictureSize {
  width: number;
  height: number;
}

export interface ScreenRendererOptions {
  /** Sends a message to the machine: frames up to one have been shown. */
  acknowledge: (message: Uint8Array<ArrayBuffer>) => void;
  /** The picture has this size now; null: the guest shows none. */
  onSize: (size: PictureSize | null) => void;
  /** The picture was lost here: attach anew, which begins with a whole frame. */
  reattach?: () => void;
}

export interface ScreenStatistics {
  /** Draws. */
  frames: number;
  received: number;
  /** Pixels received. */
  pixels: number;
  /** Milliseconds, of the last draw. */
  latency: number;
}

export class ScreenRenderer {
  readonly statistics: ScreenStatistics = { frames: 0, received: 0, pixels: 0, latency: 0 };

  readonly #canvas: HTMLCanvasElement;
  readonly #options: ScreenRendererOptions;
  readonly #abort = new AbortController();
  #painter: Painter | null;
  #size: PictureSize | null = null;
  #blank = true;
  /** Nothing is drawn before a whole frame came. */
  #complete = false;
  #animation: number | null = null;
  /** The newest frame that waits to be drawn and acknowledged. */
  #newest: Frame | null = null;

  constructor(canvas: HTMLCanvasElement, options: ScreenRendererOptions) {
    this.#canvas = canvas;
    this.#options = options;
    this.#painter = createPainter(canvas);
    canvas.dataset.painter = this.#painter.kind;
    const { signal } = this.#abort;
    // Prevented, or the browser does not restore it.
    canvas.addEventListener('webglcontextlost', (event) => {
      event.preventDefault();
      this.#painter = null;
      this.#complete = false;
    }, { signal });
    canvas.addEventListener('webglcontextrestored', () => {
      this.#painter = createPainter(canvas);
      this.#options.reattach?.();
    }, { signal });
  }

  /** Takes a binary message; what is no frame is ignored. */
  receive(message: Uint8Array<ArrayBuffer>): void {
    const frame = decodeFrame(message);
    if (frame === null || this.#abort.signal.aborted) return;
    this.statistics.received++;
    if (frame.whole) this.#begin(frame);
    if (this.#complete && this.#painter !== null) this.#upload(frame, this.#painter);
    this.#newest = frame;
    this.#animation ??= requestAnimationFrame(() => this.#draw());
  }

  /** Draws and acknowledges nothing more. The canvas keeps its last picture. */
  dispose(): void {
    this.#abort.abort();
    if (this.#animation !== null) cancelAnimationFrame(this.#animation);
    this.#painter?.dispose();
    this.#painter = null;
    this.#newest = null;
  }

  /** A whole frame: the picture's size and state are its. */
  #begin(frame: Frame): void {
    const { width, height } = frame;
    const before = this.#size;
    const now = width === 0 || height === 0 ? null : { width, height };
    const changed = before?.width !== now?.width || before?.height !== now?.height;
    if (this.#painter !== null && now !== null && (changed || !this.#complete)) this.#painter.resize(width, height);
    this.#complete = this.#painter !== null;
    this.#size = now;
    this.#blank = frame.blank;
    if (changed) this.#options.onSize(now);
  }

  #upload(frame: Frame, painter: Painter): void {
    let at = 0;
    for (const rectangle of frame.rectangles) {
      const bytes = rectangle.width * rectangle.height * PIXEL_BYTES;
      painter.upload(rectangle, frame.pixels.subarray(at, at + bytes));
      at += bytes;
    }
    this.statistics.pixels += at / PIXEL_BYTES;
  }

  #draw(): void {
    this.#animation = null;
    const frame = this.#newest;
    if (frame === null) return;
    this.#newest = null;
    if (this.#painter !== null && this.#complete) {
      if (this.#blank) this.#painter.blank();
      else this.#painter.draw();
      this.statistics.frames++;
      this.statistics.latency = performance.timeOrigin + performance.now() - frame.takenAt;
    }
    this.#options.acknowledge(encodeAck(frame.seq));
    this.#publish();
  }

  #publish(): void {
    const { dataset } = this.#canvas;
    const { frames, received, pixels, latency } = this.statistics;
    dataset.frames = String(frames);
    dataset.received = String(received);
    dataset.pixels = String(pixels);
    dataset.latency = latency.toFixed(1);
    if (this.#blank) dataset.blank = '';
    else delete dataset.blank;
    if (this.#size === null) {
      delete dataset.width;
      delete dataset.height;
      return;
    }
    dataset.width = String(this.#size.width);
    dataset.height = String(this.#size.height);
  }
}
