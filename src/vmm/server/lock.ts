// flock(2): whoever holds the lock on a machine's `machine.lock` may run the machine or change its file. The kernel lets go of it when
// the holder dies, however that was. Node opens every file with O_CLOEXEC, so no child keeps a lock alive.
import { closeSync, fstatSync, openSync, statSync } from 'node:fs';
import koffi from 'koffi';

// <asm-generic/fcntl.h>
const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
// <asm-generic/errno-base.h>
const EINTR = 4;
const EAGAIN = 11;

let flockCall: ((fd: number, operation: number) => number) | null = null;

/** Whether the lock was had at once. Throws for anything but "someone else has it". */
function tryFlock(fd: number, operation: number): boolean {
  flockCall ??= koffi.load('libc.so.6').func('int flock(int fd, int operation)') as (fd: number, operation: number) => number;
  for (;;) {
    if (flockCall(fd, operation | LOCK_NB) === 0) return true;
    const errno = koffi.errno();
    if (errno === EAGAIN) return false;
    if (errno !== EINTR) throw new Error(`flock failed with errno ${errno}`);
  }
}

export interface Lock {
  /** The descriptor that carries the lock; closed by `release`. */
  readonly fd: number;
  /** Lets go; calling it again does nothing. */
  release(): void;
}

/** Whether `path` still is the file that `fd` has open: a machine may have been removed while one waited for its lock. */
function stillThere(fd: number, path: string): boolean {
  try {
    const [open, named] = [fstatSync(fd), statSync(path)];
    return open.ino === named.ino && open.dev === named.dev;
  } catch {
    return false;
  }
}

/** Takes the lock on the file at `path`, made if it is not there, or returns null when someone else holds it. */
export function tryLock(path: string): Lock | null {
  const fd = openSync(path, 'a+', 0o600);
  let held = false;
  try {
    held = tryFlock(fd, LOCK_EX) && stillThere(fd, path);
  } finally {
    if (!held) closeSync(fd);
  }
  if (!held) return null;
  let released = false;
  return {
    fd,
    release() {
      if (released) return;
      released = true;
      closeSync(fd);
    },
  };
}

/** Tries for at most `patience` milliseconds: those who look at or change a machine's file hold its lock for moments only. */
export async function lockWithin(path: string, patience: number): Promise<Lock | null> {
  const deadline = Date.now() + patience;
  for (;;) {
    const lock = tryLock(path);
    if (lock !== null || Date.now() >= deadline) return lock;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Whether someone holds the lock exclusively. Looks by a shared lock held for a moment, so others must try more than once. */
export function isLocked(path: string): boolean {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw thrown;
  }
  try {
    return !tryFlock(fd, LOCK_SH);
  } finally {
    closeSync(fd);
  }
}
