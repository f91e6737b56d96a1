// A thread of promises.test.ts: takes a device away from the bus while another thread is inside one of its handlers.
import { workerData } from 'node:worker_threads';
import { pciTestConfig } from '../devices/pci-test/testing.ts';
import { buildPlugged } from '../machine/plugged.ts';
import { Arena } from '../sync/arena.ts';
import { FakePlatform } from '../testing/fake-platform.ts';
import { FakeWiring } from '../vfio/testing.ts';
import { FakeEvents, FakeMsi, FakeParking, FakeSlots, testMachine } from './testing.ts';
import type { PciTestParts } from '../devices/pci-test/pci-test.ts';
import type { ArenaDescription } from '../sync/arena.ts';

export interface RemoverData {
  readonly arena: ArenaDescription;
  readonly slot: number;
  readonly parts: readonly PciTestParts[];
}

const { arena, slot, parts } = workerData as RemoverData;
const platform = new FakePlatform(Arena.attach(arena));
const machine = testMachine(platform, { slots: new FakeSlots(), parking: new FakeParking(), events: new FakeEvents() });
buildPlugged(platform, { msi: new FakeMsi(), interrupts: new FakeWiring() }, { slot, config: pciTestConfig(), parts }).forEach((device, number) => machine.host.add(device, slot, number));
machine.host.withdraw(slot);
machine.host.unplug(slot);
