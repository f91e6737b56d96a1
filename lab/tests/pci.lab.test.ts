// Linux re-places PCI devices, in the lab: BARs that move, go and come back while a program draws, with every device working afterwards, the
// picture intact, the viewer's too, and no complaint in the kernel's log. No kernel parameter but the console's, except where one is the test.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { labPaths } from '../../scripts/setup/lab.mjs';
import type { AddressMap } from '../../src/vmm/machine/machine.ts';
import { startLab } from '../host.ts';
import type { LabHost } from '../host.ts';
import { findText } from './support/console-text.ts';
import { noComplaints } from './support/kernel-log.ts';
import { buildDriver, LabMachine, top } from './support/lab-machine.ts';
import type { MachineSpec } from './support/lab-machine.ts';
import { addModules } from './support/modules.ts';
import { compilePciTool, painted } from './support/pci-tool.ts';
import { Picture } from './support/picture.ts';
import type { Box } from './support/picture.ts';

const MIB = 2 ** 20;
const LONG = process.env['VITRINE_LONG'] === '1';
const TOGGLES = LONG ? 2000 : 40;
const MOVES = LONG ? 2000 : 40;
const FIRE_MOVES = LONG ? 600 : 120;

const PATIENCE = 60_000;

const CONSOLE = 'console=ttyS0 console=tty0 quiet';
const WELCOME = 'You have a shell with the usual commands; nothing here outlives the machine.';
/** Of the test device's memory: larger than the framebuffer, so that firmware puts it first, where Linux has better places for it. */
const WINDOW = 64 * MIB;
const DISPLAY = '/sys/bus/pci/devices/0000:00:02.0';
const DISPLAY_PLACE = 2 << 3;
const TEST = '/sys/bus/pci/devices/0000:00:01.0';
/** What a test device says of itself at the start of its registers. */
const MAGIC = '0x54535456';
const ROM_BEGIN = '55aa08cb';
const ALL_ONES = '0xffffffff';

// The part of the picture that programs draw, away from the console's text: in pixels of a mode of 640x480.
const PITCH = 640 * 4;
const BOX: Box = { left: 0, top: 300, right: 256, bottom: 364 };
const AREA = `${BOX.top * PITCH} ${PITCH} ${BOX.bottom - BOX.top} ${BOX.right}`;

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-pci-'));
const initrd = path.join(scratch, 'initrd');
let lab: LabHost;
let graphics: string[];

before(async () => {
  fs.chmodSync(scratch, 0o755);
  graphics = addModules(path.join(top, 'build/try-linux/initrd.gz'), labPaths().kernels['6.1']!.modules, ['bochs'], initrd, { 'pci-tool': compilePciTool() });
  await buildDriver();
  lab = await startLab({ memory: 4096 * MIB, shares: [{ path: scratch, writable: false, mode: 'cached' }] });
});

after(async () => {
  await lab?.stop();
  fs.rmSync(scratch, { recursive: true, force: true });
});

/** A machine for all the tests of a `describe`. */
function machineOf(append: string, spec: Partial<MachineSpec> = {}): () => LabMachine {
  let machine: LabMachine | undefined;
  before(async () => {
    machine = await LabMachine.start(lab, {
      memory: 256 * MIB, cpus: 2, onReset: 'stop', display: { kind: 'canvas', width: 640, height: 480 }, devices: [{ kind: 'pci-test', window: WINDOW }],
      boot: { kernel: path.join(top, 'build/try-linux/vmlinuz'), initrd, append }, ...spec,
    } as MachineSpec);
    await machine.shell();
    await machine.call('watchScreen');
  });
  after(() => machine?.close());
  return () => machine!;
}

const lines = (text: string): string[] => text.trim().split('\n');
/** Whether text is on the console. */
const shows = (machine: LabMachine, text: string): Promise<void> => until(machine, `the console shows ${text}`, async () => findText(await screen(machine), text) !== undefined);
const addressMap = async (machine: LabMachine): Promise<AddressMap> => (await machine.call('addressMap')) as AddressMap;

/** Where the machine answers for a BAR, the whole of it in one piece. */
async function whereIs(machine: LabMachine, name: string): Promise<number> {
  const { io, memory } = await addressMap(machine);
  const ranges = [...io, ...memory].filter((range) => range.name === name);
  assert.equal(ranges.length, 1, `${name}: ${JSON.stringify(ranges)}`);
  return ranges[0]!.start;
}

