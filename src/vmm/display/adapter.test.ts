import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { FakePlatform, roundRobin } from '../testing/fake-platform.ts';
import { allocateWindow } from '../memory/window.ts';
import type { Handler, Width } from '../bus/handler.ts';
import { buildEdid } from './edid.ts';
import {
  BPP, DEFAULT_MODE, DisplayAdapter, ENABLE, ENABLED, GETCAPS, ID, ID5, LFB_ENABLED, MAX_XRES, MAX_YRES, NOCLEARMEM, VIDEO_MEMORY_64K, VIRT_HEIGHT, VIRT_WIDTH,
  VRAM_BYTES, VRAM_PAGES, XRES, X_OFFSET, YRES, Y_OFFSET,
} from './adapter.ts';

// One window for all tests: windows live as long as the process.
const vram = allocateWindow(VRAM_BYTES);

/** Three instances over the same slices; every access goes to the next one. */
function adapters() {
  const platform = new FakePlatform();
  const { all, next } = roundRobin(platform, (one) => new DisplayAdapter(one, vram));
  all[0]!.reset();
  const spread = (pick: (device: DisplayAdapter) => Handler): Handler => ({
    read: (offset, width) => {
      const device = next();
      return device.mutex.run(() => pick(device).read(offset, width));
    },
    write: (offset, width, value) => {
      const device = next();
      device.mutex.run(() => pick(device).write(offset, width, value));
    },
  });
  const mmio = spread((device) => device.mmio);
  return {
    platform, next, mmio,
    memory: spread((device) => device.memory),
    read: (index: number) => mmio.read(0x500 + index * 2, 2),
    write: (index: number, value: number) => mmio.write(0x500 + index * 2, 2, value),
  };
}

test('what Linux reads when it probes is there', () => {
  const { mmio, read, next } = adapters();
  assert.equal(read(ID) & 0xfff0, 0xb0c0);
  assert.equal(read(ID), ID5);
  assert.equal(read(VIDEO_MEMORY_64K) * 65536, VRAM_BYTES);
  assert.equal(mmio.read(0x600, 4), 8, 'extended registers');
  assert.equal(mmio.read(0x604, 4), 0x1e1e1e1e, 'little-endian');
  mmio.write(0x604, 4, 0xbebebebe);
  assert.equal(mmio.read(0x604, 4), 0x1e1e1e1e, 'and stays so');
  const edid = Uint8Array.from({ length: 128 }, (_, i) => mmio.read(i, 1));
  assert.deepEqual(edid, buildEdid(DEFAULT_MODE));
  assert.equal(mmio.read(4, 4), 0x00ffffff);
  const { config } = next();
  assert.equal(config.initialDword(0), 0x1111_1234);
  assert.equal(config.initialDword(8), 0x0380_0002);
  assert.deepEqual(config.bars.map((bar) => [bar.index, bar.kind, bar.size]), [[0, 'memory32', VRAM_BYTES], [2, 'memory32', 4096]]);
  assert.equal(config.bars[0]!.backing!.hva, vram.address);
});

test('a mode set as Linux does it is shown, and attention is asked for', () => {
  const { platform, read, write, next } = adapters();
  assert.equal(next().scanout(), null);
  platform.takeAttention('display0');
  for (const [index, value] of [[BPP, 32], [XRES, 1024], [YRES, 768], [VIRT_WIDTH, 1024], [VIRT_HEIGHT, 768], [X_OFFSET, 0], [Y_OFFSET, 0], [ENABLE, ENABLED | LFB_ENABLED]]) write(index!, value!);
  assert.ok(platform.takeAttention('display0'));
  assert.deepEqual(next().scanout(), { width: 1024, height: 768, stride: 4096, offset: 0, blank: false });
  assert.equal(read(XRES), 1024);
  // A second page below the first, as a page flip does it.
  write(Y_OFFSET, 768);
  assert.equal(next().scanout()!.offset, 768 * 4096);
  write(ENABLE, 0);
  assert.equal(next().scanout(), null);
});

test('a wider row than the picture, and panning in it', () => {
  const { write, next } = adapters();
  write(XRES, 800);
  write(YRES, 600);
  write(VIRT_WIDTH, 2000);
  write(ENABLE, ENABLED);
  write(X_OFFSET, 100);
  write(Y_OFFSET, 3);
  assert.deepEqual(next().scanout(), { width: 800, height: 600, stride: 8000, offset: 3 * 8000 + 400, blank: false });
  write(XRES, 640);
  assert.equal(next().scanout()!.stride, 2560, 'a new width makes rows of its length');
});

