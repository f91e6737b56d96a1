// Debian's kernels in machines of ours, in one lab: each `describe` is a machine, or a few that share a question. Every boot costs seconds
// under emulation, so a machine is asked everything that it can answer before it ends.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { findProgram, labPaths } from '../../scripts/setup/lab.mjs';
import type { LabKernelName } from '../../scripts/setup/lab.mjs';
import { startLab } from '../host.ts';
import type { LabHost } from '../host.ts';
import { findText, textRows } from './support/console-text.ts';
import { complaints, kernelLog, noComplaints } from './support/kernel-log.ts';
import { buildDriver, LabMachine, top } from './support/lab-machine.ts';
import type { MachineSpec } from './support/lab-machine.ts';
import { addModules } from './support/modules.ts';
import { Picture } from './support/picture.ts';
import { KEY_CAPSLOCK } from './support/us-keyboard.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const PAUSE_SECONDS = process.env['VITRINE_LONG'] === '1' ? 60 : 12;
const PASTED_BYTES = 24 * 1024;
const REBOOTS = process.env['VITRINE_LONG'] === '1' ? 10 : 3;
/** The machine's clock shows whole seconds, and a second may pass between two looks. */
const CLOCK_SECONDS = 2;

const tryLinux = { kernel: path.join(top, 'build/try-linux/vmlinuz'), initrd: path.join(top, 'build/try-linux/initrd.gz') };
const shots = path.join(top, 'test-results/shots');
const WELCOME = 'You have a shell with the usual commands; nothing here outlives the machine.';

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-linux-'));
const file = (name: string): string => path.join(scratch, name);
let lab: LabHost;
let graphics: string[];

/** A copy of a kernel's ELF file where the lab's ordinary user may read it: the cache may be root's. */
function kernel(name: LabKernelName): string {
  const copy = file(`vmlinux-${name}`);
  if (!fs.existsSync(copy)) {
    const own = labPaths().kernels[name];
    assert.ok(own !== undefined, `the lab has no kernel ${name}: npm run lab -- --prepare`);
    fs.copyFileSync(own.vmlinux, copy);
    fs.chmodSync(copy, 0o644);
  }
  return copy;
}

before(async () => {
  fs.chmodSync(scratch, 0o755);
  fs.mkdirSync(shots, { recursive: true });
  for (const name of ['6.1', '6.1-cloud', '6.12'] as const) kernel(name);
  graphics = addModules(tryLinux.initrd, labPaths().kernels['6.1']!.modules, ['bochs'], file('initrd-graphics'));
  await buildDriver();
  lab = await startLab({ memory: 8 * GIB, shares: [{ path: scratch, writable: false, mode: 'cached' }] });
});

after(async () => {
  await lab?.stop();
  fs.rmSync(scratch, { recursive: true, force: true });
});

/** A machine for all the tests of a `describe`; started before them, gone after them. */
function machineOf(spec: () => MachineSpec, afterStart: (machine: LabMachine) => Promise<unknown> = (machine) => machine.shell()): () => LabMachine {
  let machine: LabMachine | undefined;
  before(async () => {
    machine = await LabMachine.start(lab, spec());
    await afterStart(machine);
  });
  after(() => machine?.close());
  return () => machine!;
}

/** A screenshot that shows `text`, kept as a file. */
async function screenWith(machine: LabMachine, text: string, name: string): Promise<Picture> {
  for (;;) {
    const { png } = await machine.screenshot();
    fs.writeFileSync(path.join(shots, `${name}.png`), png);
    const picture = new Picture(png);
    if (findText(picture, text) !== undefined) return picture;
    assert.equal(machine.outcome, undefined, 'the machine has ended');
    await sleep(100);
  }
}

const uptime = async (machine: LabMachine): Promise<number> => Number((await machine.sh('cat /proc/uptime')).split(' ')[0]);
const number = async (machine: LabMachine, command: string): Promise<number> => Number(await machine.sh(command));
/** Seconds since 1970 where the machine runs: the lab's clock is not the host's. */
const labTime = async (machine: LabMachine): Promise<number> => ((await machine.call('now')) as number) / 1000;

