// Counts of what ran, from the marked lines of reporter.mjs and from Playwright's JSON.
import { mark } from './reporter.mjs';

export const nothing = () => ({ passed: 0, failed: 0, skipped: 0 });

/** Splits the output of a node:test run into its counts and the text for people. */
export function readNodeTests(output) {
  const counts = nothing();
  const tests = [];
  const text = [];
  for (const line of output.split('\n')) {
    const at = line.indexOf(mark);
    if (at < 0) {
      text.push(line);
      continue;
    }
    if (at > 0) text.push(line.slice(0, at));
    let test;
    try {
      test = JSON.parse(line.slice(at + mark.length));
    } catch {
      text.push(line);
      continue;
    }
    counts[test.outcome]++;
    tests.push(test);
  }
  return { counts, tests, text: text.join('\n') };
}

/** Counts of a Playwright run. One that passed only at a second try counts as failed. */
export function readPlaywright(json) {
  const { stats, errors = [] } = JSON.parse(json);
  const failed = stats.unexpected + (stats.flaky ?? 0);
  return { passed: stats.expected, failed: failed === 0 ? errors.length : failed, skipped: stats.skipped };
}

export function add(total, counts) {
  for (const key of Object.keys(total)) total[key] += counts[key];
  return total;
}

/** The closing line. */
export const closingLine = ({ passed, failed, skipped }) => `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
