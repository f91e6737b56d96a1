// The card against a driver's model, with a socket pair in passt's place: the test is the other end.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import fc from 'fast-check';
import { HEADER_BYTES } from '../../net/vnet-header.ts';
import { STATUS_NEEDS_RESET } from '../constants.ts';
import type { BackendHost, DriverSession } from '../backend.ts';
import type { Virtqueue } from '../queue/virtqueue.ts';
import type { DriverQueue, Lent } from '../testing/driver.ts';
import { NetBackend } from './backend.ts';
import * as n from './numbers.ts';
import { closeCards, closeNow, connect, CONTROL, MAC, packetCard, read, RX, streamCard as card, TX, write, type Card } from './testing.ts';

const STATUS = 0x2000 + n.CONFIG_STATUS;
afterEach(closeCards);

const frameOf = (bytes: number, seed = 0): Uint8Array => Uint8Array.from({ length: bytes }, (_, i) => (i < 6 ? MAC[i]! : (i * 7 + seed) & 0xff));
const framed = (...frames: Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(frames.flatMap((frame) => [Uint8Array.of(0, frame.length >>> 16, (frame.length >>> 8) & 0xff, frame.length & 0xff), frame])));

/** Lends `count` buffers of `bytes`. */
function lendTo(queue: DriverQueue, count: number, bytes: number): Map<number, Lent> {
  const lent = new Map<number, Lent>();
  for (let i = 0; i < count; i++) {
    const room = queue.lend(bytes);
    lent.set(queue.add([room]), room);
  }
  return lent;
}

/** The frames that the driver finds, each with its header. */
function arrived(queue: DriverQueue, lent: Map<number, Lent>): { header: Uint8Array; frame: Uint8Array }[] {
  const found: { header: Uint8Array; frame: Uint8Array }[] = [];
  const used = queue.used();
  while (used.length > 0) {
    const parts: Uint8Array[] = [];
    let count = 1;
    for (let i = 0; i < count; i++) {
      const { id, written } = used.shift()!;
      const bytes = queue.get(lent.get(id)!).subarray(0, written);
      if (i === 0) count = bytes[10]! | (bytes[11]! << 8);
      parts.push(bytes);
    }
    const whole = Uint8Array.from(parts.flatMap((part) => [...part]));
    found.push({ header: whole.subarray(0, HEADER_BYTES), frame: whole.subarray(HEADER_BYTES) });
  }
  return found;
}

/** Asks something of the control queue. @returns the answer's byte */
function ask({ rig, queues }: Card, kind: number, command: number, data: readonly number[], index = CONTROL): number {
  const queue = queues[index]!;
  const answer = queue.lend(1);
  queue.add([queue.put(Uint8Array.from([kind, command])), ...(data.length > 0 ? [queue.put(Uint8Array.from(data))] : []), answer]);
  rig.kick(index);
  rig.work(2);
  assert.equal(queue.used().length, 1);
  return queue.get(answer)[0]!;
}

for (const packed of [false, true]) {
  const ring = packed ? 'packed' : 'split';
  test(`frames go both ways through a ${ring} ring, whole and in order`, () => {
    const { rig, queues, far } = card({ packed });
    const [rx, tx] = [queues[RX]!, queues[TX]!];
    const sent = [14, 60, 1514, 9000].map((bytes, i) => frameOf(bytes, i));
    for (const frame of sent) tx.add([tx.put(new Uint8Array(HEADER_BYTES)), tx.put(frame.subarray(0, 10)), tx.put(frame.subarray(10))], true);
    rig.kick(TX);
    rig.work(2);
    assert.deepEqual(read(far), framed(...sent));
    assert.equal(tx.used().length, 4);
    const lent = lendTo(rx, 20, 2000);
    rig.kick(RX);
    rig.work(2);
    rig.interrupts();
    write(far, framed(...sent));
    rig.work(2);
    const frames = arrived(rx, lent);
    assert.deepEqual(frames.map(({ frame }) => frame), sent);
    assert.deepEqual(frames.map(({ header }) => [header[0], header[1], header[10]]), [[2, 0, 1], [2, 0, 1], [2, 0, 1], [2, 0, 5]], 'checksums were looked at; the last one lies in five buffers');
    assert.deepEqual(rig.interrupts(), [RX + 1], 'one interrupt for all of them');
  });
}

