// The contrast of every pair of roles that meet on a page, computed from tokens.css (WCAG 2.2, 1.4.3 and 1.4.11).
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

const source = readFileSync(new URL('./tokens.css', import.meta.url), 'utf8');

type Theme = 'light' | 'dark';
type Roles = Map<string, string>;

/** Every role with an opaque colour, for one theme. */
function roles(theme: Theme): Roles {
  const found: Roles = new Map();
  for (const [, name, value] of source.matchAll(/--([a-z0-9-]+):\s*([^;]+);/g)) {
    const both = /^light-dark\(\s*(#[0-9a-f]+)\s*,\s*(#[0-9a-f]+)\s*\)$/i.exec(value);
    const colour = both === null ? value : both[theme === 'light' ? 1 : 2];
    if (/^#[0-9a-f]{6}$/i.test(colour)) found.set(name, colour);
  }
  return found;
}

/** Relative luminance, 0 to 1, of #rrggbb. */
function luminance(colour: string): number {
  const channel = (at: number): number => {
    const c = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5);
}

function contrast(a: string, b: string): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

const grounds = ['ground', 'surface', 'raised', 'sunken', 'hover'];
const tints = ['accent-soft', 'ok-soft', 'care-soft', 'stop-soft'];
const everyGround = [...grounds, ...tints];

/** [what is seen, on what, the least ratio]: 4.5 for words, 3 for lines and signs that carry meaning. */
const pairs: Array<[string, string[], number]> = [
  ['ink', everyGround, 4.5],
  ['ink-2', everyGround, 4.5],
  ['ink-3', everyGround, 4.5],
  ['accent', [...grounds, 'accent-soft'], 4.5],
  ['ok', [...grounds, 'ok-soft'], 4.5],
  ['care', [...grounds, 'care-soft'], 4.5],
  ['stop', [...grounds, 'stop-soft'], 4.5],
  ['line-strong', everyGround, 3],
  ['accent-ink', ['accent', 'accent-hover'], 4.5],
  ['stop-fill-ink', ['stop-fill'], 4.5],
  ['on-glass', ['glass', 'glass-bar'], 4.5],
  ['on-glass-strong', ['glass', 'glass-bar'], 4.5],
  ['glass-line', ['glass', 'glass-bar'], 3],
  ['glass-accent', ['glass', 'glass-bar'], 3],
  ['glass-accent-ink', ['glass-accent', 'glass-accent-hover'], 4.5],
];

for (const theme of ['light', 'dark'] as const) {
  test(`contrast of every pair of roles, ${theme}`, () => {
    const colours = roles(theme);
    const failures: string[] = [];
    for (const [front, backs, least] of pairs) {
      for (const back of backs) {
        const a = colours.get(front);
        const b = colours.get(back);
        assert.ok(a !== undefined && b !== undefined, `tokens.css must have --${front} and --${back}`);
        const ratio = contrast(a, b);
        if (ratio < least) failures.push(`--${front} on --${back}: ${ratio.toFixed(2)}, needs ${least}`);
      }
    }
    assert.deepEqual(failures, []);
  });
}

test('every role with two themes is a colour in both', () => {
  assert.deepEqual([...roles('light').keys()], [...roles('dark').keys()]);
});

test('four text sizes and two weights', () => {
  assert.equal([...source.matchAll(/--text-[a-z]+:/g)].length, 4);
  assert.equal([...source.matchAll(/--(regular|strong):/g)].length, 2);
});
