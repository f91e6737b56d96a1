import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TEST_WINDOWS } from './testing.ts';
import { HIGH, HVA, LOW, command, rig, set } from './test-rig.ts';
import type { Rig, TestBar } from './test-rig.ts';

// The reference model: registers as numbers, claims as a list, "who answers this address" by looking at all of them.

interface ModelBar { device: number; bar: TestBar; value: number; rom: boolean; sequence: number; at: number }

class Model {
  readonly bars: ModelBar[];
  readonly commands: number[];
  #clock = 0;

  constructor(devices: TestBar[][]) {
    this.bars = devices.flatMap((bars, device) => bars.map((bar): ModelBar => ({ device, bar, value: 0, rom: false, sequence: 0, at: 0 })));
    this.commands = devices.map(() => 0);
  }

  /** The state after a write, without changing this. */
  after(device: number, write: (model: Model) => void): Model {
    const next = new Model([]);
    next.bars.push(...this.bars.map((each) => ({ ...each })));
    next.commands.push(...this.commands);
    next.#clock = this.#clock;
    write(next);
    for (const each of next.bars) {
      if (each.device !== device) continue;
      const on = each.bar.kind === 'io' ? (next.commands[device]! & 1) !== 0 : (next.commands[device]! & 2) !== 0 && (each.bar.kind !== 'rom' || each.rom);
      if (!on) each.sequence = 0;
      else if (each.sequence === 0 || each.at !== each.value) {
        each.sequence = ++next.#clock;
        each.at = each.value;
      }
    }
    return next;
  }

  who(space: 'io' | 'memory', address: number): ModelBar | undefined {
    const windows = space === 'io' ? [TEST_WINDOWS.io] : [TEST_WINDOWS.memory, TEST_WINDOWS.high!];
    let newest: ModelBar | undefined;
    for (const each of this.bars) {
      if (each.sequence === 0 || (each.bar.kind === 'io') !== (space === 'io')) continue;
      if (address < each.at || address >= each.at + each.bar.size) continue;
      if (!windows.some(({ start, end }) => each.at >= start && each.at + each.bar.size <= end)) continue;
      if (newest === undefined || each.sequence > newest.sequence) newest = each;
    }
    return newest;
  }

  /** Where the BAR answers at least one unit, or undefined. */
  active(bar: ModelBar, unit: number): number | undefined {
    for (let offset = 0; offset < bar.bar.size; offset += unit) if (this.who(bar.bar.kind === 'io' ? 'io' : 'memory', bar.at + offset) === bar) return bar.at;
    return undefined;
  }
}

const DEVICES: TestBar[][] = [
  [{ index: 0, kind: 'memory32', size: 0x8000, backing: { hva: HVA, bytes: 0x8000, dirtyLog: true } }, { index: 1, kind: 'io', size: 16 }, { index: 2, kind: 'memory64', size: 0x4000 }],
  [{ index: 0, kind: 'memory64', size: 0x4000, backing: { hva: HVA * 2, bytes: 0x3000, dirtyLog: false } }, { index: 2, kind: 'memory32', size: 0x400 }, { index: 6, kind: 'rom', size: 0x1000, backing: { hva: HVA * 3, bytes: 0x1000, dirtyLog: false } }],
  [{ index: 5, kind: 'io', size: 64 }, { index: 1, kind: 'memory32', size: 0x1000 }],
];
const UNIT = { io: 4, memory: 0x400 } as const;

type Operation = { kind: 'bar'; which: number; half: boolean; value: number } | { kind: 'command'; device: number; value: number } | { kind: 'fail'; device: number };

const lowValue = fc.oneof({ weight: 6, arbitrary: fc.nat(15).map((page) => LOW + page * 0x1000) }, { weight: 2, arbitrary: fc.nat(63).map((page) => page * 0x400) }, { weight: 2, arbitrary: fc.constantFrom(0xffff_ffff, 0, 0xfec0_0000 - 0x4000, 0xfec0_0000 - 0x1000) }, { weight: 4, arbitrary: fc.nat(31).map((at) => 0x1000 + at * 4) }, fc.nat(0xffff_ffff));
const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('bar' as const), which: fc.nat(7), half: fc.boolean(), value: lowValue }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('bar' as const), which: fc.constantFrom(2, 3), half: fc.constant(true), value: fc.constantFrom(0, HIGH / 2 ** 32, 0xffff_ffff) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('command' as const), device: fc.nat(2), value: fc.nat(7) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('fail' as const), device: fc.nat(2) }) },
);

function mask(bar: TestBar): number {
  const least = bar.kind === 'io' ? 4 : bar.kind === 'rom' ? 2048 : 16;
  return Math.max(bar.size, least);
}

/** What the model's registers become by this operation. */
function applied(model: Model, op: Exclude<Operation, { kind: 'fail' }>): Model {
  if (op.kind === 'command') {
    return model.after(op.device, (next) => {
      const kinds = next.bars.filter((each) => each.device === op.device).map((each) => (each.bar.kind === 'io' ? 1 : 2));
      next.commands[op.device] = op.value & (4 | kinds.reduce((all, kind) => all | kind, 0));
    });
  }
  const target = model.bars[op.which]!;
  return model.after(target.device, (next) => {
    const each = next.bars[op.which]!;
    const high = Math.floor(each.value / 2 ** 32);
    const low = each.value % 2 ** 32;
    const aligned = op.value - (op.value % mask(each.bar));
    if (each.bar.kind === 'memory64' && op.half) each.value = op.value * 2 ** 32 + low;
    else each.value = high * 2 ** 32 + aligned;
    if (each.bar.kind === 'rom') each.rom = (op.value & 1) !== 0;
  });
}

