import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { allKeys } from '../../../shared/keys.ts';
import type { DriverQueue, Lent } from '../testing/driver.ts';
import { eagerDriver } from '../testing/eager.ts';
import { VirtioRig } from '../testing/rig.ts';
import { InputBackend, type InputMail } from './backend.ts';
import * as m from './model.ts';

const LONG = process.env['VITRINE_LONG'] === '1';

/** A driver that lends `room` events and reads them as they come. */
class Guest {
  readonly rig: VirtioRig;
  #events!: DriverQueue;
  status!: DriverQueue;
  readonly #lent = new Map<number, Lent>();

  constructor(form: m.InputForm, room = 64) {
    this.rig = new VirtioRig({ model: m.inputModel(form), backend: (host) => new InputBackend(host) });
    this.setUp(room);
  }

  setUp(room = 64): void {
    const [events, status] = this.rig.setUp() as [DriverQueue, DriverQueue];
    this.#events = events;
    this.status = status;
    this.#lent.clear();
    this.lend(room);
  }

  lend(room: number): void {
    for (let i = 0; i < room && this.#events.room > 0; i++) {
      const lent = this.#events.lend(8);
      this.#lent.set(this.#events.add([lent]), lent);
    }
    this.rig.kick(m.EVENT_QUEUE);
    this.rig.work(2);
  }

  send(mail: InputMail): void {
    this.rig.runner.mail(mail);
    this.rig.work(1);
  }

  /** Events that came. The room is lent again. */
  read(again = true): [number, number, number][] {
    const events = this.#events.used().map(({ id, written }): [number, number, number] => {
      assert.equal(written, 8);
      const bytes = new DataView(this.#events.get(this.#lent.get(id)!).slice().buffer);
      return [bytes.getUint16(0, true), bytes.getUint16(2, true), bytes.getInt32(4, true)];
    });
    if (again) this.lend(events.length);
    return events;
  }

  /** What the configuration's window shows. */
  ask(select: number, subsel: number): Uint8Array {
    this.rig.write(0x2000, 1, select);
    this.rig.write(0x2001, 1, subsel);
    return Uint8Array.from({ length: this.rig.read(0x2002, 1) }, (_, i) => this.rig.read(0x2008 + i, 1));
  }
}

const has = (bits: Uint8Array, code: number): boolean => ((bits[code >>> 3] ?? 0) & (1 << (code & 7))) !== 0;
const REPORT = [m.EV_SYN, m.SYN_REPORT, 0];

test('say what they are and can', () => {
  const keyboard = new Guest('keyboard');
  assert.equal(new TextDecoder().decode(keyboard.ask(1, 0)), 'Vitrine Keyboard');
  assert.equal(keyboard.ask(3, 0).length, 8);
  const keys = keyboard.ask(0x11, m.EV_KEY);
  for (const [name, code] of allKeys()) assert.ok(has(keys, code), name);
  assert.equal(has(keys, m.BTN_LEFT), false);
  assert.deepEqual([...keyboard.ask(0x11, m.EV_LED)], [7]);
  assert.equal(keyboard.ask(0x11, m.EV_ABS).length, 0);
  assert.equal(keyboard.ask(0x99, 0x99).length, 0);
  const tablet = new Guest('tablet');
  assert.deepEqual([...tablet.ask(0x11, m.EV_ABS)], [3]);
  assert.deepEqual([...new Uint32Array(tablet.ask(0x12, m.ABS_Y).slice().buffer)], [0, 0x7fff, 0, 0, 0]);
  for (const guest of [keyboard, tablet]) guest.rig.close();
});

test('a key goes down once and up once, and repeats at the guest', () => {
  const guest = new Guest('keyboard');
  for (const down of [true, true, false, false]) guest.send({ kind: 'key', code: 30, down });
  assert.deepEqual(guest.read(), [[m.EV_KEY, 30, 1], REPORT, [m.EV_KEY, 30, 0], REPORT]);
  assert.deepEqual(guest.rig.interrupts().every((vector) => vector === 1), true);
  guest.rig.close();
});

test('the lamps that the guest lights are told', () => {
  const guest = new Guest('keyboard');
  const light = (code: number, value: number): void => {
    const bytes = new DataView(new ArrayBuffer(8));
    bytes.setUint16(0, m.EV_LED, true);
    bytes.setUint16(2, code, true);
    bytes.setUint32(4, value, true);
    guest.status.add([guest.status.put(new Uint8Array(bytes.buffer))]);
    guest.rig.kick(m.STATUS_QUEUE);
    guest.rig.work(1);
  };
  light(m.LED_CAPSL, 1);
  light(m.LED_NUML, 1);
  light(m.LED_CAPSL, 0);
  light(0x77, 1);
  assert.deepEqual(guest.rig.news, [{ kind: 'lamps', lamps: 4 }, { kind: 'lamps', lamps: 6 }, { kind: 'lamps', lamps: 2 }]);
  guest.status.add([guest.status.put(new Uint8Array(3))]);
  guest.rig.kick(m.STATUS_QUEUE);
  guest.rig.work(1);
  guest.rig.close();
});

