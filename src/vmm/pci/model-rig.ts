// The real thing and its reference model side by side: the same operations on both, and a comparison of all that can be seen of them. The real
// machine stands in three "threads" over one arena that take turns, so that state outside the arena shows.
import assert from 'node:assert/strict';
import { FakePlatform } from '../testing/fake-platform.ts';
import { PciFunction } from './function.ts';
import { PciModel, probeValue } from './model.ts';
import { Bus } from '../bus/bus.ts';
import { PciHost } from './host.ts';
import { FakeEvents, FakeParking, FakeSlots } from './testing.ts';
import { Topology } from './topology.ts';
import type { Handler, Width } from '../bus/handler.ts';
import type { Platform } from '../devices/device.ts';
import type { Mutex } from '../sync/mutex.ts';
import type { IoEvents, MemorySlot, MemorySlots, Parking, PciDevice, PciWindows, Space } from './device.ts';
import type { ModelBar, ModelFunction } from './model.ts';
import type { TestMachine } from './testing.ts';

const HVA = 0x7f00_0000_0000;
export const LOW = 0xc000_0000;
/** Upper half of an address in the window above 4 GiB. */
export const HIGH_HALF = 16;
/** They end where BARs may lie across. */
export const WINDOWS: PciWindows = { io: { start: 0x1000, end: 0xeff4 }, memory: { start: LOW, end: 0xfebf_f800 }, high: { start: 2 ** 36, end: 2 ** 37 + 2 ** 32 } };
export const ECAM = 0xb000_0000;
const ECAM_BYTES = 2 ** 20;
export const ECAM_REGISTER = 0x60;
const ECAM_ENABLE = 1;
/** KVM maps no slot with this page in it. */
export const UNMAPPABLE = LOW + 0xd000;
const FIXED: readonly { space: Space; start: number; end: number; value: number }[] = [
  { space: 'memory', start: LOW + 0x2800, end: LOW + 0x2c00, value: 0xf1f2_f3f4 },
  { space: 'io', start: 0x1010, end: 0x1018, value: 0xe1e2_e3e4 },
];

const ID = 0x0005_1b36;
const CLASS = 0xff00_0000;
const SUBSYSTEM = 0x1100_1af4;

function fn(place: number, bars: readonly ModelBar[], pin = 0): ModelFunction {
  const dwords = { 0x00: ID, 0x08: CLASS, 0x2c: SUBSYSTEM, 0x3c: pin * 256 };
  return { name: `00:${(place >> 3).toString(16).padStart(2, '0')}.${place & 7} probe`, place, bars, dwords, writable: { 0x0c: 0xff, 0x3c: pin === 0 ? 0 : 0xff } };
}

const backing = (which: number, bytes: number, dirtyLog = false): ModelBar['backing'] => ({ hva: HVA * (which + 1), bytes, dirtyLog });

/** The chipset's function with ECAM's place, and functions with BARs of every kind. */
export const FUNCTIONS: readonly ModelFunction[] = [
  { ...fn(0, []), name: '00:00.0 chipset', writable: { 0x0c: 0xff, [ECAM_REGISTER]: 0xfff0_0001 } },
  fn(0x08, [{ index: 0, kind: 'memory32', size: 0x8000, backing: backing(0, 0x8000, true) }, { index: 1, kind: 'io', size: 16 }, { index: 2, kind: 'memory64', size: 0x4000 }], 1),
  fn(0x09, [{ index: 1, kind: 'memory32', size: 0x1000, backing: backing(1, 0x1000) }, { index: 5, kind: 'io', size: 64 }]),
  fn(0x0f, [{ index: 0, kind: 'memory32', size: 16 }], 2),
  fn(0x10, [{ index: 0, kind: 'memory64', size: 0x4000, backing: { ...backing(2, 0x4000)!, pieces: [{ offset: 0, bytes: 0x1000 }, { offset: 0x2000, bytes: 0x1000 }] } }, { index: 2, kind: 'memory32', size: 0x400 }, { index: 6, kind: 'rom', size: 0x1000, backing: backing(3, 0x1000) }]),
  fn(0x18, [{ index: 0, kind: 'io', size: 4 }, { index: 2, kind: 'memory64', size: 2 ** 33, prefetchable: true }, { index: 5, kind: 'memory32', size: 0x800, backing: backing(4, 0x800) }, { index: 4, kind: 'memory32', size: 0x4000, backing: { hva: HVA * 9 + 0x800, bytes: 0x4000, dirtyLog: false } }, { index: 6, kind: 'rom', size: 2048 }]),
  fn(0xf8, [
    { index: 0, kind: 'memory64', size: 0x10000, prefetchable: true, backing: { hva: HVA * 6, bytes: 0x10000, dirtyLog: false, pieces: [{ offset: 0, bytes: 0x3000 }, { offset: 0x5000, bytes: 0x8000 }] }, ioeventfds: [{ offset: 0x3ffe, length: 4, fd: 7 }, { offset: 0xfff8, length: 0, fd: 8 }] },
    { index: 3, kind: 'io', size: 256, ioeventfds: [{ offset: 16, length: 2, fd: 9, datamatch: 1 }] },
  ]),
];

