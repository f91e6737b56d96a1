import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import * as v from 'valibot';
import type { VirtioConfigOf } from '../../../shared/machine-config.ts';
import { virtioVariants } from '../../../shared/virtio-config.ts';
import { EIO, ENOSPC } from '../../block/disk-image.ts';
import { createDisk, describeDisk } from '../../block/make-disk.ts';
import { openDisk } from '../../block/open-disk.ts';
import { check, inFolder, random, Troubled } from '../../block/testing.ts';
import { openFileIo } from '../../io/file-io.ts';
import type { DriverQueue, Lent } from '../testing/driver.ts';
import { VirtioRig } from '../testing/rig.ts';
import { F_RING_PACKED } from '../constants.ts';
import { DONE } from '../registers.ts';
import { BlkBackend, makeBlkBackend } from './backend.ts';
import { BLK_SIZE, blkModel, CAPACITY, F_CONFIG_WCE, F_DISCARD, F_FLUSH, F_MQ, F_RO, F_WRITE_ZEROES, MIN_IO_SIZE, NUM_QUEUES, PHYSICAL_BLOCK_EXP, WRITEBACK } from './model.ts';
import { S_IOERR, S_OK, S_UNSUPP, T_DISCARD, T_FLUSH, T_GET_ID, T_IN, T_OUT, T_WRITE_ZEROES } from './request.ts';

const MIB = 2 ** 20;
const CONFIG = 0x2000;
const variants = v.variant('kind', [...virtioVariants(v.number())]);

function configOf(file: string, more: Record<string, unknown> = {}): VirtioConfigOf<'virtio-blk'> {
  return v.parse(variants, { kind: 'virtio-blk', file, ...more }) as VirtioConfigOf<'virtio-blk'>;
}

/** A device over an image, with a driver. */
class Guest {
  readonly rig: VirtioRig;
  readonly queues: DriverQueue[];
  readonly packed: boolean;

  constructor(rig: VirtioRig, packed: boolean, without: readonly number[] = []) {
    this.rig = rig;
    this.packed = packed;
    this.queues = rig.setUp({ wanted: rig.offered().filter((each) => !without.includes(each) && (packed || each !== F_RING_PACKED)) });
  }

  header(type: number, sector: number): Lent {
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, type, true);
    view.setBigUint64(8, BigInt(sector), true);
    return this.queues[0]!.put(bytes);
  }

  /** Adds a request. @returns where its status and data will be */
  ask(type: number, sector: number, out: Uint8Array | null, room: number, queue = 0): { status: Lent; data: Lent; id: number } {
    const q = this.queues[queue]!;
    const status = q.lend(1);
    const data = q.lend(room);
    const buffers = [this.header(type, sector), ...(out === null ? [] : [q.put(out)]), ...(room > 0 ? [data] : []), status];
    return { status, data, id: q.add(buffers, queue % 2 === 1 || room % 1024 === 0) };
  }

  /** Works until queue `queue` has given back `count` requests. */
  finish(count: number, queue = 0): { id: number; written: number }[] {
    this.rig.kick(queue);
    const done: { id: number; written: number }[] = [];
    for (let i = 0; i < 5000 && done.length < count; i++) {
      this.rig.work(1, 1);
      done.push(...this.queues[queue]!.used());
    }
    assert.equal(done.length, count);
    return done;
  }

  /** One request, to its end. @returns status and data */
  do(type: number, sector: number, out: Uint8Array | null = null, room = 0, queue = 0): { status: number; data: Uint8Array } {
    const { status, data } = this.ask(type, sector, out, room, queue);
    this.finish(1, queue);
    return { status: this.queues[0]!.get(status)[0]!, data: room > 0 ? this.queues[0]!.get(data) : new Uint8Array(0) };
  }

  config(at: number, width: 1 | 2 | 4): number {
    return this.rig.read(CONFIG + at, width);
  }
}

function withGuest(path: string, body: (guest: Guest) => void, more: Record<string, unknown> = {}, packed = false, without: readonly number[] = []): void {
  const config = configOf(path, more);
  const rig = new VirtioRig({ model: blkModel(config), backend: (host) => makeBlkBackend(config, 'machine', 5, host), packed });
  try {
    body(new Guest(rig, packed, without));
  } finally {
    rig.close();
  }
}

const sectors = (count: number, value: number): Uint8Array => new Uint8Array(count * 512).fill(value);

function range(sector: number, count: number, flags: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(sector), true);
  view.setUint32(8, count, true);
  view.setUint32(12, flags, true);
  return bytes;
}

