// When the host cannot read or write a disk's file: which errors are the host's (and may go away), and the words for a person.
import type { Problem } from '../../shared/errors.ts';
import { errnoName } from '../kvm/libc.ts';
import { EINVAL, EOPNOTSUPP, EPERM, EROFS } from './disk-image.ts';

/** Whether a request failed because of the host, not because of what was asked. */
export function isHostTrouble(errno: number): boolean {
  return errno !== 0 && errno !== EINVAL && errno !== EROFS && errno !== EPERM && errno !== EOPNOTSUPP;
}

const words: Record<string, [string, string]> = {
  ENOSPC: ['there is no room left on its file system.', 'Make room there, then resume the machine.'],
  EDQUOT: ['your quota on its file system is used up.', 'Make room there, then resume the machine.'],
  EFBIG: ['its file cannot become larger.', 'Move it to a file system that allows larger files.'],
  EIO: ['the host cannot read or write there, or the image is damaged.', 'Look at the log of the machine and of the host; then resume the machine.'],
  ESTALE: ['the network file system has lost the file.', 'Bring it back, then resume the machine.'],
};

/** Why the machine stands still. @param what 'read' or 'write' */
export function hostTrouble(errno: number, what: string, path: string): Problem {
  const code = errnoName(errno);
  const [why, remedy] = words[code] ?? [`the system says ${code}.`, 'Resume the machine when that is mended.'];
  return { attempted: `${what} the disk`, on: path, why, remedy, code: 'disk-error' };
}
