// Random requests on qcow2 images, several under way at a time, against a plain array of bytes; QEMU's tools judge the file every so often:
// `qemu-img check` finds nothing, and `qemu-img compare` finds the bytes that the array has. VITRINE_LONG=1 for more, VITRINE_SEED to repeat.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { FileIo } from '../../io/file-io.ts';
import { PieceList, scratchPool, type Piece, type Scratch } from '../../io/io-buffers.ts';
import type { DiskImage } from '../disk-image.ts';
import { createDisk, createOverlay } from '../make-disk.ts';
import { openDisk } from '../open-disk.ts';
import { check, inFolder, PlainDisk, qemu, random, withFileIo } from '../testing.ts';

const LONG = process.env['VITRINE_LONG'] === '1';
const SEED = Number(process.env['VITRINE_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const ROUNDS = LONG ? 12 : 3;
const REQUESTS = LONG ? 1000 : 150;
const DEPTH = 12;

interface Shape {
  readonly name: string;
  readonly bytes: number;
  /** Makes the image at `path` in `folder` and gives what it contains. */
  readonly make: (folder: string, path: string, next: (below: number) => number) => Uint8Array;
}

const fill = (bytes: Uint8Array, next: (below: number) => number): Uint8Array => {
  for (let at = 0; at < bytes.length; ) { // runs, so that some clusters are alike, and some zero
    const length = 1 + next(20000);
    const value = next(3) === 0 ? 0 : next(256);
    bytes.fill(value, at, at + length);
    at += length;
  }
  return bytes;
};

const plain = (shape: { version?: 2 | 3; clusterBytes?: number; refcountBits?: number }, bytes: number): Shape => ({
  name: `version ${shape.version ?? 3}, clusters of ${shape.clusterBytes ?? 65536}, counts of ${shape.refcountBits ?? 16} bits`,
  bytes,
  make: (_folder, path) => {
    createDisk({ path, format: 'qcow2', bytes, ...shape });
    return new Uint8Array(bytes);
  },
});

const MIB = 2 ** 20;
const shapes: readonly Shape[] = [
  plain({}, 3 * MIB + 512),
  plain({ version: 2 }, 2 * MIB),
  plain({ clusterBytes: 512, refcountBits: 64 }, 600 * 1024),
  plain({ clusterBytes: 512, version: 2 }, 5000 * 512),
  plain({ clusterBytes: 4096, refcountBits: 1 }, 2 * MIB),
  plain({ clusterBytes: 2 * MIB, refcountBits: 8 }, 7 * MIB),
  {
    name: 'over a smaller raw file', bytes: 2 * MIB,
    make: (folder, path, next) => {
      const content = new Uint8Array(2 * MIB);
      const base = fill(new Uint8Array(1.3 * MIB - (1.3 * MIB) % 512), next);
      content.set(base);
      writeFileSync(join(folder, 'base.raw'), base);
      createOverlay({ path, backing: join(folder, 'base.raw'), backingFormat: 'raw', bytes: 2 * MIB, clusterBytes: 16384 });
      return content;
    },
  },
  {
    name: 'version 2 over a larger raw file', bytes: MIB,
    make: (folder, path, next) => {
      const base = fill(new Uint8Array(2 * MIB), next);
      writeFileSync(join(folder, 'base.raw'), base);
      createOverlay({ path, backing: join(folder, 'base.raw'), backingFormat: 'raw', bytes: MIB, clusterBytes: 4096, version: 2 });
      return base.slice(0, MIB);
    },
  },
  ...(['zlib', 'zstd'] as const).map((compression): Shape => ({
    name: `compressed by QEMU (${compression}), over nothing`, bytes: 2 * MIB,
    make: (folder, path, next) => {
      const content = fill(new Uint8Array(2 * MIB), next);
      writeFileSync(join(folder, 'in.raw'), content);
      qemu('qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', `compression_type=${compression},cluster_size=${compression === 'zlib' ? 65536 : 8192}`, join(folder, 'in.raw'), path);
      return content;
    },
  })),
  {
    name: 'over a compressed image, with a snapshot', bytes: 2 * MIB,
    make: (folder, path, next) => {
      const content = fill(new Uint8Array(2 * MIB), next);
      writeFileSync(join(folder, 'in.raw'), content);
      qemu('qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2', join(folder, 'in.raw'), join(folder, 'base.qcow2'));
      qemu('qemu-img', 'create', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', '-o', 'cluster_size=4096', path);
      qemu('qemu-io', '-f', 'qcow2', '-c', 'write -P 77 100k 300k', '-c', 'write -z 1M 100k', path);
      content.fill(77, 100 * 1024, 400 * 1024);
      content.fill(0, MIB, MIB + 100 * 1024);
      qemu('qemu-img', 'snapshot', '-c', 'before', path);
      return content;
    },
  },
];

/** Issues random requests, DEPTH at a time; those that overlap with one under way wait, so that the model is certain. */
class Driver {
  readonly #disk: DiskImage;
  readonly #io: FileIo;
  readonly #model: Uint8Array;
  readonly #next: (below: number) => number;
  #busy: { from: number; to: number }[] = [];

  constructor(disk: DiskImage, io: FileIo, model: Uint8Array, next: (below: number) => number) {
    this.#disk = disk;
    this.#io = io;
    this.#model = model;
    this.#next = next;
  }

  run(count: number): void {
    for (let i = 0; i < count; i++) {
      const next = this.#next;
      // Mostly sectors, at times any bytes; mostly small.
      const unit = next(8) === 0 ? 1 : 512;
      const offset = next(Math.floor(this.#disk.bytes / unit)) * unit;
      const most = [4096, 20000, 150000, 700000][Math.min(next(9), next(9), 3)]!;
      const bytes = Math.min(Math.ceil((1 + next(most)) / unit) * unit, this.#disk.bytes - offset);
      this.#settle(offset, offset + bytes);
      this.#one(offset, bytes);
      if (next(3) === 0) this.#io.submit();
      while (this.#busy.length >= DEPTH) this.#io.wait();
    }
    while (this.#busy.length > 0) this.#io.wait();
  }

  #settle(from: number, to: number): void {
    while (this.#busy.some((each) => each.from < to && from < each.to)) this.#io.wait();
  }

  #one(offset: number, bytes: number): void {
    const claim = { from: offset, to: offset + bytes };
    this.#busy.push(claim);
    const finish = (errno: number): void => {
      assert.equal(errno, 0);
      this.#busy = this.#busy.filter((each) => each !== claim);
    };
    const next = this.#next;
    const part = this.#model.subarray(offset, offset + bytes);
    switch (next(10)) {
      case 0: case 1: case 2: {
        const { list, scratches } = this.#buffers(bytes);
        return this.#disk.read(offset, list, (errno) => {
          finish(errno);
          const got = new Uint8Array(bytes);
          list.read(0, got);
          assert.ok(Buffer.compare(got, part) === 0, `${bytes} bytes at ${offset} are not what was written`);
          for (const each of scratches) each.giveBack();
        });
      }
      case 3:
        part.fill(0);
        return this.#disk.writeZeroes(offset, bytes, next(2) === 0, finish);
      case 4: {
        // What is discarded may stay or become zeros: the model takes what it finds. Nothing else runs there meanwhile.
        return this.#disk.discard(offset, bytes, (errno) => {
          assert.equal(errno, 0);
          const { list, scratches } = this.#buffers(bytes);
          this.#disk.read(offset, list, (readErrno) => {
            finish(readErrno);
            const got = new Uint8Array(bytes);
            list.read(0, got);
            for (let k = 0; k < bytes; k++) if (got[k] !== 0) assert.equal(got[k], part[k]);
            part.set(got);
            for (const each of scratches) each.giveBack();
          });
        });
      }
      case 5:
        claim.from = claim.to = -1;
        return this.#disk.flush(finish);
      default: {
        const { list, scratches } = this.#buffers(bytes);
        for (let at = 0; at < bytes; at += 8192) part.fill(next(256), at, at + 8192);
        list.write(0, part);
        return this.#disk.write(offset, list, (errno) => {
          finish(errno);
          for (const each of scratches) each.giveBack();
        });
      }
    }
  }

  /** One to four pieces, at odd addresses at times. */
  #buffers(bytes: number): { list: PieceList; scratches: Scratch[] } {
    const scratches: Scratch[] = [];
    const pieces: Piece[] = [];
    for (let left = bytes; left > 0; ) {
      const length = scratches.length === 3 ? left : Math.min(left, 1 + this.#next(left));
      const skip = this.#next(2) * 24;
      const scratch = scratchPool.take(length + skip);
      scratches.push(scratch);
      pieces.push({ bytes: scratch.bytes.subarray(skip), hva: scratch.hva + skip });
      left -= length;
    }
    return { list: new PieceList(pieces), scratches };
  }
}

