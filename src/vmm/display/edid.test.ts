import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { EDID_BYTES, buildEdid, reducedBlanking } from './edid.ts';

const modes = fc.record({ width: fc.integer({ min: 640, max: 2560 }), height: fc.integer({ min: 480, max: 1600 }) });

/** The pixels of a detailed timing as a driver reads them. */
function detailed(edid: Uint8Array, at: number): { width: number; height: number; clockKHz: number } {
  return {
    clockKHz: (edid[at] | (edid[at + 1] << 8)) * 10,
    width: edid[at + 2] | ((edid[at + 4] >> 4) << 8),
    height: edid[at + 5] | ((edid[at + 7] >> 4) << 8),
  };
}

test('any preferred mode gives a block with the right header, version and checksum, and comes first', () => {
  fc.assert(fc.property(modes, (mode) => {
    const edid = buildEdid(mode);
    assert.equal(edid.length, EDID_BYTES);
    assert.deepEqual([...edid.subarray(0, 8)], [0, 255, 255, 255, 255, 255, 255, 0]);
    assert.equal(edid.reduce((sum, byte) => sum + byte, 0) % 256, 0);
    const { width, height } = detailed(edid, 54);
    assert.deepEqual([width, height], [mode.width, mode.height]);
  }));
});

test('timings are those of VESA CVT with reduced blanking', () => {
  // From the DMT list: 1280x800 RB 71.00 MHz, 1920x1200 RB 154.00 MHz, 2560x1600 RB 268.50 MHz.
  for (const [width, height, clockKHz, vBlank] of [[1280, 800, 71_000, 23], [1920, 1200, 154_000, 35], [2560, 1600, 268_500, 46]]) {
    const timing = reducedBlanking({ width, height });
    assert.equal(timing.clockKHz, clockKHz);
    assert.equal(timing.vBlank, vBlank);
  }
});

test('640x480 to 2560x1600 are there', () => {
  const edid = buildEdid({ width: 1280, height: 800 });
  assert.ok(edid[35] & 0x20, '640x480');
  assert.ok(edid[35] & 0x01, '800x600');
  assert.ok(edid[36] & 0x08, '1024x768');
  assert.deepEqual(detailed(edid, 72), { width: 2560, height: 1600, clockKHz: 268_500 });
});

const decoder = spawnSync('edid-decode', ['--version']);
test('edid-decode finds nothing wrong', { skip: decoder.error !== undefined && 'edid-decode is not installed' }, () => {
  for (const mode of [{ width: 1280, height: 800 }, { width: 640, height: 480 }, { width: 2560, height: 1600 }, { width: 1920, height: 1080 }]) {
    const { stdout, status } = spawnSync('edid-decode', ['--check'], { input: Buffer.from(buildEdid(mode)), encoding: 'utf8' });
    assert.equal(status, 0, stdout);
    assert.match(stdout, /EDID conformity: PASS/);
  }
});
