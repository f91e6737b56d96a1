// Disks as their users meet them: formats, locks, chains of backing files, making, overlaying and resizing. QEMU's tools judge.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { VitrineError, type Problem } from '../../shared/errors.ts';
import { complete } from '../io/file-io.ts';
import { scratchPool, type IoBuffers } from '../io/io-buffers.ts';
import { createDisk, createOverlay, describeDisk, resizeDisk } from './make-disk.ts';
import { openDisk, type DiskOptions } from './open-disk.ts';
import { check, inFolder, PlainDisk, qemu, tool, withFileIo } from './testing.ts';

const MIB = 2 ** 20;

/** The problem that `body` fails with. */
function problem(body: () => unknown): Problem {
  try {
    body();
  } catch (thrown) {
    assert.ok(thrown instanceof VitrineError, String(thrown instanceof Error ? thrown.stack : thrown));
    return thrown.problem;
  }
  assert.fail('it succeeded');
}

function opened(path: string, body: (disk: PlainDisk) => void, options: Partial<DiskOptions> = {}): void {
  withFileIo('best', (io) => {
    const disk = new PlainDisk(openDisk(path, { io, readonly: false, ...options }), io);
    try {
      body(disk);
    } finally {
      disk.close();
    }
  });
}

const filled = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);

test('a new raw disk is sparse and of the size asked for; an existing file is left alone', () => {
  inFolder((folder) => {
    const path = join(folder, 'disk.raw');
    createDisk({ path, format: 'raw', bytes: 100 * MIB + 1 });
    assert.equal(statSync(path).size, 100 * MIB + 512);
    assert.ok(statSync(path).blocks * 512 < MIB);
    assert.equal(problem(() => createDisk({ path, format: 'qcow2', bytes: MIB })).code, 'image-exists');
    assert.equal(statSync(path).size, 100 * MIB + 512);
    assert.equal(problem(() => createDisk({ path: join(folder, 'no', 'disk'), format: 'raw', bytes: MIB })).code, 'image-missing');
    assert.equal(problem(() => createDisk({ path: join(folder, 'none'), format: 'raw', bytes: 0 })).code, 'image-size');
  });
});

test('new qcow2 disks of every shape are what qemu-img finds sound, and of the size asked for', () => {
  inFolder((folder) => {
    let n = 0;
    for (const [bytes, shape] of [
      [20 * 2 ** 30, {}], [2 ** 43, {}], [512, {}], [MIB, { version: 2 as const }], [300 * MIB, { clusterBytes: 512 }], [40 * MIB, { clusterBytes: 512, refcountBits: 64 }],
      [2 ** 40, { clusterBytes: 2 * MIB, refcountBits: 1 }], [2 ** 33, { clusterBytes: 4096, refcountBits: 2 }], [MIB, { refcountBits: 4 }], [MIB, { refcountBits: 32 }],
    ] as const) {
      const path = join(folder, `${n++}.qcow2`);
      createDisk({ path, format: 'qcow2', bytes, ...shape });
      check(path);
      const info = JSON.parse(qemu('qemu-img', 'info', '--output=json', path)) as { 'virtual-size': number; 'cluster-size': number; format: string };
      assert.deepEqual([info.format, info['virtual-size']], ['qcow2', bytes]);
      const mine = describeDisk(path);
      assert.equal(mine.bytes, bytes);
      assert.equal(mine.qcow2!.clusterBytes, info['cluster-size']);
      assert.ok(mine.allocatedBytes! < 70 * MIB);
    }
    for (const shape of [{ clusterBytes: 256 }, { clusterBytes: 3000 }, { clusterBytes: 4 * MIB }, { refcountBits: 3 }, { refcountBits: 128 }, { version: 2 as const, refcountBits: 8 }]) {
      assert.equal(problem(() => createDisk({ path: join(folder, 'bad'), format: 'qcow2', bytes: MIB, ...shape })).code, 'image-shape');
    }
    assert.equal(problem(() => createDisk({ path: join(folder, 'bad'), format: 'qcow2', bytes: 2 ** 45, clusterBytes: 512 })).code, 'image-not-resized');
    assert.throws(() => statSync(join(folder, 'bad')), { code: 'ENOENT' }, 'nothing is left of what failed');
  });
});

