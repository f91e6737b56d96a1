// A device for real, from the click to the packet: the network card of the lab, given to a machine by the wizard. Where KVM runs Linux the wizard
// shows the computer's own devices, which no test may touch.
import { expect } from '@playwright/test';
import type { Page } from '@playwright/test';
import type { App } from '../fixtures.ts';
import { consoleText } from './pages.ts';

const NIC = '82574L Gigabit Network Connection';

/** Whether machines with Linux run in the lab here. */
export async function runsInLab(page: Page): Promise<boolean> {
  await page.evaluate(() => { location.hash = '#/computer'; });
  const place = page.getByRole('heading', { name: /^Linux runs / });
  await expect(place).toBeVisible({ timeout: 60_000 });
  return (await place.textContent())!.includes('in the lab');
}

/** Points at the card, and gives it to the machine. `patience`: milliseconds for the lab to start. */
export async function giveCard(app: App, id: string, patience: number): Promise<void> {
  const { page } = app;
  const button = (name: string) => page.getByRole('button', { name, exact: true });
  await page.evaluate((machine) => { location.hash = `#/give/${machine}`; }, id);
  await expect(page.getByRole('checkbox', { name: NIC })).toBeVisible({ timeout: patience });
  await expect(page.getByText('These are the devices of the lab', { exact: true })).toBeVisible();
  // Its driver is loaded a little after the lab has started.
  await expect(page.getByRole('listitem', { name: NIC })).toContainText('e1000e', { timeout: patience });
  await page.getByRole('checkbox', { name: NIC }).focus();
  await page.keyboard.press('Space');
  await app.shot('lab-choose');
  await button(`Continue with ${NIC}`).click();
  await button('Review the changes').click();
  await expect(page.getByRole('list', { name: 'Changes, in order' })).toContainText('Stop the driver e1000e', { timeout: 60_000 });
  await app.shot('lab-review');
  await button(`Give ${NIC}`).click();
  await expect(page.getByRole('heading', { name: / has 82574L/ })).toBeVisible({ timeout: 60_000 });
  await button('Close').click();
}

/** On the console, which has a shell: the guest's own driver has the card, and packets come back. */
export async function expectTraffic(page: Page): Promise<void> {
  await page.getByTestId('console').click();
  // As the shell says it and not as it is typed: the words are put together by it.
  await page.keyboard.type('ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ping -c 20 -i 0.2 10.0.2.2 | grep -q "64 bytes" && echo traf""fic\n');
  await expect.poll(() => consoleText(page), { timeout: 180_000, intervals: [1000] }).toContain('traffic');
  await page.keyboard.type('basename $(readlink /sys/class/net/eth0/device/driver)\n');
  await expect.poll(() => consoleText(page), { timeout: 60_000, intervals: [1000] }).toMatch(/\ne1000e\s/);
}

/** The lab's own driver has the card again. */
export async function expectCardBack(page: Page, patience: number): Promise<void> {
  await page.evaluate(() => { location.hash = '#/devices/0000%3A00%3A05.0'; });
  await expect(page.getByRole('dialog', { name: NIC }).getByText('e1000e', { exact: true })).toBeVisible({ timeout: patience });
}
