import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { allKeys } from '../../shared/keys.ts';
import { hasKey, set1Sequence, set2Sequence, set3Code, translateByte, variantOf } from './ps2-keys.ts';

const NONE = { ctrl: false, shift: false, alt: false };

describe('PS/2 scan codes', () => {
  it('has the codes of the reference', () => {
    const plain: [evdev: number, set1: number[], set2: number[]][] = [
      [1, [0x01], [0x76]], [2, [0x02], [0x16]], [14, [0x0e], [0x66]], [28, [0x1c], [0x5a]], [30, [0x1e], [0x1c]], [44, [0x2c], [0x1a]],
      [57, [0x39], [0x29]], [58, [0x3a], [0x58]], [59, [0x3b], [0x05]], [65, [0x41], [0x83]], [69, [0x45], [0x77]], [70, [0x46], [0x7e]],
      [87, [0x57], [0x78]], [88, [0x58], [0x07]], [86, [0x56], [0x61]], [82, [0x52], [0x70]], [78, [0x4e], [0x79]],
      [97, [0xe0, 0x1d], [0xe0, 0x14]], [100, [0xe0, 0x38], [0xe0, 0x11]], [111, [0xe0, 0x53], [0xe0, 0x71]], [103, [0xe0, 0x48], [0xe0, 0x75]],
      [125, [0xe0, 0x5b], [0xe0, 0x1f]], [127, [0xe0, 0x5d], [0xe0, 0x2f]], [98, [0xe0, 0x35], [0xe0, 0x4a]], [96, [0xe0, 0x1c], [0xe0, 0x5a]],
      [113, [0xe0, 0x20], [0xe0, 0x23]], [115, [0xe0, 0x30], [0xe0, 0x32]], [164, [0xe0, 0x22], [0xe0, 0x34]], [163, [0xe0, 0x19], [0xe0, 0x4d]],
      [116, [0xe0, 0x5e], [0xe0, 0x37]], [158, [0xe0, 0x6a], [0xe0, 0x38]], [89, [0x73], [0x51]], [124, [0x7d], [0x6a]], [193, [0x6e], [0x57]],
      [183, [0x64], [0x08]], [117, [0x59], [0x0f]], [121, [0x7e], [0x6d]],
    ];
    for (const [evdev, one, two] of plain) {
      assert.deepEqual(set1Sequence(evdev, true, 'plain'), one, `set 1 of ${evdev}`);
      assert.deepEqual(set2Sequence(evdev, true, 'plain'), two, `set 2 of ${evdev}`);
      assert.deepEqual(set1Sequence(evdev, false, 'plain'), [...one.slice(0, -1), one.at(-1)! | 0x80]);
      assert.deepEqual(set2Sequence(evdev, false, 'plain'), [...two.slice(0, -1), 0xf0, two.at(-1)!]);
    }
  });

  it('tells Pause, Break, Print Screen and SysRq apart', () => {
    assert.deepEqual(set2Sequence(119, true, variantOf(119, NONE)), [0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77]);
    assert.deepEqual(set1Sequence(119, true, variantOf(119, NONE)), [0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5]);
    assert.deepEqual(set1Sequence(119, true, variantOf(119, { ...NONE, ctrl: true })), [0xe0, 0x46, 0xe0, 0xc6]);
    assert.deepEqual(set2Sequence(119, false, 'plain'), []);
    assert.deepEqual(set1Sequence(99, true, variantOf(99, NONE)), [0xe0, 0x2a, 0xe0, 0x37]);
    assert.deepEqual(set1Sequence(99, false, 'plain'), [0xe0, 0xb7, 0xe0, 0xaa]);
    assert.deepEqual(set1Sequence(99, true, variantOf(99, { ...NONE, alt: true })), [0x54]);
    assert.deepEqual(set1Sequence(99, true, variantOf(99, { ...NONE, shift: true })), [0xe0, 0x37]);
  });

  it('gives every key of a viewer that a PS/2 keyboard has a sequence of its own', () => {
    const seen = new Map<string, number>();
    const shared = new Set([144, 157, 171, 226, 85, 194]); // two names of one key
    for (const [, evdev] of allKeys()) {
      if (!hasKey(evdev)) continue;
      const bytes = set2Sequence(evdev, true, 'plain').join(' ');
      assert.notEqual(bytes, '', `key ${evdev}`);
      const other = seen.get(bytes);
      assert.ok(other === undefined || other === evdev || shared.has(evdev), `keys ${evdev} and ${other} send ${bytes}`);
      seen.set(bytes, evdev);
    }
    assert.ok(seen.size > 130);
  });

  it('has set 3 for all of the 104 keys', () => {
    for (let evdev = 1; evdev <= 83; evdev++) assert.notEqual(set3Code(evdev), undefined, `key ${evdev}`);
    for (const evdev of [87, 88, 96, 97, 98, 99, 100, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 119, 125, 126, 127]) {
      assert.notEqual(set3Code(evdev), undefined, `key ${evdev}`);
    }
  });

  it('translates replies as the 8042 does', () => {
    assert.deepEqual([0xfa, 0xfe, 0xaa, 0xab, 0x83, 0x01, 0x02, 0x03].map(translateByte), [0xfa, 0xfe, 0xaa, 0xab, 0x41, 0x43, 0x41, 0x3f]);
  });
});
