// Linux in the window: boots to a prompt on the canvas, where KVM can run it or in the lab; what is typed on the canvas's keyboard shows
// up on the screen and on the serial console. In the lab it has the lab's network card, pointed at in the wizard, and the lab has it back.
import { expect, test } from './fixtures.ts';
import { expectCardBack, expectTraffic, giveCard, runsInLab } from './support/lab-card.ts';
import { consoleText, giveKeyboardBack, pixels, startOnPage, stateOf, takeKeyboard, typeInGuest, untilPixelsChange } from './support/pages.ts';

/** In the lab a boot takes minutes where the lab itself is emulated. */
const BOOT = 8 * 60_000;

test('Try Linux boots to a prompt; uname typed on the screen is on the screen and on the console', async ({ app }) => {
  test.setTimeout(BOOT + 6 * 60_000);
  const { page } = app;
  const inLab = await runsInLab(page);
  if (inLab) await giveCard(app, 'try-linux', BOOT);
  await startOnPage(page, 'Try Linux', BOOT);
  const early = await pixels(page);
  await app.shot('linux-booting');

  // The shells of the screen and of the serial port start together: the console tells when.
  await page.getByRole('tab', { name: 'Console' }).click();
  await expect.poll(() => consoleText(page), { timeout: BOOT, intervals: [1000] }).toContain('try-linux:~#');
  await page.getByRole('tab', { name: 'Screen' }).click();
  await untilPixelsChange(page, early, 60_000);
  await app.shot('linux-prompt');

  const before = await pixels(page);
  await takeKeyboard(page);
  // What the screen's terminal says goes to the serial port too, and at the end the text of the screen as the kernel holds it.
  await typeInGuest(page, 'uname -a | tee /dev/ttyS0\n');
  await untilPixelsChange(page, before, 60_000);
  await typeInGuest(page, 'echo "[screen $(tr -s " " < /dev/vcs1) end]" > /dev/ttyS0\n');
  await giveKeyboardBack(page);
  await app.shot('linux-uname');

  await page.getByRole('tab', { name: 'Console' }).click();
  const printed = /Linux try-linux \d+\.\d+\S* .*x86_64/;
  await expect.poll(() => consoleText(page), { timeout: 120_000, intervals: [1000] }).toMatch(/\[screen [^]*end\]/);
  const text = (await consoleText(page)).replaceAll('\n', '');
  expect(text.slice(0, text.indexOf('[screen '))).toMatch(printed);
  expect(text.slice(text.indexOf('[screen '))).toMatch(printed);
  await app.shot('linux-console');
  if (inLab) {
    await expectTraffic(page);
    await app.shot('linux-traffic');
  }

  // And it can be asked to shut down: the power button reaches its init.
  await page.getByRole('tab', { name: 'Screen' }).click();
  await page.getByRole('button', { name: 'Shut down' }).click();
  await expect(stateOf(page.getByTestId('machine-page'))).toHaveText('Off', { timeout: 180_000 });
  await expect(page.getByText('The guest powered off.')).toBeVisible();
  if (inLab) await expectCardBack(page, BOOT);
});
