// What a machine costs, once a second while somebody looks: CPU time of each vCPU's thread, exits, frames, memory.
import { readFileSync } from 'node:fs';
import type { GuestMemoryStats, MachineStats } from '../../shared/protocol/machine.ts';
import type { Unsubscribe } from '../server/control.ts';
import type { VcpuStates } from './vcpu-state.ts';

const SECOND = 1000;
/** USER_HZ, which Linux reports to user space as 100 on x86 and arm64. */
const TICKS = 100;
const STAT_UTIME = 11; // fields after the parenthesis of /proc/PID/stat
const STAT_STIME = 12;

interface Sample {
  at: number;
  cpu: number[];
  exits: { all: number; io: number; memory: number }[];
  frames: number;
}

/** Seconds of CPU time that a thread has used; 0 when it is gone. */
function threadSeconds(thread: number): number {
  try {
    const stat = readFileSync(`/proc/self/task/${thread}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[STAT_UTIME]) + Number(fields[STAT_STIME])) / TICKS;
  } catch {
    return 0;
  }
}

const since = (now: number, before: number): number => (now - before) >>> 0;

export interface StatsWatchOptions {
  readonly states: VcpuStates;
  /** Sent so far. */
  frames(): number;
  /** What the guest says of its memory, if it does. */
  guest(): GuestMemoryStats | undefined;
  /** Somebody looks from now on, or nobody any more. */
  watched(on: boolean): void;
}

export class StatsWatch {
  readonly #o: StatsWatchOptions;
  readonly #states: VcpuStates;
  readonly #listeners = new Set<(stats: MachineStats) => void>();
  #timer: NodeJS.Timeout | undefined;
  #last: Sample;

  constructor(options: StatsWatchOptions) {
    this.#o = options;
    this.#states = options.states;
    this.#last = this.#sample();
  }

  watch(listener: (stats: MachineStats) => void): Unsubscribe {
    this.#listeners.add(listener);
    if (this.#timer === undefined) {
      this.#last = this.#sample();
      this.#timer = setInterval(() => this.#measure(), SECOND);
      this.#o.watched(true);
    }
    listener(this.#stats(this.#last, this.#last));
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size > 0) return;
      clearInterval(this.#timer);
      this.#timer = undefined;
      this.#o.watched(false);
    };
  }

  #sample(): Sample {
    const ids = Array.from({ length: this.#states.count }, (_, id) => id);
    return { at: performance.now(), cpu: ids.map((id) => threadSeconds(this.#states.thread(id))), exits: ids.map((id) => this.#states.exits(id)), frames: this.#o.frames() };
  }

  #measure(): void {
    const now = this.#sample();
    const stats = this.#stats(this.#last, now);
    this.#last = now;
    for (const listener of this.#listeners) listener(stats);
  }

  #stats(before: Sample, now: Sample): MachineStats {
    const seconds = Math.max((now.at - before.at) / SECOND, 1e-3);
    const rate = (kind: 'all' | 'io' | 'memory'): number => now.exits.reduce((sum, exits, id) => sum + since(exits[kind], before.exits[id]![kind]), 0) / seconds;
    const io = rate('io');
    const memory = rate('memory');
    const guest = this.#o.guest();
    return {
      at: Date.now(),
      cpu: now.cpu.map((cpu, id) => Math.min(1, Math.max(0, (cpu - before.cpu[id]!) / seconds))),
      exits: { io: Math.round(io), mmio: Math.round(memory), other: Math.round(Math.max(0, rate('all') - io - memory)) },
      frames: Math.round((now.frames - before.frames) / seconds),
      resident: process.memoryUsage.rss(),
      ...(guest === undefined ? {} : { guest }),
    };
  }
}
