import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { TILE_HEIGHT, TILE_WIDTH, mergeTiles, tileGrid } from './tiles.ts';

test('the rectangles cover each set tile once and no other', () => {
  const size = fc.record({ width: fc.integer({ min: 64, max: 500 }), height: fc.integer({ min: 64, max: 200 }) });
  const bits = fc.array(fc.constantFrom(0, 1, 1), { minLength: 8 * 13, maxLength: 8 * 13 });
  fc.assert(fc.property(size, bits, ({ width, height }, set) => {
    const grid = tileGrid(width, height);
    const tiles = Uint8Array.from(set.slice(0, grid.columns * grid.rows));
    const covered = new Uint8Array(tiles.length);
    for (const r of mergeTiles(grid, tiles)) {
      assert.ok(r.x % TILE_WIDTH === 0 && r.y % TILE_HEIGHT === 0);
      assert.ok(r.x + r.width === width || r.width % TILE_WIDTH === 0);
      assert.ok(r.y + r.height === height || r.height % TILE_HEIGHT === 0);
      for (let y = r.y; y < r.y + r.height; y += TILE_HEIGHT) for (let x = r.x; x < r.x + r.width; x += TILE_WIDTH) covered[(y / TILE_HEIGHT) * grid.columns + x / TILE_WIDTH]++;
    }
    assert.deepEqual(covered, tiles);
  }));
});

test('everything set is one rectangle', () => {
  const grid = tileGrid(1280, 800);
  assert.deepEqual(mergeTiles(grid, new Uint8Array(grid.columns * grid.rows).fill(1)), [{ x: 0, y: 0, width: 1280, height: 800 }]);
});
