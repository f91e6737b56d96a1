// What answers an address range, of ports or of memory.

/** Width of one access in bytes. The bus cuts 8-byte accesses into two of 4, low half first, and odd ones into bytes. */
export type Width = 1 | 2 | 4;

/** Called with the mutex of its region held, on whichever thread exited; never throws for anything that a guest can do. */
export interface Handler {
  /** @param offset bytes from the region's base. @returns an unsigned value of `width` bytes. */
  read(offset: number, width: Width): number;
  /** @param value unsigned, `width` bytes. */
  write(offset: number, width: Width, value: number): void;
}

/** What a read gives where nothing answers. */
export function allOnes(width: Width): number {
  return width === 4 ? 0xffffffff : width === 2 ? 0xffff : 0xff;
}
