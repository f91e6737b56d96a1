// BARs that move under fire, on KVM: the guest `barfire`, whose movers place targets over each other and switch decoding while accessors read
// and write them and judge every access. Here: what the guest found, and what is left of it all in the machine and on the screen.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Canvas } from '../testing/canvas.ts';
import { said, started, until } from '../testing/whole-machine.ts';

const barfire = join(import.meta.dirname, '../../../build/guests/barfire.elf');
/** Of each of four movers. */
const MOVES = process.env['VITRINE_LONG'] === '1' ? 20_000 : 400;
const SIZE = 128;
/** A line of the picture has cells: pixels that accessors wrote last, with their tag in the red byte. */
const CELLS = [0x8000, 0x9104];

/** What the guest painted at an offset in video memory: 0x00RRGGBB. */
const painted = (offset: number): number => (Math.imul(offset >>> 2, 0x9e3779) & 0xffffff) >>> 0;

describe('BARs under fire', () => {
  it('loses no access, lets none reach what has gone, and leaves everything as it was', async (t) => {
    const machine = await started(barfire, { cpus: 8, display: { kind: 'canvas' }, boot: { kernel: barfire, append: `moves=${MOVES}` } });
    const before = machine.addressMap();
    await until('the guest begins', () => said(machine).includes('barfire begins'));
    const canvas = new Canvas();
    canvas.watch(machine, 'all along');
    await until('the guest has fired', () => /barfire done \d+/.test(said(machine)));
    const report = said(machine);
    t.diagnostic(/barfire targets.*/.exec(report)![0]);
    assert.match(report, /barfire done 0/, report);
    const counts = Object.fromEntries([...report.matchAll(/(\w+)=(\d+)/g)].map(([, name, count]) => [name, Number(count)]));
    for (const kind of ['on', 'off', 'loose', 'still']) assert.ok(counts[kind]! >= MOVES / 4, `accesses of every kind: ${report}`);

    // No region and no memory slot too many or too few.
    assert.deepEqual(machine.addressMap(), before);

    // The picture is what the guest painted, and the viewer has all that was drawn while the memory moved.
    const now = new Canvas();
    now.watch(machine, 'afterwards');
    await until('the picture', () => now.frames > 0);
    assert.deepEqual([now.width, now.height], [SIZE, SIZE]);
    for (let at = 0; at < SIZE * SIZE; at++) {
      const tag = CELLS.indexOf(at * 4) + 1;
      if (tag > 0) assert.equal(now.pixel(at) >> 16, tag);
      else assert.equal(now.pixel(at), painted(at * 4));
    }
    await until('who watched all along sees the same', () => Buffer.compare(canvas.pixels, now.pixels) === 0);
    await machine.serialWrite(Buffer.from('q'), new AbortController().signal);
    const outcome = await machine.ended;
    assert.deepEqual([outcome.how, outcome.exitCode], ['debug-exit', 1]);
  });
});
