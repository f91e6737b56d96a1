import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { VitrineError } from '../../shared/errors.ts';
import {
  MAX_MSIZE, QID_DIRECTORY, QID_FILE, QID_SYMLINK, SETATTR_ATIME, SETATTR_ATIME_SET, SETATTR_GID, SETATTR_MODE, SETATTR_MTIME, SETATTR_MTIME_SET,
  SETATTR_SIZE, SETATTR_UID, TAUTH, TCLUNK, TFLUSH, TFSYNC, TGETLOCK, TLCREATE, TLINK, TLOCK, TLOPEN, TMKDIR, TMKNOD, TREMOVE, TRENAME, TRENAMEAT, TSETATTR,
  TSTATFS, TSYMLINK, TUNLINKAT, TVERSION, TWALK, TWRITE, TXATTRCREATE, TXATTRWALK, V9FS_MAGIC,
} from './protocol.ts';
import { NinepServer } from './server.ts';
import { bytesOf, Client, latin1, Refused } from './testing.ts';
import type { Field } from './testing.ts';

const E = os.constants.errno;
const MIB = 2 ** 20;
const S_IFIFO = 0o010000;
const S_IFCHR = 0o020000;
const S_IFSOCK = 0o140000;
const NOW_NANOSECONDS = 0x3fff_ffff;

let top: string;
let folder: string;
let server: NinepServer;
let client: Client;
let root: number;
const file = (...names: string[]): string => path.join(folder, ...names);
const descriptors = (): number => fs.readdirSync('/proc/self/fd').length;

beforeEach(() => {
  top = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-9p-'));
  folder = path.join(top, 'share');
  fs.mkdirSync(folder);
  share();
});

afterEach(() => {
  server.dispose();
  fs.rmSync(top, { recursive: true, force: true });
});

function share(options: Partial<ConstructorParameters<typeof NinepServer>[0]> = {}): void {
  server?.dispose();
  server = new NinepServer({ folder, readonly: false, ...options });
  client = new Client(server);
  root = client.mount();
}

function refuses(errno: number, action: () => unknown): void {
  assert.throws(action, (error) => {
    assert.ok(error instanceof Refused, String(error));
    assert.equal(error.errno, errno);
    return true;
  });
}

const setattr = (fid: number, valid: number, { mode = 0, uid = 0, gid = 0, size = 0, atime = [0, 0], mtime = [0, 0] } = {}): unknown =>
  client.call(TSETATTR, [{ u32: fid }, { u32: valid }, { u32: mode }, { u32: uid }, { u32: gid }, { u64: size }, ...[...atime, ...mtime].map((u64) => ({ u64 }))]);
const mkdir = (fid: number, name: string, mode = 0o755): unknown => client.call(TMKDIR, [{ u32: fid }, { s: name }, { u32: mode }, { u32: 0 }]);
const mknod = (fid: number, name: string, mode: number): unknown => client.call(TMKNOD, [{ u32: fid }, { s: name }, { u32: mode }, { u32: 1 }, { u32: 3 }, { u32: 0 }]);
const symlink = (fid: number, name: string, target: string | Uint8Array): unknown => client.call(TSYMLINK, [{ u32: fid }, { s: name }, { s: target }, { u32: 0 }]);
const link = (fid: number, target: number, name: string): unknown => client.call(TLINK, [{ u32: fid }, { u32: target }, { s: name }]);
const rename = (from: number, name: string, to: number, newName: string): unknown => client.call(TRENAMEAT, [{ u32: from }, { s: name }, { u32: to }, { s: newName }]);
const unlink = (fid: number, name: string, flags = 0): unknown => client.call(TUNLINKAT, [{ u32: fid }, { s: name }, { u32: flags }]);
const xattrs = (fid: number, name = ''): Uint8Array => {
  const value = client.fid();
  const size = client.call(TXATTRWALK, [{ u32: fid }, { u32: value }, { s: name }]).u64();
  const bytes = client.read(value, 0, size);
  client.clunk(value);
  return bytes;
};
const setXattr = (fid: number, name: string, value: Uint8Array, flags = 0): void => {
  const own = client.walk(fid);
  try {
    client.call(TXATTRCREATE, [{ u32: own }, { s: name }, { u64: value.length }, { u32: flags }]);
    for (let at = 0; at < value.length; at += 5000) client.write(own, at, value.subarray(at, at + 5000));
  } catch (error) {
    client.clunk(own);
    throw error;
  }
  client.clunk(own);
};

