// What the hammer beats on, alike in every thread: the machine of the reference model (model-rig.ts) with its BARs of every kind, and four
// targets with BARs that stay, interrupt pins and MSI-X. All that the devices note lies in the arena. Every mutex yields the processor now
// and then, at random, where it is taken and given back: so threads meet at each other's worst moments far more often than by themselves.
import koffi from 'koffi';
import { IrqLines } from '../irq/irq-lines.ts';
import { GsiRouting } from '../irq/routing.ts';
import { PIRQ_GSI_FIRST } from '../arch/x86/layout.ts';
import { FakePlatform } from '../testing/fake-platform.ts';
import { Arena } from '../sync/arena.ts';
import { Mutex, PoisonedError } from '../sync/mutex.ts';
import { PciFunction } from './function.ts';
import { BARS, FUNCTIONS, LOW, UNMAPPABLE, addEcam, modelMachine } from './model-rig.ts';
import { probeValue } from './model.ts';
import { MsixCapability } from './msix.ts';
import type { ArenaDescription } from '../sync/arena.ts';
import type { Handler } from '../bus/handler.ts';
import type { IrqLine, Platform } from '../devices/device.ts';
import type { IoEvent, IoEvents, MemorySlot, MemorySlots, MsiSink, Parking, PciDevice } from './device.ts';
import type { ModelFunction } from './model.ts';
import type { TestMachine } from './testing.ts';

const GSIS = 24;
export const VECTORS = 4;

// Words of the slice `hammer`.
/** Things that must never happen. */
export const VIOLATIONS = 0;
/** Threads that came to the end of the phase; phases that are over. */
const ARRIVED = 1;
const PHASE = 2;
/** Configuration writes in the log. */
const LOGGED = 3;
/** How often a lock was taken by another thread than before. */
export const HANDOVERS = 4;
/** Where the next thread to come by shall throw; 0 for nowhere. */
export const CRASH = 5;
/** Accesses and moves of all threads. */
export const ROUNDS = 6;
/** How often movers came to the end of a phase. */
export const MOVED = 7;
/** The control thread asks all to stop. */
export const STOP = 28;
/** Per target: counter writes sent, and counted; vectors accepted, and those that fell together with one that was pending. */
export const SENT = 8;
export const COUNTED = 12;
export const ACCEPTED = 16;
export const COALESCED = 20;
/** Per target: the interrupt level as it was asked for last. */
export const WANTED = 56;
/** Messages that arrived, all targets. */
export const DELIVERED = 24;
/** Levels of the interrupt controllers' inputs. */
export const LEVELS = 32;
const WORDS = 64;

export type CrashPlace = 'handler' | 'configChanged' | 'remapped' | 'irq';
export const CRASH_PLACES: readonly CrashPlace[] = ['handler', 'configChanged', 'remapped', 'irq'];

/** Functions with BARs that nobody moves, one for each interrupt pin; far from the addresses that are moved about. */
export const TARGETS: readonly ModelFunction[] = [0, 1, 2, 3].map((index) => ({
  name: `00:0${index + 5}.0 target`,
  place: (index + 5) * 8,
  bars: [{ index: 0, kind: 'memory32', size: 0x1000 }],
  // A capability list with MSI-X.
  dwords: { 0x00: 0x0005_1b36, 0x04: 0x10_0000, 0x08: 0xff00_0000, 0x2c: 0x1100_1af4, 0x34: 0x40, 0x3c: (index + 1) * 256, 0x40: 0x11 + ((VECTORS - 1) << 16), 0x44: 0x800, 0x48: 0xc00 },
  writable: { 0x0c: 0xff, 0x3c: 0xff, 0x40: 0xc000_0000 },
}));
export const targetAddress = (index: number): number => LOW + 0x100_0000 + index * 0x10000;

// Registers of a target's BAR.
export const REGISTER_LEVEL = 0x0;
export const REGISTER_SEND = 0x4;
export const REGISTER_COUNT = 0x8;
/** Reads as the probe's value. */
export const REGISTER_PROBE = 0x10;
export const MSIX_TABLE = 0x800;
const MSIX_PBA = 0xc00;