for (const [i, shape] of shapes.entries()) {
  test(`random requests on a qcow2 image: ${shape.name} (seed ${SEED})`, () => {
    inFolder((folder) => {
      const next = random(SEED + i * 7919);
      const path = join(folder, 'disk.qcow2');
      const model = shape.make(folder, path, next);
      const raw = join(folder, 'model.raw');
      for (let round = 0; round < ROUNDS; round++) {
        withFileIo(round % 2 === 0 ? 'best' : 'preadv', (io) => {
          const disk = openDisk(path, { io, readonly: false, direct: round % 3 === 2, log: () => undefined });
          assert.equal(disk.bytes, shape.bytes);
          new Driver(disk, io, model, next).run(REQUESTS);
          const whole = new PlainDisk(disk, io);
          assert.ok(Buffer.compare(whole.read(0, disk.bytes), model) === 0, 'the whole disk, before it is closed');
          whole.close();
        });
        check(path);
        writeFileSync(raw, model);
        qemu('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', path, raw);
        if (shape.name.includes('snapshot')) qemu('qemu-img', 'snapshot', '-c', `after round ${round}`, path);
      }
      if (!shape.name.includes('snapshot')) return;
      // The snapshot taken at the start still has what it had.
      const restored = join(folder, 'restored.raw');
      qemu('qemu-img', 'convert', '-l', 'snapshot.name=before', '-f', 'qcow2', '-O', 'raw', path, restored);
      const original = join(folder, 'original.qcow2');
      qemu('qemu-img', 'create', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', original);
      qemu('qemu-io', '-f', 'qcow2', '-c', 'write -P 77 100k 300k', '-c', 'write -z 1M 100k', original);
      qemu('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', restored, original);
    });
  });
}
