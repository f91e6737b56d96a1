// One thread of the hammer test: it builds the same machine over the same arena and either accesses addresses or moves BARs.
import { parentPort, workerData } from 'node:worker_threads';
import { Arena } from '../sync/arena.ts';
import { FakePlatform } from '../testing/fake-platform.ts';
import { FakeEvents, FakeParking, FakeSlots, TEST_WINDOWS, testMachine } from './testing.ts';
import { PciFunction } from './function.ts';
import type { ArenaDescription } from '../sync/arena.ts';
import type { Handler } from '../bus/handler.ts';
import type { Platform } from '../devices/device.ts';
import type { Mutex } from '../sync/mutex.ts';
import type { PciDevice } from './device.ts';
import type { TestMachine } from './testing.ts';

export const ECAM = 0xb000_0000;
export const LOW = TEST_WINDOWS.memory.start;
/** Always answers; 64 KiB. The others, 4 KiB each, are moved over it and beside it. */
export const STILL = { tag: 1, place: 1 * 8, size: 0x10000 };
export const MOVERS = [2, 3];
/** Where the movers go: onto the still one, onto each other, outside of the window. */
export const PLACES = [LOW + 0x4000, LOW + 0x20000, LOW + 0x4000, 0xffff_f000, LOW + 0x21000];
/** Of the still device, never covered: a counter that each write steps. */
export const COUNTER = LOW + 0x8000;

/** Words of the slice `hammer`. */
export const VIOLATIONS = 0;
export const COUNT = 1;
/** Threads that are ready; movers that are done; writes to the counter that were sent. */
const READY = 2;
const DONE = 3;
export const SENT = 4;
export const THREADS = 6;
const ACTIVE = 5; // and on: per tag, whether its BAR is active

/** Its handler notes if it is called while its BAR is not active: under the mutex that must not be. */
class HammerDevice implements PciDevice {
  readonly label: string;
  readonly mutex: Mutex;
  readonly ranges = [];
  readonly config: PciFunction;
  #tag: number;
  #words: Int32Array;

  constructor(platform: Platform, tag: number, size: number) {
    this.label = `hammer ${tag}`;
    this.#tag = tag;
    this.#words = platform.arena.int32('hammer', 16);
    this.mutex = platform.arena.mutex(`${this.label}.lock`);
    const handler: Handler = {
      read: () => {
        this.#check();
        return tag;
      },
      write: (offset) => {
        this.#check();
        // Not atomic: the mutex is what makes it right.
        if (offset === COUNTER - LOW) this.#words[COUNT] = this.#words[COUNT]! + 1;
      },
    };
    this.config = new PciFunction(platform.arena, { label: this.label, vendorId: 1, deviceId: tag, classCode: 0xff0000, bars: [{ index: 0, kind: 'memory32', size, handler }] });
  }

  #check(): void {
    if (this.#words[ACTIVE + this.#tag] !== 1) Atomics.add(this.#words, VIOLATIONS, 1);
  }

  activate(): void {
    this.#words[ACTIVE + this.#tag] = 1;
  }

  deactivate(): void {
    this.#words[ACTIVE + this.#tag] = 0;
  }

  reset(): void {}
}

export function build(platform: FakePlatform): TestMachine {
  const machine = testMachine(platform, { slots: new FakeSlots(), parking: new FakeParking(), events: new FakeEvents() });
  machine.topology.addRange('ecam here', 'memory', ECAM, 0x1000_0000, machine.host.ecam, machine.topology.lock);
  machine.host.add(new HammerDevice(platform, STILL.tag, STILL.size), STILL.tag);
  for (const tag of MOVERS) machine.host.add(new HammerDevice(platform, tag, 0x1000), tag);
  return machine;
}

export interface HammerOrder {
  readonly arena: ArenaDescription;
  readonly role: 'access' | 'move';
  readonly tag: number;
  readonly count: number;
  readonly seed: number;
}

/** At least `count` rounds, and as long as BARs are moved. */
function access({ memory }: TestMachine, words: Int32Array, count: number): void {
  const expect = (address: number, tags: readonly number[]): void => {
    const value = memory.read(address, 4);
    if (!tags.includes(value)) throw new Error(`${address.toString(16)} answered ${value.toString(16)}, not one of ${tags.join()}`);
  };
  for (let at = 0; at < count || Atomics.load(words, DONE) < MOVERS.length; at++) {
    memory.write(COUNTER, 4, at);
    Atomics.add(words, SENT, 1);
    expect(LOW + 0x1000, [1]);
    expect(LOW + 0x4010, [1, 2, 3]);
    expect(LOW + 0x20010, [2, 3, 0xffff_ffff]);
    expect(LOW + 0x21010, [2, 3, 0xffff_ffff]);
    memory.read(ECAM + 0x8000, 4);
  }
}

function move({ memory }: TestMachine, tag: number, count: number, seed: number): void {
  let state = seed;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 16) % below;
  };
  const config = ECAM + tag * 8 * 4096;
  for (let at = 0; at < count; at++) {
    if (random(4) === 0) memory.write(config + 4, 2, random(2) * 2);
    else memory.write(config + 0x10, 4, PLACES[random(PLACES.length)]!);
  }
  memory.write(config + 4, 2, 0);
}

if (parentPort !== null && workerData !== null) {
  const order = workerData as HammerOrder;
  const platform = new FakePlatform(Arena.attach(order.arena));
  const machine = build(platform);
  const words = platform.arena.int32('hammer', 16);
  Atomics.add(words, READY, 1);
  Atomics.notify(words, READY);
  for (let ready = Atomics.load(words, READY); ready < THREADS; ready = Atomics.load(words, READY)) Atomics.wait(words, READY, ready, 100);
  if (order.role === 'access') access(machine, words, order.count);
  else {
    move(machine, order.tag, order.count, order.seed);
    Atomics.add(words, DONE, 1);
  }
}
