// A machine's disks, CDs, networks and folders, as a person adds, changes and removes them: on its page while it is off, and while it runs.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Locator, Page } from '@playwright/test';
import { expect, test } from './fixtures.ts';
import type { App } from './fixtures.ts';
import { expectAccessible } from './support/axe.ts';
import { card, demoId, machineFile, machineFolder, openLibrary, openMachine, stateOf, writeMachine } from './support/pages.ts';

interface Device {
  kind: string;
  slot?: number;
  [name: string]: unknown;
}

function devicesOf(app: App, id: string): Device[] {
  return (machineFile(app, id) as unknown as { devices?: Device[] }).devices ?? [];
}

/** A machine with the demonstration's kernel and no devices, its page open at them. */
async function openBox(app: App): Promise<Page> {
  const { page } = app;
  await expect(card(page, 'Framebuffer demo')).toBeVisible();
  writeMachine(app, 'box', { name: 'Box', kernel: machineFile(app, demoId).boot.kernel });
  await expect(card(page, 'Box')).toBeVisible();
  await openMachine(page, 'Box');
  await page.getByRole('tab', { name: 'Devices' }).click();
  await expect(page.getByRole('region', { name: 'Devices of Box' })).toBeVisible();
  return page;
}

function row(page: Page, section: string, name: string): Locator {
  return page.getByRole('list', { name: section }).getByRole('listitem', { name, exact: true });
}

async function choose(page: Page, button: string, item: string): Promise<Locator> {
  await page.getByRole('button', { name: button, exact: true }).click();
  await page.getByRole('menuitem', { name: item }).click();
  return page.getByRole('dialog');
}

for (const theme of ['light', 'dark'] as const) {
  test.describe(`in the ${theme} theme`, () => {
    test.use({ theme });
    test('disks, a CD, a network card and a folder are given to a machine that is off', async ({ app }) => {
      const page = await openBox(app);
      await expect(page.getByText('No disks.')).toBeVisible();
      await app.shot('parts-empty');
      await expectAccessible(page, 'the devices of a machine without any');

      // A new disk, in the machine's own folder.
      const dialog = await choose(page, 'Add a disk', 'New disk…');
      await expect(dialog.getByLabel('New image')).toHaveValue(/machines\/box\/disks\/disk\.qcow2$/);
      await dialog.getByLabel('Size').fill('much');
      await expect(dialog.getByText('Such as 20 GiB or 512 MiB.')).toBeVisible();
      await app.shot('parts-new-disk');
      await expectAccessible(page, 'a new disk');
      await dialog.getByLabel('Size').fill('3 GiB');
      await dialog.getByRole('button', { name: 'Create disk' }).click();
      const disk = row(page, 'Disks', 'disk.qcow2');
      await expect(disk.getByText(/^qcow2, 3 GiB, takes \d/)).toBeVisible();
      const image = join(machineFolder(app, 'box'), 'disks/disk.qcow2');
      expect(existsSync(image)).toBe(true);
      expect(devicesOf(app, 'box')).toMatchObject([{ kind: 'virtio-blk', slot: 1, file: image, cache: 'writeback' }]);

      // An image that is not there stands at its field; one that is, is described while it is typed.
      const raw = join(app.folders.data, 'raw.img');
      writeFileSync(raw, Buffer.alloc(2 ** 20));
      const existing = await choose(page, 'Add a disk', 'Existing image…');
      await existing.getByLabel('Image', { exact: true }).fill(join(app.folders.data, 'none.img'));
      await expect(existing.getByText(/there is no such file/i)).toBeVisible();
      await existing.getByRole('button', { name: 'Add disk' }).click();
      await expect(existing.getByText(/The image is not there/)).toBeVisible();
      await existing.getByLabel('Image', { exact: true }).fill(raw);
      await expect(existing.getByText(/^raw, 1 MiB/)).toBeVisible();
      await existing.getByText('Read-only').click();
      await existing.getByRole('button', { name: 'Add disk' }).click();
      await expect(row(page, 'Disks', 'raw.img').getByText(/read-only/)).toBeVisible();

      // A CD drive, empty at first.
      await page.getByRole('button', { name: 'Add a CD drive' }).click();
      await dialog.getByText('Leave the drive empty').click();
      await dialog.getByRole('button', { name: 'Add CD drive' }).click();
      await page.getByRole('button', { name: 'Insert a CD into CD drive 1' }).click();
      await dialog.getByLabel('Image', { exact: true }).fill(raw);
      await dialog.getByRole('button', { name: 'Insert CD' }).click();
      await expect(row(page, 'CD drives', 'CD drive 1').getByRole('heading', { name: 'raw.img' })).toBeVisible();
      await page.getByRole('button', { name: 'Eject CD drive 1' }).click();
      await expect(row(page, 'CD drives', 'CD drive 1').getByRole('heading', { name: 'CD drive 1, empty' })).toBeVisible();

      // A network card, whose ports are held against each other.
      await page.getByRole('button', { name: 'Add a network card' }).click();
      for (const index of [1, 2]) {
        await dialog.getByRole('button', { name: 'Forward a port' }).click();
        await dialog.getByLabel(`Port here of forward ${index}`).fill('2222');
        await dialog.getByLabel(`Port in the guest of forward ${index}`).fill(String(21 + index));
      }
      await expect(dialog.getByText('Forwarded twice.')).toBeVisible();
      await app.shot('parts-card');
      await expectAccessible(page, 'a network card');
      await dialog.getByRole('button', { name: 'Remove forward 2' }).click();
      await dialog.getByRole('button', { name: 'Add network card' }).click();
      const network = row(page, 'Network', 'User-mode network');
      await expect(network.getByText('tcp 127.0.0.1:2222 to 22')).toBeVisible();
      await expect(network.getByText(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/)).toBeVisible();
      await network.getByText('Plugged in').click();
      await expect(network.getByText('Unplugged')).toBeVisible();

      // A folder, with its tag from its name, and how the guest mounts it.
      const folder = join(app.folders.data, 'My projects');
      mkdirSync(folder);
      await page.getByRole('button', { name: 'Share a folder' }).click();
      await dialog.getByLabel('Folder').fill(folder);
      await expect(dialog.getByLabel('Tag')).toHaveValue('My-projects');
      await app.shot('parts-share');
      await dialog.getByRole('button', { name: 'Share folder' }).click();
      await expect(row(page, 'Shared folders', 'My-projects').getByText('mount -t 9p -o trans=virtio,version=9p2000.L My-projects /mnt')).toBeVisible();

      await choose(page, 'Add a device', 'Random numbers');
      await expect(row(page, 'Other devices', 'Random numbers')).toBeVisible();
      expect(devicesOf(app, 'box').map(({ kind, slot }) => `${slot} ${kind}`)).toEqual(['1 virtio-blk', '3 virtio-blk', '4 virtio-scsi', '5 virtio-net', '6 virtio-9p', '7 virtio-rng']);
      expect(devicesOf(app, 'box')[3]).toMatchObject({ linkUp: false });
      await app.shot('parts');
      await expectAccessible(page, 'the devices of a machine');
      await page.getByRole('region', { name: 'Devices of Box' }).evaluate((element) => element.scrollTo(0, element.scrollHeight));
      await app.shot('parts-below');
    });
  });
}