test('what is offered over passt: no segments, checksums both ways, a large MTU', () => {
  const { rig } = card();
  const offered = rig.offered();
  for (const feature of [n.VIRTIO_NET_F_CSUM, n.VIRTIO_NET_F_GUEST_CSUM, n.VIRTIO_NET_F_MTU, n.VIRTIO_NET_F_MAC, n.VIRTIO_NET_F_STATUS, n.VIRTIO_NET_F_MRG_RXBUF, n.VIRTIO_NET_F_CTRL_VQ]) assert.ok(offered.includes(feature), String(feature));
  for (const feature of [n.VIRTIO_NET_F_HOST_TSO4, n.VIRTIO_NET_F_GUEST_TSO4, n.VIRTIO_NET_F_MQ, n.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS]) assert.ok(!offered.includes(feature), String(feature));
  assert.deepEqual(Array.from({ length: 6 }, (_, i) => rig.read(0x2000 + i, 1)), MAC);
  assert.deepEqual([rig.read(STATUS, 2), rig.read(0x2000 + n.CONFIG_MAX_PAIRS, 2), rig.read(0x2000 + n.CONFIG_MTU, 2)], [1, 1, 32828]);
});

test('without merged buffers a frame goes into one, or nowhere', () => {
  const { rig, queues, far } = card({ wanted: (offered) => offered.filter((each) => each !== n.VIRTIO_NET_F_MRG_RXBUF && each !== n.VIRTIO_NET_F_GUEST_CSUM) });
  const lent = lendTo(queues[RX]!, 4, 1526);
  rig.kick(RX);
  const frames = [frameOf(1514), frameOf(1515), frameOf(70)];
  write(far, framed(...frames));
  rig.work(4);
  const found = arrived(queues[RX]!, lent);
  assert.deepEqual(found.map(({ frame }) => frame), [frames[0], frames[2]]);
  assert.deepEqual([...found[0]!.header], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], 'nothing was agreed on checksums');
});

test('without buffers the stream waits, and nothing is lost', () => {
  const { rig, queues, far } = card();
  const frames = Array.from({ length: 30 }, (_, i) => frameOf(500 + i, i));
  write(far, framed(...frames));
  rig.work(4);
  assert.equal(queues[RX]!.used().length, 0);
  const lent = new Map<number, Lent>();
  const found: Uint8Array[] = [];
  while (found.length < frames.length) {
    for (const [id, room] of lendTo(queues[RX]!, 3, 300)) lent.set(id, room);
    rig.kick(RX);
    rig.work(2);
    found.push(...arrived(queues[RX]!, lent).map(({ frame }) => frame));
  }
  assert.deepEqual(found, frames);
});

test('a full socket makes the driver\'s frames wait, whole and in order', () => {
  const { rig, queues, far } = card();
  const tx = queues[TX]!;
  const frames: Uint8Array[] = [];
  while (tx.room > 0) {
    const frame = frameOf(32_000, frames.length);
    frames.push(frame);
    tx.add([tx.put(Uint8Array.from([...new Uint8Array(HEADER_BYTES), ...frame]))]);
  }
  rig.kick(TX);
  rig.work(4);
  assert.ok(tx.used().length < frames.length, 'the socket takes less than all');
  const all = framed(...frames);
  const got: Uint8Array[] = [];
  for (let bytes = 0; bytes < all.length; ) {
    const more = read(far);
    assert.ok(more.length > 0, 'it goes on by itself');
    got.push(more);
    bytes += more.length;
    rig.work(4);
  }
  assert.ok(Buffer.concat(got).equals(all));
  tx.used();
  assert.equal(tx.inFlight, 0);
});

