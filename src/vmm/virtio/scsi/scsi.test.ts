import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as v from 'valibot';
import type { VirtioConfigOf } from '../../../shared/machine-config.ts';
import { virtioVariants } from '../../../shared/virtio-config.ts';
import { VitrineError } from '../../../shared/errors.ts';
import { EIO, ENOSPC } from '../../block/disk-image.ts';
import { createDisk } from '../../block/make-disk.ts';
import { openDisk } from '../../block/open-disk.ts';
import { check, inFolder, random, Troubled } from '../../block/testing.ts';
import { openFileIo } from '../../io/file-io.ts';
import { ScsiDisk } from '../../scsi/disk.ts';
import type { DriverQueue, Lent } from '../testing/driver.ts';
import { VirtioRig } from '../testing/rig.ts';
import { F_RING_PACKED } from '../constants.ts';
import { makeScsiBackend, ScsiBackend } from './backend.ts';
import { CDB_SIZE, SENSE_SIZE, scsiModel } from './model.ts';

const MIB = 2 ** 20;
const CONFIG = 0x2000;
const REQUESTS = 2;
const variants = v.variant('kind', [...virtioVariants(v.number())]);

interface Answer {
  readonly response: number;
  readonly status: number;
  /** "5/24/0": key, code, qualifier; empty without sense data. */
  readonly sense: string;
  readonly residual: number;
  readonly data: Uint8Array;
}

class Guest {
  readonly rig: VirtioRig;
  readonly queues: DriverQueue[];

  constructor(rig: VirtioRig, packed = false) {
    this.rig = rig;
    this.queues = rig.setUp({ wanted: rig.offered().filter((each) => packed || each !== F_RING_PACKED) });
  }

  lun(target: number, unit = 0): number[] {
    return [1, target, 0x40 | (unit >> 8), unit & 255, 0, 0, 0, 0];
  }

  finish(queue: number, count = 1): { id: number; written: number }[] {
    this.rig.kick(queue);
    const done: { id: number; written: number }[] = [];
    for (let i = 0; i < 5000 && done.length < count; i++) {
      this.rig.work(1, 1);
      done.push(...this.queues[queue]!.used());
    }
    assert.equal(done.length, count);
    return done;
  }

  ask(target: number, cdb: readonly number[], out: Uint8Array | null, room: number, id = 1, unit = 0): { response: Lent; data: Lent } {
    const q = this.queues[REQUESTS]!;
    const header = Uint8Array.from([...this.lun(target, unit), id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...cdb, ...new Uint8Array(32 - cdb.length)]);
    const response = q.lend(12 + 96);
    const data = q.lend(room);
    q.add([q.put(header), ...(out === null ? [] : [q.put(out)]), response, ...(room > 0 ? [data] : [])], room % 512 === 0);
    return { response, data };
  }

  do(target: number, cdb: readonly number[], { out = null, room = 0, unit = 0 }: { out?: Uint8Array | null; room?: number; unit?: number } = {}): Answer {
    const { response, data } = this.ask(target, cdb, out, room, 1, unit);
    this.finish(REQUESTS);
    const q = this.queues[REQUESTS]!;
    const bytes = q.get(response);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const sense = view.getUint32(0, true) === 0 ? '' : `${bytes[12 + 2]!.toString(16)}/${bytes[12 + 12]!.toString(16)}/${bytes[12 + 13]!.toString(16)}`;
    return { response: bytes[11]!, status: bytes[10]!, sense, residual: view.getUint32(4, true), data: room > 0 ? q.get(data) : new Uint8Array(0) };
  }

  /** A command that succeeds. */
  good(target: number, cdb: readonly number[], more: { out?: Uint8Array | null; room?: number } = {}): Uint8Array {
    const { response, status, sense, data } = this.do(target, cdb, more);
    assert.deepEqual({ response, status, sense }, { response: 0, status: 0, sense: '' }, cdb.map((each) => each.toString(16)).join(' '));
    return data;
  }

  askTask(subtype: number, target: number, id: number): Lent {
    const q = this.queues[0]!;
    const bytes = new Uint8Array(24);
    new DataView(bytes.buffer).setUint32(4, subtype, true);
    bytes.set(this.lun(target), 8);
    bytes[16] = id;
    const response = q.lend(1);
    q.add([q.put(bytes), response]);
    this.rig.kick(0);
    return response;
  }

