// The library: what a person meets first. The machines that come along, search, making, changing and removing one, and the states that
// are rare: far too many, a very long name, a damaged file.
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from './fixtures.ts';
import { card, demoId, demoName, goTo, machineFile, openLibrary, openMachine, stateOf, writeMachine } from './support/pages.ts';

for (const theme of ['light', 'dark'] as const) {
  test.describe(`in the ${theme} theme`, () => {
    test.use({ theme });
    test('the first window has two machines, and the keyboard reaches them', async ({ app }) => {
      const { page } = app;
      await expect(card(page, demoName)).toBeVisible();
      await expect(card(page, 'Try Linux')).toBeVisible();
      await expect(stateOf(card(page, demoName))).toHaveText('Off');
      await app.shot('library');
      await page.getByRole('link', { name: 'This computer', exact: true }).click();
      await expect(page.getByText('What it can do')).toBeVisible({ timeout: 60_000 });
      await app.shot('this-computer');
      await openLibrary(page);

      await page.keyboard.press('/');
      await expect(page.getByRole('searchbox')).toBeFocused();
      await page.keyboard.type('frame DEMO');
      await expect(card(page, 'Try Linux')).toHaveCount(0);
      await page.keyboard.press('Escape');
      await expect(card(page, 'Try Linux')).toBeVisible();

      await card(page, demoName).focus();
      await page.keyboard.press('Enter');
      await expect(page.getByTestId('machine-page')).toBeVisible();
      await app.shot('machine-off');
      await page.keyboard.press('Escape');
      await expect(page.getByRole('heading', { name: 'Machines', exact: true })).toBeVisible();
      await page.keyboard.press('?');
      await expect(page.getByRole('dialog')).toContainText('Keyboard shortcuts');
      await app.shot('shortcuts');
      await page.keyboard.press('Escape');
      await expect(page.getByRole('dialog')).toHaveCount(0);
    });
  });
}

test('the theme can be chosen, and stays chosen', async ({ app }) => {
  const { page } = app;
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.getByRole('radio', { name: 'Dark theme' }).click();
  await expect.poll(ground).not.toBe(light);
  const dark = await ground();
  await page.reload();
  await expect(card(page, demoName)).toBeVisible();
  expect(await ground()).toBe(dark);
});

test('a machine is made from a kernel, changed and removed', async ({ app }) => {
  const { page } = app;
  await expect(card(page, demoName)).toBeVisible();
  const { kernel } = machineFile(app, demoId).boot;
  await page.keyboard.press('n');
  const dialog = page.getByRole('dialog');
  await expect(dialog.getByRole('textbox', { name: 'Name' })).toBeFocused();
  await app.shot('new-machine');

  // Wrong words are told while they are typed, and nothing is made of them.
  await dialog.getByRole('textbox', { name: 'Memory' }).fill('8');
  await expect(dialog).toContainText('At least 16 MiB.');
  await dialog.getByRole('textbox', { name: 'CPUs' }).fill('33');
  await expect(dialog).toContainText('From 1 to 32.');
  await dialog.getByRole('textbox', { name: 'Kernel' }).fill('vmlinuz');
  await expect(dialog).toContainText('Write the whole path');
  await dialog.getByRole('button', { name: 'Create machine' }).click();
  await expect(dialog).toContainText('A machine needs a name.');
  await app.shot('new-machine-errors');

  await dialog.getByRole('textbox', { name: 'Name' }).fill('Second demo');
  await dialog.getByRole('textbox', { name: 'Memory' }).fill('128 MiB');
  await dialog.getByRole('textbox', { name: 'CPUs' }).fill('1');
  await dialog.getByRole('textbox', { name: 'Kernel' }).fill(kernel);
  await dialog.getByRole('textbox', { name: 'Command line' }).fill('');
  await dialog.getByRole('button', { name: 'Create machine' }).click();
  await expect(dialog).toHaveCount(0);
  await expect(card(page, 'Second demo')).toContainText('1 CPU, 128 MiB');

  await page.getByRole('button', { name: 'More for Second demo' }).click();
  await page.getByRole('menuitem', { name: 'Edit settings' }).click();
  await dialog.getByRole('button', { name: /Screen/ }).click();
  await page.getByRole('option', { name: '1024 × 768' }).click();
  await dialog.getByRole('button', { name: /When the guest restarts/ }).click();
  await page.getByRole('option', { name: 'Turn off' }).click();
  await app.shot('settings');
  await dialog.getByRole('textbox', { name: 'Name' }).fill('Third demo');
  await page.keyboard.press('Enter');
  await expect(card(page, 'Third demo')).toBeVisible();
  expect(machineFile(app, 'second-demo')).toMatchObject({ name: 'Third demo', display: { kind: 'canvas', width: 1024, height: 768 }, onReset: 'stop' });

  await page.getByRole('button', { name: 'More for Third demo' }).click();
  await app.shot('card-menu');
  await page.getByRole('menuitem', { name: 'Show the log' }).click();
  await expect(page.getByRole('dialog', { name: 'Log of Third demo' })).toBeVisible();
  await app.shot('log-dialog');
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'More for Third demo' }).click();
  await page.getByRole('menuitem', { name: 'Remove' }).click();
  const question = page.getByRole('alertdialog');
  await expect(question.getByRole('button', { name: 'Go back' })).toBeFocused();
  await app.shot('remove-machine');
  await question.getByRole('button', { name: 'Remove machine' }).click();
  await expect(card(page, 'Third demo')).toHaveCount(0);
});