/** A block of a Unix stream socket in Linux: 32 KiB and what fits beside its head. */
const BLOCK = 36_544;
const sendAll = (tx: DriverQueue, frames: readonly Uint8Array[]): void => {
  for (const frame of frames) tx.add([tx.put(Uint8Array.from([...new Uint8Array(HEADER_BYTES), ...frame]))]);
};

/**
 * The other end as Debian 12's passt has it (commit 7c7625d, tap_handler_passt): it takes all that is there, waits for the rest of the last frame, and
 * forgets what comes after that when it is four bytes or less.
 */
function forgetful(far: number, work: () => void): Uint8Array[] {
  const frames: Uint8Array[] = [];
  const got = read(far);
  let at = 0;
  while (got.length - at > 4) {
    const bytes = Buffer.from(got).readUInt32BE(at);
    let frame = got.slice(at + 4, at + 4 + bytes);
    at += 4 + bytes;
    for (let tries = 0; frame.length < bytes; tries++) {
      assert.ok(tries < 100, `the rest of a frame of ${bytes} bytes does not come`);
      work();
      frame = Uint8Array.from(Buffer.concat([frame, read(far, bytes - frame.length)]));
    }
    frames.push(frame);
  }
  return frames;
}

/** Sends them, with the socket full now and then; the other end forgets. */
function sendToForgetful(frames: readonly Uint8Array[], lull: (step: number) => boolean): void {
  const { rig, queues, far } = card();
  const tx = queues[TX]!;
  const found: Uint8Array[] = [];
  let next = 0;
  for (let step = 0; found.length < frames.length && step < 50 * frames.length; step++) {
    const from = next;
    for (; next < frames.length && tx.room > 0; next++) sendAll(tx, [frames[next]!]);
    if (next > from) rig.kick(TX);
    rig.work(1);
    if (!lull(step)) found.push(...forgetful(far, () => rig.work(1)));
    tx.used();
  }
  assert.equal(found.length, frames.length);
  for (const [i, frame] of found.entries()) assert.ok(Buffer.from(frame).equals(frames[i]!), `frame ${i}`);
}

test('no length is cut where an old passt forgets it, whatever the sizes and however full the socket', () => {
  // Eight of the others fill a block: with the first two bytes shorter, each block would end in a length.
  const record = BLOCK / 8;
  sendToForgetful(Array.from({ length: 128 }, (_, i) => frameOf(record - 4 - (i === 0 ? 2 : 0), i)), (step) => step % 4 !== 3);
  const size = fc.oneof(fc.integer({ min: 14, max: 200 }), fc.integer({ min: record - 8, max: record - 4 }), fc.integer({ min: BLOCK - 12, max: BLOCK }), fc.integer({ min: 32_700, max: 32_800 }), fc.constant(65_535));
  fc.assert(fc.property(fc.array(size, { minLength: 20, maxLength: 60 }), fc.integer({ min: 1, max: 8 }), (sizes, rare) => {
    sendToForgetful(sizes.map((bytes, i) => frameOf(bytes, i)), (step) => step % rare !== 0);
    closeCards();
  }), { numRuns: process.env['VITRINE_LONG'] === '1' ? 1000 : 10 });
});

test('several frames go in one call where a block of the socket holds them, a longer one goes alone', () => {
  const { rig, queues } = card();
  const far = connect(rig, 'packets');
  const sizes = [9000, 9000, 9000, 9000, 60, 32_764, 14, 65_535, 14, ...Array.from({ length: 20 }, () => 1500)];
  sendAll(queues[TX]!, sizes.map((bytes, i) => frameOf(bytes, i)));
  rig.kick(TX);
  const calls: Uint8Array[] = [];
  for (let more = read(far); more.length > 0 || calls.length === 0; more = read(far)) {
    if (more.length > 0) calls.push(more);
    rig.work(1);
  }
  assert.ok(Buffer.concat(calls).equals(framed(...sizes.map((bytes, i) => frameOf(bytes, i)))));
  assert.deepEqual(calls.map((each) => each.length), [3 * 9004, 9004 + 64, 32_768, 18, 65_539, 18 + 20 * 1504]);
});

