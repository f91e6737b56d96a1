// A device for real, from the click to the packet: where Linux machines run in the lab, its network card is given to Try Linux by the wizard, the
// guest's own driver works it, and the lab has it back when the machine is off. Where KVM runs Linux the wizard shows the computer's own
// devices, which no test may touch.
import { expect, test } from './fixtures.ts';
import { consoleText, stateOf } from './support/pages.ts';

/** In the lab a boot takes minutes where the lab itself is emulated. */
const BOOT = 8 * 60_000;
const NIC = '82574L Gigabit Network Connection';

test('a network card of the lab is pointed at, works in the guest, and is the lab’s again', async ({ app }) => {
  test.setTimeout(2 * BOOT);
  const { page } = app;
  const button = (name: string) => page.getByRole('button', { name, exact: true });
  await page.evaluate(() => { location.hash = '#/computer'; });
  const place = page.getByRole('heading', { name: /^Linux runs / });
  await expect(place).toBeVisible({ timeout: 60_000 });
  test.skip(!(await place.textContent())!.includes('in the lab'), 'Linux runs on this computer’s own KVM');

  await page.evaluate(() => { location.hash = '#/give/try-linux'; });
  const box = page.getByRole('checkbox', { name: NIC });
  await expect(box).toBeVisible({ timeout: BOOT });
  await expect(page.getByText('These are the devices of the lab', { exact: true })).toBeVisible();
  // Its driver is loaded a little after the lab has started.
  await expect(page.getByRole('listitem', { name: NIC })).toContainText('e1000e', { timeout: 120_000 });
  await box.focus();
  await page.keyboard.press('Space');
  await app.shot('lab-choose');
  await button(`Continue with ${NIC}`).click();
  await button('Review the changes').click();
  await expect(page.getByRole('list', { name: 'Changes, in order' })).toContainText('Stop the driver e1000e', { timeout: 60_000 });
  await app.shot('lab-review');
  await button(`Give ${NIC}`).click();
  await button('Start Try Linux').click({ timeout: 60_000 });

  await expect(stateOf(page.getByTestId('machine-page'))).toHaveAttribute('data-state', 'running', { timeout: BOOT });
  await page.getByRole('tab', { name: 'Console' }).click();
  await expect.poll(() => consoleText(page), { timeout: BOOT, intervals: [1000] }).toContain('try-linux:~#');
  await page.getByTestId('console').click();
  // As the shell says it and not as it is typed: the words are put together by it.
  await page.keyboard.type('ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ping -c 20 -i 0.2 10.0.2.2 | grep -q "64 bytes" && echo traf""fic\n');
  await expect.poll(() => consoleText(page), { timeout: 180_000, intervals: [1000] }).toContain('traffic');
  await page.keyboard.type('basename $(readlink /sys/class/net/eth0/device/driver)\n');
  await expect.poll(() => consoleText(page), { timeout: 60_000, intervals: [1000] }).toMatch(/\ne1000e\s/);
  await app.shot('lab-traffic');

  await page.getByRole('tab', { name: 'Screen' }).click();
  await button('Shut down').click();
  await expect(stateOf(page.getByTestId('machine-page'))).toHaveText('Off', { timeout: 180_000 });
  await page.evaluate(() => { location.hash = '#/devices/0000%3A00%3A05.0'; });
  await expect(page.getByRole('dialog', { name: NIC })).toContainText('e1000e', { timeout: BOOT });
});
