// All devices of a machine under random accesses, from three threads' instances in turns: no guest can make a handler throw, and what it
// reads is a number of the width that it read.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { programForDirectBoot } from '../arch/x86/chipset/chipset.ts';
import { ECAM_BASE, ECAM_SIZE, PM_BASE } from '../arch/x86/layout.ts';
import type { Width } from '../bus/handler.ts';
import { VRAM_BYTES } from '../display/adapter.ts';
import { GsiRouting } from '../irq/routing.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import { MEMORY_BYTES } from '../devices/pci-test/pci-test.ts';
import { PciTestStore } from '../devices/pci-test/parts.ts';
import { pciTestConfig } from '../devices/pci-test/testing.ts';
import { allocateWindow } from '../memory/window.ts';
import type { MemorySlot } from '../pci/device.ts';
import { FakePlatform } from '../testing/fake-platform.ts';
import { buildDevices, type DeviceOptions, type MachineDevices } from './devices.ts';
import { fwCfgItems } from './direct-boot.ts';
import { equip } from './plugged.ts';

const ROUNDS = 400_000;

/** xorshift32: the same run every time. */
function random(seed: number): (below: number) => number {
  let x = seed;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return Math.floor(((x >>> 0) / 2 ** 32) * below);
  };
}

test('no access of a guest makes a device throw', () => {
  const platform = new FakePlatform();
  const ram = GuestMemory.allocate(32 * 2 ** 20);
  const vram = allocateWindow(VRAM_BYTES);
  const slots = new Map<string, MemorySlot>();
  const plugged = [equip(pciTestConfig({ functions: 2, dirtyLog: true }), 3, new PciTestStore())];
  const mappable = [{ start: vram.address, bytes: VRAM_BYTES }, ...plugged[0]!.parts.map(({ address }) => ({ start: address, bytes: MEMORY_BYTES }))];
  const options: DeviceOptions = { plugged, cpus: 2, physicalBits: 40, display: { width: 1280, height: 800, vram: vram.buffer }, testDevices: true, fwCfg: fwCfgItems(ram.size, 2).describe() };
  const parts = {
    slots: {
      set: (key: string, slot: MemorySlot): void => {
        assert.ok(!slots.has(key) && slot.gpa % 4096 === 0 && slot.size % 4096 === 0 && slot.size > 0, key);
        for (const other of slots.values()) assert.ok(slot.gpa + slot.size <= other.gpa || other.gpa + other.size <= slot.gpa, 'no slot over another');
        assert.ok(slot.gpa >= ram.size, 'no slot over RAM');
        assert.ok(mappable.some(({ start, bytes }) => slot.hva >= start && slot.hva + slot.size <= start + bytes), 'nothing but memory of devices');
        slots.set(key, slot);
      },
      remove: (key: string): void => void slots.delete(key),
    },
    parking: { parkOthers: (): void => {}, release: (): void => {} },
    events: { set: (): void => {}, remove: (): void => {} },
    msi: { send: (): void => {} },
    interrupts: { irqfd: (): void => {}, routes: new GsiRouting(platform.arena, () => {}) },
  };
  const consumed: number[] = [];
  const all: MachineDevices[] = [buildDevices(platform, ram, options, parts, { onSerialOutput: (bytes) => void consumed.push(bytes.length) })];
  all.push(buildDevices(platform.peer(), ram, options, parts), buildDevices(platform.peer(), ram, options, parts));
  const control = all[0]!;
  const reset = (): void => {
    for (const device of control.all) device.reset();
    control.host.reset();
    programForDirectBoot(control.host, control.chipset);
    control.display!.setMode({ width: 1280, height: 800 });
  };
  reset();

  const next = random(0x1234_5678);
  const pick = <T>(from: readonly T[]): T => from[next(from.length)]!;
  const ports = [0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0x92, 0xb2, 0xb3, 0xe9, 0xf4, 0x3f8, 0x3fc, 0x510, 0x511, 0x514, 0x518, 0xcc0, 0xcc8, 0x1000, PM_BASE, PM_BASE + 8, 0xcf8, 0xcf9, 0xcfc];
  const bar = (index: number): number => control.display!.config.barAddress(index);
  const tests = control.host.functions().filter(({ slot }) => slot === 3).map(({ device }) => device.config);
  const testBar = (): number => pick(tests).barAddress(pick([0, 2, 4, 5, 6]));
  const values = [0, 1, 2, 4, 7, 0x80, 0xff, 0xffff, 0xffff_ffff, 0x8000_0000, 0x8000_1004, 0x8000_1010, 0x8000_1018, 0x8000_f840, 0x8000_0060, 0x8000_1804, 0x8000_1810, 0x8000_1818, 0x8000_1840, 0x8000_1858, 0x8000_1914, 0xd4, 0xed, 0xf0, 0x60, 0xd000_0000, 0xe000_0000, 0xfd00_0000];
  for (let round = 0; round < ROUNDS; round++) {
    const devices = pick(all);
    const width = pick([1, 2, 4] as const) as Width;
    const value = (next(2) === 0 ? pick(values) : next(2 ** 32)) % 2 ** (8 * width);
    const io = next(3) !== 0;
    const bus = io ? devices.io : devices.memory;
    let address: number;
    if (io) address = Math.min(0xffff, next(20) === 0 ? next(0x10000) : pick(ports) + next(8));
    else if (next(4) === 0) address = pick([ECAM_BASE, 0xe000_0000, 0x9000_0000]) + pick([0, 0x1000 * 16, 0x1000 * 248, ECAM_SIZE - 4]) + next(256);
    else address = Math.max(0, next(3) === 0 ? testBar() + pick([0, 0x30, 0x100, 0x7f8, 0x800, 0xff8, 0xf7f8, 0x1_fff8]) + next(24) - 4 : pick([bar(0), bar(0) + VRAM_BYTES - 4, bar(2), bar(2) + 0x400, bar(2) + 0x500, bar(2) + 0x600, bar(2) + 0xffc]) + next(24) - 4);
    if (next(2) === 0) bus.write(address, width, value);
    else {
      const got = bus.read(address, width);
      assert.ok(Number.isInteger(got) && got >= 0 && got < 2 ** (8 * width), `${io ? 'port' : 'memory'} ${address.toString(16)} gave ${got}`);
    }
    if (next(16) === 0) platform.advance(next(2) === 0 ? next(1e6) : next(1e10));
    if (next(16) === 0) for (const device of control.all) device.service?.();
    if (next(16) === 0) control.i8042.key(next(256), next(2) === 0);
    if (next(16) === 0) control.i8042.move(next(2000) - 1000, next(2000) - 1000, next(9) - 4, next(32));
    if (next(16) === 0) control.serial.receive(new Uint8Array(next(300)));
    if (next(64) === 0) control.display!.scanout();
    if (next(4096) === 0) control.pm.powerButton();
    if (next(8192) === 0) reset();
  }
  assert.ok(consumed.length > 0 && platform.requests.length > 0);
});
