// The screen of a machine as its viewers get it: looks at the adapter and KVM's dirty log, compares, sends.
//
// While a viewer can take a frame, the dirty log is asked BUSY_MS apart while the picture changes, IDLE_MS apart for a while after a change
// or a key, and RESTING_MS apart after that: KVM says nothing of a first write, and on a slow host even a bare timer at 60 Hz is one per
// cent of a core. Nobody attached, or everyone owes acknowledgements: nothing is asked, the log goes on collecting. Order matters: the log is taken first, then the memory is read, so a write in between is
// marked again. Everything here runs on the control thread.
import { allocateWindow } from '../memory/window.ts';
import type { Window } from '../memory/window.ts';
import { PAGE_BYTES, VRAM_BYTES, VRAM_PAGES } from './adapter.ts';
import type { DisplayAdapter, Scanout } from './adapter.ts';
import { allocateBuffer, compareRows, copyPicture } from './rows.ts';
import type { NativeBuffer } from './rows.ts';
import { TILE_HEIGHT, TILE_WIDTH, tileGrid } from './tiles.ts';
import type { TileGrid } from './tiles.ts';
import { Viewer } from './viewer.ts';
import type { FrameSink } from './viewer.ts';

/** KVM's record of writes to the memory slot behind BAR 0. */
export interface DirtyLog {
  /**
   * Fills `bitmap` (a bit per page of video memory, VRAM_PAGES / 8 bytes, at the same address every time) with what was written since the last
   * call. False when there is nothing to read: then `bitmap` is not looked at. The log of a slot that goes away is replaced by `DisplayAdapter.markAll`.
   */
  fetchAndClear(bitmap: Uint8Array<ArrayBuffer>): boolean;
}

export interface ScreenSize {
  readonly width: number;
  readonly height: number;
}

/** A viewer's hold on the screen. */
export interface Attachment {
  /** The viewer has shown frame `seq` and all before it; numbers that were not sent are ignored. */
  acknowledge(seq: number): void;
  detach(): void;
}

export interface ScreenOptions {
  adapter: DisplayAdapter;
  vram: Window;
  log: DirtyLog;
  /** Called when the picture's size changes, or it goes or comes (null: none). */
  onModeChange?: (size: ScreenSize | null) => void;
  /** Instead of BUSY_MS and IDLE_MS, for measurements and tests. */
  busyInterval?: number;
  idleInterval?: number;
}

/** A frame at 60 Hz. */
const IDLE_MS = 16;
/** Two of them: unasked-for changes are seen that late at most. */
const RESTING_MS = 33;
/** After this long without change or input, looking slows down. A cursor blinks more slowly than this. */
const QUIET_MS = 250;
/** Twice as often: a viewer draws at 60 Hz with a frame always ready, and no guest makes it more than 120. */
const BUSY_MS = 8;
const SEQ_MODULUS = 2 ** 32;

export class ScreenSource {
  /** Frames sent to all viewers together, since the beginning. */
  frames = 0;
  /** Bytes sent likewise. */
  bytes = 0;

  readonly #options: ScreenOptions;
  readonly #busyInterval: number;
  readonly #idleInterval: number;
  readonly #restingInterval: number;
  readonly #vram: Window;
  /** The picture as it was last sent, rows without gaps. Reserved once; only what a picture fills is ever committed. */
  readonly #shadow: Window;
  readonly #viewers = new Set<Viewer>();
  readonly #bitmap: NativeBuffer;
  readonly #bitmapWords: Int32Array;
  #scanout: Scanout | null = null;
  #grid: TileGrid = tileGrid(0, 0);
  #changed: NativeBuffer = allocateBuffer(0);
  /** The shadow is not what the memory was at any time: compare everything. */
  #stale = true;
  #nextSeq = 0;
  /** Takes back the frame that is to come, at `#due` (performance.now()). */
  #cancel: (() => void) | null = null;
  #due = 0;
  #lastFrame = 0;
  /** When the picture changed last, or was expected to. */
  #lastChange = 0;

  constructor(options: ScreenOptions) {
    this.#options = options;
    this.#busyInterval = options.busyInterval ?? BUSY_MS;
    this.#idleInterval = options.idleInterval ?? IDLE_MS;
    this.#restingInterval = options.idleInterval ?? RESTING_MS;
    this.#vram = options.vram;
    this.#shadow = allocateWindow(VRAM_BYTES);
    this.#bitmap = allocateBuffer(VRAM_PAGES / 8);
    this.#bitmapWords = new Int32Array(this.#bitmap.bytes.buffer, 0, VRAM_PAGES / 32);
    options.adapter.onRegisters = () => this.#registersTouched();
    this.#follow();
  }

  /** The picture's size, or null while there is none. */
  get size(): ScreenSize | null {
    return this.#scanout === null ? null : { width: this.#scanout.width, height: this.#scanout.height };
  }

