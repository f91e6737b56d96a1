// The tables: checksums, the addresses in them, and the compiler's opinion. iasl (package acpica-tools) takes every table apart and
// compiles what it read; the result must be the same bytes.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ECAM_BASE, ECAM_SIZE, PCI_IO_END, PCI_IO_START, PCI_MEMORY_END, PCI_MEMORY_START, PM_BASE, PM_SIZE } from '../layout.ts';
import { buildAcpi, type AcpiInput } from './build.ts';
import { eisaId, integer, packageOf, path, scope } from './aml.ts';

const routes = Array.from({ length: 128 }, (_, i) => ({ slot: i >> 2, pin: i & 3, pirq: ((i >> 2) + i) & 7, gsi: 16 + (((i >> 2) + i) & 7) }));
const input: AcpiInput = {
  area: { start: 0xe_0000, end: 0xe_f000 },
  facs: 0xe_f000,
  apicIds: [0, 1, 2, 3],
  ecam: { start: ECAM_BASE, size: ECAM_SIZE },
  ioWindow: { start: PCI_IO_START, end: PCI_IO_END },
  memoryWindow: { start: PCI_MEMORY_START, end: PCI_MEMORY_END },
  highWindow: { start: 64 * 2 ** 30, end: 128 * 2 ** 30 },
  routes,
  pm: { base: PM_BASE, size: PM_SIZE, timer32: false },
  sleep: { s4: 6, s5: 7 },
  hotplug: { port: 0xcc0, ports: 0x10, event: 1, slots: [1, 3, 4, 30] },
  reservedPorts: [{ start: 0xb2, size: 2 }],
};

const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => total + byte, 0) % 256;
const signature = (bytes: Uint8Array): string => String.fromCharCode(...bytes.subarray(0, 4));

/** What a system finds when it starts from the RSDP. */
function walk(wanted: AcpiInput): Map<string, Uint8Array> {
  const { rsdp, blobs } = buildAcpi(wanted);
  const at = (address: number): Uint8Array => {
    const blob = blobs.find((b) => b.address === address);
    assert.ok(blob, `nothing lies at 0x${address.toString(16)}`);
    return blob.bytes;
  };
  const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const root = at(rsdp);
  assert.equal(String.fromCharCode(...root.subarray(0, 8)), 'RSD PTR ');
  assert.deepEqual([sum(root.subarray(0, 20)), sum(root)], [0, 0]);
  const xsdt = at(Number(view(root).getBigUint64(24, true)));
  const found = new Map([['XSDT', xsdt]]);
  for (let i = 36; i < xsdt.length; i += 8) {
    const table = at(Number(view(xsdt).getBigUint64(i, true)));
    found.set(signature(table), table);
  }
  const fadt = view(found.get('FACP')!);
  assert.equal(fadt.getUint32(40, true), Number(fadt.getBigUint64(140, true)), 'both forms of the address agree');
  found.set('DSDT', at(fadt.getUint32(40, true)));
  for (const [name, table] of found) {
    assert.equal(sum(table), 0, name);
    assert.equal(view(table).getUint32(4, true), table.length, name);
  }
  const facs = at(fadt.getUint32(36, true));
  assert.equal(signature(facs), 'FACS');
  assert.equal(fadt.getUint32(36, true) % 64, 0);
  const sorted = blobs.toSorted((a, b) => a.address - b.address);
  sorted.forEach((blob, i) => assert.ok(i === 0 || sorted[i - 1]!.address + sorted[i - 1]!.bytes.length <= blob.address, 'tables do not overlap'));
  return found;
}

test('a system that starts at the RSDP finds every table whole', () => {
  assert.deepEqual([...walk(input).keys()].sort(), ['APIC', 'DSDT', 'FACP', 'MCFG', 'XSDT']);
  assert.deepEqual([...walk({ ...input, ecam: null, highWindow: null, apicIds: [0] }).keys()].sort(), ['APIC', 'DSDT', 'FACP', 'XSDT']);
});

test('processors over 254 have x2APIC entries, and 288 of them fit', () => {
  const apic = walk({ ...input, apicIds: Array.from({ length: 288 }, (_, i) => i) }).get('APIC')!;
  const kinds = new Map<number, number>();
  for (let at = 44; at < apic.length; at += apic[at + 1]!) kinds.set(apic[at]!, (kinds.get(apic[at]!) ?? 0) + 1);
  assert.deepEqual([...kinds].sort((a, b) => a[0] - b[0]), [[0, 255], [1, 1], [2, 2], [4, 1], [9, 33], [10, 1]]);
});

test('tables that do not fit are refused', () => {
  assert.throws(() => buildAcpi({ ...input, area: { start: 0xe_0000, end: 0xe_0400 } }), RangeError);
});

test('AML: integers, names, lengths and EISA ids have the encodings of the specification', () => {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
  assert.deepEqual([0, 1, 2, 0x1234, 0x1_0000, 2 ** 40].map((n) => hex(integer(n))), ['00', '01', '0a02', '0b3412', '0c00000100', '0e0000000000010000']);
  assert.deepEqual(['LPC', '\\_SB.PCI0', '^^A', '\\A.B.C', '\\'].map((n) => hex(path(n))), ['4c50435f', '5c2e5f53425f50434930', '5e5e415f5f5f', '5c2f03415f5f5f425f5f5f435f5f5f', '5c00']);
  assert.throws(() => path('toolong'), RangeError);
  assert.equal(hex(eisaId('PNP0A08')), '0c41d00a08');
  assert.equal(hex(packageOf(0, 1)), '1204020001');
  assert.deepEqual([57, 58, 4089, 4090].map((n) => hex(scope('\\', new Uint8Array(n))).slice(0, 8)), ['103c5c00', '103d5c00', '104dff5c', '104eff5c']);
});

const iasl = spawnSync('iasl', ['-v'], { encoding: 'utf8' });
const missing = iasl.error !== undefined && process.env['CI'] !== 'true';
test('iasl takes every table apart and compiles it to the same bytes, without an error or a warning', { skip: missing ? 'iasl is missing: apt-get install acpica-tools' : false }, () => {
  assert.equal(iasl.error, undefined, 'iasl is missing: apt-get install acpica-tools');
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-acpi-'));
  try {
    for (const [name, bytes] of walk(input)) {
      if (name === 'XSDT') continue; // its addresses are nothing to a compiler
      writeFileSync(join(folder, `${name}.aml`), bytes);
      const apart = spawnSync('iasl', ['-d', `${name}.aml`], { cwd: folder, encoding: 'utf8' });
      assert.equal(apart.status, 0, apart.stdout + apart.stderr);
      assert.doesNotMatch(apart.stdout + apart.stderr, /error|invalid|unresolved/i, name);
      const again = spawnSync('iasl', ['-oa', '-p', 'again', `${name}.dsl`], { cwd: folder, encoding: 'utf8' });
      assert.equal(again.status, 0, again.stdout + again.stderr);
      assert.match(again.stdout + again.stderr, /Compilation successful\. 0 Errors, 0 Warnings, 0 Remarks/);
      const compiled = readFileSync(join(folder, 'again.aml'));
      assert.deepEqual(compiled.subarray(36), Buffer.from(bytes.subarray(36)), name);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
