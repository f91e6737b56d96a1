// BARs that move under fire, on KVM: the guest `barfire`, whose movers place targets over each other and switch decoding while accessors read
// and write them and judge every access. Here: what the guest found, and what is left of it all in the machine and on the screen.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Canvas } from '../testing/canvas.ts';
import { said, started, until } from '../testing/whole-machine.ts';

const barfire = join(import.meta.dirname, '../../../build/guests/barfire.elf');
/** Of each of four movers. */
const MOVES = process.env['VITRINE_LONG'] === '1' ? 5000 : 200;
const PATIENCE = MOVES * 300;
const SIZE = 128;
/** Offsets of the picture's two cells: pixels that accessors wrote last, with the cell's tag for red. */
const CELLS = [0x8000, 0x9104];
const FIRST_TAG = 0x80;
/** Pixels that an accessor drew once each while the memory moved, and those that were drawn beside another device's part of a page. */
const TRAIL = 0xa000;
const BESIDE = 0x4800;
const BESIDE_DOTS = 16;
const DOT = 0x400000;
/** Where video memory is then, and at which offset the other one's part is. */
const IN_PICTURE = 0xd000_0000;
const SMALL = 0x4c00;

/** What the guest painted at an offset in video memory: 0x00RRGGBB. */
const painted = (offset: number): number => (Math.imul(offset >>> 2, 0x9e3779) & 0x7fffff) | 0x800000;

describe('BARs under fire', () => {
  it('loses no access, lets none reach what has gone, and leaves everything as it was', async (t) => {
    const devices = Array.from({ length: 3 }, () => ({ kind: 'pci-test' as const }));
    const machine = await started(barfire, { cpus: 8, display: { kind: 'canvas' }, devices, boot: { kernel: barfire, append: `moves=${MOVES}` } });
    const go = (): Promise<void> => machine.serialWrite(Buffer.from('g'), new AbortController().signal);
    await until('the guest begins', () => said(machine).includes('barfire begins'));
    const before = machine.addressMap();
    const canvas = new Canvas();
    canvas.watch(machine, 'all along');
    const fresh = async (): Promise<Canvas> => {
      const now = new Canvas();
      const viewer = now.watch(machine, 'just now');
      await until('the picture', () => now.frames > 0);
      viewer.detach();
      return now;
    };
    const sees = (now: Canvas): Promise<void> => until('who watched all along sees the same', () => Buffer.compare(canvas.pixels, now.pixels) === 0);
    await go();

    // In the midst of it: pixels in a page of which another device has a part, which KVM cannot map. Nothing else changes any more.
    await until('the guest has fired', () => said(machine).includes('barfire covered'), PATIENCE);
    const part = machine.addressMap().memory.find(({ name, start }) => name.endsWith('bar5') && start === IN_PICTURE + SMALL);
    assert.equal(part?.size, 0x100);
    await sees(await fresh());
    await go();
    await until('the guest has painted', () => said(machine).includes('barfire painted'));
    const painting = await fresh();
    for (let dot = 0; dot < BESIDE_DOTS; dot++) assert.equal(painting.pixel(BESIDE / 4 + dot), DOT + dot);
    await sees(painting);
    await go();

    await until('all is where it was', () => /barfire done \d+/.test(said(machine)));
    const report = said(machine);
    t.diagnostic(/barfire targets.*/.exec(report)![0]);
    assert.match(report, /barfire done 0/, report);
    const counts = Object.fromEntries([...report.matchAll(/(\w+)=(\d+)/g)].map(([, name, count]) => [name, Number(count)]));
    for (const kind of ['on', 'off', 'loose', 'still', 'trail']) assert.ok(counts[kind]! >= MOVES / 4, `accesses of every kind: ${report}`);

    // No region and no memory slot too many or too few.
    assert.deepEqual(machine.addressMap(), before);

    // The picture is what the guest painted, and the viewer has all that was drawn while the memory moved.
    const now = await fresh();
    assert.deepEqual([now.width, now.height], [SIZE, SIZE]);
    for (let at = 0; at < SIZE * SIZE; at++) {
      const offset = at * 4;
      const cell = CELLS.indexOf(offset);
      if (cell >= 0) assert.equal(now.pixel(at) >> 16, FIRST_TAG + cell);
      else if (offset >= TRAIL && at - TRAIL / 4 < counts['trail']!) assert.equal(now.pixel(at), DOT + at - TRAIL / 4);
      else if (offset >= BESIDE && at - BESIDE / 4 < BESIDE_DOTS) assert.equal(now.pixel(at), DOT + at - BESIDE / 4);
      else assert.equal(now.pixel(at), painted(offset));
    }
    await sees(now);
    await go();
    const outcome = await machine.ended;
    assert.deepEqual([outcome.how, outcome.exitCode], ['debug-exit', 1]);
  });
});