test('an image is resized, overlaid and taken out; what goes with the machine is said', async ({ app }) => {
  const page = await openBox(app);
  const dialog = await choose(page, 'Add a disk', 'New disk…');
  await dialog.getByLabel('Size').fill('8 MiB');
  await dialog.getByRole('button', { name: 'Create disk' }).click();
  const disk = row(page, 'Disks', 'disk.qcow2');
  await expect(disk.getByText(/^qcow2, 8 MiB/)).toBeVisible();

  await choose(page, 'More for disk.qcow2', 'Resize…');
  await dialog.getByLabel('New size').fill('4 MiB');
  await dialog.getByRole('button', { name: 'Resize disk' }).click();
  await expect(dialog.getByText(/smaller than the disk/)).toBeVisible();
  await dialog.getByLabel('New size').fill('16 MiB');
  await app.shot('parts-resize');
  await dialog.getByRole('button', { name: 'Resize disk' }).click();
  await expect(disk.getByText(/^qcow2, 16 MiB/)).toBeVisible();

  await choose(page, 'Add a disk', 'Overlay of an image…');
  await dialog.getByLabel('Image below').fill(join(machineFolder(app, 'box'), 'disks/disk.qcow2'));
  await expect(dialog.getByText(/^qcow2, 16 MiB/)).toBeVisible();
  await dialog.getByRole('button', { name: 'Create overlay' }).click();
  await expect(row(page, 'Disks', 'overlay.qcow2').getByText(/overlay of disk\.qcow2/)).toBeVisible();

  // By the keyboard alone: settings, and back by Escape.
  await page.getByRole('button', { name: 'More for overlay.qcow2' }).focus();
  await page.keyboard.press('Enter');
  await page.keyboard.press('Enter');
  await expect(dialog.getByRole('heading', { name: 'Settings of overlay.qcow2' })).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(dialog).toHaveCount(0);

  await page.getByRole('button', { name: 'Remove disk.qcow2' }).click();
  await expect(disk).toHaveCount(0);
  expect(devicesOf(app, 'box')).toMatchObject([{ kind: 'virtio-blk', slot: 3 }]);

  // A disk that has gone is told here, and the machine does not start without it.
  writeMachine(app, 'lost', { name: 'Lost', kernel: machineFile(app, demoId).boot.kernel });
  await expect.poll(async () => (await app.cli('device', 'add', 'lost', '--disk', '/none.img')).stderr).toContain('not there');
  const file = join(app.folders.data, 'gone.img');
  expect((await app.cli('disk', 'create', file, '1M')).code).toBe(0);
  expect(await app.cli('device', 'add', 'lost', '--disk', file)).toMatchObject({ code: 0, stdout: '1\n' });

  await page.getByRole('button', { name: 'More for Box' }).click();
  await page.getByRole('menuitem', { name: 'Remove', exact: true }).click();
  await expect(page.getByRole('alertdialog')).toContainText('overlay.qcow2');
  await app.shot('parts-remove-machine');
  await page.getByRole('button', { name: 'Go back' }).click();
  await openLibrary(page);
});

