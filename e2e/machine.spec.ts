// A machine's window, with the demonstration guest that runs on any /dev/kvm: pixels, keys, pause, ends of every kind, and the app that
// comes and goes while machines run on.
import { expect, test } from './fixtures.ts';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  card, demoId, demoName, giveKeyboardBack, machineFile, openLibrary, openMachine, pixels, screen, startOnPage, stateOf, takeKeyboard, untilPixelsChange, writeMachine,
} from './support/pages.ts';

for (const theme of ['light', 'dark'] as const) {
  test.describe(`in the ${theme} theme`, () => {
    test.use({ theme });
    test('the demo starts from its card, draws, and is forced off', async ({ app }) => {
      const { page } = app;
      await page.getByRole('button', { name: `Start ${demoName}` }).click();
      await expect(stateOf(card(page, demoName))).toHaveText('Running', { timeout: 60_000 });
      await expect(card(page, demoName).locator('img')).toBeVisible();
      await app.shot('library-running');
      await page.getByRole('button', { name: `Open ${demoName}` }).click();
      await expect(page.getByTestId('screen-size')).toContainText('×');
      await untilPixelsChange(page, await pixels(page));
      await app.shot('machine-running');
      expect(app.machines()).toHaveLength(1);

      await page.getByRole('button', { name: `More for ${demoName}` }).click();
      await app.shot('machine-menu');
      await page.getByRole('menuitem', { name: 'Reset' }).click();
      await expect(page.getByRole('alertdialog', { name: `Reset ${demoName}` })).toBeVisible();
      await app.shot('reset');
      await page.keyboard.press('Escape');
      await page.getByRole('button', { name: `More for ${demoName}` }).click();
      await page.getByRole('menuitem', { name: 'Force off' }).click();
      await expect(page.getByRole('alertdialog', { name: `Force ${demoName} off` })).toBeVisible();
      await app.shot('force-off');
      await page.getByRole('alertdialog').getByRole('button', { name: 'Force off' }).click();
      await expect(stateOf(page.getByTestId('machine-page'))).toHaveText('Off', { timeout: 30_000 });
      await expect(page.getByText('It was forced off.')).toBeVisible();
      await expect.poll(() => app.machines()).toEqual([]);
      // What the guest showed last is still there, under the reason.
      await expect(screen(page).locator('canvas')).toBeVisible();
      await app.shot('machine-ended');
    });
  });
}

test('a key changes the picture; Ctrl+Alt alone gives the keyboard back, Ctrl+Alt+F2 does not', async ({ app }) => {
  const { page } = app;
  await startOnPage(page, demoName);
  await takeKeyboard(page);
  // Space pauses the demo and the next one lets it go on: a still picture is one that a key made.
  await page.keyboard.press('Space');
  await expect.poll(async () => (await pixels(page)) === (await pixels(page)), { message: 'Space should hold the picture' }).toBe(true);
  const still = await pixels(page);
  await page.keyboard.press('Space');
  await untilPixelsChange(page, still);

  await page.keyboard.down('Control');
  await page.keyboard.down('Alt');
  await page.keyboard.press('F2');
  await page.keyboard.up('Alt');
  await page.keyboard.up('Control');
  await expect(page.getByTestId('capture-hint')).toContainText('Ctrl+Alt gives');
  await giveKeyboardBack(page);
  // Without the keyboard, a shortcut is the page's again.
  await page.keyboard.press('Alt+3');
  await expect(page.getByRole('tab', { name: 'Log' })).toHaveAttribute('aria-selected', 'true');

  // And Q powers the demo off from inside.
  await page.keyboard.press('Alt+1');
  await takeKeyboard(page);
  await page.keyboard.press('q');
  await expect(stateOf(page.getByTestId('machine-page'))).toHaveText('Off', { timeout: 30_000 });
  await expect(page.getByText('The guest powered off.')).toBeVisible();
  await expect.poll(() => app.machines()).toEqual([]);
});

test('pause holds the picture and says so, resume goes on', async ({ app }) => {
  const { page } = app;
  await startOnPage(page, demoName);
  await page.getByRole('button', { name: 'Pause', exact: true }).click();
  await expect(page.getByText('This machine is paused')).toBeVisible();
  await app.shot('machine-paused');
  const held = await pixels(page);
  await sleep(500);
  expect(await pixels(page)).toBe(held);
  await page.getByRole('button', { name: 'Resume', exact: true }).first().click();
  await expect(page.getByText('This machine is paused')).toHaveCount(0);
  await untilPixelsChange(page, await pixels(page));
  expect((await app.cli('pause', demoId)).code).toBe(0);
  await expect(stateOf(page.getByTestId('machine-page'))).toHaveText('Paused');
  expect((await app.cli('resume', demoId)).code).toBe(0);
  await expect(stateOf(page.getByTestId('machine-page'))).toHaveText('Running');
});

