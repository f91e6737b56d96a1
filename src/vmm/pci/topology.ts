// What answers where on both buses, and the one way to change it: the commit of a configuration write. All that a commit needs to know is in
// the arena (configuration bytes, each BAR's last address and sequence number, the places of movable ranges), so any thread may run it.
//
//   before = resolve(claims as they are), after = resolve(claims with the write)     (resolver.ts)
//   only the difference is applied: memslots and ioeventfds removed, BARs deactivated, activated, slots and events added, table published
//
// It runs under the topology lock and the mutexes of all devices it touches, in slot order. So bus accesses see all of it or nothing; guest
// accesses through slots see the old or the new slots, or the bus in between, and where a slot is replaced by one that intersects it (its own
// smaller part, another's at the same place) the vCPUs stand still meanwhile. Each step pushes its inverse on a list; if one fails, the list
// runs backwards and the write has not been: the register keeps its old value. A BAR that cannot be activated again on the way back
// stops to claim (void) until its next write or decode, and the rest is resolved without it.
import { barAddress, barSpace } from './bar.ts';
import { MAX_RANGES } from '../bus/bus.ts';
import { attachments, difference, ranges, same } from './commit-steps.ts';
import { resolve } from './resolver.ts';
import { PoisonedError } from '../sync/mutex.ts';
import type { Handler, Width } from '../bus/handler.ts';
import type { Bus } from '../bus/bus.ts';
import type { Device, Platform } from '../devices/device.ts';
import type { Mutex } from '../sync/mutex.ts';
import type { IoEvents, MemorySlot, MemorySlots, Parking, PciDevice, PciWindows, Space, Span } from './device.ts';
import type { Attachment, Bar, BusClaim, Picture, Steps } from './commit-steps.ts';
import type { Segment } from './resolver.ts';

const SPACES = ['io', 'memory'] as const;
const ROWS = 32 * 8 * 7; // slots, functions, BARs with the ROM
const MAX_MOVABLES = 16;

/** Instead of a sequence number: not decoding; decoding, but its activation failed. */
const OFF = 0;
const VOID = -1;
/** Movable ranges are newer than every BAR and older than what is fixed. */
const MOVABLE_SEQUENCE = Number.MAX_SAFE_INTEGER;

export interface TopologyParts {
  readonly io: Bus;
  readonly memory: Bus;
  readonly slots: MemorySlots;
  readonly parking: Parking;
  readonly windows: PciWindows;
  /** Needed once a BAR has ioeventfds. */
  readonly events?: IoEvents;
}

/** A range whose place is in registers of a chipset function: ECAM by PCIEXBAR, the PM block by PMBASE. */
export interface Movable {
  /** The handler's name on the bus. */
  readonly name: string;
  readonly space: Space;
  readonly handler: Handler;
  readonly mutex: Mutex;
  /** Where it is if the function's dwords are these; undefined for nowhere. Pure. */
  where(dword: (register: number) => number): Span | undefined;
}

/** A part of a BAR that has a memslot. `offset` bytes from the BAR's start. */
export interface SlotPart extends MemorySlot {
  readonly key: string;
  readonly offset: number;
}

interface Placed {
  readonly movable: Movable;
  readonly device: PciDevice;
  readonly row: number;
  readonly handler: number;
}

interface Row {
  readonly address: number;
  readonly sequence: number;
}

/** What changes in one commit. */
interface Change {
  readonly devices: readonly PciDevice[];
  readonly rows: ReadonlyMap<Bar, Row>;
  readonly places: ReadonlyMap<Placed, Span | undefined>;
  /** Configuration bytes: to the new state, and back. Run under the mutexes of `devices`. */
  store(): void;
  unstore(): void;
  /** After success, under the same mutexes. */
  done(): void;
  /** Cannot be refused (a reset, the second half of a roll-back): what fails is logged, a BAR that cannot be activated becomes void. */
  readonly forced?: boolean;
}

