// A driver that is as quick as the device: a chain that the device gives back is available again at once, as from another processor that does nothing else.
// The device must leave its loop in between, so that a pause is heard, and do nothing while it is paused.
import assert from 'node:assert/strict';
import type { Backend, BackendHost, DriverSession } from '../backend.ts';
import type { VirtioModel } from '../model.ts';
import { PORTION } from '../queue/allowance.ts';
import type { DriverQueue, Lent } from './driver.ts';
import { VirtioRig } from './rig.ts';

export interface EagerOptions {
  readonly model: VirtioModel;
  readonly backend: (host: BackendHost) => Backend;
  /** The queue in question. */
  readonly index: number;
  /** What a chain is made of. */
  readonly buffers: (queue: DriverQueue) => Lent[];
  /** With the device set up, before the first chain. */
  readonly ready?: (rig: VirtioRig, queues: DriverQueue[]) => void;
}

/** A device that never leaves its loop is given up upon. */
const FOR_EVER = 100 * PORTION;

export function eagerDriver({ model, backend, index, buffers, ready }: EagerOptions): void {
  let given = 0;
  let again = (): void => {};
  const watched = (inner: Backend): Backend => {
    const start = inner.start.bind(inner);
    inner.start = (driver: DriverSession): void => {
      const queue = driver.queue(index)!;
      const complete = queue.complete.bind(queue);
      queue.complete = (chain, written) => {
        complete(chain, written);
        given++;
        if (given < FOR_EVER) again();
      };
      start(driver);
    };
    return inner;
  };
  const rig = new VirtioRig({ model, backend: (host) => watched(backend(host)) });
  const queues = rig.setUp();
  const queue = queues[index]!;
  ready?.(rig, queues);
  const chain = buffers(queue);
  again = () => {
    queue.used();
    queue.add(chain);
  };
  again();
  again();
  rig.kick(index);
  for (let turn = 1; turn <= 3; turn++) {
    const before = given;
    rig.loop.turn(0);
    // What is put off may come in the same turn, once.
    assert.ok(given > before && given - before <= 2 * PORTION, `${given - before} chains in turn ${turn}`);
  }
  rig.runner.device.pause();
  rig.work();
  const paused = given;
  rig.work();
  assert.equal(given, paused, 'nothing while it is paused');
  rig.runner.device.resume();
  rig.work();
  assert.ok(given > paused, 'it goes on by itself');
  assert.ok(given < FOR_EVER);
  rig.resetDevice();
  rig.close();
}
