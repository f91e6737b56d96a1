// Damaged and hostile images: whatever stands in the file, opening it fails in words or its requests fail with an error number; nothing hangs,
// nothing is thrown that is no VitrineError, and the file does not grow beyond reason. VITRINE_LONG=1 for more, VITRINE_SEED to repeat.
import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { VitrineError } from '../../../shared/errors.ts';
import { complete } from '../../io/file-io.ts';
import { scratchPool } from '../../io/io-buffers.ts';
import { createDisk, describeDisk, resizeDisk } from '../make-disk.ts';
import { openDisk } from '../open-disk.ts';
import { inFolder, qemu, random, tool, withFileIo } from '../testing.ts';

const LONG = process.env['VITRINE_LONG'] === '1';
const SEED = Number(process.env['VITRINE_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const IMAGES = LONG ? 4000 : 60;
const MIB = 2 ** 20;

const EIO = 5;

/** Small images with everything in them. */
function seeds(folder: string): Buffer[] {
  const at = (name: string): string => join(folder, name);
  writeFileSync(at('base'), new Uint8Array(MIB).fill(7));
  writeFileSync(at('in'), Uint8Array.from({ length: MIB }, (_, i) => (i >> 10) & 255));
  qemu('qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', 'cluster_size=4096', at('in'), at('0'));
  qemu('qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', 'cluster_size=4096,compression_type=zstd', at('in'), at('1'));
  qemu('qemu-img', 'create', '-f', 'qcow2', '-b', 'base', '-F', 'raw', '-o', 'cluster_size=512', at('2'));
  qemu('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 200k', '-c', 'write -z 300k 100k', at('2'));
  qemu('qemu-img', 'snapshot', '-c', 'one', at('2'));
  qemu('qemu-io', '-f', 'qcow2', '-c', 'write -P 2 100k 50k', at('2'));
  qemu('qemu-img', 'create', '-f', 'qcow2', '-o', 'cluster_size=1024,compat=0.10', at('3'), '1M');
  qemu('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 200k', at('3'));
  qemu('qemu-img', 'create', '-f', 'qcow2', '-o', 'cluster_size=512,refcount_bits=2,lazy_refcounts=on', at('4'), '1M');
  qemu('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 100k', at('4'));
  return [0, 1, 2, 3, 4].map((i) => readFileSync(at(`${i}`)));
}

/** Offsets where the image's tables lie: header, refcounts, L1, some of L2. */
function tables(image: Buffer): number[] {
  const cluster = 2 ** image.readUInt32BE(20);
  const places = [0, Number(image.readBigUInt64BE(40)), Number(image.readBigUInt64BE(48)), Number(image.readBigUInt64BE(64))];
  for (const table of [Number(image.readBigUInt64BE(40)), Number(image.readBigUInt64BE(48))]) {
    for (let i = 0; i < 8; i++) {
      const entry = Number(image.readBigUInt64BE(table + i * 8) & 0x00ff_ffff_ffff_fe00n);
      if (entry > 0 && entry + cluster <= image.length) places.push(entry);
    }
  }
  return places;
}

function damage(image: Buffer, next: (below: number) => number): Buffer {
  const bytes = Buffer.from(image);
  const places = tables(image);
  if (next(10) === 0) return bytes.subarray(0, next(bytes.length));
  for (let n = 1 + next(4); n > 0; n--) {
    const place = places[next(places.length)]! + next(next(2) === 0 ? 112 : 512);
    if (place + 8 > bytes.length) continue;
    switch (next(6)) {
      case 0: bytes[place] = next(256); break;
      case 1: bytes[place]! ^= 1 << next(8); break;
      case 2: bytes.writeBigUInt64BE(BigInt(places[next(places.length)]!) | (next(2) === 0 ? 1n << 63n : 0n), place - (place % 8)); break;
      case 3: bytes.writeBigUInt64BE((BigInt(next(2 ** 31)) << 33n) | BigInt(next(2 ** 31)), place - (place % 8)); break;
      case 4: bytes.writeUInt32BE(next(2) === 0 ? 0xffff_ffff : next(2 ** 31), place - (place % 4)); break;
      default: bytes.fill(next(256), place, place + next(64));
    }
  }
  return bytes;
}

test(`damaged images give words and error numbers, nothing else (seed ${SEED})`, () => {
  inFolder((folder) => {
    const next = random(SEED);
    const images = seeds(folder);
    const path = join(folder, 'damaged');
    let opened = 0;
    let refused = 0;
    for (let i = 0; i < IMAGES; i++) {
      writeFileSync(path, damage(images[i % images.length]!, next));
      try {
        use(path, next);
        opened++;
      } catch (thrown) {
        if (!(thrown instanceof VitrineError)) throw new Error(`image ${i} of seed ${SEED}`, { cause: thrown });
        refused++;
      }
      assert.ok(statSync(path).size < 80 * MIB, `image ${i}: the file has grown to ${statSync(path).size}`);
    }
    assert.ok(opened > 0 && refused > 0);
  });
});

function use(path: string, next: (below: number) => number): void {
  try {
    describeDisk(path, 'qcow2');
    if (next(8) === 0) resizeDisk({ path, format: 'qcow2', bytes: MIB + next(MIB) });
  } catch (thrown) {
    if (!(thrown instanceof VitrineError) && (thrown as { errno?: number }).errno === undefined) throw thrown;
  }
  withFileIo('best', (io) => {
    const disk = openDisk(path, { io, readonly: next(4) === 0, format: 'qcow2' });
    const scratch = scratchPool.take(20000);
    scratch.bytes.fill(0x99);
    try {
      const most = Math.min(disk.bytes, MIB);
      for (let k = 0; k < 30; k++) {
        const offset = next(Math.max(most - 20000, 1));
        const list = scratch.list.slice(0, 1 + next(20000));
        const errno = complete(io, (done) => {
          switch (next(6)) {
            case 0: case 1: return disk.read(offset, list, done);
            case 2: return disk.discard(offset, list.bytes, done);
            case 3: return disk.writeZeroes(offset, list.bytes, next(2) === 0, done);
            case 4: return disk.flush(done);
            default: return disk.write(offset, list, done);
          }
        });
        assert.ok(Number.isInteger(errno) && errno >= 0);
      }
    } finally {
      scratch.giveBack();
      disk.close();
    }
  });
}

test('data that lies over a table is refused, and the image marked as corrupt, as QEMU does', () => {
  inFolder((folder) => {
    const path = join(folder, 'disk.qcow2');
    createDisk({ path, format: 'qcow2', bytes: MIB });
    qemu('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 128k', path);
    const image = readFileSync(path);
    const l1 = Number(image.readBigUInt64BE(40));
    const l2 = Number(image.readBigUInt64BE(l1) & 0x00ff_ffff_ffff_fe00n);
    for (const [what, target] of [['header', 0x0], ['refcount table', Number(image.readBigUInt64BE(48))], ['L1 table', l1], ['L2 table', l2]] as const) {
      if (target === 0) continue; // an offset of 0 is "not allocated"
      const bytes = Buffer.from(image);
      bytes.writeBigUInt64BE((1n << 63n) | BigInt(target), l2);
      writeFileSync(path, bytes);
      const said: string[] = [];
      withFileIo('best', (io) => {
        const disk = openDisk(path, { io, readonly: false, log: (text) => said.push(text) });
        const scratch = scratchPool.take(4096);
        assert.equal(complete(io, (done) => disk.write(0, scratch.list, done)), EIO);
        assert.equal(complete(io, (done) => disk.write(70000, scratch.list, done)), EIO, 'nor anything else');
        assert.equal(complete(io, (done) => disk.read(70000, scratch.list, done)), 0, 'what can be read still is');
        assert.equal(scratch.bytes[0], 1);
        scratch.giveBack();
        disk.close();
      });
      assert.match(said.join(), new RegExp(what));
      assert.equal(describeDisk(path).qcow2!.corrupt, true);
      assert.match(tool('qemu-img', 'info', path).text, /corrupt: true/);
      withFileIo('best', (io) => {
        assert.throws(() => openDisk(path, { io, readonly: false }), (thrown) => thrown instanceof VitrineError && thrown.problem.code === 'image-corrupt');
        openDisk(path, { io, readonly: true }).close();
      });
    }
  });
});
