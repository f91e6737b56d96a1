import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { mappedPieces, type Extent } from './pieces.ts';

const PAGE = 4096;

test('the holes are the pages of the MSI-X table and its pending bits, as in an NVMe drive whose registers share the BAR', () => {
  const table = { offset: 0x2000, size: 65 * 16 };
  const pba = { offset: 0x3000, size: 16 };
  assert.deepEqual(mappedPieces(0x4000, undefined, [table, pba], 8), [{ offset: 0, size: 0x2000 }]);
  assert.deepEqual(mappedPieces(0x10000, undefined, [table, pba], 8), [{ offset: 0, size: 0x2000 }, { offset: 0x4000, size: 0xc000 }]);
  assert.deepEqual(mappedPieces(0x4000, [{ offset: 0, size: 0x1800 }, { offset: 0x3000, size: 0x1000 }], [], 8), [{ offset: 0, size: 0x1000 }, { offset: 0x3000, size: 0x1000 }]);
  assert.deepEqual(mappedPieces(0x100, undefined, [], 8), [], 'less than a page is trapped');
});

test('a page is mapped exactly if all of it may be and none of it is trapped; the largest pieces win', () => {
  const extent = fc.record({ offset: fc.nat(40 * PAGE), size: fc.nat(8 * PAGE) });
  fc.assert(fc.property(fc.integer({ min: 0, max: 40 }), fc.nat(PAGE - 1), fc.option(fc.array(extent, { maxLength: 4 }), { nil: undefined }), fc.array(extent, { maxLength: 3 }), (pages, rest, areas, trapped) => {
    const size = pages * PAGE + rest;
    const inside = (page: number, area: Extent): boolean => area.offset <= page && page + PAGE <= area.offset + area.size;
    const touches = (page: number, hole: Extent): boolean => hole.size > 0 && hole.offset < page + PAGE && page < hole.offset + hole.size;
    // Areas as the kernel gives them do not overlap; where the test's do, a page across two is not expected.
    const expected = new Set<number>();
    for (let page = 0; page + PAGE <= size; page += PAGE) if ((areas === undefined || areas.some((area) => inside(page, area))) && !trapped.some((hole) => touches(page, hole))) expected.add(page);
    const pieces = mappedPieces(size, areas, trapped, 100);
    const mapped = pieces.flatMap((piece) => Array.from({ length: piece.size / PAGE }, (_, at) => piece.offset + at * PAGE));
    assert.deepEqual(mapped, [...expected]);
    for (let at = 1; at < pieces.length; at++) assert.ok(pieces[at - 1]!.offset + pieces[at - 1]!.size < pieces[at]!.offset);
    const few = mappedPieces(size, areas, trapped, 2);
    const least = Math.min(...few.map((piece) => piece.size));
    assert.equal(few.length, Math.min(2, pieces.length));
    for (const piece of pieces) assert.ok(few.some((kept) => kept.offset === piece.offset) || piece.size <= least);
  }));
});
