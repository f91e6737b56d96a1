// A guest tries to leave its folder: by names, and by races with somebody who swaps folders for symbolic links, or moves them about, all the time.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { SETATTR_MODE, TLINK, TMKDIR, TMKNOD, TREMOVE, TRENAME, TRENAMEAT, TSETATTR, TSYMLINK, TUNLINKAT, TWALK } from './protocol.ts';
import { NinepServer } from './server.ts';
import { Client, latin1, Refused } from './testing.ts';

const TRIES = process.env['VITRINE_LONG'] === '1' ? 200_000 : 3000;
const E = os.constants.errno;
const SECRET = 'what the guest must not see';

let top: string;
let folder: string;
let outside: string;
let server: NinepServer;
let client: Client;
let root: number;

beforeEach(() => {
  top = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-9p-escape-'));
  folder = path.join(top, 'share');
  outside = path.join(top, 'outside');
  fs.mkdirSync(path.join(folder, 'in/deep'), { recursive: true });
  fs.mkdirSync(path.join(outside, 'deep'), { recursive: true });
  fs.writeFileSync(path.join(folder, 'in/file'), 'the guest\'s own');
  fs.writeFileSync(path.join(outside, 'file'), SECRET, { mode: 0o644 });
  server = new NinepServer({ folder, readonly: false });
  client = new Client(server);
  root = client.mount();
});

afterEach(() => {
  server.dispose();
  fs.rmSync(top, { recursive: true, force: true });
});

/** Every path, mode and content outside the share. */
function untouched(): unknown {
  return [top, outside].map((where) => fs.readdirSync(where).map((name) => {
    const stat = fs.lstatSync(path.join(where, name), { bigint: true });
    return name === 'share' ? name : [name, stat.ino, stat.mode, stat.nlink, stat.mtimeNs, stat.isFile() ? fs.readFileSync(path.join(where, name), 'utf8') : ''];
  }));
}

/** @returns the error number; 0 when it was done, -1 for a walk that ended early */
function attempt(action: () => unknown): number {
  try {
    action();
    return 0;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return error.errno === 0 ? -1 : error.errno;
  }
}

test('no name leads out', () => {
  const before = untouched();
  fs.symlinkSync('../outside', path.join(folder, 'link'));
  fs.symlinkSync(outside, path.join(folder, 'absolute'));
  fs.symlinkSync('/proc/self/root', path.join(folder, 'magic'));
  const names = ['../outside', '/', '//', '/etc', './..', 'in/../..', 'in/..', '..\0', '\0', '', '.', outside, 'in/file', 'link/file', '../share/../outside/file'];
  for (const s of names) {
    assert.notEqual(attempt(() => client.walk(root, s)), 0, s);
    assert.notEqual(attempt(() => client.walk(root, 'in', s)), 0, s);
    for (const at of [root, client.walk(root, 'in')]) {
      for (const flags of [0o1, 0o101, 0o1101, 0o301]) assert.notEqual(attempt(() => client.create(at, s, flags)), 0, s);
      assert.notEqual(attempt(() => client.call(TMKDIR, [{ u32: at }, { s }, { u32: 0o755 }, { u32: 0 }])), 0, s);
      assert.notEqual(attempt(() => client.call(TSYMLINK, [{ u32: at }, { s }, { s: 'x' }, { u32: 0 }])), 0, s);
      assert.notEqual(attempt(() => client.call(TMKNOD, [{ u32: at }, { s }, { u32: 0o100644 }, { u32: 0 }, { u32: 0 }, { u32: 0 }])), 0, s);
      assert.notEqual(attempt(() => client.call(TLINK, [{ u32: at }, { u32: client.walk(root, 'in', 'file') }, { s }])), 0, s);
      assert.notEqual(attempt(() => client.call(TRENAME, [{ u32: client.walk(root, 'in', 'file') }, { u32: at }, { s }])), 0, s);
      assert.notEqual(attempt(() => client.call(TRENAMEAT, [{ u32: at }, { s }, { u32: root }, { s: 'got' }])), 0, s);
      assert.notEqual(attempt(() => client.call(TRENAMEAT, [{ u32: root }, { s: 'in' }, { u32: at }, { s }])), 0, s);
      for (const flags of [0, 0x200]) assert.notEqual(attempt(() => client.call(TUNLINKAT, [{ u32: at }, { s }, { u32: flags }])), 0, s);
    }
  }
  for (const link of ['link', 'absolute', 'magic']) {
    assert.equal(attempt(() => client.walk(client.walk(root, link), 'file')), E.ENOTDIR);
    assert.equal(attempt(() => client.open(client.walk(root, link))), E.ELOOP);
    assert.notEqual(attempt(() => client.attach(link)), 0);
    assert.notEqual(attempt(() => client.attach(`${link}/file`)), 0);
  }
  for (const aname of ['..', 'in/../..', '/../outside', 'link/..']) assert.notEqual(attempt(() => client.attach(aname)), 0, aname);
  assert.deepEqual(untouched(), before);
});

