import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FakePlatform, roundRobin } from '../testing/fake-platform.ts';
import { DebugPorts } from './debug.ts';

describe('debug ports', () => {
  it('prints, keeps the POST code and ends with a status', () => {
    let printed = '';
    const platform = new FakePlatform();
    const devices = roundRobin(platform, (p) => new DebugPorts(p, { exit: true, onOutput: (bytes) => void (printed += new TextDecoder().decode(bytes)) }));
    devices.next().reset();
    const [post, print, exit] = [0, 1, 2].map((range) => devices.handler(range));
    post.write(0, 1, 0x55);
    assert.equal(post.read(0, 1), 0x55);
    assert.equal(print.read(0, 1), 0xe9);
    for (const byte of new TextEncoder().encode('here')) print.write(0, 1, byte);
    assert.equal(platform.takeAttention('debug'), true);
    devices.next().service();
    assert.equal(printed, 'here');
    exit.write(0, 4, 0);
    exit.write(0, 1, 0x21);
    exit.write(0, 4, 0xffff_ffff);
    assert.deepEqual(platform.requests, [{ kind: 'exit', status: 1 }, { kind: 'exit', status: 0x43 }, { kind: 'exit', status: 0xffff_ffff }]);
  });

  it('has no exit where it was not asked for', () => {
    assert.equal(new DebugPorts(new FakePlatform(), { exit: false }).ranges.length, 2);
  });
});
