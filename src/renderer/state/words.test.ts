import { test } from 'node:test';
import assert from 'node:assert/strict';
import { asSentence, cpuWords, failureWords, memoryWords, outcomeWords, screenWords, shownState, specWords } from './words.ts';
import type { LibraryEntry } from '../../shared/protocol/front.ts';

const MiB = 2 ** 20;

test('sizes and counts', () => {
  assert.equal(memoryWords(512 * MiB), '512 MiB');
  assert.equal(memoryWords(1024 * MiB), '1 GiB');
  assert.equal(memoryWords(1536 * MiB), '1.5 GiB');
  assert.equal(memoryWords(1025 * MiB), '1025 MiB');
  assert.equal(memoryWords(1024 * 1024 * MiB), '1 TiB');
  assert.equal(cpuWords(1), '1 CPU');
  assert.equal(cpuWords(4), '4 CPUs');
  assert.equal(screenWords(1280, 800, 0.691), '1280 × 800, scaled to 69 %');
  assert.equal(screenWords(1280, 800, 1), '1280 × 800');
});

test('a damaged file is a state of its own, without a specification', () => {
  const entry: LibraryEntry = {
    id: 'x', state: 'off',
    damaged: { path: '/somewhere/machine.json', problem: { attempted: 'read the machine', on: 'x', why: 'It is not JSON.', remedy: '', code: 'damaged' } },
  };
  assert.equal(shownState(entry), 'damaged');
  assert.equal(specWords(entry), '');
});

test('why a machine failed: its problem, else how it ended, else that it did not say', () => {
  const entry: LibraryEntry = { id: 'x', state: 'failed' };
  assert.match(failureWords(entry), /did not say why/);
  assert.equal(failureWords({ ...entry, lastOutcome: { endedAt: 0, how: 'killed' } }), outcomeWords({ endedAt: 0, how: 'killed' }));
  const problem = { attempted: 'run the guest', on: 'x', why: 'The guest reset itself three times.', remedy: '', code: 'triple-fault' };
  assert.equal(failureWords({ ...entry, problem }), `Cannot run the guest: ${problem.why}`);
});

test('a reason that stands alone begins like a sentence', () => {
  assert.equal(asSentence('it is empty.'), 'It is empty.');
  assert.equal(asSentence('/dev/kvm is not there.'), '/dev/kvm is not there.');
  assert.equal(asSentence('bzImage2 is odd.'), 'bzImage2 is odd.');
});
