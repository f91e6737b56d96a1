import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import fc from 'fast-check';
import { VitrineError } from '../../shared/errors.ts';
import type { NewMachine } from '../../shared/protocol/front.ts';
import { beginRun } from '../../vmm/server/run-record.ts';
import { builtinImages, ensureBuiltins } from './builtin.ts';
import { idFromName, isMachineId, libraryFolder } from './folders.ts';
import { Library } from './library.ts';
import { watchLibrary } from './watch.ts';

const MiB = 2 ** 20;
const machine: NewMachine = { name: 'Debian 12', memory: 64 * MiB, cpus: 1, boot: { kernel: '/boot/vmlinuz' } };

function scratch(t: { after: (f: () => void) => void }): Library {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-library-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return new Library(join(folder, 'machines'));
}

const code = (expected: string) => (e: unknown) => e instanceof VitrineError && e.problem.code === expected;

test('create, read, find, change, remove', async (t) => {
  const library = scratch(t);
  assert.equal(library.create(machine), 'debian-12');
  const second = library.create(machine);
  assert.match(second, /^debian-12-[0-9a-f]{6}$/);
  assert.deepEqual(library.ids(), ['debian-12', second].sort());
  assert.equal(library.config('debian-12').display.kind, 'canvas');
  assert.equal(statSync(join(library.folder, 'debian-12', 'machine.json')).mode & 0o777, 0o600);
  assert.throws(() => library.find('Debian 12'), code('several-machines'));
  await library.update(second, { name: 'Other', memory: 128 * MiB });
  assert.equal(library.find('other'), second);
  assert.equal(library.config(second).memory, 128 * MiB);
  await assert.rejects(library.update(second, { memory: 1 }), code('bad-machine'));
  await assert.rejects(library.update(second, { cpus: 33 }), /at most 32 CPUs/);
  assert.throws(() => library.create({ ...machine, memory: 64 * MiB + 1 }), code('bad-machine'));
  assert.throws(() => library.read('../x'), code('no-such-machine'));
  assert.throws(() => library.find('nothing'), code('no-such-machine'));
  await library.remove('debian-12');
  assert.deepEqual(library.ids(), [second]);
  assert.deepEqual(readdirSync(library.folder), [second]);
});

test('a running machine is neither changed nor removed', async (t) => {
  const library = scratch(t);
  const id = library.create(machine);
  const run = await beginRun(library.folderOf(id), '/none');
  await assert.rejects(library.update(id, { name: 'x' }), code('machine-running'));
  await assert.rejects(library.remove(id), code('machine-running'));
  run.release();
  await library.update(id, { name: 'x' });
});

test('members that this version does not know survive a change', async (t) => {
  const library = scratch(t);
  const id = library.create(machine);
  const path = join(library.folder, id, 'machine.json');
  writeFileSync(path, JSON.stringify({ ...(JSON.parse(readFileSync(path, 'utf8')) as object), note: 'mine' }));
  await library.update(id, { cpus: 2 });
  const written = JSON.parse(readFileSync(path, 'utf8')) as { note: string; cpus: number };
  assert.equal(written.note, 'mine');
  assert.equal(written.cpus, 2);
});

test('a newer version is refused with words and kept', async (t) => {
  const library = scratch(t);
  const id = library.create(machine);
  const path = join(library.folder, id, 'machine.json');
  const newer = JSON.stringify({ version: 2, id, unknown: true });
  writeFileSync(path, newer);
  const read = library.read(id);
  assert.ok('damaged' in read && read.damaged.problem.code === 'machine-file-newer' && /version 2/.test(read.damaged.problem.why));
  await assert.rejects(library.update(id, { cpus: 2 }), code('machine-file-newer'));
  assert.equal(readFileSync(path, 'utf8'), newer);
});