describe('a session', () => {
  test('agrees upon a size and a version', () => {
    assert.deepEqual(client.version(8192), { size: 8192, version: '9P2000.L' });
    assert.deepEqual(client.version(2 ** 31), { size: MAX_MSIZE, version: '9P2000.L' });
    assert.ok(MAX_MSIZE >= 512 * 1024);
    assert.deepEqual(client.version(8192, '9P2000.u'), { size: 8192, version: 'unknown' });
    refuses(E.EPROTO, () => client.attach()); // nothing was agreed upon
    refuses(E.EMSGSIZE, () => client.version(100));
  });

  test('forgets its fids with a new version', () => {
    const before = descriptors();
    const fid = client.open(client.create(client.walk(root), 'a') && client.walk(root, 'a'));
    client.version();
    refuses(E.EBADF, () => client.attributes(fid));
    refuses(E.EBADF, () => client.walk(root));
    assert.equal(server.share.fids.count, 0);
    assert.equal(descriptors(), before - 1); // the root's fid is gone, too
  });

  test('refuses to authenticate, and messages that it does not know', () => {
    refuses(E.EOPNOTSUPP, () => client.call(TAUTH, [{ u32: 99 }, { s: 'a' }, { s: '' }, { u32: 0 }]));
    refuses(E.EOPNOTSUPP, () => client.call(200, []));
    refuses(E.EOPNOTSUPP, () => client.call(0, []));
    client.call(TFLUSH, [{ u16: 1 }]);
  });

  test('refuses what is malformed, and answers nothing where no answer fits', () => {
    const whole = client.message(TWALK, [{ u32: root }, { u32: 50 }, { u16: 1 }, { s: 'abc' }]);
    for (let length = 7; length < whole.length; length++) {
      const cut = whole.slice(0, length);
      new DataView(cut.buffer).setUint32(0, length, true);
      const reply = client.raw(cut);
      assert.equal(reply.length, 11);
      assert.equal(new DataView(reply.buffer).getUint32(7, true), E.EINVAL);
    }
    assert.equal(client.raw(whole.slice(0, 6)).length, 0);
    assert.equal(client.raw(whole, 10).length, 0);
    assert.equal(new DataView(client.raw(whole.slice(0, 12)).buffer).getUint32(7, true), E.EINVAL); // longer than what is there
    refuses(E.EMSGSIZE, () => client.call(TCLUNK, [{ u32: root }, { raw: new Uint8Array(600 * 1024) }]));
    refuses(E.EMSGSIZE, () => client.call(TCLUNK, [{ u32: root }, { raw: new Uint8Array(20_000) }]));
    refuses(E.EIO, () => client.call(TSTATFS, [{ u32: root }], 20)); // the reply has 67 bytes
  });

  test('attaches to a folder within', () => {
    fs.mkdirSync(file('a/b'), { recursive: true });
    fs.writeFileSync(file('a/b/c'), 'x');
    fs.symlinkSync('..', file('a/up'));
    client.walk(client.attach('/a/b'), 'c');
    client.walk(client.attach('/'), 'a');
    refuses(E.EXDEV, () => client.attach('..'));
    refuses(E.ELOOP, () => client.attach('a/up'));
    refuses(E.ENOTDIR, () => client.attach('a/b/c'));
  });

  test('keeps fids apart', () => {
    mkdir(root, 'a');
    const a = client.walk(root, 'a');
    refuses(E.EINVAL, () => client.call(TWALK, [{ u32: root }, { u32: a }, { u16: 0 }])); // in use
    refuses(E.EINVAL, () => client.call(TWALK, [{ u32: root }, { u32: 0xffff_ffff }, { u16: 0 }]));
    refuses(E.EINVAL, () => client.call(TWALK, [{ u32: root }, { u32: 77 }, { u16: 17 }, ...Array.from({ length: 17 }, () => ({ s: 'a' }))]));
    client.call(TWALK, [{ u32: a }, { u32: a }, { u16: 1 }, { s: '..' }]); // moves
    assert.deepEqual(client.attributes(a), client.attributes(root));
    client.clunk(a);
    refuses(E.EBADF, () => client.clunk(a));
    refuses(E.EBADF, () => client.attributes(a));
  });

  test('walks part of the way and makes no fid', () => {
    fs.mkdirSync(file('a/b'), { recursive: true });
    const answer = client.call(TWALK, [{ u32: root }, { u32: 80 }, { u16: 3 }, { s: 'a' }, { s: 'b' }, { s: 'c' }]);
    assert.equal(answer.u16(), 2);
    assert.equal(Client.qid(answer).type, QID_DIRECTORY);
    refuses(E.EBADF, () => client.attributes(80));
    refuses(E.ENOENT, () => client.walk(root, 'nothing'));
    refuses(E.ENAMETOOLONG, () => client.walk(root, 'x'.repeat(256)));
  });

  test('leaves no descriptor behind', () => {
    const before = descriptors();
    for (let i = 0; i < 20; i++) {
      const fid = client.create(root, `f${i}`);
      client.write(fid, 0, bytesOf('abc'));
      client.clunk(fid);
      mkdir(root, `d${i}`);
      refuses(0, () => client.walk(root, `d${i}`, 'nothing'));
      client.clunk(client.walk(root, `d${i}`, '..', `f${i}`));
      refuses(E.ENOENT, () => client.call(TLCREATE, [{ u32: client.walk(root, `d${i}`) }, { s: '' }, { u32: 1 }, { u32: 0 }, { u32: 0 }]));
    }
    assert.equal(server.share.fids.count, 21);
    assert.equal(descriptors(), before + 20); // the last line's folders
  });

  test('gives a guest so many descriptors and fids, and no more', () => {
    share({ limits: { descriptors: 10, fids: 11 } });
    fs.writeFileSync(file('a'), 'x');
    const fids = Array.from({ length: 8 }, () => client.walk(root, 'a'));
    client.open(fids[0]!);
    refuses(E.EMFILE, () => client.walk(root, 'a'));
    refuses(E.EMFILE, () => client.open(fids[1]!));
    refuses(E.EMFILE, () => client.create(root, 'b'));
    assert.equal(fs.existsSync(file('b')), false);
    client.walk(root); // shares a descriptor
    refuses(E.EMFILE, () => client.walk(root));
    client.clunk(fids[7]!);
    client.open(fids[1]!);
  });
});

