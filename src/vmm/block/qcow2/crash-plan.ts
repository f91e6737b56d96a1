// The endless requests of crash-writer.ts, for it and for the test that says what must be there after it was killed.
import { random } from '../testing.ts';

export type CrashStep =
  | { kind: 'write'; block: number; stamp: number }
  /** In the part of the disk that nothing is written to for good. */
  | { kind: 'discard'; offset: number; bytes: number }
  /** All writes up to and with `stamp` are covered. */
  | { kind: 'flush'; stamp: number };

export const SCRATCH_START = 32 * 2 ** 20;
const SCRATCH = 16 * 2 ** 20;

export function* crashPlan(seed: number, blocks: number): Generator<CrashStep> {
  const next = random(seed);
  for (let stamp = 1; ; ) {
    const what = next(40);
    if (what === 0) yield { kind: 'flush', stamp: stamp - 1 };
    else if (what < 6) yield { kind: 'discard', offset: SCRATCH_START + next(SCRATCH / 4096) * 4096, bytes: 2 ** 18 };
    else if (what < 12) yield { kind: 'write', block: blocks + next(SCRATCH / 4096), stamp: stamp++ };
    else yield { kind: 'write', block: next(blocks), stamp: stamp++ };
  }
}
