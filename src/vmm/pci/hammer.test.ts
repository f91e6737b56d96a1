// Bus, PCI and interrupt routing under eight threads at once, with no KVM: three move BARs, ECAM and PIRQs, three access what they move, two
// raise interrupts, and every mutex yields at random at its borders. Afterwards the model (model.ts) is given the configuration writes in the
// order in which they took effect, and must agree with the machine in everything. Bounded by counts, not by time; VITRINE_LONG=1 for more.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { HIGH_HALF, ECAM, ECAM_REGISTER, compareBorders, compareRead, compareRegisters, compareTable, newModel } from './model-rig.ts';
import { configWrite } from './testing.ts';
import {
  ACCEPTED, COALESCED, COUNTED, CRASH, CRASH_PLACES, DELIVERED, HAMMER_FUNCTIONS, HANDOVERS, HammerArena, LEVELS, MSIX_TABLE, REGISTER_COUNT, ROUNDS, SENT, STOP, TARGETS, VECTORS, VIOLATIONS,
  buildWorld, expectedLevels, refuses, targetAddress,
} from './hammer-world.ts';
import type { HammerOrder, HammerReport } from './hammer-worker.ts';
import type { HammerWorld } from './hammer-world.ts';

const LONG = process.env['VITRINE_LONG'] === '1';
const PHASES = LONG ? 10_000 : 100;
/** Configuration writes of each mover in a phase. */
const MOVES = 30;
/** One in so many visits to a mutex's border yields. */
const YIELD_ONE = 4;
const ROLES = ['move', 'move', 'move', 'access', 'access', 'access', 'interrupt', 'interrupt'] as const;
const MOVERS = 3;
const INTERRUPT_STATUS = 0x8_0000;
const MSIX_CONTROL = 0x42;
const MSIX_ENABLE = 0x8000;

/** A machine with ECAM on, the targets placed, and MSI-X enabled in them. */
function freshWorld(writes: number): HammerWorld {
  const world = buildWorld(new HammerArena(0, 0), writes, true);
  const { machine, devices } = world;
  for (const device of devices) device.reset();
  machine.host.reset();
  configWrite(machine.io, 0, ECAM_REGISTER, 4, ECAM + 1);
  TARGETS.forEach(({ place }, index) => {
    configWrite(machine.io, place, 0x10, 4, targetAddress(index));
    configWrite(machine.io, place, 4, 2, 6);
    unmask(world, index);
  });
  return world;
}

/** Every vector of a target may be sent: what was pending is. */
function unmask({ machine }: HammerWorld, target: number): void {
  for (let vector = 0; vector < VECTORS; vector++) {
    const entry = targetAddress(target) + MSIX_TABLE + vector * 16;
    [0xfee0_0000, 0, target * VECTORS + vector, 0].forEach((value, dword) => machine.memory.write(entry + dword * 4, 4, value));
  }
  configWrite(machine.io, TARGETS[target]!.place, MSIX_CONTROL, 2, MSIX_ENABLE);
}

function start(world: HammerWorld, phases: number, moves: number, writes: number, yieldOne: number, seed: number): Promise<HammerReport>[] {
  const arena = world.arena.describe();
  return ROLES.map(async (role, index) => {
    const order: HammerOrder = { arena, role, thread: index + 1, threads: ROLES.length, movers: MOVERS, phases, moves, writes, yieldOne, seed: seed + index };
    const worker = new Worker(new URL('./hammer-worker.ts', import.meta.url), { workerData: order });
    let report: HammerReport | undefined;
    worker.on('message', (message: HammerReport) => (report = message));
    worker.on('error', (error) => {
      // The others must not wait for its locks.
      Atomics.store(world.arena.poison, 0, 1);
      report = { thread: order.thread, end: 'thrown', why: String(error) };
    });
    await once(worker, 'exit');
    return report!;
  });
}

