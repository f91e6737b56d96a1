// The guest of the benchmark of exits: 32-bit code without paging that makes the same exit again and again, sixteen in a row between two
// instructions of the loop, then writes to LAST_PORT, and begins anew when it is run again.

/** A write here ends a run. Free in every machine of ours. */
export const LAST_PORT = 0xe0;
export const POST_PORT = 0x80;
/** The scratch register of the first serial port. */
export const SCRATCH_PORT = 0x3ff;
const IN_A_ROW = 16;

export interface ExitKind {
  readonly name: string;
  /** One access. */
  readonly access: readonly number[];
}

const bytes32 = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];

/** @param registerAddress guest-physical, of a 32-bit register of a device */
export function exitKinds(registerAddress: number): ExitKind[] {
  return [
    { name: 'OUT to a port', access: [0xe6, POST_PORT] }, // out 0x80, al
    { name: 'IN from the serial port', access: [0xec] }, // in al, dx
    { name: 'MMIO read', access: [0x8b, 0x1d, ...bytes32(registerAddress)] }, // mov ebx, [address]
  ];
}

/** Machine code of `exits` accesses (a multiple of 16) and the write that ends a run. */
export function exitLoop({ access }: ExitKind, exits: number): number[] {
  if (exits % IN_A_ROW !== 0) throw new RangeError(`${exits} is no multiple of ${IN_A_ROW}`);
  const body = [...Array.from({ length: IN_A_ROW }, () => access).flat(), 0x49]; // dec ecx
  const begin = [0xba, ...bytes32(SCRATCH_PORT), 0xb9, ...bytes32(exits / IN_A_ROW)]; // mov edx; mov ecx
  const loop = [...body, 0x0f, 0x85, ...bytes32(-(body.length + 6))]; // jnz
  const code = [...begin, ...loop, 0xe6, LAST_PORT];
  return [...code, 0xe9, ...bytes32(-(code.length + 5))]; // jmp
}
