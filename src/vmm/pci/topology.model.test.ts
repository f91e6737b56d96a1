// The real configuration space, host bridge, topology and buses against the reference model (model.ts), by random operations. As many as fit in
// some seconds; with VITRINE_LONG=1 more than a million (docs/long-tests.md).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BARS, ECAM, ECAM_REGISTER, FUNCTIONS, HIGH_HALF, LOW, ModelRig, PLUGGED } from './model-rig.ts';
import type { Width } from '../bus/handler.ts';
import type { Operation } from './model-rig.ts';

const LONG = process.env['VITRINE_LONG'] === '1';
/** Operations in one run, and runs. */
const MOST = 240;
const RUNS = LONG ? 11_000 : 400;
/** VITRINE_SEED repeats a run. */
const SEED = Number(process.env['VITRINE_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const LEAST_OPERATIONS = LONG ? 1_000_000 : 30_000;

const WINDOW_END = 0xfec0_0000; // or thereabouts
const places = [...FUNCTIONS, ...PLUGGED.flat()].map(({ place }) => place);
const width = fc.constantFrom<Width>(4, 4, 4, 2, 1);
const by = fc.constantFrom<'ports' | 'ecam'>('ports', 'ecam');

const from = <T>(weight: number, arbitrary: fc.Arbitrary<T>): { weight: number; arbitrary: fc.Arbitrary<T> } => ({ weight, arbitrary });
/** Addresses that overlap often, the borders of the windows and what is no address at all. */
const strange = fc.oneof(from(3, fc.constantFrom(0xffff_ffff, 0, WINDOW_END - 0x8000, WINDOW_END - 0x1000, WINDOW_END - 0x800, WINDOW_END, LOW - 0x1000, 0xefc0, 0xefe0, 0xeff0, 0xf000, 0x0ff0)), from(1, fc.nat(0xffff_ffff)));
const memory = fc.oneof(from(6, fc.nat(15).map((at) => LOW + at * 0x1000)), from(2, fc.nat(63).map((at) => LOW + at * 0x400)), from(2, strange));
const port = fc.oneof(from(8, fc.nat(31).map((at) => 0x1000 + at * 4)), from(2, strange));
const high = fc.oneof(from(5, fc.constant(0)), from(3, fc.constant(HIGH_HALF)), from(2, fc.constantFrom(HIGH_HALF + 1, 2 * HIGH_HALF - 2, 2 * HIGH_HALF, 2 * HIGH_HALF + 1, 0xffff_ffff)));
const bits = fc.oneof(from(3, fc.constantFrom(3, 7)), from(1, fc.nat(7)), from(1, fc.nat(0xffff_ffff)));

/** A BAR's register, or the upper half of one, with a value that mostly suits its kind; a ROM mostly enabled. */
const bar = fc
  .record({ by, which: fc.nat(BARS.length - 1), half: fc.nat(3), memory, port, high, disable: fc.nat(3) })
  .map(({ by: way, which, half, disable, ...values }): Operation => {
    const { place, bar: { kind, index } } = BARS[which]!;
    if (kind === 'memory64' && half === 0) return { kind: 'config', by: way, place, register: 0x14 + 4 * index, width: 4, value: values.high };
    if (kind === 'rom') return { kind: 'config', by: way, place, register: 0x30, width: 4, value: disable === 0 ? values.memory : (values.memory | 1) >>> 0 };
    return { kind: 'config', by: way, place, register: 0x10 + 4 * index, width: 4, value: kind === 'io' ? values.port : values.memory };
  });
const command = fc.record({ kind: fc.constant('config' as const), by, place: fc.constantFrom(...places), register: fc.constant(4), width: fc.constantFrom<Width>(2, 2, 1, 4), value: bits });
/** Any width at any byte of the header, across dwords and the ends of functions as well. */
const odd = fc.record({
  kind: fc.constant('config' as const),
  by,
  place: fc.oneof(from(9, fc.constantFrom(...places)), from(1, fc.nat(0xff))),
  register: fc.oneof(from(9, fc.integer({ min: 0x02, max: 0x36 })), from(2, fc.integer({ min: 0x3a, max: 0x5c })), from(1, fc.nat(0xfff))),
  width,
  value: fc.oneof(memory, port, high, bits),
});
const size = fc.record({ kind: fc.constant('size' as const), which: fc.nat(BARS.length - 1), half: fc.boolean() });
const access = fc.record({ kind: fc.constant('access' as const), which: fc.nat(63), delta: fc.integer({ min: -5, max: 5 }), width, value: fc.nat(0xffff_ffff) });
const configPorts = fc.record({ kind: fc.constant('port' as const), port: fc.integer({ min: 0xcf5, max: 0xd01 }), width, value: fc.oneof(fc.nat(0xffff).map((at) => 0x8000_0000 + at * 4), bits) });
const refuse = fc.record({ kind: fc.constant('refuse' as const), place: fc.constantFrom(...places), when: fc.constantFrom<'never' | 'always' | 'odd'>('never', 'never', 'always', 'odd') });
const ecam = fc.constantFrom(...[ECAM + 1, ECAM + 1, ECAM + 1, 0, LOW + 1, WINDOW_END - 2 ** 20 + 1].map((value): Operation => ({ kind: 'config', by: 'ports', place: 0, register: ECAM_REGISTER, width: 4, value })));
const plug = fc.record({ kind: fc.constant('plug' as const), which: fc.nat(PLUGGED.length - 1) });
const operation: fc.Arbitrary<Operation> = fc.oneof(
  from(120, bar), from(60, command), from(20, odd), from(15, size), from(30, access), from(10, configPorts), from(15, refuse), from(8, ecam), from(14, plug), from(1, fc.constant<Operation>({ kind: 'reset' })),
);

/** ECAM is where its accesses go. */
const ECAM_ON: Operation = { kind: 'config', by: 'ports', place: 0, register: ECAM_REGISTER, width: 4, value: ECAM + 1 };

test('property: whatever is written, the machine and the reference model do not differ', (t) => {
  let done = 0;
  fc.assert(
    fc.property(fc.array(operation, { minLength: 1, maxLength: MOST, size: 'max' }), (operations) => {
      const rig = new ModelRig();
      rig.do(ECAM_ON);
      for (const each of operations) {
        rig.do(each);
        done++;
      }
    }),
    { numRuns: RUNS, seed: SEED },
  );
  t.diagnostic(`${done} operations, seed ${SEED}`);
  assert.ok(done >= LEAST_OPERATIONS, `only ${done} operations`);
});
