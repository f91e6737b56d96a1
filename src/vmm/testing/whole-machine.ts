// Whole machines for tests: a configuration, and kernels of a few instructions to run in them.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import * as v from 'valibot';
import { machineConfig, type MachineConfig } from '../../shared/machine-config.ts';
import { Machine } from '../machine/machine.ts';

/** Gone when the file's tests are over. */
export const folder = mkdtempSync(join(tmpdir(), 'vitrine-machine-'));
after(() => rmSync(folder, { recursive: true }));

const running = new Set<Machine>();
// A machine whose test failed would keep the process alive.
afterEach(async () => {
  for (const machine of running) await machine.forceOff();
  running.clear();
});

export type ConfigParts = Partial<v.InferInput<typeof machineConfig>>;

/** 64 MiB, one CPU, no display, test devices. */
export function testConfig(kernel: string, more: ConfigParts = {}): MachineConfig {
  return v.parse(machineConfig, { version: 1, id: 'test', name: 'Test', memory: 64 * 2 ** 20, cpus: 1, boot: { kernel }, testDevices: true, display: { kind: 'none' }, ...more });
}

/** A Multiboot kernel of a few instructions, in 32-bit flat mode at 0x100020. The header says where it goes, so it needs no ELF. */
export function tinyGuest(name: string, code: readonly number[]): string {
  const flags = 0x10000;
  const header = [0x1badb002, flags, -(0x1badb002 + flags) >>> 0, 0x100000, 0x100000, 0x101000, 0x101000, 0x100020];
  const image = Buffer.alloc(0x1000, 0xff);
  header.forEach((word, i) => image.writeUInt32LE(word >>> 0, i * 4));
  image.set(code, 0x20);
  const path = join(folder, name);
  writeFileSync(path, image);
  return path;
}

/** Bytes of a little-endian dword, for code. */
export const dword = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];

/** A running machine; it is forced off after the test if it is still there. */
export async function started(kernel: string, more: ConfigParts = {}): Promise<Machine> {
  const machine = new Machine({ config: testConfig(kernel, more), backend: 'kvm' });
  running.add(machine);
  await machine.start();
  return machine;
}

/** Looks every few milliseconds, for `patience` milliseconds. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, patience = 60_000): Promise<void> {
  const end = Date.now() + patience;
  while (!(await condition())) {
    assert.ok(Date.now() < end, `waited in vain: ${what}`);
    await sleep(5);
  }
}

/** What the guest wrote to its serial port so far. */
export const said = (machine: Machine): string => Buffer.from(machine.serial.backlog().bytes).toString('latin1');
