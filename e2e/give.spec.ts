// Giving devices to machines, by role and name, over written hosts on which the privileged helper's test build plays (played-host.ts): the
// wizard from a device and from a machine, each finding with its remedy, what the buttons do to the host's files, and how all of it is undone.
import { mkdirSync, readFileSync, symlinkSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Locator, Page } from '@playwright/test';
import { HOSTS, PCI_IDS } from '../src/main/host-devices/testing/hosts.ts';
import { playHost } from '../src/main/lease/testing/played-host.ts';
import type { PlayedHost } from '../src/main/lease/testing/played-host.ts';
import type { App } from './fixtures.ts';
import { expect, test } from './fixtures.ts';
import { expectAccessible } from './support/axe.ts';
import { card, machineFolder, openMachine, writeMachine } from './support/pages.ts';

const GiB = 2 ** 30;
let host: PlayedHost;

/** The app shows this written host in the place of the computer. */
function onHost(text: string, pciIds = PCI_IDS): void {
  test.use({
    env: async ({ theme: _theme }, provide) => {
      host = playHost(text, pciIds);
      await provide(host.env);
      host.remove();
    },
  });
}

interface Given {
  kind: string;
  address: string;
  rom?: unknown;
  identity?: { name: string };
}

/** A machine in the library, with some of the computer's devices or none. */
async function makeMachine(app: App, name: string, memory = GiB, devices: Given[] = []): Promise<string> {
  const id = name.toLowerCase().replaceAll(/[^a-z]+/g, '-').slice(0, 60);
  writeMachine(app, id, JSON.stringify({ version: 1, id, name, memory, cpus: 2, boot: { kernel: '/boot/vmlinuz' }, display: { kind: 'none' }, devices }));
  await expect.poll(() => app.page.evaluate(() => document.readyState)).toBe('complete');
  await app.page.evaluate(() => { location.hash = '#/machines'; });
  await expect(card(app.page, name)).toBeVisible();
  return id;
}

/** The computer's devices that a machine has in its file. */
function devicesOf(app: App, id: string): Given[] {
  const file = JSON.parse(readFileSync(join(machineFolder(app, id), 'machine.json'), 'utf8')) as { devices?: Given[] };
  return file.devices ?? [];
}

async function goTo(page: Page, hash: string): Promise<void> {
  await page.evaluate((next) => { location.hash = next; }, hash);
}

async function openDevices(page: Page): Promise<void> {
  await goTo(page, '#/devices');
  await expect(page.getByRole('heading', { name: 'Devices', exact: true })).toBeVisible();
}

function button(page: Page | Locator, name: string | RegExp): Locator {
  return page.getByRole('button', typeof name === 'string' ? { name, exact: true } : { name });
}

/** What is known of a chosen group, in the second step. */
function part(page: Page, group: string): Locator {
  return page.locator(`section[data-group="${group}"]`);
}

async function understand(page: Page, id: string, groups: string): Promise<void> {
  await goTo(page, `#/give/${id}/understand/${encodeURIComponent(groups)}`);
  await expect(page.getByRole('heading', { name: /^What giving/ })).toBeFocused();
}

/** The host's files, but for the module that stays loaded. */
function hostFiles(): string {
  return host.snapshot().split('\n').filter((row) => !/drivers\/vfio-pci\/(un)?bind /.test(row)).join('\n');
}

const plan = (page: Page) => page.getByRole('list', { name: 'Changes, in order' });

