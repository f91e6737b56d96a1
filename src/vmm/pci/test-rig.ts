// One test machine in three "threads" over the same arena, with probes in slots 1 and on.
import { FakePlatform } from '../testing/fake-platform.ts';
import { FakeEvents, FakeParking, FakeSlots, ProbeDevice, TEST_WINDOWS, configWrite, probeRecord, testMachine } from './testing.ts';
import type { BarDescription } from './device.ts';
import type { FunctionDescription } from './function.ts';
import type { ProbeRecord, TestMachine } from './testing.ts';

export type TestBar = Omit<BarDescription, 'handler'>;
export const HVA = 0x7f00_0000_0000;
export const LOW = TEST_WINDOWS.memory.start;
export const HIGH = TEST_WINDOWS.high!.start;

export interface Rig {
  machines: TestMachine[];
  next(): TestMachine;
  probes: ProbeDevice[][];
  records: ProbeRecord[];
  slots: FakeSlots;
  parking: FakeParking;
  events: FakeEvents;
  platform: FakePlatform;
}

/** The same machine three times over one arena; `next()` gives them in turn, so that state outside the arena shows. */
export function rig(devices: TestBar[][], threads = 3, more: Partial<FunctionDescription>[] = []): Rig {
  const platform = new FakePlatform();
  const shared = { slots: new FakeSlots(), parking: new FakeParking(), events: new FakeEvents() };
  const records = devices.map(() => probeRecord());
  const machines: TestMachine[] = [];
  const probes: ProbeDevice[][] = [];
  for (let thread = 0; thread < threads; thread++) {
    const own = thread === 0 ? platform : platform.peer();
    const machine = testMachine(own, shared);
    probes.push(devices.map((bars, index) => new ProbeDevice(own, `00:0${index + 1}.0 probe`, index + 1, bars, more[index] ?? {}, records[index])));
    probes[thread]!.forEach((probe, index) => machine.host.add(probe, index + 1));
    machines.push(machine);
  }
  machines[0]!.host.reset();
  let turn = 0;
  return { machines, next: () => machines[turn++ % threads]!, probes, records, platform, ...shared };
}

export const place = (device: number): number => (device + 1) * 8;
export const set = (rg: Rig, device: number, register: number, value: number): void => configWrite(rg.next().io, place(device), register, 4, value);
export const command = (rg: Rig, device: number, value: number): void => configWrite(rg.next().io, place(device), 4, 2, value);
export const answer = (rg: Rig, address: number): number => rg.next().memory.read(address, 4);
