// What PCI needs of KVM, without KVM: for tests of devices and of PCI itself. The fakes are as strict as KVM (slots never overlap, whole pages).
import { Bus } from '../bus/bus.ts';
import { PciFunction } from './function.ts';
import { PciHost } from './host.ts';
import { Topology } from './topology.ts';
import type { Handler } from '../bus/handler.ts';
import type { Platform } from '../devices/device.ts';
import type { Mutex } from '../sync/mutex.ts';
import type { BarDescription, IoEvent, IoEvents, MemorySlot, MemorySlots, MsiSink, Parking, PciDevice, PciWindows } from './device.ts';
import type { FunctionDescription } from './function.ts';

export class FakeSlots implements MemorySlots {
  readonly slots = new Map<string, MemorySlot>();
  /** Refuses the next `set` while above 0. */
  refusals = 0;

  set(key: string, slot: MemorySlot): void {
    if (this.refusals > 0) {
      this.refusals--;
      throw new Error('no slot today');
    }
    if (this.slots.has(key)) throw new Error(`slot ${key} exists`);
    if (slot.gpa % 4096 !== 0 || slot.size % 4096 !== 0 || slot.hva % 4096 !== 0 || slot.size <= 0) throw new Error(`slot ${key} is not of whole pages`);
    for (const [name, other] of this.slots) if (slot.gpa < other.gpa + other.size && other.gpa < slot.gpa + slot.size) throw new Error(`slots ${key} and ${name} overlap`);
    this.slots.set(key, slot);
  }

  remove(key: string): void {
    this.slots.delete(key);
  }
}

export class FakeEvents implements IoEvents {
  readonly events = new Map<string, IoEvent>();

  set(key: string, event: IoEvent): void {
    if (this.events.has(key)) throw new Error(`event ${key} exists`);
    this.events.set(key, event);
  }

  remove(key: string): void {
    this.events.delete(key);
  }
}

export class FakeParking implements Parking {
  parked = false;
  count = 0;

  parkOthers(): void {
    if (this.parked) throw new Error('parked twice');
    this.parked = true;
    this.count++;
  }

  release(): void {
    if (!this.parked) throw new Error('released without parking');
    this.parked = false;
  }
}

export class FakeMsi implements MsiSink {
  readonly sent: { address: number; data: number }[] = [];

  send(address: number, data: number): void {
    this.sent.push({ address, data });
  }
}

export const TEST_WINDOWS: PciWindows = {
  io: { start: 0x1000, end: 0xf000 },
  memory: { start: 0xc000_0000, end: 0xfec0_0000 },
  high: { start: 2 ** 36, end: 2 ** 37 },
};

/** What the instances of a probe in several "threads" of a test share. */
export interface ProbeRecord {
  readonly calls: string[];
  /** Which BARs are active as the callbacks told, and where. */
  readonly active: Map<number, number>;
  /** So many of the next activations fail. */
  failures: number;
}

export function probeRecord(): ProbeRecord {
  return { calls: [], active: new Map(), failures: 0 };
}

/** A device for tests: BARs whose handlers say what was accessed, and whose activation fails on demand. */
export class ProbeDevice implements PciDevice {
  readonly label: string;
  readonly mutex: Mutex;
  readonly ranges = [];
  readonly config: PciFunction;
  readonly seen: ProbeRecord;
  readonly tag: number;

  /** @param tag what a read gives: tag << 24 | bar << 20 | offset of 20 bits. */
  constructor(platform: Platform, label: string, tag: number, bars: readonly Omit<BarDescription, 'handler'>[], more: Partial<FunctionDescription> = {}, seen = probeRecord()) {
    this.label = label;
    this.seen = seen;
    this.tag = tag;
    this.mutex = platform.arena.mutex(`${label}.lock`);
    this.config = new PciFunction(platform.arena, {
      label,
      vendorId: 0x1b36,
      deviceId: 0x0005,
      classCode: 0xff0000,
      bars: bars.map((bar) => ({ ...bar, handler: this.#handler(bar.index) })),
      ...more,
    });
  }

  #handler(bar: number): Handler {
    return {
      read: (offset, width) => {
        const value = ((this.tag << 24) | (bar << 20) | (offset & 0xfffff)) >>> 0;
        return width === 4 ? value : width === 2 ? value & 0xffff : value & 0xff;
      },
      write: (offset, width, value) => void this.seen.calls.push(`write ${bar} ${offset} ${width} ${value}`),
    };
  }

  reset(): void {
    this.seen.calls.length = 0;
  }

  activate(bar: number, address: number): void {
    if (this.seen.failures > 0) {
      this.seen.failures--;
      throw new Error('not today');
    }
    if (this.seen.active.has(bar)) throw new Error(`BAR ${bar} of ${this.label} is active already`);
    this.seen.calls.push(`activate ${bar} ${address.toString(16)}`);
    this.seen.active.set(bar, address);
  }

  deactivate(bar: number, address: number): void {
    if (this.seen.active.get(bar) !== address) throw new Error(`BAR ${bar} of ${this.label} is not active at ${address}`);
    this.seen.calls.push(`deactivate ${bar} ${address.toString(16)}`);
    this.seen.active.delete(bar);
  }
}

export interface TestMachine {
  readonly io: Bus;
  readonly memory: Bus;
  readonly topology: Topology;
  readonly host: PciHost;
}

/** Buses and a host bridge over a platform's arena; `slots`, `parking` and `events` are what all instances share. */
export function testMachine(platform: Platform, parts: { slots: FakeSlots; parking: FakeParking; events: FakeEvents }, reset?: { handler: Handler; mutex: Mutex }): TestMachine {
  const io = new Bus(platform.arena, 'io');
  const memory = new Bus(platform.arena, 'memory');
  const topology = new Topology(platform, { io, memory, windows: TEST_WINDOWS, ...parts });
  return { io, memory, topology, host: new PciHost(topology, { resetRegister: reset }) };
}

/** A configuration access by the ports, as a guest does it. */
export function configRead(io: Bus, place: number, register: number, width: 1 | 2 | 4): number {
  io.write(0xcf8, 4, (0x8000_0000 | (place << 8) | (register & 0xfc)) >>> 0);
  return io.read(0xcfc + (register & 3), width);
}

export function configWrite(io: Bus, place: number, register: number, width: 1 | 2 | 4, value: number): void {
  io.write(0xcf8, 4, (0x8000_0000 | (place << 8) | (register & 0xfc)) >>> 0);
  io.write(0xcfc + (register & 3), width, value);
}
