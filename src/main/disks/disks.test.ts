import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { VitrineError } from '../../shared/errors.ts';
import { onDisks } from './run.ts';

const MiB = 2 ** 20;
const code = (expected: string) => (e: unknown) => e instanceof VitrineError && e.problem.code === expected;

test('images are made, overlaid, resized and described by a process of their own', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-disks-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const at = (name: string) => join(folder, name);
  const { disk: base } = await onDisks({ do: 'create', disk: { file: at('base.qcow2'), format: 'qcow2', bytes: 8 * MiB } }, process.env);
  assert.ok(base.format === 'qcow2' && base.bytes === 8 * MiB && base.allocated! < MiB && !base.dirty && !base.corrupt);
  const { disk: over } = await onDisks({ do: 'create', disk: { file: at('over.qcow2'), format: 'qcow2', backing: { file: at('base.qcow2') } } }, process.env);
  assert.deepEqual([over.bytes, over.backing], [8 * MiB, { file: at('base.qcow2'), format: 'qcow2' }]);
  assert.equal((await onDisks({ do: 'resize', disk: { file: at('over.qcow2'), bytes: 16 * MiB, shrink: false } }, process.env)).disk.bytes, 16 * MiB);
  await assert.rejects(onDisks({ do: 'resize', disk: { file: at('over.qcow2'), bytes: MiB, shrink: false } }, process.env), code('image-shrink'));
  await assert.rejects(onDisks({ do: 'create', disk: { file: at('base.qcow2'), format: 'raw', bytes: MiB } }, process.env), code('image-exists'));
  await assert.rejects(onDisks({ do: 'create', disk: { file: at('x'), format: 'raw', backing: { file: at('base.qcow2') } } }, process.env), code('image-shape'));
  await assert.rejects(onDisks({ do: 'create', disk: { file: at('none/x'), format: 'raw', bytes: MiB } }, process.env), (e) => e instanceof VitrineError && e.problem.on === at('none/x'));
  assert.ok(!existsSync(at('none')));
  await onDisks({ do: 'create', disk: { file: at('own/x'), format: 'raw', bytes: MiB }, makeFolder: at('own') }, process.env);
  writeFileSync(at('text'), 'KDMV and more');
  const { disks } = await onDisks({ do: 'describe', files: [{ file: at('own/x') }, { file: at('none') }] }, process.env);
  assert.ok('disk' in disks[0]! && disks[0].disk.format === 'raw' && disks[0].disk.bytes === MiB && disks[0].disk.allocated === 0);
  assert.ok('problem' in disks[1]! && disks[1].problem.code === 'image-missing');
});
