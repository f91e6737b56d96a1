// Reading pictures, and the installer's page in drawn ones.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { encodePng } from '../../../src/vmm/display/png.ts';
import { Arrow, findContinue, findList } from './installer-page.ts';
import { Picture } from './picture.ts';
import type { Box } from './picture.ts';

/** A canvas of one colour to draw boxes on. */
class Canvas {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8Array;

  constructor(width: number, height: number, colour: number) {
    this.width = width;
    this.height = height;
    this.pixels = new Uint8Array(width * height * 4);
    this.box({ left: 0, top: 0, right: width, bottom: height }, colour);
  }

  box({ left, top, right, bottom }: Box, colour: number): this {
    for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) this.pixels.set([colour & 0xff, (colour >> 8) & 0xff, colour >> 16, 0], (y * this.width + x) * 4);
    return this;
  }

  async picture(): Promise<Picture> {
    return new Picture(await encodePng(this.width, this.height, this.pixels));
  }
}

/** An arrow of sorts: a column with a foot. */
function arrow(canvas: Canvas, x: number, y: number): Canvas {
  return canvas.box({ left: x, top: y, right: x + 2, bottom: y + 12 }, 0).box({ left: x, top: y + 12, right: x + 8, bottom: y + 14 }, 0);
}

function page(selected: number): Canvas {
  return new Canvas(1280, 800, 0xedeae3)
    .box({ left: 20, top: 172, right: 1242, bottom: 737 }, 0xffffff)
    .box({ left: 22, top: selected, right: 1240, bottom: selected + 23 }, 0x29827b)
    .box({ left: 1188, top: 770, right: 1250, bottom: 780 }, 0);
}

describe('a picture', () => {
  it('has the colours that were encoded', async () => {
    const picture = await new Canvas(7, 5, 0x123456).box({ left: 2, top: 1, right: 3, bottom: 2 }, 0xfedcba).picture();
    assert.deepEqual([picture.width, picture.height, picture.at(0, 0), picture.at(2, 1), picture.at(3, 1), picture.at(6, 4)], [7, 5, 0x123456, 0xfedcba, 0x123456, 0x123456]);
    assert.equal(picture.commonest(picture.whole), 0x123456);
  });

  it('tells where another differs', async () => {
    const one = await new Canvas(20, 10, 0).picture();
    const other = await new Canvas(20, 10, 0).box({ left: 5, top: 2, right: 7, bottom: 3 }, 1).box({ left: 3, top: 8, right: 4, bottom: 9 }, 1).picture();
    assert.deepEqual(other.difference(one), { left: 3, top: 2, right: 7, bottom: 9 });
    assert.equal(one.difference(one), undefined);
    assert.equal(other.difference(one, { left: 8, top: 0, right: 20, bottom: 10 }), undefined);
  });
});

describe("the installer's page", () => {
  it('has a list, a button and a pointer', async () => {
    const picture = await arrow(page(443), 640, 400).picture();
    const list = findList(picture);
    assert.deepEqual(list, { top: 172, bottom: 737, band: { top: 443, bottom: 466, colour: 0x29827b } });
    assert.deepEqual(findContinue(picture, list), { x: 1219, y: 775 });
    const learned = Arrow.learn(picture, list)!;
    assert.deepEqual([learned.width, learned.height, learned.find(picture)], [8, 14, { x: 640, y: 400 }]);
    assert.deepEqual(learned.find(await arrow(page(300), 100, 760).picture()), { x: 100, y: 760 });
  });

  it('is none without a list, without a selected row, or with two', async () => {
    assert.equal(findList(await new Canvas(1280, 800, 0xedeae3).picture()), undefined);
    assert.equal(findList(await new Canvas(1280, 800, 0xffffff).picture()), undefined);
    assert.equal(findList(await page(443).box({ left: 22, top: 500, right: 1240, bottom: 523 }, 0x29827b).picture()), undefined);
  });

  it('has its button only once that is drawn', async () => {
    const picture = await page(443).box({ left: 1100, top: 760, right: 1280, bottom: 800 }, 0xedeae3).picture();
    assert.equal(findContinue(picture, findList(picture)!), undefined);
  });
});
