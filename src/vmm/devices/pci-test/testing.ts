// PCI test devices on a machine without KVM, three threads' instances in turns: for tests of the device and of PCI with it.
import { deviceConfig, type PciTestConfig } from '../../../shared/machine-config.ts';
import * as v from 'valibot';
import { chooseSlots } from '../../../shared/slots.ts';
import { buildPlugged, equip } from '../../machine/plugged.ts';
import { FakeEvents, FakeMsi, FakeParking, FakeSlots, configRead, configWrite, testMachine, type TestMachine } from '../../pci/testing.ts';
import { FakeWiring } from '../../vfio/testing.ts';
import { FakePlatform } from '../../testing/fake-platform.ts';
import { PciTestStore } from './parts.ts';
import type { PciTest } from './pci-test.ts';

export interface PciTestRig {
  readonly platform: FakePlatform;
  readonly machines: readonly TestMachine[];
  /** Per machine, every function in the order of the devices. */
  readonly tests: readonly PciTest[][];
  /** slot * 8 + function of each. */
  readonly places: readonly number[];
  readonly slots: FakeSlots;
  readonly events: FakeEvents;
  readonly parking: FakeParking;
  readonly msi: FakeMsi;
  readonly store: PciTestStore;
  /** The machines in turns. */
  next(): TestMachine;
  /** Configuration space of function `which`. */
  config(which: number, register: number, width?: 1 | 2 | 4): number;
  set(which: number, register: number, value: number, width?: 1 | 2 | 4): void;
  read(address: number, width?: 1 | 2 | 4): number;
  write(address: number, value: number, width?: 1 | 2 | 4): void;
}

export function pciTestConfig(more: Partial<v.InferInput<typeof deviceConfig>> = {}): PciTestConfig {
  return v.parse(deviceConfig, { kind: 'pci-test', ...more }) as PciTestConfig;
}

/** After power-on: nothing decodes. */
export function pciTestRig(devices: readonly PciTestConfig[] = [pciTestConfig()], threads = 3): PciTestRig {
  const platform = new FakePlatform();
  const shared = { slots: new FakeSlots(), parking: new FakeParking(), events: new FakeEvents() };
  const msi = new FakeMsi();
  const store = new PciTestStore();
  const slots = chooseSlots(devices);
  const descriptions = devices.map((device, index) => equip(device, slots[index]!, store));
  const machines: TestMachine[] = [];
  const tests: PciTest[][] = [];
  for (let thread = 0; thread < threads; thread++) {
    const own = thread === 0 ? platform : platform.peer();
    const machine = testMachine(own, shared);
    tests.push(descriptions.flatMap((description) => {
      const functions = buildPlugged(own, { msi, interrupts: new FakeWiring() }, description) as PciTest[];
      functions.forEach((each, number) => machine.host.add(each, description.slot, number));
      return functions;
    }));
    machines.push(machine);
  }
  for (const device of tests[0]!) device.reset();
  machines[0]!.host.reset();
  const places = descriptions.flatMap(({ slot, parts }) => parts.map((_, number) => slot * 8 + number));
  let turn = 0;
  const next = (): TestMachine => machines[turn++ % threads]!;
  return {
    platform, machines, tests, places, msi, store, ...shared, next,
    config: (which, register, width = 4) => configRead(next().io, places[which]!, register, width),
    set: (which, register, value, width = 4) => configWrite(next().io, places[which]!, register, width, value),
    read: (address, width = 4) => next().memory.read(address, width),
    write: (address, value, width = 4) => next().memory.write(address, width, value),
  };
}