/** Bytes of RAM that firmware told the kernel of. */
async function firmwareRam(machine: LabMachine): Promise<number> {
  const entries = await machine.sh('cd /sys/firmware/memmap; for e in *; do echo $(cat $e/start $e/end $e/type); done');
  return entries.trim().split('\n').map((line) => line.split(' ')).filter(([, , type]) => type === 'System').reduce((sum, [start, end]) => sum + Number(end) - Number(start) + 1, 0);
}

/** What a memory map cannot give to the kernel: from the extended BIOS data area to the end of the first MiB. */
const LEGACY_HOLE = 0x10_0000 - 0x9_fc00;

describe('Linux 6.1 with 4 CPUs', () => {
  const machine = machineOf(() => ({
    cpus: 4, boot: { kernel: tryLinux.kernel, initrd: file('initrd-graphics'), append: 'console=ttyS0 console=tty0 quiet' },
  }));

  it('boots to a shell that shows on the framebuffer console', async () => {
    const picture = await screenWith(machine(), WELCOME, 'linux-4-cpus');
    assert.deepEqual([picture.width, picture.height], [1280, 800]);
    assert.match(await machine().sh('cat /proc/fb'), /EFI VGA/);
  });

  it('has 4 CPUs, cores of one processor', async () => {
    assert.equal(await number(machine(), 'nproc'), 4);
    const text = await machine().sh('cat /proc/cpuinfo');
    const values = (field: string): string[] => [...text.matchAll(new RegExp(`^${field}\\s*: (.*)$`, 'gm'))].map((match) => match[1]!.trim());
    assert.deepEqual(values('processor'), ['0', '1', '2', '3']);
    assert.deepEqual(values('siblings'), ['4', '4', '4', '4']);
    assert.deepEqual(values('cpu cores'), ['4', '4', '4', '4']);
    assert.deepEqual(values('core id'), ['0', '1', '2', '3']);
    assert.deepEqual(values('physical id'), ['0', '0', '0', '0']);
    assert.deepEqual(values('apicid'), ['0', '1', '2', '3']);
  });

  it('logs no complaint, and knows the frequency of its time stamp counter', async () => {
    const log = await kernelLog(machine());
    assert.deepEqual(complaints(log), []);
    const pattern = /tsc: Detected ([\d.]+) MHz processor/;
    const own = Number(pattern.exec(log)![1]);
    const labs = Number(pattern.exec((await lab.run(['dmesg'], { user: 'root', cwd: '/' })).stdout)![1]);
    assert.ok(Math.abs(own / labs - 1) < 0.01, `${own} MHz in the guest, ${labs} MHz in the lab`);
  });

  it('keeps time by KVM\'s clock, and shows the host\'s time', async () => {
    assert.equal((await machine().sh('cat /sys/devices/system/clocksource/clocksource0/current_clocksource')).trim(), 'kvm-clock');
    for (const clock of ['date +%s', 'cat /sys/class/rtc/rtc0/since_epoch']) {
      const [from, shown, to] = [await labTime(machine()), await number(machine(), clock), await labTime(machine())];
      assert.ok(shown >= from - CLOCK_SECONDS && shown <= to + CLOCK_SECONDS, `${clock}: ${shown}, between ${from} and ${to}`);
    }
  });

  it('has its interrupts where they belong', async () => {
    const text = await machine().sh('cat /proc/interrupts');
    for (const [gsi, rest] of [[1, /IO-APIC\s+1-edge\s+i8042/], [4, /IO-APIC\s+4-edge\s+ttyS0/], [8, /IO-APIC\s+8-edge\s+rtc0/], [9, /IO-APIC\s+9-fasteoi\s+acpi/], [12, /IO-APIC\s+12-edge\s+i8042/]] as const) {
      assert.match(text, new RegExp(`^ *${gsi}:( +\\d+){4} +${rest.source}`, 'm'));
    }
    const local = /^ *LOC:((?: +\d+){4})/m.exec(text)![1]!.trim().split(/ +/).map(Number);
    assert.ok(local.every((count) => count > 0), `every CPU's timer ticks: ${local.join(' ')}`);
    for (const name of ['ERR', 'MIS']) assert.match(text, new RegExp(`^ *${name}: +0$`, 'm'));
  });

  it('finds memory and ports where the tables say', async () => {
    const memory = await machine().sh('cat /proc/iomem');
    for (const pattern of [/^\w+-0009fbff : System RAM/m, /^00100000-1fffffff : System RAM/m, / : PCI MMCONFIG 0000 \[bus 00-3f\]/, /^c0000000-febfffff : PCI Bus 0000:00/m, / : 0000:00:02\.0/, / fec00000-fec003ff : IOAPIC 0/, /fee00000-fee00fff : Local APIC/]) assert.match(memory, pattern);
    const ports = await machine().sh('cat /proc/ioports');
    for (const pattern of [/0060-0060 : keyboard/, /0064-0064 : keyboard/, /0070-007\d : rtc/, /03f8-03ff : serial/, /0600-0603 : ACPI PM1a_EVT_BLK/, /0604-0605 : ACPI PM1a_CNT_BLK/, /0608-060b : ACPI PM_TMR/, /0cf8-0cff : PCI conf1/]) assert.match(ports, pattern);
  });

  it('reaches configuration space through ECAM: all 4096 bytes of it where Linux asks for them', async () => {
    // Linux looks for more than 256 bytes in host bridges and in functions with the PCI Express capability.
    const text = await machine().sh('cd /sys/bus/pci/devices; for d in *; do echo $d $(cat $d/vendor $d/device $d/class) $(wc -c < $d/config); done');
    assert.deepEqual(text.trim().split('\n'), [
      '0000:00:00.0 0x8086 0x29c0 0x060000 4096', '0000:00:02.0 0x1234 0x1111 0x038000 256', '0000:00:1f.0 0x8086 0x2918 0x060100 256',
    ]);
  });

  it('was told of all its memory', async () => {
    assert.equal(await firmwareRam(machine()), 512 * MIB - LEGACY_HOLE);
  });

  it('has ACPI tables that iasl takes apart and puts together again', async (t) => {
    const iasl = findProgram('iasl');
    if (iasl === undefined) return t.skip('iasl is not installed (Debian: acpica-tools)');
    const folder = file('acpi');
    fs.mkdirSync(folder);
    const names = (await machine().sh('cd /sys/firmware/acpi/tables; find . -maxdepth 1 -type f')).trim().split('\n').map((name) => path.basename(name));
    assert.deepEqual(names.toSorted(), ['APIC', 'DSDT', 'FACP', 'FACS', 'MCFG']);
    for (const name of names) {
      const bytes = Buffer.from(await machine().sh(`gzip -c /sys/firmware/acpi/tables/${name} | base64`), 'base64');
      fs.writeFileSync(path.join(folder, `${name}.gz`), bytes);
      execFileSync('gunzip', [`${name}.gz`], { cwd: folder });
      fs.renameSync(path.join(folder, name), path.join(folder, `${name}.dat`));
      execFileSync(iasl, ['-d', `${name}.dat`], { cwd: folder, stdio: 'pipe' });
    }
    assert.match(execFileSync(iasl, ['-we', '-p', 'again', 'DSDT.dsl'], { cwd: folder, encoding: 'utf8', stdio: 'pipe' }), /Compilation successful\. 0 Errors, 0 Warnings/);
  });

  it('stands still while it is paused, and does not notice', async () => {
    const began = performance.now();
    const from = await uptime(machine());
    await machine().call('pause');
    const shown = machine().serial.length;
    await sleep(PAUSE_SECONDS * 1000);
    assert.equal(machine().serial.length, shown);
    await machine().call('resume');
    const to = await uptime(machine());
    const running = (performance.now() - began) / 1000 - PAUSE_SECONDS;
    assert.ok(to - from <= running + 0.1, `the guest counted ${to - from} s, and ran for ${running} s at most`);
    const clock = await number(machine(), 'cat /sys/class/rtc/rtc0/since_epoch');
    assert.ok(Math.abs(clock - (await labTime(machine()))) <= CLOCK_SECONDS, 'the real-time clock follows the host');
    await machine().sh('sleep 1'); // each CPU's watchdog and the clock's own look now
    await noComplaints(machine());
  });

  it('makes few exits while it is idle', async () => {
    await machine().call('watchStats');
    const idle = (): boolean => machine().stats.slice(1).some(({ exits }) => exits.io + exits.mmio < 100);
    await machine().until('a second with hardly an exit', idle);
  });

  it('hands its screen over to the bochs driver, with the picture intact', async () => {
    await machine().sh(`for m in ${graphics.join(' ')}; do insmod /lib/extra/$m; done`);
    assert.match(await machine().sh('cat /proc/fb'), /bochs/);
    await screenWith(machine(), WELCOME, 'linux-bochs-driver');
    await machine().sh('echo "the driver of the display shows this line" > /dev/tty1');
    await screenWith(machine(), 'the driver of the display shows this line', 'linux-bochs-driver');
    assert.deepEqual([machine().facts.screen?.width, machine().facts.screen?.height], [1280, 800]);
    const modes = (await machine().sh('cat /sys/class/drm/card0-*/modes')).trim().split('\n');
    assert.ok(modes[0] === '1280x800' && modes.includes('640x480') && modes.includes('1920x1080'), modes.join(' '));
    await noComplaints(machine());
  });

  it('powers off when it is told to', async () => {
    await machine().write('poweroff\n');
    assert.equal((await machine().ended()).how, 'powered-off');
  });
});

