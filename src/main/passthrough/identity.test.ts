// Which device a machine means, on written hosts whose cards are moved, swapped and taken out.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import test from 'node:test';
import { VitrineError } from '../../shared/errors.ts';
import type { HostDevices } from '../../shared/host-devices.ts';
import type { HostDeviceConfig } from '../../shared/machine-config.ts';
import { readHostDevices } from '../host-devices/read.ts';
import { HOSTS, PCI_IDS } from '../host-devices/testing/hosts.ts';
import { writeHost } from '../host-devices/testing/tree.ts';
import { Library } from '../library/library.ts';
import { settleDevices } from './before-start.ts';
import { deviceTroubles, identityOf } from './identity.ts';

function read(t: TestContext, text: string): HostDevices {
  const host = writeHost(text, PCI_IDS);
  t.after(() => host.remove());
  return readHostDevices({ roots: host.roots });
}

/** A card with its sound, a network card with a number of its own, and one of many alike. */
const computer = (card: string, nic: string, more = '') => `
  acpi DMAR
  iommu dmar0
  remapping yes
  cmdline intel_iommu=on
  pci 00:02.0 8086:4680 030000 group=0 driver=i915 boot_vga
    drm card0 DP-1:on
${card === '' ? '' : `  pci ${card}.0 1002:7480 030000 group=20 driver=amdgpu subsystem=1043:0001 serial=card-1\n  pci ${card}.1 1002:ab30 040300 group=20 driver=snd_hda_intel subsystem=1043:0001\n`}
${nic === '' ? '' : `  pci ${nic}.0 8086:10d3 020000 group=21 driver=e1000e serial=00-11\n`}${more}
`;

function devicesFrom(found: HostDevices, addresses: string[]): HostDeviceConfig[] {
  return addresses.map((address) => ({ kind: 'vfio-pci', address, identity: identityOf(found.devices[address]) }));
}

const ALL = ['0000:03:00.0', '0000:03:00.1', '0000:04:00.0'];
const brief = (troubles: ReturnType<typeof deviceTroubles>) => troubles.map(({ address, kind, to, certain }) => [address.slice(5), kind, to?.slice(5) ?? '-', certain === true ? 'certain' : ''].join(' ').trimEnd());

test('what is written of a device: ids and serial number, nothing that is not known', (t) => {
  const [card, , nic] = devicesFrom(read(t, computer('03:00', '04:00')), ALL);
  assert.deepEqual(card.identity, { name: 'Radeon RX 7600', vendorId: '1002', deviceId: '7480', subsystemVendorId: '1043', subsystemDeviceId: '0001', serial: 'card-1' });
  assert.deepEqual(nic.identity, { name: '82574L Gigabit Network Connection', vendorId: '8086', deviceId: '10d3', serial: '00-11' });
});

