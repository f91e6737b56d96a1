import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { BackendHost } from '../backend.ts';
import type { DriverQueue, Lent } from '../testing/driver.ts';
import { eagerDriver } from '../testing/eager.ts';
import { FUZZ_STEPS, fuzzDevice } from '../testing/fuzz.ts';
import { VirtioRig } from '../testing/rig.ts';
import { ConsoleBackend, INPUT_ROOM, OUTPUT_WINDOW } from './backend.ts';
import { CONTROL_IN, CONTROL_OUT, consoleModel, F_EMERG_WRITE, F_MULTIPORT, F_SIZE, receiveQueue, transmitQueue } from './model.ts';

const CONFIG = 0x2000;

function console(ports = 3, packed = false): VirtioRig {
  return new VirtioRig({ model: consoleModel(ports), backend: (host) => new ConsoleBackend(host, ports), packed });
}

function control(id: number, event: number, value = 1): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, id, true);
  view.setUint16(4, event, true);
  view.setUint16(6, value, true);
  return bytes;
}

const lentRooms = new WeakMap<DriverQueue, Map<number, Lent>>();

/** What the device says of its ports, "id event value rest" of each, when the driver has said `messages`. */
function say(rig: VirtioRig, queues: DriverQueue[], ...messages: Uint8Array[]): string[] {
  const order = lentRooms.get(queues[CONTROL_IN]!) ?? new Map<number, Lent>();
  lentRooms.set(queues[CONTROL_IN]!, order);
  while (queues[CONTROL_IN]!.room > 0) {
    const room = queues[CONTROL_IN]!.lend(64);
    order.set(queues[CONTROL_IN]!.add([room]), room);
  }
  for (const message of messages) queues[CONTROL_OUT]!.add([queues[CONTROL_OUT]!.put(message)]);
  rig.kick(CONTROL_OUT);
  rig.work();
  return queues[CONTROL_IN]!.used().map(({ id, written }) => {
    const bytes = Buffer.from(queues[CONTROL_IN]!.get(order.get(id)!).subarray(0, written));
    const rest = bytes.subarray(8);
    return `${bytes.readUInt32LE(0)} ${bytes.readUInt16LE(4)} ${bytes.readUInt16LE(6)} ${rest.length === 4 ? `${rest.readUInt16LE(0)}x${rest.readUInt16LE(2)}` : rest.toString()}`.trim();
  });
}

const output = (rig: VirtioRig): string => rig.news.splice(0).flatMap((news) => (news.kind === 'console' ? [`${news.port}:${Buffer.from(news.bytes).toString()}`] : [])).join(' ');
const outputBytes = (rig: VirtioRig): number => rig.news.splice(0).reduce((sum, news) => sum + (news.kind === 'console' ? news.bytes.length : 0), 0);

for (const packed of [false, true]) {
  describe(`console with ${packed ? 'packed' : 'split'} rings`, () => {
    test('names its ports to a driver that asks, and hears which are open', () => {
      const rig = console(3, packed);
      const queues = rig.setUp({ wanted: packed ? rig.offered() : undefined });
      assert.ok([F_SIZE, F_MULTIPORT, F_EMERG_WRITE].every((feature) => rig.offered().includes(feature)));
      assert.equal(rig.read(CONFIG + 4, 4), 3);
      assert.deepEqual(say(rig, queues, control(0, 0)), ['0 1 0', '1 1 0', '2 1 0']);
      assert.deepEqual(say(rig, queues, control(0, 3), control(2, 3)), ['0 4 1', '0 5 1 80x25', '0 6 1', '2 7 1 org.vitrine.2', '2 6 1']);
      rig.news.length = 0;
      say(rig, queues, control(2, 6), control(2, 6), control(7, 6), control(0, 99));
      assert.deepEqual(rig.news, [{ kind: 'console-open', port: 2, open: true }]);
      assert.equal(rig.runner.mail({ kind: 'console-size', port: 0, columns: 132, rows: 43 }), undefined);
      assert.deepEqual(say(rig, queues), ['0 5 1 132x43']);
      assert.deepEqual([rig.read(CONFIG, 2), rig.read(CONFIG + 2, 2)], [132, 43]);
      rig.news.length = 0;
      rig.resetDevice();
      assert.deepEqual(rig.news, [{ kind: 'console-open', port: 2, open: false }]);
      rig.close();
    });

    test('tells what the guest writes to each port, in order', () => {
      const rig = console(3, packed);
      const queues = rig.setUp({ wanted: packed ? rig.offered() : undefined });
      rig.news.length = 0;
      for (const [port, text] of [[0, 'one '], [2, 'two'], [0, 'three']] as const) {
        const queue = queues[transmitQueue(port)]!;
        queue.add([queue.put(Buffer.from(text.slice(0, 2))), queue.put(Buffer.from(text.slice(2)))]);
        rig.kick(transmitQueue(port));
      }
      rig.work();
      assert.deepEqual(output(rig).split(' ').sort(), ['0:one', '2:two', 'three']);
      assert.equal(queues[transmitQueue(0)]!.used().length, 2);
      rig.close();
    });
  });
}