test('an overlay records its backing file and format, also when both move', () => {
  inFolder((folder) => {
    const base = join(folder, 'base.raw');
    writeFileSync(base, filled(MIB, 0x41));
    mkdirSync(join(folder, 'other'));
    createOverlay({ path: join(folder, 'over.qcow2'), backing: base });
    createOverlay({ path: join(folder, 'other', 'far.qcow2'), backing: join(folder, 'over.qcow2'), bytes: 3 * MIB });
    const near = JSON.parse(qemu('qemu-img', 'info', '--output=json', join(folder, 'over.qcow2'))) as Record<string, unknown>;
    assert.deepEqual([near['backing-filename'], near['backing-filename-format'], near['virtual-size']], ['base.raw', 'raw', MIB]);
    const far = describeDisk(join(folder, 'other', 'far.qcow2'));
    assert.deepEqual(far.qcow2!.backing, { path: join(folder, 'over.qcow2'), format: 'qcow2' });
    opened(join(folder, 'other', 'far.qcow2'), (disk) => {
      assert.deepEqual(disk.read(MIB - 512, 1024), Uint8Array.from([...filled(512, 0x41), ...filled(512, 0)]));
      disk.write(1000, filled(100, 0x42));
    });
    assert.deepEqual(new Uint8Array(readFileSync(base)), filled(MIB, 0x41), 'what stands below is not written');
    qemu('qemu-io', '-f', 'qcow2', '-c', 'read -P 0x41 0 1000', '-c', 'read -P 0x42 1000 100', '-c', 'read -P 0x41 1100 100000', '-c', 'read -P 0 1M 2M', join(folder, 'other', 'far.qcow2'));
    check(join(folder, 'other', 'far.qcow2'));
  });
});

test('growing and shrinking: what is new reads as zeros, what was cut off does not come back', () => {
  inFolder((folder) => {
    const base = join(folder, 'base.raw');
    writeFileSync(base, filled(8 * MIB, 0x51));
    for (const shape of [{ clusterBytes: 65536 }, { clusterBytes: 512, version: 2 as const }]) {
      const path = join(folder, `grow-${shape.clusterBytes}.qcow2`);
      createOverlay({ path, backing: base, bytes: MIB + 1536, ...shape });
      opened(path, (disk) => disk.write(MIB - 512, filled(2048, 0x61)));
      assert.equal(problem(() => resizeDisk({ path, bytes: MIB })).code, 'image-shrink');
      resizeDisk({ path, bytes: 20 * MIB });
      check(path);
      qemu('qemu-io', '-f', 'qcow2', '-c', 'read -P 0x51 0 1048064', '-c', 'read -P 0x61 1048064 2048', '-c', `read -P 0 ${MIB + 1536} ${18 * MIB}`, path);
      resizeDisk({ path, bytes: MIB, shrink: true });
      check(path);
      resizeDisk({ path, bytes: 2 * MIB });
      check(path);
      qemu('qemu-io', '-f', 'qcow2', '-c', 'read -P 0x51 0 1048064', '-c', 'read -P 0x61 1048064 512', '-c', `read -P 0 ${MIB} ${MIB}`, path);
      assert.equal(describeDisk(path).bytes, 2 * MIB);
    }
    const raw = join(folder, 'raw');
    createDisk({ path: raw, format: 'raw', bytes: MIB });
    resizeDisk({ path: raw, bytes: 3 * MIB });
    assert.equal(statSync(raw).size, 3 * MIB);
    resizeDisk({ path: raw, bytes: MIB, shrink: true });
    assert.equal(statSync(raw).size, MIB);
  });
});

