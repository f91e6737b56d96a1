// Files that are whole or not there, whenever the process or the computer stops: written beside, fsynced, renamed into place, and the
// folder fsynced so that the rename lasts (open(2), rename(2), fsync(2)). Two writers at once are the business of a lock (lock.ts).
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readdirSync, renameSync, rmSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

const SUFFIX = '.tmp';

/** Replaces the file at `path` by `text`. The error is Node's own (ENOSPC, EACCES …); the old file then stays as it was. */
export function writeFileAtomic(path: string, text: string, mode = 0o600): void {
  const beside = `${path}.${randomBytes(6).toString('hex')}${SUFFIX}`;
  const fd = openSync(beside, 'wx', mode);
  try {
    try {
      const bytes = Buffer.from(text, 'utf8');
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(beside, path);
  } catch (thrown) {
    rmSync(beside, { force: true });
    throw thrown;
  }
  syncFolder(dirname(path));
}

/** Makes renames and removals in `folder` last. */
export function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Removes what writers of `path` left behind when they were killed. Only for the holder of the lock that guards `path`. */
export function removeLeftovers(path: string): void {
  const folder = dirname(path);
  for (const name of readdirSync(folder)) {
    if (name.startsWith(`${basename(path)}.`) && name.endsWith(SUFFIX)) rmSync(join(folder, name), { force: true });
  }
}
