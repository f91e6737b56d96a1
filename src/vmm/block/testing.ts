// What tests of disks share: QEMU's tools as the judge, a folder that goes, and a disk driven by plain arrays.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { complete, openFileIo, type FileIo } from '../io/file-io.ts';
import { PieceList, scratchPool } from '../io/io-buffers.ts';
import type { DiskImage, Done } from './disk-image.ts';

export interface ToolResult {
  readonly status: number | null;
  readonly text: string;
}

/** Runs one of QEMU's tools. @returns how it ended and all that it said */
export function tool(command: 'qemu-img' | 'qemu-io', ...args: string[]): ToolResult {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (error !== undefined) throw error;
  return { status, text: stdout + stderr };
}

/** Runs one of QEMU's tools, which must succeed. */
export function qemu(command: 'qemu-img' | 'qemu-io', ...args: string[]): string {
  const { status, text } = tool(command, ...args);
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${text}`);
  return text;
}

/** `qemu-img check` finds neither errors nor leaks (or, with `leaks`, only leaks). */
export function check(path: string, leaks = false): void {
  const { status, text } = tool('qemu-img', 'check', '-f', 'qcow2', path);
  assert.ok(status === 0 || (leaks && status === 3), `qemu-img check ${path}: ${text}`);
}

export function inFolder(body: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-disk-'));
  try {
    body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** A generator of numbers in [0, below) that repeats with its seed (xorshift32). */
export function random(seed: number): (below: number) => number {
  let x = (seed | 0) || 1;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

/** A disk by plain arrays, one request at a time. All throw when the request fails. */
export class PlainDisk {
  readonly disk: DiskImage;
  readonly io: FileIo;

  constructor(disk: DiskImage, io: FileIo) {
    this.disk = disk;
    this.io = io;
  }

  #run(what: string, start: (done: (errno: number) => void) => void): void {
    assert.equal(complete(this.io, start), 0, what);
  }

  read(offset: number, bytes: number): Uint8Array {
    const scratch = scratchPool.take(Math.max(bytes, 1));
    scratch.bytes.fill(0xee);
    const list = bytes === 0 ? new PieceList([]) : scratch.list;
    this.#run(`read ${bytes} at ${offset}`, (done) => this.disk.read(offset, list, done));
    const copy = scratch.bytes.slice(0, bytes);
    scratch.giveBack();
    return copy;
  }

  write(offset: number, from: Uint8Array): void {
    const scratch = scratchPool.take(from.length);
    scratch.bytes.set(from);
    this.#run(`write ${from.length} at ${offset}`, (done) => this.disk.write(offset, scratch.list, done));
    scratch.giveBack();
  }

  flush(): void {
    this.#run('flush', (done) => this.disk.flush(done));
  }

  discard(offset: number, bytes: number): void {
    this.#run(`discard ${bytes} at ${offset}`, (done) => this.disk.discard(offset, bytes, done));
  }

  writeZeroes(offset: number, bytes: number, mayUnmap: boolean): void {
    this.#run(`write zeroes ${bytes} at ${offset}`, (done) => this.disk.writeZeroes(offset, bytes, mayUnmap, done));
  }

  close(): void {
    assert.equal(this.disk.close(), 0);
  }
}

/** A disk that fails as it is told, and counts its flushes. */
export class Troubled implements DiskImage {
  readonly #disk: DiskImage;
  readonly #io: FileIo;
  readonly block: number | undefined;
  /** What every write gets. */
  trouble = 0;
  flushes = 0;
  flushFailed = 0;
  held: (() => void)[] | null = null;

  /** @param block what its file wants requests to be aligned to, unless it is asked itself */
  constructor(disk: DiskImage, io: FileIo, block?: number) {
    this.#disk = disk;
    this.#io = io;
    this.block = block;
  }

  /** Does the writes that were held. */
  letGo(): void {
    for (const go of this.held ?? []) go();
    this.held = null;
    this.#io.submit();
  }

  get bytes(): number { return this.#disk.bytes; }
  get readonly(): boolean { return this.#disk.readonly; }
  get format(): 'raw' | 'qcow2' { return this.#disk.format; }
  get blockBytes(): number { return this.block ?? this.#disk.blockBytes; }
  get clusterBytes(): number { return this.#disk.clusterBytes; }
  read(...args: Parameters<DiskImage['read']>): void { this.#disk.read(...args); }
  write(offset: number, buffers: Parameters<DiskImage['write']>[1], done: Done): void {
    const go = (): void => (this.trouble !== 0 ? done(this.trouble) : this.#disk.write(offset, buffers, done));
    if (this.held === null) go();
    else this.held.push(go);
  }
  flush(done: Done): void {
    this.flushes++;
    if (this.flushFailed !== 0) return done(this.flushFailed);
    this.#disk.flush(done);
  }
  discard(...args: Parameters<DiskImage['discard']>): void { this.#disk.discard(...args); }
  writeZeroes(...args: Parameters<DiskImage['writeZeroes']>): void { this.#disk.writeZeroes(...args); }
  close(): number { return this.#disk.close(); }
}

/** With a FileIo that is closed afterwards. */
export function withFileIo(kind: 'best' | 'io_uring' | 'preadv', body: (io: FileIo) => void): void {
  const io = openFileIo(kind);
  try {
    body(io);
  } finally {
    io.close();
  }
}
