import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FakePlatform, roundRobin } from '../testing/fake-platform.ts';
import { ResetControl } from './reset.ts';

describe('reset', () => {
  it('resets by 0xCF9 with RST_CPU, soft and hard', () => {
    const platform = new FakePlatform();
    const devices = roundRobin(platform, (p) => new ResetControl(p));
    devices.next().reset();
    devices.next().register.write(0, 1, 0x02);
    assert.equal(devices.next().register.read(0, 1), 0x02);
    assert.equal(platform.requests.length, 0);
    devices.next().register.write(0, 1, 0x06);
    devices.next().register.write(0, 1, 0x0e);
    assert.deepEqual(platform.requests.map((r) => r.kind), ['reset', 'reset']);
  });

  it('resets by INIT of port 0x92 when it rises, and keeps A20', () => {
    const platform = new FakePlatform();
    const devices = roundRobin(platform, (p) => new ResetControl(p));
    devices.next().reset();
    const port = devices.handler(0);
    assert.equal(port.read(0, 1), 2);
    port.write(0, 1, 0);
    assert.equal(port.read(0, 1), 0);
    port.write(0, 1, 3);
    port.write(0, 1, 3);
    assert.equal(platform.requests.length, 1);
  });
});