test('a machine whose kernel is missing says so, and nothing runs', async ({ app }) => {
  const { page } = app;
  writeMachine(app, 'lost', { name: 'Lost kernel', kernel: '/nonexistent/vmlinuz' });
  await expect(card(page, 'Lost kernel')).toBeVisible();
  await page.getByRole('button', { name: 'Start Lost kernel' }).click();
  await expect(page.getByRole('alert').filter({ hasText: '/nonexistent/vmlinuz' }).first()).toBeVisible({ timeout: 60_000 });
  await app.shot('start-failed');
  expect(app.machines()).toEqual([]);
});

test('a damaged file is reported and kept, the others load', async ({ app }) => {
  const { page } = app;
  writeMachine(app, 'broken', '{ "version": 1, "id": ');
  await expect(stateOf(card(page, 'broken'))).toHaveText('File damaged');
  await expect(card(page, demoName)).toBeVisible();
  await page.getByRole('button', { name: 'Show why broken failed' }).click();
  await expect(page.getByRole('dialog')).toContainText('broken/machine.json');
  await app.shot('damaged');
  await page.keyboard.press('Escape');
  await goTo(page, '#/machine/broken');
  await expect(page.getByRole('heading', { name: 'The file of broken cannot be read' })).toBeVisible();
  await app.shot('machine-damaged');
  await page.getByRole('button', { name: 'Show all machines' }).click();
  // Mended, it appears by itself.
  writeMachine(app, 'broken', { name: 'Mended', kernel: machineFile(app, demoId).boot.kernel });
  await expect(card(page, 'Mended')).toBeVisible();
});

test('a library without machines, and addresses that name none', async ({ app }) => {
  const { page } = app;
  await expect(card(page, demoName)).toBeVisible();
  const folder = join(app.folders.data, 'vitrine/machines');
  for (const id of readdirSync(folder)) rmSync(join(folder, id), { recursive: true });
  await expect(page.getByRole('heading', { name: 'No machines yet' })).toBeVisible();
  await app.shot('library-empty');
  for (const [hash, way, back] of [['#/machine/nobody', 'Show all machines', 'Machines'], ['#/give/nobody', 'Show all devices', 'Devices']]) {
    await goTo(page, hash);
    await expect(page.getByRole('heading', { name: 'There is no such machine' })).toBeVisible();
    await app.shot(`no-such-${hash.split('/')[1]}`);
    await page.getByRole('button', { name: way }).click();
    await expect(page.getByRole('heading', { name: back, exact: true })).toBeVisible();
  }
});

test('a name of 200 characters breaks nothing', async ({ app }) => {
  const { page } = app;
  const name = 'A name that goes on and on '.repeat(8).slice(0, 199).trimEnd().padEnd(200, 'x');
  writeMachine(app, 'long', { name, kernel: machineFile(app, demoId).boot.kernel });
  await expect(card(page, name)).toBeVisible();
  await app.shot('long-name');
  const tooWide = () => page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  expect(await tooWide()).toBe(false);
  await openMachine(page, name);
  await expect(page.getByRole('button', { name: 'Start', exact: true })).toBeInViewport();
  expect(await tooWide()).toBe(false);
  await app.shot('long-name-page');
});

test('with 500 machines the document stays small, and the last one is found', async ({ app }) => {
  const { page } = app;
  await expect(card(page, demoName)).toBeVisible();
  const { kernel } = machineFile(app, demoId).boot;
  for (let i = 1; i <= 498; i++) writeMachine(app, `many-${i}`, { name: `Machine ${i}`, kernel });
  await expect(page.getByRole('link', { name: 'Machines 500' })).toBeVisible({ timeout: 30_000 });
  expect(await page.getByRole('row').count()).toBeLessThan(60);
  await app.shot('500-machines');
  await page.getByRole('searchbox').fill('machine 498');
  await expect(card(page, 'Machine 498')).toBeVisible();
  await expect(page.getByText('1 of 500')).toBeVisible();
  await page.getByRole('searchbox').fill('no such thing');
  await expect(page.getByText('No machine matches')).toBeVisible();
  await app.shot('no-match');
});