  task(subtype: number, target: number, id = 1): number {
    const response = this.askTask(subtype, target, id);
    this.finish(0);
    return this.queues[0]!.get(response)[0]!;
  }

  /** Every drive's news of power-on taken. */
  awake(targets: number): this {
    for (let target = 0; target < targets; target++) assert.equal(this.do(target, [0]).sense, '6/29/1');
    return this;
  }
}

function withGuest(drives: readonly Record<string, unknown>[], body: (guest: Guest) => void, packed = false): void {
  const config = v.parse(variants, { kind: 'virtio-scsi', drives, rings: packed ? 'packed' : 'split' }) as VirtioConfigOf<'virtio-scsi'>;
  const rig = new VirtioRig({ model: scsiModel(), backend: (host) => makeScsiBackend(config, 'machine', 5, host), packed });
  try {
    body(new Guest(rig, packed));
  } finally {
    rig.close();
  }
}

/** A drive whose disk has trouble; the machine pauses then. */
function withTroubled(body: (guest: Guest, disk: Troubled) => void, block?: number): void {
  inFolder((folder) => {
    const path = join(folder, 'disk');
    createDisk({ path, format: 'raw', bytes: MIB });
    const io = openFileIo();
    const disk = new Troubled(openDisk(path, { io, readonly: false }), io, block);
    const drives = [{ unit: new ScsiDisk(disk, path, 's'), onError: 'pause' as const }];
    const rig = new VirtioRig({ model: scsiModel(), backend: (host) => new ScsiBackend(host, { io, drives, openMedium: () => assert.fail('no medium is asked for') }) });
    try {
      body(new Guest(rig).awake(1), disk);
    } finally {
      rig.close();
    }
  });
}

const u32 = (value: number): number[] => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
const text = (bytes: Uint8Array): string => new TextDecoder('latin1').decode(bytes);
const filled = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);