for (const packed of [false, true]) {
  for (const format of ['raw', 'qcow2'] as const) {
    test(`${format}: requests of every kind through a ${packed ? 'packed' : 'split'} ring, on two queues`, () => {
      inFolder((folder) => {
        const path = join(folder, 'disk');
        createDisk({ path, format, bytes: 10 * MIB });
        withGuest(path, (guest) => {
          assert.equal(guest.config(CAPACITY, 4), 20480);
          assert.equal(guest.config(NUM_QUEUES, 2), 2);
          assert.ok([F_FLUSH, F_DISCARD, F_WRITE_ZEROES, F_CONFIG_WCE, F_MQ].every((each) => guest.rig.offered().includes(each)));
          assert.deepEqual(guest.do(T_OUT, 7, sectors(9, 0x33)), { status: S_OK, data: new Uint8Array(0) });
          assert.equal(guest.do(T_OUT, 20479, sectors(1, 0x44), 0, 1).status, S_OK);
          assert.equal(guest.do(T_FLUSH, 0).status, S_OK);
          const { status, data } = guest.do(T_IN, 6, null, 11 * 512, 1);
          assert.equal(status, S_OK);
          assert.deepEqual(data, Uint8Array.from([...sectors(1, 0), ...sectors(9, 0x33), ...sectors(1, 0)]));
          assert.equal(guest.do(T_WRITE_ZEROES, 0, range(8, 2, 1)).status, S_OK);
          assert.deepEqual(guest.do(T_IN, 7, null, 2048).data, Uint8Array.from([...sectors(1, 0x33), ...sectors(2, 0), ...sectors(1, 0x33)]));
          assert.equal(guest.do(T_DISCARD, 0, Uint8Array.from([...range(0, 2048, 0), ...range(4096, 2048, 0)])).status, S_OK);
          assert.equal(new TextDecoder().decode(guest.do(T_GET_ID, 0, null, 20).data), 'serial-of-this-drive');
        }, { queues: 2, serial: 'serial-of-this-drive', rings: packed ? 'packed' : 'split' }, packed);
        assert.equal(describeDisk(path).format, format);
        if (format === 'qcow2') check(path);
      });
    });
  }
}

test('what no driver should ask is answered with the right status, and the device goes on', () => {
  inFolder((folder) => {
    const path = join(folder, 'disk');
    createDisk({ path, format: 'raw', bytes: MIB });
    withGuest(path, (guest) => {
      const end = MIB / 512;
      for (const [what, type, sector, out, room, status] of [
        ['read past the end', T_IN, end, null, 512, S_IOERR],
        ['read over the end', T_IN, end - 1, null, 1024, S_IOERR],
        ['write past the end', T_OUT, end, sectors(1, 1), 0, S_IOERR],
        ['a sector of all ones', T_OUT, Number.MAX_SAFE_INTEGER, sectors(1, 1), 0, S_IOERR],
        ['half a sector', T_IN, 0, null, 100, S_IOERR],
        ['no data at all', T_IN, 0, null, 0, S_OK],
        ['an unknown type', 99, 0, null, 512, S_UNSUPP],
        ['secure erase', 14, 0, range(0, 8, 0), 0, S_UNSUPP],
        ['a discard without a range', T_DISCARD, 0, null, 0, S_IOERR],
        ['a discard of half a range', T_DISCARD, 0, new Uint8Array(8), 0, S_IOERR],
        ['a discard with unmap', T_DISCARD, 0, range(0, 8, 1), 0, S_UNSUPP],
        ['zeroes with flags that are reserved', T_WRITE_ZEROES, 0, range(0, 8, 2), 0, S_UNSUPP],
        ['zeroes past the end', T_WRITE_ZEROES, 0, range(end - 4, 8, 0), 0, S_IOERR],
        ['too long a discard', T_DISCARD, 0, range(0, 2 ** 31, 0), 0, S_IOERR],
        ['too many ranges', T_DISCARD, 0, new Uint8Array(17 * 16), 0, S_IOERR],
      ] as const) assert.equal(guest.do(type, sector, out, room).status, status, what);
      assert.equal(guest.do(T_GET_ID, 0, null, 5).status, S_OK);
      assert.equal(guest.do(T_IN, 0, null, 512).status, S_OK);
      // No header, then no room for a status: there is nothing to answer.
      const q = guest.queues[0]!;
      q.add([q.put(new Uint8Array(4)), q.lend(1)]);
      guest.rig.kick(0);
      guest.rig.work(4, 1);
      assert.equal(guest.rig.status & 0x40, 0x40, 'it needs a reset');
      guest.rig.resetDevice();
      const again = new Guest(guest.rig, false);
      assert.equal(again.do(T_IN, 0, null, 512).status, S_OK);
    });
  });
});