for (const [packed, pulled] of [[false, false], [false, true], [true, false], [true, true]]) {
  test(`a frame that is refused while others wait goes back in its turn (${packed ? 'packed' : 'split'} ring${pulled ? ', the cable pulled meanwhile' : ''})`, () => {
    const { rig, queues, far } = card({ packed });
    const tx = queues[TX]!;
    const frames = Array.from({ length: 32 }, (_, i) => frameOf(9000, i));
    const ids = frames.flatMap((frame) => [tx.add([tx.put(Uint8Array.from([...new Uint8Array(HEADER_BYTES), ...frame]))]), tx.add([tx.put(new Uint8Array(5))])]);
    rig.kick(TX);
    rig.work(4);
    const done = tx.used().map(({ id }) => id);
    assert.ok(done.length > 0 && done.length < ids.length, 'some wait');
    // What waits is given back to the ring then, and goes nowhere.
    if (pulled) for (const up of [false, true]) rig.runner.mail({ kind: 'link', up });
    const parts: Uint8Array[] = [];
    for (let more = read(far); more.length > 0; more = read(far)) {
      parts.push(more);
      rig.work(4);
      done.push(...tx.used().map(({ id }) => id));
    }
    assert.deepEqual(done, ids, 'each once, in the order in which they came');
    if (!pulled) assert.ok(Buffer.concat(parts).equals(framed(...frames)));
  });
}

for (const packed of [false, true]) {
  test(`a buffer that is refused while others are held goes back in its turn (${packed ? 'packed' : 'split'} ring)`, () => {
    for (const [make, header] of [[card, 0], [packetCard, HEADER_BYTES]] as const) {
      const { rig, queues, far } = make({ packed });
      const rx = queues[RX]!;
      const arrive = (frame: Uint8Array): void => {
        write(far, header === 0 ? framed(frame) : Uint8Array.from([...new Uint8Array(header), ...frame]));
        rig.work(4);
      };
      const lent = lendTo(rx, 1, 900);
      const bad = rx.add([rx.put(new Uint8Array(5))]); // nothing of it may be written
      rig.kick(RX);
      if (make === card) arrive(frameOf(2000)); // needs more than one, where room is looked for with a frame
      rig.work(2);
      rig.runner.mail({ kind: 'link', up: false });
      rig.runner.mail({ kind: 'link', up: true });
      rig.work(2);
      assert.deepEqual(rx.used(), [], 'the first is held or given back, the second has not been refused before it');
      arrive(frameOf(300));
      const [first, ...others] = rx.used();
      assert.deepEqual([first!.written, rx.get(lent.get(first!.id)!).slice(HEADER_BYTES, first!.written)], [HEADER_BYTES + 300, frameOf(300)]);
      for (const [id, room] of lendTo(rx, 2, 1600)) lent.set(id, room);
      rig.kick(RX);
      rig.work(2);
      arrive(frameOf(400));
      const done = [...others, ...rx.used()];
      assert.deepEqual(done.map(({ written }) => written), [0, HEADER_BYTES + 400]);
      assert.equal(done[0]!.id, bad);
      assert.equal(rig.status & STATUS_NEEDS_RESET, 0);
    }
  });
}

test('a driver that asks faster than it is answered does not keep the Worker', () => {
  // Without end: whatever is done, there is more.
  let taken = 0;
  const none = { bytes: 0, read: () => 0, write: () => 0 };
  const queue = { index: CONTROL, take: () => ({ id: taken++, slots: 1, readable: none, writable: none }), complete: () => {} } as unknown as Virtqueue;
  const driver: DriverSession = { has: () => false, queue: (index) => (index === CONTROL ? queue : undefined), completed: () => {}, interrupt: () => {} };
  const later: (() => void)[] = [];
  const bytes = new Uint8Array(n.CONFIG_BYTES);
  const host = {
    loop: { after: (_: number, act: () => void) => (later.push(act), { cancel: () => {} }) }, offer: () => {}, log: () => {},
    config: { bytes, view: new DataView(bytes.buffer), update: () => {} },
  } as unknown as BackendHost;
  const backend = new NetBackend(host, { kind: 'virtio-net', rings: 'split', linkUp: true, backend: { kind: 'none' } }, { kind: 'none' });
  backend.start(driver);
  backend.kicked(CONTROL);
  assert.deepEqual([taken, later.length], [128, 1]);
  later.shift()!();
  assert.deepEqual([taken, later.length], [256, 1], 'the rest has its turn');
  backend.quiesce(() => {});
  later.shift()!();
  assert.deepEqual([taken, later.length], [256, 0], 'not while the device stands still');
});