test('resizing keeps snapshots, whose disks were smaller', () => {
  inFolder((folder) => {
    const path = join(folder, 'disk.qcow2');
    createDisk({ path, format: 'qcow2', bytes: MIB, clusterBytes: 512 });
    qemu('qemu-io', '-f', 'qcow2', '-c', 'write -P 7 0 1M', path);
    qemu('qemu-img', 'snapshot', '-c', 'small', path);
    resizeDisk({ path, bytes: 5 * MIB });
    opened(path, (disk) => disk.write(0, filled(4096, 9)));
    check(path);
    assert.equal(describeDisk(path).qcow2!.snapshots[0]!.name, 'small');
    qemu('qemu-img', 'snapshot', '-a', 'small', path);
    qemu('qemu-io', '-f', 'qcow2', '-c', 'read -P 7 0 1M', path);
  });
});

test('formats are found by their magic; a foreign one is refused with the command that converts it', () => {
  inFolder((folder) => {
    withFileIo('best', (io) => {
      for (const format of ['vmdk', 'vdi', 'vpc', 'vhdx', 'qed', 'parallels', 'qcow']) {
        const path = join(folder, `disk.${format}`);
        qemu('qemu-img', 'create', '-f', format, path, '10M');
        const { why, remedy, code } = problem(() => openDisk(path, { io, readonly: true }));
        assert.equal(code, 'image-format', why);
        assert.match(remedy, new RegExp(`qemu-img convert -f ${format} -O qcow2`), format);
      }
      const fixed = join(folder, 'fixed.vhd');
      qemu('qemu-img', 'create', '-f', 'vpc', '-o', 'subformat=fixed', fixed, '10M');
      assert.match(problem(() => openDisk(fixed, { io, readonly: true })).remedy, /convert -f vpc/);
      const packed = join(folder, 'disk.xz');
      writeFileSync(packed, Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, ...filled(2000, 1)));
      assert.match(problem(() => openDisk(packed, { io, readonly: true })).remedy, /unxz/);
      // Said to be raw, it is.
      const disk = openDisk(packed, { io, readonly: true, format: 'raw' });
      assert.equal(disk.bytes, 2048);
      disk.close();
    });
  });
});

test('a guest cannot turn a disk that was guessed to be raw into another format', () => {
  inFolder((folder) => {
    const path = join(folder, 'disk');
    const evil = join(folder, 'evil.qcow2');
    createDisk({ path, format: 'raw', bytes: MIB });
    qemu('qemu-img', 'create', '-f', 'qcow2', '-u', '-b', '/etc/passwd', '-F', 'raw', evil, '1M');
    const header = new Uint8Array(readFileSync(evil)).slice(0, 4096);
    withFileIo('best', (io) => {
      for (const format of [undefined, 'raw'] as const) {
        const disk = openDisk(path, { io, readonly: false, format });
        const scratch = scratchPool.take(4096);
        scratch.bytes.set(header);
        assert.equal(complete(io, (done) => disk.write(0, scratch.list, done)), format === undefined ? 1 : 0, 'EPERM, unless it is said to be raw');
        scratch.bytes.fill(0);
        assert.equal(complete(io, (done) => disk.write(0, scratch.list, done)), 0);
        disk.close();
        scratch.giveBack();
      }
    });
  });
});

test('nor by changing its memory after the look at it', () => {
  inFolder((folder) => {
    const path = join(folder, 'disk');
    const header = Uint8Array.of(0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3);
    for (const bytes of [512, 4096]) {
      createDisk({ path, format: 'raw', bytes: MIB });
      withFileIo('best', (io) => {
        const disk = openDisk(path, { io, readonly: false });
        const scratch = scratchPool.take(bytes);
        scratch.bytes.fill(7);
        let looks = 0;
        /** The guest's memory: whenever the host has looked at it, another vCPU writes the header there. */
        const swapped: IoBuffers = {
          bytes, pieces: 1, hva: () => scratch.hva, length: () => bytes, write: () => 0,
          slice: (offset, length) => scratch.list.slice(offset, length),
          read(offset, into) {
            const copied = scratch.list.read(offset, into);
            scratch.bytes.set(header);
            looks++;
            return copied;
          },
        };
        assert.equal(complete(io, (done) => disk.write(0, swapped, done)), 0);
        assert.ok(looks > 0);
        assert.deepEqual(new Uint8Array(readFileSync(path)).slice(0, bytes + 1), Uint8Array.from([...filled(bytes, 7), 0]), 'what was looked at is what is written');
        disk.close();
        scratch.giveBack();
      });
      assert.equal(describeDisk(path).format, 'raw');
      rmSync(path);
    }
  });
});