export class Topology {
  readonly platform: Platform;
  readonly windows: PciWindows;
  readonly lock: Mutex;
  #parts: TopologyParts;
  #fixed: Record<Space, BusClaim[]> = { io: [], memory: [] };
  #fixedNames: { name: string; space: Space; start: number; end: number }[] = [];
  #bars: Bar[] = [];
  #places: Placed[] = [];
  #orders = new Map<PciDevice, number>();
  /** Per BAR: address and sequence number (or OFF, VOID) as applied last. The last pair is the sequence counter. */
  #rows: Float64Array;
  /** Per movable range: start and size as applied last; size 0 for nowhere. */
  #spots: Float64Array;

  constructor(platform: Platform, parts: TopologyParts) {
    this.platform = platform;
    this.windows = parts.windows;
    this.#parts = parts;
    this.lock = platform.arena.mutex('topology');
    this.#rows = platform.arena.float64('topology.bars', ROWS * 2 + 2);
    this.#spots = platform.arena.float64('topology.movable', MAX_MOVABLES * 2);
  }

  /** Runs `body` under the topology lock: for the control thread. Handlers of the configuration ports and of ECAM hold it already. */
  run<T>(body: () => T): T {
    return this.lock.run(body);
  }

  // Building, alike in every thread.

  /** The fixed ranges of an ordinary device, before all else on its addresses. Throws if another has one of them. */
  addFixed(device: Device): void {
    device.ranges.forEach((range, index) => this.addRange(`${device.label}/${index}`, range.space, range.start, range.size, range.handler, device.mutex));
  }

  addRange(name: string, space: Space, start: number, size: number, handler: Handler, mutex: Mutex): void {
    const end = start + size;
    const other = this.#fixedNames.find((known) => known.space === space && known.start < end && start < known.end);
    if (other !== undefined) throw new RangeError(`${name} and ${other.name} both want ${space} ${start.toString(16)}`);
    this.#fixedNames.push({ name, space, start, end });
    this.#fixed[space].push({ address: start, size, sequence: Infinity, decode: true, fixed: true, handler: this.#bus(space).register(name, handler, mutex) });
  }

  /** A range that the registers of `device` place. */
  addMovable(device: PciDevice, movable: Movable): void {
    const row = this.#places.length;
    if (row === MAX_MOVABLES) throw new RangeError(`${movable.name}: ${MAX_MOVABLES} movable ranges exist already`);
    this.#places.push({ movable, device, row, handler: this.#bus(movable.space).register(movable.name, movable.handler, movable.mutex) });
  }

  /** The BARs of a function. @param order slot * 8 + function. */
  addFunction(device: PciDevice, order: number): void {
    this.#orders.set(device, order);
    for (const description of device.config.bars) {
      const name = `${device.label} bar${description.index}`;
      const handler = this.#bus(barSpace(description.kind)).register(name, description.handler, device.mutex);
      this.#bars.push({ device, order, description, row: order * 7 + description.index, handler, name });
    }
    this.#bars.sort((a, b) => a.row - b.row);
  }

  /** Takes a function's BARs out of this thread; withdrawn before. */
  removeFunction(device: PciDevice): void {
    for (const bar of this.#bars) if (bar.device === device) this.#bus(barSpace(bar.description.kind)).unregister(bar.handler);
    this.#bars = this.#bars.filter((bar) => bar.device !== device);
    this.#orders.delete(device);
  }

  #bus(space: Space): Bus {
    return space === 'io' ? this.#parts.io : this.#parts.memory;
  }

  // Asking. With the topology lock held.

  /** The memslots of a BAR now, for its dirty log. Each has the bytes of the BAR from `offset`. */
  slotsOf(device: PciDevice, bar: number): SlotPart[] {
    const found = this.#bars.find((each) => each.device === device && each.description.index === bar);
    if (found === undefined) return [];
    const segments = this.#picture().winning.get(found) ?? [];
    return attachments(found, segments)
      .filter((each) => each.kind === 'slot')
      .map(({ key, slot }) => ({ ...slot, key, offset: slot.hva - found.description.backing!.hva }));
  }

