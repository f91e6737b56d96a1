// Giving devices to machines, by role and name, over written hosts on which the privileged helper's test build plays (played-host.ts): the
// wizard from a device and from a machine, each finding with its remedy, what the buttons do to the host's files, and how all of it is undone.
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Locator, Page } from '@playwright/test';
import { HOSTS, PCI_IDS } from '../src/main/host-devices/testing/hosts.ts';
import { writeHost } from '../src/main/host-devices/testing/tree.ts';
import { playHost } from '../src/main/lease/testing/played-host.ts';
import type { PlayedHost } from '../src/main/lease/testing/played-host.ts';
import type { App } from './fixtures.ts';
import { expect, test } from './fixtures.ts';
import { card, demoId, demoName, giveKeyboardBack, goTo, machineFile, machineFolder, openLibrary, openMachine, writeMachine } from './support/pages.ts';

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
  await expect(page.getByRole('heading', { name: /^What giving/ })).toBeVisible();
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
      await app.shot('devices-to-give');
      await button(page, 'Give Radeon RX 7600 and 1 more to a machine…').click();
      await page.getByRole('dialog', { name: 'Give Radeon RX 7600 to a machine' }).getByText('Workstation', { exact: true }).click();
      await app.shot('give-choose-machine');
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
      await app.shot('give-review');
      expect(hostFiles()).toBe(before);

      await page.getByRole('radio', { name: /^Keep them for machines/ }).focus();
      await page.keyboard.press('Space');
      await button(page, 'Give Radeon RX 7600 (asks for your password)').click();
      await expect(page.getByRole('heading', { name: 'Workstation has Radeon RX 7600' })).toBeFocused();
      await app.shot('give-done');
      expect(['01:00.0', '01:00.1'].map(host.driverOf)).toEqual(['vfio-pci', 'vfio-pci']);
      expect(devicesOf(app, id).map(({ address, identity }) => [address, identity?.name])).toEqual([['0000:01:00.0', 'Radeon RX 7600'], ['0000:01:00.1', 'Navi 31 HDMI/DP Audio']]);

      await button(page, 'Show the devices').click();
      const kept = page.getByRole('listitem', { name: 'Radeon RX 7600 and Navi 31 HDMI/DP Audio', exact: true });
      await expect(kept).toContainText('Kept for Workstation until it is released');
      await expect(page.getByRole('listitem', { name: 'Radeon RX 7600 and 1 more', exact: true })).toContainText('Given to Workstation');
      await expect(page.getByRole('link', { name: 'Devices 2 given' })).toBeVisible();
      await app.shot('devices-given');
      await button(kept, 'Release').click();
      await expect(kept).toHaveCount(0);
      await expect.poll(() => ['01:00.0', '01:00.1'].map(host.driverOf)).toEqual(['amdgpu', 'snd_hda_intel']);

      await openMachine(page, 'Workstation');
      await expect(page.getByText('It has Radeon RX 7600 and Navi 31 HDMI/DP Audio of this computer.')).toBeVisible();
      await button(page, 'Show its devices').click();
      const dialog = page.getByRole('dialog', { name: 'Devices of Workstation' });
      await expect(dialog.getByRole('link', { name: 'Radeon RX 7600' })).toBeVisible();
      await app.shot('machine-devices');
      await button(dialog, 'Take back Radeon RX 7600 and Navi 31 HDMI/DP Audio').click();
      await expect(dialog).toContainText('It has none of this computer’s devices.');
      expect(devicesOf(app, id)).toEqual([]);
      await expect.poll(hostFiles).toBe(before);
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

