// One thread of the hammer: it builds the same machine over the same arena and moves BARs, accesses addresses or raises interrupts, until it is
// done, or until some thread throws.
import { parentPort, workerData } from 'node:worker_threads';
import { PIRQ_ISA_CHOICES } from './intx.ts';
import { PoisonedError } from '../sync/mutex.ts';
import { BARS, ECAM, ECAM_REGISTER, FUNCTIONS, HIGH_HALF, LOW } from './model-rig.ts';
import { HANDOVERS, HammerArena, MSIX_TABLE, MOVED, REGISTER_COUNT, REGISTER_LEVEL, REGISTER_PROBE, REGISTER_SEND, ROUNDS, ROUTE_REGISTER, SENT, STOP, TARGETS, VECTORS, VIOLATIONS, buildWorld, meet, randomNumbers, targetAddress } from './hammer-world.ts';
import type { ArenaDescription } from '../sync/arena.ts';
import type { Width } from '../bus/handler.ts';
import type { HammerWorld } from './hammer-world.ts';

export interface HammerOrder {
  readonly arena: ArenaDescription;
  readonly role: 'move' | 'access' | 'interrupt';
  /** 1 and on. */
  readonly thread: number;
  readonly threads: number;
  readonly movers: number;
  /** All threads meet after each phase. */
  readonly phases: number;
  /** A mover does so many configuration writes in a phase; the others go on as long as there are movers. */
  readonly moves: number;
  readonly writes: number;
  readonly yieldOne: number;
  readonly seed: number;
}

export type HammerReport = { thread: number; end: 'done' | 'stopped' | 'poisoned' } | { thread: number; end: 'thrown'; why: string };

/** The other place where ECAM may be: where nothing else is. */
const ECAM_THERE = LOW + 0x20_0000;

type Random = (below: number) => number;
const pick = <T>(random: Random, from: readonly T[]): T => from[random(from.length)]!;

/** A configuration write by ports or by ECAM, wherever ECAM may be. */
function configWrite(world: HammerWorld, random: Random, place: number, register: number, width: Width, value: number): void {
  if (random(3) === 0) portWrite(world, place, register, width, value);
  else world.machine.memory.write((random(8) === 0 ? ECAM_THERE : ECAM) + place * 4096 + register, width, value);
}

function portWrite({ machine: { io }, portsLock }: HammerWorld, place: number, register: number, width: Width, value: number): void {
  portsLock.lock();
  io.write(0xcf8, 4, (0x8000_0000 | (place << 8) | (register & 0xfc)) >>> 0);
  io.write(0xcfc + (register & 3), width, value);
  portsLock.unlock();
}

/** The status register, as a driver reads it: a thread that never moves anything meets the topology lock here. */
function readStatus({ machine: { io }, portsLock }: HammerWorld, place: number): number {
  portsLock.lock();
  io.write(0xcf8, 4, (0x8000_0004 | (place << 8)) >>> 0);
  const status = io.read(0xcfe, 2);
  portsLock.unlock();
  return status;
}

/** Movers 0 and 1 have functions of their own, whose BARs go over each other's; the others take all, and the chipset. */
function move(world: HammerWorld, random: Random, mover: number): void {
  const places = mover === 0 ? [0x08, 0x09] : mover === 1 ? [0x10, 0x18] : FUNCTIONS.slice(1).map(({ place }) => place);
  const kind = random(20);
  if (mover > 1 && kind === 0) {
    const value = random(4) === 0 ? ECAM_THERE + 1 : ECAM + 1;
    portWrite(world, 0, ECAM_REGISTER, 4, value);
  } else if (mover > 1 && kind === 1) configWrite(world, random, 0, ROUTE_REGISTER + random(4), 1, random(4) === 0 ? 0 : pick(random, PIRQ_ISA_CHOICES));
  else if (mover > 1 && (kind === 2 || kind > 16)) configWrite(world, random, pick(random, TARGETS).place, 4, 2, random(2) === 0 ? 6 : 0x406);
  else if (mover > 1 && kind === 3) configWrite(world, random, pick(random, TARGETS).place, 0x42, 2, pick(random, [0, 0x8000, 0x8000, 0xc000]));
  else if (kind < 7) configWrite(world, random, pick(random, places), 4, 2, pick(random, [0, 2, 3, 3, 7, 7]));
  else if (kind === 7) {
    // Sizing.
    const { place, bar } = pick(random, BARS.filter((each) => places.includes(each.place)));
    configWrite(world, random, place, bar.kind === 'rom' ? 0x30 : 0x10 + 4 * bar.index, 4, 0xffff_ffff);
  } else {
    const { place, bar } = pick(random, BARS.filter((each) => places.includes(each.place)));
    const low = LOW + random(16) * 0x1000;
    if (bar.kind === 'memory64' && random(4) === 0) configWrite(world, random, place, 0x14 + 4 * bar.index, 4, pick(random, [0, 0, HIGH_HALF]));
    else if (bar.kind === 'io') configWrite(world, random, place, 0x10 + 4 * bar.index, 4, 0x1000 + random(32) * 4);
    else if (bar.kind === 'rom') configWrite(world, random, place, 0x30, 4, low + random(2));
    else configWrite(world, random, place, 0x10 + 4 * bar.index, 4, low);
  }
}

