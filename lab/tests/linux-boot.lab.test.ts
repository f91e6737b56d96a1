// Debian's kernels in machines of ours, in the lab: they boot, find nothing to complain about, hear keyboard, mouse and serial port,
// live through pauses and resets, and turn themselves off. One lab, one machine after the other.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { findProgram, labPaths } from '../../scripts/setup/lab.mjs';
import { startLab } from '../host.ts';
import type { LabHost } from '../host.ts';
import { buildDriver, LabMachine, top } from './support/lab-machine.ts';
import type { MachineSpec } from './support/lab-machine.ts';
import { Picture } from './support/picture.ts';

const initrd = path.join(top, 'build/try-linux/initrd.gz');
const shots = path.join(top, 'test-results/shots');
/** The console, and nothing else of ours. `quiet` spares the emulated serial port some thousand characters. */
const APPEND = 'console=ttyS0 console=tty0 quiet';
const long = process.env.VITRINE_LONG === '1';
const PAUSE = long ? 60_000 : 8_000;

/** What a line of level warning or worse is about, if it is about the machine; an emulated host also makes Linux speak of slow timers. */
const ABOUT_THE_MACHINE = /acpi|\bpci|apic|pnp|e820|mtrr|i8042|serio|psmouse|ttyS|rtc|bios|firmware|resource|efifb|framebuffer|\birq\b/i;

// evdev codes of the keys that spell a command on a US keyboard.
const SHIFT = 42;
const ENTER = 28;
const CAPS_LOCK = 58;
const CODES: Record<string, number> = Object.fromEntries([
  ...[...'qwertyuiop'].map((c, i) => [c, 16 + i]), ...[...'asdfghjkl'].map((c, i) => [c, 30 + i]), ...[...'zxcvbnm'].map((c, i) => [c, 44 + i]),
  ...[...'1234567890'].map((c, i) => [c, 2 + i]), ['-', 12], ['/', 53], [' ', 57], ['.', 52],
] as [string, number][]);
const SHIFTED: Record<string, number> = { '|': 43, '>': 52, S: 31 };

async function type(machine: LabMachine, text: string): Promise<void> {
  for (const character of text) {
    if (character in SHIFTED) await machine.keys(SHIFT, SHIFTED[character]!);
    else await machine.keys(CODES[character]!);
  }
  await machine.keys(ENTER);
}