/** What is found on a host: [group, or '' for the computer as a whole; the finding; what it says; what to do]. */
const found: { title: string; text: string; memory?: number; rows: [group: string, code: string, says: string, todo: string][]; stopped?: string; planned?: string; /** The group to look at, where no row names one. */ open?: string; /** By axe: its screen has parts that the others have not. */ judged?: true }[] = [
  {
    title: 'one graphics card under the desktop', judged: true, text: HOSTS.oneGpu, planned: 'vitrine start workstation',
    rows: [
      ['2', 'only-gpu', 'It is the only graphics card, and this desktop would end with it.', 'Start the machine from a text console (Ctrl+Alt+F3) or over SSH.'],
      ['2', 'boot-framebuffer', 'The picture that the computer started with still lies in this card.', 'Choose another card as the first one'],
      ['2', 'driver-in-use', 'Your screen runs on this. It goes dark.', 'DP-1'],
      ['2', 'rom-missing', 'the copy that the firmware has run', 'Choose a file with its ROM.'],
      ['2', 'no-reset', 'It is reset together with Navi 31 HDMI/DP Audio.', ''],
      ['2', 'bar-size', 'It shows 8 GiB of memory at once', 'the guest must be a 64-bit system'],
    ],
  },
  {
    title: 'a laptop with two graphics chips', text: HOSTS.laptop,
    rows: [['8', 'driver-in-use', 'Its driver nvidia does not always let go of a card.', 'Reserve it from start-up'], ['8', 'bar-size', 'It shows 4 GiB of memory at once', '']],
  },
  {
    title: 'a drive whose table of interrupts lies among its registers', text: HOSTS.intelDesktop, stopped: 'Drive nvme0 cannot be given as things are',
    rows: [['13', 'msix-shared-bar', 'Its table of interrupts shares BAR 0 with registers', 'the pages of the table go through Vitrine']],
  },
  {
    title: 'interrupts that are not remapped', text: HOSTS.noRemapping, stopped: 'This computer cannot give devices as it is.', open: '4',
    rows: [['', 'no-interrupt-remapping', 'Interrupts are not remapped: a device could send this computer interrupts that are not its own.', 'Take intremap=off out of the kernel\'s parameters']],
  },
  {
    title: 'a server with virtual functions', judged: true, text: HOSTS.server, stopped: 'Ethernet Virtual Function 700 Series cannot be given as things are',
    rows: [
      ['32', 'kernel-modules', 'It can show itself as up to 64 more network cards', 'Number of virtual functions'],
      ['34', 'no-vfio-access', 'You may not use /dev/vfio/34.', 'sudo chown $USER /dev/vfio/34'],
      ['45', 'host-needs-it', 'The firmware keeps memory for this device (RMRR)', 'another slot or card'],
      ['36', 'claimed', 'qemu-system-x86 has it.', 'End that program'],
    ],
  },
  { title: 'groups split by the kernel parameter', text: HOSTS.acsSplit, rows: [['12', 'acs-override', 'the hardware does not promise that it is kept apart from', 'Give it only to guests that you trust']] },
  {
    title: 'an IOMMU that is off', judged: true, text: HOSTS.noIommu, stopped: 'This computer cannot give devices as it is.',
    rows: [['', 'iommu-off', 'The IOMMU is off in the computer\'s firmware.', 'sudo update-grub'], ['0000:01:00', 'only-gpu', 'this computer shows nothing while a machine has it', 'Keep a way in over SSH.']],
  },
  {
    title: 'the boot disk in the group of the card', text: HOSTS.bootDiskInGroup, stopped: 'GeForce RTX 4090 cannot be given as things are',
    rows: [['7', 'group-shared', 'It shares its group with Drive nvme0', 'A slot behind another bridge may have a group of its own'], ['7', 'host-needs-it', 'Your computer\'s system is on this.', 'Start the computer from another disk']],
  },
  {
    title: 'locked down, a card of three functions', text: HOSTS.lockdown,
    rows: [['', 'kernel-modules', 'The kernel is locked down (integrity)', 'only signed modules load'], ['9', 'group-shared', 'Its other functions go with it', 'NVIDIA USB controller 1ad8']],
  },
  {
    title: 'limits too low, too little memory', judged: true, text: HOSTS.limits, memory: 8 * GiB, stopped: 'This computer cannot give devices as it is.',
    rows: [
      ['', 'memlock-low', 'A program may lock 8 MiB of memory, and Workstation large needs', 'sudo tee -a /etc/security/limits.d/vitrine.conf'],
      ['', 'memory-pinned', 'too little would remain for this computer', 'give Workstation large at most'],
      ['4', 'no-vfio-access', 'You may not use /dev/vfio/4.', 'Vitrine asks for it when a machine starts.'],
    ],
  },
];