/** A register of the chipset: the ISA interrupt of PIRQ A to D, a byte each. */
export const ROUTE_REGISTER = 0x64;
const CHIPSET: ModelFunction = { ...FUNCTIONS[0]!, writable: { ...FUNCTIONS[0]!.writable, [ROUTE_REGISTER]: 0xffff_ffff } };
/** All of the machine's, for the model. */
export const HAMMER_FUNCTIONS: readonly ModelFunction[] = [CHIPSET, ...FUNCTIONS.slice(1), ...TARGETS];
/** Activations of this function fail on odd pages. */
const REFUSING = 0x10;
export const refuses = (place: number, address: number): boolean => place === REFUSING && Math.floor(address / 0x1000) % 2 === 1;

const schedYield = koffi.load('libc.so.6').func('int sched_yield()') as () => number;

/** Lets other threads run at random at the borders of its critical sections. */
class YieldingMutex extends Mutex {
  readonly #arena: HammerArena;
  readonly #holder: Int32Array;

  constructor(word: Int32Array, holder: Int32Array, arena: HammerArena, name: string) {
    super(word, arena.poison, name);
    this.#arena = arena;
    this.#holder = holder;
  }

  override lock(): void {
    this.#arena.perhapsYield();
    super.lock();
    if (this.#holder[0] !== this.#arena.thread) {
      this.#holder[0] = this.#arena.thread;
      this.#arena.handovers++;
    }
    this.#arena.perhapsYield();
  }

  override unlock(): void {
    this.#arena.perhapsYield();
    super.unlock();
    this.#arena.perhapsYield();
  }
}

export class HammerArena extends Arena {
  /** 1 and on. */
  readonly thread: number;
  handovers = 0;
  #random: () => number;
  #one: number;
  #nap = new Int32Array(new SharedArrayBuffer(4));

  /** @param one in so many visits to a mutex's border yields; 0 for none. */
  constructor(thread: number, one: number, from?: ArenaDescription) {
    super(32 * 2 ** 20, from);
    this.thread = thread;
    this.#one = one;
    this.#random = randomNumbers(thread * 7919);
  }