  /** Begins to send frames to `sink`, a whole one first (or one that says that there is none). */
  attach(sink: FrameSink): Attachment {
    const viewer = new Viewer(sink);
    viewer.restart(this.#grid.columns * this.#grid.rows);
    if (this.#viewers.size === 0) this.#stale = true;
    this.#viewers.add(viewer);
    this.#schedule(0);
    return {
      acknowledge: (seq) => {
        if (viewer.acknowledge(seq) && this.#viewers.has(viewer)) this.#schedule(this.#busyInterval);
      },
      detach: () => {
        this.#viewers.delete(viewer);
        if (this.#viewers.size === 0) this.#stop();
      },
    };
  }

  /** The picture as it stands, B G R X in a copy of its own; dark while the guest turned it off; null while there is none. */
  current(): { width: number; height: number; pixels: Uint8Array } | null {
    const scanout = this.#options.adapter.scanout();
    if (scanout === null) return null;
    const { width, height, stride, offset, blank } = scanout;
    const { bytes, address } = allocateBuffer(width * height * 4);
    if (!blank) copyPicture(this.#vram.address, offset, stride, width, height, address);
    return { width, height, pixels: bytes };
  }

  /** A key or the pointer went to the guest: its answer is looked for without delay. */
  expectChange(): void {
    this.#lastChange = performance.now();
    if (this.#cancel !== null) this.#schedule(this.#idleInterval);
  }

  /** Sends nothing more, to nobody. */
  close(): void {
    this.#viewers.clear();
    this.#stop();
    this.#options.adapter.onRegisters = null;
  }

  #registersTouched(): void {
    this.#follow();
    if (this.#viewers.size > 0) this.#schedule(this.#busyInterval);
  }

  /** Reads what the adapter shows and starts anew when it is another picture. */
  #follow(): void {
    const before = this.#scanout;
    const now = this.#options.adapter.scanout();
    this.#scanout = now;
    if (before === now) return;
    const sameSize = before !== null && now !== null && before.width === now.width && before.height === now.height;
    if (sameSize && before.stride === now.stride && before.offset === now.offset && before.blank === now.blank) return;
    this.#stale = true;
    // Another part of the memory in the same size (panning, a second page) is compared like any other change.
    if (sameSize && before.blank === now.blank) return;
    this.#grid = tileGrid(now?.width ?? 0, now?.height ?? 0);
    const tiles = this.#grid.columns * this.#grid.rows;
    if (this.#changed.bytes.length !== tiles) this.#changed = allocateBuffer(tiles);
    for (const viewer of this.#viewers) viewer.restart(tiles);
    if (!sameSize) this.#options.onModeChange?.(this.size);
  }

  /** Has `#frame` run once `interval` milliseconds have passed since the last one, or earlier if it was to. */
  #schedule(interval: number): void {
    const due = this.#lastFrame + interval;
    if (this.#cancel !== null) {
      if (this.#due <= due) return;
      this.#cancel();
    }
    this.#due = due;
    const run = (): void => {
      this.#cancel = null;
      this.#frame();
    };
    const wait = due - performance.now();
    if (wait > 0) {
      const timer = setTimeout(run, wait);
      this.#cancel = () => clearTimeout(timer);
    } else {
      // A timer is a millisecond at least.
      const immediate = setImmediate(run);
      this.#cancel = () => clearImmediate(immediate);
    }
  }

  #stop(): void {
    this.#cancel?.();
    this.#cancel = null;
  }

  #frame(): void {
    this.#lastFrame = performance.now();
    this.#follow();
    let sent = false;
    if (this.#anyReady()) {
      if (this.#scanout !== null && !this.#scanout.blank) this.#compare(this.#scanout);
      for (const viewer of this.#viewers) {
        if (!viewer.pending || !viewer.ready) continue;
        this.#send(viewer);
        sent = true;
      }
    }
    if (sent) this.#lastChange = this.#lastFrame;
    // Who owes acknowledgements wakes us with one.
    if (this.#anyReady() || this.#anyHeld()) this.#schedule(sent ? this.#busyInterval : this.#waitingInterval());
  }

  #waitingInterval(): number {
    return this.#lastFrame - this.#lastChange < QUIET_MS ? this.#idleInterval : this.#restingInterval;
  }

  #anyReady(): boolean {
    for (const viewer of this.#viewers) if (viewer.ready) return true;
    return false;
  }

  #anyHeld(): boolean {
    for (const viewer of this.#viewers) if (viewer.held) return true;
    return false;
  }

  #send(viewer: Viewer): void {
    const seq = this.#nextSeq;
    this.#nextSeq = (this.#nextSeq + 1) % SEQ_MODULUS;
    const scanout = this.#scanout;
    this.bytes += scanout === null || scanout.blank
      ? viewer.sendBlank(seq, scanout?.width ?? 0, scanout?.height ?? 0)
      : viewer.send(seq, { grid: this.#grid, shadow: this.#shadow.address, takenAt: performance.timeOrigin + performance.now() });
    this.frames++;
  }

  /** Brings the shadow up to date and gives every viewer what changed. */
  #compare({ offset, stride, width, height }: Scanout): void {
    const { adapter, log } = this.#options;
    const bitmap = this.#bitmap.bytes;
    if (!log.fetchAndClear(bitmap)) bitmap.fill(0);
    adapter.takeMarks(bitmap);
    if (adapter.takeAll() || this.#stale) bitmap.fill(0xff);
    this.#stale = false;
    if (!this.#anyPage(offset, stride * (height - 1) + width * 4)) return;
    const changed = this.#changed;
    changed.bytes.fill(0);
    const found = compareRows(this.#vram.address, offset, stride, width, height, this.#bitmap.address, this.#shadow.address, TILE_WIDTH, TILE_HEIGHT, changed.address);
    if (found === 0) return;
    for (const viewer of this.#viewers) viewer.damage(changed.bytes);
  }

  #anyPage(offset: number, length: number): boolean {
    const words = this.#bitmapWords;
    const last = Math.floor((offset + length - 1) / PAGE_BYTES) >>> 5;
    for (let word = Math.floor(offset / PAGE_BYTES) >>> 5; word <= last; word++) if (words[word] !== 0) return true;
    return false;
  }
}
