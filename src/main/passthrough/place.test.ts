// The helper of a written host: started directly, as whoever runs Vitrine, never as root, and never this computer's own.
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { VitrineError } from '../../shared/errors.ts';
import { hostPlace } from './place.ts';

test('a written host has its own helper or none', async (t) => {
  const tree = mkdtempSync(join(tmpdir(), 'vpl-'));
  t.after(() => rmSync(tree, { recursive: true, force: true }));
  const program = join(tree, 'helper');
  writeFileSync(program, '#!/bin/sh\necho "$1 $(id -u) $VITRINE_TEST_ROOT $PPID"\n');
  const place = (helper: string) => hostPlace({ ...process.env, VITRINE_HOST_TREE: tree, VITRINE_TREE_HELPER: helper });
  const refused = (helper: string, way: 'lease' | 'install', why: RegExp) => {
    assert.throws(() => place(helper).starter!.start(way), (error) => error instanceof VitrineError && error.problem.code === 'helper-missing' && why.test(error.message));
    assert.deepEqual([place(helper).helper().state, why.test(place(helper).helper().why)], ['missing', true]);
  };
  assert.deepEqual([place('').sys, place('').run, place('').lib], [join(tree, 'sys'), join(tree, 'run'), join(tree, 'var/lib')]);
  refused('', 'lease', /without one/);
  if (process.getuid!() === 0) {
    chmodSync(program, 0o755);
    refused(program, 'install', /not started by root/);
    return;
  }
  refused(program, 'install', /is not there/); // no program
  chmodSync(program, 0o755);
  refused('helper', 'lease', /is not there/);
  // There, and not installed: it can do no more than that.
  assert.throws(() => place(program).starter!.start('lease'), /vitrine-helper is not there/);
  mkdirSync(join(tree, 'usr/local/libexec'), { recursive: true });
  writeFileSync(join(tree, 'usr/local/libexec/vitrine-helper'), '');
  assert.deepEqual([place(program).helper().state, place(program).helper().canAsk, place(program).root], ['installed', true, false]);
  const child = place(program).starter!.start('lease');
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
  await new Promise((resolve) => child.once('close', resolve));
  // Its parent is this process: nothing stands between that could change who it runs as.
  assert.equal(said.trim(), `lease ${process.getuid!()} ${tree} ${process.pid}`);
});

test('without a written host it is this computer\'s, whatever else is set', () => {
  const place = hostPlace({ VITRINE_TREE_HELPER: '/bin/sh' });
  assert.deepEqual([place.sys, place.run, place.starter, place.files], ['/sys', '/run', undefined, undefined]);
});