test('a reset in the middle of a frame, either way, loses frames but not the place in the stream', () => {
  const { rig, queues, far } = card();
  const tx = queues[TX]!;
  for (let i = 0; i < 30; i++) tx.add([tx.put(Uint8Array.from([...new Uint8Array(HEADER_BYTES), ...frameOf(31_000, i)]))]);
  rig.kick(TX);
  lendTo(queues[RX]!, 4, 1000);
  rig.kick(RX);
  rig.work(4);
  write(far, framed(frameOf(2000)).subarray(0, 900));
  rig.work(4);
  rig.resetDevice();
  write(far, framed(frameOf(2000)).subarray(900));
  write(far, framed(frameOf(100, 9)));
  rig.work(4);
  const parts: Uint8Array[] = [];
  for (let more = read(far); more.length > 0; more = read(far)) {
    parts.push(more);
    rig.work(4);
  }
  const got = Uint8Array.from(Buffer.concat(parts));
  const view = new DataView(got.buffer);
  let at = 0;
  for (let i = 0; at < got.length; i++) {
    assert.equal(view.getUint32(at), 31_000);
    assert.deepEqual(got.slice(at + 4, at + 31_004), frameOf(31_000, i));
    at += 31_004;
  }
  assert.equal(at, got.length, 'the last frame is whole');
  const [rx] = rig.setUp();
  const lent = lendTo(rx!, 4, 1000);
  rig.kick(RX);
  write(far, framed(frameOf(200, 3)));
  rig.work(4);
  assert.deepEqual(arrived(rx!, lent).map(({ frame }) => frame), [frameOf(200, 3)]);
});

test('the cable: pulled and put in again from outside, and no network when the other end goes', () => {
  const { rig, queues, far } = card();
  const lent = lendTo(queues[RX]!, 8, 1000);
  rig.kick(RX);
  assert.deepEqual(rig.runner.mail({ kind: 'link', up: false }), { link: false });
  rig.work(2);
  assert.equal(rig.read(STATUS, 2), 0);
  assert.deepEqual(rig.interrupts(), [0], 'the configuration\'s');
  queues[TX]!.add([queues[TX]!.put(Uint8Array.from([...new Uint8Array(HEADER_BYTES), ...frameOf(60)]))]);
  rig.kick(TX);
  write(far, framed(frameOf(80)));
  rig.work(2);
  assert.deepEqual([queues[TX]!.used().length, queues[RX]!.used().length, read(far).length], [1, 0, 0], 'frames go nowhere');
  assert.deepEqual(rig.runner.mail({ kind: 'link', up: true }), { link: true });
  write(far, framed(frameOf(90)));
  rig.work(4);
  assert.deepEqual(arrived(queues[RX]!, lent).map(({ frame }) => frame.length), [90]);
  assert.equal(rig.read(STATUS, 2), 1);
  rig.interrupts();
  closeNow(far);
  rig.work(2);
  assert.equal(rig.read(STATUS, 2), 0);
  assert.ok(rig.interrupts().includes(0));
  queues[TX]!.add([queues[TX]!.put(Uint8Array.from([...new Uint8Array(HEADER_BYTES), ...frameOf(60)]))]);
  rig.kick(TX);
  rig.work(2);
  assert.equal(queues[TX]!.used().length, 1);
  const again = connect(rig);
  rig.work(2);
  write(again, framed(frameOf(100)));
  rig.work(4);
  assert.deepEqual(arrived(queues[RX]!, lent).map(({ frame }) => frame.length), [100]);
});