for (const theme of ['light', 'dark'] as const) {
  test.describe(`a desktop with two graphics cards, in the ${theme} theme`, () => {
    test.use({ theme });
    onHost(HOSTS.amdDesktop);

    test('point at a device, understand, review, give, release, take back', async ({ app }) => {
      const { page } = app;
      const id = await makeMachine(app, 'Workstation', 8 * GiB);
      const before = hostFiles();
      await openDevices(page);
      await expectAccessible(page, 'the Devices page');
      await button(page, 'Give Radeon RX 7600 and 1 more to a machine…').click();
      await page.getByRole('dialog', { name: 'Give Radeon RX 7600 to a machine' }).getByText('Workstation', { exact: true }).click();
      await expectAccessible(page, 'the choice of a machine');
      await button(page, 'Continue with Workstation').click();

      // From a device one begins with what it means.
      await expect(page.getByRole('heading', { name: 'What giving Radeon RX 7600 means' })).toBeFocused();
      await expect(page).toHaveTitle('Give a device to Workstation – Vitrine');
      const meaning = part(page, '14');
      await expect(meaning.locator('[data-verdict]')).toHaveText('With care');
      await expect(meaning).toContainText('Radeon RX 7600: your screens run on this.');
      await expect(meaning.locator('[data-finding="driver-in-use"]').first()).toContainText('Xorg and gnome-shell hold it open.');
      await expect(meaning.locator('[data-finding="group-shared"]').first()).toContainText('Its other function goes with it: Navi 31 HDMI/DP Audio');
      await expect(page.locator('[data-finding="memory-pinned"]')).toContainText('16 GiB remain for this computer.');
      await expectAccessible(page, 'the step Understand');
      await app.shot('give-understand');

      // Back and forth, by the address and by the keyboard.
      await page.goBack();
      await expect(page.getByRole('heading', { name: 'Devices', exact: true })).toBeVisible();
      await page.goForward();
      await button(page, 'Back').click();
      await expect(page.getByRole('heading', { name: 'Choose a device' })).toBeFocused();
      const box = page.getByRole('checkbox', { name: 'Radeon RX 7600 and 1 more' });
      await expect(box).toBeChecked();
      await box.focus();
      await page.keyboard.press('Space');
      await expect(button(page, 'Continue')).toBeDisabled();
      await page.keyboard.press('Space');
      await expect(button(page, 'Continue with Radeon RX 7600')).toBeEnabled();
      await expectAccessible(page, 'the step Choose');
      await app.shot('give-choose');
      await button(page, 'Continue with Radeon RX 7600').click();
      await button(page, 'Review the changes').click();

      await expect(page.getByRole('heading', { name: 'What will change on this computer' })).toBeFocused();
      const steps = plan(page).getByRole('listitem');
      await expect(steps.first()).toContainText('Add Radeon RX 7600 and Navi 31 HDMI/DP Audio to Workstation');
      const unbind = steps.filter({ hasText: 'Stop the driver amdgpu for slot 01:00.0' });
      await expect(unbind).toContainText('The 2 screens on it go dark.');
      await expect(unbind).toContainText('Undone: give it back to amdgpu');
      await expect(page.getByRole('main').getByRole('status').filter({ hasText: 'Radeon RX 7600: Your screens run on this.' })).toBeVisible();
      await expect(button(page, 'Copy as commands')).toBeVisible();
      await expectAccessible(page, 'the step Review');
      await app.shot('give-review');
      expect(hostFiles()).toBe(before);

      await page.getByRole('radio', { name: /^Keep them for machines/ }).focus();
      await page.keyboard.press('Space');
      await button(page, 'Give Radeon RX 7600 (asks for your password)').click();
      await expect(page.getByRole('heading', { name: 'Workstation has Radeon RX 7600' })).toBeFocused();
      await expectAccessible(page, 'the step Done');
      await app.shot('give-done');
      expect(['01:00.0', '01:00.1'].map(host.driverOf)).toEqual(['vfio-pci', 'vfio-pci']);
      expect(devicesOf(app, id).map(({ address, identity }) => [address, identity?.name])).toEqual([['0000:01:00.0', 'Radeon RX 7600'], ['0000:01:00.1', 'Navi 31 HDMI/DP Audio']]);

      await button(page, 'Show the devices').click();
      const kept = page.getByRole('listitem', { name: 'Radeon RX 7600 and Navi 31 HDMI/DP Audio', exact: true });
      await expect(kept).toContainText('Kept for Workstation until it is released');
      await expect(page.getByRole('listitem', { name: 'Radeon RX 7600 and 1 more', exact: true })).toContainText('Given to Workstation');
      await expect(page.getByRole('link', { name: 'Devices 2 given' })).toBeVisible();
      await expectAccessible(page, 'the Devices page with something given');
      await app.shot('devices-given');
      await button(kept, 'Release').click();
      await expect(kept).toHaveCount(0);
      expect(['01:00.0', '01:00.1'].map(host.driverOf)).toEqual(['amdgpu', 'snd_hda_intel']);

      await openMachine(page, 'Workstation');
      await expect(page.getByText('It has Radeon RX 7600 and Navi 31 HDMI/DP Audio of this computer.')).toBeVisible();
      await button(page, 'Show its devices').click();
      const dialog = page.getByRole('dialog', { name: 'Devices of Workstation' });
      await expect(dialog.getByRole('link', { name: 'Radeon RX 7600' })).toBeVisible();
      await expectAccessible(page, 'the devices of a machine');
      await app.shot('machine-devices');
      await button(dialog, 'Take back Radeon RX 7600 and Navi 31 HDMI/DP Audio').click();
      await expect(dialog).toContainText('It has none of this computer’s devices.');
      expect(devicesOf(app, id)).toEqual([]);
      expect(hostFiles()).toBe(before);
    });
  });
}