/** Start of each of a device's resources as Linux has them, 0 for none: six BARs, the ROM. */
async function resources(machine: LabMachine, device: string): Promise<number[]> {
  return lines(await machine.sh(`cat ${device}/resource`)).slice(0, 7).map((line) => Number(line.split(' ')[0]));
}

/** Begins to draw, for ever, in the background. */
async function paint(machine: LabMachine, file: string, seed: number): Promise<void> {
  await machine.sh(`{ pci-tool paint ${file} ${AREA} ${seed} 0 /tmp/painted${seed} < /dev/null > /dev/null 2>&1 & } ; echo $! > /tmp/painter${seed}`);
}
const rounds = async (machine: LabMachine, seed: number): Promise<number> => Number(await machine.sh(`cat /tmp/painted${seed} 2>/dev/null || echo 0`));

/** Looks again and again; a machine that ended, or minutes without success, are a failure. */
async function until(machine: LabMachine, what: string, look: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + PATIENCE;
  while (!(await look())) {
    assert.equal(machine.outcome, undefined, 'the machine has ended');
    assert.ok(Date.now() < end, `it never came to this: ${what}`);
    await sleep(50);
  }
}

/** Waits until the whole picture has been drawn anew by who draws for ever. */
async function paintedAgain(machine: LabMachine, seed: number): Promise<void> {
  const from = await rounds(machine, seed);
  await until(machine, 'the program draws', async () => (await rounds(machine, seed)) >= from + 2);
}

const screen = async (machine: LabMachine): Promise<Picture> => new Picture((await machine.screenshot()).png);
const watched = async (machine: LabMachine): Promise<Picture> => new Picture(Buffer.from(((await machine.call('watched')) as { png: string }).png, 'base64'));

/** The picture is whole, on the machine's screen and on that of who has watched it all along. */
async function pictureIsWhole(machine: LabMachine, seed: number): Promise<void> {
  const wrong = (picture: Picture): number => picture.count(BOX, (colour, x, y) => colour !== painted(x - BOX.left, y - BOX.top, seed));
  await until(machine, 'the screen has the picture', async () => wrong(await screen(machine)) === 0);
  await until(machine, 'the viewer has the picture', async () => wrong(await watched(machine)) === 0);
}

/** Each driver and each device does what it is there for. */
async function everythingWorks(machine: LabMachine): Promise<void> {
  await machine.type('echo typed $((6 * 7)) | tee /dev/ttyS0\n');
  await machine.expect(/typed 42/);
  const clock = Number(await machine.sh('cat /sys/class/rtc/rtc0/since_epoch'));
  assert.ok(clock > 1_500_000_000);
  await testDeviceWorks(machine);
}

async function testDeviceWorks(machine: LabMachine): Promise<void> {
  const bars = await resources(machine, TEST);
  assert.equal((await machine.sh(`pci-tool memory ${TEST}/resource0 0`)).trim(), MAGIC);
  assert.equal((await machine.sh(`pci-tool port ${bars[1]}`)).trim(), MAGIC);
  await machine.sh(`pci-tool memory ${TEST}/resource2 0x1000 0x12345678`);
  assert.equal((await machine.sh(`pci-tool memory ${TEST}/resource2 0x1000`)).trim(), '0x12345678');
  assert.equal((await machine.sh(`echo 1 > ${TEST}/rom; head -c 4 ${TEST}/rom | hexdump -v -e '1/1 "%02x"'; echo 0 > ${TEST}/rom`)).trim(), ROM_BEGIN);
  for (const bar of [0, 1, 2, 4, 5]) assert.equal(await whereIs(machine, `00:01.0 pci-test bar${bar}`), bars[bar], `BAR ${bar}`);
}