test('a disk that is read-only says so and stays as it is', () => {
  inFolder((folder) => {
    const path = join(folder, 'disk');
    createDisk({ path, format: 'qcow2', bytes: MIB });
    withGuest(path, (guest) => {
      assert.ok(guest.rig.offered().includes(F_RO) && !guest.rig.offered().includes(F_DISCARD));
      assert.equal(guest.do(T_OUT, 0, sectors(1, 1)).status, S_IOERR);
      assert.equal(guest.do(T_DISCARD, 0, range(0, 8, 0)).status, S_UNSUPP);
      assert.equal(guest.do(T_FLUSH, 0).status, S_OK);
      assert.deepEqual(guest.do(T_IN, 0, null, 512).data, sectors(1, 0));
      withGuest(path, (second) => assert.equal(second.do(T_IN, 0, null, 512).status, S_OK), { readonly: true });
    }, { readonly: true });
  });
});

function withTroubled(onError: 'report' | 'pause', body: (guest: Guest, disk: Troubled) => void, without: readonly number[] = [], block?: number): void {
  inFolder((folder) => {
    const path = join(folder, 'disk');
    createDisk({ path, format: 'raw', bytes: MIB });
    const io = openFileIo();
    const disk = new Troubled(openDisk(path, { io, readonly: false }), io, block);
    const rig = new VirtioRig({ model: blkModel(configOf(path)), backend: (host) => new BlkBackend(host, { io, disk, path, serial: 's', onError }) });
    try {
      body(new Guest(rig, false, without), disk);
    } finally {
      rig.close();
    }
  });
}

test('the host\'s errors are the guest\'s I/O errors, or stop the machine until they are mended', () => {
  withTroubled('report', (guest, disk) => {
    disk.trouble = ENOSPC;
    assert.equal(guest.do(T_OUT, 0, sectors(1, 1)).status, S_IOERR);
    disk.trouble = 0;
    assert.equal(guest.do(T_OUT, 0, sectors(1, 1)).status, S_OK);
    assert.deepEqual(guest.rig.news, []);
  });
  withTroubled('pause', (guest, disk) => {
    disk.trouble = ENOSPC;
    const asked = [1, 2, 3].map((value) => guest.ask(T_OUT, value, sectors(1, value), 0));
    guest.rig.kick(0);
    guest.rig.work(5, 1);
    assert.deepEqual(guest.queues[0]!.used(), [], 'none is answered');
    assert.equal(guest.rig.news.length, 1, 'said once');
    assert.match(JSON.stringify(guest.rig.news[0]), /no room/);
    assert.equal(guest.do(T_IN, 0, null, 512).status, S_OK, 'what does not fail goes on');
    // The machine pauses; somebody makes room; it goes on.
    guest.rig.device.pause();
    guest.rig.work(5, 1);
    assert.equal(guest.rig.device.registers.pause.state, DONE);
    disk.trouble = 0;
    guest.rig.device.resume();
    const done = guest.finish(3);
    assert.deepEqual(done.map(({ id }) => id).toSorted(), asked.map(({ id }) => id).toSorted());
    for (const { status } of asked) assert.equal(guest.queues[0]!.get(status)[0], S_OK);
    assert.deepEqual(guest.do(T_IN, 1, null, 1536).data, Uint8Array.from([...sectors(1, 1), ...sectors(1, 2), ...sectors(1, 3)]));
    disk.trouble = EIO;
    guest.ask(T_OUT, 9, sectors(1, 9), 0);
    guest.rig.kick(0);
    guest.rig.work(5, 1);
    assert.equal(guest.rig.news.length, 2, 'said again');
    guest.rig.resetDevice(); // the driver gives up: nothing of it is left
    disk.trouble = 0;
    const again = new Guest(guest.rig, false);
    assert.equal(again.do(T_IN, 9, null, 512).data[0], 0);
  });
});

test('blocks have 512 bytes whatever the file wants; that is told as the size of physical ones', () => {
  for (const [block, exponent] of [[512, 3], [4096, 3], [16384, 5]] as const) {
    withTroubled('report', (guest) => {
      assert.equal(guest.config(BLK_SIZE, 4), 512);
      assert.equal(guest.config(CAPACITY, 4), MIB / 512);
      assert.equal(guest.config(PHYSICAL_BLOCK_EXP, 1), exponent);
      assert.equal(guest.config(MIN_IO_SIZE, 2), 2 ** exponent);
      assert.equal(guest.do(T_OUT, 1, sectors(1, 7)).status, S_OK);
      assert.deepEqual(guest.do(T_IN, 0, null, 1536).data, Uint8Array.from([...sectors(1, 0), ...sectors(1, 7), ...sectors(1, 0)]));
    }, [], block);
  }
});