test('`..` of any number ends in the share\'s folder', () => {
  const own = client.attributes(root).qid.path;
  for (const names of [['..'], ['..', '..'], ['in', 'deep', '..', '..', '..', '..'], ['in', '..', 'in', '..', '..']]) assert.equal(client.attributes(client.walk(root, ...names)).qid.path, own);
});

test('a folder that the host has moved out of the share leads no further', () => {
  const deep = client.walk(root, 'in', 'deep');
  fs.renameSync(path.join(folder, 'in'), path.join(outside, 'moved'));
  assert.equal(attempt(() => client.walk(deep, '..')), E.ENOENT);
  assert.equal(attempt(() => client.walk(deep, '..', '..', 'file')), E.ENOENT);
  assert.equal(attempt(() => client.call(TREMOVE, [{ u32: deep }])), E.ENOENT);
  assert.ok(fs.existsSync(path.join(outside, 'moved/deep')));
});

test('a folder beside the share whose name begins alike is not in it', () => {
  const twin = `${folder}-twin`;
  fs.mkdirSync(path.join(twin, 'a'), { recursive: true });
  const deep = client.walk(root, 'in', 'deep');
  fs.renameSync(path.join(folder, 'in/deep'), path.join(twin, 'a/deep'));
  assert.equal(attempt(() => client.walk(deep, '..')), E.ENOENT);
});

/** Runs `body`, a loop in a thread of its own, until `during` has run. Its counter says that it runs, and how often it has gone round. */
async function beside(body: string, during: () => void): Promise<number> {
  const counter = new Int32Array(new SharedArrayBuffer(8));
  const source = `const fs = require('node:fs'); const path = require('node:path');
    const { counter, folder, outside } = require('node:worker_threads').workerData;
    const at = (...names) => path.join(folder, ...names);
    while (Atomics.load(counter, 1) === 0) { ${body}; Atomics.add(counter, 0, 1); Atomics.notify(counter, 0); }`;
  const worker = new Worker(source, { eval: true, workerData: { counter, folder, outside } });
  const ended = new Promise<void>((resolve, reject) => {
    worker.once('error', reject);
    worker.once('exit', () => resolve());
  });
  Atomics.wait(counter, 0, 0, 10_000);
  const from = Atomics.load(counter, 0);
  try {
    during();
  } finally {
    Atomics.store(counter, 1, 1);
    await ended;
  }
  return Atomics.load(counter, 0) - from;
}

