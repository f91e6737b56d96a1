import { afterEach, test } from 'node:test';
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { MAX_IN_FLIGHT, decodeFrame } from '../../shared/protocol/frames.ts';
import type { Frame } from '../../shared/protocol/frames.ts';
import { allocateWindow } from '../memory/window.ts';
import { FakePlatform } from '../testing/fake-platform.ts';
import { DisplayAdapter, PAGE_BYTES, VRAM_BYTES } from './adapter.ts';
import type { Scanout } from './adapter.ts';
import { ScreenSource } from './screen-source.ts';
import type { Attachment, DirtyLog, ScreenSize } from './screen-source.ts';

const vram = allocateWindow(VRAM_BYTES);
const memory = new Uint8Array(vram.buffer, 0, VRAM_BYTES);

/** A guest: writes memory and its dirty log, or through the trapped handler. */
class Guest implements DirtyLog {
  readonly adapter = new DisplayAdapter(new FakePlatform(), vram);
  /** Times the log was asked for. */
  asked = 0;
  #dirty = new Set<number>();

  fetchAndClear(bitmap: Uint8Array): boolean {
    this.asked++;
    if (this.#dirty.size === 0) return false;
    bitmap.fill(0);
    for (const page of this.#dirty) bitmap[page >> 3]! |= 1 << (page & 7);
    this.#dirty.clear();
    return true;
  }

  poke(offset: number, value: number): void {
    memory[offset] = value;
    this.#dirty.add(Math.floor(offset / PAGE_BYTES));
  }

  pokeTrapped(offset: number, value: number): void {
    this.adapter.mutex.run(() => this.adapter.memory.write(offset, 1, value));
  }

  register(index: number, value: number): void {
    this.adapter.mutex.run(() => this.adapter.mmio.write(0x500 + index * 2, 2, value));
    this.adapter.service();
  }

  blank(on: boolean): void {
    this.adapter.mutex.run(() => {
      this.adapter.mmio.read(0x41a, 1);
      this.adapter.mmio.write(0x400, 1, on ? 0 : 0x20);
    });
    this.adapter.service();
  }

  /** The BAR moves: its slot is made anew, and the log of the old one is lost. */
  move(): void {
    this.#dirty.clear();
    this.adapter.remapped(0);
  }

  /** What a viewer should see. */
  picture(): Buffer | null {
    const scanout: Scanout | null = this.adapter.scanout();
    if (scanout === null || scanout.blank) return null;
    const { width, height, stride, offset } = scanout;
    return Buffer.concat(Array.from({ length: height }, (_, y) => memory.slice(offset + y * stride, offset + y * stride + width * 4)));
  }
}

/** A viewer that keeps the picture as the page does, and acknowledges when it is told to. */
class TestViewer {
  picture: Buffer | null = null;
  width = 0;
  height = 0;
  frames: Frame[] = [];
  owed: number[] = [];
  waiting = 0;
  attachment: Attachment;

  constructor(source: ScreenSource) {
    this.attachment = source.attach({ send: (message) => this.#receive(message), buffered: () => this.waiting });
  }

  #receive(message: Uint8Array): void {
    const frame = decodeFrame(Uint8Array.from(message));
    assert.ok(frame, 'a frame that decodes');
    this.owed.push(frame.seq);
    assert.ok(this.owed.length <= MAX_IN_FLIGHT, 'no more in flight than allowed');
    if (this.frames.length === 0) assert.ok(frame.whole, 'a whole frame first');
    this.frames.push(frame);
    if (frame.whole) {
      this.width = frame.width;
      this.height = frame.height;
      this.picture = frame.blank ? null : Buffer.alloc(frame.width * frame.height * 4);
    }
    assert.deepEqual([frame.width, frame.height], [this.width, this.height]);
    let at = 0;
    for (const r of frame.rectangles) {
      for (let y = 0; y < r.height; y++, at += r.width * 4) this.picture!.set(frame.pixels.subarray(at, at + r.width * 4), ((r.y + y) * this.width + r.x) * 4);
    }
    assert.equal(at, frame.pixels.length);
  }

  acknowledge(count = this.owed.length): void {
    const seq = this.owed.splice(0, count).at(-1);
    if (seq !== undefined) this.attachment.acknowledge(seq);
  }
}

/** Closed after each test: one that looks all the time would keep the process alive. */
const open = new Set<ScreenSource>();
afterEach(() => {
  for (const source of open) source.close();
  open.clear();
});

function machine(width: number, height: number) {
  memory.fill(0, 0, 2 ** 20);
  const guest = new Guest();
  guest.adapter.reset();
  const sizes: (ScreenSize | null)[] = [];
  const source = new ScreenSource({ adapter: guest.adapter, vram, log: guest, busyInterval: 0, idleInterval: 0, onModeChange: (size) => sizes.push(size) });
  open.add(source);
  if (width > 0) {
    guest.adapter.setMode({ width, height });
    guest.adapter.service();
  }
  return { guest, source, sizes };
}

function same(a: Buffer | null, b: Buffer | null): boolean {
  return a === null || b === null ? a === b : a.equals(b);
}

/** Lets the source look a few times. */
async function turns(count = 4): Promise<void> {
  for (let i = 0; i < count; i++) await turn();
}

test('a viewer gets the whole picture, then only the tiles that changed', async () => {
  const { guest, source } = machine(640, 480);
  guest.poke(0, 1);
  const viewer = new TestViewer(source);
  await turns();
  assert.equal(viewer.frames.length, 1);
  assert.deepEqual(viewer.frames[0]!.rectangles, [{ x: 0, y: 0, width: 640, height: 480 }]);
  viewer.acknowledge();
  await turns();
  assert.equal(viewer.frames.length, 1, 'nothing while nothing changes');
  guest.poke((100 * 640 + 200) * 4, 9);
  await turns();
  assert.deepEqual(viewer.frames[1]!.rectangles, [{ x: 192, y: 96, width: 64, height: 16 }]);
  guest.poke((100 * 640 + 200) * 4, 9);
  viewer.acknowledge();
  await turns();
  assert.equal(viewer.frames.length, 2, 'nothing for a page that was written with what it had');
  assert.deepEqual(viewer.picture, guest.picture());
  source.close();
});

test('without a viewer, or with one that owes acknowledgements, the log is not asked', async () => {
  const { guest, source } = machine(640, 480);
  await turns(10);
  assert.equal(guest.asked, 0);
  const viewer = new TestViewer(source);
  await turns();
  guest.poke(0, 1);
  await turns();
  assert.equal(viewer.owed.length, 2);
  const asked = guest.asked;
  for (let i = 0; i < 5; i++) {
    guest.poke(i * 5000, i + 2);
    await turns();
  }
  assert.equal(guest.asked, asked);
  assert.equal(viewer.frames.length, 2);
  viewer.acknowledge();
  await turns();
  assert.equal(viewer.frames.length, 3, 'what happened meanwhile comes as one frame');
  assert.deepEqual(viewer.picture, guest.picture());
  viewer.attachment.detach();
  await turns();
  const last = guest.asked;
  await turns(10);
  assert.equal(guest.asked, last);
});

test('a viewer that acknowledges without reading gets no more', async () => {
  const { guest, source } = machine(640, 480);
  const viewer = new TestViewer(source);
  await turns();
  viewer.waiting = 10 * 2 ** 20;
  for (let i = 0; i < 20; i++) {
    guest.poke(i, 255);
    viewer.acknowledge();
    await turns();
  }
  assert.equal(viewer.frames.length, 1);
  viewer.waiting = 0;
  await turns();
  assert.deepEqual(viewer.picture, guest.picture());
  source.close();
});

test('a slow viewer does not hold another', async () => {
  const { guest, source } = machine(640, 480);
  const slow = new TestViewer(source);
  const quick = new TestViewer(source);
  for (let i = 1; i <= 30; i++) {
    guest.poke(i * 1000, i);
    await turns();
    quick.acknowledge();
    assert.deepEqual(quick.picture, guest.picture());
  }
  assert.equal(slow.frames.length, 2);
  slow.acknowledge();
  await turns();
  assert.deepEqual(slow.picture, guest.picture());
  source.close();
});

test('no picture, a mode, a blank screen: each is said once', async () => {
  const { guest, source, sizes } = machine(0, 0);
  const viewer = new TestViewer(source);
  await turns();
  assert.deepEqual(viewer.frames.map(({ blank, width }) => [blank, width]), [[true, 0]]);
  assert.equal(source.current(), null);
  viewer.acknowledge();
  guest.adapter.setMode({ width: 800, height: 600 });
  guest.adapter.service();
  await turns();
  viewer.acknowledge();
  guest.blank(true);
  await turns();
  viewer.acknowledge();
  guest.blank(false);
  await turns();
  viewer.acknowledge();
  await turns();
  assert.deepEqual(viewer.frames.map(({ blank, width, whole }) => [blank, width, whole]), [[true, 0, true], [false, 800, true], [true, 800, true], [false, 800, true]]);
  assert.deepEqual(sizes, [{ width: 800, height: 600 }]);
  guest.register(4, 0);
  assert.deepEqual(sizes.at(-1), null);
  source.close();
});

test('the current picture needs no viewer', () => {
  const { guest, source } = machine(640, 480);
  guest.poke(5, 77);
  const { width, height, pixels } = source.current()!;
  assert.deepEqual([width, height, pixels[5]], [640, 480, 77]);
  guest.blank(true);
  assert.equal(source.current()!.pixels.every((byte) => byte === 0), true);
  source.close();
});

test('whatever the guest and the viewers do, every viewer ends with the exact picture', async () => {
  const offset = fc.integer({ min: 0, max: 400 * 200 * 4 - 1 });
  const byte = fc.integer({ min: 0, max: 255 });
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('draw' as const), at: offset, length: fc.integer({ min: 1, max: 3000 }), value: byte, trapped: fc.boolean() }) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('ack' as const), viewer: fc.nat(2), count: fc.integer({ min: 1, max: 2 }) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('wait' as const), turns: fc.integer({ min: 1, max: 4 }) }) },
    fc.record({ kind: fc.constant('garbage' as const), viewer: fc.nat(2), seq: fc.integer({ min: 0, max: 0xffff_ffff }) }),
    fc.record({ kind: fc.constant('mode' as const), width: fc.integer({ min: 64, max: 400 }), height: fc.integer({ min: 64, max: 200 }) }),
    fc.record({ kind: fc.constant('pan' as const), x: fc.nat(50), y: fc.nat(50) }),
    fc.record({ kind: fc.constant('blank' as const), on: fc.boolean() }),
    fc.record({ kind: fc.constant('move' as const) }),
    fc.record({ kind: fc.constant('attach' as const), viewer: fc.nat(2) }),
    fc.record({ kind: fc.constant('detach' as const), viewer: fc.nat(2) }),
  );
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 60, size: 'max' }), async (steps) => {
    for (const source of open) source.close();
    const { guest, source } = machine(300, 130);
    const viewers: (TestViewer | null)[] = [new TestViewer(source), null, null];
    for (const one of steps) {
      if (one.kind === 'draw') {
        for (let i = 0; i < one.length; i++) {
          if (one.trapped) guest.pokeTrapped(one.at + i, one.value);
          else guest.poke(one.at + i, one.value);
        }
      } else if (one.kind === 'ack') viewers[one.viewer]?.acknowledge(one.count);
      else if (one.kind === 'wait') await turns(one.turns);
      else if (one.kind === 'garbage') {
        const viewer = viewers[one.viewer];
        if (viewer && !viewer.owed.includes(one.seq)) viewer.attachment.acknowledge(one.seq);
      } else if (one.kind === 'mode') {
        guest.register(1, one.width);
        guest.register(2, one.height);
      } else if (one.kind === 'pan') {
        guest.register(8, one.x);
        guest.register(9, one.y);
      } else if (one.kind === 'blank') guest.blank(one.on);
      else if (one.kind === 'move') guest.move();
      else {
        viewers[one.viewer]?.attachment.detach();
        viewers[one.viewer] = one.kind === 'attach' ? new TestViewer(source) : null;
      }
    }
    for (let quiet = 0; quiet < 3; ) {
      await turns();
      quiet = viewers.every((viewer) => (viewer?.owed.length ?? 0) === 0) ? quiet + 1 : 0;
      for (const viewer of viewers) viewer?.acknowledge();
    }
    const wanted = guest.picture();
    for (const viewer of viewers) if (viewer !== null) assert.ok(same(viewer.picture, wanted));
    source.close();
  }), { numRuns: 100 });
});