for (const packed of [false, true]) {
  test(`a disk does what Linux asks of it, through a ${packed ? 'packed' : 'split'} ring`, () => {
    inFolder((folder) => {
      const path = join(folder, 'disk.qcow2');
      createDisk({ path, format: 'qcow2', bytes: 10 * MIB });
      withGuest([{ kind: 'disk', file: path, serial: 'S-123' }], (first) => {
        const guest = first.awake(1);
        const inquiry = guest.good(0, [0x12, 0, 0, 0, 36, 0], { room: 36 });
        assert.deepEqual([inquiry[0], inquiry[1], inquiry[4]], [0, 0, 31]);
        assert.equal(text(inquiry.subarray(8, 32)), 'VITRINE DISK            ');
        assert.deepEqual([...guest.good(0, [0x12, 1, 0, 0, 255, 0], { room: 255 }).subarray(0, 10)], [0, 0, 0, 6, 0, 0x80, 0x83, 0xb0, 0xb1, 0xb2]);
        assert.equal(text(guest.good(0, [0x12, 1, 0x80, 0, 9, 0], { room: 9 }).subarray(4)), 'S-123');
        for (const page of [0x83, 0xb0, 0xb1, 0xb2]) {
          const data = guest.good(0, [0x12, 1, page, 0, 255, 0], { room: 255 });
          assert.deepEqual([data[0], data[1]], [0, page]);
        }
        assert.equal(guest.do(0, [0x12, 1, 0x99, 0, 255, 0], { room: 255 }).sense, '5/24/0');
        assert.deepEqual([...guest.good(0, [0x25, ...new Uint8Array(9)], { room: 8 })], [...u32(20479), ...u32(512)]);
        const long = guest.good(0, [0x9e, 0x10, ...new Uint8Array(8), ...u32(32), 0, 0], { room: 32 });
        assert.deepEqual([...long.subarray(0, 15)], [0, 0, 0, 0, ...u32(20479), ...u32(512), 0, 3, 0x80]);
        assert.deepEqual([...guest.good(0, [0xa0, 0, 0, 0, 0, 0, ...u32(16), 0, 0], { room: 16 })], [0, 0, 0, 8, ...new Uint8Array(12)]);
        // Writing and reading in every form.
        guest.good(0, [0x0a, 0, 0, 5, 2, 0], { out: filled(1024, 1) });
        guest.good(0, [0x2a, 0, ...u32(7), 0, 0, 2, 0], { out: filled(1024, 2) });
        guest.good(0, [0xaa, 8, ...u32(9), ...u32(2), 0, 0], { out: filled(1024, 3) });
        guest.good(0, [0x8a, 8, 0, 0, 0, 0, ...u32(11), ...u32(2), 0, 0], { out: filled(1024, 4) });
        const want = Uint8Array.from([1, 2, 3, 4].flatMap((value) => [...filled(1024, value)]));
        assert.deepEqual(guest.good(0, [0x08, 0, 0, 5, 8, 0], { room: 4096 }), want);
        assert.deepEqual(guest.good(0, [0x28, 0, ...u32(5), 0, 0, 8, 0], { room: 4096 }), want);
        assert.deepEqual(guest.good(0, [0xa8, 0, ...u32(5), ...u32(8), 0, 0], { room: 4096 }), want);
        assert.deepEqual(guest.good(0, [0x88, 0, 0, 0, 0, 0, ...u32(5), ...u32(8), 0, 0], { room: 4096 }), want);
        guest.good(0, [0x35, ...new Uint8Array(9)]);
        guest.good(0, [0x91, ...new Uint8Array(15)]);
        guest.good(0, [0x2f, 0, ...u32(0), 0, 0, 8, 0]);
        // WRITE SAME: of something, of zeros, of nothing; UNMAP.
        guest.good(0, [0x93, 0, 0, 0, 0, 0, ...u32(100), ...u32(4000), 0, 0], { out: filled(512, 9) });
        assert.deepEqual(guest.good(0, [0x28, 0, ...u32(4098), 0, 0, 4, 0], { room: 2048 }), Uint8Array.from([...filled(1024, 9), ...filled(1024, 0)]));
        guest.good(0, [0x41, 8, ...u32(200), 0, 0, 100, 0], { out: filled(512, 0) });
        guest.good(0, [0x93, 9, 0, 0, 0, 0, ...u32(400), ...u32(8), 0, 0]);
        assert.deepEqual(guest.good(0, [0x28, 0, ...u32(199), 0, 0, 4, 0], { room: 2048 }), Uint8Array.from([...filled(512, 9), ...filled(1536, 0)]));
        assert.deepEqual(guest.good(0, [0x28, 0, ...u32(400), 0, 0, 8, 0], { room: 4096 }), filled(4096, 0));
        guest.good(0, [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], { out: Uint8Array.from([0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, ...u32(1024), ...u32(1024), 0, 0, 0, 0]) });
        // Mode pages: the write cache.
        const caching = guest.good(0, [0x1a, 8, 0x08, 0, 255, 0], { room: 255 });
        assert.deepEqual([caching[4], caching[5], caching[6]! & 4], [8, 18, 4]);
        assert.equal(guest.good(0, [0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 255, 0], { room: 255 })[3], 0x10);
      }, packed);
      check(path);
    });
  });
}