describe('Linux 6.1 with 1 CPU', () => {
  const machine = machineOf(() => ({ boot: { ...tryLinux, append: 'console=tty0' } }));

  it('boots to a shell, with the kernel\'s log on the framebuffer console before', async () => {
    const picture = await screenWith(machine(), WELCOME, 'linux-1-cpu');
    assert.ok(textRows(picture) > 40, 'the log fills the screen');
    assert.equal(await number(machine(), 'nproc'), 1);
    await noComplaints(machine());
  });

  it('hears the keyboard, and lights its lamps', async () => {
    await machine().type('uname -a | tee /dev/ttyS0\n');
    const [said] = await machine().expect(/Linux try-linux 6\.1\.\S+ .* x86_64 GNU\/Linux/);
    await screenWith(machine(), said, 'linux-uname');
    for (const lit of [true, false]) {
      await machine().keys(KEY_CAPSLOCK);
      await machine().until(`Caps Lock is ${lit ? 'on' : 'off'}`, () => machine().facts.leds.caps === lit);
    }
  });

  it('hears the mouse', async () => {
    const device = (await machine().sh("sed -n '/Explorer Mouse/,/^$/s/.*\\(event[0-9]*\\).*/\\1/p' /proc/bus/input/devices")).trim();
    await machine().sh(`cat /dev/input/${device} > /tmp/events & sleep 0.1`);
    for (const [buttons, dx, dy, wheel] of [[1, 7, -300, 1], [0, -20, 5, 0]] as const) await machine().call('pointer', { kind: 'pointer', dx, dy, wheel, buttons });
    const seen = { x: 0, y: 0, wheel: 0, left: [] as number[] };
    const EVENT_BYTES = 24;
    while (seen.left.length < 2) {
      const events = Buffer.from(await machine().sh("hexdump -v -e '1/1 \"%02x\"' /tmp/events"), 'hex');
      Object.assign(seen, { x: 0, y: 0, wheel: 0, left: [] });
      for (let at = 0; at + EVENT_BYTES <= events.length; at += EVENT_BYTES) {
        const [type, code, value] = [events.readUInt16LE(at + 16), events.readUInt16LE(at + 18), events.readInt32LE(at + 20)];
        if (type === 2 && code === 0) seen.x += value;
        else if (type === 2 && code === 1) seen.y += value;
        else if (type === 2 && code === 8) seen.wheel += value;
        else if (type === 1 && code === 0x110) seen.left.push(value);
      }
    }
    assert.deepEqual(seen, { x: -13, y: -295, wheel: 1, left: [1, 0] });
  });

  it('gets what is pasted into the serial port, and says what it has to say', async () => {
    const pasted = randomBytes(PASTED_BYTES);
    const digest = machine().sh(`stty raw; echo now; head -c ${PASTED_BYTES} > /tmp/pasted; stty -raw -echo -onlcr; md5sum < /tmp/pasted`);
    await machine().expect(/now\n/);
    await machine().write(pasted);
    assert.match(await digest, new RegExp(createHash('md5').update(pasted).digest('hex')));
    const back = Buffer.from(await machine().sh('head -c 16384 /tmp/pasted | base64'), 'base64');
    assert.ok(back.equals(pasted.subarray(0, 16384)));
  });

  it('reboots', async () => {
    await machine().write('reboot\n');
    await machine().until('the machine is reset', () => machine().facts.resets > 0);
    await machine().shell();
    assert.equal(machine().facts.resets, 1);
    assert.equal(machine().facts.state, 'running');
    await noComplaints(machine());
    assert.ok((await uptime(machine())) < 100_000);
  });

  it('shuts down at the power button', async () => {
    await machine().call('powerButton');
    assert.equal((await machine().ended()).how, 'powered-off');
  });
});

