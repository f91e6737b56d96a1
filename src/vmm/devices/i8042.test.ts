import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { FakePlatform, roundRobin } from '../testing/fake-platform.ts';
import { I8042 } from './i8042.ts';
import { scale2to1 } from './ps2-mouse.ts';

const DATA = 0;
const COMMAND = 1;

function machine() {
  const platform = new FakePlatform();
  const devices = roundRobin(platform, (p) => new I8042(p));
  devices.next().reset();
  const data = devices.handler(DATA);
  const command = devices.handler(COMMAND);
  const self = {
    platform,
    device: () => devices.next(),
    status: () => command.read(0, 1),
    command: (value: number) => command.write(0, 1, value),
    write: (value: number) => data.write(0, 1, value),
    read: () => data.read(0, 1),
    /** Everything that waits: [byte, from the mouse]. */
    drain(): number[] {
      const bytes: number[] = [];
      while ((self.status() & 1) !== 0) bytes.push(self.read());
      return bytes;
    },
    config(value: number): void {
      self.command(0x60);
      self.write(value);
    },
    readConfig(): number {
      self.command(0x20);
      return self.read();
    },
    mouse(...bytes: number[]): number[] {
      const replies: number[] = [];
      for (const byte of bytes) {
        self.command(0xd4);
        self.write(byte);
        assert.notEqual(self.status() & 0x20, 0);
        replies.push(...self.drain());
      }
      return replies;
    },
    keyboard(...bytes: number[]): number[] {
      const replies: number[] = [];
      for (const byte of bytes) {
        self.write(byte);
        replies.push(...self.drain());
      }
      return replies;
    },
  };
  return self;
}

const RAW = 0x01; // keyboard interrupt on, translation off, mouse clock on
const TRANSLATED = 0x43;

describe('i8042', () => {
  it('passes the start of the Linux driver', () => {
    const c = machine();
    assert.equal(c.status() & 1, 0);
    assert.notEqual(c.status() & 0x10, 0, 'not locked');
    const first = c.readConfig();
    assert.equal(c.readConfig(), first);
    assert.notEqual(first & 0x40, 0, 'translation on, or Linux goes direct');
    c.config((first | 0x10) & ~0x01);
    assert.equal(c.readConfig(), (first | 0x10) & ~0x01);
    c.command(0xaa);
    assert.equal(c.read(), 0x55);
    // The AUX port: loop, disable, enable, interrupt.
    c.command(0xd3);
    c.write(0x5a);
    assert.equal(c.status() & 0x21, 0x21);
    assert.equal(c.read(), 0x5a);
    c.command(0xa7);
    assert.notEqual(c.readConfig() & 0x20, 0);
    c.command(0xa8);
    assert.equal(c.readConfig() & 0x20, 0);
    c.config(0x52);
    c.command(0xd3);
    c.write(0xa5);
    assert.equal(c.platform.level(12), true);
    assert.equal(c.platform.level(1), false);
    assert.equal(c.read(), 0xa5);
    assert.equal(c.platform.level(12), false);
    // No active multiplexing.
    for (const byte of [0xf0, 0x56, 0xa4]) {
      c.command(0xd3);
      c.write(byte);
      assert.equal(c.read(), byte);
    }
    // atkbd
    c.config(TRANSLATED);
    assert.deepEqual(c.keyboard(0xf5), [0xfa]);
    assert.deepEqual(c.keyboard(0xf2), [0xfa, 0xab, 0x41]);
    assert.deepEqual(c.keyboard(0xed, 0x07), [0xfa, 0xfa]);
    assert.equal(c.device().leds(), 7);
    assert.deepEqual(c.keyboard(0xf3, 0x00, 0xf4), [0xfa, 0xfa, 0xfa]);
  });

  it('is drained by a driver however much was typed before it came', () => {
    const c = machine();
    for (let i = 0; i < 200; i++) {
      c.device().key(30 + (i % 8), true);
      c.device().key(30 + (i % 8), false);
    }
    assert.ok(c.drain().length <= 16);
    assert.equal(c.status() & 1, 0);
  });

  it('lowers and raises IRQ 1 for every byte', () => {
    const c = machine();
    c.device().key(105, true);
    c.device().key(105, false);
    assert.equal(c.platform.level(1), true);
    assert.deepEqual(c.drain(), [0xe0, 0x4b, 0xe0, 0xcb]);
    assert.deepEqual(c.platform.edges.map((e) => e.level), [true, false, true, false, true, false, true, false]);
  });

  it('shows one byte at a time, controller first, then keyboard, then mouse', () => {
    const c = machine();
    c.config(0x47);
    c.mouse(0xf4);
    c.device().move(3, -2, 0, 1);
    c.device().key(30, true);
    c.command(0x20);
    const got: [byte: number, aux: boolean][] = [];
    for (let status = c.status(); (status & 1) !== 0; status = c.status()) {
      const aux = (status & 0x20) !== 0;
      assert.deepEqual([c.platform.level(1), c.platform.level(12)], [!aux, aux]);
      got.push([c.read(), aux]);
    }
    // The mouse's first byte was there before the others.
    assert.deepEqual(got, [[0x09, true], [0x47, false], [0x1e, false], [3, true], [2, true]]);
  });

  it('resets by pulse, by output port and by nothing else', () => {
    const c = machine();
    c.command(0xff);
    c.command(0xd1);
    c.write(0x03);
    assert.equal(c.platform.requests.length, 0);
    c.command(0xfe);
    c.command(0xd1);
    c.write(0x02);
    assert.deepEqual(c.platform.requests.map((r) => r.kind), ['reset', 'reset']);
    c.command(0xdd);
    c.command(0xd0);
    assert.equal(c.read() & 2, 0);
    c.command(0xdf);
    c.command(0xd0);
    assert.equal(c.read() & 2, 2);
  });

  it('reads as empty with the same byte again', () => {
    const c = machine();
    c.device().key(30, true);
    assert.equal(c.read(), 0x1e);
    assert.equal(c.read(), 0x1e);
    assert.equal(c.status() & 1, 0);
  });
});

