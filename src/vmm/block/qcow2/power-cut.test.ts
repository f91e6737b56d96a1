// The power is cut: of what was written since the last sync, any part may have reached the disk, in any order. Whatever part it is, QEMU's check
// finds no corruption, and what the guest had flushed is there. Every write, sync and punched hole of random requests is recorded; then files
// are made as a cut would leave them. VITRINE_LONG=1 for more, VITRINE_SEED to repeat.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { FileIo, IoResult } from '../../io/file-io-interface.ts';
import type { IoBuffers } from '../../io/io-buffers.ts';
import { PlainFileIo } from '../../io/plain-file-io.ts';
import { createDisk, createOverlay } from '../make-disk.ts';
import { openDisk } from '../open-disk.ts';
import { check, inFolder, PlainDisk, qemu, random } from '../testing.ts';

const LONG = process.env['VITRINE_LONG'] === '1';
const SEED = Number(process.env['VITRINE_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const REQUESTS = LONG ? 600 : 120;
const CUTS = LONG ? 300 : 25;
const SECTOR = 512;
const DISK = 2 ** 19;

type Step =
  | { kind: 'write'; offset: number; bytes: Uint8Array }
  | { kind: 'punch'; offset: number; length: number }
  | { kind: 'sync' }
  /** The guest's flush is done: the disk's content is `model`. */
  | { kind: 'flushed'; model: Uint8Array }
  /** From here on the guest changes this range. */
  | { kind: 'change'; from: number; to: number };

/** Writes as they go to one file. */
class Recorder implements FileIo {
  readonly kind = 'preadv';
  readonly steps: Step[] = [];
  readonly #io = new PlainFileIo();
  readonly eventFd = this.#io.eventFd;

  get pending(): number { return this.#io.pending; }

  #note(offset: number, buffers: IoBuffers): void {
    const bytes = new Uint8Array(buffers.bytes);
    buffers.read(0, bytes);
    this.steps.push({ kind: 'write', offset, bytes });
  }

  readv(fd: number, offset: number, buffers: IoBuffers, done: IoResult): void { this.#io.readv(fd, offset, buffers, done); }
  writev(fd: number, offset: number, buffers: IoBuffers, done: IoResult): void {
    this.#note(offset, buffers);
    this.#io.writev(fd, offset, buffers, done);
  }
  fdatasync(fd: number, done: IoResult): void {
    this.#io.fdatasync(fd, (result) => {
      this.steps.push({ kind: 'sync' });
      done(result);
    });
  }
  fallocate(): void { assert.fail('not for qcow2'); }
  readNow(fd: number, offset: number, buffers: IoBuffers): number { return this.#io.readNow(fd, offset, buffers); }
  writeNow(fd: number, offset: number, buffers: IoBuffers): number {
    this.#note(offset, buffers);
    return this.#io.writeNow(fd, offset, buffers);
  }
  syncNow(): number {
    this.steps.push({ kind: 'sync' });
    return 0; // only the record needs it
  }
  fallocateNow(fd: number, mode: number, offset: number, length: number): number {
    this.steps.push({ kind: 'punch', offset, length });
    return this.#io.fallocateNow(fd, mode, offset, length);
  }
  submit(): void { this.#io.submit(); }
  reap(): number { return this.#io.reap(); }
  wait(): void { this.#io.wait(); }
  close(): void { this.#io.close(); }
}

const shapes: readonly [string, (folder: string, path: string) => Uint8Array][] = [
  ['clusters of 4096 bytes', (_, path) => {
    createDisk({ path, format: 'qcow2', bytes: DISK, clusterBytes: 4096 });
    return new Uint8Array(DISK);
  }],
  ['clusters of 512 bytes, so that tables grow', (_, path) => {
    createDisk({ path, format: 'qcow2', bytes: DISK, clusterBytes: 512, refcountBits: 64 });
    return new Uint8Array(DISK);
  }],
  ['over a raw file, with a snapshot', (folder, path) => {
    const base = new Uint8Array(DISK).fill(0x41);
    writeFileSync(join(folder, 'base'), base);
    createOverlay({ path, backing: join(folder, 'base'), backingFormat: 'raw', clusterBytes: 2048 });
    qemu('qemu-io', '-f', 'qcow2', '-c', 'write -P 66 0 256k', path);
    qemu('qemu-img', 'snapshot', '-c', 'kept', path);
    return base.fill(66, 0, 2 ** 18);
  }],
];

for (const [i, [name, make]] of shapes.entries()) {
  test(`a cut of power at any moment: ${name} (seed ${SEED})`, () => {
    inFolder((folder) => {
      const next = random(SEED + i);
      const path = join(folder, 'disk.qcow2');
      const model = make(folder, path);
      const start = new Uint8Array(readFileSync(path));
      const steps = record(path, model, next);
      // Most is at stake just before a sync.
      const syncs = steps.flatMap((step, index) => (step.kind === 'sync' ? [index] : []));
      for (let cut = 0; cut < CUTS; cut++) {
        const at = next(4) === 0 ? next(steps.length) : syncs[next(syncs.length)]!;
        writeFileSync(path, cutAt(start, steps, at, next));
        check(path, true);
        verify(path, steps, at);
      }
    });
  });
}

function record(path: string, model: Uint8Array, next: (below: number) => number): Step[] {
  const io = new Recorder();
  const disk = new PlainDisk(openDisk(path, { io, readonly: false }), io);
  const { steps } = io;
  steps.push({ kind: 'flushed', model: model.slice() });
  for (let k = 0; k < REQUESTS; k++) {
    const offset = next(DISK / SECTOR) * SECTOR;
    const bytes = Math.min((1 + next(next(4) === 0 ? 60 : 6)) * SECTOR, DISK - offset);
    const what = next(8);
    if (what === 0) {
      disk.flush();
      steps.push({ kind: 'flushed', model: model.slice() });
      continue;
    }
    steps.push({ kind: 'change', from: offset, to: offset + bytes });
    if (what === 1) {
      disk.discard(offset, bytes);
      model.set(disk.read(offset, bytes), offset);
    } else if (what === 2) {
      disk.writeZeroes(offset, bytes, next(2) === 0);
      model.fill(0, offset, offset + bytes);
    } else {
      model.fill(1 + next(255), offset, offset + bytes);
      disk.write(offset, model.slice(offset, offset + bytes));
    }
  }
  disk.close();
  io.close();
  return steps;
}

/** The file after a cut before step `at`: everything up to the last sync, and of later sectors some. */
function cutAt(start: Uint8Array, steps: readonly Step[], at: number, next: (below: number) => number): Uint8Array {
  const size = steps.reduce((most, step) => (step.kind === 'write' ? Math.max(most, step.offset + step.bytes.length) : most), start.length);
  const file = new Uint8Array(size);
  file.set(start);
  let end = start.length;
  const synced = steps.slice(0, at).findLastIndex((step) => step.kind === 'sync');
  const chance = next(5);
  steps.slice(0, at).forEach((step, index) => {
    const sure = index < synced;
    if (step.kind === 'punch' && (sure || next(4) < chance)) file.fill(0, step.offset, step.offset + step.length);
    if (step.kind !== 'write') return;
    for (let from = 0; from < step.bytes.length; ) { // sectors are written whole
      const to = Math.min(from + SECTOR - ((step.offset + from) % SECTOR), step.bytes.length);
      if (sure || next(4) < chance) {
        file.set(step.bytes.subarray(from, to), step.offset + from);
        end = Math.max(end, step.offset + to);
      }
      from = to;
    }
  });
  return file.subarray(0, end);
}

/** What the guest had flushed and not changed since is there. */
function verify(path: string, steps: readonly Step[], at: number): void {
  const flushed = steps.slice(0, at + 1).findLastIndex((step) => step.kind === 'flushed');
  const { model } = steps[flushed] as Extract<Step, { kind: 'flushed' }>;
  const changed = new Uint8Array(DISK / SECTOR);
  for (const step of steps.slice(flushed, at)) if (step.kind === 'change') changed.fill(1, step.from / SECTOR, step.to / SECTOR);
  const io = new PlainFileIo();
  const disk = new PlainDisk(openDisk(path, { io, readonly: true }), io);
  const got = disk.read(0, DISK);
  for (let sector = 0; sector < changed.length; sector++) {
    if (changed[sector] === 1) continue;
    const [from, to] = [sector * SECTOR, (sector + 1) * SECTOR];
    assert.ok(Buffer.compare(got.subarray(from, to), model.subarray(from, to)) === 0, `sector ${sector} is not what was flushed`);
  }
  disk.close();
  io.close();
}