test.describe('a dozen computers', () => {
  test.use({
    env: async ({ theme: _theme }, provide) => {
      host = playHost(HOSTS.intelDesktop);
      await provide(host.env);
      host.remove();
    },
  });

  test('what stands in the way on each, and what to do', async ({ app }) => {
    const { page } = app;
    for (const { title, text, memory, rows, open, stopped, planned, judged } of found) {
      await test.step(title, async () => {
        // Nobody watches the devices while another computer takes the place of this one.
        const id = await makeMachine(app, `Workstation ${memory === undefined ? '' : 'large'}`.trim(), memory);
        const next = writeHost(text, PCI_IDS);
        rmSync(host.folder, { recursive: true });
        renameSync(next.folder, host.folder);
        for (const group of new Set([open ?? '', ...rows.map(([key]) => key)].filter((key) => key !== ''))) {
          await understand(page, id, group);
          for (const [key, code, says, todo] of rows) {
            if (key !== group && key !== '') continue;
            const finding = (key === '' ? page.getByRole('main').locator(`[data-finding="${code}"]`) : part(page, group).locator(`[data-finding="${code}"]`)).filter({ hasText: says });
            await expect(finding.first()).toContainText(todo);
          }
        }
        const review = button(page, 'Review the changes');
        if (stopped === undefined) await expect(review).toBeEnabled();
        else {
          await expect(review).toBeDisabled();
          await expect(page.getByRole('status').filter({ hasText: stopped })).toBeVisible();
        }
        if (planned !== undefined) {
          // Not from this desktop; but the machine can have it, for a start from elsewhere.
          await review.click();
          await expect(plan(page)).toBeVisible();
          await expect(page.getByRole('main').getByRole('status').filter({ hasText: planned })).toBeVisible();
        }
        const name = `give-${title.replaceAll(/[^a-z]+/g, '-')}`;
        await (judged === true ? app.shot(name) : app.picture(name));
      });
    }
  });
});

test.describe('bridges, and two groups at once', () => {
  onHost(HOSTS.bridges);

  test('both are given together and released together', async ({ app }) => {
    const { page } = app;
    const id = await makeMachine(app, 'Workstation');
    const before = hostFiles();
    await openMachine(page, 'Workstation');
    await button(page, 'More for Workstation').click();
    await page.getByRole('menuitem', { name: 'Give a device…' }).click();
    await page.getByRole('checkbox', { name: '82574L Gigabit Network Connection', exact: true }).focus();
    await page.keyboard.press('Space');
    await page.getByRole('checkbox', { name: /^82574L Gigabit Network Connection and 1 more/ }).focus();
    await page.keyboard.press('Space');
    await button(page, /^Continue with /).click();
    await expect(part(page, '1').locator('[data-finding="group-shared"]')).toContainText('The bridge that it is behind is in its group, and stays with the computer');
    await expect(part(page, '1')).toContainText('a bridge only leads to what is behind it');
    await expect(part(page, '3').locator('[data-finding="group-shared"]').first()).toContainText('they go together');
    await expect(part(page, '3').locator('[data-finding="group-shared"]').first()).toContainText('Take it along.');
    await button(page, 'Review the changes').click();
    await page.getByRole('radio', { name: /^Keep them for machines/ }).focus();
    await page.keyboard.press('Space');
    await button(page, /^Give .* \(asks for your password\)$/).click();
    await expect(page.getByRole('heading', { name: /^Workstation has / })).toBeFocused();
    expect(['01:00.0', '03:00.0', '03:01.0'].map(host.driverOf)).toEqual(['vfio-pci', 'vfio-pci', 'vfio-pci']);
    expect(host.driverOf('00:01.0')).toBe('pcieport');
    await button(page, 'Show the devices').click();
    for (const name of ['82574L Gigabit Network Connection', 'uPD720201 USB 3.0 Host Controller and 82574L Gigabit Network Connection']) {
      const kept = page.getByRole('region', { name: 'What Vitrine has changed on this computer' }).getByRole('listitem', { name, exact: true });
      await button(kept, 'Release').click();
      await expect(kept).toHaveCount(0);
    }
    await expect.poll(hostFiles).toBe(before);
    expect(devicesOf(app, id)).toHaveLength(3);
  });
});

