// A driver that does everything wrong: random rings, lengths, addresses, headers and commands, resets in between, while frames come. Whatever it does,
// the loop goes on, the stream to the other end stays one of whole frames, and after a reset there is a card again.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { F_RING_PACKED, F_VERSION_1 } from '../constants.ts';
import { RAM_BYTES } from '../testing/rig.ts';
import { closeCards, MAC, packetCard, read, RX, streamCard, TX, write, type Card } from './testing.ts';

const STEPS = process.env['VITRINE_LONG'] === '1' ? 400_000 : 1000;
const SEED = Number(process.env['VITRINE_SEED'] ?? 1);
const STEPS_A_LIFE = 40;

afterEach(closeCards);

/** Numbers that look like chance and are the same again (xorshift, 32 bits). */
function chance(seed: number): (below: number) => number {
  let state = seed === 0 ? 1 : seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** The frames in what came to the other end; throws when it has lost its place. */
class Stream {
  #left = new Uint8Array(0);

  take(bytes: Uint8Array): void {
    const all = Buffer.concat([this.#left, bytes]);
    let at = 0;
    while (all.length - at >= 4) {
      const length = all.readUInt32BE(at);
      assert.ok(length >= 14 && length <= 65535, `a frame of ${length} bytes`);
      if (all.length - at - 4 < length) break;
      at += 4 + length;
    }
    this.#left = Uint8Array.from(all.subarray(at));
  }
}

function misuse({ rig, queues, far }: Card, random: (below: number) => number, packed: boolean): void {
  const queue = queues[random(queues.length)]!;
  const { view, areas, size } = queue;
  const word = (): number => (random(4) === 0 ? random(2 ** 32) : random(4) === 0 ? RAM_BYTES - random(64) : random(RAM_BYTES));
  switch (random(10)) {
    case 0: case 1: case 2: { // a descriptor
      const at = areas[0] + 16 * random(size);
      view.setUint32(at, word(), true);
      view.setUint32(at + 4, random(20) === 0 ? random(8) : 0, true);
      view.setUint32(at + 8, random(3) === 0 ? random(2 ** 32) : random(3000), true);
      view.setUint16(at + 12, packed ? random(size + 1) : random(8), true);
      view.setUint16(at + 14, packed ? random(65536) : random(size + 1), true);
      break;
    }
    case 3: case 4: // more is available, whatever it is
      if (packed) view.setUint16(areas[0] + 16 * random(size) + 14, 0x80 | random(8), true);
      else {
        const next = view.getUint16(areas[1] + 2, true);
        view.setUint16(areas[1] + 4 + 2 * (next % size), random(20) === 0 ? random(65536) : random(size), true);
        view.setUint16(areas[1] + 2, random(30) === 0 ? random(65536) : (next + 1 + random(2)) & 0xffff, true);
      }
      break;
    case 5: // bytes of guest RAM: headers, tables, data
      view.setUint32(random(RAM_BYTES - 4), random(2 ** 32), true);
      break;
    case 6: { // a frame comes, or a part of one, or nothing that is one
      const bytes = 14 + random(9000);
      const frame = Uint8Array.from({ length: 4 + bytes }, (_, i) => (i < 4 ? (bytes >>> (8 * (3 - i))) & 0xff : i < 10 ? MAC[i - 4]! : random(256)));
      write(far, frame);
      break;
    }
    case 7: // a request as it should be
      if (!packed && queue.room > 4) {
        const header = queue.put(Uint8Array.from({ length: 12 }, () => (random(3) === 0 ? random(256) : 0)));
        queue.add(queue === queues[RX] ? [queue.lend(1600)] : queue === queues[TX] ? [header, { address: random(RAM_BYTES - 70_000), length: random(70_000) }] : [queue.put(Uint8Array.of(random(7), random(7), random(256), random(256), random(2), 0)), queue.lend(1)], false);
      }
      break;
    default: rig.kick(random(queues.length));
  }
}

for (const [name, make, packed] of [['a stream, split rings', streamCard, false], ['a stream, packed rings', streamCard, true], ['packets, split rings', packetCard, false]] as const) {
  test(`a hostile driver over ${name}`, () => {
    const random = chance(SEED);
    const stream = new Stream();
    for (let step = 0; step < STEPS; ) {
      const card = make({ packed, size: 16, ...(packed ? {} : { wanted: (offered: number[]) => offered.filter((each) => each === F_VERSION_1 || (each !== F_RING_PACKED && random(8) !== 0)) }) });
      for (let life = 0; life < 4; life++) {
        for (let i = 0; i < STEPS_A_LIFE; i++, step++) {
          misuse(card, random, packed);
          if (random(3) === 0) card.rig.work(1);
          if (random(5) !== 0) continue;
          const bytes = read(card.far);
          if (make === streamCard) stream.take(bytes);
        }
        card.rig.resetDevice();
        if (life === 3) break;
        try {
          card.queues.splice(0, card.queues.length, ...card.rig.setUp({ size: 16 }));
        } catch (thrown) {
          assert.match(String(thrown), /out of RAM/);
          break;
        }
      }
      // What is left of a frame that was begun comes before the end.
      for (let bytes = read(card.far); bytes.length > 0; bytes = read(card.far)) {
        if (make === streamCard) stream.take(bytes);
        card.rig.work(1);
      }
      closeCards();
    }
  });
}
