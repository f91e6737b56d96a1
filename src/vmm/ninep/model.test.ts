// Random operations on a share, and the same by node:fs on a twin folder: each succeeds or fails alike, with the same error number, and the two trees
// are the same at the end.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { SETATTR_ATIME, SETATTR_ATIME_SET, SETATTR_MODE, SETATTR_MTIME, SETATTR_MTIME_SET, SETATTR_SIZE, TLINK, TMKDIR, TREMOVE, TRENAME, TRENAMEAT, TSETATTR, TSYMLINK, TUNLINKAT } from './protocol.ts';
import { NinepServer } from './server.ts';
import { Client, Refused } from './testing.ts';

const LONG = process.env['VITRINE_LONG'] === '1';
const RUNS = LONG ? 3000 : 60;
const STEPS = 80;
const SEED = process.env['VITRINE_SEED'];

const NAMES = ['a', 'b', 'c', 'é'];
type Path = readonly string[];
const name = fc.constantFrom(...NAMES);
const where: fc.Arbitrary<Path> = fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 2, arbitrary: fc.tuple(name) }, { weight: 1, arbitrary: fc.tuple(name, name) });
const place = fc.record({ folder: where, name });
const mode = fc.constantFrom(0o700, 0o755, 0o711, 0o1777);

const step = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), at: place, offset: fc.nat(3000), bytes: fc.nat(5000), flags: fc.constantFrom(0o102, 0o1102, 0o302), mode: fc.constantFrom(0o600, 0o644, 0o4755) }),
  fc.record({ kind: fc.constant('mkdir' as const), at: place, mode }),
  fc.record({ kind: fc.constant('symlink' as const), at: place, target: fc.constantFrom('a', '../b', '/etc/passwd', 'c/../../..', 'nowhere') }),
  fc.record({ kind: fc.constant('link' as const), at: place, to: place }),
  fc.record({ kind: fc.constant('rename' as const), at: place, to: place, byFid: fc.boolean() }),
  fc.record({ kind: fc.constant('unlink' as const), at: place, folder: fc.boolean() }),
  fc.record({ kind: fc.constant('remove' as const), at: place }),
  fc.record({ kind: fc.constant('chmod' as const), at: place, mode }),
  fc.record({ kind: fc.constant('truncate' as const), at: place, size: fc.nat(9000) }),
  fc.record({ kind: fc.constant('times' as const), at: place, atime: fc.nat(2 ** 31 - 1), mtime: fc.nat(2 ** 31 - 1) }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Every file of a tree with all that should be alike; hard links by which names are one file. */
function picture(top: string): unknown[] {
  const first = new Map<bigint, string>();
  const look = (at: string): unknown[] => fs.readdirSync(path.join(top, at)).toSorted().flatMap((each) => {
    const own = path.join(at, each);
    const stat = fs.lstatSync(path.join(top, own), { bigint: true });
    if (!first.has(stat.ino)) first.set(stat.ino, own);
    const content = stat.isSymbolicLink() ? fs.readlinkSync(path.join(top, own)) : stat.isFile() ? fs.readFileSync(path.join(top, own), 'base64') : '';
    const time = stat.mtimeNs % 1_000_000_000n === 0n ? stat.mtimeNs : 'now'; // whole seconds are those that a step has set
    return [[own, Number(stat.mode), Number(stat.nlink), first.get(stat.ino), content, time], ...(stat.isDirectory() ? look(own) : [])];
  });
  return look('');
}

/** What the guest's kernel does for a step: it looks names up itself and never asks the server to follow a link. */
class GuestSide {
  readonly #client: Client;
  readonly #root: number;

  constructor(client: Client) {
    this.#client = client;
    this.#root = client.mount();
  }

  #reach(names: Path): number {
    try {
      return this.#client.walk(this.#root, ...names);
    } catch (error) {
      if (!(error instanceof Refused) || error.errno !== 0) throw error;
      // Ended early: a walk of one more name says why.
      for (let n = names.length - 1; ; n--) {
        let fid: number;
        try {
          fid = this.#client.walk(this.#root, ...names.slice(0, n));
        } catch {
          continue;
        }
        return this.#client.walk(fid, names[n]!);
      }
    }
  }

  run(s: Step): void {
    const c = this.#client;
    const own = s.at.name;
    const target = (): number => this.#reach([...s.at.folder, own]);
    const zero = Array.from({ length: 5 }, () => ({ u64: 0 }));
    const setattr = (valid: number, fields: { mode?: number; size?: number; times?: number[] }): void => {
      const times = fields.times === undefined ? zero.slice(1) : fields.times.map((u64) => ({ u64 }));
      c.call(TSETATTR, [{ u32: target() }, { u32: valid }, { u32: fields.mode ?? 0 }, { u32: 0 }, { u32: 0 }, { u64: fields.size ?? 0 }, ...times]);
    };
    if (s.kind === 'write') {
      const fid = c.create(this.#reach(s.at.folder), own, s.flags, s.mode);
      c.write(fid, s.offset, new Uint8Array(s.bytes).fill(s.offset & 0xff));
    } else if (s.kind === 'mkdir') c.call(TMKDIR, [{ u32: this.#reach(s.at.folder) }, { s: own }, { u32: s.mode }, { u32: 0 }]);
    else if (s.kind === 'symlink') c.call(TSYMLINK, [{ u32: this.#reach(s.at.folder) }, { s: own }, { s: s.target }, { u32: 0 }]);
    else if (s.kind === 'link') {
      const from = target();
      c.call(TLINK, [{ u32: this.#reach(s.to.folder) }, { u32: from }, { s: s.to.name }]);
    } else if (s.kind === 'rename') {
      if (s.byFid) {
        const from = target();
        c.call(TRENAME, [{ u32: from }, { u32: this.#reach(s.to.folder) }, { s: s.to.name }]);
      } else {
        const from = this.#reach(s.at.folder);
        c.call(TRENAMEAT, [{ u32: from }, { s: own }, { u32: this.#reach(s.to.folder) }, { s: s.to.name }]);
      }
    } else if (s.kind === 'unlink') c.call(TUNLINKAT, [{ u32: this.#reach(s.at.folder) }, { s: own }, { u32: s.folder ? 0x200 : 0 }]);
    else if (s.kind === 'remove') c.call(TREMOVE, [{ u32: target() }]);
    else if (s.kind === 'chmod') setattr(SETATTR_MODE, { mode: s.mode });
    else if (s.kind === 'truncate') setattr(SETATTR_SIZE, { size: s.size });
    else setattr(SETATTR_ATIME | SETATTR_ATIME_SET | SETATTR_MTIME | SETATTR_MTIME_SET, { times: [s.atime, 0, s.mtime, 0] });
  }
}

class NoSuch extends Error {
  readonly code: string;
  constructor(code: string) {
    super(code);
    this.code = code;
  }
}

/** The same on the twin. A symbolic link on the way ends it: there is no folder. */
function runOnTwin(top: string, s: Step): void {
  const reach = (names: Path): string => {
    let at = top;
    for (const each of names) {
      if (!fs.lstatSync(at).isDirectory()) throw new NoSuch('ENOTDIR');
      at = path.join(at, each);
      fs.lstatSync(at);
    }
    return at;
  };
  const inside = (at: string): string => {
    if (!fs.lstatSync(at).isDirectory()) throw new NoSuch('ENOTDIR');
    return at;
  };
  const folder = (names: Path): string => inside(reach(names));
  const own = (): string => reach([...s.at.folder, s.at.name]);
  const exists = (at: string): boolean => fs.lstatSync(at, { throwIfNoEntry: false }) !== undefined;
  if (s.kind === 'write') {
    const at = path.join(folder(s.at.folder), s.at.name);
    const flags = { 0o102: 'O_CREAT', 0o1102: 'O_TRUNC', 0o302: 'O_EXCL' }[s.flags];
    const { O_RDWR, O_CREAT, O_TRUNC, O_EXCL, O_NOFOLLOW } = fs.constants;
    const fd = fs.openSync(at, O_RDWR | O_CREAT | O_NOFOLLOW | (flags === 'O_TRUNC' ? O_TRUNC : 0) | (flags === 'O_EXCL' ? O_EXCL : 0), s.mode);
    if (s.bytes > 0) fs.writeSync(fd, new Uint8Array(s.bytes).fill(s.offset & 0xff), 0, s.bytes, s.offset);
    fs.closeSync(fd);
  } else if (s.kind === 'mkdir') {
    fs.mkdirSync(path.join(folder(s.at.folder), s.at.name), s.mode);
  } else if (s.kind === 'symlink') fs.symlinkSync(s.target, path.join(folder(s.at.folder), s.at.name));
  else if (s.kind === 'link') {
    const from = own();
    const to = path.join(folder(s.to.folder), s.to.name);
    if (fs.lstatSync(from).isDirectory()) throw new NoSuch('EPERM');
    fs.linkSync(from, to);
  } else if (s.kind === 'rename') {
    const from = s.byFid ? own() : reach(s.at.folder);
    const to = reach(s.to.folder);
    fs.renameSync(s.byFid ? from : path.join(inside(from), s.at.name), path.join(inside(to), s.to.name));
  } else if (s.kind === 'unlink' || s.kind === 'remove') {
    const at = s.kind === 'remove' ? own() : path.join(folder(s.at.folder), s.at.name);
    if (s.kind === 'remove' ? fs.lstatSync(at).isDirectory() : s.folder) fs.rmdirSync(at);
    else if (exists(at) && fs.lstatSync(at).isDirectory()) throw new NoSuch('EISDIR');
    else fs.unlinkSync(at);
  } else if (s.kind === 'chmod') {
    const at = own();
    if (fs.lstatSync(at).isSymbolicLink()) throw new NoSuch('EOPNOTSUPP');
    fs.chmodSync(at, s.mode);
  } else if (s.kind === 'truncate') {
    const at = own();
    const stat = fs.lstatSync(at);
    if (!stat.isFile()) throw new NoSuch(stat.isDirectory() ? 'EISDIR' : 'EINVAL');
    fs.truncateSync(at, s.size);
  } else {
    fs.lutimesSync(own(), s.atime, s.mtime);
  }
}

test('random operations do what the same do without a share between', { timeout: LONG ? 3_600_000 : 120_000 }, (t) => {
  const top = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-9p-model-'));
  const umask = process.umask(0); // the guest's kernel has applied its own
  let [steps, succeeded] = [0, 0];
  try {
    fc.assert(
      fc.property(fc.array(step, { minLength: STEPS, maxLength: STEPS }), (todo) => {
        const [ours, twin] = [path.join(top, 'share'), path.join(top, 'twin')];
        for (const folder of [ours, twin]) {
          fs.rmSync(folder, { recursive: true, force: true });
          fs.mkdirSync(folder);
        }
        const server = new NinepServer({ folder: ours, readonly: false });
        try {
          const guest = new GuestSide(new Client(server));
          for (const s of todo) {
            const outcome = (run: () => void): string => {
              try {
                run();
                return 'done';
              } catch (error) {
                if (error instanceof Refused) return Object.entries(os.constants.errno).find(([, number]) => number === error.errno)?.[0] ?? String(error.errno);
                const code = (error as NodeJS.ErrnoException).code;
                if (code === undefined) throw error;
                return code;
              }
            };
            const got = outcome(() => guest.run(s));
            const expected = outcome(() => runOnTwin(twin, s));
            const alike = (code: string): string => (code === 'ENOTSUP' ? 'EOPNOTSUPP' : code);
            assert.equal(alike(got), alike(expected), JSON.stringify(s));
            steps++;
            if (got === 'done') succeeded++;
          }
          assert.deepEqual(picture(ours), picture(twin));
        } finally {
          server.dispose();
        }
      }),
      { numRuns: RUNS, ...(SEED === undefined ? {} : { seed: Number(SEED) }) },
    );
  } finally {
    process.umask(umask);
    fs.rmSync(top, { recursive: true, force: true });
  }
  assert.ok(succeeded > steps / 10, `${succeeded} of ${steps} steps did something`);
  t.diagnostic(`${steps} operations, ${succeeded} of them succeeded`);
});