test.describe('devices that another machine has, and that have moved', () => {
  onHost(HOSTS.intelDesktop);

  test('taken out of the other, used in its new slot, with a ROM of its own', async ({ app }) => {
    const { page } = app;
    const network = { kind: 'vfio-pci', address: '0000:03:00.0', identity: { name: '82574L Gigabit Network Connection', vendorId: '8086', deviceId: '10d3' } };
    const other = await makeMachine(app, 'Other', GiB, [network]);
    const moved = await makeMachine(app, 'Mover', GiB, [{ ...network, address: '0000:09:00.0' }]);
    const id = await makeMachine(app, 'Workstation');
    await expect(card(page, 'Other')).toContainText('82574L Gigabit Network Connection given');

    await understand(page, id, '15');
    const claim = part(page, '15').locator('[data-finding="claimed"]').filter({ hasText: 'It belongs to the machine Other, which is off.' });
    await button(claim, 'Take it out of Other').click();
    await expect(claim).toHaveCount(0);
    expect(devicesOf(app, other)).toEqual([]);

    // One card's ROM comes from a file.
    await understand(page, id, '2');
    await button(part(page, '2'), 'Choose a file with its ROM').click();
    const field = page.getByRole('textbox', { name: 'File with its ROM' });
    await field.fill('card.rom');
    await expect(part(page, '2')).toContainText('Write the whole path');
    await field.fill('/roms/card.rom');
    await button(page, 'Review the changes').click();
    await expect(plan(page)).toBeVisible();
    await expect(page.getByRole('status').filter({ hasText: 'Your password is asked for each time that the machine starts.' })).toBeVisible();
    await button(page, 'Give UHD Graphics 770').click();
    await expect(page.getByRole('heading', { name: 'Workstation has UHD Graphics 770' })).toBeFocused();
    expect(devicesOf(app, id)).toMatchObject([{ address: '0000:00:02.0', rom: { file: '/roms/card.rom' } }]);
    // Nothing of the computer is changed before the machine starts.
    expect(host.log()).toEqual([]);

    await goTo(page, `#/machine/${moved}`);
    await expect(page.getByRole('alert').filter({ hasText: 'is not in slot 09:00.0 any more, but in slot 03:00.0.' })).toBeVisible();
    await button(page, 'Show its devices').click();
    await app.shot('machine-devices-moved');
    await button(page.getByRole('dialog'), 'Use it at 03:00.0').click();
    await expect(page.getByRole('dialog').getByText('any more')).toHaveCount(0);
    expect(devicesOf(app, moved)).toMatchObject([{ address: '0000:03:00.0' }]);
  });
});

test.describe('a computer without the helper', () => {
  test.use({
    env: async ({ theme: _theme }, provide) => {
      host = playHost(HOSTS.intelDesktop);
      await provide({ VITRINE_HOST_TREE: host.env.VITRINE_HOST_TREE });
      host.remove();
    },
  });

  test('says so where it is wanted, with the commands; what needs no root goes on', async ({ app }) => {
    const { page } = app;
    const id = await makeMachine(app, 'Workstation');
    await openDevices(page);
    await expect(page.getByRole('region', { name: 'What Vitrine may do on this computer' })).toContainText('Vitrine’s helper is not set up');
    await app.shot('devices-no-helper');
    await understand(page, id, '11');
    await expect(button(page, 'Reserve it from start-up')).toBeDisabled();
    await button(page, 'Review the changes').click();
    await expect(page.getByRole('status').filter({ hasText: 'Vitrine’s helper is not set up' })).toBeVisible();
    await page.getByRole('radio', { name: /^Keep them for machines/ }).focus();
    await page.keyboard.press('Space');
    await expect(button(page, 'Give GeForce RTX 4090')).toBeDisabled();
    await app.shot('give-no-helper');
    await page.getByRole('radio', { name: /^While the machine runs/ }).focus();
    await page.keyboard.press('Space');
    await button(page, 'Give GeForce RTX 4090').click();
    await expect(page.getByRole('heading', { name: 'Workstation has GeForce RTX 4090' })).toBeFocused();
    expect(devicesOf(app, id)).toHaveLength(2);
  });
});

test.describe('far too many', () => {
  const long = 'A long name of a machine '.repeat(8).slice(0, 200).trim();
  onHost(`iommu dmar0\nremapping yes\n${Array.from({ length: 80 }, (_, at) => `pci ${(at + 16).toString(16)}:00.0 ${at % 9 === 0 ? '10de:2684 030000' : '8086:10d3 020000'} group=${at}\n`).join('')}`);

  test('eighty devices, searched, and names of 200 characters', async ({ app }) => {
    const { page } = app;
    const id = await makeMachine(app, long);
    await app.shot('library-long-name');
    await goTo(page, `#/give/${id}`);
    const groups = page.getByRole('list', { name: 'Groups of devices' });
    await expect(groups.locator('[data-verdict]')).toHaveCount(80);
    await app.shot('give-80');
    await page.getByRole('searchbox', { name: 'Search devices' }).fill('ethernet 20:00');
    await expect(page.getByText('1 of 80')).toBeVisible();
    await groups.getByRole('checkbox').focus();
    await page.keyboard.press('Space');
    await button(page, /^Continue with/).click();
    await button(page, 'Review the changes').click();
    await expect(plan(page)).toBeVisible();
    expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
    await app.shot('give-long-name');
  });
});

