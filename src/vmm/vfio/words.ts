// The words for what goes wrong when a machine is given devices of the host.
import { VitrineError } from '../../shared/errors.ts';

/** @param on the device's address, or the machine's name */
export function refusal(on: string, why: string, remedy: string, code: string): VitrineError {
  return new VitrineError({ attempted: 'give the device to the machine', on, why, remedy, code });
}
