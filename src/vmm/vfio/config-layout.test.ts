import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ConfigImage } from '../pci/config-image.ts';
import { RECORDED, recorded } from './config-images.ts';
import { layOutConfig, type ConfigLayout } from './config-layout.ts';

const layout = (name: string): ConfigLayout => layOutConfig(recorded(name).config, recorded(name).sizes);

/** The guest's view: ours where it is ours, the device's elsewhere. */
function view(name: string): DataView {
  const { config } = recorded(name);
  const { ours, install } = layout(name);
  const image = new ConfigImage();
  install(image);
  const bytes = new Uint8Array(4096).map((_, at) => (image.initial[at]! & ours[at]!) | ((config[at] ?? 0) & ~ours[at]!));
  return new DataView(bytes.buffer);
}

function capabilities(bytes: DataView): number[] {
  const found: number[] = [];
  for (let at = bytes.getUint8(0x34); at !== 0; at = bytes.getUint8(at + 1)) found.push(bytes.getUint8(at));
  return found;
}

test('BARs of QEMU\'s devices: kinds, sizes, numbers', () => {
  const bars = (name: string): string[] => layout(name).bars.map(({ index, kind, size, prefetchable }) => `${index} ${kind} ${size}${prefetchable ? ' prefetchable' : ''}`);
  assert.deepEqual(bars('e1000e'), ['0 memory32 131072', '1 memory32 131072', '2 io 32', '3 memory32 16384']);
  assert.deepEqual(bars('nvme'), ['0 memory64 16384']);
  assert.deepEqual(bars('virtio'), ['1 memory32 4096', '4 memory64 16384 prefetchable']);
  assert.deepEqual(bars('bochs'), ['0 memory32 16777216 prefetchable', '2 memory32 4096']);
  assert.deepEqual(bars('ahci'), ['4 io 32', '5 memory32 4096']);
});

test('their interrupts: MSI, MSI-X and the place of its table', () => {
  const msix = (name: string) => layout(name).msix;
  assert.deepEqual(msix('nvme'), { offset: msix('nvme')!.offset, vectors: 65, table: { bar: 0, offset: 0x2000 }, pba: { bar: 0, offset: 0x3000 } });
  assert.deepEqual(msix('e1000e'), { offset: 0xa0, vectors: 5, table: { bar: 3, offset: 0 }, pba: { bar: 3, offset: 0x2000 } });
  assert.equal(msix('edu'), undefined);
  assert.equal(layout('edu').msi!.address64, true);
  assert.equal(layout('edu').msi!.vectors, 1);
  assert.equal(layout('bochs').msi, undefined);
});

test('capabilities stay in their order, none is lost but those that are hidden', () => {
  for (const name of Object.keys(RECORDED)) {
    const { config } = recorded(name);
    assert.deepEqual(layout(name).hidden.filter((each) => !each.startsWith('extended')), [], name);
    const original = config[6]! & 0x10 ? capabilities(new DataView(config.buffer, config.byteOffset)) : [];
    assert.deepEqual(capabilities(view(name)), original, name);
  }
  assert.equal(capabilities(view('virtio')).filter((id) => id === 9).length, 5, "virtio's structures are found by vendor capabilities");
});

test('an endpoint behind a port becomes an integrated one, and what is one already stays as it is', () => {
  const type = (name: string): number => {
    const bytes = view(name);
    for (let at = bytes.getUint8(0x34); at !== 0; at = bytes.getUint8(at + 1)) if (bytes.getUint8(at) === 0x10) return (bytes.getUint16(at + 2, true) >> 4) & 0xf;
    return -1;
  };
  assert.equal(new DataView(recorded('e1000e-port').config.buffer).getUint16(0xe2, true) >> 4, 0);
  assert.equal(type('e1000e-port'), 9);
  assert.equal(type('e1000e'), 9);
});

test('property: no configuration space makes it throw or run for ever, and lists end', () => {
  fc.assert(fc.property(fc.constantFrom(...Object.keys(RECORDED)), fc.array(fc.tuple(fc.oneof(fc.nat(4095), fc.nat(255), fc.constant(0x34), fc.constantFrom(0xf4, 0xf5, 0xf8, 0xf9, 0xfc, 0xfd)), fc.oneof(fc.nat(255), fc.constantFrom(1, 5, 9, 0x10, 0x11, 0xf4, 0xf8, 0xfc))), { maxLength: 40 }), fc.boolean(), (name, changes, small) => {
    const config = recorded(name).config.slice(0, small ? 256 : undefined);
    for (const [at, value] of changes) if (at < config.length) config[at] = value;
    const { install, ours } = layOutConfig(config, recorded(name).sizes);
    const image = new ConfigImage();
    install(image);
    assert.equal(image.initial.length, 4096);
    assert.equal(ours.length, 4096);
    const seen = new Set<number>();
    for (let at = image.initial[0x34]!; at !== 0; at = image.initial[at + 1]!) {
      assert.ok(at >= 0x40 && !seen.has(at));
      seen.add(at);
    }
  }), { numRuns: 2000 });
});