test.describe('every button of the helper', () => {
  onHost(`${HOSTS.intelDesktop}\n${HOSTS.server.split('\n').filter((line) => /^ {2}pci 17:|^ {4}pci 18:00/.test(line)).map((line) => line.replace('sriov=64/4', 'sriov=64/0')).join('\n')}\nkvm no\n`);

  test('loads, reserves, makes functions, allows, and takes all of it back', async ({ app }) => {
    const { page } = app;
    const id = await makeMachine(app, 'Workstation');
    const done = (text: string) => page.getByRole('complementary', { name: 'Messages' }).getByText(text);

    // KVM's module.
    await understand(page, id, '15');
    const kvm = page.locator('[data-finding="kvm-unusable"]');
    await expect(button(page, 'Review the changes')).toBeDisabled();
    await button(kvm, 'Load KVM\'s module').focus();
    await page.keyboard.press('Enter');
    await expect(done('The modules are loaded.')).toBeVisible();
    await expect(kvm).toHaveCount(0);
    // The focus does not fall to the page's beginning with the button that is gone.
    await expect(page.getByRole('heading', { name: /^What giving/ })).toBeFocused();
    expect(host.log()).toEqual(['module kvm_intel']);
    // And VFIO's, which is not loaded yet.
    const vfio = page.locator('[data-finding="kernel-modules"]').filter({ hasText: 'The module vfio-pci, which gives devices to machines, is not loaded.' });
    await app.shot('give-module-unloaded');
    await button(vfio, 'Load vfio-pci').focus();
    await page.keyboard.press('Enter');
    await expect(vfio).toHaveCount(0);
    expect(host.log()).toEqual(['module kvm_intel', 'module vfio-pci']);
    await expect(page.getByRole('heading', { name: /^What giving/ })).toBeFocused();

    // No password any more: allowed at the end of the wizard, listed and withdrawn on the Devices page.
    await button(page, 'Review the changes').click();
    await page.getByRole('checkbox', { name: /^No password any more for Workstation/ }).focus();
    await page.keyboard.press('Space');
    await button(page, 'Give 82574L Gigabit Network Connection (asks for your password)').click();
    await expect(page.getByRole('heading', { name: 'Workstation has 82574L Gigabit Network Connection' })).toBeFocused();
    await expect(page.getByText('No password is needed for it any more')).toBeVisible();
    expect(host.driverOf('03:00.0')).toBe('e1000e');
    expect(devicesOf(app, id)).toHaveLength(1);

    // Reserved from start-up, and not.
    await understand(page, id, '11');
    const reserve = part(page, '11').locator('[data-finding="driver-in-use"]').first();
    await button(reserve, 'Reserve it from start-up').focus();
    await page.keyboard.press('Enter');
    await expect(button(reserve, 'Reserve it no more')).toBeFocused();
    expect(host.text('etc/modprobe.d/vitrine.conf')).toContain('options vfio-pci ids=10de:2684,10de:22ba');

    // Virtual functions, as many as asked for.
    await understand(page, id, '32');
    const field = page.getByRole('textbox', { name: /^Number of virtual functions/ });
    await field.fill('65');
    await expect(page.getByText('At most 64.')).toBeVisible();
    await field.fill('3');
    await button(part(page, '32'), 'Make virtual functions').click();
    await expect(part(page, '32')).toContainText('Its 3 virtual network cards go with it.');

    await openDevices(page);
    const changes = page.getByRole('region', { name: 'What Vitrine has changed on this computer' });
    await expect(changes.getByRole('listitem', { name: 'Ethernet Controller X710 for 10GbE SFP+' })).toContainText('It shows 3 virtual functions; before it was 0.');
    const permissions = page.getByRole('region', { name: 'What Vitrine may do on this computer' });
    await expect(permissions.getByRole('listitem', { name: 'Workstation' })).toContainText('It may have 82574L Gigabit Network Connection without a password');
    await app.shot('devices-changes');
    await button(changes, 'Remove them').click();
    await expect(changes.getByText('virtual functions')).toHaveCount(0);
    await expect(changes).toContainText('Reserved for machines from the computer’s next start on');
    await button(changes, 'Undo the reservation').focus();
    await page.keyboard.press('Enter');
    await expect(changes).toHaveCount(0);
    await expect(page.getByRole('heading', { name: 'Devices', exact: true })).toBeFocused();
    expect(host.text('etc/modprobe.d/vitrine.conf')).toBeNull();

    // A question that is dismissed changes nothing, and says so.
    host.answer(126);
    await button(permissions, 'Withdraw').click();
    await expect(page.getByRole('alert').filter({ hasText: 'dismissed' })).toBeVisible();
    await expect(permissions.getByRole('listitem', { name: 'Workstation' })).toBeVisible();
    await page.getByRole('alert').getByRole('button', { name: 'Dismiss' }).click();
    await expect(button(permissions, 'Withdraw')).toBeEnabled();
    host.answer(0);

    // The machine is removed, and with it what it was allowed: once the person has said no to that, and once from its dialog.
    const removed = async (name: string): Promise<void> => {
      await openLibrary(page);
      await button(page, `More for ${name}`).click();
      await page.getByRole('menuitem', { name: 'Remove' }).click();
      const question = page.getByRole('alertdialog', { name: `Remove ${name}` });
      await expect(question).toContainText('It may have 82574L Gigabit Network Connection without a password.');
      await app.shot('remove-machine-allowed');
      await button(question, 'Remove machine').click();
      await expect(card(page, name)).toHaveCount(0);
    };
    host.answer(126);
    await removed('Workstation');
    await page.getByRole('alert').getByRole('button', { name: 'Dismiss' }).click();
    await openDevices(page);
    await expect(permissions.getByRole('listitem', { name: 'workstation' })).toContainText('This machine was removed.');
    await permissions.scrollIntoViewIfNeeded();
    await app.shot('devices-grant-of-gone');
    host.answer(0);
    await button(permissions, 'Withdraw').focus();
    await page.keyboard.press('Enter');
    await expect(permissions.getByRole('listitem', { name: 'workstation' })).toHaveCount(0);
    await expect(page.getByRole('heading', { name: 'What Vitrine may do on this computer' })).toBeFocused();

    const second = await makeMachine(app, 'Second');
    await goTo(page, `#/give/${second}/review/15`);
    await page.getByRole('checkbox', { name: /^No password any more for Second/ }).focus();
    await page.keyboard.press('Space');
    await button(page, /^Give 82574L Gigabit Network Connection/).click();
    await expect(page.getByText('No password is needed for it any more')).toBeVisible();
    await removed('Second');
    await expect(done('What Second was allowed without a password is withdrawn.')).toBeVisible();
    await openDevices(page);
    await expect(permissions.getByRole('listitem')).toHaveCount(1);

    await button(permissions, 'Remove the helper').click();
    await expect(permissions).toContainText('Vitrine’s helper is not set up');
    await button(permissions, 'Set up the helper (asks for your password)').click();
    await expect(button(permissions, 'Remove the helper')).toBeVisible();
  });
});