describe('PS/2 keyboard', () => {
  it('answers reset, echo, resend, set queries and what it does not know', () => {
    const c = machine();
    c.config(RAW);
    assert.deepEqual(c.keyboard(0xff), [0xfa, 0xaa]);
    assert.deepEqual(c.keyboard(0xee), [0xee]);
    assert.deepEqual(c.keyboard(0xfe), [0xee]);
    assert.deepEqual(c.keyboard(0xf2), [0xfa, 0xab, 0x83]);
    assert.deepEqual(c.keyboard(0xf0, 0), [0xfa, 0xfa, 2]);
    assert.deepEqual(c.keyboard(0x12), [0xfe]);
    assert.deepEqual(c.keyboard(0xed, 0xf4), [0xfa, 0xfa], 'a command in place of an argument is a command');
    assert.equal(c.device().leds(), 0);
  });

  it('sends set 1, set 2 and set 3', () => {
    const c = machine();
    c.config(RAW);
    const tap = (evdev: number): number[] => {
      c.device().key(evdev, true);
      c.device().key(evdev, false);
      return c.drain();
    };
    assert.deepEqual(tap(30), [0x1c, 0xf0, 0x1c]);
    c.keyboard(0xf0, 1);
    assert.deepEqual(tap(105), [0xe0, 0x4b, 0xe0, 0xcb]);
    c.keyboard(0xf0, 3);
    assert.deepEqual(c.keyboard(0xf0, 0), [0xfa, 0xfa, 3]);
    assert.deepEqual(tap(30), [0x1c], 'letters have no break in set 3');
    assert.deepEqual(tap(42), [0x12, 0xf0, 0x12]);
    assert.deepEqual(c.keyboard(0xf8), [0xfa]);
    assert.deepEqual(tap(30), [0x1c, 0xf0, 0x1c]);
    assert.deepEqual(c.keyboard(0xfd, 0x1c, 0x1d, 0xf4), [0xfa, 0xfa, 0xfa, 0xfa]);
    assert.deepEqual(tap(30), [0x1c]);
  });

  it('repeats what the host repeats, and takes modifiers into account', () => {
    const c = machine();
    c.config(TRANSLATED);
    c.device().key(30, true);
    assert.deepEqual(c.drain(), [0x1e]);
    c.device().key(30, true);
    c.device().key(30, true);
    c.device().key(30, true); // one repeat at most waits behind the byte that the guest has not read
    assert.deepEqual(c.drain(), [0x1e, 0x1e]);
    c.device().key(56, true);
    c.device().key(99, true);
    c.device().key(56, false);
    c.device().key(99, false);
    assert.deepEqual(c.drain(), [0x38, 0x54, 0xb8, 0xd4], 'SysRq is released as SysRq');
  });

  it('says nothing while it is disabled, and then what was released meanwhile', () => {
    const c = machine();
    c.config(TRANSLATED);
    c.device().key(30, true);
    c.drain();
    c.keyboard(0xf5);
    c.device().key(30, false);
    c.device().key(31, true);
    c.device().key(31, false);
    assert.deepEqual(c.drain(), []);
    assert.deepEqual(c.keyboard(0xf4), [0xfa, 0x9e]);
  });

  it('loses no letter of a long text once a driver is there', () => {
    const c = machine();
    c.config(TRANSLATED);
    const typed: number[] = [];
    for (let i = 0; i < 100; i++) {
      const evdev = 16 + (i % 10);
      c.device().key(evdev, true);
      c.device().key(evdev, false);
      typed.push(evdev, evdev | 0x80);
    }
    assert.deepEqual(c.drain(), typed);
  });

  it('keeps translation right when a reply comes between a prefix and its code', () => {
    const c = machine();
    c.config(TRANSLATED | 0x10);
    c.device().key(30, true);
    c.device().key(30, false);
    c.config(TRANSLATED);
    assert.equal(c.read(), 0x1e);
    c.write(0xf4);
    assert.deepEqual(c.drain().toSorted(), [0x9e, 0xfa]);
  });

  it('never leaves a key stuck: property over presses, releases, reads and commands', () => {
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ kind: fc.constant('key' as const), evdev: fc.integer({ min: 1, max: 120 }), down: fc.boolean() }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('read' as const), count: fc.integer({ min: 1, max: 12 }) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('write' as const), byte: fc.constantFrom(0xed, 0x02, 0xf4, 0xf5, 0xf6, 0xee) }) },
    );
    fc.assert(
      fc.property(fc.boolean(), fc.array(step, { maxLength: 400 }), (driver, steps) => {
        const c = machine();
        if (driver) c.config(TRANSLATED);
        const down = new Set<number>();
        let prefix = 0;
        let pause = 0;
        const decode = (byte: number): void => {
          if (pause > 0) pause--;
          else if (byte === 0xe1) pause = 5;
          else if (byte === 0xe0) prefix = 0x100;
          else if (byte !== 0xfa && byte !== 0xfe && byte !== 0xee) {
            const code = prefix | (byte & 0x7f);
            prefix = 0;
            if ((byte & 0x80) !== 0) down.delete(code);
            else down.add(code);
          }
        };
        for (const s of steps) {
          if (s.kind === 'key') c.device().key(s.evdev, s.down);
          else if (s.kind === 'read') {
            for (let i = 0; i < s.count && (c.status() & 1) !== 0; i++) decode(c.read());
          } else c.write(s.byte);
        }
        for (let evdev = 1; evdev <= 127; evdev++) c.device().key(evdev, false);
        c.write(0xf4);
        for (const byte of c.drain()) decode(byte);
        assert.deepEqual([...down], []);
      }),
      { numRuns: 300 },
    );
  });
});

