// The counting decides whether a run passes, so it is tested like anything else.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mark, outcomeOf } from './reporter.mjs';
import { add, closingLine, nothing, readNodeTests, readPlaywright } from './results.mjs';

test('a test that fails, one that is skipped and a suite are told apart', () => {
  assert.equal(outcomeOf('test:pass', { details: { type: 'test' } }), 'passed');
  assert.equal(outcomeOf('test:pass', { details: {}, skip: 'no KVM' }), 'skipped');
  assert.equal(outcomeOf('test:pass', { details: { type: 'suite' } }), undefined);
  assert.equal(outcomeOf('test:fail', { details: { error: { failureType: 'testCodeFailure' } } }), 'failed');
  assert.equal(outcomeOf('test:fail', { details: { error: { failureType: 'subtestsFailed' } } }), undefined);
  assert.equal(outcomeOf('test:fail', { details: { type: 'suite', error: { failureType: 'hookFailed' } } }), 'failed');
  assert.equal(outcomeOf('test:diagnostic', {}), undefined);
});

test('outcomes are found between other output', () => {
  const line = (outcome) => `${mark}${JSON.stringify({ outcome, name: 'x' })}`;
  const { counts, text } = readNodeTests(`hello\nno newline${line('passed')}\n${line('failed')}\n${mark}{damaged\nbye`);
  assert.deepEqual(counts, { passed: 1, failed: 1, skipped: 0 });
  assert.equal(text, `hello\nno newline\n${mark}{damaged\nbye`);
});

test('in Playwright a flaky test and an error outside a test are failures', () => {
  const json = (stats, errors = []) => JSON.stringify({ stats: { expected: 3, unexpected: 0, flaky: 0, skipped: 1, ...stats }, errors });
  assert.deepEqual(readPlaywright(json({})), { passed: 3, failed: 0, skipped: 1 });
  assert.deepEqual(readPlaywright(json({ flaky: 1, unexpected: 1 })), { passed: 3, failed: 2, skipped: 1 });
  assert.deepEqual(readPlaywright(json({}, [{}])), { passed: 3, failed: 1, skipped: 1 });
});

test('the closing line names skipped tests only when there are some', () => {
  assert.equal(closingLine(add(nothing(), { passed: 2, failed: 0, skipped: 0 })), '2 passed, 0 failed');
  assert.equal(closingLine({ passed: 2, failed: 1, skipped: 3 }), '2 passed, 1 failed, 3 skipped');
});