/** Devices that come and go, by slot. */
export const PLUGGED: readonly (readonly ModelFunction[])[] = [
  [
    fn(0x30, [{ index: 0, kind: 'memory32', size: 0x4000, backing: backing(6, 0x4000) }, { index: 3, kind: 'io', size: 32 }], 1),
    fn(0x31, [{ index: 0, kind: 'memory64', size: 0x1000 }, { index: 6, kind: 'rom', size: 0x800 }], 3),
  ],
  [fn(0x38, [{ index: 1, kind: 'memory32', size: 0x10000, backing: backing(7, 0x2000) }], 2)],
];

/** Every BAR of every function, there or not. */
export const BARS = [...FUNCTIONS, ...PLUGGED.flat()].flatMap(({ place, bars }) => bars.map((bar) => ({ place, bar })));

/** The real machine, in one thread, without its functions. */
export function modelMachine(platform: Platform, parts: { slots: MemorySlots; parking: Parking; events: IoEvents }): TestMachine {
  const io = new Bus(platform.arena, 'io');
  const memory = new Bus(platform.arena, 'memory');
  const topology = new Topology(platform, { io, memory, windows: WINDOWS, ...parts });
  const host = new PciHost(topology);
  for (const [index, { space, start, end, value }] of FIXED.entries()) {
    topology.addRange(`fixed ${index}`, space, start, end - start, { read: () => value, write: () => undefined }, platform.arena.mutex(`fixed ${index}`));
  }
  return { io, memory, topology, host };
}

/** ECAM for 1 MiB, where a register of the chipset's function says. */
export function addEcam({ topology, host }: TestMachine, chipset: PciDevice): void {
  topology.addMovable(chipset, {
    name: 'ecam',
    space: 'memory',
    handler: host.ecam,
    mutex: topology.lock,
    where: (dword) => {
      const value = dword(ECAM_REGISTER);
      const start = value - (value % ECAM_BYTES);
      return value % 2 === ECAM_ENABLE ? { start, end: start + ECAM_BYTES } : undefined;
    },
  });
}

/** The model of that machine, with these functions. */
export function newModel(functions: readonly ModelFunction[]): PciModel {
  const model = new PciModel(WINDOWS, FIXED, { place: 0, register: ECAM_REGISTER }, UNMAPPABLE);
  for (const each of functions) model.add(each);
  return model;
}

/** What the instances of the real machine share and the devices note. */
interface Notes {
  calls: string[];
  /** What must never happen. */
  defects: string[];
  active: Map<string, number>;
  refuses: (place: number, address: number) => boolean;
}

class RigDevice implements PciDevice {
  readonly label: string;
  readonly mutex: Mutex;
  readonly ranges = [];
  readonly config: PciFunction;
  readonly place: number;
  #notes: Notes;