test('whatever a machine\'s file holds, it is kept, reported if it cannot be read, and hides no other', (t) => {
  const library = scratch(t);
  const good = library.create({ ...machine, name: 'Good' });
  const id = library.create(machine);
  const path = join(library.folder, id, 'machine.json');
  const whole = readFileSync(path);
  const truncated = fc.nat(whole.length - 1).map((length) => whole.subarray(0, length));
  const garbled = fc.tuple(fc.nat(whole.length - 1), fc.uint8Array({ minLength: 1, maxLength: 20 })).map(([at, bytes]) => Buffer.concat([whole.subarray(0, at), bytes, whole.subarray(at + bytes.length)]));
  const content = fc.oneof(truncated, garbled, fc.uint8Array({ maxLength: 300 }), fc.json().map((text) => Buffer.from(text)));
  fc.assert(
    fc.property(content, (bytes) => {
      writeFileSync(path, bytes);
      assert.deepEqual(library.ids(), [id, good].sort());
      assert.equal(library.config(good).name, 'Good');
      const read = library.read(id);
      if ('damaged' in read) assert.ok(read.damaged.path === path && read.damaged.problem.why.length > 3);
      else assert.equal(read.config.id, id);
      assert.equal(library.find('good'), good);
      assert.deepEqual(readFileSync(path), Buffer.from(bytes));
    }),
    { numRuns: 300 },
  );
});

test('a folder without its file, a foreign id, a folder in the file\'s place: all are reported', (t) => {
  const library = scratch(t);
  mkdirSync(join(library.folder, 'empty'));
  mkdirSync(join(library.folder, 'folder', 'machine.json'), { recursive: true });
  mkdirSync(join(library.folder, 'copy'));
  const id = library.create(machine);
  writeFileSync(join(library.folder, 'copy', 'machine.json'), readFileSync(join(library.folder, id, 'machine.json')));
  const why = (name: string) => {
    const read = library.read(name);
    return 'damaged' in read ? read.damaged.problem.why : '';
  };
  assert.match(why('empty'), /not there/);
  assert.match(why('folder'), /a folder has its name/);
  assert.match(why('copy'), /says that it is the machine "debian-12"/);
  assert.equal(why(id), '');
});

test('many creators at once get each their own machine', async (t) => {
  const library = scratch(t);
  const ids = await Promise.all(Array.from({ length: 20 }, async () => new Library(library.folder).create(machine)));
  assert.equal(new Set(ids).size, 20);
  assert.equal(library.ids().length, 20);
});

test('a failed creation leaves nothing and says why', { skip: process.geteuid!() === 0 && 'root may write everywhere' }, (t) => {
  const library = scratch(t);
  chmodSync(library.folder, 0o500);
  assert.throws(() => library.create(machine), code('library-write'));
  chmodSync(library.folder, 0o700);
  assert.deepEqual(readdirSync(library.folder), []);
});

test('the built-in machines are made once', async (t) => {
  const library = scratch(t);
  await ensureBuiltins(library);
  assert.deepEqual(library.ids(), ['framebuffer-demo', 'try-linux']);
  assert.equal(library.config('framebuffer-demo').origin, 'builtin');
  assert.equal(library.config('try-linux').boot.kernel, builtinImages().tryLinux.kernel);
  await library.remove('try-linux');
  await ensureBuiltins(library);
  assert.deepEqual(library.ids(), ['framebuffer-demo']);
});

test('the watcher tells of machines that come, change and go, whoever did it', async (t) => {
  const library = scratch(t);
  const first = library.create(machine);
  const told: string[] = [];
  const watcher = watchLibrary(library.folder, (id) => told.push(`changed ${id}`), (id) => told.push(`gone ${id}`));
  t.after(() => watcher.close());
  const until = async (text: string) => {
    while (!told.includes(text)) await new Promise((resolve) => setTimeout(resolve, 5));
    told.length = 0;
  };
  await until(`changed ${first}`);
  const other = new Library(library.folder);
  const second = other.create({ ...machine, name: 'Second' });
  await until(`changed ${second}`);
  await other.update(first, { cpus: 2 });
  await until(`changed ${first}`);
  const run = await beginRun(other.folderOf(second), '/none');
  await until(`changed ${second}`);
  run.release();
  await other.remove(second);
  await until(`gone ${second}`);
  assert.ok(!existsSync(join(library.folder, second)));
});

test('ids from names are ids, and the folder follows XDG', () => {
  fc.assert(fc.property(fc.string(), (name) => assert.ok(isMachineId(idFromName(name)))));
  assert.equal(idFromName('Größe – 漢字'), 'gro-e');
  assert.equal(idFromName('Müllers Café'), 'mullers-cafe');
  assert.equal(libraryFolder({ XDG_DATA_HOME: '/d' }), '/d/vitrine/machines');
  assert.match(libraryFolder({ XDG_DATA_HOME: 'relative' }), /\.local\/share\/vitrine\/machines$/);
});
