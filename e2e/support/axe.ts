// Whether a page keeps anybody from using it, as far as a tool can tell (axe-core): names and roles, the order of headings, contrast.
import { AxeBuilder } from '@axe-core/playwright';
import type { Page } from '@playwright/test';
import { expect } from '@playwright/test';

/** Fails with every violation, each with the first elements that it is about. */
export async function expectAccessible(page: Page, what: string): Promise<void> {
  // Colours and places that are still on their way are judged once they are there.
  await page.evaluate(() => Promise.all(document.getAnimations().filter(({ effect }) => effect?.getComputedTiming().endTime !== Infinity).map(({ finished }) => finished.catch(() => {}))));
  // Without the legacy mode axe opens a page of its own, which Electron has not.
  const { violations } = await new AxeBuilder({ page }).setLegacyMode(true).analyze();
  expect(violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map(({ html, failureSummary }) => `${html} (${failureSummary})`).join('; ')}`), `axe on ${what}`).toEqual([]);
}
