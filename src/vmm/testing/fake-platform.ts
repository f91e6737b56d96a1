// A Platform without KVM for unit tests: interrupts, requests and attention are recorded, time is set by hand.
import { Arena } from '../sync/arena.ts';
import type { Device, IrqLine, MachineRequest, Platform } from '../devices/device.ts';
import type { Handler, Width } from '../bus/handler.ts';

/** What all instances over one arena share in a test. */
interface Shared {
  time: number;
  levels: Map<number, Set<string>>;
  edges: { gsi: number; level: boolean }[];
  attention: Set<string>;
  requests: MachineRequest[];
  log: string[];
}

export class FakePlatform implements Platform {
  readonly arena: Arena;
  readonly control = true;
  readonly #shared: Shared;

  constructor(arena = new Arena(), shared?: Shared) {
    this.arena = arena;
    this.#shared = shared ?? { time: 0, levels: new Map(), edges: [], attention: new Set(), requests: [], log: [] };
  }

  /** The same machine as another thread would see it. */
  peer(): FakePlatform {
    return new FakePlatform(Arena.attach(this.arena.describe()), this.#shared);
  }

  readonly clock = { now: (): number => this.#shared.time };
  advance(nanoseconds: number): void {
    this.#shared.time += nanoseconds;
  }

  irqLine(gsi: number, owner: string): IrqLine {
    return {
      set: (level) => {
        const asserted = this.#shared.levels.get(gsi) ?? new Set();
        const before = asserted.size > 0;
        if (level) asserted.add(owner);
        else asserted.delete(owner);
        this.#shared.levels.set(gsi, asserted);
        if (before !== asserted.size > 0) this.#shared.edges.push({ gsi, level: asserted.size > 0 });
      },
    };
  }

  /** The level of a GSI now. */
  level(gsi: number): boolean {
    return (this.#shared.levels.get(gsi)?.size ?? 0) > 0;
  }
  get edges(): readonly { gsi: number; level: boolean }[] {
    return this.#shared.edges;
  }
  attention(label: string): void {
    this.#shared.attention.add(label);
  }
  /** Whether attention was asked for since the last call. */
  takeAttention(label: string): boolean {
    return this.#shared.attention.delete(label);
  }
  request(request: MachineRequest): void {
    this.#shared.requests.push(request);
  }
  get requests(): readonly MachineRequest[] {
    return this.#shared.requests;
  }
  log(label: string, text: string): void {
    this.#shared.log.push(`${label}: ${text}`);
  }
  get logged(): readonly string[] {
    return this.#shared.log;
  }
}

/**
 * Three instances of one device over the same slices; each access goes to the next one. State hidden outside the slices shows at once.
 * `make` is called with a platform per instance.
 */
export function roundRobin<T extends Device>(platform: FakePlatform, make: (platform: Platform) => T): { next(): T; handler(range: number): Handler; all: T[] } {
  const all = [make(platform)];
  all.push(make(platform.peer()), make(platform.peer()));
  let turn = 0;
  const next = (): T => all[turn++ % all.length]!;
  const locked = <R>(device: T, body: () => R): R => device.mutex.run(body);
  return {
    all,
    next,
    handler: (range) => ({
      read: (offset: number, width: Width) => {
        const device = next();
        return locked(device, () => device.ranges[range]!.handler.read(offset, width));
      },
      write: (offset: number, width: Width, value: number) => {
        const device = next();
        locked(device, () => device.ranges[range]!.handler.write(offset, width, value));
      },
    }),
  };
}
