// The files of the host below images, on a FileIo that answers as kernels and failing drives do.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { complete, type IoResult } from '../io/file-io.ts';
import type { IoBuffers } from '../io/io-buffers.ts';
import { scratchPool } from '../io/io-buffers.ts';
import { PlainFileIo } from '../io/plain-file-io.ts';
import { VitrineError } from '../../shared/errors.ts';
import { HostFile } from './host-file.ts';
import { RawImage } from './raw-image.ts';
import { inFolder, random } from './testing.ts';

const EINTR = 4;
const EIO = 5;
const EAGAIN = 11;
const EINVAL = 22;
const ENOSPC = 28;
const O_NONBLOCK = 0o4000;
const O_DIRECT = process.arch === 'arm64' ? 0o200000 : 0o40000;
const BYTES = 65536;

/** Gives results that are told to it in place of the kernel's, and counts what it is asked. */
class Scripted extends PlainFileIo {
  /** Of reads and writes that are not for now, and of those that are: what to answer instead, and how often. */
  refuse = { result: 0, later: 0, now: 0 };
  asked = { later: 0, now: 0 };
  /** What the next syncs answer; the kernel does those after them. */
  syncs: number[] = [];

  #answer(when: 'later' | 'now', really: number): number {
    this.asked[when]++;
    return this.refuse[when]-- > 0 ? this.refuse.result : really;
  }

  override readv(fd: number, offset: number, buffers: IoBuffers, done: IoResult): void {
    super.readv(fd, offset, buffers, (result) => done(this.#answer('later', result)));
  }

  override writev(fd: number, offset: number, buffers: IoBuffers, done: IoResult): void {
    super.writev(fd, offset, buffers, (result) => done(this.#answer('later', result)));
  }

  override readNow(fd: number, offset: number, buffers: IoBuffers): number {
    return this.#answer('now', super.readNow(fd, offset, buffers));
  }

  override writeNow(fd: number, offset: number, buffers: IoBuffers): number {
    return this.#answer('now', super.writeNow(fd, offset, buffers));
  }

  override fdatasync(fd: number, done: IoResult): void {
    super.fdatasync(fd, (result) => done(this.syncs.shift() ?? result));
  }

  override syncNow(fd: number): number {
    return this.syncs.shift() ?? super.syncNow(fd);
  }
}

function withFile(body: (file: HostFile, io: Scripted, path: string) => void): void {
  inFolder((folder) => {
    const path = join(folder, 'file');
    writeFileSync(path, new Uint8Array(BYTES).fill(1));
    const io = new Scripted();
    const file = HostFile.open(path, { io, write: true, lock: 'write' });
    try {
      body(file, io, path);
    } finally {
      file.close();
      io.close();
    }
  });
}

const flagsOf = (file: HostFile): number => Number.parseInt(/^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${file.fd}`, 'latin1'))![1]!, 8);

test('an open image has no O_NONBLOCK, and keeps O_DIRECT', () => {
  withFile((file, io, path) => {
    assert.equal(flagsOf(file) & (O_NONBLOCK | O_DIRECT), 0);
    file.close();
    let direct: HostFile;
    try {
      direct = HostFile.open(path, { io, write: true, direct: true, lock: 'write' });
    } catch (thrown) { // a file system that has none
      assert.ok(thrown instanceof VitrineError && thrown.problem.why.includes('O_DIRECT'), String(thrown));
      return;
    }
    assert.equal(flagsOf(direct) & (O_NONBLOCK | O_DIRECT), O_DIRECT);
    direct.close();
  });
});

test('EAGAIN is asked again a few times, then done in the thread that waits, and is an error at last', () => {
  withFile((file, io, path) => {
    const scratch = scratchPool.take(BYTES);
    const read = (done: (errno: number) => void): void => file.read(0, scratch.list, done);
    const write = (done: (errno: number) => void): void => file.writeAt(0, scratch.list, done);
    for (const [ask, before, after] of [[read, 0, 1], [write, 2, 2]] as const) {
      for (const [later, now, errno] of [[3, 0, 0], [Infinity, 0, 0], [Infinity, Infinity, EAGAIN]] as const) {
        scratch.bytes.fill(before);
        io.refuse = { result: -EAGAIN, later, now };
        io.asked = { later: 0, now: 0 };
        assert.equal(complete(io, ask), errno);
        assert.ok(io.asked.later <= 20 && io.asked.now === (later === Infinity ? 1 : 0), JSON.stringify(io.asked));
        if (errno === 0) assert.ok(scratch.bytes.every((byte) => byte === after));
      }
    }
    assert.ok(readFileSync(path).every((byte) => byte === 2));
    io.refuse = { result: -EAGAIN, later: 0, now: 3 };
    assert.deepEqual(file.readNow(0, BYTES), new Uint8Array(BYTES).fill(2));
    io.refuse = { result: -EAGAIN, later: 0, now: 3 };
    file.writeNow(0, new Uint8Array(BYTES).fill(3));
    assert.ok(readFileSync(path).every((byte) => byte === 3));
    io.refuse.now = Infinity;
    assert.throws(() => file.readNow(0, 512), { errno: EAGAIN });
    assert.throws(() => file.writeNow(0, new Uint8Array(512)), { errno: EAGAIN });
    io.refuse.now = 0;
    scratch.giveBack();
  });
});

test('a sync that failed fails for ever, asked for either way; EINTR is no failure', () => {
  for (const now of [false, true]) {
    withFile((file, io, path) => {
      const sync = (): number => complete(io, (done) => file.sync(done));
      io.syncs = [-EINTR, -EINTR];
      assert.equal(sync(), 0);
      io.syncs = Array.from({ length: 8 }, () => -EINTR); // the last one is done by the thread
      assert.equal(sync(), 0);
      file.syncNow();
      assert.equal(file.syncFailed, 0);
      io.syncs = [-ENOSPC, 0, -EIO];
      if (now) assert.throws(() => file.syncNow(), { errno: ENOSPC });
      else assert.equal(sync(), ENOSPC);
      for (let time = 0; time < 3; time++) {
        assert.equal(sync(), ENOSPC);
        assert.throws(() => file.syncNow(), { errno: ENOSPC });
      }
      assert.equal(file.syncFailed, ENOSPC);
      assert.equal(io.syncs.length, 2, 'the kernel is not asked again');
      const raw = new RawImage(file, false, false);
      assert.equal(raw.flushFailed, ENOSPC);
      assert.equal(raw.close(), ENOSPC);
      // Opened anew, it is another matter.
      const again = HostFile.open(path, { io, write: true, lock: 'write' });
      io.syncs = [];
      again.syncNow();
      again.close();
    });
  }
});

test('of two syncs under way the second one fails with the first', () => {
  withFile((file, io) => {
    io.syncs = [-EIO];
    const results: number[] = [];
    for (let i = 0; i < 2; i++) file.sync((errno) => results.push(errno));
    while (io.pending > 0) io.wait();
    assert.deepEqual(results, [EIO, EIO]);
  });
});

const SEED = Number(process.env['VITRINE_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

test(`single sectors on a drive whose blocks are larger: many requests under way, each block keeps what the others wrote (seed ${SEED})`, (t) => {
  withFile((shut, io, path) => {
    shut.close();
    io.refuse = { result: -EINVAL, later: 0, now: 1 }; // of 512 bytes
    let file: HostFile;
    try {
      file = HostFile.open(path, { io, write: true, direct: true, lock: 'write' });
    } catch (thrown) {
      assert.ok(thrown instanceof VitrineError && thrown.problem.why.includes('O_DIRECT'), String(thrown));
      return t.skip('this file system has no O_DIRECT');
    }
    assert.equal(file.alignment, 4096);
    const next = random(SEED);
    const model = new Uint8Array(BYTES).fill(1);
    for (let round = 0; round < 60; round++) {
      const given: (() => void)[] = [];
      const ended: number[] = [];
      const done = (errno: number): void => void ended.push(errno);
      let asked = 0;
      for (let at = next(4) * 512; at < BYTES; asked++) {
        const bytes = Math.min((1 + next(12)) * 512, BYTES - at);
        if (next(3) === 0) {
          file.writeZeros(at, bytes, next(2) === 0, done);
          model.fill(0, at, at + bytes);
        } else {
          const scratch = scratchPool.take(bytes);
          given.push(() => scratch.giveBack());
          scratch.bytes.fill(1 + next(255));
          model.set(scratch.bytes, at);
          file.writeAt(at, scratch.list, done);
        }
        at += bytes + next(3) * 512;
      }
      while (ended.length < asked) io.wait();
      assert.ok(ended.every((errno) => errno === 0), ended.join());
      for (const give of given) give();
      assert.ok(Buffer.compare(readFileSync(path), model) === 0, `round ${round}`);
      const some = scratchPool.take(1536);
      const from = next(BYTES / 512 - 3) * 512;
      assert.equal(complete(io, (told) => file.read(from, some.list, told)), 0);
      assert.deepEqual(some.bytes, model.slice(from, from + 1536));
      some.giveBack();
    }
    file.close();
  });
});