describe('a machine that is reset', () => {
  // The kernel's ELF file, by PVH: nothing to decompress. After a panic it resets by a triple fault.
  const machine = machineOf(() => ({ cpus: 2, boot: { kernel: kernel('6.1'), initrd: tryLinux.initrd, append: 'console=ttyS0 quiet panic=1 reboot=t' } }));

  async function again(resets: number): Promise<void> {
    await machine().until('the machine is reset', () => machine().facts.resets >= resets);
    await machine().shell();
    assert.equal(machine().facts.resets, resets);
    await machine().sh('sleep 1'); // its timers run
    await noComplaints(machine());
  }

  it('boots again when it is reset from outside', async () => {
    await machine().call('reset');
    await again(1);
  });

  it('boots again when it is reset while it is paused', async () => {
    await machine().call('pause');
    await machine().call('reset');
    await again(2);
  });

  it('boots again after a panic and a triple fault', async () => {
    await machine().write('echo c > /proc/sysrq-trigger\n');
    await again(3);
    assert.match(machine().log.join('\n'), /triple fault/);
  });
});

describe('ways to reset and to end', () => {
  it('ends with the outcome "reset" when a reset is to stop it', async (t) => {
    const machine = await LabMachine.start(lab, { onReset: 'stop', boot: { kernel: kernel('6.1-cloud'), initrd: tryLinux.initrd, append: 'quiet rdinit=/bin/busybox -- reboot -f' } });
    t.after(() => machine.close());
    assert.equal((await machine.ended()).how, 'reset');
  });

  it(`reboots ${REBOOTS} times in a row`, async (t) => {
    const machine = await LabMachine.start(lab, { cpus: 2, boot: { kernel: kernel('6.1-cloud'), initrd: tryLinux.initrd, append: 'quiet rdinit=/bin/busybox -- reboot -f' } });
    t.after(() => machine.close());
    await machine.until(`${REBOOTS} resets`, () => machine.facts.resets >= REBOOTS);
    assert.equal(machine.outcome, undefined);
    assert.equal(machine.log.filter((line) => line.includes('reset:')).length, machine.facts.resets);
  });
});