  /** Where BAR `bar` is and whether any of it answers. */
  whereIs(device: PciDevice, bar: number): { address: number; answers: boolean } {
    const found = this.#bars.find((each) => each.device === device && each.description.index === bar);
    if (found === undefined) throw new RangeError(`${device.label} has no BAR ${bar}`);
    return { address: device.config.barAddress(bar), answers: this.#picture().winning.has(found) };
  }

  // Changing. With the topology lock held.

  /**
   * A configuration write of `width` bytes at `offset`, within one dword, with all that follows.
   * @returns false if it was undone because a BAR could not be activated; that is logged.
   */
  write(device: PciDevice, offset: number, width: Width, value: number): boolean {
    const config = device.config;
    const register = offset & ~3;
    const before = config.dword(register);
    const after = config.merge(offset, width, value);
    if (before === after) {
      if (device.configWritten !== undefined) device.mutex.run(() => device.configWritten!(offset, width, value));
      return true;
    }
    const dword = (at: number): number => (at === register ? after : config.dword(at));
    const change: Change = {
      devices: [device],
      rows: config.movesBars(register) ? this.#changedRows(device, dword) : new Map<Bar, Row>(),
      places: this.#changedPlaces(device, dword),
      store: () => config.change(register, (before ^ after) >>> 0, after),
      unstore: () => config.change(register, (before ^ after) >>> 0, before),
      done: () => {
        config.written(register, before, after);
        device.configChanged?.(register, before, after);
        device.configWritten?.(offset, width, value);
      },
    };
    if (change.rows.size === 0 && change.places.size === 0) {
      device.mutex.lock();
      change.store();
      change.done();
      device.mutex.unlock();
      return true;
    }
    return this.#apply(change);
  }

  /** Every function to its power-on configuration, and both tables published. With no vCPU running. */
  reset(): void {
    const rows = new Map<Bar, Row>();
    const places = new Map<Placed, Span | undefined>();
    for (const device of this.#orders.keys()) {
      const dword = (at: number): number => device.config.initialDword(at);
      for (const [bar, row] of this.#changedRows(device, dword)) rows.set(bar, row);
      for (const [place, span] of this.#changedPlaces(device, dword)) places.set(place, span);
    }
    const devices = [...this.#orders.keys()];
    const done = (): void => devices.forEach((device) => device.config.reset());
    this.#apply({ devices, rows, places, store: nothing, unstore: nothing, done, forced: true });
    this.publish();
  }

  /**
   * The functions answer nowhere any more, as if all of them had been written off at once: BARs deactivated, slots and events gone, tables published,
   * their configuration as after power-on. When it returns, no thread is inside a handler of theirs.
   */
  withdraw(devices: readonly PciDevice[]): void {
    const rows = new Map<Bar, Row>();
    for (const bar of this.#bars) {
      if (devices.includes(bar.device) && this.#rows[2 * bar.row + 1] !== OFF) rows.set(bar, { address: this.#rows[2 * bar.row]!, sequence: OFF });
    }
    this.#apply({ devices, rows, places: new Map(), store: nothing, unstore: nothing, done: () => devices.forEach((device) => device.config.reset()), forced: true });
  }

  /** Publishes both tables as the claims are now; reset() does it too. */
  publish(): void {
    const picture = this.#picture();
    for (const space of SPACES) this.#bus(space).publish(ranges(picture.segments[space]));
  }

  /** Rows of the device's BARs that the dwords change. A BAR that begins to decode, or moves while it does, becomes the newest. */
  #changedRows(device: PciDevice, dword: (register: number) => number): Map<Bar, Row> {
    const changed = new Map<Bar, Row>();
    for (const bar of this.#bars) {
      if (bar.device !== device) continue;
      const lastAddress = this.#rows[2 * bar.row]!;
      const last = this.#rows[2 * bar.row + 1]!;
      if (!device.config.decodes(bar.description, dword)) {
        if (last !== OFF) changed.set(bar, { address: lastAddress, sequence: OFF });
        continue;
      }
      const address = barAddress(bar.description, dword);
      if (last !== OFF && address === lastAddress) continue;
      changed.set(bar, { address, sequence: (this.#rows[2 * ROWS]! += 1) });
    }
    return changed;
  }

  #changedPlaces(device: PciDevice, dword: (register: number) => number): Map<Placed, Span | undefined> {
    const changed = new Map<Placed, Span | undefined>();
    for (const place of this.#places) {
      if (place.device !== device) continue;
      const span = place.movable.where(dword);
      const size = span === undefined ? 0 : span.end - span.start;
      if (size !== this.#spots[2 * place.row + 1] || (span !== undefined && span.start !== this.#spots[2 * place.row])) changed.set(place, span);
    }
    return changed;
  }

  #picture(change?: Change): Picture {
    const claims: Record<Space, BusClaim[]> = { io: [], memory: [] };
    for (const bar of this.#bars) {
      const row = change?.rows.get(bar);
      const address = row?.address ?? this.#rows[2 * bar.row]!;
      const sequence = row?.sequence ?? this.#rows[2 * bar.row + 1]!;
      if (sequence > 0) claims[barSpace(bar.description.kind)].push({ address, size: bar.description.size, sequence, decode: true, handler: bar.handler, bar });
    }
    for (const place of this.#places) {
      const moved = change?.places.has(place) === true;
      const span = moved ? change.places.get(place) : undefined;
      const address = moved ? (span?.start ?? 0) : this.#spots[2 * place.row]!;
      const size = moved ? (span === undefined ? 0 : span.end - span.start) : this.#spots[2 * place.row + 1]!;
      if (size > 0) claims[place.movable.space].push({ address, size, sequence: MOVABLE_SEQUENCE, decode: true, fixed: true, handler: place.handler });
    }
    const { io, memory, high } = this.windows;
    const segments = {
      io: resolve([...claims.io, ...this.#fixed.io], [io]),
      memory: resolve([...claims.memory, ...this.#fixed.memory], high === undefined ? [memory] : [memory, high]),
    };
    const winning = new Map<Bar, Segment<BusClaim>[]>();
    for (const space of SPACES) {
      for (const segment of segments[space]) {
        const bar = segment.claim.bar;
        if (bar === undefined) continue;
        const list = winning.get(bar);
        if (list === undefined) winning.set(bar, [segment]);
        else list.push(segment);
      }
    }
    return { segments, winning };
  }

  /** @param failed BARs that answer in the old state but are not active any more, because activating them again failed. */
  #apply(change: Change, failed: ReadonlySet<Bar> = new Set()): boolean {
    const before = this.#picture();
    const after = this.#picture(change);
    const steps = difference(before, after, failed);
    const locks = this.#locksFor(change.devices, steps.touched);
    for (const mutex of locks) mutex.lock();
    change.store();
    if (steps.swaps) this.#parts.parking.parkOthers();
    const run = this.#runSteps(steps, change.forced === true, Math.max(after.segments.io.length, after.segments.memory.length));
    if (run.done) {
      for (const [bar, row] of change.rows) this.#setRow(bar, row);
      for (const [place, span] of change.places) {
        this.#spots[2 * place.row] = span?.start ?? 0;
        this.#spots[2 * place.row + 1] = span === undefined ? 0 : span.end - span.start;
      }
      for (const space of SPACES) if (!same(before.segments[space], after.segments[space])) this.#bus(space).publish(ranges(after.segments[space]));
    } else change.unstore();
    if (steps.swaps) this.#parts.parking.release();
    for (const bar of steps.remapped) bar.device.remapped?.(bar.description.index);
    if (run.done) change.done();
    for (const mutex of locks.reverse()) mutex.unlock();

    if (run.done) return true;
    if (change.forced === true) {
      // The same again, without those that failed: each round has at least one claim less, so this ends.
      const rows = new Map(change.rows);
      for (const bar of run.culprits) rows.set(bar, { address: rows.get(bar)?.address ?? this.#rows[2 * bar.row]!, sequence: VOID });
      return this.#apply({ ...change, rows }, new Set([...failed, ...run.lost]));
    }
    if (run.lost.size > 0) {
      const rows = new Map([...run.lost].map((bar): [Bar, Row] => [bar, { address: this.#rows[2 * bar.row]!, sequence: VOID }]));
      this.#apply({ devices: [], rows, places: new Map(), store: nothing, unstore: nothing, done: nothing, forced: true }, run.lost);
    }
    return false;
  }

  /** The mutexes of these devices, each once, in slot order. */
  #locksFor(devices: readonly PciDevice[], bars: Iterable<Bar>): Mutex[] {
    const wanted = new Map<string, { order: number; mutex: Mutex }>();
    for (const device of [...devices, ...[...bars].map((bar) => bar.device)]) wanted.set(device.mutex.name, { order: this.#orders.get(device)!, mutex: device.mutex });
    return [...wanted.values()].sort((a, b) => a.order - b.order).map(({ mutex }) => mutex);
  }

  /**
   * Does the steps, or none of them.
   * @returns done; else `culprits` cannot be active (again), and `lost` of them were before.
   */
  #runSteps(steps: Steps, forced: boolean, pieces: number): { done: boolean; culprits: Set<Bar>; lost: Set<Bar> } {
    const culprits = new Set<Bar>();
    const lost = new Set<Bar>();
    const undo: (() => void)[] = [];
    const on = (bar: Bar, address: number): void => bar.device.activate?.(bar.description.index, address);
    const off = (bar: Bar, address: number): void => bar.device.deactivate?.(bar.description.index, address);
    /** @returns whether it worked, or may be passed over. */
    const attempt = (what: string, step: () => void, mayFail: boolean): boolean => {
      try {
        step();
        return true;
      } catch (error) {
        if (error instanceof PoisonedError) throw error;
        this.platform.log('pci', `cannot ${what}: ${error instanceof Error ? error.message : String(error)}`);
        return mayFail;
      }
    };
    const all = (): boolean => {
      if (pieces > MAX_RANGES) return attempt('publish the table', () => { throw new RangeError(`it has ${pieces} pieces`); }, false);
      for (const { attachment } of steps.removed) {
        if (!attempt(`unmap ${attachment.key}`, () => this.#detach(attachment), forced)) return false;
        undo.push(() => attempt(`map ${attachment.key} again`, () => this.#attach(attachment), true));
      }
      for (const { bar, address } of steps.lost) {
        if (!attempt(`deactivate ${bar.name} at 0x${address.toString(16)}`, () => off(bar, address), forced)) return false;
        undo.push(() => {
          if (attempt(`activate ${bar.name} at 0x${address.toString(16)} again`, () => on(bar, address), false)) return;
          culprits.add(bar);
          lost.add(bar);
        });
      }
      for (const { bar, address } of steps.gained) {
        if (!attempt(`activate ${bar.name} at 0x${address.toString(16)}`, () => on(bar, address), false)) {
          culprits.add(bar);
          return false;
        }
        undo.push(() => attempt(`deactivate ${bar.name} at 0x${address.toString(16)} again`, () => off(bar, address), true));
      }
      for (const { attachment } of steps.added) {
        if (!attempt(`map ${attachment.key}`, () => this.#attach(attachment), forced)) return false;
        undo.push(() => attempt(`unmap ${attachment.key} again`, () => this.#detach(attachment), true));
      }
      return true;
    };
    if (all()) return { done: true, culprits, lost };
    for (const step of undo.reverse()) step();
    return { done: false, culprits, lost };
  }

  #setRow(bar: Bar, row: Row): void {
    this.#rows[2 * bar.row] = row.address;
    this.#rows[2 * bar.row + 1] = row.sequence;
  }

  #attach(attachment: Attachment): void {
    if (attachment.kind === 'slot') this.#parts.slots.set(attachment.key, attachment.slot);
    else this.#events().set(attachment.key, attachment.event);
  }

  #detach(attachment: Attachment): void {
    if (attachment.kind === 'slot') this.#parts.slots.remove(attachment.key);
    else this.#events().remove(attachment.key, attachment.event);
  }

  #events(): IoEvents {
    if (this.#parts.events === undefined) throw new Error('this machine has no ioeventfds');
    return this.#parts.events;
  }
}

function nothing(): void {}
