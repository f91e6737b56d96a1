// PCI devices that come and go under Debian's kernel, in the lab: by the system's own ACPI hot-plug, without a driver or a parameter of ours. What the
// host adds appears in sysfs with BARs that Linux placed and that answer there; it goes when the host asks, or when the guest gives it back.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { labPaths } from '../../scripts/setup/lab.mjs';
import type { PluggedDevice } from '../../src/shared/protocol/machine.ts';
import { BAR_LOW, COUNTED, DOORBELL, DOORBELLS, INSTANCE, MAGIC_VALUE, SCRATCH } from '../../src/vmm/devices/pci-test/pci-test.ts';
import { startLab } from '../host.ts';
import type { LabHost } from '../host.ts';
import { complaints } from './support/kernel-log.ts';
import { buildDriver, LabMachine, top } from './support/lab-machine.ts';

const SLOT = 5;
const ROUNDS = 10;
const PCI = '/sys/bus/pci/devices';
const DEVICE = `${PCI}/0000:00:05.0`;
const SECONDS = 120;
/** A device that has come is looked for so often, ten times a second. */
const LOOKS = 600;

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-hotplug-'));
let lab: LabHost;

const tryLinux = (file: string): string => path.join(top, 'build/try-linux', file);

/** A copy of a kernel where the lab's ordinary user may read it: the cache may be root's. */
function kernel(name: '6.1' | '6.12'): string {
  const copy = path.join(scratch, `vmlinux-${name}`);
  if (!fs.existsSync(copy)) {
    fs.copyFileSync(labPaths().kernels[name]!.vmlinux, copy);
    fs.chmodSync(copy, 0o644);
  }
  return copy;
}

before(async () => {
  fs.chmodSync(scratch, 0o755);
  kernel('6.1');
  kernel('6.12');
  await buildDriver();
  lab = await startLab({ shares: [{ path: scratch, writable: false, mode: 'cached' }] });
});

after(async () => {
  await lab?.stop();
  fs.rmSync(scratch, { recursive: true, force: true });
});

const appears = (place: string): string => `for i in $(seq ${LOOKS}); do [ -e ${PCI}/${place}/resource ] && break; sleep 0.1; done; [ -e ${PCI}/${place}/resource ]`;
const goes = (place: string): string => `for i in $(seq ${LOOKS}); do [ -e ${PCI}/${place} ] || break; sleep 0.1; done; [ ! -e ${PCI}/${place} ]`;

/** What the kernel has complained of since this was asked last. The mouse's driver looks for it beside all this, at its own slow pace: linux.lab.test.ts. */
async function newComplaints(machine: LabMachine): Promise<string[]> {
  const log = gunzipSync(Buffer.from(await machine.sh('dmesg -rc | gzip | base64'), 'base64')).toString('latin1');
  return complaints(log).filter((line) => !line.includes('psmouse'));
}

/** Where Linux put each BAR (and, seventh, the ROM): [start, end] or undefined. */
async function bars(machine: LabMachine, device = DEVICE): Promise<([number, number] | undefined)[]> {
  const lines = (await machine.sh(`cat ${device}/resource`)).trim().split('\n').slice(0, 7);
  return lines.map((line) => {
    const [start, end] = line.trim().split(/\s+/).map(Number);
    return end === 0 ? undefined : [start!, end!];
  });
}

const read = async (machine: LabMachine, address: number): Promise<number> => Number(await machine.sh(`devmem 0x${address.toString(16)} 32`));
const write = async (machine: LabMachine, address: number, value: number): Promise<string> => machine.sh(`devmem 0x${address.toString(16)} 32 0x${value.toString(16)}`);

/** Memory decode on, and the device answers as its registers say that it should, each part at the place where Linux put it. */
async function use(machine: LabMachine): Promise<void> {
  const placed = await bars(machine);
  assert.deepEqual(placed.map((bar) => (bar === undefined ? 0 : bar[1] - bar[0] + 1)), [0x2000, 0x100, 0x2_0000, 0, 0x1000, 0x100, 0x1000]);
  await machine.sh(`echo 1 > ${DEVICE}/enable`);
  const [bar0, , bar2, , , bar5] = placed.map((bar) => bar?.[0] ?? 0) as [number, number, number, number, number, number];
  assert.equal(await read(machine, bar0), MAGIC_VALUE);
  assert.equal(await read(machine, bar0 + INSTANCE), SLOT * 8);
  assert.equal(await read(machine, bar0 + SCRATCH), 0, 'as new');
  await write(machine, bar0 + SCRATCH, 7);
  assert.equal(await read(machine, bar0 + BAR_LOW), bar0, 'it knows where it is');
  assert.equal(await read(machine, bar0 + COUNTED), SLOT * 8 * 0x1_0000 + COUNTED);
  await write(machine, bar0 + DOORBELL, 1);
  assert.equal(await read(machine, bar0 + DOORBELLS), 1);
  for (const address of [bar2, bar2 + 0xf000, bar5]) {
    assert.equal(await read(machine, address), 0, 'as new');
    await write(machine, address, 0x1234_5678);
    assert.equal(await read(machine, address), 0x1234_5678);
  }
}