describe('files', () => {
  test('are made, written and read through many pieces', () => {
    const data = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7 + (i >> 8)) & 0xff));
    const fid = client.create(root, 'data', 0o2, 0o640);
    assert.equal(client.write(fid, 0, data), data.length);
    assert.deepEqual(fs.readFileSync(file('data')), data);
    assert.equal(fs.statSync(file('data')).mode & 0o7777, 0o640);
    assert.deepEqual(Buffer.from(client.read(fid, 100, 250_000)), data.subarray(100, 250_100));
    assert.equal(client.read(fid, data.length - 5, 1000).length, 5);
    assert.equal(client.read(fid, data.length, 1000).length, 0);
    assert.equal(client.write(fid, 2 ** 40, bytesOf('far')), 3);
    assert.equal(client.attributes(fid).size, 2 ** 40 + 3);
    client.call(TFSYNC, [{ u32: fid }, { u32: 0 }]);
    client.call(TFSYNC, [{ u32: fid }, { u32: 1 }]);
    refuses(E.EFBIG, () => client.write(fid, 2 ** 53, bytesOf('x')));
    refuses(E.EINVAL, () => client.read(fid, 2 ** 60, 1));
    refuses(E.EBADF, () => client.read(client.walk(root, 'data'), 0, 1)); // not open
    refuses(E.EINVAL, () => client.call(TLOPEN, [{ u32: fid }, { u32: 0 }])); // open already
  });

  test('have the permissions that the guest asks for, whatever the umask here is', () => {
    const before = process.umask(0o077);
    try {
      share();
      client.clunk(client.create(root, 'file', 0o1, 0o666));
      mkdir(root, 'folder', 0o1777);
      mknod(root, 'fifo', S_IFIFO | 0o666);
      mknod(root, 'plain', 0o606);
    } finally {
      process.umask(before);
    }
    const modes = ['file', 'folder', 'fifo', 'plain'].map((name) => fs.statSync(file(name)).mode & 0o7777);
    assert.deepEqual(modes, [0o666, 0o1777, 0o666, 0o606]);
  });

  test('are opened as the flags say', () => {
    fs.writeFileSync(file('a'), 'hello');
    const append = client.open(client.walk(root, 'a'), 0o2001);
    client.write(append, 0, bytesOf(' you'));
    assert.equal(fs.readFileSync(file('a'), 'utf8'), 'hello you');
    // As a client with a cache does: read, change, and write the page back where it was.
    client.write(client.open(client.walk(root, 'a'), 0o2002), 0, bytesOf('hello you too'));
    assert.equal(fs.readFileSync(file('a'), 'utf8'), 'hello you too');
    client.write(client.create(root, 'new', 0o2102), 0, bytesOf('one'));
    client.write(client.open(client.walk(root, 'new'), 0o2002), 0, bytesOf('one two'));
    assert.equal(fs.readFileSync(file('new'), 'utf8'), 'one two');
    refuses(E.EBADF, () => client.read(append, 0, 1));
    refuses(E.EBADF, () => client.write(client.open(client.walk(root, 'a')), 0, bytesOf('x')));
    client.open(client.walk(root, 'a'), 0o1001);
    assert.equal(fs.statSync(file('a')).size, 0);
    refuses(E.EEXIST, () => client.create(root, 'a', 0o302));
    fs.writeFileSync(file('a'), 'there');
    assert.equal(latin1(client.read(client.create(root, 'a', 0o102), 0, 10)), 'there');
    assert.equal(client.read(client.create(root, 'a', 0o1102), 0, 10).length, 0);
    refuses(E.EISDIR, () => client.open(client.walk(root), 0o2));
    refuses(E.ENOTDIR, () => client.open(client.walk(root, 'a'), 0o200000));
  });

  test('stay what they are when they are renamed or removed while open', () => {
    const fid = client.create(root, 'a');
    const path_ = client.walk(root, 'a');
    client.write(fid, 0, bytesOf('one'));
    rename(root, 'a', root, 'b');
    client.write(fid, 3, bytesOf('two'));
    assert.equal(fs.readFileSync(file('b'), 'utf8'), 'onetwo');
    assert.equal(client.attributes(path_).size, 6);
    unlink(root, 'b');
    assert.equal(latin1(client.read(fid, 0, 100)), 'onetwo');
    assert.equal(client.attributes(fid).links, 0);
    assert.equal(latin1(client.read(client.open(path_), 0, 100)), 'onetwo'); // opened after it is gone
    refuses(E.ENOENT, () => link(root, fid, 'back'));
    refuses(E.ENOENT, () => client.call(TREMOVE, [{ u32: fid }]));
    refuses(E.EBADF, () => client.clunk(fid)); // Tremove takes the fid in any case
  });

  test('have names of any bytes', () => {
    const name = Uint8Array.from([0xff, 0xfe, 0x20, 0x0a, 0x80]);
    client.clunk(client.create(root, name));
    assert.deepEqual(fs.readdirSync(folder, { encoding: 'buffer' }).map((each) => [...each]), [[...name]]);
    client.clunk(client.walk(root, name));
    const listed = client.entries(client.open(client.walk(root))).map((entry) => entry.name);
    assert.deepEqual(listed.toSorted(), ['.', '..', latin1(name)].toSorted());
  });

  test('have 64-bit sizes, links, owners and times to the nanosecond', () => {
    const fid = client.create(root, 'a');
    setattr(fid, SETATTR_SIZE, { size: 5 * 2 ** 40 });
    setattr(fid, SETATTR_MODE, { mode: 0o6751 });
    setattr(fid, SETATTR_ATIME | SETATTR_ATIME_SET | SETATTR_MTIME | SETATTR_MTIME_SET, { atime: [2 ** 32 + 5, 123_456_789], mtime: [1_000_000_000, 1] });
    link(root, client.walk(root, 'a'), 'b');
    const stat = fs.statSync(file('b'), { bigint: true });
    const seen = client.attributes(client.walk(root, 'b'));
    assert.deepEqual(
      [seen.size, seen.mode, seen.uid, seen.gid, seen.links, seen.atime, seen.mtime, seen.ctime, seen.qid.path],
      [Number(stat.size), Number(stat.mode), Number(stat.uid), Number(stat.gid), 2, stat.atimeNs, stat.mtimeNs, stat.ctimeNs, stat.ino],
    );
    assert.deepEqual([seen.mode & 0o7777, seen.mtime, seen.size], [0o6751, 1_000_000_000_000_000_001n, 5 * 2 ** 40]);
    if (stat.atimeNs === 4294967301123456789n) assert.equal(seen.atime, 4294967301123456789n); // some file systems end in 2106
    const before = seen.mtime;
    setattr(fid, SETATTR_MTIME);
    assert.notEqual(client.attributes(fid).mtime, before);
    refuses(E.EINVAL, () => setattr(fid, SETATTR_MTIME | SETATTR_MTIME_SET, { mtime: [0, NOW_NANOSECONDS] }));
    refuses(E.EFBIG, () => setattr(fid, SETATTR_SIZE, { size: 2 ** 60 }));
    refuses(E.EISDIR, () => setattr(root, SETATTR_SIZE));
  });

  test('are resized by a fid that may write, whatever their permissions are by now', { skip: process.getuid!() === 0 }, () => {
    const fid = client.create(root, 'a', 0o2);
    setattr(fid, SETATTR_MODE, { mode: 0o444 });
    setattr(fid, SETATTR_SIZE, { size: 10 });
    refuses(E.EACCES, () => setattr(client.walk(root, 'a'), SETATTR_SIZE, { size: 20 }));
    assert.equal(fs.statSync(file('a')).size, 10);
  });

  test('are given away by nobody but root', { skip: process.getuid!() === 0 }, () => {
    const fid = client.create(root, 'a');
    refuses(E.EPERM, () => setattr(fid, SETATTR_UID, { uid: 0 }));
    setattr(fid, SETATTR_UID | SETATTR_GID, { uid: process.getuid!(), gid: process.getgid!() }); // no change
  });

  test('refuse what the user may not do', { skip: process.getuid!() === 0 }, () => {
    fs.writeFileSync(file('secret'), 'x', { mode: 0 });
    fs.mkdirSync(file('closed'), { mode: 0o500 });
    refuses(E.EACCES, () => client.open(client.walk(root, 'secret')));
    refuses(E.EACCES, () => client.create(client.walk(root, 'closed'), 'a'));
    assert.equal(client.attributes(client.walk(root, 'secret')).mode & 0o777, 0);
  });
});

