// The pages as a person goes through them: what specs of several kinds do alike.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from '@playwright/test';
import type { Locator, Page } from '@playwright/test';
import type { App } from '../fixtures.ts';

export const demoName = 'Framebuffer demo';
export const demoId = 'framebuffer-demo';

/** The card of a machine in the library. */
export function card(page: Page, name: string): Locator {
  return page.getByRole('row', { name, exact: true });
}

/** Goes to an address within the app, as a link does. */
export async function goTo(page: Page, hash: string): Promise<void> {
  await page.evaluate((next) => { location.hash = next; }, hash);
}

export async function openLibrary(page: Page): Promise<void> {
  await goTo(page, '#/machines');
  await expect(page.getByRole('heading', { name: 'Machines', exact: true })).toBeVisible();
}

/** Opens a machine's own page by its card. */
export async function openMachine(page: Page, name: string): Promise<void> {
  await openLibrary(page);
  await card(page, name).click({ position: { x: 40, y: 40 } });
  await expect(page.getByTestId('machine-page')).toBeVisible();
}

/** The state that the machine's page or its card says, one word. */
export function stateOf(place: Locator): Locator {
  return place.locator('[data-state]').first();
}

/** Starts a machine on its own page and waits until its screen has drawn something. */
export async function startOnPage(page: Page, name: string, timeout = 60_000): Promise<void> {
  await openMachine(page, name);
  await page.getByRole('button', { name: 'Start', exact: true }).click();
  await expect(stateOf(page.getByTestId('machine-page'))).toHaveAttribute('data-state', 'running', { timeout });
  await expect(page.getByTestId('screen-size')).toBeVisible({ timeout });
}

export function screen(page: Page): Locator {
  return page.getByTestId('screen');
}

/** A fingerprint of what the canvas shows, taken from the window's own pixels. */
export async function pixels(page: Page): Promise<string> {
  return createHash('sha256').update(await screen(page).locator('canvas').screenshot()).digest('hex');
}

/** Waits until the canvas shows something else than `before`. */
export async function untilPixelsChange(page: Page, before: string, timeout = 15_000): Promise<void> {
  await expect.poll(async () => (await pixels(page)) === before, { timeout, message: 'the canvas should show something else' }).toBe(false);
}

/** Gives keyboard and pointer to the guest, as a click on its screen does. */
export async function takeKeyboard(page: Page): Promise<void> {
  await screen(page).click();
  await expect(page.getByTestId('capture-hint')).toContainText('Ctrl+Alt gives');
}

/** Lets Ctrl+Alt go, alone. @param hint what the page says then */
export async function giveKeyboardBack(page: Page, hint = 'Click the screen'): Promise<void> {
  await page.keyboard.down('Control');
  await page.keyboard.down('Alt');
  await page.keyboard.up('Alt');
  await page.keyboard.up('Control');
  await expect(page.getByTestId('capture-hint')).toContainText(hint);
}

/** Where the shifted characters of an American keyboard lie. */
const shifted: Record<string, string> = {
  '!': 'Digit1', '@': 'Digit2', '#': 'Digit3', $: 'Digit4', '%': 'Digit5', '^': 'Digit6', '&': 'Digit7', '*': 'Digit8', '(': 'Digit9', ')': 'Digit0',
  _: 'Minus', '+': 'Equal', '{': 'BracketLeft', '}': 'BracketRight', '|': 'Backslash', ':': 'Semicolon', '"': 'Quote', '~': 'Backquote',
  '<': 'Comma', '>': 'Period', '?': 'Slash',
};

/** Types as fingers do, with the Shift key down where it must be: Playwright's own typing only says which letter comes out. */
export async function typeInGuest(page: Page, text: string): Promise<void> {
  for (const letter of text) {
    if (letter === '\n') await page.keyboard.press('Enter', { delay: 20 });
    else if (shifted[letter] !== undefined) await page.keyboard.press(`Shift+${shifted[letter]}`, { delay: 20 });
    else if (/[A-Z]/.test(letter)) await page.keyboard.press(`Shift+Key${letter}`, { delay: 20 });
    else await page.keyboard.press(letter === ' ' ? 'Space' : letter, { delay: 20 });
  }
}

/** The library's folder of a machine. */
export function machineFolder(app: App, id: string): string {
  return join(app.folders.data, 'vitrine/machines', id);
}

/** The file of a machine that Vitrine has made, parsed. */
export function machineFile(app: App, id: string): { boot: { kernel: string }; name: string; memory: number } {
  return JSON.parse(readFileSync(join(machineFolder(app, id), 'machine.json'), 'utf8')) as { boot: { kernel: string }; name: string; memory: number };
}

/** Puts a machine into the library as another front would: its file, or any text in its place. */
export function writeMachine(app: App, id: string, content: { name: string; kernel: string } | string): void {
  mkdirSync(machineFolder(app, id), { recursive: true, mode: 0o700 });
  const text = typeof content === 'string' ? content : JSON.stringify({
    version: 1, id, name: content.name, memory: 64 * 2 ** 20, cpus: 1, boot: { kernel: content.kernel },
  });
  writeFileSync(join(machineFolder(app, id), 'machine.json'), text, { mode: 0o600 });
}

/** What the console of the machine that is shown has written, as far as it is in view. */
export async function consoleText(page: Page): Promise<string> {
  const rows = await page.getByTestId('console').locator('.xterm-rows > div').allTextContents();
  // The terminal draws spaces as non-breaking ones.
  return rows.join('\n').replaceAll(' ', ' ');
}