describe('other kernels and amounts of memory', () => {
  // By its ELF file: the processor that the lab's emulator gives to its guests cannot decompress a 6.12 bzImage, neither here nor under QEMU.
  it('boots Linux 6.12 with 6 GiB', async (t) => {
    const machine = await LabMachine.start(lab, { cpus: 2, memory: 6 * GIB, boot: { kernel: kernel('6.12'), initrd: tryLinux.initrd, append: 'console=ttyS0 quiet' } });
    t.after(() => machine.close());
    await machine.shell();
    assert.match(await machine.sh('uname -r'), /^6\.12\./);
    assert.equal(await firmwareRam(machine), 6 * GIB - LEGACY_HOLE);
    const total = Number(/^MemTotal: +(\d+) kB/m.exec(await machine.sh('cat /proc/meminfo'))![1]) * 1024;
    assert.ok(total > 6 * GIB * 0.95 && total < 6 * GIB, `${total} bytes`);
    assert.match(await machine.sh('cat /proc/iomem'), /^100000000-[0-9a-f]+ : System RAM/m);
    await machine.sh('mount -t tmpfs -o size=90% tmpfs /root && dd if=/dev/zero of=/root/much bs=1M count=300 && md5sum /root/much');
    await noComplaints(machine);
  });

  it('boots the cloud kernel by PVH with 128 MiB, its least, and without a display', async (t) => {
    const machine = await LabMachine.start(lab, { memory: 128 * MIB, display: { kind: 'none' }, boot: { kernel: kernel('6.1-cloud'), initrd: tryLinux.initrd, append: 'console=ttyS0 quiet' } });
    t.after(() => machine.close());
    await machine.shell();
    assert.equal(await firmwareRam(machine), 128 * MIB - LEGACY_HOLE);
    assert.equal((await machine.sh('cat /proc/fb')).trim(), '');
    await noComplaints(machine);
  });
});
