import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, HDR_F_DATA_VALID, HDR_F_NEEDS_CSUM, HEADER_BYTES, headerFault, type Offloads } from './vnet-header.ts';

const ALL: Offloads = { checksum: true, tcp4: true, tcp6: true, ecn: true, udp: true };
const NONE: Offloads = { checksum: false, tcp4: false, tcp6: false, ecn: false, udp: false };

function header(fields: { flags?: number; type?: number; headers?: number; size?: number; start?: number; offset?: number }): DataView {
  const view = new DataView(new ArrayBuffer(HEADER_BYTES));
  view.setUint8(0, fields.flags ?? 0);
  view.setUint8(1, fields.type ?? GSO_NONE);
  for (const [at, value] of [[2, fields.headers ?? 0], [4, fields.size ?? 0], [6, fields.start ?? 0], [8, fields.offset ?? 0]] as const) view.setUint16(at, value, true);
  return view;
}

test('what Linux sends is let through', () => {
  assert.equal(headerFault(header({}), 60, NONE), undefined);
  assert.equal(headerFault(header({ flags: HDR_F_NEEDS_CSUM, start: 34, offset: 16 }), 66, ALL), undefined);
  assert.equal(headerFault(header({ flags: HDR_F_NEEDS_CSUM, type: GSO_TCPV4, headers: 66, size: 1448, start: 34, offset: 16 }), 60000, ALL), undefined);
  assert.equal(headerFault(header({ flags: HDR_F_NEEDS_CSUM, type: GSO_TCPV6 | GSO_ECN, headers: 86, size: 1428, start: 54, offset: 16 }), 60000, ALL), undefined);
  assert.equal(headerFault(header({ flags: HDR_F_NEEDS_CSUM, type: GSO_UDP_L4, headers: 42, size: 1472, start: 34, offset: 6 }), 6000, ALL), undefined);
});

test('what no driver may send is named', () => {
  const bad: [DataView, number, Offloads, RegExp][] = [
    [header({}), 13, ALL, /shorter than an Ethernet header/],
    [header({ flags: HDR_F_NEEDS_CSUM, start: 34, offset: 16 }), 66, NONE, /not negotiated/],
    [header({ flags: HDR_F_NEEDS_CSUM, start: 50, offset: 15 }), 66, ALL, /outside/],
    [header({ flags: HDR_F_NEEDS_CSUM, start: 0xffff, offset: 0xffff }), 65535, ALL, /outside/],
    [header({ flags: HDR_F_NEEDS_CSUM, type: GSO_TCPV4, size: 0, start: 34, offset: 16 }), 3000, ALL, /no bytes/],
    [header({ type: GSO_TCPV4, size: 1448 }), 3000, ALL, /without checksums/],
    [header({ flags: HDR_F_NEEDS_CSUM, type: GSO_TCPV4, size: 1448, start: 34, offset: 16, headers: 3001 }), 3000, ALL, /longer than the frame/],
    [header({ flags: HDR_F_NEEDS_CSUM, type: GSO_TCPV4, size: 1448, start: 14, offset: 6 }), 41, ALL, /no room/],
    [header({ flags: HDR_F_NEEDS_CSUM, type: GSO_TCPV4, size: 1448, start: 34, offset: 16 }), 3000, { ...ALL, tcp4: false }, /not negotiated/],
    [header({ flags: HDR_F_NEEDS_CSUM, type: GSO_UDP, size: 1448, start: 34, offset: 6 }), 3000, ALL, /not negotiated/],
    [header({ flags: HDR_F_NEEDS_CSUM, type: GSO_UDP_L4 | GSO_ECN, size: 1448, start: 34, offset: 6 }), 3000, ALL, /congestion/],
    [header({ flags: HDR_F_NEEDS_CSUM, type: 77, size: 1448, start: 34, offset: 6 }), 3000, ALL, /not negotiated/],
  ];
  for (const [view, bytes, offloads, why] of bad) assert.match(headerFault(view, bytes, offloads) ?? '', why);
});

test('what is let through asks for nothing outside the frame, whatever its fields', () => {
  const field = fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 0xffff }));
  const types = fc.oneof(fc.constantFrom(GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_TCPV4 | GSO_ECN), fc.integer({ min: 0, max: 255 }));
  fc.assert(fc.property(fc.constantFrom(0, HDR_F_NEEDS_CSUM, HDR_F_DATA_VALID, 255), types, field, field, field, field, field, fc.boolean(), (flags, type, headers, size, start, offset, bytes, all) => {
    if (headerFault(header({ flags, type, headers, size, start, offset }), bytes, all ? ALL : NONE) !== undefined) return;
    assert.ok(bytes >= 14);
    if ((flags & HDR_F_NEEDS_CSUM) !== 0) assert.ok(all && start + offset + 2 <= bytes);
    if (type !== GSO_NONE) assert.ok(all && size > 0 && headers <= bytes && (flags & HDR_F_NEEDS_CSUM) !== 0);
  }), { numRuns: 3000 });
});
