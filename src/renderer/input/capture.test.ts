import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { decodeInput, tabletPlace, type Input } from '../../shared/protocol/input.ts';
import { InputCapture } from './capture.ts';

// As much of a page as the capture knows of.

const WIDTH = 400;
const HEIGHT = 200;

class Pane extends EventTarget {
  focus(): void {}
  contains(): boolean {
    return true;
  }
  getBoundingClientRect(): object {
    return { left: 10, top: 20, width: WIDTH, height: HEIGHT };
  }
  /** The lock was asked for. */
  asked = 0;
  requestPointerLock(): void {
    this.asked++;
  }
}

class Page extends EventTarget {
  hidden = false;
  pointerLockElement: unknown = null;
  hasFocus(): boolean {
    return true;
  }
  exitPointerLock(): void {
    this.lock(null);
  }
  lock(element: unknown): void {
    this.pointerLockElement = element;
    this.dispatchEvent(new Event('pointerlockchange'));
  }
}

const page = new Page();
const around = new EventTarget();
Object.assign(globalThis, { document: page, addEventListener: around.addEventListener.bind(around), Node: EventTarget });

let pane: Pane;
let told: Input[];
let tablet: { width: number; height: number } | null;
let capture: InputCapture;

beforeEach(() => {
  page.pointerLockElement = null;
  pane = new Pane();
  told = [];
  tablet = null;
  capture = new InputCapture({
    element: pane as unknown as HTMLElement, scale: () => 1, tablet: () => tablet, onChange: () => {},
    send: (message) => told.push(decodeInput(message)!),
  });
});

afterEach(() => capture.dispose());

function happen(target: EventTarget, type: string, members: object): void {
  target.dispatchEvent(Object.assign(new Event(type, { cancelable: true }), { clientX: 10, clientY: 20, button: 0, buttons: 0, ...members }));
}

const takeTablet = (there: boolean): void => {
  tablet = there ? { width: WIDTH, height: HEIGHT } : null;
  capture.tabletChanged();
};
const at = (x: number, y: number) => ({ x: tabletPlace(x, WIDTH), y: tabletPlace(y, HEIGHT) });

test('the wheel turns where the pointer is', () => {
  takeTablet(true);
  capture.take();
  happen(pane, 'wheel', { clientX: 110, clientY: 70, deltaY: -100, deltaMode: 0 });
  assert.deepEqual(told, [{ kind: 'tablet', ...at(100, 50), wheel: 1, buttons: 0 }]);
});

test('a lock that is granted once the tablet is there, or once the pointer was given back, is let go', () => {
  capture.take();
  assert.equal(pane.asked, 1);
  takeTablet(true);
  page.lock(pane);
  assert.equal(page.pointerLockElement, null);
  assert.ok(capture.captured, 'the keyboard stays');
  takeTablet(false);
  capture.take();
  assert.equal(pane.asked, 2);
  page.lock(pane);
  assert.equal(page.pointerLockElement, pane, 'without a tablet it stays');
  page.lock(null);
  capture.take();
  capture.release();
  page.lock(pane);
  assert.equal(page.pointerLockElement, null);
});

test('a button that is held when the tablet comes or goes is let go where it was pressed', () => {
  capture.take();
  page.lock(pane);
  happen(pane, 'mousedown', { buttons: 1 });
  takeTablet(true);
  assert.deepEqual(told.splice(0), [{ kind: 'pointer', dx: 0, dy: 0, wheel: 0, buttons: 1 }, { kind: 'pointer', dx: 0, dy: 0, wheel: 0, buttons: 0 }]);
  assert.equal(page.pointerLockElement, null);
  happen(around, 'mouseup', {});
  assert.deepEqual(told, [], 'the tablet hears of no button that it did not have');

  happen(pane, 'mousedown', { clientX: 20, clientY: 30, button: 2, buttons: 2 });
  takeTablet(true); // another size of the picture
  takeTablet(false);
  assert.deepEqual(told, [{ kind: 'tablet', ...at(10, 10), wheel: 0, buttons: 2 }, { kind: 'tablet', ...at(10, 10), wheel: 0, buttons: 0 }]);
});
