import assert from 'node:assert/strict';
import { closeSync, openSync, readSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { GuestMemory } from '../../memory/guest-memory.ts';
import { allocateWindow } from '../../memory/window.ts';
import { eagerDriver } from '../testing/eager.ts';
import { FUZZ_STEPS, fuzzDevice } from '../testing/fuzz.ts';
import { RAM_BYTES, VirtioRig } from '../testing/rig.ts';
import { BalloonBackend, LEAST } from './backend.ts';
import { DropGate } from './drop-gate.ts';
import { runsOf } from './drop.ts';
import { balloonModel, DEFLATE, F_PAGE_POISON, F_REPORTING, F_STATS_VQ, INFLATE, PAGE, REPORTING, STATS } from './model.ts';

const CONFIG = 0x2000;
const FIRST = 0x90_0000;

function balloon(gate = new DropGate(), packed = false): VirtioRig {
  return new VirtioRig({ model: balloonModel(), backend: (host) => new BalloonBackend(host, gate), packed });
}

const numbers = (...pages: number[]): Uint8Array => new Uint8Array(Uint32Array.from(pages).buffer);

/** Whether the host holds this page of guest RAM: bit 63 of its entry (pagemap.rst). Looking does not bring it back. */
function held(rig: VirtioRig, gpa: number): boolean {
  const fd = openSync('/proc/self/pagemap', 'r');
  const entry = Buffer.alloc(8);
  try {
    readSync(fd, entry, 0, 8, ((rig.ram.windowHva(0) + gpa) / PAGE) * 8);
  } finally {
    closeSync(fd);
  }
  return (entry[7]! & 0x80) !== 0;
}

/** Eight pages from FIRST on, with something in each. */
function touch(rig: VirtioRig): number[] {
  const pages = Array.from({ length: 8 }, (_, i) => FIRST + i * PAGE);
  for (const page of pages) rig.ram.write(page, Uint8Array.of(7));
  assert.ok(pages.every((page) => held(rig, page)));
  return pages;
}

const heldOf = (rig: VirtioRig, pages: readonly number[]): string => pages.map((page) => (held(rig, page) ? 'x' : '.')).join('');
const first = FIRST / PAGE;

for (const packed of [false, true]) {
  describe(`balloon with ${packed ? 'packed' : 'split'} rings`, () => {
    test('gives what the guest gives back to the host, and nothing else', () => {
      const rig = balloon(new DropGate(), packed);
      const queues = rig.setUp({ wanted: packed ? rig.offered() : undefined });
      const pages = touch(rig);
      queues[INFLATE]!.add([queues[INFLATE]!.put(numbers(first + 2, first + 1, RAM_BYTES / PAGE, 0xffff_ffff, first + 4, first + 1))]);
      rig.kick(INFLATE);
      rig.work();
      assert.equal(heldOf(rig, pages), 'x..x.xxx');
      assert.deepEqual(rig.interrupts(), [INFLATE + 1]);
      queues[DEFLATE]!.add([queues[DEFLATE]!.put(numbers(first + 2))]);
      rig.kick(DEFLATE);
      rig.work();
      assert.equal(queues[DEFLATE]!.used().length, 1);
      assert.deepEqual(rig.ram.read(pages[2]!, 1), Uint8Array.of(0), 'a page like new');
      rig.close();
    });

    test('gives reported pages back, by either number of the queue', () => {
      for (const number of [REPORTING, STATS + 1]) {
        const rig = balloon(new DropGate(), packed);
        const offered = rig.offered().filter((feature) => packed || feature !== 34);
        const queues = rig.setUp({ wanted: offered });
        if (number !== REPORTING) {
          rig.resetDevice();
          rig.setUp({ wanted: offered, queues: [INFLATE, DEFLATE, STATS, STATS + 1] }).forEach((queue, index) => (queues[index] = queue));
        }
        const pages = touch(rig);
        queues[number]!.add([{ address: pages[1]!, length: 2 * PAGE, writable: true }, { address: pages[4]! + 8, length: 2 * PAGE, writable: true }]);
        rig.kick(number);
        rig.work();
        assert.equal(heldOf(rig, pages), 'x..xx.xx', 'whole pages only');
        rig.close();
      }
    });
  });
}

test('leaves reported pages alone when the guest fills free ones with a value', () => {
  const rig = balloon();
  const queues = rig.setUp();
  assert.ok(rig.offered().includes(F_PAGE_POISON));
  rig.write(CONFIG + 12, 4, 0xaaaa_aaaa);
  const pages = touch(rig);
  queues[REPORTING]!.add([{ address: pages[0]!, length: 8 * PAGE, writable: true }]);
  rig.kick(REPORTING);
  rig.work();
  assert.equal(heldOf(rig, pages), 'xxxxxxxx');
  assert.equal(queues[REPORTING]!.used().length, 1);
  rig.close();
});

test('asks for memory by the configuration, and says how far the guest is', () => {
  const rig = balloon();
  rig.setUp();
  const bytes = RAM_BYTES;
  assert.throws(() => rig.runner.mail({ kind: 'balloon', bytes: bytes + PAGE }), /from 16 to 16 MiB/);
  assert.throws(() => rig.runner.mail({ kind: 'balloon', bytes: LEAST - 1 }), /from 16 to 16 MiB/);
  rig.runner.mail({ kind: 'balloon', bytes });
  assert.equal(rig.read(CONFIG, 4), 0);
  rig.news.length = 0;
  rig.write(CONFIG + 4, 4, 3);
  rig.write(CONFIG + 4, 4, 5);
  for (let i = 0; i < 100 && rig.news.length === 0; i++) rig.work(1, 20);
  assert.deepEqual(rig.news, [{ kind: 'balloon', target: bytes, actual: bytes - 5 * PAGE, off: false }]);
  rig.resetDevice();
  assert.equal(rig.read(CONFIG + 4, 4), 0);
  rig.close();
});

test('beside a passed-through device it takes nothing, and reports are not even asked for', () => {
  const gate = new DropGate();
  const rig = balloon(gate);
  const queues = rig.setUp();
  assert.ok(rig.offered().includes(F_REPORTING));
  const pages = touch(rig);
  gate.close();
  rig.runner.mail({ kind: 'balloon-gate' });
  queues[INFLATE]!.add([queues[INFLATE]!.put(numbers(first, first + 1))]);
  queues[REPORTING]!.add([{ address: pages[2]!, length: 2 * PAGE, writable: true }]);
  rig.kick(INFLATE);
  rig.kick(REPORTING);
  rig.work();
  assert.equal(heldOf(rig, pages), 'xxxxxxxx');
  assert.throws(() => rig.runner.mail({ kind: 'balloon', bytes: RAM_BYTES }), /a device is passed through/);
  gate.open();
  rig.runner.mail({ kind: 'balloon-gate' });
  queues[INFLATE]!.add([queues[INFLATE]!.put(numbers(first, first + 1))]);
  rig.kick(INFLATE);
  rig.work();
  assert.equal(heldOf(rig, pages), '..xxxxxx');
  rig.close();
  gate.close();
  const later = balloon(gate);
  assert.ok(!later.offered().includes(F_REPORTING));
  later.close();
});

test('asks for statistics while somebody watches', () => {
  const rig = balloon();
  const queues = rig.setUp();
  assert.ok(rig.offered().includes(F_STATS_VQ));
  const entry = (tag: number, value: bigint): Buffer => {
    const bytes = Buffer.alloc(10);
    bytes.writeUInt16LE(tag, 0);
    bytes.writeBigUInt64LE(value, 2);
    return bytes;
  };
  const said = Buffer.concat([entry(4, 1000n), entry(5, 2n ** 33n), entry(6, 2n ** 64n - 1n), entry(99, 1n), Buffer.of(7, 0)]);
  queues[STATS]!.add([queues[STATS]!.put(said)]);
  rig.kick(STATS);
  rig.work();
  assert.deepEqual(queues[STATS]!.used(), [], 'the device keeps it');
  rig.runner.mail({ kind: 'balloon-watch', on: true });
  rig.work();
  assert.equal(queues[STATS]!.used().length, 1, 'and gives it back to ask');
  rig.news.length = 0;
  for (let i = 0; i < 100 && rig.news.length === 0; i++) rig.work(1, 20);
  assert.deepEqual(rig.news, [{ kind: 'balloon', target: RAM_BYTES, actual: RAM_BYTES, off: false, guest: { free: 1000, total: 2 ** 33, available: Number.MAX_SAFE_INTEGER } }]);
  rig.runner.mail({ kind: 'balloon-watch', on: false });
  rig.close();
});

test('runs are those pages of RAM that were named, each once and within one window', () => {
  const window = (gpa: number, pages: number) => ({ gpa, size: pages * PAGE, buffer: allocateWindow(pages * PAGE).buffer, offset: 0 });
  const ram = new GuestMemory([window(0, 8), window(8 * PAGE, 8), window(32 * PAGE, 4)]);
  fc.assert(fc.property(fc.array(fc.nat(40)), (named) => {
    const found = new Set<number>();
    for (const [gpa, bytes] of runsOf(ram, Float64Array.from(named, (page) => page * PAGE))) {
      assert.equal(ram.windowAt(gpa), ram.windowAt(gpa + bytes - PAGE));
      for (let at = gpa; at < gpa + bytes; at += PAGE) {
        assert.ok(!found.has(at / PAGE));
        found.add(at / PAGE);
      }
    }
    assert.deepEqual([...found].sort((a, b) => a - b), [...new Set(named)].filter((page) => page < 16 || (page >= 32 && page < 36)).sort((a, b) => a - b));
  }));
});

for (const [what, index] of [['pages that it takes back', DEFLATE], ['statistics', STATS], ['pages that it reports', REPORTING]] as const) {
  test(`leaves the loop its turns, however many ${what} the driver tells of`, () => {
    eagerDriver({ model: balloonModel(), backend: (host) => new BalloonBackend(host, new DropGate()), index, buffers: (queue) => [queue.put(numbers(first))] });
  });
}

for (const seed of [1, 2, 3]) {
  test(`outlives a driver that does everything wrong, seed ${seed}`, () => {
    const gate = new DropGate();
    fuzzDevice({
      seed, steps: FUZZ_STEPS, model: balloonModel, backend: (host) => new BalloonBackend(host, gate),
      message: (chance, queue) => {
        // Rings lie in the first MiBs: a driver that gives them away gets what it asked for, here it keeps to its other memory.
        if (queue === INFLATE) return numbers(...Array.from({ length: chance.below(40) }, () => (chance.below(20) === 0 ? chance.below(2 ** 32) : 0xb00 + chance.below(256))));
        return chance.bytes(chance.below(100));
      },
      mail: (chance, rig) => {
        if (gate.closed) gate.open();
        else if (chance.below(4) === 0) gate.close();
        rig.runner.mail(chance.pick([{ kind: 'balloon-gate' }, { kind: 'balloon-watch', on: chance.below(2) === 0 }]));
        if (!gate.closed) rig.runner.mail({ kind: 'balloon', bytes: RAM_BYTES });
      },
      works: (rig, queues) => {
        if (gate.closed) gate.open();
        const pages = touch(rig);
        queues[INFLATE]!.add([queues[INFLATE]!.put(numbers(first))]);
        rig.kick(INFLATE);
        rig.work();
        assert.equal(heldOf(rig, pages), '.xxxxxxx');
      },
    });
  });
}
