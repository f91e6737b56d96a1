// The process that writes an image is killed in the middle: QEMU's check finds no corruption (space may be lost), and whatever was flushed is
// there. VITRINE_LONG=1 for more.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createDisk, createOverlay } from '../make-disk.ts';
import { openDisk } from '../open-disk.ts';
import { check, PlainDisk, qemu, withFileIo } from '../testing.ts';
import { crashPlan, SCRATCH_START } from './crash-plan.ts';

const LONG = process.env['VITRINE_LONG'] === '1';
const KILLS = LONG ? 12 : 2;
const BLOCK = 4096;
const BLOCKS = SCRATCH_START / BLOCK;
const MIB = 2 ** 20;

const shapes: readonly [string, (folder: string, path: string) => void][] = [
  ['new', (_, path) => createDisk({ path, format: 'qcow2', bytes: 64 * MIB })],
  ['clusters of 512 bytes', (_, path) => createDisk({ path, format: 'qcow2', bytes: 64 * MIB, clusterBytes: 512 })],
  ['over a raw file, with a snapshot', (folder, path) => {
    writeFileSync(join(folder, 'base'), new Uint8Array(64 * MIB));
    createOverlay({ path, backing: join(folder, 'base'), backingFormat: 'raw', clusterBytes: 4096 });
    qemu('qemu-io', '-f', 'qcow2', '-c', 'write -P 0 0 30M', path);
    qemu('qemu-img', 'snapshot', '-c', 'kept', path);
  }],
];

/** Kills the writer after `flushes` flushes and some writes. @returns the stamp of the last flush that it told of */
async function killedAfter(path: string, seed: number, flushes: number, wait: number): Promise<number> {
  const writer = spawn(process.execPath, [join(import.meta.dirname, 'crash-writer.ts'), path, `${seed}`, `${BLOCKS}`, `${BLOCK}`], { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  const ended = once(writer, 'exit');
  for await (const chunk of writer.stdout) {
    said += String(chunk);
    if (said.split('\n').length <= flushes) continue;
    const until = performance.now() + wait; // some moment between two flushes
    while (performance.now() < until);
    writer.kill('SIGKILL');
  }
  const [, signal] = (await ended) as [number | null, string | null];
  assert.equal(signal, 'SIGKILL', 'it wrote until it was killed');
  return Number(said.slice(0, said.lastIndexOf('\n')).split('\n').at(-1));
}

for (const [name, make] of shapes) {
  test(`killed in the middle of writing: ${name}`, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vitrine-crash-'));
    try {
      for (let kill = 0; kill < KILLS; kill++) {
        const seed = 1000 + kill;
        const path = join(folder, `disk-${kill}.qcow2`);
        make(folder, path);
        const flushed = await killedAfter(path, seed, 3 + kill * 2, Math.random() * 20);
        check(path, true);
        verify(path, seed, flushed);
        check(path, true);
        rmSync(path);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}

/** Every block has what the last write to it before the flush wrote, or a later one. */
function verify(path: string, seed: number, flushed: number): void {
  const covered = new Map<number, number>();
  const possible = new Map<number, Set<number>>();
  for (const step of crashPlan(seed, BLOCKS)) {
    if (step.kind !== 'write') continue;
    if (step.stamp > flushed + 5000) break;
    if (step.block >= BLOCKS) continue;
    if (step.stamp <= flushed) covered.set(step.block, step.stamp);
    else possible.set(step.block, (possible.get(step.block) ?? new Set()).add(step.stamp));
  }
  assert.ok(covered.size > 0);
  withFileIo('best', (io) => {
    const disk = new PlainDisk(openDisk(path, { io, readonly: false }), io);
    for (const [block, stamp] of covered) {
      const words = new Uint32Array(disk.read(block * BLOCK, BLOCK).buffer);
      for (const word of words) if (word !== stamp && possible.get(block)?.has(word) !== true) assert.fail(`block ${block} has ${word}, and ${stamp} was flushed`);
    }
    disk.close();
  });
}
