import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { planDma } from './dma-plan.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

test('RAM below and above 4 GiB is mapped where the guest has it, clear of the interrupt window', () => {
  const windows = [{ gpa: 0, hva: 0x7f00_0000_0000, size: 2 * GIB }, { gpa: 4 * GIB, hva: 0x7e00_0000_0000, size: GIB }];
  const allowed = [{ start: 0, end: 0xfee0_0000 }, { start: 0xfef0_0000, end: 2 ** 39 }];
  assert.deepEqual(planDma(windows, allowed), {
    maps: [{ iova: 0, hva: 0x7f00_0000_0000, size: 2 * GIB }, { iova: 4 * GIB, hva: 0x7e00_0000_0000, size: GIB }], unreachable: [],
  });
  assert.deepEqual(planDma(windows, undefined).unreachable, []);
});

test('RAM under a direct mapping of the firmware, or beyond what the IOMMU can address, is told', () => {
  const windows = [{ gpa: 0, hva: GIB, size: GIB }];
  assert.deepEqual(planDma(windows, [{ start: 0, end: 16 * MIB }, { start: 17 * MIB, end: 512 * MIB }]), {
    maps: [{ iova: 0, hva: GIB, size: 16 * MIB }, { iova: 17 * MIB, hva: GIB + 17 * MIB, size: 495 * MIB }],
    unreachable: [{ start: 16 * MIB, end: 17 * MIB }, { start: 512 * MIB, end: GIB }],
  });
});

test('maps and unreachable parts are RAM, each byte once, and a byte is mapped exactly if it is allowed', () => {
  // In pages, so that every one can be looked at.
  const disjoint = (lengths: readonly number[]): { start: number; end: number }[] => {
    const found: { start: number; end: number }[] = [];
    let at = 0;
    for (let index = 0; index + 1 < lengths.length; index += 2) {
      const start = at + lengths[index]!;
      at = start + lengths[index + 1]! + 1;
      found.push({ start, end: at });
    }
    return found;
  };
  const lengths = fc.array(fc.nat(9), { maxLength: 8 });
  fc.assert(fc.property(lengths, lengths, (ram, ranges) => {
    const windows = disjoint(ram).map(({ start, end }, index) => ({ gpa: start, hva: (index + 1) * 1000 + start, size: end - start }));
    const allowed = disjoint(ranges);
    const { maps, unreachable } = planDma(windows, allowed.toReversed());
    for (let page = 0; page < 100; page++) {
      const window = windows.find(({ gpa, size }) => page >= gpa && page < gpa + size);
      const may = allowed.some(({ start, end }) => page >= start && page < end);
      const mapped = maps.filter(({ iova, size }) => page >= iova && page < iova + size);
      const told = unreachable.filter(({ start, end }) => page >= start && page < end);
      assert.equal(mapped.length, window !== undefined && may ? 1 : 0);
      assert.equal(told.length, window !== undefined && !may ? 1 : 0);
      if (mapped.length > 0) assert.equal(mapped[0]!.hva + (page - mapped[0]!.iova), window!.hva + (page - window!.gpa));
    }
  }));
});
