// Tiles: the picture cut into rectangles of 64 by 16 pixels (4 KiB), small enough that a text cursor costs one, and their merging into
// as few rectangles as runs allow.
import type { Rectangle } from '../../shared/protocol/frames.ts';

export const TILE_WIDTH = 64;
export const TILE_HEIGHT = 16;

export interface TileGrid {
  readonly width: number;
  readonly height: number;
  readonly columns: number;
  readonly rows: number;
}

/** The grid of a picture of `width` by `height` pixels; tiles at the right and lower edge may be smaller. */
export function tileGrid(width: number, height: number): TileGrid {
  return { width, height, columns: Math.ceil(width / TILE_WIDTH), rows: Math.ceil(height / TILE_HEIGHT) };
}

/** Rectangles that cover exactly the tiles set in `tiles` (a byte each, row by row): runs in a row, grown down while the next row has the same. */
export function mergeTiles(grid: TileGrid, tiles: Uint8Array): Rectangle[] {
  const { width, height, columns, rows } = grid;
  const done: Rectangle[] = [];
  // Those that end in the row above, by their first column.
  let open = new Map<number, Rectangle>();
  for (let row = 0; row < rows; row++) {
    const start = row * columns;
    const next = new Map<number, Rectangle>();
    const y = row * TILE_HEIGHT;
    const rowHeight = Math.min(TILE_HEIGHT, height - y);
    for (let column = 0; column < columns; column++) {
      if (tiles[start + column] === 0) continue;
      const first = column;
      while (column + 1 < columns && tiles[start + column + 1] !== 0) column++;
      const x = first * TILE_WIDTH;
      const runWidth = Math.min((column + 1) * TILE_WIDTH, width) - x;
      const above = open.get(first);
      if (above !== undefined && above.width === runWidth) {
        above.height += rowHeight;
        next.set(first, above);
      } else {
        const rectangle = { x, y, width: runWidth, height: rowHeight };
        done.push(rectangle);
        next.set(first, rectangle);
      }
    }
    open = next;
  }
  return done;
}
