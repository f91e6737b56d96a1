// The Devices page over written hosts (src/main/host-devices/testing): groups as frames, verdicts in words, why and what to do, and what
// changes while one looks at it.
import { rmSync, symlinkSync, mkdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Locator, Page } from '@playwright/test';
import { HOSTS, PCI_IDS } from '../src/main/host-devices/testing/hosts.ts';
import type { WrittenHost } from '../src/main/host-devices/testing/tree.ts';
import { writeHost } from '../src/main/host-devices/testing/tree.ts';
import { expect, test } from './fixtures.ts';

let host: WrittenHost;

/** The app shows this written host in the place of the computer. */
function onHost(text: string): void {
  test.use({
    env: async ({ theme: _theme }, provide) => {
      host = writeHost(text, PCI_IDS);
      await provide({ VITRINE_HOST_TREE: host.folder });
      host.remove();
    },
  });
}

async function openDevices(page: Page): Promise<void> {
  await page.getByRole('link', { name: 'Devices', exact: true }).click();
  await expect(page.getByRole('heading', { name: 'Devices', exact: true })).toBeVisible();
}

function frame(page: Page, name: string): Locator {
  return page.getByRole('listitem', { name, exact: true });
}

function bind(address: string, driver: string): void {
  const path = join(host.device(address), 'driver');
  unlinkSync(path);
  mkdirSync(join(host.folder, 'sys/bus/pci/drivers', driver), { recursive: true });
  symlinkSync(join(host.folder, 'sys/bus/pci/drivers', driver), path);
}

for (const theme of ['light', 'dark'] as const) {
  test.describe(`a desktop, in the ${theme} theme`, () => {
    test.use({ theme });
    onHost(HOSTS.intelDesktop);

    test('groups with verdicts and reasons, one device closely, by keyboard', async ({ app }) => {
      const { page } = app;
      await openDevices(page);
      const card = frame(page, 'GeForce RTX 4090 and 1 more');
      await expect(card.locator('[data-verdict]')).toHaveText('With care');
      await expect(card).toContainText('Group 11, goes together');
      await expect(card).toContainText('Its driver nvidia does not always let go of a card.');
      await expect(frame(page, '82574L Gigabit Network Connection').locator('[data-verdict]')).toHaveText('Ready');
      const drive = frame(page, 'Drive nvme0');
      await expect(drive.locator('[data-verdict]')).toHaveText('Not possible');
      await expect(drive).toContainText('Your computer\'s system is on this.');
      await expect(page.getByText('1 ready, 3 with care, 3 not possible')).toBeVisible();
      await app.shot('devices');

      await expect(page.getByText('Host Bridge')).toHaveCount(0);
      await page.getByRole('button', { name: 'Show them' }).click();
      await expect(frame(page, '12th Gen Core Processor Host Bridge/DRAM Registers')).toBeVisible();
      await page.getByRole('button', { name: 'Hide them' }).click();

      await page.getByRole('link', { name: 'GeForce RTX 4090', exact: true }).focus();
      await page.keyboard.press('Enter');
      const dialog = page.getByRole('dialog', { name: 'GeForce RTX 4090' });
      await expect(dialog).toContainText('Reserve it from start-up');
      await expect(dialog.locator('[data-finding="driver-in-use"] pre').first()).toContainText('options vfio-pci ids=10de:2684,10de:22ba');
      await expect(dialog.getByText('AD102 [GeForce RTX 4090] [10de:2684]', { exact: false })).toBeAttached();
      await app.shot('device');
      await page.keyboard.press('Escape');
      await expect(dialog).toHaveCount(0);
      await page.goBack();
      await expect(dialog).toBeVisible();
    });
  });
}

test.describe('a desktop that changes', () => {
  onHost(HOSTS.intelDesktop);
  test('a driver that takes a card, and a card that is pulled, while the page shows them', async ({ app }) => {
    const { page } = app;
    await openDevices(page);
    const card = frame(page, '82574L Gigabit Network Connection');
    await expect(card).toContainText('Nothing uses it now; its driver e1000e lets go of it first.');
    const names = () => page.getByRole('list', { name: 'Groups of devices' }).getByRole('heading').allTextContents();
    const order = await names();
    bind('03:00.0', 'vfio-pci');
    await expect(card).toContainText('It is set aside for machines.');
    // Nothing moves under one's eyes.
    expect(await names()).toEqual(order);
    await page.getByRole('link', { name: '82574L Gigabit Network Connection' }).click();
    await expect(page.getByRole('dialog')).toContainText('vfio-pci');
    unlinkSync(join(host.folder, 'sys/bus/pci/devices/0000:03:00.0'));
    await expect(page.getByRole('dialog')).toHaveCount(0);
    await expect(page.getByText('There is no device at 0000:03:00.0 any more')).toBeInViewport();
    await app.shot('device-gone');
    await page.getByRole('button', { name: 'Show all devices' }).click();
    await expect(card).toHaveCount(0);
  });
});

test.describe('a computer whose IOMMU is off', () => {
  onHost(HOSTS.noIommu);
  test('the setting and the parameter, and devices by slot', async ({ app }) => {
    const { page } = app;
    await openDevices(page);
    const notice = page.getByRole('status').filter({ hasText: 'The IOMMU is off in the computer\'s firmware.' });
    await expect(notice).toContainText('"Intel VT-d" on');
    await expect(notice.locator('pre')).toHaveText('sudo update-grub');
    await expect(frame(page, 'GeForce RTX 4090 and 1 more')).toContainText('Slot 01:00');
    await expect(page.locator('[data-verdict="ready"]')).toHaveCount(0);
    await app.shot('devices-no-iommu');
  });
});

test.describe('far too many devices', () => {
  onHost(`iommu dmar0\nremapping yes\n${Array.from({ length: 80 }, (_, at) => `pci ${(at + 16).toString(16)}:00.0 8086:10d3 020000 group=${at} label="${'A long name of a slot '.repeat(at === 3 ? 12 : 1)}"\n`).join('')}`);
  test('eighty of them, and a name of many words', async ({ app }) => {
    const { page } = app;
    await openDevices(page);
    await expect(page.getByText('80 ready')).toBeVisible();
    await expect(page.getByRole('list', { name: 'Groups of devices' }).locator('[data-verdict="ready"]')).toHaveCount(80);
    expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
    await app.shot('devices-80');
  });
});

test.describe('a computer without PCI', () => {
  onHost('');
  test('says so, and shows what comes', async ({ app }) => {
    const { page } = app;
    rmSync(join(host.folder, 'sys'), { recursive: true, force: true });
    await openDevices(page);
    await expect(page.getByRole('heading', { name: 'No PCI devices' })).toBeVisible();
    await app.shot('devices-none');
  });
});