test('what cannot be done is said by sense data, response and residual', () => {
  inFolder((folder) => {
    const path = join(folder, 'disk');
    createDisk({ path, format: 'raw', bytes: MIB });
    withGuest([{ kind: 'disk', file: path }, { kind: 'disk', file: path, readonly: true }].slice(0, 1), (first) => {
      const guest = first.awake(1);
      for (const [what, cdb, sense, more] of [
        ['an unknown command', [0xff], '5/20/0', {}],
        ['past the end', [0x28, 0, ...u32(2048), 0, 0, 1, 0], '5/21/0', { room: 512 }],
        ['over the end', [0x28, 0, ...u32(2047), 0, 0, 2, 0], '5/21/0', { room: 1024 }],
        ['a block of all ones', [0x88, 0, ...filled(8, 255), ...u32(1), 0, 0], '5/21/0', { room: 512 }],
        ['writing past the end', [0x2a, 0, ...u32(2048), 0, 0, 1, 0], '5/21/0', { out: filled(512, 1) }],
        ['comparing', [0x2f, 2, ...u32(0), 0, 0, 1, 0], '5/24/0', { out: filled(512, 1) }],
        ['WRITE SAME of no blocks', [0x41, 0, ...u32(0), 0, 0, 0, 0], '5/24/0', { out: filled(512, 0) }],
        ['UNMAP past the end', [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], '5/21/0', { out: Uint8Array.from([0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, ...u32(2040), ...u32(9), 0, 0, 0, 0]) }],
        ['UNMAP with half a list', [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], '5/1a/0', { out: filled(10, 0) }],
        ['saved mode pages', [0x1a, 0, 0xc8, 0, 255, 0], '5/39/0', { room: 255 }],
        ['an unknown mode page', [0x1a, 0, 0x07, 0, 255, 0], '5/24/0', { room: 255 }],
        ['an unknown service', [0x9e, 0x12, ...new Uint8Array(14)], '5/24/0', { room: 32 }],
      ] as const) {
        const answer = guest.do(0, cdb, more);
        assert.deepEqual([answer.response, answer.status, answer.sense], [0, 2, sense], what);
      }
      assert.equal(guest.do(0, [0x28, 0, ...u32(0), 0, 0, 2, 0], { room: 512 }).response, 1, 'no room for what it reads');
      assert.equal(guest.do(0, [0x28, 0, ...u32(0), 0, 0, 1, 0], { room: 2048 }).residual, 1536);
      assert.equal(guest.do(9, [0]).response, 3, 'no such target');
      assert.equal(guest.do(0, [0], { unit: 1 }).response, 12, 'no such unit');
    });
    withGuest([{ kind: 'disk', file: path, readonly: true }], (first) => {
      const guest = first.awake(1);
      assert.equal(guest.do(0, [0x2a, 0, ...u32(0), 0, 0, 1, 0], { out: filled(512, 1) }).sense, '7/27/0');
      assert.equal(guest.good(0, [0x1a, 0, 0x3f, 0, 255, 0], { room: 255 })[2], 0x90);
    });
  });
});

