// The dirty log of video memory that other BARs cover in part, with KVM's half played here.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import koffi from 'koffi';
import { DisplayAdapter, VRAM_BYTES, VRAM_PAGES } from '../display/adapter.ts';
import { allocateWindow } from '../memory/window.ts';
import { FakeEvents, FakeParking, FakeSlots, ProbeDevice, TEST_WINDOWS, configWrite, testMachine } from '../pci/testing.ts';
import { PoisonedError } from '../sync/mutex.ts';
import { FakePlatform } from '../testing/fake-platform.ts';
import { VramLog } from './vram-log.ts';

const BASE = TEST_WINDOWS.memory.start;
const PAGE = 4096;
const DISPLAY = 2 << 3;
const PROBE = 3 << 3;

it('asks for each piece of the memory under the topology lock, and puts its pages where they belong', () => {
  const platform = new FakePlatform();
  const slots = new FakeSlots();
  const { io, memory, topology, host } = testMachine(platform, { slots, parking: new FakeParking(), events: new FakeEvents() });
  const display = new DisplayAdapter(platform, allocateWindow(VRAM_BYTES));
  const probe = new ProbeDevice(platform, 'probe', 1, [{ index: 0, kind: 'memory32', size: PAGE }]);
  host.add(display, 2);
  host.add(probe, 3);
  host.reset();
  configWrite(io, DISPLAY, 0x10, 4, BASE);
  configWrite(io, DISPLAY, 4, 2, 2);
  const bitmap = new Uint8Array(VRAM_PAGES / 8);
  const dirtyPages = (): number[] => Array.from({ length: VRAM_PAGES }, (_, page) => page).filter((page) => (bitmap[page >> 3]! & (1 << (page & 7))) !== 0);

  /** Pages of video memory that the guest wrote. */
  let written: number[] = [];
  const asked: string[] = [];
  const keys: string[] = [];
  const log = new VramLog({
    topology, bus: memory, display,
    slots: { slot: (key) => (keys.includes(key) ? keys.indexOf(key) : keys.push(key) - 1) },
    vm: {
      dirtyLog(slot, address) {
        Atomics.store(platform.arena.poison, 0, 1); // who waits for a lock then throws
        assert.throws(() => topology.lock.lock(), PoisonedError, 'the topology lock is held');
        Atomics.store(platform.arena.poison, 0, 0);
        const key = keys[slot]!;
        asked.push(key);
        const { gpa, size } = slots.slots.get(key)!;
        const first = (gpa - BASE) / PAGE;
        // As KVM does: whole words of 8 bytes for the pages of the slot as it is now.
        const view = new Uint8Array(koffi.view(address, Math.ceil(size / PAGE / 64) * 8));
        view.fill(0);
        for (const page of written) if (page >= first && page < first + size / PAGE) view[(page - first) >> 3]! |= 1 << ((page - first) & 7);
        return true;
      },
    },
  });

  written = [0, 9, VRAM_PAGES - 1];
  assert.ok(log.fetchAndClear(bitmap));
  assert.deepEqual([dirtyPages(), asked.splice(0)], [written, ['display0 bar0.0']]);

  // Another device's page in the midst of it: two slots, the second beginning at any page.
  for (const page of [5, 8, 13, 4095]) {
    configWrite(io, PROBE, 0x10, 4, BASE + page * PAGE);
    configWrite(io, PROBE, 4, 2, 2);
    written = [0, page - 1, page + 1, page + 8, VRAM_PAGES - 2, VRAM_PAGES - 1];
    assert.ok(log.fetchAndClear(bitmap));
    assert.deepEqual([dirtyPages(), asked.splice(0).length], [[...new Set(written)], 2]);
  }

  configWrite(io, DISPLAY, 4, 2, 0);
  assert.equal(log.fetchAndClear(bitmap), false);
  assert.deepEqual([dirtyPages(), asked], [[], []]);
});