test('a disk that is open for writing is nobody else\'s: ours, QEMU\'s tools\', and the other way round', () => {
  inFolder((folder) => {
    for (const format of ['raw', 'qcow2'] as const) {
      const path = join(folder, `disk.${format}`);
      createDisk({ path, format, bytes: MIB });
      linkSync(path, join(folder, `name.${format}`));
      opened(path, () => {
        withFileIo('best', (io) => {
          for (const readonly of [false, true]) {
            const { code, why } = problem(() => openDisk(join(folder, `name.${format}`), { io, readonly }));
            assert.equal(code, 'image-in-use');
            assert.match(why, new RegExp(`process ${process.pid}`));
          }
        });
        const { status, text } = tool('qemu-io', '-f', format, '-c', 'write 0 512', path);
        assert.notEqual(status, 0);
        assert.match(text, /lock/);
        qemu('qemu-img', 'info', '-U', path);
        assert.equal(describeDisk(path).bytes, MIB, 'looking is allowed');
      });
      // Two readers may.
      opened(path, () => opened(path, () => qemu('qemu-io', '-r', '-f', format, '-c', 'read 0 512', path), { readonly: true }), { readonly: true });
      // A backing file in use by a reader cannot be written.
      const over = join(folder, `over-${format}.qcow2`);
      createOverlay({ path: over, backing: path });
      opened(over, () => {
        withFileIo('best', (io) => assert.equal(problem(() => openDisk(path, { io, readonly: false })).code, 'image-in-use'));
        assert.notEqual(tool('qemu-io', '-f', format, '-c', 'write 0 512', path).status, 0);
      });
      opened(path, (disk) => disk.write(0, filled(512, 1)));
    }
  });
});

