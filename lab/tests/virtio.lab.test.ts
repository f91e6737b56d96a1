// The virtio transport under Linux' own driver, in the lab: both forms of rings, its BARs moved, found again, reset, with messages and with the pin.
// The device is the source of entropy, the smallest there is.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { labPaths } from '../../scripts/setup/lab.mjs';
import { startLab, type LabHost } from '../host.ts';
import { BUTTON_LEFT, tabletPlace } from '../../src/shared/protocol/input.ts';
import { fired, inSlot, loading, until } from './support/guest-tools.ts';
import { buildDriver, LabMachine, top } from './support/lab-machine.ts';
import { addModules } from './support/modules.ts';

const MIB = 2 ** 20;
const MODULES = ['virtio_pci', 'virtio_rng'];
const SPLIT = 1;
const PACKED = 3;
const LONG = process.env['VITRINE_LONG'] === '1';
const RANDOM = '/dev/hwrng';

describe('virtio under Linux', () => {
  let lab: LabHost;
  let folder: string;
  let initrd: string;
  const { bzImage, modules } = labPaths().kernels['6.1']!;
  const load = loading(modules);

  before(async () => {
    await buildDriver();
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-virtio-'));
    fs.chmodSync(folder, 0o755);
    initrd = path.join(folder, 'initrd.gz');
    addModules(path.join(top, 'build/try-linux/initrd.gz'), modules, MODULES, initrd);
    lab = await startLab({});
  });

  after(async () => {
    await lab?.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  const boot = async (append = ''): Promise<LabMachine> => {
    const machine = await LabMachine.start(lab, {
      boot: { kernel: bzImage, initrd, append: `console=ttyS0 quiet ${append}` }, memory: 128 * MIB, display: { kind: 'none' },
      devices: [{ kind: 'virtio-rng', slot: SPLIT, rings: 'split' }, { kind: 'virtio-rng', slot: PACKED, rings: 'packed' }],
    });
    const guest = await machine.shell();
    for (const name of MODULES) await guest.sh(load(name));
    return guest;
  };

  /** Takes bytes of the device in this slot. */
  const use = async (guest: LabMachine, slot: number): Promise<void> => {
    const name = (await guest.sh(`basename $(echo ${inSlot(slot)}/virtio*)`)).trim();
    const number = (await guest.sh(`for each in $(cat /sys/class/misc/hw_random/rng_available); do echo $each > /sys/class/misc/hw_random/rng_current; [ "$(cat /sys/class/misc/hw_random/rng_current)" = "$each" ] && echo $each; done; ls -l /sys/bus/virtio/devices/${name}`)).trim();
    const random = number.match(/virtio_rng\.\d+/g) ?? [];
    assert.equal(random.length, 2, `both are sources of entropy: ${number}`);
    for (const each of random) {
      await guest.sh(`echo ${each} > /sys/class/misc/hw_random/rng_current`);
      const sums = await guest.sh(`for i in 1 2; do head -c 4096 ${RANDOM} | sha256sum; done`);
      const [first, second] = sums.trim().split('\n');
      assert.ok(first !== undefined && second !== undefined && first !== second, sums);
    }
  };

  it('gives bytes through split and packed rings, moves, is taken out and found again, and resets with its driver', async () => {
    const guest = await boot();
    await guest.sh(until(`[ -e ${inSlot(SPLIT)}/virtio0 ]`));
    const features = async (slot: number): Promise<string> => (await guest.sh(`cat ${inSlot(slot)}/virtio*/features`)).trim();
    assert.equal((await features(SPLIT))[34], '0');
    assert.equal((await features(PACKED))[34], '1');
    assert.equal((await features(SPLIT))[29], '1', 'event index');
    await use(guest, SPLIT);
    assert.ok(Number(await guest.sh(fired('virtio0-input'))) > 0, 'by a message of its own queue');
    for (let i = 0; i < (LONG ? 10 : 1); i++) {
      await guest.sh(`echo 1 > ${inSlot(SPLIT)}/remove; echo 1 > ${inSlot(PACKED)}/remove; echo 1 > /sys/bus/pci/rescan`);
      await use(guest, SPLIT);
      await guest.sh(`rmmod virtio_rng; ${load('virtio_rng')}`);
      await use(guest, PACKED);
    }
    assert.doesNotMatch(await guest.sh('dmesg'), /virtio.*(error|fail|timeout)/i);
    await guest.close();
  });

  it('has a keyboard and a tablet: what is pressed arrives, and the pointer is where it is, to the pixel', async () => {
    const machine = await LabMachine.start(lab, {
      boot: { kernel: bzImage, initrd: path.join(top, 'build/try-linux/initrd.gz'), append: 'console=ttyS0 quiet' }, memory: 128 * MIB,
      devices: [{ kind: 'virtio-input', form: 'keyboard', rings: 'split' }, { kind: 'virtio-input', form: 'tablet', rings: 'split' }],
    });
    const guest = await machine.shell();
    const node = async (name: string): Promise<string> => {
      const found = await guest.sh(`for each in /sys/class/input/event*; do [ "$(cat $each/device/name)" = "${name}" ] && basename $each; done; true`);
      return `/dev/input/${found.trim()}`;
    };
    /** What a device node gives while something is done, as events [type, code, value]. */
    const events = async (from: string, count: number, act: () => Promise<void>): Promise<number[][]> => {
      await guest.sh(`dd if=${from} of=/tmp/events bs=24 count=${count} 2>/dev/null & echo $! > /tmp/reader; sleep 0.2`);
      await act();
      await guest.sh(until('! kill -0 $(cat /tmp/reader) 2>/dev/null'));
      const bytes = Buffer.from((await guest.sh('hexdump -v -e \'1/1 "%02x"\' /tmp/events')).trim(), 'hex');
      return Array.from({ length: count }, (_, i) => [bytes.readUInt16LE(i * 24 + 16), bytes.readUInt16LE(i * 24 + 18), bytes.readInt32LE(i * 24 + 20)]);
    };
    const KEY_A = 30;
    assert.deepEqual(await events(await node('Vitrine Keyboard'), 4, () => guest.keys(KEY_A)), [[1, KEY_A, 1], [0, 0, 0], [1, KEY_A, 0], [0, 0, 0]]);
    const WIDTH = 1280;
    const HEIGHT = 800;
    const places = [[0, 0], [1, 1], [640, 399], [1279, 799], [17, 700]] as const;
    const told = await events(await node('Vitrine Tablet'), places.length * 3 + 2, async () => {
      for (const [x, y] of places) await guest.call('tablet', { kind: 'tablet', x: tabletPlace(x, WIDTH), y: tabletPlace(y, HEIGHT), wheel: 0, buttons: 0 });
      await guest.call('tablet', { kind: 'tablet', x: tabletPlace(17, WIDTH), y: tabletPlace(700, HEIGHT), wheel: 0, buttons: BUTTON_LEFT });
    });
    // As libinput spreads an axis of 0 to 32767 over a screen.
    const pixel = (value: number, size: number): number => Math.floor((value * size) / 32768);
    const seen = Array.from(places, (_, i) => [pixel(told[i * 3]![2]!, WIDTH), pixel(told[i * 3 + 1]![2]!, HEIGHT)]);
    assert.deepEqual(seen, places.map((place) => [...place]));
    assert.deepEqual(told.slice(-2), [[1, 0x110, 1], [0, 0, 0]]);
    // What the keyboard types stands on the screen's console: keys go there, and not to the PS/2 keyboard.
    assert.equal((await guest.sh(`basename $(readlink -f /sys/class/input/$(basename ${await node('Vitrine Keyboard')})/device/device/driver)`)).trim(), 'virtio_input');
    await guest.close();
  });

  it('works by its interrupt pin', async () => {
    const guest = await boot('pci=nomsi');
    await use(guest, SPLIT);
    assert.ok(Number(await guest.sh(fired('IO-APIC.*virtio'))) > 0);
    await guest.close();
  });
});