test('scale, console, log, screenshot and the menu of keys are there', async ({ app }) => {
  const { page } = app;
  await startOnPage(page, demoName);
  await page.getByRole('button', { name: 'Show 1:1' }).click();
  await expect(page.getByTestId('screen-size')).toHaveText(/^\d+ × \d+$/);
  await app.picture('machine-exact');
  await page.getByRole('button', { name: 'Scale to fit' }).click();
  await page.getByRole('button', { name: 'Send keys' }).click();
  await expect(page.getByRole('menuitem', { name: 'Ctrl+Alt+Del' })).toBeVisible();
  await app.shot('send-keys');
  await page.keyboard.press('Escape');
  await page.getByRole('tab', { name: 'Log' }).click();
  await expect(page.getByRole('log')).not.toBeEmpty();
  await app.shot('log');
  await page.getByRole('tab', { name: 'Console' }).click();
  await expect(page.getByTestId('console').locator('.xterm')).toBeVisible();
  await app.shot('console');
  if (app.shell === 'browser') {
    await page.getByRole('tab', { name: 'Screen' }).click();
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Save a screenshot' }).click()]);
    expect(download.suggestedFilename()).toMatch(/^Framebuffer demo .*\.png$/);
  }
});

test('a virtio console that comes while the machine runs is there to choose beside the serial port', async ({ app }) => {
  const { page } = app;
  await startOnPage(page, demoName);
  await page.getByRole('tab', { name: 'Console' }).click();
  await expect(page.getByTestId('console').locator('.xterm')).toBeVisible();
  await expect(page.getByRole('radiogroup', { name: 'Console' })).toHaveCount(0);
  const added = await app.cli('device', 'add', demoId, 'virtio-console,ports=2');
  expect(added.code, added.stderr).toBe(0);
  await page.getByRole('radio', { name: 'hvc0' }).click();
  await expect(page.getByText('Nothing in the guest has it open')).toBeVisible();
  await expect(page.getByRole('radio', { name: 'org.vitrine.1' })).toBeVisible();
  await expect(page.getByTestId('console').locator('.xterm')).toBeVisible();
  await app.shot('console-ports');
  await page.getByRole('radio', { name: 'Serial port' }).click();
  await expect(page.getByText('Nothing in the guest has it open')).toBeHidden();
});

test('a graphics processor draws the screen by WebGL, and again after it lost everything', async ({ app }) => {
  const { page } = app;
  // The tests' browsers have none: here one that says so.
  await page.addInitScript(() => {
    const own = HTMLCanvasElement.prototype.getContext as (this: HTMLCanvasElement, kind: string, attributes?: object) => RenderingContext | null;
    HTMLCanvasElement.prototype.getContext = function (this: HTMLCanvasElement, kind: string, attributes?: object) {
      return own.call(this, kind, { ...attributes, failIfMajorPerformanceCaveat: false });
    } as typeof HTMLCanvasElement.prototype.getContext;
  });
  await page.reload();
  await startOnPage(page, demoName);
  const canvas = screen(page).locator('canvas');
  await expect(canvas).toHaveAttribute('data-painter', 'webgl2');
  await untilPixelsChange(page, await pixels(page));
  await app.picture('machine-webgl');
  await canvas.evaluate(async (element) => {
    const lose = (element as HTMLCanvasElement).getContext('webgl2')!.getExtension('WEBGL_lose_context')!;
    const event = (name: string): Promise<unknown> => new Promise((resolve) => element.addEventListener(name, resolve, { once: true }));
    const lost = event('webglcontextlost');
    lose.loseContext();
    await lost;
    await new Promise((resolve) => setTimeout(resolve)); // it is lost once the event has been dealt with
    const restored = event('webglcontextrestored');
    lose.restoreContext();
    await restored;
  });
  const drawn = Number(await canvas.getAttribute('data-frames'));
  await expect.poll(async () => Number(await canvas.getAttribute('data-frames'))).toBeGreaterThan(drawn + 5);
  await untilPixelsChange(page, await pixels(page));
});

test('the app is killed and comes back: the machine ran on, and its screen is there', async ({ app }) => {
  await startOnPage(app.page, demoName);
  const before = app.machines();
  expect(before).toHaveLength(1);
  await app.kill();
  expect(app.machines()).toEqual(before);
  if (app.shell === 'browser') {
    // The tab outlives the server, keeps the picture and says what is wrong.
    await expect(app.page.getByText('Connection lost')).toBeVisible();
    await app.shot('machine-offline');
    await openLibrary(app.page);
    await expect(app.page.getByRole('alert')).toContainText('server does not answer');
    await app.shot('library-offline');
  }
  const page = await app.start();
  await expect(stateOf(card(page, demoName))).toHaveText('Running');
  await page.getByRole('button', { name: `Open ${demoName}` }).click();
  await expect(page.getByTestId('screen-size')).toBeVisible();
  await untilPixelsChange(page, await pixels(page));
  expect(app.machines()).toEqual(before);
});

