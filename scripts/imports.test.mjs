// The import rules of .oxlintrc.json catch what they are there for: wrong imports, written for this test, fail the lint; right ones pass.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { root } from './setup/run.mjs';

let project;
before(() => {
  project = mkdtempSync(join(tmpdir(), 'vitrine-lint-'));
  cpSync(join(root, '.oxlintrc.json'), join(project, '.oxlintrc.json'));
});
after(() => rmSync(project, { recursive: true, force: true }));

/** The rules that an import in a file breaks. */
function lint(file, specifier) {
  const path = join(project, file);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `import { thing } from '${specifier}';\nthing();\n`);
  const { stdout } = spawnSync(join(root, 'scripts/node24'), [join(root, 'node_modules/oxlint/bin/oxlint'), '--format=json', '.'], { cwd: project, encoding: 'utf8' });
  rmSync(path);
  return JSON.parse(stdout).diagnostics.map(({ code }) => code);
}

const wrong = [
  ['src/shared/a.ts', '../vmm/bus/handler.ts'],
  ['src/shared/a.ts', 'react'],
  ['src/vmm/bus/a.ts', '../../main/library/library.ts'],
  ['src/vmm/bus/a.ts', 'electron'],
  ['src/vmm/bus/a.ts', 'react'],
  ['src/main/library/a.ts', '../electron/main.ts'],
  ['src/main/library/a.ts', 'electron'],
  ['src/main/a.ts', './electron/main.ts'],
  ['src/main/front/a.ts', '../../renderer/main.tsx'],
  ['src/main/electron/a.ts', '../../cli/main.ts'],
  ['src/cli/a.ts', '../main/electron/main.ts'],
  ['src/cli/a.ts', '../renderer/main.tsx'],
  ['src/renderer/a.ts', '../vmm/bus/handler.ts'],
  ['src/renderer/pages/a.tsx', '../../main/library/library.ts'],
  ['src/renderer/a.ts', 'electron'],
  ['src/renderer/a.ts', 'node:fs'],
  ['src/preload/a.ts', '../main/library/library.ts'],
];
for (const [file, specifier] of wrong) {
  test(`${file} must not import ${specifier}`, () => {
    assert.deepEqual(lint(file, specifier), ['eslint(no-restricted-imports)']);
  });
}

const right = [
  ['src/vmm/bus/a.ts', '../../shared/errors.ts'],
  ['src/vmm/bus/a.ts', '../machine/main.ts'],
  ['src/vmm/bus/a.ts', 'koffi'],
  ['src/main/library/a.ts', '../../vmm/kvm/probe.ts'],
  ['src/main/electron/a.ts', '../library/library.ts'],
  ['src/main/electron/a.ts', 'electron'],
  ['src/cli/a.ts', '../main/library/library.ts'],
  ['src/cli/a.ts', '../shared/errors.ts'],
  ['src/renderer/a.ts', '../shared/errors.ts'],
  ['src/renderer/a.test.ts', 'node:test'],
  ['src/preload/a.ts', 'electron'],
];
for (const [file, specifier] of right) {
  test(`${file} may import ${specifier}`, () => {
    assert.deepEqual(lint(file, specifier), []);
  });
}