describe('links and special files', () => {
  test('symbolic links are read and never followed', () => {
    fs.writeFileSync(path.join(top, 'outside'), 'secret');
    fs.mkdirSync(file('in'));
    symlink(root, 'out', '../outside');
    symlink(root, 'up', '..');
    symlink(root, 'bytes', Uint8Array.from([0xff, 0x2f, 0x80]));
    const out = client.walk(root, 'out');
    assert.equal(client.attributes(out).qid.type, QID_SYMLINK);
    assert.equal(latin1(client.readlink(out)), '../outside');
    assert.deepEqual([...client.readlink(client.walk(root, 'bytes'))], [0xff, 0x2f, 0x80]);
    refuses(E.ELOOP, () => client.open(out));
    refuses(0, () => client.walk(root, 'up', 'outside'));
    refuses(E.ENOTDIR, () => client.walk(client.walk(root, 'up'), 'outside'));
    refuses(E.ELOOP, () => client.create(root, 'out', 0o1101)); // an open that would make it: what is there is a link
    refuses(E.ENOTDIR, () => mkdir(client.walk(root, 'up'), 'x'));
    refuses(E.ENOTDIR, () => unlink(client.walk(root, 'up'), 'outside'));
    refuses(E.EINVAL, () => client.readlink(root));
    refuses(E.EINVAL, () => setattr(out, SETATTR_SIZE));
    link(root, out, 'again');
    assert.equal(fs.readlinkSync(file('again')), '../outside');
    const target = fs.statSync(path.join(top, 'outside'), { bigint: true });
    setattr(out, SETATTR_MTIME | SETATTR_MTIME_SET, { mtime: [77, 0] });
    assert.equal(fs.lstatSync(file('out')).mtimeMs, 77_000);
    assert.throws(() => setattr(out, SETATTR_MODE, { mode: 0o777 }), Refused);
    setattr(out, SETATTR_UID, { uid: process.getuid!() });
    assert.deepEqual(fs.statSync(path.join(top, 'outside'), { bigint: true }), target);
    assert.equal(fs.readFileSync(path.join(top, 'outside'), 'utf8'), 'secret');
  });

  test('fifos and sockets are made, shown and never opened', () => {
    mknod(root, 'fifo', S_IFIFO | 0o600);
    mknod(root, 'socket', S_IFSOCK | 0o600);
    assert.ok(fs.lstatSync(file('fifo')).isFIFO() && fs.lstatSync(file('socket')).isSocket());
    for (const name of ['fifo', 'socket']) {
      refuses(E.ENXIO, () => client.open(client.walk(root, name)));
      refuses(E.ENXIO, () => client.create(root, name, 0o102));
      assert.equal(client.attributes(client.walk(root, name)).qid.type, QID_FILE);
      setattr(client.walk(root, name), SETATTR_MODE, { mode: 0o640 });
    }
    for (const type of [S_IFCHR, 0o060000, 0o040000, 0o120000]) refuses(E.EPERM, () => mknod(root, 'device', type | 0o600));
  });

  test('a live socket and a device are shown as what they are', async () => {
    const listener = createServer();
    await new Promise<void>((resolve) => listener.listen(file('live'), resolve));
    assert.equal(client.attributes(client.walk(root, 'live')).mode & 0o170000, S_IFSOCK);
    await new Promise((resolve) => listener.close(resolve));
    const devices = new NinepServer({ folder: '/dev', readonly: true });
    const other = new Client(devices);
    const fid = other.walk(other.mount(), 'null');
    assert.equal(other.attributes(fid).mode & 0o170000, S_IFCHR);
    assert.equal(other.attributes(fid).device, (1 << 8) | 3);
    refuses(E.ENXIO, () => other.open(fid));
    devices.dispose();
  });
});

