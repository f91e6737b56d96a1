import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readable } from '../kvm/libc.ts';
import { complete, openFileIo, type FileIo } from './file-io.ts';
import { concatenate, PieceList, ScratchPool, zeros } from './io-buffers.ts';
import { IoUring } from './io-uring.ts';

const FALLOC_FL_KEEP_SIZE_PUNCH_HOLE = 3;
const EBADF = 9;

const kinds = (['io_uring', 'preadv'] as const).filter((kind) => kind === 'preadv' || typeof IoUring.open() !== 'string');

/** The test with each way of I/O that this system allows, on a file of 1 MiB whose byte i is a function of i. */
function onEach(name: string, body: (io: FileIo, fd: number, path: string) => void): void {
  for (const kind of kinds) {
    test(`${kind}: ${name}`, () => {
      const folder = mkdtempSync(join(tmpdir(), 'vitrine-io-'));
      const path = join(folder, 'file');
      writeFileSync(path, pattern(0, 2 ** 20));
      const fd = openSync(path, 'r+');
      const io = openFileIo(kind);
      try {
        assert.equal(io.kind, kind);
        body(io, fd, path);
      } finally {
        io.close();
        closeSync(fd);
        rmSync(folder, { recursive: true });
      }
    });
  }
}

const pattern = (from: number, length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => ((from + i) * 31 + ((from + i) >> 8)) & 255);

const pool = new ScratchPool();

onEach('five hundred reads of one to nine pieces come back right, in whatever order', (io, fd) => {
  let told = 0;
  for (let i = 0; i < 500; i++) {
    const offset = (i * 7919) % (2 ** 20 - 40000);
    const scratches = Array.from({ length: 1 + (i % 9) }, (_, k) => pool.take(100 + ((i * 131 + k * 977) % 4000)));
    const list = concatenate(scratches.map((each) => each.list));
    io.readv(fd, offset, list, (result) => {
      assert.equal(result, list.bytes);
      const got = new Uint8Array(list.bytes);
      assert.equal(list.read(0, got), list.bytes);
      assert.deepEqual(got, pattern(offset, list.bytes));
      for (const scratch of scratches) scratch.giveBack();
      told++;
    });
  }
  assert.equal(told, 0, 'never from the call that asks');
  assert.equal(io.pending, 500);
  while (io.pending > 0) io.wait();
  assert.equal(told, 500);
});

onEach('writes, fdatasync and a punched hole reach the file', (io, fd, path) => {
  const scratch = pool.take(8192);
  scratch.bytes.fill(0xab);
  const list = new PieceList([{ bytes: scratch.bytes.subarray(10, 20), hva: scratch.hva + 10 }, { bytes: scratch.bytes.subarray(4096, 8192), hva: scratch.hva + 4096 }]);
  assert.equal(complete(io, (done) => io.writev(fd, 2 ** 20 - 5, list, done)), 4106);
  assert.equal(complete(io, (done) => io.fdatasync(fd, done)), 0);
  assert.equal(complete(io, (done) => io.fallocate(fd, FALLOC_FL_KEEP_SIZE_PUNCH_HOLE, 65536, 65536, done)), 0);
  assert.equal(complete(io, (done) => io.writev(fd, 131072, zeros(200000), done)), 200000);
  const want = new Uint8Array(2 ** 20 - 5 + 4106);
  want.set(pattern(0, 2 ** 20));
  want.fill(0xab, 2 ** 20 - 5);
  want.fill(0, 65536, 131072 + 200000);
  assert.deepEqual(new Uint8Array(readFileSync(path)), want);
  assert.ok(statSync(path).blocks * 512 < want.length);
  scratch.giveBack();
});

onEach('the eventfd tells of completions; errors are errnos; the end of the file is a short read', (io, fd) => {
  const scratch = pool.take(4096);
  const results: number[] = [];
  io.readv(fd, 2 ** 20 - 100, scratch.list, (result) => results.push(result));
  io.readv(-1, 0, scratch.list, (result) => results.push(result));
  io.submit();
  while (results.length < 2) if (readable(io.eventFd)) io.reap();
  assert.deepEqual(results.toSorted((a, b) => a - b), [-EBADF, 100]);
  assert.equal(readable(io.eventFd), false);
});

onEach('a completion may ask for more, thousands deep', (io, fd) => {
  const scratch = pool.take(512);
  let left = 3000;
  const again = (result: number): void => {
    assert.equal(result, 512);
    if (left-- > 0) io.readv(fd, (left * 512) % 2 ** 20, scratch.list, again);
  };
  for (let i = 0; i < 300; i++) io.readv(fd, i * 512, scratch.list, again);
  while (io.pending > 0) io.wait();
  assert.equal(left, -300);
});

test('lists of pieces slice, copy and join as one array of bytes does', () => {
  const arrays = [3, 1, 7, 20].map((length, k) => Uint8Array.from({ length }, (_, i) => k * 32 + i));
  const parts = arrays.map((bytes) => new PieceList([{ bytes, hva: 4096 * bytes.length }]));
  const joined = concatenate([concatenate(parts.slice(0, 2)), concatenate(parts.slice(2))]);
  const flat = Uint8Array.from(arrays.flatMap((each) => [...each]));
  for (let offset = 0; offset <= 31; offset++) {
    for (let length = 0; offset + length <= 31; length++) {
      const cut = joined.slice(offset, length);
      assert.equal(cut.bytes, length);
      let sum = 0;
      for (let i = 0; i < cut.pieces; i++) sum += cut.length(i);
      assert.equal(sum, length);
      const got = new Uint8Array(length);
      assert.equal(joined.read(offset, got), length);
      assert.deepEqual(got, flat.subarray(offset, offset + length));
    }
  }
  assert.equal(joined.slice(4).hva(0), 4096 * 7);
  assert.equal(joined.slice(5).hva(0), 4096 * 7 + 1);
  joined.write(2, Uint8Array.of(200, 201, 202));
  assert.deepEqual([arrays[0]![2], arrays[1]![0], arrays[2]![0]], [200, 201, 202]);
});
