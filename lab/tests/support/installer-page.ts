// Debian's graphical installer on a screen of 1280x800, recognised by what its pages are made of (GTK 2, the theme of Debian 12): a list is
// a white box with one row in the colour of the selection, and the pointer is an arrow whose black pixels stand in one pattern.
import type { Box, Picture } from './picture.ts';

const WHITE = 0xffffff;
const BLACK = 0x000000;

/** Columns in which a list of languages is empty: names stand left of them, the scroll bar right. */
const EMPTY_LEFT = 400;
const EMPTY_RIGHT = 1200;
/** Where the names stand. */
const NAMES_LEFT = 24;
const NAMES_RIGHT = 320;
/** Of a row's pixels in those columns, how many must be alike: the pointer may cover some. */
const MOST = 0.95;
const LEAST_ROWS = 300;
const LEAST_BAND = 15;
const MOST_BAND = 45;

/** A list with a selected row. Bottoms are outside. */
export interface List {
  readonly top: number;
  readonly bottom: number;
  readonly band: { readonly top: number; readonly bottom: number; readonly colour: number };
}

/** The list on the page, or undefined if there is none, or none with one row selected. */
export function findList(picture: Picture): List | undefined {
  if (picture.width < EMPTY_RIGHT) return undefined;
  const rows = Array.from({ length: picture.height }, (_, y): 'white' | 'selected' | 'other' => {
    const row = { left: EMPTY_LEFT, right: EMPTY_RIGHT, top: y, bottom: y + 1 };
    const colour = picture.commonest(row);
    if (picture.count(row, (one) => one === colour) < (EMPTY_RIGHT - EMPTY_LEFT) * MOST) return 'other';
    if (colour === WHITE) return 'white';
    return isSelectionColour(colour) ? 'selected' : 'other';
  });
  const top = rows.indexOf('white');
  const bottom = rows.lastIndexOf('white') + 1;
  if (top < 0 || bottom - top < LEAST_ROWS) return undefined;
  const first = rows.indexOf('selected', top);
  const last = rows.lastIndexOf('selected', bottom - 1);
  if (first < 0 || first > last) return undefined;
  // a row's first and last lines are the dotted frame of what has the keyboard
  const band = { top: rows.lastIndexOf('white', first) + 1, bottom: rows.indexOf('white', last), colour: picture.commonest({ left: EMPTY_LEFT, right: EMPTY_RIGHT, top: first, bottom: last + 1 }) };
  const height = band.bottom - band.top;
  if (height < LEAST_BAND || height > MOST_BAND || last - first + 1 < height - 4) return undefined;
  // all else between top and bottom is white
  if (rows.slice(top, bottom).filter((row) => row !== 'white').length !== height) return undefined;
  return { top, bottom, band };
}

/** Blue-green, as the selection is: the page's own colours are greys and browns. */
function isSelectionColour(colour: number): boolean {
  const red = colour >> 16;
  const green = (colour >> 8) & 0xff;
  return green - red > 40;
}

/** The box of the list's names. */
export function namesOf(list: List): Box {
  return { left: NAMES_LEFT, right: NAMES_RIGHT, top: list.top, bottom: list.bottom };
}

/** The right button below the list: "Continue". Undefined while nothing is drawn there. */
export function findContinue(picture: Picture, list: List): { x: number; y: number } | undefined {
  const corner = { left: picture.width - 120, right: picture.width - 2, top: list.bottom + 8, bottom: picture.height - 2 };
  const label = boxOf(picture, corner, BLACK);
  if (label === undefined || label.right - label.left < 30 || label.bottom - label.top > 20) return undefined;
  return { x: (label.left + label.right) >> 1, y: (label.top + label.bottom) >> 1 };
}

/** The smallest box around the pixels of this colour. */
function boxOf(picture: Picture, within: Box, colour: number): Box | undefined {
  let found: Box | undefined;
  picture.count(within, (one, x, y) => {
    if (one !== colour) return false;
    found = found === undefined
      ? { left: x, right: x + 1, top: y, bottom: y + 1 }
      : { left: Math.min(found.left, x), right: Math.max(found.right, x + 1), top: found.top, bottom: y + 1 };
    return true;
  });
  return found;
}

/** The pointer's arrow: learned where it stands over an empty part of the list, found again anywhere. */
export class Arrow {
  /** Black pixels, from the top left corner of the box around them. */
  readonly #pixels: readonly { x: number; y: number }[];
  readonly width: number;
  readonly height: number;

  private constructor(pixels: { x: number; y: number }[], width: number, height: number) {
    this.#pixels = pixels;
    this.width = width;
    this.height = height;
  }

  /** Undefined if there is none in the list's empty part. */
  static learn(picture: Picture, list: List): Arrow | undefined {
    const parts: Box[] = [
      { left: EMPTY_LEFT, right: EMPTY_RIGHT, top: list.top, bottom: list.band.top },
      { left: EMPTY_LEFT, right: EMPTY_RIGHT, top: list.band.bottom, bottom: list.bottom },
    ];
    for (const part of parts) {
      const box = boxOf(picture, part, BLACK);
      if (box === undefined) continue;
      const pixels: { x: number; y: number }[] = [];
      picture.count(box, (colour, x, y) => {
        if (colour === BLACK) pixels.push({ x: x - box.left, y: y - box.top });
        return true;
      });
      return new Arrow(pixels, box.right - box.left, box.bottom - box.top);
    }
    return undefined;
  }

  get blackPixels(): number {
    return this.#pixels.length;
  }

  /** Its tip, or undefined if it is not in the picture. */
  find(picture: Picture): { x: number; y: number } | undefined {
    for (let y = 0; y + this.height <= picture.height; y++) {
      for (let x = 0; x + this.width <= picture.width; x++) {
        if (this.#pixels.every((pixel) => picture.at(x + pixel.x, y + pixel.y) === BLACK)) return { x, y };
      }
    }
    return undefined;
  }
}