describe('PS/2 mouse', () => {
  it('is found as a wheel mouse, then as an explorer', () => {
    const c = machine();
    assert.deepEqual(c.mouse(0xff), [0xfa, 0xaa, 0x00]);
    assert.deepEqual(c.mouse(0xf2), [0xfa, 0x00]);
    c.mouse(0xf3, 200, 0xf3, 100, 0xf3, 80);
    assert.deepEqual(c.mouse(0xf2), [0xfa, 0x03]);
    c.mouse(0xf3, 200, 0xf3, 200, 0xf3, 80);
    assert.deepEqual(c.mouse(0xf2), [0xfa, 0x04]);
    assert.deepEqual(c.mouse(0xe8, 3, 0xe7), [0xfa, 0xfa, 0xfa]);
    assert.deepEqual(c.mouse(0xe9), [0xfa, 0x10, 3, 80]);
    assert.deepEqual(c.mouse(0xf3, 77), [0xfa, 0xfe]);
    assert.deepEqual(c.mouse(0xf6), [0xfa]);
    assert.deepEqual(c.mouse(0xe9), [0xfa, 0x00, 2, 100]);
    c.mouse(0xff);
    assert.deepEqual(c.mouse(0xf2), [0xfa, 0x00]);
  });

  it('reports movement upwards as positive, with wheel and side buttons', () => {
    const c = machine();
    c.config(0x47);
    c.mouse(0xf4);
    c.device().move(5, 7, 1, 1);
    assert.deepEqual(c.drain(), [0x29, 5, 0xf9]);
    c.mouse(0xf3, 200, 0xf3, 100, 0xf3, 80);
    c.device().move(-1, 0, 1, 0);
    assert.deepEqual(c.drain(), [0x18, 0xff, 0, 0xff]);
    c.mouse(0xf3, 200, 0xf3, 200, 0xf3, 80);
    c.device().move(0, 0, -1, 8);
    assert.deepEqual(c.drain(), [0x08, 0, 0, 0x11]);
  });

  it('says nothing until it is enabled, and in remote mode only when it is asked', () => {
    const c = machine();
    c.config(0x47);
    c.device().move(5, 5, 0, 0);
    assert.equal(c.status() & 1, 0);
    c.mouse(0xf4);
    assert.equal(c.device().mouseReporting(), true);
    c.mouse(0xf0);
    c.device().move(4, 0, 0, 2);
    assert.equal(c.status() & 1, 0);
    assert.deepEqual(c.mouse(0xeb), [0xfa, 0x0a, 4, 0]);
  });

  it('echoes in wrap mode until that is reset', () => {
    const c = machine();
    assert.deepEqual(c.mouse(0xee, 0x12, 0xf4, 0xec, 0xf2), [0xfa, 0x12, 0xf4, 0xfa, 0xfa, 0]);
  });

  it('keeps a click that was faster than the guest', () => {
    const c = machine();
    c.config(0x47);
    c.mouse(0xf4);
    c.device().move(1, 0, 0, 0);
    for (const buttons of [1, 0, 2, 0]) c.device().move(0, 0, 0, buttons);
    const bytes = c.drain();
    assert.deepEqual(bytes.filter((_, i) => i % 3 === 0), [0x08, 0x09, 0x08, 0x0a, 0x08]);
  });

  it('scales 2:1 by the table', () => {
    assert.deepEqual([0, 1, 2, 3, 4, 5, 6, 100, -5].map(scale2to1), [0, 1, 1, 3, 6, 9, 12, 200, -9]);
  });

  it('sums up to exactly what was moved, in whole packets', () => {
    const move = fc.record({ dx: fc.integer({ min: -2000, max: 2000 }), dy: fc.integer({ min: -2000, max: 2000 }), wheel: fc.integer({ min: -20, max: 20 }), buttons: fc.integer({ min: 0, max: 7 }), reads: fc.nat(9) });
    fc.assert(
      fc.property(fc.array(move, { maxLength: 20 }), (moves) => {
        const c = machine();
        c.config(0x47);
        c.mouse(0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf4);
        const bytes: number[] = [];
        let [x, y, z] = [0, 0, 0];
        for (const m of moves) {
          c.device().move(m.dx, m.dy, m.wheel, m.buttons);
          [x, y, z] = [x + m.dx, y + m.dy, z + m.wheel];
          for (let i = 0; i < m.reads && (c.status() & 1) !== 0; i++) bytes.push(c.read());
        }
        bytes.push(...c.drain());
        assert.equal(bytes.length % 4, 0);
        for (let i = 0; i < bytes.length; i += 4) {
          const [flags, dx, dy, dz] = bytes.slice(i, i + 4) as [number, number, number, number];
          assert.equal(flags & 0xc8, 0x08, 'no overflow');
          x -= dx - ((flags & 0x10) << 4);
          y += dy - ((flags & 0x20) << 3);
          z += (dz << 24) >> 24;
        }
        assert.deepEqual([x, y, z].map((v) => v + 0), [0, 0, 0]);
        if (bytes.length > 0) assert.equal(bytes.at(-4)! & 7, moves.at(-1)!.buttons);
      }),
    );
  });
});

