// A driver that does everything wrong, and some things right: random chains, addresses and lengths, rings full of noise, indexes that jump, registers and
// configuration written at random, resets and queue resets at any moment. Whatever it does, the device is alive or asks for a reset, and after one
// it works again; nothing is thrown.
import type { Backend, BackendHost } from '../backend.ts';
import * as c from '../constants.ts';
import type { VirtioModel } from '../model.ts';
import { FIRST_FREE, RAM_BYTES, VirtioRig } from './rig.ts';
import type { DriverQueue, Lent } from './driver.ts';

/** Numbers of chance from a seed: Mulberry32. */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** From 0 to `bound` - 1. */
  below(bound: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * bound);
  }

  pick<T>(of: readonly T[]): T {
    return of[this.below(of.length)]!;
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }
}

export interface FuzzOptions {
  readonly model: () => VirtioModel;
  readonly backend: (host: BackendHost) => Backend;
  readonly seed: number;
  readonly steps: number;
  /** What the control thread may do meanwhile. */
  readonly mail?: (chance: Chance, rig: VirtioRig) => void;
  /** Bytes that a driver of this device would write, to reach further than noise does. */
  readonly message?: (chance: Chance, queue: number) => Uint8Array;
  /** The device is set up by a driver that keeps to the rules: checks that it works. */
  readonly works?: (rig: VirtioRig, queues: DriverQueue[]) => void;
}

/** Buffers are put here, and overwritten at will. */
const PLAYGROUND = 0x80_0000;
const PLAYGROUND_BYTES = 0x10_0000;
const COMMON_OFFSETS = 0x40;
const DEVICE_CONFIG = 0x2000;

export function fuzzDevice({ model, backend, seed, steps, mail, message, works }: FuzzOptions): void {
  const chance = new Chance(seed);
  const rig = new VirtioRig({ model: model(), backend, packed: true });
  const count = rig.runner.device.model.queues.length;
  const configBytes = rig.runner.device.bytes.length;
  let queues: DriverQueue[] = [];

  const setUp = (): void => {
    rig.resetDevice();
    rig.rewind(FIRST_FREE);
    const wanted = rig.offered().filter((feature) => feature === c.F_VERSION_1 || chance.below(3) > 0);
    queues = rig.setUp({ wanted, size: 2 ** (1 + chance.below(6)) });
  };
  const lent = (bytes: Uint8Array | undefined, writable: boolean): Lent => {
    const wild = chance.below(40) === 0;
    const address = wild ? chance.pick([RAM_BYTES - 8, RAM_BYTES, 0xffff_ffff_000, 0x8000_0000, chance.below(RAM_BYTES)]) : PLAYGROUND + chance.below(PLAYGROUND_BYTES - 0x2_0000);
    const length = bytes?.length ?? chance.pick([0, 1, 4, 8, 64, 4096, chance.below(0x1_0000), ...(wild ? [0xffff_ffff] : [])]);
    if (bytes !== undefined && !wild) rig.ram.write(address, bytes);
    return { address, length, writable };
  };
  const chain = (): void => {
    const index = chance.below(count);
    const queue = queues[index];
    if (queue === undefined || queue.room < 4) return;
    const said = message !== undefined && chance.below(3) > 0 ? message(chance, index) : undefined;
    const buffers = [
      ...(said === undefined ? [] : [lent(said, false)]),
      ...Array.from({ length: chance.below(said === undefined ? 3 : 2) + (said === undefined ? 1 : 0) }, () => lent(undefined, chance.below(2) === 0)),
    ];
    if (chance.below(4) > 0) buffers.sort((a, b) => Number(a.writable === true) - Number(b.writable === true));
    queue.add(buffers.slice(0, queue.room), chance.below(8) === 0 && queue.room > 0);
    if (chance.below(3) > 0) rig.kick(index);
  };
  const noise = (): void => {
    const queue = chance.pick(queues);
    if (queue === undefined) return;
    const area = chance.below(3) as 0 | 1 | 2;
    rig.ram.write(queue.areas[area] + chance.below(area === 0 ? queue.size * 16 : 8), chance.bytes(1 + chance.below(8)));
    rig.kick(chance.below(count));
  };
  const registers = (): void => {
    if (chance.below(2) === 0) rig.write(chance.below(COMMON_OFFSETS / 4) * 4, 4, chance.below(2 ** 32));
    else rig.write(chance.below(COMMON_OFFSETS / 2) * 2, 2, chance.pick([0, 1, 2, chance.below(0x1_0000)]));
    rig.read(chance.below(COMMON_OFFSETS / 4) * 4, 4);
  };
  const config = (): void => {
    if (configBytes < 4) return;
    const offset = chance.below(configBytes / 4) * 4;
    rig.write(DEVICE_CONFIG + offset, chance.pick([1, 2, 4] as const), chance.below(2 ** 32) >>> chance.pick([0, 24]));
    rig.read(DEVICE_CONFIG + offset, 4);
  };

  setUp();
  for (let step = 0; step < steps; step++) {
    const what = chance.below(200);
    if (what < 110) chain();
    else if (what < 120) rig.kick(chance.below(count));
    else if (what < 124) noise();
    else if (what < 134) config();
    else if (what < 136) registers();
    else if (what < 160) mail?.(chance, rig);
    else if (what < 161 || (rig.status & c.STATUS_NEEDS_RESET) !== 0) setUp();
    else rig.work(1);
    // What comes back of a broken ring means nothing.
    for (const queue of queues) {
      try {
        queue.used();
      } catch {
        setUp();
        break;
      }
    }
    rig.news.length = Math.min(rig.news.length, 1000);
    rig.msi.sent.length = 0;
  }
  rig.resetDevice();
  rig.rewind(FIRST_FREE);
  const good = rig.setUp();
  rig.news.length = 0;
  rig.interrupts();
  works?.(rig, good);
  rig.close();
}

/** How many steps a fuzzer takes: thousands, or millions with VITRINE_LONG=1. */
export const FUZZ_STEPS = process.env['VITRINE_LONG'] === '1' ? 1_000_000 : 6000;
