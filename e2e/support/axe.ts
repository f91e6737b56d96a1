// Whether a page keeps anybody from using it, as far as a tool can tell (axe-core): names and roles, the order of headings, contrast; in
// the theme that is shown, and what has to do with colours in the other one, too. `app.shot()` asks this of every screen that it keeps.
import { AxeBuilder } from '@axe-core/playwright';
import type { Page } from '@playwright/test';
import { expect } from '@playwright/test';

/** The rules about colours: all others come out the same in both themes. */
const COLOURS = ['color-contrast', 'link-in-text-block'];

/** Fails with every violation, each with the first elements that it is about. */
export async function expectAccessible(page: Page, what: string): Promise<void> {
  const dark = await page.evaluate(() => matchMedia('(prefers-color-scheme: dark)').matches);
  const theme = (isDark: boolean) => (isDark ? 'dark' : 'light');
  const found = await violations(page);
  await page.emulateMedia({ colorScheme: theme(!dark) });
  const other = await violations(page, COLOURS);
  await page.emulateMedia({ colorScheme: theme(dark) });
  expect([...found, ...other.map((text) => `${theme(!dark)} theme: ${text}`)], `axe on ${what}`).toEqual([]);
}

/** @param rules only these */
async function violations(page: Page, rules?: string[]): Promise<string[]> {
  // Colours and places that are still on their way are judged once they are there.
  await page.evaluate(() => Promise.all(document.getAnimations().filter(({ effect }) => effect?.getComputedTiming().endTime !== Infinity).map(({ finished }) => finished.catch(() => {}))));
  // Without the legacy mode axe opens a page of its own, which Electron has not.
  // What was said aloud a moment ago names things that may be gone by now.
  const axe = new AxeBuilder({ page }).setLegacyMode(true).options({ resultTypes: ['violations'] }).exclude('[data-live-announcer]');
  const { violations: found } = await (rules === undefined ? axe : axe.withRules(rules)).analyze();
  return found.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map(({ html, failureSummary }) => `${html} (${failureSummary})`).join('; ')}`);
}