test.describe('a guest whose picture is elsewhere', () => {
  test('has the keyboard and the pointer at a click, and gives them back', async ({ app }) => {
    const { page } = app;
    await expect(card(page, demoName)).toBeVisible();
    writeMachine(app, 'blind', JSON.stringify({ version: 1, id: 'blind', name: 'Blind', memory: 64 * 2 ** 20, cpus: 1, boot: { kernel: machineFile(app, demoId).boot.kernel }, display: { kind: 'none' } }));
    await openMachine(page, 'Blind');
    await button(page, 'Start').click();
    await expect(page.getByText('This machine has no screen here')).toBeVisible({ timeout: 60_000 });
    await app.shot('machine-blind');
    await button(page, 'Give it the keyboard and the pointer').click();
    await expect(page.getByRole('heading', { name: 'Blind has the keyboard and the pointer' })).toBeVisible();
    await app.shot('input-only');
    await giveKeyboardBack(page, 'Click here');
    // A click anywhere does the same; Escape is the guest's then.
    await page.getByTestId('screen').click({ position: { x: 30, y: 30 } });
    await expect(page.getByRole('heading', { name: 'Blind has the keyboard and the pointer' })).toBeVisible();
    await page.keyboard.press('Escape');
    await expect(page.getByTestId('machine-page')).toBeVisible();
    await giveKeyboardBack(page, 'Click here');
    expect((await app.cli('stop', '--force', 'blind')).code).toBe(0);
  });
});