test('QEMU has it: that is said by name', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-disk-'));
  try {
    const path = join(folder, 'disk.qcow2');
    createDisk({ path, format: 'qcow2', bytes: MIB });
    const other = spawn('qemu-io', ['-f', 'qcow2', path], { stdio: ['pipe', 'pipe', 'inherit'] });
    other.stdin.write('read 0 512\n');
    await once(other.stdout, 'data'); // it has opened it
    try {
      withFileIo('best', (io) => {
        const { code, why } = problem(() => openDisk(path, { io, readonly: false }));
        assert.equal(code, 'image-in-use');
        assert.match(why, new RegExp(`qemu-io \\(process ${other.pid}\\)`));
      });
    } finally {
      other.stdin.end('quit\n');
      await once(other, 'exit');
    }
    opened(path, (disk) => disk.write(0, filled(512, 1)));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('chains: several layers of both formats read through; loops, missing files, wrong formats and strange names are refused in words', () => {
  inFolder((folder) => {
    const at = (name: string): string => join(folder, name);
    writeFileSync(at('0.raw'), filled(MIB, 1));
    createOverlay({ path: at('1.qcow2'), backing: at('0.raw'), backingFormat: 'raw' });
    for (let layer = 1; layer < 10; layer++) {
      qemu('qemu-io', '-f', 'qcow2', '-c', `write -P ${layer + 1} ${layer * 64}k 64k`, at(`${layer}.qcow2`));
      createOverlay({ path: at(`${layer + 1}.qcow2`), backing: at(`${layer}.qcow2`), clusterBytes: 512 << layer % 5 });
    }
    opened(at('10.qcow2'), (disk) => {
      for (let layer = 0; layer < 10; layer++) assert.deepEqual(disk.read(layer * 65536, 65536), filled(65536, layer + 1));
    });
    withFileIo('best', (io) => {
      const refused = (name: string): Problem => problem(() => openDisk(at(name), { io, readonly: false }));
      qemu('qemu-img', 'rebase', '-u', '-b', '3.qcow2', '-F', 'qcow2', at('1.qcow2'));
      assert.equal(refused('10.qcow2').code, 'image-loop');
      qemu('qemu-img', 'rebase', '-u', '-b', 'gone.qcow2', '-F', 'qcow2', at('1.qcow2'));
      assert.equal(refused('10.qcow2').code, 'image-missing');
      assert.match(refused('10.qcow2').on, /gone\.qcow2$/);
      qemu('qemu-img', 'rebase', '-u', '-b', '0.raw', '-F', 'vmdk', at('1.qcow2'));
      assert.equal(refused('1.qcow2').code, 'image-backing');
      for (const [name, backing] of [['nbd', 'nbd://localhost/x'], ['json', 'json:{"driver":"raw"}']] as const) {
        qemu('qemu-img', 'create', '-f', 'qcow2', '-u', '-b', backing, '-F', 'raw', at(`${name}.qcow2`), '1M');
        assert.equal(refused(`${name}.qcow2`).code, 'image-backing');
      }
      // A backing file with no recorded format that has itself one: what a guest may have written into a raw one.
      qemu('qemu-img', 'rebase', '-u', '-b', '0.raw', '-F', 'raw', at('1.qcow2'));
      const bytes = readFileSync(at('2.qcow2'));
      const format = bytes.indexOf(Buffer.from([0xe2, 0x79, 0x2a, 0xca]));
      bytes.writeUInt32BE(0x1234_5678, format); // an extension that nobody knows
      writeFileSync(at('2.qcow2'), bytes);
      assert.equal(refused('2.qcow2').code, 'image-backing');
      symlinkSync('0.raw', at('link.raw'));
      const disk = openDisk(at('link.raw'), { io, readonly: true });
      assert.equal(disk.format, 'raw');
      disk.close();
    });
  });
});

test('features that are not here are refused in words, and the file is not touched', () => {
  inFolder((folder) => {
    const cases: [string, string[], string][] = [
      ['encrypted', [], 'encrypted'],
      ['external', ['-o', `data_file=${join(folder, 'data')},data_file_raw=on`], 'a file of its own'],
      ['subclusters', ['-o', 'extended_l2=on,cluster_size=128k'], 'extended L2'],
    ];
    for (const [name, options, words] of cases) {
      const path = join(folder, name);
      qemu('qemu-img', 'create', '-f', 'qcow2', ...options, path, '1M');
      const before = readFileSync(path);
      if (name === 'encrypted') { // the method alone: making keys takes QEMU seconds
        before.writeUInt32BE(2, 32);
        writeFileSync(path, before);
      }
      withFileIo('best', (io) => {
        const { code, why } = problem(() => openDisk(path, { io, readonly: false }));
        assert.equal(code, 'image-feature');
        assert.ok(why.includes(words), why);
      });
      assert.ok(before.equals(readFileSync(path)));
    }
  });
});

test('an image that was not closed (lazy refcounts) is repaired when it is opened for writing', () => {
  inFolder((folder) => {
    for (const clusterBytes of [512, 65536]) {
      const path = join(folder, `lazy-${clusterBytes}.qcow2`);
      qemu('qemu-img', 'create', '-f', 'qcow2', '-o', `compat=1.1,lazy_refcounts=on,cluster_size=${clusterBytes}`, path, '8M');
      qemu('qemu-io', '-f', 'qcow2', '-c', 'write -P 3 0 100k', path);
      qemu('qemu-img', 'snapshot', '-c', 'kept', path);
      spawnSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 5 50k 3M', '-c', 'flush', '-c', 'abort', path], { cwd: folder });
      assert.equal(describeDisk(path).qcow2!.dirty, true);
      assert.notEqual(tool('qemu-img', 'check', path).status, 0, 'it is not sound as it is');
      copyFileSync(path, `${path}.copy`);
      opened(`${path}.copy`, (disk) => assert.deepEqual(disk.read(51200, 4096), filled(4096, 5)), { readonly: true });
      assert.ok(readFileSync(path).equals(readFileSync(`${path}.copy`)), 'reading changes nothing');
      const said: string[] = [];
      opened(path, (disk) => {
        assert.deepEqual(disk.read(51200, 4096), filled(4096, 5));
        disk.write(4 * MIB, filled(MIB, 6));
      }, { log: (text) => said.push(text) });
      assert.equal(said.length, 1);
      check(path);
      qemu('qemu-io', '-f', 'qcow2', '-c', 'read -P 3 0 50k', '-c', 'read -P 5 50k 3M', '-c', 'read -P 6 4M 1M', path);
      assert.equal(describeDisk(path).qcow2!.dirty, false);
      qemu('qemu-img', 'snapshot', '-a', 'kept', path);
      qemu('qemu-io', '-f', 'qcow2', '-c', 'read -P 3 0 100k', path);
      check(path);
    }
  });
});

test('bitmaps of QEMU are marked as out of date by the first opening for writing', () => {
  inFolder((folder) => {
    const path = join(folder, 'disk.qcow2');
    createDisk({ path, format: 'qcow2', bytes: MIB });
    qemu('qemu-img', 'bitmap', '--add', path, 'changed');
    opened(path, (disk) => disk.write(0, filled(512, 1)));
    const info = qemu('qemu-img', 'info', path);
    assert.doesNotMatch(info, /changed/);
    assert.equal(tool('qemu-img', 'check', '-r', 'leaks', path).status, 0);
    check(path);
  });
});

test('discarded clusters leave the file; a disk without room keeps sound', { skip: process.getuid?.() !== 0 && 'needs root for a small file system' }, () => {
  inFolder((folder) => {
    const path = join(folder, 'disk.qcow2');
    createDisk({ path, format: 'qcow2', bytes: 64 * MIB });
    opened(path, (disk) => {
      disk.write(0, filled(16 * MIB, 7));
      disk.flush();
      const before = statSync(path).blocks;
      disk.discard(0, 16 * MIB);
      disk.flush();
      assert.ok(statSync(path).blocks < before / 8, `${statSync(path).blocks} of ${before} blocks are left`);
      assert.deepEqual(disk.read(0, MIB), filled(MIB, 0));
    });
    check(path);
    const small = join(folder, 'small');
    mkdirSync(small);
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'none', small]);
    if (mounted.status !== 0) return;
    try {
      const full = join(small, 'disk.qcow2');
      createDisk({ path: full, format: 'qcow2', bytes: 64 * MIB, clusterBytes: 4096 });
      withFileIo('best', (io) => {
        const disk = openDisk(full, { io, readonly: false });
        const scratch = scratchPool.take(MIB);
        scratch.bytes.fill(8);
        const results: number[] = [];
        for (let i = 0; i < 8; i++) results.push(complete(io, (done) => disk.write(i * MIB, scratch.list, done)));
        assert.ok(results[0] === 0 && results.at(-1) === 28, `ENOSPC at last: ${results.join()}`);
        const good = results.indexOf(28);
        disk.close(); // may fail, too
        scratch.giveBack();
        check(full, true);
        assert.ok(good > 0);
      });
    } finally {
      spawnSync('umount', [small]);
    }
  });
});

test('a raw file whose end is no whole sector reads as zeros there', () => {
  inFolder((folder) => {
    const path = join(folder, 'odd');
    writeFileSync(path, filled(1000, 9));
    opened(path, (disk) => {
      assert.equal(disk.disk.bytes, 1024);
      assert.deepEqual(disk.read(512, 512), Uint8Array.from([...filled(488, 9), ...filled(24, 0)]));
    }, { readonly: true });
    truncateSync(path, 0);
    withFileIo('best', (io) => assert.equal(problem(() => openDisk(path, { io, readonly: true })).code, 'image-empty'));
  });
});