describe('a command while a scan code waits to be read', () => {
  const CAPS_LOCK = 58;
  const TRANSLATED = 0x41;

  it('is answered first, and the code comes after it, with an interrupt of its own', () => {
    const m = machine();
    m.config(TRANSLATED);
    m.keyboard(0xf4);
    m.device().key(CAPS_LOCK, true);
    m.device().key(CAPS_LOCK, false);
    assert.equal(m.read(), 0x3a);
    assert.equal(m.status() & 1, 1); // the release
    m.write(0xed);
    assert.equal(m.read(), 0xfa);
    assert.equal(m.platform.level(1), true);
    m.write(0x04); // the release waits in the buffer again
    assert.deepEqual(m.drain(), [0xfa, 0xba]);
    assert.equal(m.platform.level(1), false);
    assert.equal(m.device().leds(), 4);
  });

  it('keeps a sequence of several bytes in order', () => {
    const m = machine();
    m.config(RAW);
    m.keyboard(0xf4);
    m.device().key(103, true); // arrow up: E0 75
    assert.equal(m.read(), 0xe0);
    m.write(0xee);
    assert.deepEqual(m.drain(), [0xee, 0x75]);
  });

  it('forgets the code when it resets the keyboard', () => {
    const m = machine();
    m.config(RAW);
    m.keyboard(0xf4);
    m.device().key(CAPS_LOCK, true);
    m.write(0xff);
    assert.deepEqual(m.drain(), [0xfa, 0xaa]);
  });
});