describe('Linux with a display and a test device', () => {
  const machine = machineOf(CONSOLE);

  it('boots without a complaint, and every device works', async () => {
    await shows(machine(), WELCOME);
    await noComplaints(machine());
    await everythingWorks(machine());
  });

  it(`draws while memory decode is switched off and on ${TOGGLES} times`, async () => {
    await paint(machine(), '/dev/fb0', 1);
    await paintedAgain(machine(), 1);
    assert.equal((await machine().sh(`pci-tool toggle ${DISPLAY}/config ${TOGGLES}`)).trim(), `${TOGGLES} done, 0 wrong`);
    await paintedAgain(machine(), 1);
    await pictureIsWhole(machine(), 1);
    await noComplaints(machine());
  });

  it(`draws while the framebuffer itself moves ${MOVES} times, with the picture intact`, async () => {
    const home = await whereIs(machine(), '00:02.0 display bar0');
    const said = await machine().sh(`pci-tool chase ${DISPLAY}/config ${AREA} 1 ${MOVES} 0xe0000000 0xe2000000 0xd0000000`);
    assert.equal(said.trim(), `${MOVES} done, 0 wrong`);
    assert.equal(await whereIs(machine(), '00:02.0 display bar0'), home);
    await paintedAgain(machine(), 1);
    await pictureIsWhole(machine(), 1);
    await noComplaints(machine());
  });

  it('takes all devices away and finds them again, at other addresses, while a program draws', async () => {
    const m = machine();
    const [old] = await resources(m, DISPLAY);
    const beyond = 16 * MIB; // outside of what the kernel's own console uses, which nobody else may map
    const elsewhere = 0xd800_0000;
    const peek = async (address: number): Promise<string> => (await m.sh(`pci-tool memory /dev/mem ${address}`)).trim();
    await m.sh('echo 0 > /sys/class/vtconsole/vtcon1/bind'); // no console on a screen that is not there
    await m.sh(`pci-tool memory /dev/mem ${old! + beyond} 0x00c0ffee`);
    await m.sh(`echo 1 > ${DISPLAY}/remove; echo 1 > ${TEST}/remove`);
    await m.sh(`pci-tool ports ${DISPLAY_PLACE} 0x10 4 ${elsewhere}`);
    assert.equal(await peek(old! + beyond), ALL_ONES);
    assert.equal(await peek(elsewhere + beyond), '0xc0ffee');
    await pictureIsWhole(m, 1);

    await m.sh(`echo 1 > /sys/bus/pci/rescan; echo 1 > ${DISPLAY}/enable; echo 1 > ${TEST}/enable`);
    const [found] = await resources(m, DISPLAY);
    assert.ok(found !== old && found !== elsewhere, `the framebuffer is at ${found}`);
    assert.equal(await whereIs(m, '00:02.0 display bar0'), found);
    assert.equal((await m.sh(`pci-tool memory ${DISPLAY}/resource0 ${beyond}`)).trim(), '0xc0ffee');
    for (const place of [old!, elsewhere]) assert.equal(await peek(place + beyond), ALL_ONES);
    await pictureIsWhole(m, 1);
    // The first program still draws, where nothing is any more; another one draws at the new place.
    await m.sh('kill $(cat /tmp/painter1)');
    await paint(m, `${DISPLAY}/resource0`, 5);
    await paintedAgain(m, 5);
    await pictureIsWhole(m, 5);
    await everythingWorks(m);
    await noComplaints(m);
  });

  it('powers off', async () => {
    await machine().write('poweroff\n');
    assert.equal((await machine().ended()).how, 'powered-off');
  });
});

describe('BARs under fire, with a processor that runs the guest itself', () => {
  it('loses no access, lets none reach what has gone, and leaves everything as it was', async (t) => {
    const kernel = path.join(scratch, 'barfire.elf');
    fs.copyFileSync(path.join(top, 'build/guests/barfire.elf'), kernel);
    const machine = await LabMachine.start(lab, {
      memory: 64 * MIB, cpus: 8, testDevices: true, display: { kind: 'canvas', width: 640, height: 480 },
      devices: Array.from({ length: 3 }, () => ({ kind: 'pci-test' as const })), boot: { kernel, append: `native moves=${FIRE_MOVES}` },
    } as MachineSpec);
    t.after(() => machine.close());
    await machine.expect(/barfire begins/);
    const before = await addressMap(machine);
    await machine.write('g');
    for (const stop of ['covered', 'painted']) {
      await machine.expect(new RegExp(`barfire ${stop}`));
      await machine.write('g');
    }
    await machine.expect(/barfire done \d+/);
    t.diagnostic(/barfire targets.*/.exec(machine.serial)![0]);
    assert.match(machine.serial, /barfire done 0/, machine.serial);
    assert.deepEqual(await addressMap(machine), before);
    await machine.write('g');
    assert.deepEqual([(await machine.ended()).how, machine.outcome!.exitCode], ['debug-exit', 1]);
  });
});