test('stops reading the guest while what it wrote was not taken, and goes on in the middle of a buffer', () => {
  const rig = console(1);
  const queues = rig.setUp();
  rig.news.length = 0;
  const queue = queues[1]!;
  const bytes = Buffer.alloc(OUTPUT_WINDOW + 1000, 'x');
  queue.add([queue.put(bytes)]);
  queue.add([queue.put(Buffer.from('end'))]);
  rig.kick(1);
  rig.work();
  assert.equal(outputBytes(rig), OUTPUT_WINDOW);
  assert.equal(queue.used().length, 0);
  rig.runner.mail({ kind: 'console-taken', port: 0, bytes: 600 });
  rig.work();
  assert.equal(outputBytes(rig), 600);
  rig.runner.mail({ kind: 'console-taken', port: 0, bytes: OUTPUT_WINDOW });
  rig.work();
  assert.equal(output(rig), `0:${'x'.repeat(400)}end`);
  assert.equal(queue.used().length, 2);
  rig.close();
});

test('a pause keeps what was half told, a reset forgets it', () => {
  const rig = console(1);
  const queue = rig.setUp()[1]!;
  rig.news.length = 0;
  queue.add([queue.put(Buffer.alloc(OUTPUT_WINDOW + 5, 'x'))]);
  rig.kick(1);
  rig.work();
  rig.runner.device.pause();
  rig.work();
  rig.runner.mail({ kind: 'console-taken', port: 0, bytes: OUTPUT_WINDOW });
  rig.work();
  assert.equal(outputBytes(rig), OUTPUT_WINDOW, 'nothing while it is paused');
  rig.runner.device.resume();
  rig.work();
  assert.equal(outputBytes(rig), 5);
  queue.add([queue.put(Buffer.alloc(2 * OUTPUT_WINDOW, 'y'))]);
  rig.kick(1);
  rig.work();
  rig.resetDevice();
  rig.setUp();
  rig.news.length = 0;
  rig.runner.mail({ kind: 'console-taken', port: 0, bytes: OUTPUT_WINDOW });
  rig.work();
  assert.equal(outputBytes(rig), 0);
  rig.close();
});

test('keeps input until the guest lends room and has the port open, and says how much of it found room', () => {
  const rig = console(2);
  const queues = rig.setUp();
  const queue = queues[receiveQueue(1)]!;
  const rooms = [queue.lend(3), queue.lend(100)];
  for (const room of rooms) queue.add([room]);
  assert.equal(rig.runner.mail({ kind: 'console-input', port: 1, bytes: Buffer.from('hel') }), 3);
  assert.equal(rig.runner.mail({ kind: 'console-input', port: 1, bytes: Buffer.from('lo') }), 2);
  rig.work();
  assert.deepEqual(queue.used(), [], 'nobody has it open');
  say(rig, queues, control(1, 6));
  assert.deepEqual(queue.used().map(({ written }) => written), [3, 2]);
  assert.equal(Buffer.from(queue.get(rooms[1]!).subarray(0, 2)).toString(), 'lo');
  assert.equal(rig.runner.mail({ kind: 'console-input', port: 1, bytes: Buffer.alloc(INPUT_ROOM + 7) }), INPUT_ROOM);
  rig.news.length = 0;
  for (let i = 0; i < 16; i++) queue.add([queue.lend(4096)]);
  rig.kick(receiveQueue(1));
  rig.work();
  assert.equal(queue.used().reduce((sum, { written }) => sum + written, 0), INPUT_ROOM);
  assert.deepEqual(rig.news, [{ kind: 'console-room', port: 1 }]);
  assert.throws(() => rig.runner.mail({ kind: 'console-input', port: 2, bytes: Buffer.from('x') }), /it has 2 ports/);
  rig.close();
});

test('is a plain console for a driver that knows no ports', () => {
  const rig = console(2);
  const wanted = rig.offered().filter((feature) => feature !== F_MULTIPORT);
  const queues = rig.setUp({ wanted });
  assert.deepEqual(rig.news.at(-1), { kind: 'console-open', port: 0, open: true });
  const room = queues[0]!.lend(10);
  queues[0]!.add([room]);
  rig.runner.mail({ kind: 'console-input', port: 0, bytes: Buffer.from('hi') });
  rig.work();
  assert.deepEqual(queues[0]!.used().map(({ written }) => written), [2]);
  rig.runner.mail({ kind: 'console-size', port: 0, columns: 100, rows: 30 });
  assert.ok(rig.interrupts().includes(0), 'the configuration changed');
  rig.close();
});

