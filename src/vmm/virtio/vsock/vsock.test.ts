import assert from 'node:assert/strict';
import { test } from 'node:test';
import { signalEventfd, SystemError } from '../../kvm/libc.ts';
import * as c from '../constants.ts';
import { Chance, FUZZ_STEPS, fuzzDevice } from '../testing/fuzz.ts';
import { VirtioRig } from '../testing/rig.ts';
import { VsockBackend, type Vhost } from './backend.ts';
import { F_SEQPACKET, vsockModel } from './model.ts';

type Started = Parameters<Vhost['start']>;

/** Notes what it is told; refuses queues when told to. */
class FakeVhost implements Vhost {
  /** Version 1, indirect descriptors and event index, and what the device does not offer: packed rings. */
  readonly features: readonly [number, number] = [(1 << c.F_RING_INDIRECT_DESC) | (1 << c.F_RING_EVENT_IDX) | (1 << F_SEQPACKET), 0b101];
  readonly said: string[] = [];
  started: Started | undefined;
  refuses = false;
  running = false;

  start(...started: Started): void {
    if (this.refuses) throw new SystemError('vhost request 11', 14);
    assert.ok(!this.running, 'rings change only while it stands');
    this.started = started;
    this.said.push('start');
    this.running = true;
  }
  run(on: boolean): void {
    this.said.push(on ? 'on' : 'off');
    this.running = on;
  }
  close(): void {
    this.said.push('close');
  }
}

const CID = 1234;

function vsock(vhost: FakeVhost): VirtioRig {
  return new VirtioRig({ model: vsockModel(CID), backend: (host) => new VsockBackend(host, CID, vhost), packed: true });
}

test('offers what the kernel can, and has it serve the rings where the driver put them', () => {
  const vhost = new FakeVhost();
  const rig = vsock(vhost);
  assert.equal(rig.read(0x2000, 4), CID);
  assert.deepEqual(rig.offered(), [F_SEQPACKET, c.F_RING_INDIRECT_DESC, c.F_RING_EVENT_IDX, c.F_VERSION_1]);
  const queues = rig.setUp({ size: 32 });
  const [, features, served] = vhost.started!;
  assert.deepEqual(features, [(1 << c.F_RING_INDIRECT_DESC) | (1 << c.F_RING_EVENT_IDX) | (1 << F_SEQPACKET), 1]);
  assert.deepEqual(served.map(({ place }) => [place.size, place.descriptors, place.driver, place.device]), [0, 1].map((index) => [32, ...queues[index]!.areas]));
  signalEventfd(served[1]!.call);
  rig.work();
  assert.deepEqual(rig.interrupts(), [2]);
  rig.runner.device.pause();
  rig.work();
  assert.ok(!vhost.running);
  rig.runner.device.resume();
  rig.work();
  assert.ok(vhost.running);
  rig.resetDevice();
  signalEventfd(served[0]!.call);
  rig.work();
  assert.deepEqual(rig.interrupts(), [], 'there is no driver');
  rig.setUp();
  assert.deepEqual(vhost.said, ['start', 'off', 'on', 'off', 'start']);
  rig.close();
  assert.deepEqual(vhost.said.slice(-2), ['off', 'close']);
});

test('asks for a reset when the kernel refuses the queues, or finds nonsense in them', () => {
  const vhost = new FakeVhost();
  const rig = vsock(vhost);
  vhost.refuses = true;
  rig.setUp();
  assert.ok(rig.status & c.STATUS_NEEDS_RESET);
  vhost.refuses = false;
  rig.resetDevice();
  rig.setUp();
  assert.equal(rig.status & c.STATUS_NEEDS_RESET, 0);
  signalEventfd(vhost.started![2][0]!.error);
  rig.work();
  assert.ok(rig.status & c.STATUS_NEEDS_RESET);
  rig.close();
});

test('waits for a driver that gives one of the queues later', () => {
  const vhost = new FakeVhost();
  const rig = vsock(vhost);
  rig.setUp({ queues: [0] });
  assert.equal(vhost.started, undefined);
  rig.enable(1, 16, [c.F_VERSION_1]);
  rig.work();
  assert.deepEqual(vhost.said, ['start']);
  rig.close();
});

test('outlives a driver that does everything wrong', () => {
  const vhost = new FakeVhost();
  const chance = new Chance(9);
  fuzzDevice({
    seed: 4, steps: FUZZ_STEPS, model: () => vsockModel(CID), backend: (host) => new VsockBackend(host, CID, vhost),
    mail: () => {
      vhost.refuses = chance.below(10) === 0;
      if (vhost.started !== undefined) signalEventfd(vhost.started[2][chance.below(2)]![chance.pick(['call', 'error'] as const)]);
    },
    works: (rig) => assert.equal(rig.status & c.STATUS_NEEDS_RESET, vhost.refuses ? c.STATUS_NEEDS_RESET : 0),
  });
});