describe('folders', () => {
  test('are listed whole, in steps of any size, with cookies that go on where they were', () => {
    const names = Array.from({ length: 300 }, (_, i) => `${'n'.repeat(i % 200)}${i}`);
    for (const name of names) fs.writeFileSync(file(name), '');
    fs.mkdirSync(file('folder'));
    fs.symlinkSync('x', file('link'));
    const fid = client.open(client.walk(root));
    const all = client.entries(fid, 400_000);
    for (const count of [400, 1000, 5000]) assert.deepEqual(client.entries(fid, count), all);
    assert.deepEqual(all.map((entry) => entry.name).toSorted(), ['.', '..', ...names, 'folder', 'link'].toSorted());
    const types = new Map(all.map((entry) => [entry.name, entry.type]));
    assert.deepEqual([types.get('folder'), types.get('link'), types.get('0')], [4, 10, 8]);
    for (const entry of all.slice(0, 20)) if (!entry.name.startsWith('.')) assert.equal(entry.qid.path, fs.lstatSync(file(entry.name), { bigint: true }).ino);
    refuses(E.EINVAL, () => client.entries(fid, 20));
    refuses(E.ENOTDIR, () => client.entries(client.open(client.walk(root, '0'))));
    refuses(E.EBADF, () => client.entries(client.walk(root)));
  });

  test('do not tell what is above the share', () => {
    const own = fs.statSync(folder, { bigint: true }).ino;
    const dots = client.entries(client.open(client.walk(root))).filter((entry) => entry.name.startsWith('.'));
    assert.deepEqual(dots.map((entry) => entry.qid.path), [own, own]);
    assert.equal(client.attributes(client.walk(root, '..', '..', '..')).qid.path, own);
  });

  test('are made, renamed with all that is in them, and removed', () => {
    mkdir(root, 'a');
    mkdir(client.walk(root, 'a'), 'b');
    mkdir(root, 'c');
    const b = client.walk(root, 'a', 'b');
    client.clunk(client.create(client.walk(b), 'file'));
    rename(client.walk(root, 'a'), 'b', client.walk(root, 'c'), 'd');
    client.walk(b, 'file');
    assert.equal(client.attributes(client.walk(b, '..')).qid.path, fs.statSync(file('c'), { bigint: true }).ino); // where it is now
    refuses(E.EINVAL, () => rename(root, 'c', b, 'into-itself'));
    refuses(E.ENOTEMPTY, () => unlink(root, 'c', 0x200));
    refuses(E.EISDIR, () => unlink(root, 'c'));
    refuses(E.ENOTDIR, () => unlink(b, 'file', 0x200));
    refuses(E.EINVAL, () => unlink(b, 'file', 1));
    refuses(E.EPERM, () => link(root, b, 'hard'));
    unlink(b, 'file');
    unlink(client.walk(root, 'c'), 'd', 0x200);
    refuses(E.ENOENT, () => mkdir(b, 'x')); // the folder is gone
    refuses(E.ENOENT, () => client.entries(client.open(client.walk(b))));
  });

  test('pass their group on when they are told to', () => {
    mkdir(root, 'a');
    setattr(client.walk(root, 'a'), SETATTR_MODE, { mode: 0o2755 });
    const before = process.umask(0o077);
    share();
    process.umask(before);
    mkdir(client.walk(root, 'a'), 'b', 0o775);
    assert.equal(fs.statSync(file('a/b')).mode & 0o7777, 0o2775);
  });

  test('are found by a fid alone, wherever they are by now', () => {
    fs.mkdirSync(file('a/b'), { recursive: true });
    fs.writeFileSync(file('a/b/file'), 'x');
    const fid = client.walk(root, 'a', 'b', 'file');
    const a = client.walk(root, 'a');
    fs.renameSync(file('a'), file('z'));
    client.call(TRENAME, [{ u32: fid }, { u32: root }, { s: 'moved' }]);
    assert.equal(fs.readFileSync(file('moved'), 'utf8'), 'x');
    refuses(E.ENOTEMPTY, () => client.call(TREMOVE, [{ u32: a }]));
    client.call(TREMOVE, [{ u32: client.walk(root, 'z', 'b') }]);
    client.call(TREMOVE, [{ u32: client.walk(root, 'z') }]);
    client.call(TREMOVE, [{ u32: fid }]);
    assert.deepEqual(fs.readdirSync(folder), []);
    refuses(E.EBUSY, () => client.call(TREMOVE, [{ u32: client.walk(root) }]));
    refuses(E.EBUSY, () => client.call(TRENAME, [{ u32: client.walk(root) }, { u32: root }, { s: 'x' }]));
  });
});

