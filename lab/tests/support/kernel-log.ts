// What a Linux kernel's log complains of, less what is right in the lab and no fault of the machine.
import assert from 'node:assert/strict';
import { gunzipSync } from 'node:zlib';
import type { LabMachine } from './lab-machine.ts';

/** The priority up to which a line is a complaint whatever it says (syslog(2): 4 is a warning). */
const WARNING = 4;

/** Parts of the kernel that look at what a machine is made of, and words that they use when they do not like it. */
const PART = /\b(ACPI|PCI|pci|pnp|IO-?APIC|APIC|x2apic|LAPIC|PIT|HPET|PM-Timer|timers?|clocksource|tsc|TSC|sched_clock|rtc_cmos|i8042|atkbd|psmouse|serial|ttyS0|efifb|fb0|drm|bochs\S*|e820|MTRR|PAT|smp|smpboot|NMI|irq|watchdog|rcu)\b/;
const COMPLAINT = /\b(errors?|fail\w*|invalid|unable|can't|cannot|couldn't|conflict\w*|unexpected|unstable|bug|lockup|stalls?|warning|broken|missing|bogus|disabl\w+|ignor\w+|unsupported|inconsistent|timed out|overlap\w*|spurious|blank)\b/i;

/** Lines that are there for a reason which is not the machine's. */
const EXPLAINED: readonly RegExp[] = [
  // Said of every PC whose firmware is newer than 2008, and by itself no complaint.
  /^ACPI: Early table checksum verification disabled$/,
  /^PCI: Using host bridge windows from ACPI; if necessary, use "pci=nocrs" and report a bug$/,
  // The CPU that QEMU emulates for the lab has no invariant time stamp counter, so Linux does without it where there are several CPUs.
  /^tsc: Marking TSC unstable due to TSCs unsynchronized$/,
  // There are no performance counters below a nested hypervisor, so nothing to make watchdog NMIs with.
  /^NMI watchdog: Perf NMI watchdog permanently disabled$/,
  // Under emulation, on a computer that does other things too, a CPU stands still now and then.
  /^hrtimer: interrupt took \d+ ns$/,
  // The emulated CPU has flaws that want a newer microcode than it says it has.
  /^Speculative Return Stack Overflow: /,
  /IOMMUv2 functionality not available on this system - This is not a bug\.$/,
  // The modules of the test are not those that the kernel's build signed, or for another kernel.
  /loading out-of-tree module|module verification failed|section size must match the kernel's built struct module size|disagrees about version of symbol module_layout/,
  // Said by 6.12 on every AMD processor whose firmware does not hand frequency over to the guest.
  /^amd_pstate: the _CPC object is not present/,
  // As for hrtimer above.
  /^clocksource: Long readout interval, skipping watchdog check/,
];

/** @param log what `dmesg -r` says: lines with priority and time. */
export function complaints(log: string): string[] {
  const found: string[] = [];
  for (const line of log.split('\n')) {
    const match = /^<(\d+)>\[ *[\d.]+\] ?(.*?)\r?$/.exec(line);
    if (match === null) continue;
    const priority = Number(match[1]) & 7;
    const text = match[2]!;
    if (priority > WARNING && !(PART.test(text) && COMPLAINT.test(text))) continue;
    if (!EXPLAINED.some((pattern) => pattern.test(text))) found.push(`<${priority}> ${text}`);
  }
  return found;
}

/** What the kernel has logged since this was asked last, with priorities. Compressed: the emulated serial port is slow. */
export async function kernelLog(machine: LabMachine): Promise<string> {
  return gunzipSync(Buffer.from(await machine.sh('dmesg -rc | gzip | base64'), 'base64')).toString('latin1');
}

/**
 * Nothing is complained of since the log was asked last.
 * @param but what Linux rightly says in this test
 */
export async function noComplaints(machine: LabMachine, but = /^$/): Promise<void> {
  assert.deepEqual(complaints(await kernelLog(machine)).filter((line) => !but.test(line)), []);
}