function perform(rg: Rig, model: Model, op: Exclude<Operation, { kind: 'fail' }>): void {
  if (op.kind === 'command') command(rg, op.device, op.value);
  else {
    const { device, bar } = model.bars[op.which]!;
    const first = bar.index === 6 ? 0x30 : 0x10 + 4 * bar.index;
    set(rg, device, first + (bar.kind === 'memory64' && op.half ? 4 : 0), op.value);
  }
}

/** Every place where the answer may change, and a few more. */
function interesting(model: Model, space: 'io' | 'memory'): number[] {
  const places = new Set<number>(space === 'io' ? [0x1000, 0xeffc] : [LOW, LOW + 0x3000, 0xfec0_0000 - 4]);
  for (const each of model.bars) {
    if ((each.bar.kind === 'io') !== (space === 'io') || each.value > 2 ** 50) continue;
    for (const at of [each.value - 4, each.value, each.value + each.bar.size / 2, each.value + each.bar.size - 4, each.value + each.bar.size]) if (at >= 0 && (space === 'memory' || at < 0x10000)) places.add(at);
  }
  // The ports of configuration itself are not BARs' affair.
  return [...places].filter((at) => space === 'memory' || at < 0xcf8 || at > 0xcff);
}

function compare(rg: Rig, model: Model): void {
  for (const space of ['io', 'memory'] as const) {
    for (const address of interesting(model, space)) {
      const by = model.who(space, address);
      const expected = by === undefined ? 0xffff_ffff : (((by.device + 1) << 24) | (by.bar.index << 20) | ((address - by.at) & 0xfffff)) >>> 0;
      assert.equal(rg.next()[space].read(address, 4), expected, `${space} ${address.toString(16)}`);
    }
  }
  for (const each of model.bars) {
    const space = each.bar.kind === 'io' ? 'io' : 'memory';
    assert.equal(rg.records[each.device]!.active.get(each.bar.index), model.active(each, UNIT[space]), `activity of BAR ${each.bar.index} of ${each.device}`);
  }
  const mapped = new Map<number, number>();
  for (const slot of rg.slots.slots.values()) for (let at = 0; at < slot.size; at += 4096) mapped.set(slot.gpa + at, slot.hva + at);
  const expected = new Map<number, number>();
  for (const each of model.bars) {
    if (each.bar.backing === undefined || each.sequence === 0) continue;
    for (let page = 0; page < each.bar.backing.bytes; page += 4096) {
      let whole = true;
      for (let at = 0; at < 4096 && whole; at += UNIT.memory) whole = model.who('memory', each.at + page + at) === each;
      if (whole) expected.set(each.at + page, each.bar.backing.hva + page);
    }
  }
  assert.deepEqual([...mapped].sort((a, b) => a[0] - b[0]), [...expected].sort((a, b) => a[0] - b[0]));
  assert.equal(rg.parking.parked, false);
}

test('property: whatever is written, buses, callbacks and memslots agree with the model, on three instances in turn', () => {
  fc.assert(
    fc.property(fc.array(operation, { minLength: 1, maxLength: 40 }), (operations) => {
      const rg = rig(DEVICES);
      let model = new Model(DEVICES);
      for (const op of operations) {
        if (op.kind === 'fail') {
          // Only one at a time: what happens when the way back fails too has tests of its own.
          if (rg.records.every((record) => record.failures === 0)) rg.records[op.device]!.failures = 1;
          continue;
        }
        const next = applied(model, op);
        const failing = rg.records.findIndex((record) => record.failures > 0);
        const refused = failing >= 0 && model.bars.some((each, index) => {
          const later = next.bars[index]!;
          const unit = UNIT[each.bar.kind === 'io' ? 'io' : 'memory'];
          const to = next.active(later, unit);
          return each.device === failing && to !== undefined && to !== model.active(each, unit);
        });
        perform(rg, model, op);
        if (!refused) model = next;
        compare(rg, model);
      }
    }),
    { numRuns: 250 },
  );
});

test('property: when the way back fails too, a BAR answers exactly where it is active, and slots never dangle', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(operation, fc.nat(3)), { minLength: 1, maxLength: 30 }), (operations) => {
      const rg = rig(DEVICES);
      const model = new Model(DEVICES);
      for (const [op, failures] of operations) {
        if (op.kind === 'fail') rg.records[op.device]!.failures = failures;
        else perform(rg, model, op);
        rg.machines.forEach(({ topology }, thread) => {
          rg.probes[thread]!.forEach((probe, device) => {
            for (const { index } of probe.config.bars) {
              const at = rg.records[device]!.active.get(index);
              const { address, answers } = topology.whereIs(probe, index);
              assert.equal(at, answers ? address : undefined);
            }
          });
        });
        for (const key of rg.slots.slots.keys()) {
          const [, slot, bar] = /^00:0(\d)\.0 probe bar(\d)\.\d$/.exec(key)!;
          assert.ok(rg.records[Number(slot) - 1]!.active.has(Number(bar)), key);
        }
      }
    }),
    { numRuns: 250 },
  );
});