test('the tablet tells what changed of its place, its wheel and its buttons', () => {
  const guest = new Guest('tablet');
  guest.send({ kind: 'tablet', x: 5, y: 6, wheel: 0, buttons: 0 });
  guest.send({ kind: 'tablet', x: 5, y: 7, wheel: -1, buttons: 1 });
  guest.send({ kind: 'tablet', x: 5, y: 7, wheel: 0, buttons: 1 });
  guest.send({ kind: 'tablet', x: 5, y: 7, wheel: 0, buttons: 2 });
  assert.deepEqual(guest.read(), [
    [m.EV_ABS, m.ABS_X, 5], [m.EV_ABS, m.ABS_Y, 6], REPORT,
    [m.EV_ABS, m.ABS_Y, 7], [m.EV_REL, m.REL_WHEEL, -1], [m.EV_KEY, m.BTN_LEFT, 1], REPORT,
    [m.EV_KEY, m.BTN_LEFT, 0], [m.EV_KEY, m.BTN_RIGHT, 1], REPORT,
  ]);
  guest.rig.close();
});

test('a driver that comes later hears nothing of before', () => {
  const guest = new Guest('keyboard', 0);
  guest.send({ kind: 'key', code: 30, down: true });
  guest.rig.resetDevice();
  guest.send({ kind: 'key', code: 31, down: true });
  guest.setUp();
  assert.deepEqual(guest.read(), []);
  guest.send({ kind: 'key', code: 32, down: true });
  assert.deepEqual(guest.read(), [[m.EV_KEY, 32, 1], REPORT]);
  guest.rig.close();
});

test('leaves the loop its turns, however often the driver sets a lamp', () => {
  eagerDriver({ model: m.inputModel('keyboard'), backend: (host) => new InputBackend(host), index: m.STATUS_QUEUE, buffers: (queue) => [queue.put(new Uint8Array(8))] });
});

test('whatever is typed and pointed, and however rarely the guest looks, in the end it knows what is down and where the pointer is', () => {
  const mail = fc.oneof(
    fc.record({ kind: fc.constant('key' as const), code: fc.integer({ min: 1, max: 5 }), down: fc.boolean() }),
    fc.record({ kind: fc.constant('tablet' as const), x: fc.nat(3), y: fc.nat(3), wheel: fc.constant(0), buttons: fc.nat(7) }),
  );
  fc.assert(fc.property(fc.array(fc.tuple(mail, fc.nat(6), fc.nat(3)), { maxLength: 60 }), fc.boolean(), (steps, flood) => {
    const guest = new Guest('tablet', 0);
    const wanted = new Set<number>();
    const seen = new Map<number, number>();
    const place: number[] = [];
    const at: number[] = [];
    const look = (events: [number, number, number][]): void => {
      for (const [type, code, value] of events) {
        if (type === m.EV_KEY) seen.set(code, value);
        else if (type === m.EV_ABS) at[code] = value;
      }
    };
    for (const [each, room, times] of steps) {
      for (let i = 0; i < (flood ? times * 100 : 1); i++) {
        const now = each.kind === 'tablet' && flood ? { ...each, x: (each.x + i) % 50 } : each.kind === 'key' && flood ? { ...each, down: i % 2 === 0 } : each;
        guest.send(now);
        if (now.kind === 'key') {
          if (now.down) wanted.add(now.code);
          else wanted.delete(now.code);
          continue;
        }
        [m.BTN_LEFT, m.BTN_RIGHT, m.BTN_MIDDLE].forEach((code, bit) => {
          if ((now.buttons & (1 << bit)) !== 0) wanted.add(code);
          else wanted.delete(code);
        });
        place.splice(0, 2, now.x, now.y);
      }
      guest.lend(room);
      look(guest.read(false));
    }
    for (let i = 0; i < 60; i++) {
      guest.lend(64);
      look(guest.read(false));
    }
    // What was forgotten is up; nothing is down that should not be.
    for (const [code, value] of seen) if (value === 1) assert.ok(wanted.has(code), `${code} stays down`);
    assert.deepEqual(at, place);
    if (!flood) assert.deepEqual([...wanted].sort(), [...seen].filter(([, value]) => value === 1).map(([code]) => code).sort());
    guest.rig.close();
  }), { numRuns: LONG ? 2000 : 40 });
});
