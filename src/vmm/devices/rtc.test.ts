import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { FakePlatform, roundRobin } from '../testing/fake-platform.ts';
import { Rtc } from './rtc.ts';

const MIB = 2 ** 20;
const NOON = Date.UTC(2026, 1, 28, 23, 59, 58); // a Saturday, at the end of February

function machine(memory = { lowMemory: 512 * MIB, highMemory: 0 }) {
  const platform = new FakePlatform();
  const host = { now: NOON };
  const devices = roundRobin(platform, (p) => new Rtc(p, { ...memory, cpus: 4, wallClock: () => host.now }));
  devices.next().reset();
  const handler = devices.handler(0);
  return {
    platform,
    host,
    service: () => devices.next().service(),
    reset: () => devices.next().reset(),
    get(register: number): number {
      handler.write(0, 1, register);
      return handler.read(1, 1);
    },
    set(register: number, value: number): void {
      handler.write(0, 1, register | 0x80);
      handler.write(1, 1, value);
    },
    /** Lets both clocks go on. */
    pass(ms: number): void {
      host.now += ms;
      platform.advance(ms * 1e6);
    },
  };
}

describe('rtc', () => {
  it('shows the host\'s time in BCD and 24 hours', () => {
    const c = machine();
    assert.deepEqual([0, 2, 4, 6, 7, 8, 9, 0x32].map(c.get), [0x58, 0x59, 0x23, 7, 0x28, 0x02, 0x26, 0x20]);
    c.pass(2000);
    assert.deepEqual([0, 2, 4, 6, 7, 8].map(c.get), [0, 0, 0, 1, 0x01, 0x03]);
  });

  it('shows binary and 12 hours', () => {
    const c = machine();
    c.set(0x0b, 0x04);
    assert.deepEqual([0, 2, 4, 9, 0x32].map(c.get), [58, 59, 0x80 | 11, 26, 20]);
    c.pass(2000);
    assert.equal(c.get(4), 12);
    c.set(0x0b, 0x00);
    c.pass(12 * 3600_000);
    assert.equal(c.get(4), 0x92);
  });

  it('keeps what the guest sets, through SET, and runs on from there', () => {
    const c = machine();
    c.set(0x0b, 0x82);
    for (const [register, value] of [[0, 0x30], [2, 0x15], [4, 0x08], [7, 0x17], [8, 0x05], [9, 0x99], [0x32, 0x19]] as const) c.set(register, value);
    c.pass(3000);
    assert.equal(c.get(0), 0x30, 'stands still');
    c.set(0x0b, 0x02);
    assert.deepEqual([0, 2, 4, 7, 8, 9, 0x32].map(c.get), [0x30, 0x15, 0x08, 0x17, 0x05, 0x99, 0x19]);
    c.pass(1000);
    assert.equal(c.get(0), 0x31);
    c.reset();
    assert.deepEqual([9, 0x32].map(c.get), [0x99, 0x19], 'the battery keeps it');
  });

  it('begins half a second before the first update after the divider was reset, as Linux sets it', () => {
    const c = machine();
    c.set(0x0b, 0x82);
    c.set(0x0a, 0x76);
    c.set(0, 0x10);
    c.set(0x0b, 0x02);
    c.pass(1234);
    c.set(0x0a, 0x26);
    assert.equal(c.get(0), 0x10);
    c.pass(499);
    assert.equal(c.get(0), 0x10);
    c.pass(1);
    assert.equal(c.get(0), 0x11);
  });

  it('takes a single register without SET', () => {
    const c = machine();
    c.set(4, 0x07);
    assert.deepEqual([0, 2, 4, 7].map(c.get), [0x58, 0x59, 0x07, 0x28]);
  });

  it('sets UIP only shortly before the second ends', () => {
    const c = machine();
    assert.equal(c.get(0x0a), 0x26);
    c.pass(999);
    assert.equal(c.get(0x0a), 0xa6);
    assert.equal(c.get(0), 0x58);
    c.pass(1);
    assert.equal(c.get(0x0a), 0x26);
    assert.equal(c.get(0), 0x59);
    c.set(0x0b, 0x82);
    c.pass(999);
    assert.equal(c.get(0x0a), 0x26);
  });

  it('raises the update interrupt each second, cleared by reading C', () => {
    const c = machine();
    c.pass(250);
    c.set(0x0b, 0x12);
    assert.equal(c.platform.takeAttention('rtc'), true);
    c.get(0x0c);
    assert.equal(c.service(), (250 + 750) * 1e6);
    c.pass(750);
    c.service();
    assert.equal(c.platform.level(8), true);
    assert.equal(c.get(0x0c) & 0x90, 0x90);
    assert.equal(c.platform.level(8), false);
    assert.equal(c.get(0x0c) & 0x90, 0);
  });

  it('raises the alarm when it comes, also with wildcards', () => {
    const c = machine();
    c.set(1, 0x05);
    c.set(3, 0x00);
    c.set(5, 0x00);
    c.set(0x0b, 0x22);
    const deadline = c.service()!;
    assert.equal(deadline, 7000 * 1e6);
    c.pass(6999);
    c.service();
    assert.equal(c.platform.level(8), false);
    c.pass(1);
    c.service();
    assert.equal(c.platform.level(8), true);
    assert.equal(c.get(0x0c) & 0xa0, 0xa0);
    c.set(3, 0xff);
    c.set(5, 0xff);
    c.service();
    c.pass(60_000);
    c.service();
    assert.equal(c.get(0x0c) & 0xa0, 0xa0);
  });

  it('raises the periodic interrupt at its rate, by guest time', () => {
    const c = machine();
    c.set(0x0a, 0x26); // 1024 Hz
    c.set(0x0b, 0x42);
    const first = c.service()!;
    assert.ok(Math.abs(first - 976_562.5) < 1);
    c.platform.advance(first);
    c.service();
    assert.equal(c.platform.level(8), true);
    assert.equal(c.get(0x0c), 0xc0);
    assert.equal(c.platform.level(8), false);
    c.platform.advance(100);
    assert.equal(c.get(0x0c), 0);
    c.set(0x0a, 0x2f); // 2 Hz
    assert.equal(c.service(), 500e6);
    c.set(0x0a, 0x20);
    assert.equal(c.service(), undefined);
  });

  it('tells the size of memory', () => {
    const c = machine({ lowMemory: 2048 * MIB, highMemory: 4096 * MIB });
    const word = (register: number): number => c.get(register) | (c.get(register + 1) << 8);
    assert.equal(word(0x15), 640);
    assert.equal(word(0x17), 0xffff);
    assert.equal(word(0x30), 0xffff);
    assert.equal(word(0x34), 2032 * 16);
    assert.equal(word(0x5b) | (c.get(0x5d) << 16), 4096 * 16);
    const small = machine({ lowMemory: 8 * MIB, highMemory: 0 });
    assert.equal(small.get(0x17) | (small.get(0x18) << 8), 7 * 1024);
    assert.equal(small.get(0x34), 0);
    let sum = 0;
    for (let i = 0x10; i < 0x2e; i++) sum += c.get(i);
    assert.equal((c.get(0x2e) << 8) | c.get(0x2f), sum & 0xffff);
  });

  it('keeps other memory, and the index cannot be read', () => {
    const c = machine();
    c.set(0x0f, 0x0a);
    c.set(0x40, 0x77);
    c.reset();
    assert.deepEqual([c.get(0x0f), c.get(0x40), c.get(0x0d)], [0x0a, 0x77, 0x80]);
  });

  it('gives back any date that is set, in every mode', () => {
    fc.assert(
      fc.property(fc.date({ min: new Date('1970-01-02'), max: new Date('2099-12-30'), noInvalidDate: true }), fc.constantFrom(0, 2, 4, 6), (date, mode) => {
        const c = machine();
        const enc = (v: number): number => ((mode & 4) !== 0 ? v : Math.floor(v / 10) * 16 + (v % 10));
        const hours = date.getUTCHours();
        const encodedHours = (mode & 2) !== 0 ? enc(hours) : enc(hours % 12 || 12) | (hours >= 12 ? 0x80 : 0);
        const values: [number, number][] = [
          [0, enc(date.getUTCSeconds())], [2, enc(date.getUTCMinutes())], [4, encodedHours], [7, enc(date.getUTCDate())], [8, enc(date.getUTCMonth() + 1)],
          [9, enc(date.getUTCFullYear() % 100)], [0x32, enc(Math.floor(date.getUTCFullYear() / 100))],
        ];
        c.set(0x0b, 0x80 | mode);
        for (const [register, value] of values) c.set(register, value);
        c.set(0x0b, mode);
        for (const [register, value] of values) assert.equal(c.get(register), value, `register ${register}`);
        assert.equal(c.get(6), date.getUTCDay() + 1);
      }),
    );
  });
});
