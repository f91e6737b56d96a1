// The vCPU loop, kicks, parking and pausing under KVM, with guests of a few instructions.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import { allocateWindow } from '../memory/window.ts';
import { Boots } from './boots.ts';
import { CODE, flatMode, tinyMachine, type TinyMachine } from '../testing/tiny-machine.ts';

const OUT_LOOP = [0xe6, 0x80, 0xeb, 0xfc]; // out 0x80, al; jmp back
const SPIN = [0xeb, 0xfe];
const UNDEFINED = [0xff, 0xff];

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(1);
}

async function withMachine(code: readonly number[], cpus: number, body: (machine: TinyMachine) => Promise<void>): Promise<void> {
  const machine = await tinyMachine(code, cpus);
  try {
    machine.start();
    await body(machine);
  } finally {
    await machine.end();
  }
}

test('exits of ports and memory arrive with their widths', async () => {
  const code = [
    0xb8, 0x78, 0x56, 0x34, 0x12, // mov eax, 0x12345678
    0xa2, 0x00, 0x00, 0x00, 0xd0, // mov [0xd0000000], al
    0x66, 0xa3, 0x00, 0x00, 0x00, 0xd0, // ax
    0xa3, 0x00, 0x00, 0x00, 0xd0, // eax
    0xa1, 0x00, 0x00, 0x00, 0xd0, // mov eax, [0xd0000000]
    0xa3, 0x00, 0x20, 0x00, 0x00, // mov [0x2000], eax
    0xe5, 0x80, // in eax, 0x80
    0xa3, 0x04, 0x20, 0x00, 0x00, // mov [0x2004], eax
    0xe6, 0x80, // out 0x80, al
    ...SPIN,
  ];
  await withMachine(code, 1, async (machine) => {
    await until(() => machine.counts[0] === 1);
    assert.deepEqual([...machine.counts.subarray(0, 5)], [1, 1, 3, 1, 7]);
    const { io, memory } = machine.states.exits(0);
    assert.deepEqual({ io, memory }, { io: 2, memory: 4 }, 'and are counted by kind');
    const words = new Uint32Array(machine.ram.buffer, 0x2000, 2);
    assert.deepEqual([...words], [0xffffffff, 0x5a5a5a5a]);
  });
});

test('string output with a count is one exit with every element', async () => {
  // cld; mov esi, CODE; mov ecx, 37; mov edx, 0x80; rep outsb; jmp $
  const code = [0xfc, 0xbe, 0x00, 0x10, 0x00, 0x00, 0xb9, 37, 0, 0, 0, 0xba, 0x80, 0, 0, 0, 0xf3, 0x6e, ...SPIN];
  await withMachine(code, 1, async (machine) => {
    await until(() => machine.counts[0]! >= 37);
    assert.equal(machine.counts[0], 37);
  });
});

test('a pause stops every vCPU, spinning or exiting, 500 times, and none is lost', async () => {
  // vCPU 0 exits all the time, the others spin: test ebx, ebx; jz out; jmp $
  const code = [0x85, 0xdb, 0x74, 0x02, ...SPIN, ...OUT_LOOP];
  await withMachine(code, 3, async (machine) => {
    await until(() => machine.counts[0]! > 0);
    for (let round = 0; round < 500; round++) {
      machine.states.pause();
      const seen = machine.counts[0]!;
      if (round % 50 === 0) await sleep(2);
      assert.equal(machine.counts[0], seen, 'no access while paused');
      machine.states.resume();
      await turn();
    }
    const seen = machine.counts[0]!;
    await until(() => machine.counts[0]! > seen);
  });
});

test('a memory slot is replaced under fire: every read sees one of the two pages, or the bus', async () => {
  // mov eax, [0xd0000000]; cmp eax, 0x11111111; je; cmp eax, 0x22222222; je; cmp eax, -1; je; out 0x80, al
  const code = [
    0xa1, 0, 0, 0, 0xd0,
    0x3d, 0x11, 0x11, 0x11, 0x11, 0x74, 0xf4,
    0x3d, 0x22, 0x22, 0x22, 0x22, 0x74, 0xed,
    0x83, 0xf8, 0xff, 0x74, 0xe8,
    0xe6, 0x80, ...SPIN,
  ];
  await withMachine(code, 2, async (machine) => {
    const pages = [0x11111111, 0x22222222].map((value) => {
      const page = allocateWindow(65536);
      new Uint32Array(page.buffer, 0, 1024).fill(value);
      return page;
    });
    await until(() => machine.counts[3]! > 0);
    const region = { slot: 5, gpa: 0xd0000000, size: 4096, dirtyLog: false, readonly: false };
    for (let round = 0; round < 200; round++) {
      machine.states.parkForCommit(-1);
      if (round > 0) machine.vm.setMemoryRegion({ ...region, size: 0, hva: 0 });
      machine.vm.setMemoryRegion({ ...region, hva: pages[round & 1]!.address });
      machine.states.releaseCommit();
      if (round % 20 === 0) await turn();
    }
    assert.equal(machine.counts[0], 0, 'no other value was ever read');
    assert.deepEqual(machine.stops, []);
  });
});

test('a vCPU that cannot go on stands still, over a pause, until it is set up again', async () => {
  await withMachine(UNDEFINED, 1, async (machine) => {
    await until(() => machine.stops.length === 1);
    machine.states.pause();
    machine.states.resume();
    await sleep(20);
    assert.equal(machine.stops.length, 1, 'it was not entered again');
    machine.states.pause();
    new Boots(machine.arena).next();
    new Uint8Array(machine.ram.buffer, CODE, 4).set(OUT_LOOP);
    flatMode(machine.vcpus[0]!);
    machine.states.resume();
    await until(() => machine.counts[0]! > 10);
  });
});

test('what KVM cannot emulate ends with words', async () => {
  await withMachine(UNDEFINED, 1, async (machine) => {
    // an undefined instruction with no handler is a triple fault on hardware, an internal error where ring 0 is interpreted
    await until(() => machine.stops.length === 1);
    const stop = machine.stops[0]!.stop;
    assert.ok(stop.kind === 'triple-fault' || (stop.kind === 'crash' && /KVM stopped CPU 0/.test(stop.why)), JSON.stringify(stop));
  });
});
