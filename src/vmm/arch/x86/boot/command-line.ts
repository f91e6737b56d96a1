// The kernel's command line in guest RAM: bytes of UTF-8 and a NUL.
import { VitrineError } from '../../../../shared/errors.ts';
import type { GuestMemory } from '../../../memory/guest-memory.ts';
import { COMMAND_LINE, COMMAND_LINE_END } from './low-memory.ts';

/** The most bytes that any boot protocol here carries, without the NUL. */
export const COMMAND_LINE_MAX = COMMAND_LINE_END - COMMAND_LINE - 1;

/** Writes the command line. @param limit the most bytes that the kernel takes, without the NUL. @returns its guest-physical address. */
export function writeCommandLine(memory: GuestMemory, kernel: string, text: string, limit: number): number {
  const bytes = new TextEncoder().encode(text);
  const most = Math.min(limit, COMMAND_LINE_MAX);
  const problem = { attempted: 'pass the command line to the kernel', on: kernel };
  if (bytes.length > most) {
    throw new VitrineError({ ...problem, why: `it is ${bytes.length} bytes long; this kernel takes at most ${most}.`, remedy: 'Shorten it.', code: 'command-line-too-long' });
  }
  if (bytes.includes(0)) {
    throw new VitrineError({ ...problem, why: 'it has a NUL character in it, which would end it there.', remedy: 'Remove the character.', code: 'command-line-invalid' });
  }
  const terminated = new Uint8Array(bytes.length + 1);
  terminated.set(bytes);
  memory.write(COMMAND_LINE, terminated);
  return COMMAND_LINE;
}
