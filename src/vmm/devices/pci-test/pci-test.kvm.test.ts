// The PCI test device in a machine on KVM: its messages reach the guest's local APIC, its doorbell and its memory work without an exit of ours.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { dword, started, tinyGuest, until } from '../../testing/whole-machine.ts';
import type { ConfigParts } from '../../testing/whole-machine.ts';
import * as t from './pci-test.ts';

const EDI = 7;
const ESI = 6;

// 32-bit code.
const out32 = (port: number, value: number): number[] => [0xba, ...dword(port), 0xb8, ...dword(value), 0xef]; // mov edx, port; mov eax, value; out dx, eax
const configAddress = (slot: number, register: number): number[] => out32(0xcf8, 0x8000_0000 + slot * 0x800 + register);
const setConfig = (slot: number, register: number, value: number): number[] => [...configAddress(slot, register), ...out32(0xcfc, value)];
/** The BAR's register, less its lowest four bits, in EDI or ESI. */
const getBar = (slot: number, index: number, into: number): number[] => [...configAddress(slot, 0x10 + 4 * index), 0xba, ...dword(0xcfc), 0xed, 0x83, 0xe0, 0xf0, 0x89, 0xc0 + into]; // mov edx; in eax, dx; and eax, -16; mov into, eax
const store = (base: number, offset: number, value: number): number[] => [0xc7, 0x80 + base, ...dword(offset), ...dword(value)]; // mov dword [base + offset], value
const storeAt = (address: number, value: number): number[] => [0xc7, 0x05, ...dword(address), ...dword(value)];
/** again: test dword [address], bits; jz again */
const waitFor = (address: number, bits: number): number[] => [0xf7, 0x05, ...dword(address), ...dword(bits), 0x74, 0xf4];
/** cmp dword [base + offset], value; je on; mov al, code; out 0xf4, al */
const expect = (base: number, offset: number, value: number, code: number): number[] => [0x81, 0xb8 + base, ...dword(offset), ...dword(value), 0x74, 4, 0xb0, code, 0xe6, 0xf4];
const end = (code: number): number[] => [0xb0, code, 0xe6, 0xf4, 0xeb, 0xfe]; // mov al, code; out 0xf4, al; jmp $

const LAPIC_SVR = 0xfee0_00f0;
const LAPIC_IRR = 0xfee0_0200;
const VECTOR = 0x51;
const MSIX_AT = 0x58; // behind MSI, which has 24 bytes from 0x40
const DONE = 0x21;

async function exitCode(name: string, code: readonly number[], more: ConfigParts): Promise<number> {
  const machine = await started(tinyGuest(name, code), more);
  await until('the guest is done', () => machine.facts.value.outcome !== undefined);
  assert.equal(machine.facts.value.outcome!.how, 'debug-exit', JSON.stringify(machine.facts.value.outcome));
  return (machine.facts.value.outcome!.exitCode! - 1) / 2;
}

describe('the PCI test device on KVM', () => {
  for (const sharedMsix of [false, true]) {
    it(`sends MSI-X messages, its table in ${sharedMsix ? 'BAR 0' : 'a BAR of its own'}`, async () => {
      const table = sharedMsix ? 0x1000 : 0;
      const code = [
        ...setConfig(5, 4, 7),
        ...getBar(5, 0, ESI),
        ...getBar(5, sharedMsix ? 0 : 4, EDI),
        ...setConfig(5, MSIX_AT, 0x8000_0000),
        ...storeAt(LAPIC_SVR, 0x1ff),
        ...store(EDI, table + 3 * 16, 0xfee0_0000),
        ...store(EDI, table + 3 * 16 + 8, VECTOR),
        ...store(EDI, table + 3 * 16 + 12, 0),
        ...store(ESI, t.RAISE, 3),
        ...waitFor(LAPIC_IRR + (VECTOR >> 5) * 16, 1 << (VECTOR & 31)),
        ...end(DONE),
      ];
      assert.equal(await exitCode(`msix-${sharedMsix}`, code, { devices: [{ kind: 'pci-test', slot: 5, sharedMsix }] }), DONE);
    });
  }

  it('answers through mapped memory, the trapped rest of it, the doorbell and the ROM', async () => {
    const code = [
      ...getBar(5, 0, ESI),
      ...getBar(5, 2, EDI),
      ...store(EDI, 0, 0x1234_5678), // mapped
      ...expect(EDI, 0, 0x1234_5678, 1),
      ...store(EDI, 0xf000, 0x8765_4321), // backed, but its page is not whole
      ...expect(EDI, 0xf000, 0x8765_4321, 2),
      ...expect(EDI, 0x1_0010, 5 * 8 * 0x1_0000 + 0x10, 3), // counted
      ...expect(ESI, t.READS, 1, 4),
      ...store(ESI, t.DOORBELL, 1),
      ...store(ESI, t.DOORBELL, 1),
      ...expect(ESI, t.DOORBELLS, 2, 5),
      ...getBar(5, 5, EDI),
      ...store(EDI, 0xfc, 0xabcd_ef01),
      ...expect(EDI, 0xfc, 0xabcd_ef01, 6),
      ...configAddress(5, 0x30), 0xba, ...dword(0xcfc), 0xed, 0x0c, 1, 0xef, 0x24, 0xfe, 0x89, 0xc0 + EDI, // in eax, dx; or al, 1; out dx, eax; and al, 0xfe; mov edi, eax
      ...expect(EDI, 0x1c, 0x5249_4350, 7), // "PCIR"
      ...end(DONE),
    ];
    assert.equal(await exitCode('memory', code, { devices: [{ kind: 'pci-test', slot: 5, dirtyLog: true }] }), DONE);
  });

  it('a machine with more devices than slots, or than room for their BARs, ends with words', async () => {
    const kernel = tinyGuest('halt', end(DONE));
    const many = await started(kernel, { devices: Array.from({ length: 30 }, () => ({ kind: 'pci-test' as const })) });
    assert.equal((await many.ended).problem?.code, 'no-free-slot');
    const large = await started(kernel, { devices: [{ kind: 'pci-test', window: 2 ** 39 }] });
    assert.equal((await large.ended).problem?.code, 'pci-window-exhausted');
    const all = await started(kernel, { devices: Array.from({ length: 28 }, () => ({ kind: 'pci-test' as const, functions: 8 })), cpus: 2 });
    assert.equal((await all.ended).how, 'debug-exit');
  });
});