test('at its place, moved, gone, replaced, taken', (t) => {
  const devices = devicesFrom(read(t, computer('03:00', '04:00')), ALL);
  const troubles = (text: string, list = devices) => deviceTroubles({ id: 'm', devices: list }, read(t, text));
  assert.deepEqual(troubles(computer('03:00', '04:00')), []);
  // While vfio-pci has it, nobody says its serial number.
  assert.deepEqual(troubles(computer('03:00', '04:00').replaceAll(/driver=(amdgpu|e1000e)/g, 'driver=vfio-pci').replaceAll(/ serial=\S+/g, '')), []);
  // The sound of the card has no number of its own, and went along.
  assert.deepEqual(brief(troubles(computer('05:00', '04:00'))), ['03:00.0 moved 05:00.0 certain', '03:00.1 moved 05:00.1 certain']);
  assert.deepEqual(troubles(computer('05:00', '04:00'))[0].sentence, 'Radeon RX 7600 is not in slot 03:00.0 any more, but in slot 05:00.0.');
  // Without a number it is only likely.
  assert.deepEqual(brief(troubles(computer('05:00', '04:00').replaceAll(/ serial=card-1/g, ''))), ['03:00.0 moved 05:00.0', '03:00.1 moved 05:00.1']);
  // Another of its kind is another one.
  assert.deepEqual(brief(troubles(computer('03:00', '06:00').replace('serial=00-11', 'serial=00-12'))), ['04:00.0 gone -']);
  assert.deepEqual(brief(troubles(computer('03:00', '04:00').replace('serial=00-11', 'serial=00-12'))), ['04:00.0 replaced -']);
  assert.deepEqual(brief(troubles(computer('03:00', '', '  pci 04:00.0 8086:1572 020000 group=30\n'))), ['04:00.0 replaced -']);
  assert.deepEqual(brief(troubles(computer('', '03:00'))), ['03:00.0 replaced -', '03:00.1 gone -', '04:00.0 moved 03:00.0 certain']);
  // Two that it could be: a person says which.
  const two = troubles(computer('03:00', '', '  pci 05:00.0 8086:10d3 020000 group=30\n  pci 06:00.0 8086:10d3 020000 group=31\n'));
  assert.deepEqual(brief(two), ['04:00.0 moved -']);
  assert.match(two[0].sentence, /could be the one in slot 05:00\.0 and 06:00\.0/);
  // A file from before identities were written knows the address alone.
  assert.deepEqual(brief(troubles(computer('', ''), [{ kind: 'vfio-pci', address: '0000:04:00.0' }])), ['04:00.0 gone -']);
  assert.deepEqual(troubles(computer('', '04:00'), [{ kind: 'vfio-pci', address: '0000:04:00.0' }]), []);
  // What the machine has at another address already is not what is looked for.
  assert.deepEqual(brief(troubles(computer('03:00', '04:00').replace(/ serial=00-11/g, ''), [...devices, { ...devices[2], address: '0000:07:00.0' }])), ['07:00.0 gone -']);
  const claim = { address: ALL[2], machine: 'Other', id: 'other', running: true };
  const taken = deviceTroubles({ id: 'm', devices }, read(t, computer('03:00', '04:00')), [claim, { address: ALL[0], machine: 'M', id: 'm', running: true }]);
  assert.deepEqual([brief(taken), taken[0].sentence], [['04:00.0 taken -'], 'The machine Other has 82574L Gigabit Network Connection.']);
});

test('before the start: what has certainly moved is followed, the rest is said', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'vfi-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const library = new Library(folder);
  const id = library.create({ name: 'Workstation', memory: 2 ** 30, cpus: 1, boot: { kernel: '/k' }, devices: devicesFrom(read(t, computer('03:00', '04:00')), ALL) });
  const notes: string[] = [];
  const settle = (text: string) => settleDevices(library.config(id), { library, found: read(t, text), claims: [], onNote: (note) => notes.push(note) });
  const addresses = () => library.config(id).devices.map((device) => (device as HostDeviceConfig).address);
  await settle(computer('03:00', '04:00'));
  assert.deepEqual([addresses(), notes], [ALL, []]);
  // Not all of it is certain: nothing is changed.
  const refused = (code: string, remedy: RegExp) => (error: unknown) => error instanceof VitrineError && error.problem.code === code && remedy.test(error.problem.remedy);
  await assert.rejects(settle(computer('05:00', '06:00').replace(' serial=00-11', '')), refused('device-moved', /^Use it at 06:00\.0\.$/));
  await assert.rejects(settle(computer('05:00', '')), refused('device-gone', /Put it back/));
  assert.deepEqual(addresses(), ALL);
  const settled = await settle(computer('05:00', '06:00'));
  assert.deepEqual(addresses(), ['0000:05:00.0', '0000:05:00.1', '0000:06:00.0']);
  assert.deepEqual(settled.devices, library.config(id).devices);
  assert.equal(notes[0], 'Radeon RX 7600 has moved from slot 03:00.0 to 05:00.0; Workstation has it there now.');
  // The only card, from its desktop.
  const lone = library.create({ name: 'Lone', memory: 2 ** 30, cpus: 1, boot: { kernel: '/k' }, devices: [{ kind: 'vfio-pci', address: '0000:01:00.0' }] });
  await assert.rejects(settleDevices(library.config(lone), { library, found: read(t, HOSTS.oneGpu), claims: [] }), refused('only-gpu', /text console/));
});
