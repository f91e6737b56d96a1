// A viewer's picture without a window: what all frames that it was sent have made of it.
import { PIXEL_BYTES, decodeFrame, type Frame } from '../../shared/protocol/frames.ts';
import type { MachineControl, ScreenAttachment } from '../server/control.ts';

export class Canvas {
  width = 0;
  height = 0;
  /** B G R X, rows without gaps. */
  pixels = new Uint8Array(0);
  frames = 0;

  /** Watches a machine's screen, acknowledging every frame. */
  watch(machine: MachineControl, id: string): ScreenAttachment {
    const viewer = machine.attachViewer({
      id,
      buffered: () => 0,
      send: (message) => {
        const frame = decodeFrame(Uint8Array.from(message))!;
        this.draw(frame);
        setImmediate(() => viewer.acknowledge(frame.seq));
      },
    });
    return viewer;
  }

  /** 0xRRGGBB of the pixel that is number `at` from the top left. */
  pixel(at: number): number {
    return (this.pixels[at * 4 + 2]! << 16) | (this.pixels[at * 4 + 1]! << 8) | this.pixels[at * 4]!;
  }

  draw(frame: Frame): void {
    this.frames++;
    if (frame.width !== this.width || frame.height !== this.height) {
      this.width = frame.width;
      this.height = frame.height;
      this.pixels = new Uint8Array(frame.width * frame.height * PIXEL_BYTES);
    }
    let from = 0;
    for (const { x, y, width, height } of frame.rectangles) {
      for (let row = 0; row < height; row++) {
        this.pixels.set(frame.pixels.subarray(from, from + width * PIXEL_BYTES), ((y + row) * this.width + x) * PIXEL_BYTES);
        from += width * PIXEL_BYTES;
      }
    }
  }
}