describe('extended attributes', () => {
  const supported = (): boolean => {
    fs.writeFileSync(file('probe'), '');
    try {
      execFileSync('python3', ['-c', 'import os, sys; os.setxattr(sys.argv[1], "user.probe", b"x")', file('probe')], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  };

  test('of the user are set, read, listed and removed; others do not exist', (t) => {
    if (!supported()) return t.skip('no user attributes in the folder for temporary files, or no python3 to find out');
    const fid = client.walk(root, 'probe');
    const value = Uint8Array.from({ length: 3000 }, (_, i) => i & 0xff);
    setXattr(fid, 'user.one', value);
    setXattr(fid, 'user.empty', new Uint8Array(0));
    assert.deepEqual(xattrs(fid, 'user.one'), value);
    assert.equal(xattrs(fid, 'user.empty').length, 0);
    assert.deepEqual(latin1(xattrs(fid)).split('\0').filter(Boolean).toSorted(), ['user.empty', 'user.one', 'user.probe']);
    refuses(E.EEXIST, () => setXattr(fid, 'user.one', value, 1));
    refuses(E.ENODATA, () => setXattr(fid, 'user.two', value, 2));
    setXattr(fid, 'user.empty', new Uint8Array(0), 2); // as Linux removes one
    refuses(E.ENODATA, () => xattrs(fid, 'user.empty'));
    const part = client.walk(fid);
    client.call(TXATTRCREATE, [{ u32: part }, { s: 'user.part' }, { u64: 10 }, { u32: 0 }]);
    refuses(E.EINVAL, () => client.write(part, 5, bytesOf('x')));
    refuses(E.EINVAL, () => client.write(part, 0, bytesOf('12345678901')));
    refuses(E.EINVAL, () => client.read(part, 0, 1));
    client.write(part, 0, bytesOf('12345'));
    refuses(E.EIO, () => client.clunk(part));
    refuses(E.ENODATA, () => xattrs(fid, 'user.part'));
  });

  test('of the system are out of reach', () => {
    const fid = client.create(root, 'a');
    for (const name of ['security.selinux', 'security.capability', 'trusted.x', 'system.posix_acl_access', 'user', 'user.', 'x']) {
      refuses(E.EOPNOTSUPP, () => xattrs(fid, name));
      refuses(E.EOPNOTSUPP, () => setXattr(client.walk(root, 'a'), name, bytesOf('x')));
    }
    refuses(E.ERANGE, () => setXattr(client.walk(root, 'a'), 'user.a', new Uint8Array(70_000)));
  });

  test('take no more memory than they may', () => {
    share({ limits: { attributeBytes: 100_000 } });
    client.clunk(client.create(root, 'a'));
    const begin = (): unknown => client.call(TXATTRCREATE, [{ u32: client.walk(root, 'a') }, { s: 'user.a' }, { u64: 60_000 }, { u32: 0 }]);
    begin();
    refuses(E.ENOSPC, begin);
  });
});

test('a share that is read-only refuses every change', () => {
  fs.mkdirSync(file('d'));
  fs.writeFileSync(file('a'), 'content');
  const tree = (): unknown => [fs.readdirSync(folder), fs.statSync(file('a'), { bigint: true }).ctimeNs, fs.readFileSync(file('a'), 'utf8')];
  const before = tree();
  share({ readonly: true });
  const a = client.walk(root, 'a');
  const changes: [number, Field[]][] = [
    [TLOPEN, [{ u32: a }, { u32: 1 }]], [TLOPEN, [{ u32: a }, { u32: 2 }]], [TLOPEN, [{ u32: a }, { u32: 0o1000 }]],
    [TLCREATE, [{ u32: root }, { s: 'a' }, { u32: 0 }, { u32: 0o644 }, { u32: 0 }]], [TMKDIR, [{ u32: root }, { s: 'x' }, { u32: 0o755 }, { u32: 0 }]],
    [TSYMLINK, [{ u32: root }, { s: 'x' }, { s: 'y' }, { u32: 0 }]], [TMKNOD, [{ u32: root }, { s: 'x' }, { u32: S_IFIFO }, { u32: 0 }, { u32: 0 }, { u32: 0 }]],
    [TLINK, [{ u32: root }, { u32: a }, { s: 'x' }]], [TRENAME, [{ u32: a }, { u32: root }, { s: 'x' }]],
    [TRENAMEAT, [{ u32: root }, { s: 'a' }, { u32: root }, { s: 'x' }]], [TUNLINKAT, [{ u32: root }, { s: 'a' }, { u32: 0 }]],
    [TSETATTR, [{ u32: a }, { u32: SETATTR_MODE }, { u32: 0 }, { u32: 0 }, { u32: 0 }, ...Array.from({ length: 5 }, () => ({ u64: 0 }))]],
    [TXATTRCREATE, [{ u32: a }, { s: 'user.x' }, { u64: 1 }, { u32: 0 }]], [TWRITE, [{ u32: a }, { u64: 0 }, { u32: 1 }, { raw: bytesOf('x') }]],
    [TREMOVE, [{ u32: client.walk(root, 'a') }]],
  ];
  for (const [type, fields] of changes) refuses(E.EROFS, () => client.call(type, fields));
  assert.equal(latin1(client.read(client.open(a), 0, 100)), 'content');
  assert.deepEqual(tree(), before);
});

test('a share tells of its file system, by the name of 9p', () => {
  const answer = client.call(TSTATFS, [{ u32: root }]);
  assert.equal(answer.u32(), V9FS_MAGIC);
  const own = fs.statfsSync(folder);
  assert.equal(answer.u32(), own.bsize);
  assert.equal(answer.u64(), own.blocks);
  answer.u64();
  answer.u64();
  assert.equal(answer.u64(), own.files);
  answer.u64();
  answer.u64();
  assert.equal(answer.u32(), 255);
});

test('locks are granted, and nobody is found to hold one', () => {
  const fid = client.create(root, 'a');
  const range: Field[] = [{ u64: 10 }, { u64: 2n ** 63n }, { u32: 42 }, { s: 'guest' }];
  assert.equal(client.call(TLOCK, [{ u32: fid }, { u8: 1 }, { u32: 1 }, ...range]).u8(), 0);
  const answer = client.call(TGETLOCK, [{ u32: fid }, { u8: 1 }, ...range]);
  assert.deepEqual([answer.u8(), answer.u64(), answer.u64(), answer.u32(), latin1(answer.string())], [2, 10, 2 ** 63, 42, 'guest']);
  refuses(E.EINVAL, () => client.call(TLOCK, [{ u32: fid }, { u8: 3 }, { u32: 1 }, ...range]));
});

test('a share that vanishes gives errors, and nothing else happens', () => {
  fs.writeFileSync(file('a'), 'x');
  const open = client.open(client.walk(root, 'a'));
  fs.rmSync(folder, { recursive: true });
  refuses(E.ENOENT, () => client.walk(root, 'a'));
  refuses(E.ENOENT, () => client.create(root, 'b'));
  refuses(E.ENOENT, () => mkdir(root, 'b'));
  refuses(E.ENOENT, () => rename(root, 'a', root, 'b'));
  assert.equal(latin1(client.read(open, 0, 10)), 'x');
  assert.equal(client.attributes(root).links, 0);
  client.version();
  refuses(E.ENOENT, () => client.walk(client.attach(), 'a'));
});

test('a folder that cannot be shared is refused with words', () => {
  const refusal = (where: string): string => {
    try {
      new NinepServer({ folder: where, readonly: false }).dispose();
      return '';
    } catch (error) {
      assert.ok(error instanceof VitrineError);
      return error.problem.code;
    }
  };
  fs.writeFileSync(file('file'), '');
  assert.equal(refusal(path.join(top, 'nothing')), 'share-missing');
  assert.equal(refusal(file('file')), 'share-no-folder');
  fs.symlinkSync(folder, path.join(top, 'link'));
  assert.equal(refusal(path.join(top, 'link')), '');
});

test('a message of the largest size goes through', () => {
  client = new Client(server, 4096);
  assert.equal(client.version(MAX_MSIZE).size, MAX_MSIZE);
  root = client.attach();
  const fid = client.create(root, 'a');
  const data = new Uint8Array(MAX_MSIZE - 23).fill(5);
  assert.equal(client.write(fid, 0, data), data.length);
  assert.equal(client.write(fid, data.length, data), data.length);
  assert.equal(client.read(fid, 0, 2 * MIB).length, MAX_MSIZE - 11);
});

test('Linux up to 4.18 leaves the data out of the size of a Twrite', () => {
  const fid = client.create(root, 'a');
  const message = client.message(TWRITE, [{ u32: fid }, { u64: 0 }, { u32: 3 }, { raw: bytesOf('abc') }]);
  new DataView(message.buffer).setUint32(0, 23, true);
  assert.equal(client.raw(message)[4], TWRITE + 1);
  assert.equal(fs.readFileSync(file('a'), 'utf8'), 'abc');
  assert.equal(client.call(TVERSION, [{ u32: 8192 }, { s: '9P2000.L' }]).u32(), 8192);
});