test('devices of a running machine come and go', async ({ app }) => {
  const page = await openBox(app);
  await choose(page, 'Add a device', 'Random numbers');
  await expect(row(page, 'Other devices', 'Random numbers')).toBeVisible();
  await page.getByRole('button', { name: 'Start', exact: true }).click();
  await expect(stateOf(page.getByTestId('machine-page'))).toHaveAttribute('data-state', 'running', { timeout: 60_000 });
  await expect(page.getByText('The machine runs.')).toBeVisible();
  const dialog = await choose(page, 'Add a disk', 'New disk…');
  await dialog.getByLabel('Size').fill('8 MiB');
  await dialog.getByRole('button', { name: 'Create disk' }).click();
  await expect(row(page, 'Disks', 'disk.qcow2')).toBeVisible();
  expect(devicesOf(app, 'box').map(({ kind, slot }) => `${slot} ${kind}`)).toEqual(['1 virtio-rng', '3 virtio-blk']);
  expect((await app.cli('device', 'list', 'box')).stdout).toMatch(/3\.0 +yes +00:03\.0 virtio-blk/);

  // The demonstration listens to nobody: the device goes by force.
  await page.getByRole('button', { name: 'Remove disk.qcow2' }).click();
  await expect(page.getByRole('alert')).toContainText('does not listen');
  await app.shot('parts-stuck');
  await expectAccessible(page, 'a device that the guest does not give back');
  await page.getByRole('button', { name: 'Take disk.qcow2 out by force' }).click();
  await expect(row(page, 'Disks', 'disk.qcow2')).toHaveCount(0);
  await expect(page.getByRole('alert')).toHaveCount(0);
  expect(devicesOf(app, 'box').map(({ kind }) => kind)).toEqual(['virtio-rng']);

  // A network card's cable and ports change at once.
  await page.getByRole('button', { name: 'Add a network card' }).click();
  await dialog.getByRole('button', { name: 'Add network card' }).click();
  const network = row(page, 'Network', 'User-mode network');
  await network.getByText('Plugged in').click();
  await expect(network.getByText('Unplugged')).toBeVisible();
  expect((await app.cli('change', 'box', 'link', 'up')).code).toBe(0);
  await expect(network.getByText('Plugged in')).toBeVisible();

  // Another CD goes in, and out.
  const iso = join(app.folders.data, 'tools.iso');
  writeFileSync(iso, Buffer.alloc(2 ** 20));
  await page.getByRole('button', { name: 'Add a CD drive' }).click();
  await dialog.getByText('Leave the drive empty').click();
  await dialog.getByRole('button', { name: 'Add CD drive' }).click();
  await page.getByRole('button', { name: 'Insert a CD into CD drive 1' }).click();
  await dialog.getByLabel('Image', { exact: true }).fill(iso);
  await dialog.getByRole('button', { name: 'Insert CD' }).click();
  const drive = row(page, 'CD drives', 'CD drive 1');
  await expect(drive.getByRole('heading', { name: 'tools.iso' })).toBeVisible();
  await app.shot('parts-running');
  expect((await app.cli('change', 'box', 'cd', '--eject')).code).toBe(0);
  await expect(drive.getByRole('heading', { name: 'CD drive 1, empty' })).toBeVisible();
});
