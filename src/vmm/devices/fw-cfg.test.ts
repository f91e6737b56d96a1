import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GuestMemory } from '../memory/guest-memory.ts';
import { FakePlatform, roundRobin } from '../testing/fake-platform.ts';
import { FwCfgBuilder, FwCfgItems, SELECT_CPUS, SELECT_RAM_SIZE } from './fw-cfg-items.ts';
import { FwCfg } from './fw-cfg.ts';

const RAM = 2 ** 20;
const REQUEST = 0x1000;
const TARGET = 0x2000;

function machine() {
  const tables = new Uint8Array(5000).map((_, i) => (i * 7) & 0xff);
  const items = new FwCfgBuilder()
    .addNumber(SELECT_CPUS, 4, 2)
    .addNumber(SELECT_RAM_SIZE, 6 * 2 ** 30, 8)
    .addFile('etc/system-states', Uint8Array.of(1, 2, 3))
    .addFile('etc/acpi/tables', tables)
    .seal();
  const memory = GuestMemory.allocate(RAM);
  const platform = new FakePlatform();
  const devices = roundRobin(platform, (p) => new FwCfg(p, new FwCfgItems(items.describe()), memory));
  devices.next().reset();
  const ports = devices.handler(0);
  const dma = devices.handler(1);
  const swap = (v: number): number => new DataView(Uint32Array.of(v).buffer).getUint32(0);
  return {
    items,
    memory,
    tables,
    dma,
    select: (selector: number) => ports.write(0, 2, selector),
    read: (count: number) => Uint8Array.from({ length: count }, () => ports.read(1, 1)),
    /** Writes the request and starts it. @returns the control word afterwards. */
    request(control: number, length: number, address: number, at = REQUEST): number {
      const bytes = new Uint8Array(16);
      const view = new DataView(bytes.buffer);
      view.setUint32(0, control);
      view.setUint32(4, length);
      view.setUint32(8, Math.floor(address / 2 ** 32));
      view.setUint32(12, address % 2 ** 32);
      memory.write(at, bytes);
      dma.write(0, 4, swap(Math.floor(at / 2 ** 32)));
      dma.write(4, 4, swap(at % 2 ** 32));
      return new DataView(memory.read(REQUEST, 4)!.buffer).getUint32(0);
    },
  };
}

describe('fw_cfg', () => {
  it('says what it is, by both ways', () => {
    const c = machine();
    c.select(0);
    assert.equal(new TextDecoder().decode(c.read(4)), 'QEMU');
    assert.deepEqual([...c.read(2)], [0, 0], 'zeros past the end');
    c.select(1);
    assert.deepEqual([...c.read(4)], [3, 0, 0, 0]);
    assert.deepEqual([c.dma.read(0, 4), c.dma.read(4, 4)], [0x554d4551, 0x47464320]);
    c.select(SELECT_CPUS);
    assert.deepEqual([...c.read(2)], [4, 0]);
    c.select(SELECT_RAM_SIZE);
    assert.deepEqual([...c.read(8)], [0, 0, 0, 0x80, 1, 0, 0, 0]);
    c.select(0x7777);
    assert.deepEqual([...c.read(2)], [0, 0]);
  });

  it('lists its files', () => {
    const c = machine();
    c.select(0x19);
    const directory = c.read(4 + 2 * 64);
    const view = new DataView(directory.buffer);
    assert.equal(view.getUint32(0), 2);
    const names = [0, 1].map((i) => new TextDecoder().decode(directory.subarray(4 + i * 64 + 8, 4 + i * 64 + 64)).replace(/\0.*$/s, ''));
    assert.deepEqual(names, ['etc/acpi/tables', 'etc/system-states']);
    assert.deepEqual([view.getUint32(4), view.getUint16(8)], [5000, 0x20]);
    c.select(view.getUint16(4 + 64 + 4));
    assert.deepEqual([...c.read(3)], [1, 2, 3]);
    assert.equal(c.items.selectorOf('etc/acpi/tables'), 0x20);
  });

  it('copies by DMA, in pieces and past the end', () => {
    const c = machine();
    assert.equal(c.request((0x20 << 16) | 0x0a, 100, TARGET), 0);
    assert.deepEqual(c.memory.read(TARGET, 100), c.tables.slice(0, 100));
    assert.equal(c.request(0x04, 4800, 0), 0);
    c.memory.write(TARGET, new Uint8Array(300).fill(0xee));
    assert.equal(c.request(0x02, 300, TARGET), 0);
    const got = c.memory.read(TARGET, 300)!;
    assert.deepEqual(got.slice(0, 100), c.tables.slice(4900));
    assert.ok(got.slice(100).every((byte) => byte === 0));
  });

  it('refuses bad requests and touches nothing', () => {
    const c = machine();
    const before = c.memory.read(RAM - 4096, 4096);
    for (const [length, address] of [[8, RAM - 4], [0xffff_ffff, TARGET], [1, 2 ** 52], [1, 2 ** 63], [16, RAM]] as const) {
      assert.equal(c.request((0x20 << 16) | 0x0a, length, address), 1);
    }
    assert.equal(c.request((0x20 << 16) | 0x18, 4, TARGET), 1, 'no item can be written');
    assert.deepEqual(c.memory.read(RAM - 4096, 4096), before);
    assert.deepEqual(c.memory.read(TARGET, 4), new Uint8Array(4));
    c.request((0x20 << 16) | 0x0a, 4, TARGET, RAM - 8);
    c.request((0x20 << 16) | 0x0a, 4, TARGET, 2 ** 62);
    assert.deepEqual(c.memory.read(TARGET, 4), new Uint8Array(4), 'a request that is not all RAM is none');
  });

  it('refuses names and numbers that are taken', () => {
    const builder = new FwCfgBuilder().addFile('etc/a', new Uint8Array(1));
    assert.throws(() => builder.addFile('etc/a', new Uint8Array(1)), RangeError);
    assert.throws(() => builder.addFile('x'.repeat(56), new Uint8Array(1)), RangeError);
    assert.throws(() => builder.add(0x19, new Uint8Array(1)), RangeError);
  });
});
