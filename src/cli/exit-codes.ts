// What `vitrine` exits with, for scripts. Told in --help; never renumbered.
import type { Problem } from '../shared/errors.ts';
import type { Outcome } from '../shared/protocol/machine.ts';

export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
export const EXIT_NO_MACHINE = 3;
export const EXIT_WRONG_STATE = 4;
export const EXIT_RESET = 5;
export const EXIT_CUT = 6;
export const EXIT_NOT_POSSIBLE = 7;
export const EXIT_NO_PERMISSION = 8;
/** Added to the signal's number when a signal ended the command. */
export const EXIT_SIGNAL = 128;

const BY_CODE: Record<string, number> = {
  'no-such-machine': EXIT_NO_MACHINE,
  'several-machines': EXIT_NO_MACHINE,
  'no-such-device': EXIT_NO_MACHINE,
  'lease-no-device': EXIT_NO_MACHINE,
  'lease-in-use': EXIT_WRONG_STATE,
  'lease-held': EXIT_WRONG_STATE,
  'lease-leased': EXIT_WRONG_STATE,
  'lease-not-leased': EXIT_WRONG_STATE,
  'not-running': EXIT_WRONG_STATE,
  paused: EXIT_WRONG_STATE,
  'machine-running': EXIT_WRONG_STATE,
  'image-in-use': EXIT_WRONG_STATE,
  'machine-starting': EXIT_WRONG_STATE,
  'device-gone': EXIT_NOT_POSSIBLE,
  'device-moved': EXIT_NOT_POSSIBLE,
  'device-replaced': EXIT_NOT_POSSIBLE,
  'device-taken': EXIT_WRONG_STATE,
  'only-gpu': EXIT_NOT_POSSIBLE,
  usage: EXIT_USAGE,
};

export function exitCodeOf(problem: Problem): number {
  return BY_CODE[problem.code] ?? EXIT_FAILED;
}

/** What `vitrine run` exits with after the machine's life. */
export function exitCodeAfter(outcome: Outcome): number {
  switch (outcome.how) {
    case 'powered-off':
    case 'halted':
      return EXIT_OK;
    case 'debug-exit':
      // A process's exit code has eight bits.
      return (outcome.exitCode ?? EXIT_FAILED) & 0xff;
    case 'reset':
      return EXIT_RESET;
    case 'forced':
      return EXIT_CUT;
    default:
      return EXIT_FAILED;
  }
}