test('symbolic links that come and go under a walk lead nowhere', async (t) => {
  const before = untouched();
  let [inside, refused] = [0, 0];
  // "in" is a folder of the share, then a link to the one outside: swapped by renames, so that there is always one of them.
  const rounds = await beside(
    `fs.symlinkSync(outside, at('swap')); fs.renameSync(at('in'), at('real')); fs.renameSync(at('swap'), at('in'));
     fs.renameSync(at('in'), at('gone')); fs.renameSync(at('real'), at('in')); fs.unlinkSync(at('gone'))`,
    () => {
      for (let i = 0; i < TRIES; i++) {
        const held = server.share.fids.count;
        let fid = 0;
        const failed = attempt(() => {
          fid = client.walk(root, 'in', 'file');
          assert.notEqual(client.attributes(fid).size, SECRET.length);
          client.open(fid, i % 2 === 0 ? 0 : 0o2);
          assert.notEqual(latin1(client.read(fid, 0, 100)), SECRET);
        });
        if (failed === 0) inside++;
        else refused++;
        if (fid !== 0 && server.share.fids.count > held) client.clunk(fid);
        attempt(() => {
          fid = client.walk(root, 'in');
          attempt(() => client.clunk(client.create(fid, 'made', 0o102)));
          attempt(() => client.call(TUNLINKAT, [{ u32: fid }, { s: 'made' }, { u32: 0 }]));
          attempt(() => client.call(TRENAMEAT, [{ u32: fid }, { s: 'file' }, { u32: fid }, { s: 'renamed' }]));
          attempt(() => client.call(TRENAMEAT, [{ u32: fid }, { s: 'renamed' }, { u32: fid }, { s: 'file' }]));
          attempt(() => client.call(TSETATTR, [{ u32: fid }, { u32: SETATTR_MODE }, { u32: 0o755 }, { u32: 0 }, { u32: 0 }, ...Array.from({ length: 5 }, () => ({ u64: 0 }))]));
          client.clunk(fid);
        });
        if (server.share.fids.count > 1000) {
          client.version();
          root = client.attach();
        }
      }
    },
  );
  assert.deepEqual(untouched(), before);
  assert.ok(rounds > TRIES / 100 && inside > 0 && refused > 0, `${rounds} swaps, ${inside} walks inside, ${refused} refused`);
  t.diagnostic(`${TRIES} walks beside ${rounds} swaps: ${inside} stayed inside, ${refused} were refused`);
});

test('a link that takes a regular file\'s place between look and open is not followed', async (t) => {
  const before = untouched();
  let [opened, refused] = [0, 0];
  const rounds = await beside(
    `fs.symlinkSync(outside + '/file', at('swap')); fs.renameSync(at('swap'), at('target')); fs.writeFileSync(at('plain'), 'x'); fs.renameSync(at('plain'), at('target'))`,
    () => {
      for (let i = 0; i < TRIES; i++) {
        const fid = client.walk(root);
        const failed = attempt(() => client.call(14, [{ u32: fid }, { s: 'target' }, { u32: i % 2 === 0 ? 0o102 : 0o1102 }, { u32: 0o644 }, { u32: 0 }]));
        if (failed === 0) {
          opened++;
          assert.notEqual(latin1(client.read(fid, 0, 100)), SECRET);
          client.write(fid, 0, new Uint8Array([0x79]));
        } else refused++;
        client.clunk(fid);
      }
    },
  );
  assert.deepEqual(untouched(), before);
  assert.ok(rounds > TRIES / 100 && opened > 0 && refused > 0, `${rounds} swaps, ${opened} opened, ${refused} refused`);
  t.diagnostic(`${TRIES} opens beside ${rounds} swaps: ${opened} of the file, ${refused} refused`);
});

test('folders that are renamed across each other under `..` do not lead out', async (t) => {
  fs.mkdirSync(path.join(folder, 'x/one/two'), { recursive: true });
  fs.mkdirSync(path.join(folder, 'y'));
  let [inside, refused] = [0, 0];
  const all = new Set<bigint>();
  const note = (where: string): void => {
    all.add(fs.lstatSync(where, { bigint: true }).ino);
    for (const name of fs.readdirSync(where)) if (fs.lstatSync(path.join(where, name)).isDirectory()) note(path.join(where, name));
  };
  note(folder);
  const two = client.walk(root, 'x', 'one', 'two');
  const rounds = await beside(`fs.renameSync(at('x/one'), at('y/one')); fs.renameSync(at('y/one'), outside + '/one'); fs.renameSync(outside + '/one', at('x/one'))`, () => {
    for (let i = 0; i < TRIES; i++) {
      const fid = client.fid();
      const depth = 1 + (i % 5);
      let walked = 0;
      const failed = attempt(() => {
        const answer = client.call(TWALK, [{ u32: two }, { u32: fid }, { u16: depth }, ...Array.from({ length: depth }, () => ({ s: '..' }))]);
        walked = answer.u16();
        for (let n = 0; n < walked; n++) assert.ok(all.has(Client.qid(answer).path), 'a folder of the share');
      });
      if (failed === 0 && walked === depth) {
        inside++;
        client.clunk(fid);
      } else refused++;
    }
  });
  assert.ok(rounds > TRIES / 100 && inside > 0, `${rounds} rounds, ${inside} walks inside, ${refused} refused`);
  t.diagnostic(`${TRIES} walks up beside ${rounds} rounds of renames: ${inside} stayed inside, ${refused} were refused`);
});
