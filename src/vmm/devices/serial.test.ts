import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FakePlatform, roundRobin } from '../testing/fake-platform.ts';
import { Serial, type SerialOptions } from './serial.ts';

const THR = 0;
const IER = 1;
const FCR = 2;
const IIR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCR = 7;
const OPEN = 0x0b; // DTR, RTS, OUT2

function machine(options: SerialOptions = {}): { platform: FakePlatform; port: { in(offset: number): number; out(offset: number, value: number): void }; any(): Serial } {
  const platform = new FakePlatform();
  const devices = roundRobin(platform, (p) => new Serial(p, options));
  devices.next().reset();
  const handler = devices.handler(0);
  return {
    platform,
    port: { in: (offset) => handler.read(offset, 1), out: (offset, value) => handler.write(offset, 1, value) },
    any: () => devices.next(),
  };
}

const text = (s: string): Uint8Array => new TextEncoder().encode(s);

describe('serial', () => {
  it('is what Linux calls a 16550A', () => {
    const { port } = machine();
    // The order of drivers/tty/serial/8250: IER keeps four bits, the loopback test, FIFO identification, no features of later chips.
    port.out(IER, 0);
    assert.equal(port.in(IER), 0);
    port.out(IER, 0xff);
    assert.equal(port.in(IER), 0x0f);
    port.out(IER, 0);
    port.out(MCR, 0x1a);
    assert.equal(port.in(MSR) & 0xf0, 0x90);
    port.out(MCR, 0);
    port.out(FCR, 1);
    assert.equal(port.in(IIR) >> 6, 3);
    for (const lcr of [0x80, 0xbf]) {
      port.out(LCR, lcr);
      assert.notEqual(port.in(IIR), 0, 'no EFR');
      assert.equal(port.in(IIR) >> 5, 6, 'no 64-byte FIFO');
    }
    port.out(LCR, 3);
    port.out(SCR, 0x5a);
    assert.equal(port.in(SCR), 0x5a);
  });

  it('keeps the divisor apart from data and interrupt enable', () => {
    const { port } = machine();
    port.out(LCR, 0x83);
    port.out(0, 1);
    port.out(1, 2);
    assert.deepEqual([port.in(0), port.in(1)], [1, 2]);
    port.out(LCR, 3);
    assert.deepEqual([port.in(0), port.in(1)], [0, 0]);
  });

  it('raises THRE each time it is enabled, and after each byte (the tests of Linux for broken chips)', () => {
    const { port, platform } = machine();
    port.out(MCR, OPEN);
    for (let i = 0; i < 2; i++) {
      port.out(IER, 2);
      assert.equal(platform.level(4), true);
      assert.equal(port.in(IIR) & 0x0f, 2);
      assert.equal(platform.level(4), false);
      assert.equal(port.in(IIR) & 0x0f, 1);
      port.out(IER, 0);
    }
    port.out(IER, 2);
    port.in(IIR);
    port.out(THR, 65);
    assert.equal(port.in(IIR) & 0x0f, 2);
  });

  it('has its interrupts gated by OUT2', () => {
    const { port, platform } = machine();
    port.out(IER, 2);
    assert.equal(platform.level(4), false);
    port.out(MCR, 8);
    assert.equal(platform.level(4), true);
    port.out(MCR, 0x18);
    assert.equal(platform.level(4), false, 'loopback holds the OUT2 pin inactive');
  });

  it('hands what is written to the host, in order, once', () => {
    let sent = '';
    const { port, platform, any } = machine({ onOutput: (bytes) => void (sent += new TextDecoder().decode(bytes)) });
    for (const byte of text('hello, ')) port.out(THR, byte);
    assert.equal(platform.takeAttention('serial0'), true);
    any().service();
    for (const byte of text('world')) port.out(THR, byte);
    any().service();
    any().service();
    assert.equal(sent, 'hello, world');
  });

  it('holds THRE back when the control thread is late, and loses nothing', () => {
    const sent: number[] = [];
    const { port, platform, any } = machine({ onOutput: (bytes) => void sent.push(...bytes) });
    port.out(MCR, OPEN);
    port.out(IER, 2);
    let written = 0;
    while ((port.in(LSR) & 0x20) !== 0) port.out(THR, written++ & 0xff);
    assert.ok(written >= 4096 && written < 48 * 1024);
    assert.equal(platform.level(4), false, 'a handler that waits for THRE ends');
    for (let i = 0; i < 10_000; i++) port.out(THR, written++ & 0xff); // a driver that does not look
    any().service();
    assert.equal(platform.level(4), true);
    assert.equal(port.in(LSR) & 0x60, 0x60);
    assert.equal(sent.length, written);
    assert.ok(sent.every((byte, i) => byte === (i & 0xff)));
    assert.deepEqual(platform.logged, []);
  });

  it('leaves the rest for later when the guest writes as fast as the host takes', () => {
    let taken = 0;
    const { platform, port, any } = machine({
      onOutput: (bytes) => {
        taken += bytes.length;
        assert.ok(taken < 1000, 'the visit ends');
        port.out(THR, 0x41);
      },
    });
    port.out(THR, 0x41);
    assert.ok(platform.takeAttention('serial0'));
    any().service();
    assert.ok(taken >= 1 && platform.takeAttention('serial0'), 'and another one is asked for');
  });

  it('keeps THRE clear while the host takes nothing', () => {
    let full = true;
    let count = 0;
    const { port, any } = machine({
      onOutput: (bytes) => {
        count += bytes.length;
        return !full;
      },
    });
    const burst = (): number => {
      let n = 0;
      while ((port.in(LSR) & 0x20) !== 0) {
        port.out(THR, n);
        n++;
      }
      return n;
    };
    let written = burst();
    any().service();
    assert.equal(count, written);
    written += burst();
    any().service();
    any().service();
    assert.equal(port.in(LSR) & 0x20, 0);
    assert.ok(count < written);
    full = false;
    any().resumeOutput();
    assert.equal(count, written);
    assert.equal(port.in(LSR) & 0x20, 0x20);
  });

  it('gives the host\'s bytes through the FIFO with trigger level and time-out', () => {
    const { port, platform, any } = machine();
    port.out(FCR, 0x81); // 8 bytes
    port.out(IER, 1);
    port.out(MCR, OPEN);
    assert.equal(any().receive(text('abc')), 3);
    assert.equal(platform.level(4), true);
    assert.equal(port.in(IIR), 0xcc);
    assert.equal(port.in(LSR) & 1, 1);
    assert.deepEqual([port.in(0), port.in(0), port.in(0)], [97, 98, 99]);
    assert.equal(platform.level(4), false);
    any().receive(text('0123456789'));
    assert.equal(port.in(IIR), 0xc4);
    const edges = platform.edges.length;
    for (let i = 0; i < 3; i++) port.in(0);
    assert.equal(port.in(IIR), 0xcc);
    assert.ok(platform.edges.length > edges, 'an edge-triggered controller sees the time-out');
    assert.equal(platform.level(4), true);
  });

  it('passes a long text without FIFO, one byte an interrupt', () => {
    const { port, platform, any } = machine();
    port.out(IER, 1);
    port.out(MCR, OPEN);
    any().receive(text('long text'));
    let got = '';
    let seen = 0;
    while (platform.edges.length > seen) {
      seen = platform.edges.length;
      if (platform.level(4)) got += String.fromCharCode(port.in(0));
    }
    assert.equal(got, 'long text');
  });

  it('takes what fits and says when there is room again', () => {
    let room = 0;
    const { port, platform, any } = machine({ onInputRoom: () => void room++ });
    const big = new Uint8Array(100_000).map((_, i) => i & 0xff);
    port.out(FCR, 1);
    port.out(MCR, OPEN);
    const got: number[] = [];
    let given = any().receive(big);
    assert.ok(given < big.length);
    while ((port.in(LSR) & 1) !== 0) {
      got.push(port.in(0));
      if (platform.takeAttention('serial0')) any().service();
      if (room > 0 && given < big.length) {
        room = 0;
        given += any().receive(big.subarray(given));
      }
    }
    assert.equal(got.length, big.length);
    assert.deepEqual(Uint8Array.from(got), big);
  });

  it('holds input back while RTS is low, once the guest has used RTS', () => {
    const { port, any } = machine();
    port.out(MCR, OPEN);
    port.out(MCR, 0);
    any().receive(text('x'));
    assert.equal(port.in(LSR) & 1, 0);
    port.out(MCR, OPEN);
    assert.equal(port.in(0), 0x78);
  });

  it('loops back data with overrun, and modem lines with deltas', () => {
    const { port } = machine();
    port.out(FCR, 1);
    port.out(MCR, 0x10);
    port.in(MSR);
    for (let i = 0; i < 17; i++) port.out(THR, i);
    assert.equal(port.in(LSR) & 0x03, 0x03);
    assert.equal(port.in(LSR) & 0x02, 0, 'read clears');
    for (let i = 0; i < 16; i++) assert.equal(port.in(0), i);
    port.out(MCR, 0x14); // OUT1 → RI
    assert.equal(port.in(MSR), 0x40);
    port.out(MCR, 0x13);
    assert.equal(port.in(MSR), 0x37, 'CTS, DSR changed, RI fell');
    assert.equal(port.in(MSR), 0x30);
  });

  it('shows a break as a zero byte with BI, by the highest interrupt', () => {
    const { port, any } = machine();
    port.out(FCR, 1);
    port.out(IER, 5);
    port.out(MCR, OPEN);
    any().sendBreak();
    assert.equal(port.in(IIR) & 0x0f, 6);
    assert.equal(port.in(LSR) & 0x91, 0x91);
    assert.equal(port.in(LSR) & 0x90, 0);
    assert.equal(port.in(0), 0);
  });

  it('clears the receive FIFO on request and when FIFOs are switched', () => {
    const { port, any } = machine();
    port.out(FCR, 1);
    any().receive(text('abc'));
    port.out(FCR, 3);
    assert.equal(port.in(LSR) & 1, 0);
    any().receive(text('abc'));
    port.out(FCR, 0);
    assert.equal(port.in(LSR) & 1, 0);
  });
});