test.describe('a plan that does not come true', () => {
  onHost(HOSTS.amdDesktop);

  test('refused, cancelled, changed meanwhile, and left: nothing is changed', async ({ app }) => {
    const { page } = app;
    const id = await makeMachine(app, 'Workstation');
    const before = hostFiles();
    const review = async (): Promise<void> => {
      await goTo(page, `#/give/${id}/review/14`);
      await expect(plan(page)).toBeVisible();
      await page.getByRole('radio', { name: /^Keep them for machines/ }).focus();
      await page.keyboard.press('Space');
      await expect(button(page, 'Give Radeon RX 7600 (asks for your password)')).toBeEnabled();
    };
    await review();

    host.answer(126);
    await button(page, 'Give Radeon RX 7600 (asks for your password)').click();
    await expect(page.getByRole('heading', { name: 'Radeon RX 7600 could not be given' })).toBeFocused();
    await expect(page.getByRole('alert')).toBeVisible();
    expect(hostFiles()).toBe(before);
    await app.shot('give-refused');
    host.answer(0);
    await button(page, 'Back to the plan').click();

    // A driver that does not let go: the person has waited long enough.
    host.write('hang/0000:01:00.0', '');
    await button(page, 'Give Radeon RX 7600 (asks for your password)').click();
    await expect(page.getByRole('list', { name: 'Progress' })).toContainText('Radeon RX 7600');
    await button(page, 'Cancel and undo').click();
    unlinkSync(join(host.folder, 'hang/0000:01:00.0'));
    await expect(page.getByRole('heading', { name: 'Cancelled' })).toBeFocused();
    await expect.poll(() => hostFiles()).toBe(before);
    expect(devicesOf(app, id)).toEqual([]);
    await button(page, 'Back to the plan').click();

    // Another driver takes the card's sound while the plan is looked at.
    await expect(plan(page)).toContainText('snd_hda_intel');
    const link = join(host.device('01:00.1'), 'driver');
    unlinkSync(link);
    mkdirSync(join(host.folder, 'sys/bus/pci/drivers/snd_other'), { recursive: true });
    symlinkSync(join(host.folder, 'sys/bus/pci/drivers/snd_other'), link);
    await expect(page.getByRole('alert').filter({ hasText: 'The computer has changed since this plan was shown' })).toBeVisible();
    await expect(plan(page)).toContainText('snd_other');
    await app.shot('give-changed');

    // A card that is pulled.
    for (const address of ['0000:01:00.0', '0000:01:00.1']) {
      unlinkSync(join(host.folder, 'sys/bus/pci/devices', address));
      unlinkSync(join(host.folder, 'sys/kernel/iommu_groups/14/devices', address));
    }
    await expect(page.getByRole('alert').filter({ hasText: 'Something that was chosen is not there any more' })).toBeVisible();
    await page.keyboard.press('Escape');
    await expect(page.getByRole('heading', { name: /^What giving/ })).toBeVisible();
    await button(page, 'Cancel').click();
    await expect(page.getByTestId('give')).toHaveCount(0);
    expect(devicesOf(app, id)).toEqual([]);
  });
});