test('a CD: read, table of contents, ejected and loaded by the guest, changed while it runs', () => {
  inFolder((folder) => {
    const [one, two] = [join(folder, 'one.iso'), join(folder, 'two.iso')];
    writeFileSync(one, filled(100 * 2048, 0x11));
    writeFileSync(two, filled(300 * 2048, 0x22));
    withGuest([{ kind: 'cdrom', file: one }, { kind: 'cdrom', file: null }], (first) => {
      const guest = first.awake(2);
      const event = (drive: number): number[] => [...guest.good(drive, [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0], { room: 8 })];
      assert.deepEqual([...guest.good(0, [0x12, 0, 0, 0, 36, 0], { room: 36 }).subarray(0, 2)], [5, 0x80]);
      assert.deepEqual([...guest.good(0, [0x25, ...new Uint8Array(9)], { room: 8 })], [...u32(99), ...u32(2048)]);
      assert.deepEqual(guest.good(0, [0x28, 0, ...u32(98), 0, 0, 2, 0], { room: 4096 }), filled(4096, 0x11));
      assert.equal(guest.do(0, [0x28, 0, ...u32(99), 0, 0, 2, 0], { room: 4096 }).sense, '5/21/0');
      assert.equal(guest.do(0, [0x2a, 0, ...u32(0), 0, 0, 1, 0], { out: filled(2048, 0) }).sense, '5/20/0');
      assert.deepEqual([...guest.good(0, [0x43, 0, 0, 0, 0, 0, 0, 0, 20, 0], { room: 20 })], [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, ...u32(100)]);
      assert.deepEqual([...guest.good(0, [0x43, 2, 0, 0, 0, 0, 0, 0, 20, 0], { room: 20 }).subarray(16)], [0, 0, 3, 25]);
      assert.deepEqual([...guest.good(0, [0x46, 0, 0, 0, 0, 0, 0, 1, 0, 0], { room: 256 }).subarray(6, 8)], [0, 8], 'a CD');
      assert.equal(guest.good(0, [0x51, 0, 0, 0, 0, 0, 0, 0, 34, 0], { room: 34 })[2], 0x0e);
      guest.good(0, [0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0], { room: 8 });
      assert.equal(guest.good(0, [0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 64, 0], { room: 64 })[8], 0x2a);
      assert.equal(guest.do(1, [0]).sense, '2/3a/1', 'empty');
      assert.deepEqual(event(1), [0, 6, 4, 0x10, 0, 0, 0, 0]);
      // The guest locks, is asked, unlocks, ejects, loads again.
      guest.good(0, [0x1e, 0, 0, 0, 1, 0]);
      assert.equal(guest.do(0, [0x1b, 0, 0, 0, 2, 0]).sense, '5/53/2');
      assert.throws(() => guest.rig.runner.mail({ kind: 'medium', drive: 0, file: two }), (thrown) => thrown instanceof VitrineError && thrown.problem.why.includes('in use'));
      assert.deepEqual(event(0), [0, 6, 4, 0x10, 1, 2, 0, 0], 'it is asked to eject');
      guest.good(0, [0x1e, 0, 0, 0, 0, 0]);
      guest.good(0, [0x1b, 0, 0, 0, 2, 0]);
      assert.equal(guest.do(0, [0]).sense, '2/3a/2', 'the tray is open');
      assert.deepEqual(event(0), [0, 6, 4, 0x10, 3, 1, 0, 0]);
      guest.good(0, [0x1b, 0, 0, 0, 3, 0]);
      assert.equal(guest.do(0, [0]).sense, '6/28/0');
      assert.deepEqual(event(0), [0, 6, 4, 0x10, 2, 2, 0, 0]);
      // Changed from outside, while a read is under way.
      const room = guest.queues[1]!.lend(16);
      guest.queues[1]!.add([room]);
      const { data } = guest.ask(0, [0x28, 0, ...u32(0), 0, 0, 8, 0], null, 16384);
      guest.rig.runner.mail({ kind: 'medium', drive: 0, file: two });
      guest.rig.work(2, 1);
      assert.deepEqual(guest.queues[1]!.used().length, 1);
      assert.deepEqual([...guest.queues[1]!.get(room)], [3, 0, 0, 0, 1, 0, 0x40, 0, 0, 0, 0, 0, 0x28, 0, 0, 0]);
      guest.rig.kick(REQUESTS);
      for (let i = 0; i < 1000 && guest.queues[REQUESTS]!.inFlight > 0; i++) {
        guest.rig.work(1, 1);
        guest.queues[REQUESTS]!.used();
      }
      assert.equal(guest.queues[REQUESTS]!.get(data).length, 16384);
      guest.do(0, [0]); // the news, if the read has not had it
      assert.deepEqual(event(0), [0, 6, 4, 0x10, 3, 2, 0, 0]);
      assert.deepEqual(event(0), [0, 6, 4, 0x10, 2, 2, 0, 0]);
      assert.deepEqual([...guest.good(0, [0x25, ...new Uint8Array(9)], { room: 8 })], [...u32(299), ...u32(2048)]);
      assert.deepEqual(guest.good(0, [0xa8, 0, ...u32(299), ...u32(1), 0, 0], { room: 2048 }), filled(2048, 0x22));
      guest.rig.runner.mail({ kind: 'medium', drive: 0, file: null });
      assert.equal(guest.do(0, [0]).sense, '2/3a/1');
      assert.throws(() => guest.rig.runner.mail({ kind: 'medium', drive: 0, file: join(folder, 'none') }), VitrineError);
      assert.throws(() => guest.rig.runner.mail({ kind: 'medium', drive: 7, file: one }), VitrineError);
      guest.rig.runner.mail({ kind: 'medium', drive: 1, file: one });
      assert.equal(guest.do(1, [0]).sense, '6/28/0');
      guest.good(1, [0]);
    });
  });
});

test('of media events that no guest asked for, one of each kind is kept, the newest last', () => {
  inFolder((folder) => {
    const path = join(folder, 'cd.iso');
    writeFileSync(path, filled(100 * 2048, 0x11));
    withGuest([{ kind: 'cdrom', file: path }], (first) => {
      const guest = first.awake(1);
      const events = (): number[] => Array.from({ length: 5 }, () => guest.good(0, [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0], { room: 8 })[4]!);
      for (let time = 0; time < 20; time++) {
        guest.good(0, [0x1b, 0, 0, 0, 2, 0]); // opened and shut
        guest.good(0, [0x1b, 0, 0, 0, 3, 0]);
        assert.equal(guest.do(0, [0]).sense, '6/28/0');
      }
      assert.deepEqual(events(), [3, 2, 0, 0, 0]);
      guest.good(0, [0x1e, 0, 0, 0, 1, 0]);
      for (let time = 0; time < 20; time++) assert.throws(() => guest.rig.runner.mail({ kind: 'medium', drive: 0, file: null }), VitrineError);
      guest.good(0, [0x1e, 0, 0, 0, 0, 0]);
      guest.good(0, [0x1b, 0, 0, 0, 2, 0]);
      assert.deepEqual(events(), [1, 3, 0, 0, 0]);
      for (let time = 0; time < 20; time++) guest.rig.runner.mail({ kind: 'medium', drive: 0, file: time % 2 === 0 ? path : null });
      assert.deepEqual(events(), [2, 3, 0, 0, 0]);
    });
  });
});

