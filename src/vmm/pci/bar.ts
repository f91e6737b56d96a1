// Base address registers: kind, size, address and decode, said once for all devices (PCI Local Bus 3.0 §6.2.5, ROM §6.2.5.2).
// A register reads as its writable bits and fixed type bits. Sizing (all ones written) needs no recognising: see resolver.ts.
// Left out: the legacy "below 1 MiB" type.
import { ROM_BAR } from './device.ts';
import type { BarDescription, BarKind, Space } from './device.ts';

export const BAR_REGISTER_FIRST = 0x10;
export const ROM_REGISTER = 0x30;

const IO_TYPE = 0x1; // bit 0: a BAR of ports
const MEMORY_64 = 0x4; // bits 2:1 = 10b
const PREFETCHABLE = 0x8;
const IO_ADDRESS = 0xffff_fffc;
const MEMORY_ADDRESS = 0xffff_fff0;
const ROM_ADDRESS = 0xffff_f800;
const ROM_ENABLE = 0x1;

const COMMAND_REGISTER = 0x04;
export const COMMAND_IO = 0x1;
export const COMMAND_MEMORY = 0x2;

const GIB4 = 2 ** 32;
const LEAST: Record<BarKind, number> = { io: 4, memory32: 16, memory64: 16, rom: 2048 };
const MOST: Record<BarKind, number> = { io: 256, memory32: 2 ** 31, memory64: 2 ** 48, rom: 2 ** 24 };

export function barSpace(kind: BarKind): Space {
  return kind === 'io' ? 'io' : 'memory';
}

/** The bit of the command register that lets BARs of this kind decode. */
export function decodeBit(kind: BarKind): number {
  return kind === 'io' ? COMMAND_IO : COMMAND_MEMORY;
}

/** Configuration space offset of the BAR's (first) register. */
export function barRegister(index: number): number {
  return index === ROM_BAR ? ROM_REGISTER : BAR_REGISTER_FIRST + 4 * index;
}

/** The bits that say what kind of BAR it is, as the register reads at power-on. */
export function barTypeBits(bar: BarDescription): number {
  if (bar.kind === 'io') return IO_TYPE;
  if (bar.kind === 'rom') return 0;
  return (bar.kind === 'memory64' ? MEMORY_64 : 0) | (bar.prefetchable === true ? PREFETCHABLE : 0);
}

/** The bits a write changes, in the first register and, for 64 bits, the second (0 for the other kinds). */
export function barWriteMasks(bar: BarDescription): { low: number; high: number } {
  const inLow = bar.size >= GIB4 ? 0 : ~(bar.size - 1) >>> 0;
  if (bar.kind === 'io') return { low: (inLow & IO_ADDRESS) >>> 0, high: 0 };
  if (bar.kind === 'rom') return { low: ((inLow & ROM_ADDRESS) | ROM_ENABLE) >>> 0, high: 0 };
  if (bar.kind === 'memory32') return { low: (inLow & MEMORY_ADDRESS) >>> 0, high: 0 };
  return { low: (inLow & MEMORY_ADDRESS) >>> 0, high: bar.size > GIB4 ? ~(bar.size / GIB4 - 1) >>> 0 : 0xffff_ffff };
}

/**
 * The address the registers hold, whatever it may be: sizing values and half-written addresses included. Exact below 2^53; beyond, still far
 * outside every window.
 */
export function barAddress(bar: BarDescription, dword: (register: number) => number): number {
  const register = barRegister(bar.index);
  const low = dword(register);
  if (bar.kind === 'io') return (low & IO_ADDRESS) >>> 0;
  if (bar.kind === 'rom') return (low & ROM_ADDRESS) >>> 0;
  const address = (low & MEMORY_ADDRESS) >>> 0;
  return bar.kind === 'memory64' ? dword(register + 4) * GIB4 + address : address;
}

/** Whether the command register, and for a ROM its own enable bit, let the BAR decode. */
export function barDecodes(bar: BarDescription, dword: (register: number) => number): boolean {
  if ((dword(COMMAND_REGISTER) & decodeBit(bar.kind)) === 0) return false;
  return bar.kind !== 'rom' || (dword(ROM_REGISTER) & ROM_ENABLE) !== 0;
}

/** Throws when a function's BARs contradict the specification or each other; a mistake in a device, not in a guest. */
export function checkBars(label: string, bars: readonly BarDescription[]): void {
  const taken = new Set<number>();
  for (const bar of bars) {
    const name = `${label}: BAR ${bar.index}`;
    const take = (index: number): void => {
      if (taken.has(index)) throw new RangeError(`${name} uses register ${index}, which is taken`);
      taken.add(index);
    };
    if (bar.kind === 'rom' ? bar.index !== ROM_BAR : !(bar.index >= 0 && bar.index < ROM_BAR)) throw new RangeError(`${name} of kind ${bar.kind} has no such register`);
    if (bar.kind === 'memory64' && bar.index === ROM_BAR - 1) throw new RangeError(`${name} has no register for its upper half`);
    if (!Number.isInteger(Math.log2(bar.size)) || bar.size < LEAST[bar.kind] || bar.size > MOST[bar.kind]) throw new RangeError(`${name} of kind ${bar.kind} cannot have ${bar.size} bytes`);
    if (bar.backing !== undefined && bar.kind === 'io') throw new RangeError(`${name} of ports cannot be backed by memory`);
    take(bar.index);
    if (bar.kind === 'memory64') take(bar.index + 1);
  }
}
