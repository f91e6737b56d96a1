// What is wrong with a command line, as a problem with code "usage".
import { VitrineError } from '../shared/errors.ts';

export function usage(on: string, why: string, remedy = ''): VitrineError {
  return new VitrineError({ attempted: 'understand the command line', on, why, remedy: remedy === '' ? '"vitrine help" shows what there is.' : remedy, code: 'usage' });
}