test('tasks are asked about, aborted and reset', () => {
  inFolder((folder) => {
    const path = join(folder, 'disk');
    createDisk({ path, format: 'raw', bytes: MIB });
    withGuest([{ kind: 'disk', file: path }], (first) => {
      const guest = first.awake(1);
      assert.equal(guest.task(6, 0), 0, 'there is no such task');
      assert.equal(guest.task(0, 0), 0);
      assert.equal(guest.task(2, 0), 11, 'CLEAR ACA is not there');
      assert.equal(guest.task(77, 0), 11);
      assert.equal(guest.task(5, 9), 3, 'no such target');
      assert.equal(guest.task(5, 0), 0);
      assert.equal(guest.do(0, [0]).sense, '6/29/2', 'it was reset');
      guest.good(0, [0]);
      // Notifications: there are none.
      const q = guest.queues[0]!;
      const response = q.lend(5);
      q.add([q.put(Uint8Array.from([2, 0, 0, 0, ...guest.lun(0), 255, 255, 255, 255, 0, 0, 0, 0])), response]);
      guest.rig.kick(0);
      guest.rig.work(3, 1);
      assert.equal(q.used()[0]!.written, 5);
      assert.deepEqual([...q.get(response)], [0, 0, 0, 0, 0]);
    });
  });
});

test('blocks have 512 bytes whatever the file wants; that is told as the size of physical ones', () => {
  for (const [block, exponent] of [[512, 3], [4096, 3], [16384, 5]] as const) {
    withTroubled((guest) => {
      assert.deepEqual([...guest.good(0, [0x25, ...new Uint8Array(9)], { room: 8 })], [...u32(MIB / 512 - 1), ...u32(512)]);
      const long = guest.good(0, [0x9e, 0x10, ...new Uint8Array(8), ...u32(32), 0, 0], { room: 32 });
      assert.deepEqual([...long.subarray(4, 14)], [...u32(MIB / 512 - 1), ...u32(512), 0, exponent]);
      const limits = guest.good(0, [0x12, 1, 0xb0, 0, 64, 0], { room: 64 });
      assert.deepEqual([...limits.subarray(6, 8)], [0, 2 ** exponent], 'the least that is good to move');
      assert.deepEqual([...limits.subarray(28, 32)], u32(2 ** exponent), 'the least that is good to unmap');
      guest.good(0, [0x2a, 0, ...u32(1), 0, 0, 1, 0], { out: filled(512, 7) });
      assert.deepEqual(guest.good(0, [0x28, 0, ...u32(0), 0, 0, 2, 0], { room: 1024 }), Uint8Array.from([...filled(512, 0), ...filled(512, 7)]));
    }, block);
  }
});

test('a failed flush is the guest\'s at once: tried again, the host would call it done', () => {
  withTroubled((guest, disk) => {
    disk.flushFailed = EIO;
    for (let time = 0; time < 2; time++) assert.equal(guest.do(0, [0x35, ...new Uint8Array(9)]).sense, '3/c/0');
    assert.equal(guest.do(0, [0x2a, 8, ...u32(0), 0, 0, 1, 0], { out: filled(512, 1) }).sense, '3/c/0', 'forced through');
    assert.deepEqual(guest.rig.news, []);
    // What can be mended still waits for it.
    disk.trouble = ENOSPC;
    guest.ask(0, [0x2a, 0, ...u32(0), 0, 0, 1, 0], filled(512, 1), 0);
    guest.rig.kick(REQUESTS);
    guest.rig.work(5, 1);
    assert.deepEqual(guest.queues[REQUESTS]!.used(), []);
    assert.match(JSON.stringify(guest.rig.news), /no room/);
  });
});

