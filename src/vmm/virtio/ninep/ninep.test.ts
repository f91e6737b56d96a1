import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { VitrineError } from '../../../shared/errors.ts';
import { TREADDIR } from '../../ninep/protocol.ts';
import { bytesOf, Client, latin1, Refused } from '../../ninep/testing.ts';
import type { Bytes } from '../../ninep/bytes.ts';
import { F_RING_PACKED, STATUS_NEEDS_RESET } from '../constants.ts';
import type { DriverQueue, Lent } from '../testing/driver.ts';
import { VirtioRig } from '../testing/rig.ts';
import { NinepBackend } from './backend.ts';
import { F_9P_MOUNT_TAG, ninepModel } from './model.ts';

const EBADF = os.constants.errno.EBADF;
const STEPS = process.env['VITRINE_LONG'] === '1' ? 300_000 : 8000;
const SIZE = 64 * 1024;
const DEVICE_CONFIG = 0x2000;

let folder: string;
let rig: VirtioRig;
let queue: DriverQueue;

beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-virtio-9p-'));
});

afterEach(() => {
  rig.close();
  fs.rmSync(folder, { recursive: true, force: true });
});

function begin(packed = false): void {
  rig = new VirtioRig({ model: ninepModel('work'), backend: () => new NinepBackend({ folder, readonly: false }), packed });
  queue = rig.setUp({ size: 128, wanted: packed ? rig.offered() : undefined })[0]!;
}

/** A way to the server: a request through the queue, in chains of several buffers. */
function viaQueue(): { answer(readable: Bytes, writable: Bytes): number } {
  const [out, room] = [queue.lend(SIZE), queue.lend(2 * SIZE)];
  return {
    answer(readable, writable) {
      const request = new Uint8Array(readable.bytes);
      readable.read(0, request);
      rig.ram.write(out.address, request);
      const half = Math.floor(request.length / 2);
      const bytes = Math.min(writable.bytes, 2 * SIZE);
      const parts: Lent[] = [
        { address: out.address, length: half }, { address: out.address + half, length: request.length - half },
        { address: room.address, length: 11, writable: true }, { address: room.address + 11, length: bytes - 11, writable: true },
      ];
      const id = queue.add(parts.filter(({ length }) => length > 0));
      rig.kick(0);
      rig.work(1);
      const [done, ...more] = queue.used();
      assert.deepEqual([done?.id, more], [id, []]);
      writable.write(0, rig.ram.read(room.address, done!.written)!);
      return done!.written;
    },
  };
}

for (const packed of [false, true]) {
  test(`shares a folder through a ${packed ? 'packed' : 'split'} ring`, () => {
    begin(packed);
    assert.ok(rig.offered().includes(F_9P_MOUNT_TAG));
    assert.equal(rig.offered().includes(F_RING_PACKED), packed);
    const tag = Array.from({ length: rig.read(DEVICE_CONFIG, 2) }, (_, i) => rig.read(DEVICE_CONFIG + 2 + i, 1));
    assert.equal(String.fromCharCode(...tag), 'work');
    fs.writeFileSync(path.join(folder, 'here'), 'from the host');
    const client = new Client(viaQueue());
    client.version(SIZE);
    const root = client.attach();
    assert.equal(latin1(client.read(client.open(client.walk(root, 'here')), 0, 100)), 'from the host');
    const data = Uint8Array.from({ length: 40_000 }, (_, i) => i % 251);
    const made = client.create(root, 'there');
    assert.equal(client.write(made, 0, data), data.length);
    assert.deepEqual(new Uint8Array(fs.readFileSync(path.join(folder, 'there'))), data);
    assert.deepEqual(client.read(made, 0, 50_000), data);
    assert.deepEqual(client.entries(client.open(client.walk(root))).map(({ name }) => name).toSorted(), ['.', '..', 'here', 'there']);
  });
}

test('a driver that begins again finds none of the fids of the one before', () => {
  begin();
  const client = new Client(viaQueue());
  client.version(SIZE);
  const root = client.attach();
  rig.resetDevice();
  queue = rig.setUp({ size: 128 })[0]!;
  const again = new Client(viaQueue());
  again.version(SIZE);
  assert.throws(() => again.attributes(root), (error) => error instanceof Refused && error.errno === EBADF);
  again.attach();
});