test('the control queue: what is known and negotiated is done, all else refused', () => {
  const one = card();
  const OK = n.VIRTIO_NET_OK;
  const ERR = n.VIRTIO_NET_ERR;
  assert.equal(ask(one, n.VIRTIO_NET_CTRL_RX, n.VIRTIO_NET_CTRL_RX_PROMISC, [1]), OK);
  assert.equal(ask(one, n.VIRTIO_NET_CTRL_RX, n.VIRTIO_NET_CTRL_RX_NOBCAST, [1]), OK);
  assert.equal(ask(one, n.VIRTIO_NET_CTRL_RX, 6, [1]), ERR);
  assert.equal(ask(one, n.VIRTIO_NET_CTRL_RX, n.VIRTIO_NET_CTRL_RX_PROMISC, []), ERR);
  assert.equal(ask(one, n.VIRTIO_NET_CTRL_MAC, n.VIRTIO_NET_CTRL_MAC_TABLE_SET, [1, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0]), OK);
  assert.equal(ask(one, n.VIRTIO_NET_CTRL_MAC, n.VIRTIO_NET_CTRL_MAC_TABLE_SET, [0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0]), ERR);
  assert.equal(ask(one, n.VIRTIO_NET_CTRL_MAC, n.VIRTIO_NET_CTRL_MAC_ADDR_SET, [2, 0, 0, 0, 0, 1]), OK);
  assert.equal(ask(one, n.VIRTIO_NET_CTRL_MAC, n.VIRTIO_NET_CTRL_MAC_ADDR_SET, [3, 0, 0, 0, 0, 1]), ERR);
  assert.equal(ask(one, n.VIRTIO_NET_CTRL_VLAN, n.VIRTIO_NET_CTRL_VLAN_ADD, [1, 0]), ERR, 'not offered over passt');
  assert.equal(ask(one, n.VIRTIO_NET_CTRL_MQ, n.VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, [1, 0]), ERR);
  assert.equal(ask(one, n.VIRTIO_NET_CTRL_GUEST_OFFLOADS, n.VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, [0, 0, 0, 0, 0, 0, 0, 0]), ERR);
  assert.equal(ask(one, 77, 0, [1]), ERR);
  const { queues, rig } = one;
  const answer = queues[CONTROL]!.lend(1);
  queues[CONTROL]!.add([queues[CONTROL]!.put(Uint8Array.from([0])), answer]);
  rig.kick(CONTROL);
  rig.work(2);
  assert.equal(queues[CONTROL]!.get(answer)[0], ERR, 'half a header');
});

test('frames that no driver may send are thrown away, one line is said, and the others go', () => {
  const { rig, queues, far } = card();
  const tx = queues[TX]!;
  const send = (bytes: Uint8Array): void => void tx.add([tx.put(bytes)]);
  const header = (fields: Record<number, number>): number[] => Array.from({ length: HEADER_BYTES }, (_, i) => fields[i] ?? 0);
  send(new Uint8Array(5));
  send(new Uint8Array(HEADER_BYTES + 13));
  send(Uint8Array.from([...header({ 0: 1, 6: 0xff, 7: 0xff }), ...frameOf(100)]));
  send(Uint8Array.from([...header({ 1: 1, 4: 100 }), ...frameOf(100)]));
  tx.add([tx.put(new Uint8Array(HEADER_BYTES)), { address: 0x1000, length: 65_536 }]);
  send(Uint8Array.from([...header({ 0: 1, 6: 34, 8: 16 }), ...frameOf(100)]));
  rig.kick(TX);
  rig.work(4);
  assert.equal(tx.used().length, 6);
  assert.deepEqual(read(far), framed(frameOf(100)));
  assert.equal(rig.status & STATUS_NEEDS_RESET, 0);
  assert.equal(rig.platform.logged.filter((line) => /cannot be carried/.test(line)).length, 1);
});