describe('Linux boots in the lab', () => {
  let lab: LabHost;
  let kernels: ReturnType<typeof labPaths>['kernels'];

  before(async () => {
    fs.mkdirSync(shots, { recursive: true });
    await buildDriver();
    kernels = labPaths().kernels;
    lab = await startLab();
  });

  after(async () => {
    await lab?.stop();
  });

  async function withMachine(spec: Partial<MachineSpec>, body: (machine: LabMachine) => Promise<void>): Promise<void> {
    const machine = await LabMachine.start(lab, { boot: { kernel: kernels['6.1']!.bzImage, initrd, append: APPEND }, ...spec });
    try {
      await body(await machine.shell());
    } finally {
      await machine.close();
    }
  }

  it('boots with 4 CPUs, complains of nothing, and keeps its time through a pause', async () => {
    await withMachine({ cpus: 4 }, async (machine) => {
      assert.equal((await machine.sh('nproc')).trim(), '4');
      assert.match(await machine.sh("grep -m1 siblings /proc/cpuinfo; grep -m1 'cpu cores' /proc/cpuinfo"), /siblings\s*: 4\s+cpu cores\s*: 4/);

      const { png } = await machine.screenshot();
      fs.writeFileSync(path.join(shots, 'linux-4-cpus.png'), png);
      const picture = new Picture(png);
      assert.deepEqual([picture.width, picture.height], [1280, 800]);
      let lit = 0;
      for (let y = 0; y < 400; y++) for (let x = 0; x < 640; x++) if (picture.at(x, y) !== 0) lit++;
      assert.ok(lit > 2000, `text is on the screen: ${lit} pixels of it`);

      const complaints = (await machine.sh("dmesg -r | grep -E '^<[0-4]>' || true")).split('\n').map((line) => line.trim()).filter((line) => ABOUT_THE_MACHINE.test(line));
      assert.deepEqual(complaints, []);
      assert.doesNotMatch(await machine.sh('dmesg'), /ACPI (Error|Warning|BIOS)|can't claim|no compatible bridge window|address space collision|firmware bug/i);

      const configurations = await machine.sh('for f in /sys/bus/pci/devices/*/config; do stat -c %s $f; done');
      assert.deepEqual(configurations.trim().split(/\s+/), ['4096', '256', '256'], 'ECAM reaches the extended space of the host bridge; the others are conventional PCI');
      assert.match(await machine.sh('cat /sys/devices/system/clocksource/clocksource0/current_clocksource'), /kvm-clock|tsc/);
      assert.match(await machine.sh('cat /proc/fb'), /EFI VGA|bochs/);
      const rtc = Number(await machine.sh('cat /sys/class/rtc/rtc0/since_epoch'));
      assert.ok(Math.abs(rtc - Date.now() / 1000) < 30, 'the clock follows the host');

      await checkTables(machine);

      const uptime = async (): Promise<number> => Number((await machine.sh('cat /proc/uptime')).split(' ')[0]);
      const hostBefore = Date.now();
      const before = await uptime();
      await machine.call('pause');
      await sleep(PAUSE);
      await machine.call('resume');
      const passed = (await uptime()) - before;
      const hostPassed = (Date.now() - hostBefore) / 1000;
      assert.ok(passed <= hostPassed - PAUSE / 1000 + 1, `${passed} s passed in the guest, ${hostPassed} s outside with ${PAUSE / 1000} s of pause`);
    });
  });

  /** The tables as the guest sees them, taken apart and put together again by ACPI's own compiler. */
  async function checkTables(machine: LabMachine): Promise<void> {
    const iasl = findProgram('iasl');
    assert.ok(iasl !== undefined || process.env.CI !== 'true', 'the package acpica-tools is there');
    if (iasl === undefined) return;
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-acpi-'));
    try {
      for (const name of ['DSDT', 'FACP', 'APIC', 'MCFG']) {
        const base64 = await machine.sh(`base64 /sys/firmware/acpi/tables/${name}`);
        fs.writeFileSync(path.join(folder, `${name}.aml`), Buffer.from(base64.replaceAll(/\s/g, ''), 'base64'));
        execFileSync(iasl, ['-d', `${name}.aml`], { cwd: folder, stdio: 'pipe' });
      }
      const said = execFileSync(iasl, ['-f', '-p', 'again', 'DSDT.dsl'], { cwd: folder, encoding: 'utf8' });
      assert.match(said, /Compilation successful. 0 Errors/);
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  }

  it('boots with 1 CPU, hears keys, mouse and serial port, reboots, and turns itself off', async () => {
    await withMachine({ cpus: 1 }, async (machine) => {
      await type(machine, 'uname -a | tee /dev/ttyS0');
      await machine.expect(/Linux try-linux 6\.1\.\S+ .*x86_64/);
      await machine.keys(CAPS_LOCK);
      await machine.until('the lamp of Caps Lock', () => machine.facts.leds.caps);
      await machine.keys(CAPS_LOCK);
      await machine.until('the lamp goes out', () => !machine.facts.leds.caps);

      await machine.sh('(head -c 3 /dev/input/mice | od -An -tx1 > /tmp/mouse) & true');
      let moved = '';
      for (let tries = 0; moved === '' && tries < 100; tries++) {
        await machine.call('pointer', { kind: 'pointer', dx: 7, dy: 0, wheel: 0, buttons: 1 });
        moved = (await machine.sh('cat /tmp/mouse')).trim();
      }
      const [buttons, dx, dy] = moved.split(/\s+/).map((byte) => Number.parseInt(byte, 16));
      assert.ok((buttons! & 1) === 1 && dx! > 0 && dx! % 7 === 0 && dy === 0, moved);
      await machine.call('pointer', { kind: 'pointer', dx: 0, dy: 0, wheel: 0, buttons: 0 });

      const bytes = randomBytes(16 * 1024);
      const digest = machine.sh(`stty raw; echo now; head -c ${bytes.length} | md5sum; stty -raw -echo -onlcr`);
      await machine.expect(/now\r?\n/); // before that the terminal would take some of the bytes for keys
      await machine.write(bytes);
      assert.ok((await digest).includes(createHash('md5').update(bytes).digest('hex')));

      await machine.write('reboot\n');
      await machine.until('the guest reset the machine', () => machine.facts.resets === 1);
      await machine.shell();
      await machine.write('poweroff\n');
      assert.equal((await machine.ended()).how, 'powered-off');
    });
  });
});