test('the app quits at once while a machine runs, and finds it again', async ({ app }) => {
  await startOnPage(app.page, demoName);
  const before = app.machines();
  const page = await app.restart();
  await expect(stateOf(card(page, demoName))).toHaveText('Running');
  expect(app.machines()).toEqual(before);
});

test('a captured keyboard belongs to the guest alone; full screen has nothing but the guest', async ({ app }) => {
  const { page } = app;
  await startOnPage(page, demoName);
  await takeKeyboard(page);
  expect(await page.evaluate(() => document.pointerLockElement?.getAttribute('data-testid'))).toBe('screen');
  for (const keys of ['Control+n', 'Control+f', '?', '/', 'F11', 'Alt+2']) await page.keyboard.press(keys);
  await expect(page.getByRole('dialog')).toHaveCount(0);
  await expect(page.getByRole('tab', { name: 'Screen' })).toHaveAttribute('aria-selected', 'true');
  expect(await page.evaluate(() => document.fullscreenElement)).toBeNull();
  await giveKeyboardBack(page);
  expect(await page.evaluate(() => document.pointerLockElement)).toBeNull();

  await page.keyboard.press('F11');
  await expect(page.getByTestId('machine-page')).toHaveAttribute('data-full', 'true');
  await expect(page.getByRole('button', { name: 'Leave full screen' })).not.toBeInViewport();
  await app.shot('full-screen');
  await page.mouse.move(400, 300);
  await page.mouse.move(400, 0);
  await expect(page.getByRole('button', { name: 'Leave full screen' })).toBeInViewport();
  await page.getByRole('button', { name: 'Leave full screen' }).click();
  await expect(page.getByTestId('machine-page')).not.toHaveAttribute('data-full', 'true');
});

test('a machine killed with -9 is told, and the others go on', async ({ app }) => {
  const { page } = app;
  writeMachine(app, 'other', { name: 'Other demo', kernel: machineFile(app, demoId).boot.kernel });
  await expect(card(page, 'Other demo')).toBeVisible();
  await startOnPage(page, 'Other demo');
  const [other] = app.machines();
  await startOnPage(page, demoName);
  // The window loses its connection, which the browser notes on the console.
  app.allow(/WebSocket/);
  const victim = app.machines().find(({ pid }) => pid !== other.pid);
  expect(victim).toBeDefined();
  process.kill(victim!.pid, 'SIGKILL');
  await expect(stateOf(page.getByTestId('machine-page'))).toHaveText('Failed', { timeout: 30_000 });
  await expect(page.getByRole('alert').first()).toContainText(/killed/i);
  await app.shot('machine-killed');
  await page.getByRole('button', { name: 'Show the log' }).click();
  await expect(page.getByRole('tab', { name: 'Log' })).toHaveAttribute('aria-selected', 'true');
  await openLibrary(page);
  await expect(stateOf(card(page, demoName))).toHaveText('Failed');
  await openMachine(page, 'Other demo');
  await untilPixelsChange(page, await pixels(page));
  // And the one that was killed starts again.
  await openMachine(page, demoName);
  await page.getByRole('button', { name: 'Start again' }).click();
  await expect(stateOf(page.getByTestId('machine-page'))).toHaveText('Running', { timeout: 60_000 });
});

test('two windows on one machine: the keyboard has one owner', async ({ app }) => {
  const first = app.page;
  await startOnPage(first, demoName);
  await first.getByRole('button', { name: `More for ${demoName}` }).click();
  const second = await app.newPage(() => first.getByRole('menuitem', { name: 'Open in new window' }).click());
  await expect(second.getByTestId('screen-size')).toBeVisible();
  await untilPixelsChange(second, await pixels(second));
  await second.bringToFront();
  await takeKeyboard(second);
  await giveKeyboardBack(second);
  await expect(first.getByText('2 windows look at it')).toBeVisible();
});

test('a machine is started once, whoever asks', async ({ app }) => {
  const { page } = app;
  await expect(card(page, demoName)).toBeVisible();
  await Promise.all([
    page.getByRole('button', { name: `Start ${demoName}` }).click(),
    app.cli('start', demoId),
    app.cli('start', demoId),
  ]);
  await expect(stateOf(card(page, demoName))).toHaveText('Running', { timeout: 60_000 });
  expect(app.machines()).toHaveLength(1);
});

test('a second display backend is refused', async ({ app }) => {
  const { kernel } = machineFile(app, demoId).boot;
  const { code, stderr } = await app.cli('run', '--kernel', kernel, '--display', 'canvas', '--display', 'canvas');
  expect(code).not.toBe(0);
  expect(stderr).toContain('at most one display backend');
  expect(app.machines()).toEqual([]);
});
