// Debian 12's graphical installer, booted directly in the lab: an X server on the kernel's own driver for the display adapter, used by keyboard and
// mouse. Pages are recognised by their parts (support/installer-page.ts). One boot, a minute or two on a quiet computer; the test waits for
// conditions, however slow the computer is. The first picture of the page is left in test-results/shots/installer.png.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { installerPaths, installerPrepared } from '../../scripts/setup/installer.mjs';
import { BUTTON_LEFT } from '../../src/shared/protocol/input.ts';
import { startLab } from '../host.ts';
import type { LabHost } from '../host.ts';
import { Arrow, findContinue, findList, namesOf } from './support/installer-page.ts';
import type { List } from './support/installer-page.ts';
import { buildDriver, LabMachine, top } from './support/lab-machine.ts';
import { Picture } from './support/picture.ts';

const BOOT_PATIENCE = 900_000;
const PATIENCE = 180_000;
const LOOK = 250;
/** While the installer starts, one looks when the guest rests, or after so long: a look costs the emulated computer a second of a processor. */
const BOOT_LOOK = 30_000;
const RESTING = 0.3;
/** evdev codes of arrow keys. */
const KEY_UP = 103;
const KEY_DOWN = 108;
/** How near to its target the pointer must come, in pixels: rows and buttons are more than twice as high. */
const NEAR = 5;
const MOVES = 40;
/** Looks in which a movement must have shown. */
const LOOKS = 10;
/** What a mouse's step becomes in pixels when it is quick, at most: a move that is too short is followed by another, one too long may end at an edge. */
const MOST_GAIN = 4;
const shots = path.join(top, 'test-results/shots');