test('hammer: eight threads leave the machine as the model says, no access reaches a dead region, and none is lost', async (t) => {
  const seed = Math.floor(Math.random() * 2 ** 24);
  const writes = MOVERS * PHASES * MOVES + 200;
  const world = freshWorld(writes);
  const reports = await Promise.all(start(world, PHASES, MOVES, writes, YIELD_ONE, seed));
  assert.deepEqual(reports, ROLES.map((_, index) => ({ thread: index + 1, end: 'done' })));
  const { machine, words, devices } = world;
  t.diagnostic(`seed ${seed}: ${words[ROUNDS]} rounds, ${world.writes().length} configuration writes took effect, ${words[HANDOVERS]} times a lock went to another thread`);

  const model = newModel(HAMMER_FUNCTIONS);
  model.refuses = refuses;
  for (const { place, register, value } of world.writes()) {
    model.configWrite(place, register, 4, value);
    if ((model.dword(place, register) | INTERRUPT_STATUS) !== (value | INTERRUPT_STATUS)) assert.fail(`the model refuses to write ${value.toString(16)} to register ${register} of ${place}`);
  }
  // The address latch is not in the log.
  machine.io.write(0xcf8, 4, 0x8000_0000);
  model.write('io', 0xcf8, 4, 0x8000_0000);
  for (const width of [4, 2, 1] as const) compareBorders(model, width, (space, address) => {
    const ofTarget = targetAddress(0) <= address + 4 && address < HIGH_HALF * 2 ** 32 && space === 'memory' && targetAddress(TARGETS.length) > address;
    if (!ofTarget) compareRead(machine, model, space, address, width);
  });
  compareTable(model, machine.io);
  compareTable(model, machine.memory);
  HAMMER_FUNCTIONS.forEach(({ place }, index) => compareRegisters(model, place, devices[index]!.config, { 4: INTERRUPT_STATUS }));
  assert.deepEqual(new Map([...world.active()].sort()), new Map([...model.active()].sort()));
  const bare = [...model.slots()].map(([key, { gpa, size, hva }]) => [key, { gpa, size, hva }] as const);
  assert.deepEqual(new Map([...world.slots()].sort()), new Map(bare.sort()));
  assert.deepEqual(new Map([...world.events()].sort()), new Map([...model.events()].sort()));

  assert.deepEqual([...words.subarray(LEVELS, LEVELS + 24)], expectedLevels(world), 'levels at the interrupt controllers');
  TARGETS.forEach((_, index) => unmask(world, index));
  const sum = (from: number): number => words.subarray(from, from + TARGETS.length).reduce((a, b) => a + b, 0);
  assert.equal(words[DELIVERED], sum(ACCEPTED) - sum(COALESCED), 'every message arrives once');
  for (const index of TARGETS.keys()) {
    machine.memory.write(targetAddress(index) + REGISTER_COUNT, 4, 0);
    assert.equal(words[COUNTED + index], words[SENT + index]! + 1, 'no write is lost');
  }
  assert.equal(words[VIOLATIONS], 0);
});

for (const [index, place] of CRASH_PLACES.entries()) {
  test(`hammer: a thread that throws in ${place} ends all others, and nobody hangs`, async () => {
    const world = freshWorld(1000);
    const ends = start(world, 1, Number.MAX_SAFE_INTEGER, 1000, 16, index);
    while (Atomics.load(world.words, ROUNDS) < 500 && Atomics.load(world.arena.poison, 0) === 0) await sleep(1);
    Atomics.store(world.words, CRASH, index + 1);
    // Threads that meet none of its locks are stopped by the control thread; a few may be such.
    const ended = new Set<number>();
    for (const end of ends) void end.then(({ thread }) => ended.add(thread));
    while (ended.size < 5) await sleep(1);
    Atomics.store(world.words, STOP, 1);
    const reports = await Promise.all(ends);
    const thrown = reports.filter((report) => report.end === 'thrown');
    assert.equal(thrown.length, 1, JSON.stringify(reports));
    assert.match(thrown[0]!.why, new RegExp(`thrown in ${place}`));
    assert.ok(reports.every(({ end }) => end !== 'done'));
  });
}