test('a driver that breaks a queue is not served any more, and the loop stands still', () => {
  const { rig, queues, far } = card();
  const rx = queues[RX]!;
  rx.add([{ address: 2 ** 40, length: 4096, writable: true }]);
  rig.kick(RX);
  write(far, framed(frameOf(100)));
  rig.work(4);
  assert.equal(rig.status & STATUS_NEEDS_RESET, STATUS_NEEDS_RESET);
  const began = rig.platform.logged.length;
  write(far, framed(frameOf(100)));
  rig.work(4);
  assert.equal(rig.platform.logged.length, began);
  rig.resetDevice();
  const [again] = rig.setUp();
  const lent = lendTo(again!, 2, 1000);
  rig.kick(RX);
  write(far, framed(frameOf(120)));
  rig.work(4);
  assert.deepEqual(arrived(again!, lent).map(({ frame }) => frame.length), [120]);
});

test('whatever sizes come and are lent, cut anywhere, the frames are those that were sent', () => {
  fc.assert(fc.property(
    fc.array(fc.integer({ min: 14, max: 5000 }), { minLength: 1, maxLength: 12 }), fc.array(fc.integer({ min: 100, max: 4000 }), { minLength: 1, maxLength: 6 }),
    fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 500, max: 9000 })), { minLength: 4, maxLength: 10 }), fc.boolean(),
    (sizes, rooms, cuts, packed) => {
      const { rig, queues, far } = card({ packed });
      const rx = queues[RX]!;
      const lent = new Map<number, Lent>();
      const frames = sizes.map((bytes, i) => frameOf(bytes, i));
      const stream = framed(...frames);
      const found: Uint8Array[] = [];
      let at = 0;
      for (let step = 0; found.length < frames.length && (at < stream.length || step < stream.length); step++) {
        if (at < stream.length) at += write(far, stream.subarray(at, at + cuts[step % cuts.length]!));
        for (let i = 0; i < 4 && rx.room > 8; i++) {
          const room = rx.lend(HEADER_BYTES + rooms[(step + i) % rooms.length]!);
          lent.set(rx.add([room]), room);
        }
        rig.kick(RX);
        rig.work(2);
        found.push(...arrived(rx, lent).map(({ frame }) => frame));
      }
      assert.deepEqual(found, frames);
      closeCards();
    },
  ), { numRuns: process.env['VITRINE_LONG'] === '1' ? 2000 : 60 });
});

test('frames with their headers go both ways where they are kept apart, and only those that the driver wants', () => {
  const { rig, queues, far } = packetCard();
  const [rx, tx] = [queues[RX]!, queues[TX]!];
  const header = Uint8Array.from([1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0]);
  const frames = [60, 1514].map((bytes, i) => frameOf(bytes, i));
  for (const frame of frames) tx.add([tx.put(header), tx.put(frame)]);
  tx.add([tx.put(Uint8Array.from([1, 1, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0])), tx.put(frameOf(3000))]); // segments of no bytes
  rig.kick(TX);
  rig.work(2);
  for (const frame of frames) assert.deepEqual(read(far), Uint8Array.from([...header, ...frame]));
  assert.deepEqual([read(far).length, tx.used().length], [0, 3]);
  const lent = lendTo(rx, 6, 900);
  rig.kick(RX);
  const other = Uint8Array.from([0x52, 0x54, 0, 9, 9, 9, ...frameOf(100).subarray(6)]);
  const broadcast = Uint8Array.from([255, 255, 255, 255, 255, 255, ...frameOf(100).subarray(6)]);
  for (const frame of [frames[1]!, other, broadcast, frames[0]!]) write(far, Uint8Array.from([...header, ...frame]));
  rig.work(4);
  const found = arrived(rx, lent);
  assert.deepEqual(found.map(({ frame }) => frame), [frames[1], broadcast, frames[0]]);
  assert.deepEqual(found.map(({ header: [flags, , , , , , start, , , , buffers] }) => [flags, start, buffers]), [[1, 34, 2], [1, 34, 1], [1, 34, 1]]);
});

