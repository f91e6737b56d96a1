// Guests that do one thing as fast as they can, from every CPU, with a viewer and a console attached: the control thread goes on hearing
// others, and the machine is paused, resumed and ended as ever.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { decodeFrame } from '../../shared/protocol/frames.ts';
import { dword, started, tinyGuest } from '../testing/whole-machine.ts';

const ICR = 0xfee00300;
/** Starts the other CPUs at 0x8000, in real mode, with a far jump into the loop in 32-bit flat mode. Assembled by hand below. */
const START_OTHERS = [
  0xc7, 0x05, ...dword(ICR), ...dword(0x000c4500), // INIT to all others
  0xc7, 0x05, ...dword(ICR), ...dword(0x000c4608), // SIPI to all others, at 0x8000
];

/** Writes `bytes` to guest-physical `address`. */
function poke(address: number, bytes: readonly number[]): number[] {
  const code: number[] = [];
  for (let i = 0; i < bytes.length; i += 4) {
    const [a = 0, b = 0, c = 0, d = 0] = bytes.slice(i, i + 4);
    code.push(0xc7, 0x05, ...dword(address + i), a, b, c, d);
  }
  return code;
}

/** Every CPU runs `loop`, which must not touch the stack: the first in 32-bit mode; the others, in real mode, `real` (the same if not given). */
function everywhere(name: string, loop: readonly number[], real: readonly number[] | null): string {
  return tinyGuest(name, [...(real === null ? [] : [...poke(0x8000, real), ...START_OTHERS]), ...loop]);
}

const back = (length: number): number[] => [0xeb, 256 - length - 2];
const looped = (setup: readonly number[], body: readonly number[]): number[] => [...setup, ...body, ...back(body.length)];

const MOV_DX = (port: number, real = false): number[] => (real ? [0xba, port & 0xff, port >> 8] : [0x66, 0xba, port & 0xff, port >> 8]);
const outLoop = (port: number, value: number): [number[], number[]] => [
  looped([...MOV_DX(port), 0xb0, value], [0xee]),
  looped([...MOV_DX(port, true), 0xb0, value], [0xee]),
];

/** rep outsb of 4096 bytes from 0x100000 again and again. */
const stringLoop = (port: number): number[] =>
  looped([...MOV_DX(port), 0xfc], [0xbe, ...dword(0x100000), 0xb9, ...dword(4096), 0xf3, 0x6e]);
/** rep insb of 4096 bytes to 0x300000 again and again. */
const stringInLoop = (port: number): number[] =>
  looped([...MOV_DX(port), 0xfc], [0xbf, ...dword(0x300000), 0xb9, ...dword(4096), 0xf3, 0x6c]);

// The display is 00:02.0: its BAR 0 at 0x10, BAR 2 at 0x18. Direct boot puts BAR 0 first in the window.
const CONFIG_DISPLAY = 0x80001000;
/** Switches the display's memory decoding off and on: a memslot goes and comes each time. */
const decodeLoop = looped(
  [...MOV_DX(0xcf8), 0xb8, ...dword(CONFIG_DISPLAY | 4), 0xef, ...MOV_DX(0xcfc)],
  [0xb8, ...dword(0), 0xef, 0xb8, ...dword(7), 0xef],
);
/** Reads BAR 2's address, then writes XRES 640 and 1024 in turns. */
const modeLoop = looped(
  [...MOV_DX(0xcf8), 0xb8, ...dword(CONFIG_DISPLAY | 0x18), 0xef, ...MOV_DX(0xcfc), 0xed, 0x83, 0xe0, 0xf0, 0x89, 0xc3], // ebx = BAR 2
  [0x66, 0xc7, 0x83, ...dword(0x502), 0x80, 0x02, 0x66, 0xc7, 0x83, ...dword(0x502), 0x00, 0x04],
);
/** fw_cfg: a DMA read of 32 MiB to 16 MiB. The request lies at 0x200000, big-endian. */
const dmaLoop = looped(
  [
    ...poke(0x200000, [0, 0, 0, 2, 0x02, 0, 0, 0, 0, 0, 0, 0, 0x01, 0, 0, 0]),
    ...MOV_DX(0x518), 0xb8, 0x00, 0x20, 0x00, 0x00,
  ],
  [0xc7, 0x05, ...dword(0x200000), 0, 0, 0, 2, 0xef],
);

const GUESTS: [name: string, loop: number[], real: number[] | null][] = [
  ['serial', ...outLoop(0x3f8, 0x41)],
  ['serial strings', stringLoop(0x3f8), outLoop(0x3f8, 0x42)[1]],
  ['debug port', ...outLoop(0xe9, 0x0a)],
  ['keyboard controller', stringInLoop(0x60), outLoop(0x64, 0xd2)[1]],
  ['reset register', ...outLoop(0xcf9, 0x06)],
  ['firmware configuration', dmaLoop, null],
  ['decode bit', decodeLoop, outLoop(0x3f8, 0x43)[1]],
  ['modes', modeLoop, outLoop(0x3f8, 0x44)[1]],
];

describe('a guest that floods', () => {
  for (const [name, loop, real] of GUESTS) {
    it(`the ${name} keeps nobody from being heard`, async (t) => {
      const machine = await started(everywhere(name, loop, real), { cpus: real === null ? 1 : 3, display: { kind: 'canvas' } });
      let bytes = 0;
      let frames = 0;
      // A console that takes a while over every piece.
      machine.serial.subscribe((piece) => {
        bytes += piece.length;
        for (const end = performance.now() + 0.2; performance.now() < end; );
      });
      const viewer = machine.attachViewer({
        id: 'v1',
        buffered: () => 0,
        send: (frame) => {
          frames++;
          const { seq } = decodeFrame(Uint8Array.from(frame))!;
          setImmediate(() => viewer.acknowledge(seq));
        },
      });
      let longest = 0;
      for (let turn = 0; turn < 40; turn++) {
        const before = performance.now();
        machine.key(30, turn % 2 === 0);
        await sleep(10);
        longest = Math.max(longest, performance.now() - before);
      }
      for (let round = 0; round < 3; round++) {
        await machine.pause();
        assert.equal(machine.facts.value.state, 'paused');
        await machine.resume();
        await sleep(10);
      }
      await machine.forceOff();
      assert.equal((await machine.ended).how, 'forced', machine.log.backlog().slice(0, 5).map(({ text }) => text).join('\n'));
      t.diagnostic(`${name}: ${bytes} bytes, ${frames} frames, ${machine.facts.value.resets} resets, longest turn ${longest.toFixed(0)} ms, ${machine.log.backlog().length} lines`);
    });
  }
});