describe("Debian's graphical installer", { skip: !installerPrepared() && 'it was not downloaded' }, () => {
  let lab: LabHost;
  let machine: LabMachine;
  let arrow: Arrow;
  /** The language page as it was at first, with the list in it. */
  let first: { picture: Picture; list: List };
  let png: Uint8Array;

  before(async () => {
    await buildDriver();
    lab = await startLab();
  });

  after(async () => {
    await machine?.close();
    await lab?.stop();
  });

  async function shot(): Promise<Picture | undefined> {
    try {
      png = (await machine.screenshot()).png;
    } catch (error) {
      if (machine.outcome !== undefined) throw error;
      return undefined; // no picture between two modes
    }
    return new Picture(png);
  }

  const keep = (name: string): void => {
    fs.mkdirSync(shots, { recursive: true });
    fs.writeFileSync(path.join(shots, `${name}.png`), png);
  };

  /** Looks at the screen until `see` finds what it looks for, in two pictures that are the same. */
  async function find<T>(what: string, see: (picture: Picture) => T | undefined, { patience = PATIENCE, pause = (): Promise<unknown> => sleep(LOOK) } = {}): Promise<{ picture: Picture; found: T }> {
    const deadline = performance.now() + patience;
    let last: Picture | undefined;
    for (;;) {
      const picture = await shot();
      if (picture !== undefined) {
        const found = see(picture);
        const same = last !== undefined && last.width === picture.width && last.height === picture.height && last.difference(picture) === undefined;
        if (found !== undefined && same) return { picture, found };
        last = found === undefined ? undefined : picture;
      }
      if (performance.now() > deadline) {
        keep('installer-failed');
        assert.fail(`the installer's screen never showed this: ${what}. The last picture is test-results/shots/installer-failed.png.\n${machine.log.join('\n')}`);
      }
      await pause();
    }
  }

  /** A whole number of steps, not none where any are left to go. */
  const step = (way: number): number => (Math.abs(way) < 1 ? Math.sign(way) : Math.round(way));

  /** Until the guest has computed little for a second. */
  async function rest(): Promise<void> {
    const seen = machine.stats.length;
    for (const since = performance.now(); performance.now() - since < BOOT_LOOK; await sleep(LOOK)) {
      if (machine.stats.length > seen && machine.stats.at(-1)!.cpu[0]! < RESTING) return;
    }
  }

  const pointer = (dx: number, dy: number, wheel = 0, buttons = 0): Promise<unknown> => machine.call('pointer', { dx, dy, wheel, buttons });

  /** Brings the pointer there with as many moves as it takes: the X server gives quick moves more way. */
  async function pointTo(x: number, y: number): Promise<void> {
    let at = (await find('the pointer', (picture) => arrow.find(picture))).found;
    let gain = MOST_GAIN;
    for (let moves = 0; Math.abs(x - at.x) > NEAR || Math.abs(y - at.y) > NEAR; moves++) {
      assert.ok(moves < MOVES, `the pointer does not come to ${x}, ${y}: it is at ${at.x}, ${at.y}`);
      const from = at;
      const way = { x: step((x - from.x) / gain), y: step((y - from.y) / gain) };
      await pointer(way.x, way.y);
      let looks = 0;
      at = (await find('the pointer', (picture) => {
        const now = arrow.find(picture);
        // a step may be too small to show: then another is made
        return now !== undefined && (now.x !== from.x || now.y !== from.y || ++looks > LOOKS) ? now : undefined;
      })).found;
      gain = Math.max(1, Math.hypot(at.x - from.x, at.y - from.y) / Math.hypot(way.x, way.y));
    }
  }

  async function click(): Promise<void> {
    await pointer(0, 0, 0, BUTTON_LEFT);
    await pointer(0, 0, 0, 0);
  }

  it('reaches its language page at 1280x800', async (t) => {
    const begun = performance.now();
    const { kernel, initrd } = installerPaths();
    machine = await LabMachine.start(lab, { memory: 2 ** 30, boot: { kernel, initrd, append: '--- quiet' } });
    const started = performance.now();
    await machine.call('watchStats');
    const { picture, found } = await find('the list of languages, one of them selected, and a button below', (one) => {
      const list = findList(one);
      return list !== undefined && findContinue(one, list) !== undefined ? list : undefined;
    }, { patience: BOOT_PATIENCE, pause: rest });
    t.diagnostic(`${((performance.now() - begun) / 1000).toFixed(0)} s, ${((started - begun) / 1000).toFixed(0)} of them until its first instruction`);
    assert.deepEqual([picture.width, picture.height], [1280, 800]);
    keep('installer');
    first = { picture, list: found };
    const learned = Arrow.learn(picture, found);
    assert.ok(learned !== undefined && learned.blackPixels > 20 && learned.width < 40 && learned.height < 40, 'the pointer stands in the list');
    arrow = learned;
  });

  it('moves the selection with the arrow keys', async () => {
    const { band } = first.list;
    await machine.keys(KEY_DOWN);
    const down = await find('the next row selected', (picture) => {
      const list = findList(picture);
      return list !== undefined && list.band.top !== band.top ? list : undefined;
    });
    assert.ok(Math.abs(down.found.band.top - band.bottom) <= 1, `the row below ${band.top}-${band.bottom} is not ${down.found.band.top}-${down.found.band.bottom}`);
    await machine.keys(KEY_UP);
    await find('the first picture again', (picture) => (picture.difference(first.picture) === undefined ? picture : undefined));
  });

  it('moves the pointer with the mouse, and leaves nothing behind', async () => {
    const from = arrow.find(first.picture)!;
    await pointer(120, -90);
    const { picture, found: to } = await find('the pointer elsewhere', (one) => {
      const now = arrow.find(one);
      return now !== undefined && now.x !== from.x ? now : undefined;
    });
    assert.ok(to.x - from.x >= 60 && from.y - to.y >= 45, `from ${from.x}, ${from.y} to ${to.x}, ${to.y}`);
    // an arrow has a light outline, so a little around it may change too
    const inArrow = (x: number, y: number, at: { x: number; y: number }): boolean => x >= at.x - 3 && x < at.x + arrow.width + 3 && y >= at.y - 3 && y < at.y + arrow.height + 3;
    const changed = picture.count(picture.whole, (colour, x, y) => colour !== first.picture.at(x, y) && !inArrow(x, y, from) && !inArrow(x, y, to));
    assert.equal(changed, 0);
    const left = picture.count({ left: from.x, right: from.x + arrow.width, top: from.y, bottom: from.y + arrow.height }, (colour) => colour !== 0xffffff);
    assert.equal(left, 0, 'the list is whole where the pointer was');
  });

  it('selects the row that is clicked', async () => {
    const { band } = first.list;
    const y = band.bottom + Math.round(2.5 * (band.bottom - band.top));
    await pointTo(700, y);
    await click();
    await find('the row under the pointer selected', (picture) => {
      const list = findList(picture);
      const at = arrow.find(picture);
      return list !== undefined && at !== undefined && list.band.top > band.bottom && list.band.top <= at.y && at.y < list.band.bottom ? list : undefined;
    });
  });

  it('scrolls the list with the wheel', async () => {
    const before = await find('the list', findList);
    await pointer(0, 0, -1);
    const { picture, found } = await find('the selected row higher up', (one) => {
      const list = findList(one);
      return list !== undefined && list.band.top < before.found.band.top ? list : undefined;
    });
    const way = before.found.band.top - found.band.top;
    const names = namesOf(found);
    const moved = picture.count({ ...names, top: names.top + 3, bottom: names.bottom - way - 3 }, (colour, x, y) => colour !== before.picture.at(x, y + way));
    assert.equal(moved, 0, `the names moved by ${way} with it`);
  });
});
