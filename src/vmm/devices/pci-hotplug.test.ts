import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakePlatform, roundRobin } from '../testing/fake-platform.ts';
import { PciHotplug, DOWN, EJECT, HOTPLUG_GPE, REMOVABLE, UP } from './pci-hotplug.ts';
import { GPE0_ENABLE, GPE0_STATUS, PowerManagement } from './pm.ts';

const SCI = 9;

function controller() {
  const platform = new FakePlatform();
  const pms = roundRobin(platform, (own) => new PowerManagement(own));
  let made = 0;
  const { handler, next, all } = roundRobin(platform, (own) => new PciHotplug(own, pms.all[made++]!));
  pms.all[0]!.reset();
  all[0]!.reset();
  const ports = handler(0);
  const pm = (): PowerManagement => pms.next();
  const writePm = (offset: number, value: number): void => {
    const device = pm();
    device.mutex.run(() => device.block.write(offset, 4, value));
  };
  return { platform, next, ports, writePm, control: all[0]! };
}

test('what came and what shall go is told once, with an event, to a guest that listens', () => {
  const { platform, next, ports, writePm } = controller();
  assert.equal(next().came(5), false, 'nobody listens');
  assert.equal(platform.level(SCI), false);
  writePm(GPE0_ENABLE, 1 << HOTPLUG_GPE);
  assert.equal(platform.level(SCI), true, 'what was before is told now');
  assert.equal(ports.read(UP, 4), 1 << 5);
  writePm(GPE0_STATUS, 1 << HOTPLUG_GPE);
  assert.equal(platform.level(SCI), false);
  assert.equal(next().came(30), true);
  assert.equal(platform.level(SCI), true);
  ports.write(UP, 4, 1 << 5);
  assert.equal(ports.read(UP, 4), 2 ** 30, 'what came since stays');
  assert.equal(ports.read(REMOVABLE, 4), 2 ** 30 + 2 ** 5);
  assert.equal(ports.read(UP + 3, 1), 0x40);
  assert.equal(next().ask(30), true);
  assert.equal(ports.read(DOWN, 4), 2 ** 30);
  assert.deepEqual(next().leaving(), [30]);
  next().forget(30);
  assert.equal(ports.read(DOWN, 4), 0);
});

test('a device is given back once, and only one that can be', () => {
  const { platform, next, ports, control } = controller();
  const ejected: number[] = [];
  control.onEject = (slot) => {
    ejected.push(slot);
    control.gone(slot);
  };
  next().allow(5);
  ports.write(EJECT, 4, (1 << 5) | (1 << 6) | 1);
  assert.equal(platform.takeAttention('pci-hotplug'), true);
  assert.equal(ports.read(EJECT, 4), 1 << 5, 'until it is gone');
  control.service();
  assert.deepEqual(ejected, [5]);
  assert.deepEqual([EJECT, REMOVABLE].map((register) => ports.read(register, 4)), [0, 0]);
  ports.write(EJECT, 4, 1 << 5);
  assert.equal(platform.takeAttention('pci-hotplug'), false);
  control.service();
  assert.deepEqual(ejected, [5]);
});

test('narrow and crooked accesses change nothing', () => {
  const { next, ports } = controller();
  next().came(5);
  ports.write(UP, 1, 0xff);
  ports.write(UP + 2, 4, 0xffff_ffff);
  ports.write(REMOVABLE, 4, 0);
  assert.deepEqual([UP, REMOVABLE].map((register) => ports.read(register, 4)), [1 << 5, 1 << 5]);
  assert.equal(ports.read(UP + 3, 2), 0);
  for (const device of [next(), next()]) device.reset();
  assert.deepEqual([UP, DOWN, EJECT, REMOVABLE].map((register) => ports.read(register, 4)), [0, 0, 0, 1 << 5], 'devices stay over a reset');
});