/** A device that is placed anew does not decode until its driver comes, and the console of the firmware's framebuffer is none. */
const DISABLED = /BAR 0: assigned to efifb but device is disabled/;
/** A console that draws to a framebuffer which decodes no more keeps a CPU busy for long where each pixel is an exit. */
const NO_FIRMWARE_CONSOLE = 'video=efifb:off';
/** Linux aligns a BAR by making it larger, and the driver goes by what the registers say. */
const ENLARGED = /\*ERROR\* Size mismatch: pci=134217728, bochs=33554432/;

describe('Linux with the display aligned anew, and the driver of the display', () => {
  const machine = machineOf(`${CONSOLE} ${NO_FIRMWARE_CONSOLE} pci=resource_alignment=27@0000:00:02.0`);
  const ALIGNMENT = 128 * MIB;

  it('boots with the framebuffer where Linux put it, and shows its console by the driver', async () => {
    const [start] = await resources(machine(), DISPLAY);
    assert.equal(start! % ALIGNMENT, 0);
    assert.ok(start! >= ALIGNMENT + 0xc000_0000, 'firmware had put it elsewhere');
    const answers = async (): Promise<string[]> => (await addressMap(machine())).memory.filter(({ name }) => name.startsWith('00:02.0')).map(({ name, start: at }) => `${name} ${at % ALIGNMENT}`);
    assert.deepEqual(await answers(), [], 'Linux switched decoding off to place it anew');
    await machine().sh(`for m in ${graphics.join(' ')}; do insmod /lib/extra/$m; done`);
    assert.match(await machine().sh('cat /proc/fb'), /^0 bochs/);
    assert.deepEqual((await answers()).toSorted(), ['00:02.0 display bar0 0', '00:02.0 display bar2 0']);
    assert.equal(await whereIs(machine(), '00:02.0 display bar0'), start);
    await shows(machine(), WELCOME);
    await noComplaints(machine(), new RegExp(`${DISABLED.source}|${ENLARGED.source}`));
    await everythingWorks(machine());
  });

  it('takes the display away from under its driver and a program that draws, and gives it to the driver again', async () => {
    const m = machine();
    await paint(m, '/dev/fb0', 2);
    await paintedAgain(m, 2);
    await pictureIsWhole(m, 2);
    await m.sh(`echo 1 > ${DISPLAY}/remove`);
    await m.sh('kill $(cat /tmp/painter2)');
    const old = await whereIs(m, '00:02.0 display bar0');
    await m.sh('echo > /sys/bus/pci/resource_alignment; echo 1 > /sys/bus/pci/rescan');
    assert.notEqual(await whereIs(m, '00:02.0 display bar0'), old);
    const [, number] = /^(\d) bochs/m.exec(await m.sh('cat /proc/fb'))!;
    await paint(m, `/dev/fb${number}`, 3);
    await paintedAgain(m, 3);
    await pictureIsWhole(m, 3);
    await noComplaints(m, ENLARGED);
    await everythingWorks(m);
  });
});

/** What follows from the two parameters. */
const ASKED_FOR = /MMCONFIG is disabled, can't access extended PCI configuration space|Can't reassign resources to host bridge/;

describe('Linux with every device aligned anew, and configuration by ports alone', () => {
  const machine = machineOf(`${CONSOLE} ${NO_FIRMWARE_CONSOLE} pci=resource_alignment=20@pci:0:0,nommconf`);

  it('boots with every BAR where Linux put it, and every device works', async () => {
    const m = machine();
    for (const device of [DISPLAY, TEST]) {
      for (const [bar, start] of (await resources(m, device)).entries()) {
        assert.ok(start < 0x10000 || start % MIB === 0, `${device} BAR ${bar} at 0x${start.toString(16)}`);
      }
    }
    assert.doesNotMatch(await m.sh('cat /proc/iomem'), /MMCONFIG/);
    await noComplaints(m, new RegExp(`${DISABLED.source}|${ASKED_FOR.source}`));
    await m.sh(`echo 1 > ${DISPLAY}/enable; echo 1 > ${TEST}/enable`);
    await everythingWorks(m);
    await paint(m, `${DISPLAY}/resource0`, 4);
    await paintedAgain(m, 4);
    await pictureIsWhole(m, 4);
  });
});