  perhapsYield(): void {
    if (this.#one === 0) return;
    const at = this.#random();
    if (at % this.#one !== 0) return;
    schedYield();
    // Longer than a time slice, at times.
    if (at % (this.#one * 64) === 0) Atomics.wait(this.#nap, 0, 0, 0.1);
  }

  override mutex(name: string): Mutex {
    return new YieldingMutex(this.int32(name, 1), this.int32(`${name} holder`, 1), this, name);
  }
}

/** Pseudo-random integers of 24 bits, the same for the same seed. */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 8;
  };
}

class HammerPlatform extends FakePlatform {
  readonly #lines: IrqLines;

  constructor(arena: HammerArena, words: Int32Array, control: boolean) {
    super(arena);
    const chip = {
      irqLine: (gsi: number, level: boolean): void => {
        crashHere(words, 'irq');
        arena.perhapsYield();
        if (words[LEVELS + gsi] === Number(level)) Atomics.add(words, VIOLATIONS, 1);
        words[LEVELS + gsi] = Number(level);
      },
    };
    this.#lines = new IrqLines(arena, chip, control);
  }

  override irqLine(gsi: number, owner: string): IrqLine {
    return this.#lines.line(gsi, owner);
  }
}

/** Throws if it was asked for, in one thread. */
function crashHere(words: Int32Array, place: CrashPlace): void {
  const number = CRASH_PLACES.indexOf(place) + 1;
  if (words[CRASH] === number && Atomics.compareExchange(words, CRASH, number, 0) === number) throw new Error(`thrown in ${place}`);
}

/** GSIs for messages begin here, and those of pins by irqfd four before. */
const FIRST_MESSAGE_GSI = 28;
const MOST_MESSAGES = 256;
export const messageAddress = (data: number): number => 0xfee0_0000 + (data % 16) * 4096;

/** The routes of all threads: what they want, and what KVM was given last. */
export class SharedRoutes {
  readonly routing: GsiRouting;
  /** Per message: data + 1, or 0. Then per PIRQ: how many use its pin. */
  readonly #wanted: Int32Array;
  /** As it was given to KVM: per message data + 1 or 0, then per PIRQ 1 and its ISA interrupt times 2, or 0. */
  readonly #given: Int32Array;
  readonly #words: Int32Array;

  constructor(arena: HammerArena, words: Int32Array) {
    this.#wanted = arena.int32('hammer.routes.wanted', MOST_MESSAGES + 4);
    this.#given = arena.int32('hammer.routes.given', MOST_MESSAGES + 4);
    this.#words = words;
    this.routing = new GsiRouting(arena, (table) => {
      this.#given.fill(0);
      arena.perhapsYield();
      for (const route of table) {
        const pin = MOST_MESSAGES + route.gsi - FIRST_MESSAGE_GSI + 4;
        if (route.kind === 'msi') this.#given[route.gsi - FIRST_MESSAGE_GSI] = route.address === messageAddress(route.data) ? route.data + 1 : -1;
        // KVM's numbers of the chips: two PICs of 8 pins, then the IOAPIC.
        else if (route.gsi >= FIRST_MESSAGE_GSI - 4) this.#given[pin] = this.#given[pin]! + (route.chip === 2 ? 1 : (route.chip * 8 + route.pin) * 2);
      }
    });
  }

  allocate(data: number): number {
    const gsi = this.routing.allocate(messageAddress(data), data);
    if (Atomics.compareExchange(this.#wanted, gsi - FIRST_MESSAGE_GSI, 0, data + 1) !== 0) Atomics.add(this.#words, VIOLATIONS, 1);
    return gsi;
  }

  update(gsi: number, data: number): void {
    this.routing.update(gsi, messageAddress(data), data);
    this.#wanted[gsi - FIRST_MESSAGE_GSI] = data + 1;
  }

  free(gsi: number): void {
    this.#wanted[gsi - FIRST_MESSAGE_GSI] = 0;
    this.routing.free(gsi);
  }

  pin(pirq: number, use: boolean): void {
    Atomics.add(this.#wanted, MOST_MESSAGES + pirq, use ? 1 : -1);
    if (use) this.routing.takePin(pirq);
    else this.routing.releasePin(pirq);
  }

  /** Whether KVM has what the threads want, while none of them does anything. */
  right(isa: (pirq: number) => number): boolean {
    const messages = this.#wanted.subarray(0, MOST_MESSAGES).every((data, index) => data === this.#given[index]);
    return messages && [0, 1, 2, 3].every((pirq) => this.#given[MOST_MESSAGES + pirq] === (this.#wanted[MOST_MESSAGES + pirq] === 0 ? 0 : 1 + isa(pirq) * 2));
  }
}

const barRow = (place: number, bar: number): number => place * 8 + bar;

/** The memslots of all threads, as strict as KVM about overlaps. */
class SharedSlots implements MemorySlots {
  readonly #rows: Float64Array;
  readonly #words: Int32Array;
  readonly keys = new Map(BARS.filter(({ bar }) => bar.backing !== undefined).flatMap(({ place, bar }) => [0, 1, 2, 3, 4, 5, 6, 7].map((part) => `${nameOf(place)} bar${bar.index}.${part}`)).map((key, row) => [key, row * 3]));

  constructor(arena: Arena, words: Int32Array) {
    this.#rows = arena.float64('hammer.slots', this.keys.size * 3);
    this.#words = words;
  }

  set(key: string, { gpa, size, hva }: MemorySlot): void {
    if (gpa <= UNMAPPABLE && gpa + size > UNMAPPABLE) throw new Error('KVM maps no such page');
    const row = this.keys.get(key)!;
    for (let other = 0; other < this.#rows.length; other += 3) {
      if (gpa < this.#rows[other]! + this.#rows[other + 1]! && this.#rows[other]! < gpa + size) Atomics.add(this.#words, VIOLATIONS, 1);
    }
    this.#rows.set([gpa, size, hva], row);
  }

  remove(key: string): void {
    this.#rows.fill(0, this.keys.get(key), this.keys.get(key)! + 3);
  }

  all(): Map<string, { gpa: number; size: number; hva: number }> {
    const slots = [...this.keys].map(([key, row]) => [key, { gpa: this.#rows[row]!, size: this.#rows[row + 1]!, hva: this.#rows[row + 2]! }] as const);
    return new Map(slots.filter(([, { size }]) => size > 0));
  }
}

/** The ioeventfds of all threads: address + 1, or 0. */
class SharedEvents implements IoEvents {
  readonly #rows: Float64Array;
  readonly #words: Int32Array;
  readonly #keys = new Map(BARS.flatMap(({ place, bar }) => (bar.ioeventfds ?? []).map((_, event) => `${nameOf(place)} bar${bar.index} event${event}`)).map((key, row) => [key, row]));

  constructor(arena: Arena, words: Int32Array) {
    this.#rows = arena.float64('hammer.events', this.#keys.size);
    this.#words = words;
  }

  set(key: string, { address }: IoEvent): void {
    const row = this.#keys.get(key)!;
    if (this.#rows[row] !== 0) Atomics.add(this.#words, VIOLATIONS, 1);
    this.#rows[row] = address + 1;
  }

  remove(key: string, { address }: IoEvent): void {
    const row = this.#keys.get(key)!;
    if (this.#rows[row] !== address + 1) Atomics.add(this.#words, VIOLATIONS, 1);
    this.#rows[row] = 0;
  }

  all(): Map<string, number> {
    return new Map([...this.#keys].filter(([, row]) => this.#rows[row] !== 0).map(([key, row]) => [key, this.#rows[row]! - 1]));
  }
}

function nameOf(place: number): string {
  return HAMMER_FUNCTIONS.find((each) => each.place === place)!.name;
}

export class HammerDevice implements PciDevice {
  readonly label: string;
  readonly mutex: Mutex;
  readonly ranges = [];
  readonly config: PciFunction;
  readonly msix: MsixCapability | undefined;
  readonly #arena: HammerArena;
  readonly #place: number;
  readonly #words: Int32Array;
  readonly #log: Uint32Array;
  /** Per BAR: its address + 1 while it is active. */
  readonly #active: Float64Array;
  /** For the chipset: routes PIRQ n. */
  route: ((pirq: number, irq: number) => void) | undefined;

  constructor(arena: HammerArena, platform: Platform, words: Int32Array, log: Uint32Array, of: ModelFunction, msi: MsiSink) {
    this.#arena = arena;
    this.label = of.name;
    this.mutex = platform.arena.mutex(`${of.name}.lock`);
    this.#place = of.place;
    this.#words = words;
    this.#log = log;
    this.#active = platform.arena.float64('hammer.active', 2048);
    const target = TARGETS.findIndex(({ place }) => place === of.place);
    this.msix = target < 0 ? undefined : new MsixCapability(platform.arena, of.name, msi, { vectors: VECTORS, table: { bar: 0, offset: MSIX_TABLE }, pba: { bar: 0, offset: MSIX_PBA } });
    const pin = (of.dwords[0x3c] ?? 0) / 256;
    this.config = new PciFunction(platform.arena, {
      label: of.name,
      vendorId: of.dwords[0]! & 0xffff,
      deviceId: of.dwords[0]! >>> 16,
      classCode: of.dwords[8]! >>> 8,
      interruptPin: pin === 0 ? undefined : (pin as 1 | 2 | 3 | 4),
      bars: of.bars.map((bar) => ({ ...bar, handler: target < 0 ? this.#probe(bar.index) : this.#target(target) })),
      capabilities: this.msix === undefined ? [] : [this.msix],
      extra: (image) => {
        for (const [register, bits] of Object.entries(of.writable ?? {})) if (Number(register) > 0x40) image.allow(Number(register), 4, bits);
      },
    });
  }

  /** A handler is called only while its BAR is active, and as long as it runs the BAR stays where it is. */
  #check(bar: number): void {
    const before = this.#active[barRow(this.#place, bar)];
    this.#arena.perhapsYield();
    if (before === 0 || this.#active[barRow(this.#place, bar)] !== before) Atomics.add(this.#words, VIOLATIONS, 1);
  }

  #probe(bar: number): Handler {
    return {
      read: (offset) => {
        this.#check(bar);
        return probeValue(this.#place, bar, offset);
      },
      write: () => this.#check(bar),
    };
  }

  #target(index: number): Handler {
    return {
      read: (offset, width) => {
        this.#check(0);
        if (offset >= MSIX_PBA) return this.msix!.pba.read(offset - MSIX_PBA, width);
        return offset >= MSIX_TABLE ? this.msix!.table.read(offset - MSIX_TABLE, width) : probeValue(this.#place, 0, offset);
      },
      write: (offset, width, value) => {
        this.#check(0);
        crashHere(this.#words, 'handler');
        const words = this.#words;
        if (offset >= MSIX_TABLE) this.msix!.table.write(offset - MSIX_TABLE, width, value);
        else if (offset === REGISTER_LEVEL) {
          // Interrupt Status is the device's own: no configuration write changes it.
          if (((this.config.dword(4) >>> 19) & 1) !== words[WANTED + index]) Atomics.add(words, VIOLATIONS, 1);
          words[WANTED + index] = value % 2;
          this.config.setInterrupt(value % 2 === 1);
        }
        else if (offset === REGISTER_SEND) this.#send(index, value % VECTORS);
        else if (offset === REGISTER_COUNT) {
          // Not atomic: the mutex is what makes it right.
          const count = words[COUNTED + index]!;
          this.#arena.perhapsYield();
          words[COUNTED + index] = count + 1;
        }
      },
    };
  }

  #send(index: number, vector: number): void {
    const words = this.#words;
    const wasPending = this.#pending(vector);
    if (!this.msix!.send(vector)) return;
    words[ACCEPTED + index] = words[ACCEPTED + index]! + 1;
    if (wasPending && this.#pending(vector)) words[COALESCED + index] = words[COALESCED + index]! + 1;
  }

  #pending(vector: number): boolean {
    return ((this.msix!.pba.read(0, 1) >> vector) & 1) === 1;
  }

  activate(bar: number, address: number): void {
    if (refuses(this.#place, address)) throw new Error('refused');
    if (this.#active[barRow(this.#place, bar)] !== 0) Atomics.add(this.#words, VIOLATIONS, 1);
    this.#active[barRow(this.#place, bar)] = address + 1;
  }

  deactivate(bar: number, address: number): void {
    if (this.#active[barRow(this.#place, bar)] !== address + 1) Atomics.add(this.#words, VIOLATIONS, 1);
    this.#active[barRow(this.#place, bar)] = 0;
  }

  remapped(): void {
    crashHere(this.#words, 'remapped');
  }

  /** Configuration writes take effect one after the other: this is their order. */
  configChanged(register: number, _before: number, after: number): void {
    if (this.msix !== undefined) crashHere(this.#words, 'configChanged');
    const at = (this.#words[LOGGED]! * 3) % this.#log.length;
    this.#log.set([this.#place, register, after], at);
    this.#words[LOGGED] = this.#words[LOGGED]! + 1;
    if (register === ROUTE_REGISTER && this.route !== undefined) for (let pirq = 0; pirq < 4; pirq++) this.route(pirq, (after >>> (8 * pirq)) & 0xff);
  }

  reset(): void {
    this.msix?.reset();
  }
}

export interface HammerWorld {
  readonly arena: HammerArena;
  readonly machine: TestMachine;
  readonly words: Int32Array;
  readonly devices: readonly HammerDevice[];
  readonly routes: SharedRoutes;
  /** What a guest holds around a configuration access by ports. */
  readonly portsLock: Mutex;
  /** The BARs that are active, as the devices were told. */
  active(): Map<string, number>;
  slots(): Map<string, { gpa: number; size: number; hva: number }>;
  events(): Map<string, number>;
  /** Every configuration write that took effect, in order. */
  writes(): { place: number; register: number; value: number }[];
}

/** @param writes how many configuration writes the log holds at most; the same in every thread. */
export function buildWorld(arena: HammerArena, writes: number, control: boolean): HammerWorld {
  const words = arena.int32('hammer', WORDS);
  const log = arena.uint32('hammer.log', writes * 3);
  const platform = new HammerPlatform(arena, words, control);
  const slots = new SharedSlots(arena, words);
  const events = new SharedEvents(arena, words);
  const parking: Parking = { parkOthers: () => {}, release: () => {} };
  const machine = modelMachine(platform, { slots, parking, events });
  const msi: MsiSink = { send: () => void Atomics.add(words, DELIVERED, 1) };
  const devices = HAMMER_FUNCTIONS.map((of) => new HammerDevice(arena, platform, words, log, of, msi));
  devices.forEach((device, index) => {
    const { place } = HAMMER_FUNCTIONS[index]!;
    machine.host.add(device, place >> 3, place & 7);
  });
  const routes = new SharedRoutes(arena, words);
  machine.host.intx.onRoute = (pirq, irq) => routes.routing.routePin(pirq, irq);
  devices[0]!.route = (pirq, irq) => machine.host.intx.route(pirq, irq);
  addEcam(machine, devices[0]!);
  const activity = arena.float64('hammer.active', 2048);
  return {
    arena, machine, words, devices, routes,
    portsLock: arena.mutex('hammer.ports'),
    active: () => new Map(HAMMER_FUNCTIONS.flatMap(({ name, place, bars }) => bars.map((bar) => [`${name} bar${bar.index}`, activity[barRow(place, bar.index)]! - 1] as const)).filter(([, address]) => address >= 0)),
    slots: () => slots.all(),
    events: () => events.all(),
    writes: () => Array.from({ length: words[LOGGED]! }, (_, at) => ({ place: log[at * 3]!, register: log[at * 3 + 1]!, value: log[at * 3 + 2]! })),
  };
}

/**
 * The end of a phase: waits for all threads. The last one looks whether the inputs of the interrupt controllers and KVM's routes are what they must
 * be: while nobody does anything, for a wrong level is soon put right by chance.
 */
export function meet(world: HammerWorld, threads: number): void {
  const { words, arena } = world;
  const phase = Atomics.load(words, PHASE);
  if (Atomics.add(words, ARRIVED, 1) + 1 === threads) {
    const expected = expectedLevels(world);
    if (expected.some((level, gsi) => words[LEVELS + gsi] !== level)) Atomics.add(words, VIOLATIONS, 1);
    const isa = world.devices[0]!.config.dword(ROUTE_REGISTER);
    if (!world.routes.right((pirq) => (isa >>> (8 * pirq)) & 0xff)) Atomics.add(words, VIOLATIONS, 1);
    words[ARRIVED] = 0;
    Atomics.store(words, PHASE, phase + 1);
    Atomics.notify(words, PHASE);
    return;
  }
  while (Atomics.load(words, PHASE) === phase) {
    Atomics.wait(words, PHASE, phase, 100);
    if (Atomics.load(arena.poison, 0) !== 0) throw new PoisonedError('the end of the phase');
  }
}

/** What the inputs must be: PIRQs by who was told to assert them and may, ISA interrupts by where the PIRQs are routed. */
export function expectedLevels(world: HammerWorld): number[] {
  const levels = Array.from({ length: GSIS }, () => 0);
  const routes = world.devices[0]!.config.dword(ROUTE_REGISTER);
  HAMMER_FUNCTIONS.forEach(({ place, dwords }, index) => {
    const pin = (dwords[0x3c] ?? 0) / 256;
    const register = world.devices[index]!.config.dword(4);
    const target = TARGETS.findIndex((each) => each.place === place);
    if (target < 0 || world.words[WANTED + target] === 0 || (register & 0x400) !== 0) return;
    const pirq = ((place >> 3) + pin - 1) % 4;
    levels[PIRQ_GSI_FIRST + pirq] = 1;
    const isa = (routes >>> (8 * pirq)) & 0xff;
    if ([3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15].includes(isa)) levels[isa] = 1;
  });
  return levels;
}