describe('PCI hot-plug under Linux 6.1', () => {
  let machine: LabMachine;
  before(async () => {
    machine = await LabMachine.start(lab, {
      cpus: 2, boot: { kernel: kernel('6.1'), initrd: tryLinux('initrd.gz'), append: 'console=ttyS0 quiet' },
      display: { kind: 'none' }, devices: [{ kind: 'pci-test', slot: 9, functions: 3 }] as never,
    });
    await machine.shell();
  });
  after(() => machine?.close());

  const seen = async (): Promise<number[]> => ((await machine.call('listDevices')) as PluggedDevice[]).filter(({ slot }) => slot === SLOT).map(({ function: number }) => number);

  it('knows a slot for every device that may come, and complains of nothing', async () => {
    const slots = (await machine.sh('ls /sys/bus/pci/slots')).trim().split(/\s+/).map(Number).sort((a, b) => a - b);
    assert.deepEqual(slots, Array.from({ length: 30 }, (_, i) => i + 1).filter((slot) => slot !== 2));
    assert.deepEqual(await newComplaints(machine), []);
  });

  it(`a device comes, is placed and used, and goes, ${ROUNDS} times, by the host's request and by the guest's own`, async () => {
    for (let round = 0; round < ROUNDS; round++) {
      assert.deepEqual(await machine.call('addDevice', { kind: 'pci-test', slot: SLOT }), { slot: SLOT, told: true });
      await machine.sh(appears('0000:00:05.0'));
      if (round === 0 || round === ROUNDS - 1) await use(machine);
      // Linux lets users eject PCI devices by the slot's power alone: their ACPI objects have no handler of its own, so "eject" there refuses.
      if (round % 2 === 0) await machine.call('removeDevice', SLOT, { force: false, seconds: SECONDS });
      else await machine.sh(`echo 0 > /sys/bus/pci/slots/${SLOT}/power`);
      await machine.sh(goes('0000:00:05.0'));
      assert.deepEqual(await seen(), []);
    }
    assert.deepEqual(await newComplaints(machine), []);
  });

  it('a device of several functions comes and goes as one', async () => {
    await machine.call('addDevice', { kind: 'pci-test', slot: SLOT, functions: 4, sharedMsix: true });
    await machine.sh(appears('0000:00:05.3'));
    const places = new Set<number>();
    for (const number of [0, 1, 2, 3]) places.add((await bars(machine, `${PCI}/0000:00:05.${number}`))[0]![0]);
    assert.equal(places.size, 4);
    await machine.call('removeDevice', SLOT, { force: false, seconds: SECONDS });
    for (const number of [0, 1, 2, 3]) await machine.sh(goes(`0000:00:05.${number}`));
    assert.deepEqual(await newComplaints(machine), []);
  });

  it('a device that the machine began with can go too, and one in its place come', async () => {
    await machine.call('removeDevice', 9, { force: false, seconds: SECONDS });
    await machine.sh(goes('0000:00:09.0'));
    await machine.call('addDevice', { kind: 'pci-test', slot: 9, window: 2 ** 30 });
    await machine.sh(appears('0000:00:09.0'));
    const [, , window] = await bars(machine, `${PCI}/0000:00:09.0`);
    assert.equal(window![1] - window![0] + 1, 2 ** 30, 'the large BAR found room');
    assert.ok(window![0] >= 2 ** 32, 'above 4 GiB');
    assert.deepEqual(await newComplaints(machine), []);
  });
});

for (const [name, image] of [['Linux 6.12', () => kernel('6.12')], ['the kernel of Try Linux', () => tryLinux('vmlinuz')]] as const) {
  it(`PCI hot-plug under ${name}`, async () => {
    const machine = await LabMachine.start(lab, { cpus: 1, boot: { kernel: image(), initrd: tryLinux('initrd.gz'), append: 'console=ttyS0 console=tty0 quiet' } });
    try {
      await machine.shell();
      for (let round = 0; round < 2; round++) {
        await machine.call('addDevice', { kind: 'pci-test', slot: SLOT });
        await machine.sh(appears('0000:00:05.0'));
        await use(machine);
        await machine.call('removeDevice', SLOT, { force: false, seconds: SECONDS });
        await machine.sh(goes('0000:00:05.0'));
      }
      assert.deepEqual(await newComplaints(machine), []);
    } finally {
      await machine.close();
    }
  });
}