for (const [name, subtype] of [['ABORT TASK', 0], ['LOGICAL UNIT RESET', 5]] as const) {
  test(`what ${name} gave up is over: it is not kept when it fails afterwards, nor begun again`, () => {
    withTroubled((guest, disk) => {
      const commands = guest.queues[REQUESTS]!;
      const { rig } = guest;
      disk.held = [];
      const [given, other] = [1, 2].map((id) => guest.ask(0, [0x2a, 0, ...u32(id), 0, 0, 1, 0], filled(512, id), 0, id).response);
      rig.kick(REQUESTS);
      rig.work(3, 1);
      assert.equal(disk.held.length, 2);
      const response = guest.askTask(subtype, 0, 1);
      rig.work(3, 1);
      assert.deepEqual(guest.queues[0]!.used(), [], 'it waits for what is under way');
      disk.trouble = ENOSPC;
      disk.letGo();
      rig.work(3, 1);
      assert.equal(guest.queues[0]!.used().length, 1);
      assert.equal(guest.queues[0]!.get(response)[0], 0);
      const all = subtype === 5;
      assert.equal(commands.used().length, all ? 2 : 1);
      assert.equal(commands.get(given!)[11], 2, 'aborted');
      if (all) assert.equal(commands.get(other!)[11], 2, 'aborted');
      assert.equal(rig.news.length, all ? 0 : 1, 'only what is kept makes the machine pause');
      disk.trouble = 0;
      disk.held = [];
      rig.device.pause();
      rig.work(3, 1);
      rig.device.resume();
      rig.work(3, 1);
      assert.equal(disk.held.length, all ? 0 : 1, 'the other one is begun again');
      disk.letGo();
      if (!all) guest.finish(REQUESTS);
      if (all) assert.equal(guest.do(0, [0]).sense, '6/29/2', 'it was reset');
      assert.deepEqual(guest.good(0, [0x28, 0, ...u32(1), 0, 0, 2, 0], { room: 1024 }), Uint8Array.from([...filled(512, 0), ...filled(512, all ? 0 : 2)]));
    });
  });
}

test('random commands of a driver that does anything: no throw, alive after a reset', () => {
  inFolder((folder) => {
    const path = join(folder, 'disk.qcow2');
    createDisk({ path, format: 'qcow2', bytes: 4 * MIB });
    writeFileSync(join(folder, 'cd'), filled(100 * 2048, 1));
    const next = random(Number(process.env['VITRINE_SEED'] ?? Math.floor(Math.random() * 2 ** 31)));
    const codes = [0, 3, 8, 10, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x2a, 0x2f, 0x35, 0x41, 0x42, 0x43, 0x46, 0x4a, 0x51, 0x52, 0x5a, 0x88, 0x8a, 0x93, 0x9e, 0xa0, 0xa8, 0xaa, 0xbd];
    for (let round = 0; round < (process.env['VITRINE_LONG'] === '1' ? 100 : 3); round++) {
      withGuest([{ kind: 'disk', file: path }, { kind: 'cdrom', file: join(folder, 'cd') }], (first) => {
        let guest = first;
        const reset = (): void => {
          guest.rig.status = 0;
          for (let turn = 0; turn < 1000 && guest.rig.status !== 0; turn++) guest.rig.work(1, 1);
          guest = new Guest(guest.rig);
        };
        for (let i = 0; i < 150; i++) {
          const queue = next(10) === 0 ? next(3) : REQUESTS;
          const q = guest.queues[queue]!;
          if (q.room < 8) {
            reset();
            continue;
          }
          const cdb = [codes[next(codes.length)]!, ...Array.from({ length: 31 }, () => (next(3) === 0 ? next(256) : next(8) === 0 ? 255 : 0))];
          const header = Uint8Array.from([...guest.lun(next(3), next(20) === 0 ? 1 : 0), ...Array.from({ length: 11 }, () => next(256)), ...cdb]);
          const parts = [q.put(next(30) === 0 ? header.subarray(0, next(50)) : header), q.put(new Uint8Array(next(3) * 700).fill(next(256))), q.lend(next(30) === 0 ? next(100) : 108), q.lend(next(3) * next(20000))].filter((each) => each.length > 0);
          q.add(parts, next(2) === 0);
          if (next(30) === 0) guest.rig.write(CONFIG + (next(2) === 0 ? SENSE_SIZE : CDB_SIZE), 4, next(300));
          guest.rig.kick(queue);
          guest.rig.work(1 + next(3), 0);
          if (next(20) === 0 || (guest.rig.status & 0x40) !== 0) reset();
          else q.used();
        }
        reset();
        guest.awake(2);
      });
      check(path);
    }
  });
});
