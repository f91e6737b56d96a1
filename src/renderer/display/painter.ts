// What puts a guest's pixels on a canvas: WebGL 2, where rectangles become parts of a texture and the shader turns B G R X into colours,
// or a 2D context where no graphics processor does WebGL, and the pixels are turned around here. Both keep the picture at its own size; the page
// scales the canvas.
import type { Rectangle } from '../../shared/protocol/frames.ts';
import { PIXEL_BYTES } from '../../shared/protocol/frames.ts';

export interface Painter {
  readonly kind: 'webgl2' | '2d';
  /** The picture has this size from now on; its contents are to come. */
  resize(width: number, height: number): void;
  /** Takes the pixels of one rectangle, B G R X, rows without gaps; shown by the next `draw`. */
  upload(rectangle: Rectangle, pixels: Uint8Array<ArrayBuffer>): void;
  draw(): void;
  /** Shows black. */
  blank(): void;
  dispose(): void;
}

// One triangle that covers everything; the picture's first row is the canvas's upper one.
const VERTEX = `#version 300 es
void main() {
  vec2 corner = vec2(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0);
  gl_Position = vec4(corner, 0.0, 1.0);
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
uniform highp sampler2D picture;
out vec4 colour;
void main() {
  highp ivec2 at = ivec2(gl_FragCoord.xy);
  colour = vec4(texelFetch(picture, ivec2(at.x, textureSize(picture, 0).y - 1 - at.y), 0).bgr, 1.0);
}`;

class WebGlPainter implements Painter {
  readonly kind = 'webgl2';
  readonly #canvas: HTMLCanvasElement;
  readonly #gl: WebGL2RenderingContext;
  readonly #program: WebGLProgram;
  #texture: WebGLTexture | null = null;
  #width = 0;
  #height = 0;

  constructor(canvas: HTMLCanvasElement, gl: WebGL2RenderingContext) {
    this.#canvas = canvas;
    this.#gl = gl;
    this.#program = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]] as const) {
      const shader = gl.createShader(type);
      // Null only while the context is lost: then nothing is drawn until it is restored, with a painter of its own.
      if (shader === null) continue;
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(this.#program, shader);
      gl.deleteShader(shader);
    }
    gl.linkProgram(this.#program);
    if (!gl.getProgramParameter(this.#program, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new Error(`the screen's shader does not link: ${gl.getProgramInfoLog(this.#program) ?? ''}`);
    }
    gl.useProgram(this.#program);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, PIXEL_BYTES);
  }

  resize(width: number, height: number): void {
    const gl = this.#gl;
    gl.deleteTexture(this.#texture);
    this.#texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.#texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, width, height);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
    this.#width = width;
    this.#height = height;
  }

  upload({ x, y, width, height }: Rectangle, pixels: Uint8Array<ArrayBuffer>): void {
    const gl = this.#gl;
    gl.texSubImage2D(gl.TEXTURE_2D, 0, x, y, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
  }

  draw(): void {
    this.#fit();
    const gl = this.#gl;
    gl.viewport(0, 0, this.#width, this.#height);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  blank(): void {
    this.#fit();
    const gl = this.#gl;
    gl.clearColor(0, 0, 0, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
  }

  dispose(): void {
    this.#gl.deleteTexture(this.#texture);
    this.#gl.deleteProgram(this.#program);
  }

  /** At the time of drawing, since a new size clears the canvas. */
  #fit(): void {
    fitCanvas(this.#canvas, this.#width, this.#height);
  }
}

class PlainPainter implements Painter {
  readonly kind = '2d';
  readonly #canvas: HTMLCanvasElement;
  readonly #context: CanvasRenderingContext2D;
  #picture: ImageData | null = null;
  #words = new Uint32Array(0);
  /** What was uploaded since the last draw, as one rectangle. */
  #dirty: Rectangle | null = null;

  constructor(canvas: HTMLCanvasElement, context: CanvasRenderingContext2D) {
    this.#canvas = canvas;
    this.#context = context;
  }

  resize(width: number, height: number): void {
    this.#picture = new ImageData(width, height);
    this.#words = new Uint32Array(this.#picture.data.buffer);
    this.#dirty = null;
  }

  upload(rectangle: Rectangle, pixels: Uint8Array<ArrayBuffer>): void {
    if (this.#picture === null) return;
    const { x, y, width, height } = rectangle;
    const aligned = pixels.byteOffset % PIXEL_BYTES === 0 ? pixels : pixels.slice();
    swizzle(new Uint32Array(aligned.buffer, aligned.byteOffset, width * height), this.#words, y * this.#picture.width + x, width, height, this.#picture.width);
    this.#dirty = this.#dirty === null ? { ...rectangle } : union(this.#dirty, rectangle);
  }

  draw(): void {
    if (this.#picture === null) return;
    // A new size clears the canvas.
    const all = fitCanvas(this.#canvas, this.#picture.width, this.#picture.height);
    const part = all ? { x: 0, y: 0, width: this.#picture.width, height: this.#picture.height } : this.#dirty;
    if (part !== null) this.#context.putImageData(this.#picture, 0, 0, part.x, part.y, part.width, part.height);
    this.#dirty = null;
  }

  blank(): void {
    if (this.#picture !== null) fitCanvas(this.#canvas, this.#picture.width, this.#picture.height);
    this.#context.fillStyle = '#000';
    this.#context.fillRect(0, 0, this.#canvas.width, this.#canvas.height);
  }

  dispose(): void {
    this.#picture = null;
    this.#words = new Uint32Array(0);
  }
}

/** @returns whether the size was another one */
function fitCanvas(canvas: HTMLCanvasElement, width: number, height: number): boolean {
  if (width === 0 || height === 0 || (canvas.width === width && canvas.height === height)) return false;
  canvas.width = width;
  canvas.height = height;
  return true;
}

function union(a: Rectangle, b: Rectangle): Rectangle {
  const x = Math.min(a.x, b.x);
  const y = Math.min(a.y, b.y);
  return { x, y, width: Math.max(a.x + a.width, b.x + b.width) - x, height: Math.max(a.y + a.height, b.y + b.height) - y };
}

/** Puts `width` by `height` pixels B G R X of `from` into `to` at `start` as opaque R G B A, `stride` pixels a row. Both little-endian. */
export function swizzle(from: Uint32Array, to: Uint32Array, start: number, width: number, height: number, stride: number): void {
  for (let row = 0, i = 0; row < height; row++) {
    for (let at = start + row * stride, end = at + width; at < end; at++, i++) {
      const pixel = from[i];
      to[at] = 0xff00_0000 | ((pixel & 0xff) << 16) | (pixel & 0xff00) | ((pixel >> 16) & 0xff);
    }
  }
}

const GL_ATTRIBUTES: WebGLContextAttributes = { alpha: false, antialias: false, depth: false, stencil: false, preserveDrawingBuffer: false };

/**
 * The best painter that this canvas can have: WebGL on a graphics processor, else the 2D context, which is half as quick again as WebGL where
 * a processor plays the graphics card, else that. Throws when it can have none.
 */
export function createPainter(canvas: HTMLCanvasElement): Painter {
  const gl = canvas.getContext('webgl2', { ...GL_ATTRIBUTES, failIfMajorPerformanceCaveat: true });
  if (gl !== null) return new WebGlPainter(canvas, gl);
  const context = canvas.getContext('2d', { alpha: false });
  if (context !== null) return new PlainPainter(canvas, context);
  const slow = canvas.getContext('webgl2', GL_ATTRIBUTES);
  if (slow === null) throw new Error('this browser draws on no canvas');
  return new WebGlPainter(canvas, slow);
}