test('a frame waits where it is until the driver has lent room for the longest that may come', () => {
  const { rig, queues, far } = packetCard();
  const rx = queues[RX]!;
  const lent = lendTo(rx, 1, 900);
  rig.kick(RX);
  write(far, Uint8Array.from([...new Uint8Array(HEADER_BYTES), ...frameOf(500)]));
  rig.work(4);
  assert.equal(rx.used().length, 0);
  for (const [id, room] of lendTo(rx, 1, 900)) lent.set(id, room);
  rig.kick(RX);
  rig.work(4);
  assert.deepEqual(arrived(rx, lent).map(({ frame }) => frame.length), [500]);
});

test('a cable that is put in again brings nothing that is stale', () => {
  const { rig, queues, far } = packetCard();
  const rx = queues[RX]!;
  const lent = lendTo(rx, 4, 1600);
  rig.kick(RX);
  rig.runner.mail({ kind: 'link', up: false });
  write(far, Uint8Array.from([...new Uint8Array(HEADER_BYTES), ...frameOf(500)]));
  rig.work(4);
  rig.runner.mail({ kind: 'link', up: true });
  write(far, Uint8Array.from([...new Uint8Array(HEADER_BYTES), ...frameOf(600)]));
  rig.work(4);
  assert.deepEqual(arrived(rx, lent).map(({ frame }) => frame.length), [600]);
});

test('VLANs and tables of addresses choose what comes', () => {
  const one = packetCard();
  const { rig, queues, far } = one;
  const rx = queues[RX]!;
  const lent = lendTo(rx, 20, 1600);
  rig.kick(RX);
  const tagged = (id: number): Uint8Array => Uint8Array.from([...MAC, ...MAC, 0x81, 0, id >>> 8, id & 0xff, ...new Uint8Array(60)]);
  const to = (...mac: number[]): Uint8Array => Uint8Array.from([...mac, ...MAC, 8, 0, ...new Uint8Array(60)]);
  const group = to(1, 0, 0x5e, 0, 0, 1);
  const arrive = (...frames: Uint8Array[]): boolean[] => {
    for (const frame of frames) write(far, Uint8Array.from([...new Uint8Array(HEADER_BYTES), ...frame]));
    rig.work(4);
    const found = arrived(rx, lent).map(({ frame }) => Buffer.from(frame).toString('hex'));
    for (const [id, room] of lendTo(rx, found.length, 1600)) lent.set(id, room);
    rig.kick(RX);
    return frames.map((frame) => found.includes(Buffer.from(frame).toString('hex')));
  };
  assert.deepEqual(arrive(tagged(5), tagged(6), group), [false, false, true]);
  ask(one, n.VIRTIO_NET_CTRL_VLAN, n.VIRTIO_NET_CTRL_VLAN_ADD, [5, 0]);
  assert.deepEqual(arrive(tagged(5), tagged(6)), [true, false]);
  ask(one, n.VIRTIO_NET_CTRL_VLAN, n.VIRTIO_NET_CTRL_VLAN_DEL, [5, 0]);
  assert.deepEqual(arrive(tagged(5)), [false]);
  ask(one, n.VIRTIO_NET_CTRL_MAC, n.VIRTIO_NET_CTRL_MAC_TABLE_SET, [1, 0, 0, 0, 2, 0, 0, 0, 0, 9, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 2]);
  assert.deepEqual(arrive(to(2, 0, 0, 0, 0, 9), to(2, 0, 0, 0, 0, 8), group, to(1, 0, 0x5e, 0, 0, 2), to(...MAC)), [true, false, false, true, true]);
  ask(one, n.VIRTIO_NET_CTRL_RX, n.VIRTIO_NET_CTRL_RX_ALLMULTI, [1]);
  assert.deepEqual(arrive(group), [true]);
  ask(one, n.VIRTIO_NET_CTRL_MAC, n.VIRTIO_NET_CTRL_MAC_ADDR_SET, [2, 0, 0, 0, 0, 8]);
  assert.deepEqual(arrive(to(2, 0, 0, 0, 0, 8), to(...MAC)), [true, false]);
  ask(one, n.VIRTIO_NET_CTRL_RX, n.VIRTIO_NET_CTRL_RX_PROMISC, [1]);
  assert.deepEqual(arrive(to(2, 0, 0, 7, 7, 7)), [true]);
});
