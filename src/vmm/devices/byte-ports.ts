// A device whose registers are single byte ports: wider accesses become one access per byte, lowest port first, as the ISA bus does it.
import type { Handler, Width } from '../bus/handler.ts';

export interface ByteRegisters {
  /** @param offset of the port, always below the count given to `bytePorts`. @returns 0 to 255. */
  readPort(offset: number): number;
  /** @param value 0 to 255. */
  writePort(offset: number, value: number): void;
}

/** The Handler of `count` byte ports; bytes beyond them read as ones and swallow writes. */
export function bytePorts(registers: ByteRegisters, count: number): Handler {
  return {
    read(offset: number, width: Width): number {
      if (width === 1 && offset < count) return registers.readPort(offset);
      let value = 0;
      for (let i = 0; i < width; i++) {
        const byte = offset + i < count ? registers.readPort(offset + i) : 0xff;
        value += byte * 2 ** (8 * i);
      }
      return value;
    },
    write(offset: number, width: Width, value: number): void {
      if (width === 1 && offset < count) {
        registers.writePort(offset, value);
        return;
      }
      for (let i = 0; i < width && offset + i < count; i++) registers.writePort(offset + i, (value >>> (8 * i)) & 0xff);
    },
  };
}