/** Whether BAR `bar` of `place` may give this value at this address: BARs are aligned to their size. */
function plausible(address: number, value: number): boolean {
  const bar = BARS.find((each) => each.place === value >>> 24 && each.bar.index === ((value >>> 20) & 15))?.bar;
  if (bar === undefined) return value === 0xffff_ffff || value === 0xf1f2_f3f4;
  return bar.size > 2 ** 20 || (address - (value & 0xf_ffff)) % bar.size === 0;
}

function access(world: HammerWorld, random: Random): void {
  const { machine: { io, memory }, words } = world;
  const address = random(4) === 0 ? HIGH_HALF * 2 ** 32 + LOW + random(16) * 0x1000 : LOW + random(0x4000) * 4;
  const value = memory.read(address, 4);
  if (!plausible(address, value)) throw new Error(`0x${address.toString(16)} answered 0x${value.toString(16)}`);
  memory.write(address, pick<Width>(random, [1, 2, 4]), random(0x100));
  memory.read(address - 2, 4);
  io.read(0x1000 + random(0x120), pick<Width>(random, [1, 2, 4]));
  memory.read(ECAM + pick(random, BARS).place * 4096 + random(64), pick<Width>(random, [1, 2, 4]));
  // A capability list, as every target has it.
  if ((readStatus(world, pick(random, TARGETS).place) & ~8) !== 0x10) Atomics.add(words, VIOLATIONS, 1);
  // What is never covered always answers, and no write to it is lost.
  const target = random(TARGETS.length);
  const expected = (TARGETS[target]!.place * 2 ** 24 + REGISTER_PROBE) >>> 0;
  if (memory.read(targetAddress(target) + REGISTER_PROBE, 4) !== expected) Atomics.add(words, VIOLATIONS, 1);
  memory.write(targetAddress(target) + REGISTER_COUNT, 4, 1);
  Atomics.add(words, SENT + target, 1);
}

function interrupt(world: HammerWorld, random: Random): void {
  const { memory } = world.machine;
  const at = targetAddress(random(TARGETS.length));
  const kind = random(9);
  if (kind === 8) readStatus(world, pick(random, TARGETS).place);
  else if (kind < 4) memory.write(at + REGISTER_LEVEL, 4, random(2));
  else if (kind < 7) memory.write(at + REGISTER_SEND, 4, random(VECTORS));
  else memory.write(at + MSIX_TABLE + random(VECTORS) * 16 + 12, 4, random(2));
}

/** Routes of messages and of pins that arrive by irqfd, as devices of the host take them. */
function route({ routes }: HammerWorld, random: Random, mine: { gsis: number[]; pins: number[] }): void {
  const kind = random(5);
  const gsi = mine.gsis[random(mine.gsis.length + 1)];
  if (gsi !== undefined && kind === 0) routes.update(gsi, random(0x10000));
  else if (gsi !== undefined && kind < 3) {
    mine.gsis = mine.gsis.filter((each) => each !== gsi);
    routes.free(gsi);
  } else if (kind === 3) {
    const used = random(2) === 0 ? mine.pins.pop() : undefined;
    if (used !== undefined) routes.pin(used, false);
    else if (mine.pins.length < 3) {
      const pirq = random(4);
      mine.pins.push(pirq);
      routes.pin(pirq, true);
    }
  } else if (mine.gsis.length < 30) mine.gsis.push(routes.allocate(random(0x10000)));
}

function work(order: HammerOrder, world: HammerWorld): 'done' | 'stopped' {
  const { words } = world;
  const mine = { gsis: [], pins: [] };
  const numbers = randomNumbers(order.seed);
  const random: Random = (below) => numbers() % below;
  meet(world, order.threads);
  for (let phase = 1; phase <= order.phases; phase++) {
    for (let round = 0; order.role === 'move' ? round < order.moves : Atomics.load(words, MOVED) < order.movers * phase; round++) {
      if (order.role === 'move') move(world, random, order.thread - 1);
      else if (order.role === 'access') access(world, random);
      else if (random(3) === 0) route(world, random, mine);
      else interrupt(world, random);
      Atomics.add(words, ROUNDS, 1);
      if (Atomics.load(words, STOP) !== 0) return 'stopped';
    }
    if (order.role === 'move') Atomics.add(words, MOVED, 1);
    meet(world, order.threads);
  }
  Atomics.add(words, HANDOVERS, world.arena.handovers);
  return 'done';
}

const order = workerData as HammerOrder;
const arena = new HammerArena(order.thread, order.yieldOne, order.arena);
let report: HammerReport;
try {
  report = { thread: order.thread, end: work(order, buildWorld(arena, order.writes, false)) };
} catch (thrown) {
  // As a vCPU's thread does.
  Atomics.store(arena.poison, 0, 1);
  report = thrown instanceof PoisonedError ? { thread: order.thread, end: 'poisoned' } : { thread: order.thread, end: 'thrown', why: thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown) };
}
parentPort!.postMessage(report);
