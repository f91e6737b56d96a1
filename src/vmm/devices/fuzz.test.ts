// Every device answers any access of any width with a number of that width, in any order, and nothing that a guest writes makes it throw.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Width } from '../bus/handler.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import { FakePlatform, roundRobin } from '../testing/fake-platform.ts';
import { DebugPorts } from './debug.ts';
import type { Device, FixedRange, Platform } from './device.ts';
import { FwCfgBuilder } from './fw-cfg-items.ts';
import { FwCfg } from './fw-cfg.ts';
import { I8042 } from './i8042.ts';
import { PowerManagement } from './pm.ts';
import { ResetControl } from './reset.ts';
import { Rtc } from './rtc.ts';
import { Serial } from './serial.ts';

const memory = GuestMemory.allocate(64 * 1024);
const items = new FwCfgBuilder().addFile('a', new Uint8Array(100)).seal();
const makers: readonly ((platform: Platform) => Device)[] = [
  (p) => new Serial(p),
  (p) => new I8042(p),
  (p) => new Rtc(p, { lowMemory: 64 * 2 ** 20, highMemory: 0, cpus: 1 }),
  (p) => new PowerManagement(p),
  (p) => new ResetControl(p),
  (p) => new DebugPorts(p, { exit: true }),
  (p) => new FwCfg(p, items, memory),
];

/** Ranges that other devices put on the bus count too. */
function rangesOf(device: Device): readonly FixedRange[] {
  if (device instanceof PowerManagement) return [...device.ranges, { space: 'io', start: 0x600, size: 128, handler: device.block }];
  if (device instanceof ResetControl) return [...device.ranges, { space: 'io', start: 0xcf9, size: 1, handler: device.register }];
  return device.ranges;
}

const access = fc.record({
  range: fc.nat(7),
  offset: fc.oneof(fc.nat(15), fc.nat(140)),
  width: fc.constantFrom<Width>(1, 2, 4),
  value: fc.oneof(fc.nat(255), fc.integer({ min: 0, max: 0xffff_ffff })),
  kind: fc.constantFrom('read', 'read', 'write', 'write', 'write', 'service', 'host'),
});

describe('all legacy devices', () => {
  for (const make of makers) {
    const label = make(new FakePlatform()).label;
    it(`${label} survives any access`, () => {
      fc.assert(
        fc.property(fc.array(access, { maxLength: 300 }), (accesses) => {
          const platform = new FakePlatform();
          const devices = roundRobin(platform, make);
          devices.next().reset();
          for (const { range, offset, width, value, kind } of accesses) {
            const device = devices.next();
            const ranges = rangesOf(device);
            const { handler } = ranges[range % ranges.length];
            const mask = 2 ** (8 * width);
            if (kind === 'read') {
              const got = device.mutex.run(() => handler.read(offset, width));
              assert.ok(Number.isInteger(got) && got >= 0 && got < mask, `${got} of ${width} bytes`);
            } else if (kind === 'write') {
              device.mutex.run(() => handler.write(offset, width, value % mask));
            } else if (kind === 'service') {
              platform.advance(value);
              const deadline = device.service?.();
              assert.ok(deadline === undefined || deadline > platform.clock.now(), 'a deadline lies ahead');
            } else if (device instanceof Serial) {
              device.receive(Uint8Array.of(value & 0xff, 1, 2, 3));
            } else if (device instanceof I8042) {
              device.key(value & 0x1ff, (value & 0x200) !== 0);
              device.move((value & 0xfff) - 2048, ((value >> 12) & 0xfff) - 2048, 1, value & 0xff);
            } else if (device instanceof PowerManagement) {
              device.powerButton();
            }
          }
          devices.next().reset();
        }),
        { numRuns: 150 },
      );
    });
  }
});