test('with one port it has no control messages, and says its size in the configuration', () => {
  const rig = console(1);
  const queues = rig.setUp();
  assert.equal(queues.length, 2);
  assert.deepEqual([F_SIZE, F_MULTIPORT, F_EMERG_WRITE].map((feature) => rig.offered().includes(feature)), [true, false, true]);
  assert.deepEqual(rig.news.at(-1), { kind: 'console-open', port: 0, open: true });
  rig.runner.mail({ kind: 'console-size', port: 0, columns: 132, rows: 43 });
  rig.work();
  assert.deepEqual([rig.read(CONFIG, 2), rig.read(CONFIG + 2, 2)], [132, 43]);
  assert.deepEqual(rig.interrupts(), [0]);
  const room = queues[0]!.lend(10);
  queues[0]!.add([room]);
  queues[1]!.add([queues[1]!.put(Buffer.from('out'))]);
  rig.runner.mail({ kind: 'console-input', port: 0, bytes: Buffer.from('in') });
  rig.kick(1);
  rig.work();
  assert.equal(Buffer.from(queues[0]!.get(room).subarray(0, queues[0]!.used()[0]!.written)).toString(), 'in');
  assert.equal(output(rig), '0:out');
  rig.resetDevice();
  assert.deepEqual(rig.news.at(-1), { kind: 'console-open', port: 0, open: false });
  rig.close();
});

test('takes emergency writes, also before there is a driver', () => {
  const rig = console(1);
  rig.news.length = 0;
  for (const letter of Buffer.from('help ')) rig.write(CONFIG + 8, 4, letter);
  rig.work();
  rig.setUp();
  for (const letter of Buffer.from('me')) rig.write(CONFIG + 8, 1, letter);
  rig.work();
  assert.equal(output(rig), '0:help  0:me');
  for (let i = 0; i < 5000; i++) rig.write(CONFIG + 8, 1, 0x41);
  rig.work();
  const kept = outputBytes(rig);
  assert.ok(kept >= 1000 && kept < 5000, `${kept} bytes of a flood`);
  rig.close();
});

describe('leaves the loop its turns, whatever the driver does', () => {
  const options = { model: consoleModel(2), backend: (host: BackendHost) => new ConsoleBackend(host, 2) };
  test('with output of no bytes', () => {
    eagerDriver({ ...options, index: transmitQueue(0), buffers: (queue) => [queue.lend(16)] });
  });
  test('with no room for input', () => {
    eagerDriver({
      ...options, index: receiveQueue(0), buffers: (queue) => [queue.put(Buffer.from('x'))],
      ready: (rig, queues) => {
        say(rig, queues, control(0, 6));
        rig.runner.mail({ kind: 'console-input', port: 0, bytes: Buffer.from('hello') });
        rig.work();
      },
    });
  });
  test('with control messages', () => {
    eagerDriver({ ...options, index: CONTROL_OUT, buffers: (queue) => [queue.put(control(0, 0))] });
  });
});

for (const seed of [1, 2, 3]) {
  test(`outlives a driver that does everything wrong, seed ${seed}`, () => {
    let told = 0;
    fuzzDevice({
      seed, steps: FUZZ_STEPS, model: () => consoleModel(3), backend: (host) => new ConsoleBackend(host, 3),
      message: (chance, queue) => (queue === CONTROL_OUT ? control(chance.below(5), chance.below(9), chance.below(2)) : chance.bytes(chance.below(300))),
      mail: (chance, rig) => {
        for (const news of rig.news.splice(0)) {
          if (news.kind !== 'console') continue;
          told += news.bytes.length;
          rig.runner.mail({ kind: 'console-taken', port: news.port, bytes: news.bytes.length });
        }
        if (chance.below(2) === 0) rig.runner.mail({ kind: 'console-input', port: chance.below(3), bytes: chance.bytes(chance.below(5000)) });
        else rig.runner.mail({ kind: 'console-size', port: chance.below(3), columns: chance.below(0x1_0000), rows: chance.below(0x1_0000) });
      },
      works: (rig, queues) => {
        for (const port of [0, 1, 2]) rig.runner.mail({ kind: 'console-taken', port, bytes: OUTPUT_WINDOW });
        rig.work();
        assert.deepEqual(say(rig, queues, control(0, 0)), ['0 1 0', '1 1 0', '2 1 0']);
        queues[1]!.add([queues[1]!.put(Buffer.from('alive'))]);
        rig.kick(1);
        rig.work();
        assert.match(output(rig), /0:alive$/);
      },
    });
    assert.ok(told > 10_000, `${told} bytes reached the control thread`);
  });
}
