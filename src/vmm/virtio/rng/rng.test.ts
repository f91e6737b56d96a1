import assert from 'node:assert/strict';
import { test } from 'node:test';
import { F_RING_PACKED } from '../constants.ts';
import { eagerDriver } from '../testing/eager.ts';
import { FUZZ_STEPS, fuzzDevice } from '../testing/fuzz.ts';
import { VirtioRig } from '../testing/rig.ts';
import { RngBackend } from './backend.ts';
import { rngModel } from './model.ts';

for (const packed of [false, true]) {
  test(`fills what the driver lends with random bytes, through a ${packed ? 'packed' : 'split'} ring`, () => {
    const rig = new VirtioRig({ model: rngModel(), backend: () => new RngBackend(), packed });
    const [queue] = rig.setUp({ wanted: packed ? rig.offered() : undefined });
    assert.equal(rig.offered().includes(F_RING_PACKED), packed);
    const rooms = [queue!.lend(64), queue!.lend(4096)];
    for (const room of rooms) queue!.add([room]);
    rig.kick(0);
    rig.work();
    assert.deepEqual(queue!.used().map(({ written }) => written), [64, 4096]);
    assert.deepEqual(rig.interrupts(), [1], 'one for both');
    assert.notDeepEqual(queue!.get(rooms[0]!), new Uint8Array(64));
    const said = queue!.put(new Uint8Array(8));
    queue!.add([said]);
    queue!.add([queue!.lend(70_000)], true);
    rig.kick(0);
    rig.work();
    assert.deepEqual(queue!.used().map(({ written }) => written), [0, 65_536], 'nothing to write to; more than one request gives');
    rig.close();
  });
}

test('leaves the loop its turns, whatever the driver asks for', () => {
  eagerDriver({ model: rngModel(), backend: () => new RngBackend(), index: 0, buffers: (queue) => [queue.lend(16)] });
});

for (const seed of [1, 2]) {
  test(`outlives a driver that does everything wrong, seed ${seed}`, () => {
    fuzzDevice({
      seed, steps: FUZZ_STEPS, model: rngModel, backend: () => new RngBackend(),
      works: (rig, [queue]) => {
        queue!.add([queue!.lend(32)]);
        rig.kick(0);
        rig.work();
        assert.deepEqual(queue!.used().map(({ written }) => written), [32]);
      },
    });
  });
}
