import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GuestMemory, HIGH_RAM_START, LOW_RAM_END } from './guest-memory.ts';
import { allocateWindow, MAX_WINDOW } from './window.ts';

const MiB = 2 ** 20;
const GiB = 2 ** 30;

for (const size of [64 * MiB, 512 * MiB, 6 * GiB]) {
  test(`${size / MiB} MiB lie below the hole first, then from 4 GiB on, congruent with the host modulo 2 MiB`, () => {
    const memory = GuestMemory.allocate(size);
    assert.equal(memory.size, size);
    memory.windows.forEach((window, i) => {
      assert.equal((memory.windowHva(i) - window.gpa) % (2 * MiB), 0);
      assert.ok(window.size <= MAX_WINDOW);
    });
    assert.ok(memory.write(0, Uint8Array.of(1)));
    const last = size <= LOW_RAM_END ? size - 1 : HIGH_RAM_START + size - LOW_RAM_END - 1;
    assert.ok(memory.write(last, Uint8Array.of(2)));
    assert.deepEqual([...memory.read(last, 1)!], [2]);
    assert.equal(memory.read(last + 1, 1), null);
    if (size > LOW_RAM_END) assert.equal(memory.read(LOW_RAM_END, 1), null, 'the hole is no RAM');
  });
}

test('32 windows of 2 GiB, a page touched in each', () => {
  const windows = Array.from({ length: 32 }, () => allocateWindow(MAX_WINDOW));
  windows.forEach((window, i) => {
    new Uint8Array(window.buffer, MAX_WINDOW - 4096, 4096)[0] = i + 1;
  });
  windows.forEach((window, i) => assert.equal(new Uint8Array(window.buffer, MAX_WINDOW - 4096, 1)[0], i + 1));
});

test('a buffer may span windows, and comes in order', () => {
  const memory = new GuestMemory(
    [0, 1, 2].map((i) => ({ gpa: i * 65536, size: 65536, buffer: allocateWindow(65536).buffer, offset: 0 })),
  );
  const data = Uint8Array.from({ length: 65536 + 200 }, (_, i) => (i * 7) & 0xff);
  assert.ok(memory.write(65536 - 100, data));
  assert.deepEqual(memory.read(65536 - 100, data.length), data);
  assert.equal(memory.segments(65536 - 100, data.length)!.length, 3);
});

test('whatever a guest gives for an address and a length: all of it in RAM, or null', () => {
  const size = 4 * MiB;
  const memory = GuestMemory.allocate(size);
  const numbers = fc.oneof(fc.integer({ min: -10, max: size + 10 }), fc.double(), fc.maxSafeInteger(), fc.constantFrom(2 ** 32, 2 ** 52, 2 ** 63, 2 ** 64, NaN, Infinity, -0));
  fc.assert(
    fc.property(numbers, numbers, (gpa, length) => {
      const pieces = memory.segments(gpa, length);
      const good = Number.isSafeInteger(gpa) && Number.isSafeInteger(length) && gpa >= 0 && length >= 0 && (length === 0 || gpa + length <= size);
      if (!good) assert.equal(pieces, null);
      else assert.ok(pieces!.reduce((sum, p) => sum + p.bytes.length, 0) === length);
    }),
    { numRuns: 2000 },
  );
});
