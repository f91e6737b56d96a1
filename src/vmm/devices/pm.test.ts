import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Width } from '../bus/handler.ts';
import { FakePlatform, roundRobin } from '../testing/fake-platform.ts';
import { APM_ACPI_DISABLE, APM_ACPI_ENABLE, GPE0_ENABLE, GPE0_STATUS, PM1_CONTROL, PM1_ENABLE, PM1_STATUS, PM_TIMER, PowerManagement, SLEEP_TYPE_S4, SLEEP_TYPE_S5 } from './pm.ts';

function machine(options: { timerBits?: 24 | 32 } = {}) {
  const platform = new FakePlatform();
  const devices = roundRobin(platform, (p) => new PowerManagement(p, options));
  devices.next().reset();
  const apm = devices.handler(0);
  return {
    platform,
    device: () => devices.next(),
    read: (offset: number, width: Width) => devices.next().block.read(offset, width),
    write: (offset: number, width: Width, value: number) => devices.next().block.write(offset, width, value),
    apm: (value: number) => apm.write(0, 1, value),
    readApm: (offset: number) => apm.read(offset, 1),
  };
}

const POWER_BUTTON = 0x100;

describe('pm', () => {
  it('counts at 3.579545 MHz, in 24 or in 32 bits', () => {
    for (const timerBits of [24, 32] as const) {
      const c = machine({ timerBits });
      assert.equal(c.read(PM_TIMER, 4), 0);
      c.platform.advance(1e9);
      assert.equal(c.read(PM_TIMER, 4), 3_579_545);
      c.platform.advance(9e9);
      assert.equal(c.read(PM_TIMER, 4), 35_795_450 % 2 ** timerBits);
      assert.equal(c.read(PM_TIMER, 2), 35_795_450 % 65536);
      c.platform.advance(1e12);
      assert.ok(c.read(PM_TIMER, 4) < 2 ** timerBits);
      assert.ok(Number.isInteger(c.read(PM_TIMER, 4)));
    }
  });

  it('raises the SCI when the timer\'s highest bit changes', () => {
    const c = machine();
    c.write(PM1_ENABLE, 2, 1);
    assert.equal(c.platform.takeAttention('pm'), true);
    for (let i = 0; i < 3; i++) {
      const deadline = c.device().service()!;
      c.platform.advance(deadline - c.platform.clock.now());
      c.device().service();
      assert.equal(c.platform.level(9), true);
      assert.equal(c.read(PM1_STATUS, 2), 1);
      c.write(PM1_STATUS, 2, 1);
      assert.equal(c.platform.level(9), false);
    }
    assert.ok(Math.abs(c.platform.clock.now() - 3 * 2.3435e9) < 1e6);
  });

  it('tells a guest that listens of the power button', () => {
    const c = machine();
    assert.equal(c.device().powerButton(), false);
    assert.equal(c.platform.level(9), false);
    assert.equal(c.read(PM1_STATUS, 2), POWER_BUTTON);
    c.write(PM1_STATUS, 2, POWER_BUTTON);
    c.write(PM1_ENABLE, 2, POWER_BUTTON);
    assert.equal(c.device().powerButton(), true);
    assert.equal(c.platform.level(9), true);
    c.write(PM1_STATUS, 4, (POWER_BUTTON << 16) | POWER_BUTTON);
    assert.equal(c.platform.level(9), false);
    assert.equal(c.read(PM1_ENABLE, 2), POWER_BUTTON);
  });

  it('switches ACPI by the APM port', () => {
    const c = machine();
    assert.equal(c.read(PM1_CONTROL, 2) & 1, 1);
    c.apm(APM_ACPI_DISABLE);
    assert.equal(c.read(PM1_CONTROL, 2) & 1, 0);
    assert.equal(c.readApm(0), APM_ACPI_DISABLE);
    c.write(PM1_ENABLE, 2, POWER_BUTTON);
    c.device().powerButton();
    assert.equal(c.platform.level(9), false);
    c.apm(APM_ACPI_ENABLE);
    assert.equal(c.platform.level(9), true);
  });

  it('powers off in two writes, as Linux does it, and by the byte', () => {
    const c = machine();
    c.write(PM1_CONTROL, 2, (SLEEP_TYPE_S5 << 10) | 1);
    assert.equal(c.platform.requests.length, 0);
    c.write(PM1_CONTROL, 2, (SLEEP_TYPE_S5 << 10) | 0x2001);
    c.write(PM1_CONTROL, 2, (SLEEP_TYPE_S4 << 10) | 0x2001);
    c.write(PM1_CONTROL + 1, 1, 0x20 | (SLEEP_TYPE_S5 << 2));
    assert.deepEqual(c.platform.requests.map((r) => r.kind), ['power-off', 'power-off', 'power-off']);
    assert.equal(c.read(PM1_CONTROL, 2) & 0x2000, 0, 'SLP_EN reads as zero');
    c.write(PM1_CONTROL, 2, (5 << 10) | 0x2001);
    assert.equal(c.platform.requests.length, 3);
    assert.equal(c.platform.logged.length, 1);
  });

  it('has general purpose events', () => {
    const c = machine();
    c.device().raiseGpe(33);
    assert.equal(c.platform.level(9), false);
    c.write(GPE0_ENABLE + 4, 1, 2);
    assert.equal(c.platform.level(9), true);
    assert.equal(c.read(GPE0_STATUS + 4, 4), 2);
    c.write(GPE0_STATUS + 4, 1, 2);
    assert.equal(c.platform.level(9), false);
    c.device().raiseGpe(31);
    assert.equal(c.read(GPE0_STATUS, 4), 0x8000_0000);
  });

  it('keeps SMI_EN', () => {
    const c = machine();
    c.write(0x30, 4, 0xf000_0021);
    assert.equal(c.read(0x30, 4), 0xf000_0021);
    c.write(0x31, 1, 0x77);
    assert.equal(c.read(0x30, 4), 0xf000_7721);
  });

  it('reads the same by every width and offset', () => {
    const c = machine();
    c.write(0x30, 4, 0x8765_4321);
    c.write(GPE0_ENABLE, 4, 0xdead_beef);
    c.write(GPE0_ENABLE + 4, 4, 0xcafe_f00d);
    fc.assert(
      fc.property(fc.integer({ min: 0x20, max: 0x3c }), fc.constantFrom<Width>(2, 4), (offset, width) => {
        let value = 0;
        for (let i = 0; i < width; i++) value += c.read(offset + i, 1) * 2 ** (8 * i);
        assert.equal(c.read(offset, width), value);
      }),
    );
  });
});