test('depths other than 32 and sizes beyond the largest are refused', () => {
  const { read, write } = adapters();
  for (const depth of [0, 4, 8, 15, 16, 24, 33, 0xffff]) {
    write(BPP, depth);
    assert.equal(read(BPP), 32);
  }
  write(XRES, 640);
  write(XRES, MAX_XRES + 1);
  assert.equal(read(XRES), 640);
  write(YRES, MAX_YRES + 1);
  assert.equal(read(YRES), 0);
  write(ID, 0xb0c0);
  assert.equal(read(ID), ID5);
  write(ENABLE, GETCAPS | NOCLEARMEM);
  assert.deepEqual([read(XRES), read(YRES), read(BPP)], [MAX_XRES, MAX_YRES, 32]);
  write(ENABLE, 0);
  assert.equal(read(XRES), 640);
});

test('accesses of other widths: 32 bits are two registers, bytes are read and not written', () => {
  const { mmio, read, write } = adapters();
  write(XRES, 0x0280);
  assert.equal(mmio.read(0x502, 1), 0x80);
  assert.equal(mmio.read(0x503, 1), 0x02);
  mmio.write(0x502, 1, 0xff);
  mmio.write(0x503, 2, 0xffff);
  assert.equal(read(XRES), 0x0280);
  mmio.write(0x502, 4, 600 * 65536 + 800);
  assert.deepEqual([read(XRES), read(YRES)], [800, 600]);
  assert.equal(mmio.read(0x502, 4), 600 * 65536 + 800);
});

test('Linux blanks and unblanks by the attribute index', () => {
  const { mmio, next } = adapters();
  next().setMode({ width: 640, height: 480 });
  mmio.read(0x41a, 1);
  mmio.write(0x400, 1, 0);
  assert.equal(next().scanout()!.blank, true);
  mmio.write(0x400, 1, 0x20); // this one is data
  assert.equal(next().scanout()!.blank, true);
  mmio.read(0x41a, 1);
  mmio.write(0x400, 1, 0x20);
  assert.equal(next().scanout()!.blank, false);
});

test('video memory through the handler is the same memory, and its pages are marked', () => {
  const { memory, next } = adapters();
  const bytes = new Uint8Array(vram.buffer, 0, VRAM_BYTES);
  const bitmap = new Uint8Array(VRAM_PAGES / 8);
  next().takeMarks(bitmap);
  bitmap.fill(0);
  assert.equal(next().takeMarks(bitmap), false);
  memory.write(4096 * 9 - 2, 4, 0xdeadbeef);
  assert.equal(memory.read(4096 * 9 - 2, 4), 0xdeadbeef);
  assert.deepEqual([...bytes.subarray(4096 * 9 - 2, 4096 * 9 + 2)], [0xef, 0xbe, 0xad, 0xde]);
  memory.write(VRAM_BYTES - 1, 1, 7);
  assert.equal(next().takeMarks(bitmap), true);
  const marked = Array.from({ length: VRAM_PAGES }, (_, page) => page).filter((page) => (bitmap[page >> 3]! >> (page & 7)) & 1);
  assert.deepEqual(marked, [8, 9, VRAM_PAGES - 1]);
  assert.equal(next().takeMarks(bitmap), false);
});

test('the largest mode fits twice, and direct boot starts cleared', () => {
  const { memory, next } = adapters();
  memory.write(0, 4, 0x12345678);
  const scanout = next().setMode({ width: 2560, height: 1600 });
  assert.ok(scanout.stride * scanout.height * 2 <= VRAM_BYTES);
  assert.equal(memory.read(0, 4), 0);
  assert.equal(next().takeAll(), true);
  assert.equal(next().takeAll(), false);
  assert.throws(() => next().setMode({ width: 4096, height: 4096 }), /4096x4096/);
});

test('whatever a guest writes, nothing throws and nothing outside of the memory is shown', () => {
  const write = fc.record({
    // Mostly registers, with values near the limits.
    offset: fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 0x500 / 2, max: 0x518 / 2 }).map((n) => n * 2) }, fc.integer({ min: 0, max: 4095 })),
    width: fc.constantFrom<Width>(1, 2, 4),
    value: fc.oneof(fc.constantFrom(0, 1, 2, 64, 640, 0x41, 4095, 4096, 4097, 0xffff), fc.integer({ min: 0, max: 0xffff_ffff })),
  });
  fc.assert(fc.property(fc.array(write, { maxLength: 40 }), (writes) => {
    const { mmio, next } = adapters();
    for (const { offset, width, value } of writes) {
      const inside = Math.min(offset, 4096 - width);
      mmio.write(inside, width, width === 4 ? value : value & (2 ** (width * 8) - 1));
      const read = mmio.read(inside, width);
      assert.ok(Number.isInteger(read) && read >= 0 && read < 2 ** (width * 8));
      const scanout = next().scanout();
      if (scanout === null) continue;
      assert.ok(scanout.offset >= 0 && scanout.stride >= scanout.width * 4);
      assert.ok(scanout.offset + (scanout.height - 1) * scanout.stride + scanout.width * 4 <= VRAM_BYTES);
    }
  }), { numRuns: 300 });
});
