// Locks on image files that keep two machines from one disk, ours and QEMU's alike. QEMU takes shared OFD locks (fcntl(2), "open file
// description locks") on single bytes: byte 100 + p says "I use permission p", byte 200 + p says "nobody else may use p"; before that it
// looks whether somebody's byte stands against its own. Described in QEMU's block/file-posix.c; the locks go when the descriptor closes.
import koffi from 'koffi';
import { fstatSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { errno, errnoName } from '../kvm/libc.ts';

const libc = koffi.load('libc.so.6');
const cFcntl = libc.func('fcntl', 'int', ['int', 'int', 'void *']) as (fd: number, command: number, flock: Uint8Array) => number;

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
const EAGAIN = 11;
const EACCES = 13;

const USES = 100;
const FORBIDS = 200;
// Permissions by QEMU's numbers.
const CONSISTENT_READ = 0;
const WRITE = 1;
const WRITE_UNCHANGED = 2;
const RESIZE = 3;

/** struct flock of 64-bit systems: l_type, l_whence, l_start at 8, l_len at 16, l_pid at 24. */
function flock(type: number, start: number, length: number): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setInt16(0, type, true);
  view.setBigInt64(8, BigInt(start), true);
  view.setBigInt64(16, BigInt(length), true);
  return bytes;
}

/** Whether somebody else has a lock on this byte. */
function isTaken(fd: number, byte: number): boolean {
  const question = flock(F_WRLCK, byte, 1);
  if (cFcntl(fd, F_OFD_GETLK, question) < 0) return false; // the file system has no locks: nor had the others
  return new DataView(question.buffer).getInt16(0, true) !== F_UNLCK;
}

export type Access = 'read' | 'write';

const uses: Record<Access, readonly number[]> = { read: [CONSISTENT_READ], write: [CONSISTENT_READ, WRITE, WRITE_UNCHANGED, RESIZE] };
/** Nobody else may write or resize what a machine has open; others that write are excluded by that, readers exclude writers. */
const forbids: readonly number[] = [WRITE, RESIZE];

/**
 * Locks the open file for reading (others may read) or writing (others may not have it, but look at it unlocked).
 * @returns null when it is ours, or who has it: "qemu-system-x86 (process 1234)", "another program"
 */
export function lockImage(fd: number, access: Access): string | null {
  const mine = [...uses[access].map((p) => USES + p), ...forbids.map((p) => FORBIDS + p)];
  // First our own bytes, then the look at the others': of two that come at once, one at least sees the other.
  for (const byte of mine) {
    if (cFcntl(fd, F_OFD_SETLK, flock(F_RDLCK, byte, 1)) === 0) continue;
    const number = errno();
    if (number === EAGAIN || number === EACCES) {
      unlockImage(fd);
      return holder(fd);
    }
    // ENOLCK, EINVAL, EOPNOTSUPP: no locks on this file system. Then nobody can be excluded, as with QEMU's locking=auto.
    if (errnoName(number) === 'EBADF') throw new Error('the image is not open');
    return null;
  }
  const against = [...uses[access].map((p) => FORBIDS + p), ...forbids.map((p) => USES + p)];
  if (!against.some((byte) => isTaken(fd, byte))) return null;
  unlockImage(fd);
  return holder(fd);
}

/** Lets go of all locks of this descriptor. */
export function unlockImage(fd: number): void {
  cFcntl(fd, F_OFD_SETLK, flock(F_UNLCK, USES, 200));
}

/** Which process has a lock on the file: /proc/PID/fdinfo tells, where we may look. /proc/locks names no process for these locks. */
function holder(fd: number): string {
  const mine = fstatSync(fd);
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      for (const other of readdirSync(`/proc/${pid}/fd`)) {
        if (Number(pid) === process.pid && Number(other) === fd) continue;
        const stat = statSync(`/proc/${pid}/fd/${other}`, { throwIfNoEntry: false });
        if (stat?.ino !== mine.ino || stat.dev !== mine.dev) continue;
        if (!/^lock:.*OFDLCK/m.test(readFileSync(`/proc/${pid}/fdinfo/${other}`, 'latin1'))) continue;
        return `${readFileSync(`/proc/${pid}/comm`, 'latin1').trim()} (process ${pid})`;
      }
    } catch {
      // another user's process, or one that has just ended
    }
  }
  return 'another program';
}
