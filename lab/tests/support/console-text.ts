// Finds text on the screen of a Linux framebuffer console without knowing its font: characters of 8x16 pixels on a grid, where the same
// letters of the text must look the same, different ones different, and spaces empty.
import type { Picture } from './picture.ts';

const WIDTH = 8;
const HEIGHT = 16;
const BLANK = '0'.repeat(WIDTH * HEIGHT / 4);

/** What a character's cell looks like: one bit for each pixel that is not background. */
function cell(picture: Picture, column: number, row: number): string {
  let look = '';
  for (let y = row * HEIGHT; y < (row + 1) * HEIGHT; y++) {
    for (let x = column * WIDTH; x < (column + 1) * WIDTH; x += 4) {
      let four = 0;
      for (let i = 0; i < 4; i++) four = four * 2 + (picture.at(x + i, y) === 0 ? 0 : 1);
      look += four.toString(16);
    }
  }
  return look;
}

/** The screen as rows of cells. */
export function cells(picture: Picture): string[][] {
  return Array.from({ length: Math.floor(picture.height / HEIGHT) }, (_, row) =>
    Array.from({ length: Math.floor(picture.width / WIDTH) }, (_, column) => cell(picture, column, row)));
}

/** How many rows of the screen have text. */
export function textRows(picture: Picture): number {
  return cells(picture).filter((row) => row.some((look) => look !== BLANK)).length;
}

function matches(row: readonly string[], at: number, text: string): boolean {
  const looks = new Map<string, string>([[' ', BLANK]]);
  const letters = new Map<string, string>([[BLANK, ' ']]);
  for (let i = 0; i < text.length; i++) {
    const look = row[at + i];
    const letter = text[i]!;
    if (look === undefined || (looks.get(letter) ?? look) !== look || (letters.get(look) ?? letter) !== letter) return false;
    looks.set(letter, look);
    letters.set(look, letter);
  }
  return true;
}

/** Where `text` stands on the screen, in characters; undefined if it does not. The text needs letters that recur, or anything matches. */
export function findText(picture: Picture, text: string): { row: number; column: number } | undefined {
  const screen = cells(picture);
  for (const [row, looks] of screen.entries()) {
    for (let column = 0; column + text.length <= looks.length; column++) if (matches(looks, column, text)) return { row, column };
  }
  return undefined;
}