  constructor(platform: Platform, of: ModelFunction, notes: Notes) {
    this.label = of.name;
    this.place = of.place;
    this.#notes = notes;
    this.mutex = platform.arena.mutex(`${of.name}.lock`);
    this.config = new PciFunction(platform.arena, {
      label: of.name,
      vendorId: ID & 0xffff,
      deviceId: ID >>> 16,
      classCode: CLASS >>> 8,
      bars: of.bars.map((bar) => ({ ...bar, handler: this.#handler(bar.index) })),
      interruptPin: (of.dwords[0x3c] === 0 ? undefined : of.dwords[0x3c]! / 256) as 1 | 2 | undefined,
      extra: (image) => {
        if (of.writable?.[ECAM_REGISTER] !== undefined) image.allow(ECAM_REGISTER, 4, of.writable[ECAM_REGISTER]);
      },
    });
  }

  #handler(bar: number): Handler {
    return {
      read: (offset) => probeValue(this.place, bar, offset),
      write: (offset, width, value) => void this.#notes.calls.push(`write ${this.label} bar${bar} ${offset} ${width} ${value}`),
    };
  }

  reset(): void {}

  activate(bar: number, address: number): void {
    const key = `${this.label} bar${bar}`;
    if (this.#notes.active.has(key)) this.#notes.defects.push(`${key} is activated twice`);
    if (this.#notes.refuses(this.place, address)) throw new Error('not today');
    this.#notes.calls.push(`activate ${key} ${address}`);
    this.#notes.active.set(key, address);
  }

  deactivate(bar: number, address: number): void {
    const key = `${this.label} bar${bar}`;
    if (this.#notes.active.get(key) !== address) this.#notes.defects.push(`${key} is deactivated at ${address}, where it is not active`);
    this.#notes.calls.push(`deactivate ${key} ${address}`);
    this.#notes.active.delete(key);
  }

  remapped(bar: number): void {
    this.#notes.calls.push(`remapped ${this.label} bar${bar}`);
  }

  configChanged(register: number, before: number, after: number): void {
    this.#notes.calls.push(`changed ${this.label} ${register} ${before} ${after}`);
  }
}

/** As strict as KVM, and maps no slot with the page UNMAPPABLE in it. Notes where a slot goes in the place of another while vCPUs run. */
class RigSlots extends FakeSlots {
  readonly #parking: FakeParking;
  #before: MemorySlot[] = [];
  unparked = 0;

  constructor(parking: FakeParking) {
    super();
    this.#parking = parking;
  }

  /** A new commit. */
  begin(): void {
    this.#before = [...this.slots.values()];
  }

  override set(key: string, slot: MemorySlot): void {
    if (slot.gpa <= UNMAPPABLE && slot.gpa + slot.size > UNMAPPABLE) throw new Error('KVM maps no such page');
    const same = (old: MemorySlot): boolean => old.gpa === slot.gpa && old.size === slot.size && old.hva === slot.hva; // comes back in a roll-back
    if (!this.#parking.parked && this.#before.some((old) => old.gpa < slot.gpa + slot.size && slot.gpa < old.gpa + old.size && !same(old))) this.unparked++;
    super.set(key, slot);
  }
}

export type Operation =
  /** A configuration write, and a read of the same bytes. */
  | { kind: 'config'; by: 'ports' | 'ecam'; place: number; register: number; width: Width; value: number }
  /** All ones into a BAR's register or its upper half, a read, and the old value again. */
  | { kind: 'size'; which: number; half: boolean }
  /** A write to, and a read of, an address: `delta` bytes from a border of what answers. */
  | { kind: 'access'; which: number; delta: number; width: Width; value: number }
  /** The same at a port about CF8. */
  | { kind: 'port'; port: number; width: Width; value: number }
  /** From now on the device's activations fail: never, always, or on odd pages. */
  | { kind: 'refuse'; place: number; when: 'never' | 'always' | 'odd' }
  /** The next step of a device's coming and going. */
  | { kind: 'plug'; which: number }
  | { kind: 'reset' };

export class ModelRig {
  readonly model: PciModel;
  readonly machines: TestMachine[] = [];
  readonly #platforms: Platform[] = [];
  readonly #devices: RigDevice[][] = [];
  readonly #slots: RigSlots;
  readonly #parking = new FakeParking();
  readonly #events = new FakeEvents();
  readonly #notes: Notes;
  readonly #refusals = new Map<number, 'never' | 'always' | 'odd'>();
  readonly #plugSteps = new Map<number, number>();
  #versions = [-1, -1];
  #turn = 0;

  constructor(threads = 3) {
    const refuses = (place: number, address: number): boolean => {
      const when = this.#refusals.get(place) ?? 'never';
      return when === 'always' || (when === 'odd' && Math.floor(address / (address < 0x10000 ? 16 : 0x1000)) % 2 === 1);
    };
    this.#notes = { calls: [], defects: [], active: new Map(), refuses };
    this.#slots = new RigSlots(this.#parking);
    this.model = newModel(FUNCTIONS);
    this.model.refuses = refuses;
    const platform = new FakePlatform();
    for (let thread = 0; thread < threads; thread++) this.#build(thread === 0 ? platform : platform.peer());
    this.do({ kind: 'reset' });
  }

  #build(platform: FakePlatform): void {
    const machine = modelMachine(platform, { slots: this.#slots, parking: this.#parking, events: this.#events });
    const devices = FUNCTIONS.map((each) => new RigDevice(platform, each, this.#notes));
    devices.forEach((device) => machine.host.add(device, device.place >> 3, device.place & 7));
    addEcam(machine, devices[0]!);
    this.machines.push(machine);
    this.#platforms.push(platform);
    this.#devices.push(devices);
  }

  #next(): number {
    return this.#turn++ % this.machines.length;
  }

  /** Does the operation on both, and compares. */
  do(operation: Operation): void {
    const { model } = this;
    model.calls = [];
    this.#notes.calls = [];
    switch (operation.kind) {
      case 'refuse':
        this.#refusals.set(operation.place, operation.when);
        break;
      case 'plug':
        this.#plug(operation.which);
        break;
      case 'reset':
        this.machines[0]!.host.reset();
        model.reset();
        break;
      case 'config':
        this.#config(operation);
        break;
      case 'size': {
        const { place, bar } = BARS[operation.which]!;
        if (!model.has(place)) break;
        const register = (bar.kind === 'rom' ? 0x30 : 0x10 + 4 * bar.index) + (operation.half && bar.kind === 'memory64' ? 4 : 0);
        const before = model.dword(place, register);
        for (const value of [0xffff_ffff, before]) this.#config({ by: 'ports', place, register, width: 4, value });
        break;
      }
      case 'access': {
        const list = model.answering;
        const { space, start, end } = list[operation.which % list.length]!;
        const address = (operation.which % 2 === 0 ? start : end) + operation.delta;
        if (address >= 0 && (space === 'memory' || address + operation.width <= 0x10000)) this.#access(space, address, operation.width, operation.value);
        break;
      }
      case 'port':
        this.#access('io', operation.port, operation.width, operation.value);
        break;
    }
    if (model.calls !== undefined) assert.deepEqual(this.#notes.calls, model.calls);
    assert.deepEqual(this.#notes.defects, []);
    this.#compare();
  }

  /** The next of: built in every thread, published, withdrawn, dropped in every thread. In the first and the third guests see nothing of it. */
  #plug(which: number): void {
    const functions = PLUGGED[which]!;
    const slot = functions[0]!.place >> 3;
    const { model, machines } = this;
    const { host } = machines[this.#next()]!;
    this.#slots.begin();
    const step = this.#plugSteps.get(which) ?? 0;
    this.#plugSteps.set(which, (step + 1) % 4);
    if (step === 0) {
      machines.forEach((machine, thread) => {
        const devices = functions.map((each) => new RigDevice(this.#platforms[thread]!, each, this.#notes));
        machine.host.plug(devices, slot);
        this.#devices[thread]!.push(...devices);
      });
    } else if (step === 1) {
      host.publish(slot);
      for (const each of functions) model.add(each);
    } else if (step === 2) {
      host.withdraw(slot);
      model.remove(functions.map(({ place }) => place));
    } else {
      machines.forEach((machine, thread) => {
        machine.host.unplug(slot);
        this.#devices[thread] = this.#devices[thread]!.filter(({ place }) => place >> 3 !== slot);
      });
    }
  }

  #config({ by, place, register, width, value }: Omit<Extract<Operation, { kind: 'config' }>, 'kind'>): void {
    if (by === 'ecam') this.#access('memory', ECAM + place * 4096 + register, width, value);
    else {
      this.#write('io', 0xcf8, 4, 0x8000_0000 + place * 256 + (register & 0xfc));
      this.#access('io', 0xcfc + (register & 3), width, value);
    }
  }

  #access(space: Space, address: number, width: Width, value: number): void {
    this.#write(space, address, width, value);
    this.#read(space, address, width);
  }

  #write(space: Space, address: number, width: Width, value: number): void {
    this.#slots.begin();
    this.machines[this.#next()]![space].write(address, width, value);
    this.model.write(space, address, width, value % 256 ** width);
  }

  #read(space: Space, address: number, width: Width): void {
    compareRead(this.machines[this.#next()]!, this.model, space, address, width);
  }

  /** All that can be seen: answers at every border, whole tables, activity, memslots, ioeventfds, registers, what the topology tells. */
  #compare(): void {
    const { model } = this;
    const turn = this.#turn;
    compareBorders(model, ([4, 2, 1, 4] as const)[turn % 4]!, (...where) => this.#read(...where));
    for (const [index, space] of (['io', 'memory'] as const).entries()) {
      const bus = this.machines[turn % this.machines.length]![space];
      if (bus.version !== this.#versions[index]) compareTable(model, bus);
      this.#versions[index] = bus.version;
    }
    assertSame(this.#notes.active, model.active(), 'active');
    assert.deepEqual(new Map([...this.#slots.slots].sort()), new Map([...model.slots()].sort()));
    assertSame(new Map([...this.#events.events].map(([key, { address }]) => [key, address])), model.events(), 'ioeventfds');
    assert.equal(this.#slots.unparked, 0, 'a slot went in the place of another while vCPUs ran');
    assert.equal(this.#parking.parked, false);
    for (const device of this.#devices[turn % this.#devices.length]!) if (model.has(device.place)) compareRegisters(model, device.place, device.config);
    const { place, bar } = BARS[turn % BARS.length]!;
    if (!model.has(place)) return;
    const thread = turn % this.machines.length;
    const device = this.#devices[thread]!.find((each) => each.place === place)!;
    const { topology } = this.machines[thread]!;
    const name = `${device.label} bar${bar.index}`;
    topology.run(() => {
      assert.deepEqual(topology.whereIs(device, bar.index), { address: model.address(place, bar.index), answers: model.active().has(name) }, name);
    });
  }
}

// Comparisons of one instance with the model.

/** One read. */
export function compareRead(machine: TestMachine, model: PciModel, space: Space, address: number, width: Width): void {
  const real = machine[space].read(address, width);
  const expected = model.read(space, address, width);
  if (real !== expected) assert.fail(`${width} bytes at ${space} 0x${address.toString(16)} are 0x${real.toString(16)}, in the model 0x${expected.toString(16)}`);
}

/** At, across and behind the borders of all that could answer. */
export function compareBorders(model: PciModel, width: Width, compare: (space: Space, address: number, width: Width) => void): void {
  for (const { space, start, end } of model.answering) {
    compare(space, start, width);
    compare(space, end - width, width);
    if (start > 1) compare(space, start - Math.ceil(width / 2), width);
    compare(space, end - Math.floor(width / 2), width);
  }
}

/** No range is in a bus's table that the model does not know. */
export function compareTable(model: PciModel, bus: Bus): void {
  for (const { start, size, base } of bus.ranges()) {
    const first = model.who(bus.space, start);
    if (first === undefined || first.start !== base || model.who(bus.space, start + size - 1) !== first) assert.fail(`nothing answers ${bus.space} 0x${start.toString(16)} to 0x${(start + size - 1).toString(16)} as the table has it`);
  }
}

/** The header and what follows it. `ignored` bits are the device's own. */
export function compareRegisters(model: PciModel, place: number, config: PciFunction, ignored: Readonly<Record<number, number>> = {}): void {
  for (let register = 0; register < 0x68; register += 4) {
    const mask = ~(ignored[register] ?? 0);
    const real = (config.dword(register) & mask) >>> 0;
    const expected = (model.dword(place, register) & mask) >>> 0;
    if (real !== expected) assert.fail(`register 0x${register.toString(16)} of ${config.label} is 0x${real.toString(16)}, in the model 0x${expected.toString(16)}`);
  }
}

function assertSame(real: ReadonlyMap<string, number>, expected: ReadonlyMap<string, number>, what: string): void {
  let same = real.size === expected.size;
  for (const [key, value] of expected) same &&= real.get(key) === value;
  if (!same) assert.deepEqual(new Map([...real].sort()), new Map([...expected].sort()), what);
}