test('a failed flush is the guest\'s at once: tried again, the host would call it done', () => {
  withTroubled('pause', (guest, disk) => {
    disk.flushFailed = ENOSPC;
    for (let time = 0; time < 2; time++) assert.equal(guest.do(T_FLUSH, 0).status, S_IOERR);
    assert.equal(guest.do(T_IN, 0, null, 512).status, S_OK);
    guest.rig.write(CONFIG + WRITEBACK, 1, 0);
    assert.equal(guest.do(T_OUT, 0, sectors(1, 1)).status, S_IOERR, 'a write that is flushed');
    assert.deepEqual(guest.rig.news.filter((each) => JSON.stringify(each).includes('pause')), []);
    // What can be mended still waits for it.
    disk.trouble = EIO;
    guest.ask(T_OUT, 0, sectors(1, 1), 0);
    guest.rig.kick(0);
    guest.rig.work(5, 1);
    assert.deepEqual(guest.queues[0]!.used(), []);
    assert.match(JSON.stringify(guest.rig.news), /pause/);
  });
});

test('nothing is taken while the machine pauses, and it waits for what is under way', () => {
  withTroubled('report', (guest, disk) => {
    disk.held = [];
    guest.ask(T_OUT, 0, sectors(1, 5), 0);
    guest.rig.kick(0);
    guest.rig.work(3, 1);
    assert.equal(disk.held.length, 1);
    const { registers } = guest.rig.device;
    guest.rig.device.pause();
    guest.rig.work(3, 1);
    assert.notEqual(registers.pause.state, DONE, 'a request is under way');
    guest.ask(T_OUT, 1, sectors(1, 6), 0);
    guest.rig.kick(0);
    disk.letGo();
    for (let i = 0; i < 1000 && registers.pause.state !== DONE; i++) guest.rig.work(1, 1);
    assert.equal(registers.pause.state, DONE);
    assert.equal(guest.queues[0]!.used().length, 1, 'the second one waits');
    guest.rig.device.resume();
    guest.finish(1);
  });
});

test('without a cache that the driver knows of, every write is flushed', () => {
  withTroubled('report', (guest, disk) => {
    assert.equal(guest.do(T_OUT, 0, sectors(1, 1)).status, S_OK);
    assert.equal(disk.flushes, 0);
    guest.rig.write(CONFIG + WRITEBACK, 1, 0);
    assert.equal(guest.do(T_OUT, 0, sectors(1, 1)).status, S_OK);
    assert.equal(guest.do(T_WRITE_ZEROES, 0, range(0, 8, 0)).status, S_OK);
    assert.equal(disk.flushes, 2);
    guest.rig.resetDevice();
    const again = new Guest(guest.rig, false);
    assert.equal(again.config(WRITEBACK, 1), 1, 'as after power-on');
  });
  withTroubled('report', (guest, disk) => {
    assert.equal(guest.do(T_OUT, 0, sectors(1, 1)).status, S_OK);
    assert.equal(disk.flushes, 1);
  }, [F_FLUSH, F_CONFIG_WCE]);
});

test('random requests of a driver that does anything: no throw, no access outside the disk, the device alive after a reset', () => {
  inFolder((folder) => {
    const path = join(folder, 'disk');
    createDisk({ path, format: 'qcow2', bytes: 4 * MIB });
    const next = random(Number(process.env['VITRINE_SEED'] ?? Math.floor(Math.random() * 2 ** 31)));
    for (let round = 0; round < (process.env['VITRINE_LONG'] === '1' ? 100 : 3); round++) {
      withGuest(path, (first) => {
        let guest = first;
        for (let i = 0; i < 150; i++) {
          const q = guest.queues[0]!;
          const type = [T_IN, T_OUT, T_FLUSH, T_GET_ID, T_DISCARD, T_WRITE_ZEROES, next(2 ** 31)][next(7)]!;
          const body = Uint8Array.from({ length: next(3) === 0 ? next(70) : next(5) * 512 }, () => (next(4) === 0 ? next(256) : 0));
          const buffers = [guest.header(type, next(4) === 0 ? next(2 ** 31) * 2 ** 20 : next(9000)), q.put(body), q.lend(next(3000)), q.lend(next(600))].filter((each) => each.length > 0 && next(12) !== 0);
          if (buffers.length === 0 || q.room < 8) continue;
          q.add(buffers, next(2) === 0);
          guest.rig.kick(0);
          guest.rig.work(1 + next(3), 0);
          if (next(20) === 0 || (guest.rig.status & 0x40) !== 0) {
            guest.rig.status = 0;
            for (let turn = 0; turn < 1000 && guest.rig.status !== 0; turn++) guest.rig.work(1, 1);
            guest = new Guest(guest.rig, false);
          } else q.used();
        }
        guest.rig.status = 0;
        for (let turn = 0; turn < 1000 && guest.rig.status !== 0; turn++) guest.rig.work(1, 1);
        guest = new Guest(guest.rig, false);
        assert.equal(guest.do(T_IN, 0, null, 512).status, S_OK);
      });
      check(path);
    }
  });
});