test('answers many requests that are in the queue at once, in order, with one interrupt', () => {
  begin();
  const client = new Client(viaQueue());
  client.version(SIZE);
  const root = client.attach();
  rig.interrupts();
  const rooms: Lent[] = [];
  for (let i = 0; i < 60; i++) {
    rooms.push(queue.lend(200));
    queue.add([queue.put(client.message(72, [{ u32: root }, { s: `d${i}` }, { u32: 0o755 }, { u32: 0 }], i)), rooms.at(-1)!]);
  }
  rig.kick(0);
  rig.work();
  assert.deepEqual(queue.used().map(({ written }) => written), rooms.map(() => 20));
  rooms.forEach((room, i) => assert.equal(queue.get(room)[5], i));
  assert.deepEqual(rig.interrupts(), [1]);
  assert.equal(fs.readdirSync(folder).length, 60);
});

test('gives back what holds no request, or has no room for an answer', () => {
  begin();
  const client = new Client(viaQueue());
  client.version(SIZE);
  const root = client.attach();
  const message = queue.put(client.message(24, [{ u32: root }, { u64: 0 }]));
  const room = queue.lend(100);
  for (const chain of [[message], [room], [message, queue.lend(10)], [queue.put(new Uint8Array(3)), room], [queue.put(bytesOf('\xff'.repeat(50))), room]]) queue.add(chain);
  rig.kick(0);
  rig.work();
  assert.deepEqual(queue.used().map(({ written }) => written), [0, 0, 0, 0, 11]);
  assert.equal(rig.status & STATUS_NEEDS_RESET, 0);
  assert.equal(client.attributes(root).qid.type, 0x80);
});

test('a queue of requests that never ends does not keep the device from being reset', () => {
  begin();
  const client = new Client(viaQueue());
  client.version(SIZE);
  const root = client.attach();
  client.open(root);
  const message = queue.put(client.message(TREADDIR, [{ u32: root }, { u64: 0 }, { u32: 4096 }]));
  const room = queue.lend(8192);
  for (let i = 0; i < 64; i++) queue.add([message, room]);
  rig.kick(0);
  rig.resetDevice();
  queue = rig.setUp({ size: 128 })[0]!;
  new Client(viaQueue()).version(SIZE);
});

test('a folder that is not there is an error with words', () => {
  begin();
  assert.throws(() => new VirtioRig({ model: ninepModel('x'), backend: () => new NinepBackend({ folder: path.join(folder, 'none'), readonly: false }) }), VitrineError);
});

test('a guest that puts anything into the queue breaks its own device at most', { timeout: 3_600_000 }, () => {
  begin();
  let state = (Date.now() | 1) >>> 0;
  const seed = state;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const area = queue.lend(1 << 20).address;
  let resets = 0; // each waits a tenth of a second for a Worker that is this very thread, so they are few
  const client = new Client({ answer: () => 0 });
  const types = [8, 12, 14, 22, 24, 40, 50, 72, 76, 100, 104, 110, 116, 118, 120];
  for (let i = 0; i < STEPS; i++) {
    const body = Uint8Array.from({ length: random(60) }, () => (random(3) === 0 ? random(256) : random(3)));
    const message = client.message(types[random(types.length)]!, [{ raw: body }], random(4));
    rig.ram.write(area + random(1 << 16), message);
    const parts = Array.from({ length: 1 + random(5) }, (_, n) => ({
      address: random(4000) === 0 ? random(2 ** 32) : area + (n === 0 ? 0 : random(1 << 19)),
      length: random(4000) === 0 ? random(2 ** 32) : 1 + random(300),
      writable: n > 0 && random(3) > 0,
    }));
    // Room before what is said is against the rules.
    if (random(1000) > 0) parts.sort((a, b) => Number(a.writable) - Number(b.writable));
    if (parts.length <= queue.room) queue.add(parts);
    rig.ram.write(area, message);
    if (random(1000) === 0) queue.view.setUint16(queue.areas[1] + 2, random(2 ** 16), true); // an index that jumps
    if (random(10) > 0) rig.kick(0);
    rig.work(1);
    try {
      queue.used();
    } catch {
      // what the driver has broken comes back as it pleases
    }
    if ((rig.status & STATUS_NEEDS_RESET) !== 0 || queue.room < 6 || random(1000) === 0) {
      rig.resetDevice();
      // Rings of a new driver lie where the old one's were: RAM is not endless.
      rig.rewind(area + (1 << 20));
      queue = rig.setUp({ size: 128 })[0]!;
      resets++;
    }
  }
  assert.ok(resets > 0, `seed ${seed}`);
  rig.resetDevice();
  queue = rig.setUp({ size: 128 })[0]!;
  const after = new Client(viaQueue());
  after.version(SIZE);
  fs.chmodSync(folder, 0o700);
  after.clunk(after.create(after.attach(), 'after'));
});
