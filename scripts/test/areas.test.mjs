import assert from 'node:assert/strict';
import { test } from 'node:test';
import { areas, sortTests } from './areas.mjs';

test('each file is of one kind, and of one area', () => {
  const paths = ['src/a/b.ts', 'src/a/b.test.ts', 'src/a/b.kvm.test.ts', 'lab/tests/c.lab.test.ts', 'lab/d.test.ts', 'e2e/e.spec.ts', 'scripts/test/f.test.mjs', 'e2e/fixtures.ts'];
  const sorted = sortTests(paths);
  assert.deepEqual(sorted, {
    kvm: ['src/a/b.kvm.test.ts'],
    lab: ['lab/tests/c.lab.test.ts'],
    e2e: ['e2e/e.spec.ts'],
    unit: ['src/a/b.test.ts', 'lab/d.test.ts', 'scripts/test/f.test.mjs'],
  });
  const byArea = areas.map((area) => Object.values(sortTests(paths, area)).flat()).flat();
  assert.deepEqual(byArea.sort(), Object.values(sorted).flat().sort());
});
