// A guest that sends anything: random bytes, messages cut short, too long, with wrong fids, tags used again, replies with too little room. The server
// never throws, keeps within its bounds, changes nothing outside, and serves the next session as if nothing had been.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { NO_FID, RLERROR, SETATTR_SIZE, TAUTH, TSETATTR } from './protocol.ts';
import { NinepServer } from './server.ts';
import { bytesOf, Client, latin1 } from './testing.ts';
import type { Field } from './testing.ts';

const LONG = process.env['VITRINE_LONG'] === '1';
const STEPS = LONG ? 3_000_000 : 30_000;
const SEED = Number(process.env['VITRINE_SEED'] ?? Date.now() % 2 ** 31);
const DESCRIPTORS = 40;
const FIDS = 60;
const ATTRIBUTE_BYTES = 200_000;
/** No file grows beyond: a sparse one costs nothing, a long one much time to compare. */
const SIZE_MASK = 0xffff;

const COMMON = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'user.a', 'user.b', ''];

/** xorshift32: the same numbers for the same seed. */
function generator(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Every message's fields: f fid, N a new one, F none, s string, 1 2 4 8 integers, n a count and so many strings, d a count and so many bytes, o flags of open, u flags of unlinkat. */
const SHAPES: readonly (readonly [number, string])[] = [
  [8, 'f'], [12, 'fo'], [14, 'fso44'], [16, 'fss4'], [18, 'fs4444'], [20, 'ffs'], [22, 'f'], [24, 'f8'], [26, 'f444888888'], [30, 'fNs'], [32, 'fs84'],
  [40, 'f84'], [50, 'f4'], [52, 'f14884s'], [54, 'f1884s'], [70, 'ffs'], [72, 'fs44'], [74, 'fsfs'], [76, 'fsu'], [100, '4s'], [102, 'Nss4'], [104, 'NFss4'],
  [108, '2'], [110, 'fNn'], [116, 'f84'], [118, 'f8d'], [120, 'f'], [122, 'f'],
];
/** Fids come from walks. */
const WALKS = SHAPES.filter(([type]) => type === 110);
const OTHERS = SHAPES.filter(([type]) => type !== 100);

/** Gives every folder of a tree its permissions back: the guest takes them away. */
const openUp = (folder: string): void => void execFileSync('chmod', ['-R', 'u+rwx', folder], { stdio: 'ignore' });

test('a server that is sent anything stays whole', { timeout: LONG ? 3_600_000 : 120_000 }, (t) => {
  const top = fs.mkdtempSync(path.join(os.tmpdir(), 'vitrine-9p-fuzz-'));
  const folder = path.join(top, 'share');
  fs.mkdirSync(folder);
  fs.writeFileSync(path.join(top, 'outside'), 'untouched');
  const outside = fs.statSync(path.join(top, 'outside'), { bigint: true });
  const server = new NinepServer({ folder, readonly: false, limits: { descriptors: DESCRIPTORS, fids: FIDS, attributeBytes: ATTRIBUTE_BYTES } });
  const random = generator(SEED);
  const pick = <T>(list: readonly T[]): T => list[random(list.length)]!;
  const names = ['a', 'b', 'c', '..', '.', '', '../outside', '/', 'a/b', '\0', 'x'.repeat(255), 'x'.repeat(256), 'user.a', 'user.b', 'security.c', '9P2000.L', Uint8Array.from([255, 128])];
  const integer = (): number => pick([0, 1, 2, 3, 0o102, 0o644, 0o40755, 0o100644, 0o10644, 0x200, 64, 4096, 65536, 0x7fff_ffff, 0xffff_ffff, random(2 ** 16), random(2 ** 32)]);
  const any = (): number => (random(50) === 0 ? integer() : random(FIDS + 5));
  const fid = (): number => {
    let chosen = any();
    for (let tries = random(20); tries > 0 && server.share.fids.get(chosen) === undefined; tries--) chosen = random(FIDS + 5);
    return chosen;
  };
  const field = (kind: string): Field[] => {
    switch (kind) {
      case 'f': return [{ u32: fid() }];
      case 'N': return [{ u32: any() }];
      case 'F': return [{ u32: random(20) === 0 ? any() : NO_FID }];
      case 's': return [{ s: random(4) === 0 ? pick(names) : pick(COMMON) }];
      case 'o': return [{ u32: random(4) === 0 ? integer() : pick([0, 1, 2, 0o102, 0o1102, 0o302]) }];
      case 'u': return [{ u32: random(4) === 0 ? integer() : pick([0, 0x200]) }];
      case '1': return [{ u8: random(4) }];
      case '2': return [{ u16: random(2 ** 16) }];
      case '4': return [{ u32: integer() }];
      case '8': return [{ u64: random(4) === 0 ? BigInt(integer()) * 2n ** 32n : random(SIZE_MASK) }];
      case 'n': {
        const count = random(3);
        return [{ u16: random(20) === 0 ? random(2 ** 16) : count }, ...Array.from({ length: count }, () => ({ s: random(10) === 0 ? pick(names) : pick(COMMON) }))];
      }
      default: {
        const count = random(2000);
        return [{ u32: random(20) === 0 ? integer() : count }, { raw: new Uint8Array(count).fill(random(256)) }];
      }
    }
  };
  const seen = { answered: 0, errors: 0, none: 0, done: new Map<number, number>() };
  const clients = [new Client(server, 100), new Client(server, 4096), new Client(server, 24)];
  clients[0]!.mount();
  const before = fs.readdirSync('/proc/self/fd').length - 1; // the root's
  try {
    for (let i = 0; i < STEPS; i++) {
      const client = pick(clients);
      // A session's beginning, now and then: else nothing would be agreed upon for long.
      if (server.messageSize === 0 || server.share.fids.get(0) === undefined) {
        if (server.messageSize === 0) client.version(pick([4096, 8192, 65536, 2 ** 20]));
        client.raw(client.message(104, [{ u32: 0 }, { u32: NO_FID }, { s: '' }, { s: '' }, { u32: 0 }]));
      }
      const [type, shape] = random(1000) === 0 ? ([100, '4s'] as const) : pick(random(2) === 0 ? WALKS : OTHERS);
      let message = client.message(type, [...shape].flatMap(field), random(8));
      if (type === TSETATTR && message.length >= 35) {
        const view = new DataView(message.buffer);
        if ((view.getUint32(11, true) & SETATTR_SIZE) !== 0) {
          view.setUint32(27, view.getUint32(27, true) & SIZE_MASK, true);
          view.setUint32(31, 0, true);
        }
      }
      const kind = random(20);
      if (kind === 0) message = Uint8Array.from({ length: random(200) }, () => random(256));
      else if (kind === 1) message = message.slice(0, random(message.length + 1));
      else if (kind === 2 && message.length > 8) for (let n = 0; n < 3; n++) message[7 + random(message.length - 7)] = random(256);
      else if (kind === 3 && message.length >= 4) new DataView(message.buffer).setUint32(0, pick([0, 6, 7, message.length - 1, message.length + 1, 2 ** 31, 2 ** 32 - 1]), true);
      if (message.length === 0) message = new Uint8Array(1);
      const room = random(10) === 0 ? random(100) : 65536;
      const reply = client.raw(message, Math.max(room, 1));
      assert.ok(reply.length <= Math.max(room, 1));
      if (reply.length === 0) {
        assert.ok(message.length < 7 || room < 11);
        seen.none++;
        continue;
      }
      const view = new DataView(reply.buffer);
      assert.equal(view.getUint32(0, true), reply.length);
      assert.equal(view.getUint16(5, true), new DataView(message.buffer).getUint16(5, true));
      if (reply[4] === RLERROR) {
        const number = view.getUint32(7, true);
        assert.ok(number > 0 && number < 4096, `error ${number}`);
        seen.errors++;
      } else {
        assert.equal(reply[4], message[4]! + 1);
        seen.answered++;
        seen.done.set(message[4]!, (seen.done.get(message[4]!) ?? 0) + 1);
      }
      const { fids } = server.share;
      assert.ok(fids.count <= FIDS && fids.descriptors <= DESCRIPTORS);
      if (i % 1000 === 0) {
        assert.equal(fs.readdirSync('/proc/self/fd').length, before + fids.descriptors);
        openUp(folder);
        if (i % 50_000 === 0) execFileSync('find', [folder, '-mindepth', '1', '-delete']);
      }
    }
    server.reset();
    assert.equal(fs.readdirSync('/proc/self/fd').length, before);
    assert.deepEqual(fs.readdirSync(top).toSorted(), ['outside', 'share']);
    assert.deepEqual(fs.statSync(path.join(top, 'outside'), { bigint: true }), outside);
const never = SHAPES.map(([type]) => type).filter((type) => type !== TAUTH && !seen.done.has(type));
    // The rarest is done a dozen times in 30,000 messages; two such may stay away in a short run.
    assert.ok(never.length <= (LONG ? 0 : 2), `never once done: ${never.join(', ')}`);
    openUp(folder);
    const client = clients[0]!;
    const made = client.create(client.mount(), 'after', 0o2);
    client.write(made, 0, bytesOf('all is well'));
    assert.equal(latin1(client.read(made, 0, 100)), 'all is well');
  } catch (error) {
    throw new Error(`seed ${SEED}`, { cause: error });
  } finally {
    server.dispose();
    openUp(top);
    execFileSync('rm', ['-rf', top]); // names that are no UTF-8, paths that are too long
  }
  t.diagnostic(`${STEPS} messages with seed ${SEED}: ${seen.answered} done, ${seen.errors} refused, ${seen.none} without an answer`);
});
