// Where the sockets of running machines lie: $XDG_RUNTIME_DIR/vitrine, a folder that only its user may enter (XDG Base Directory
// Specification). Without one, a folder of the user's own under the temporary directory, where anybody could have put something
// first: so owner, mode and kind are checked, and what does not belong to the user is refused.
import { lstatSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { VitrineError } from '../../shared/errors.ts';

const PRIVATE = 0o700;
const PERMISSIONS = 0o777;
/** sizeof(sun_path) less the final zero (unix(7)). */
export const MAX_SOCKET_PATH = 107;

function refuse(path: string, why: string, remedy: string): never {
  throw new VitrineError({ attempted: 'use the folder of the machines\' sockets', on: path, why, remedy, code: 'runtime-folder' });
}

/** Whether `path` is a folder of this user's; false also when it is not there. */
function isOwnFolder(path: string): boolean {
  try {
    const stat = lstatSync(path);
    return stat.isDirectory() && stat.uid === process.geteuid!();
  } catch {
    return false;
  }
}

/** The folder's path, whether it is there or not. */
export function runtimeFolderPath(env: NodeJS.ProcessEnv = process.env): string {
  const given = env.XDG_RUNTIME_DIR;
  if (given !== undefined && isAbsolute(given) && isOwnFolder(given)) return join(given, 'vitrine');
  return join(tmpdir(), `vitrine-${process.geteuid!()}`);
}

/** Checks that `path` is a folder, this user's, closed to everybody else. Throws a VitrineError that says what is wrong. */
export function checkPrivateFolder(path: string): void {
  let stat;
  try {
    stat = lstatSync(path);
  } catch (thrown) {
    refuse(path, `${(thrown as Error).message}.`, 'Check that its parent folder is there.');
  }
  if (!stat.isDirectory()) refuse(path, 'it is not a folder.', 'Remove it.');
  if (stat.uid !== process.geteuid!()) refuse(path, `it belongs to the user with the id ${stat.uid}.`, 'Have it removed, or set XDG_RUNTIME_DIR to a folder of your own.');
  if ((stat.mode & PERMISSIONS & ~PRIVATE) !== 0) {
    refuse(path, `others may enter it (mode ${(stat.mode & PERMISSIONS).toString(8)}).`, `Run chmod 700 ${path}.`);
  }
}

/** The folder, made with mode 0700 if it was not there, and checked. */
export function runtimeFolder(env: NodeJS.ProcessEnv = process.env): string {
  const path = runtimeFolderPath(env);
  try {
    mkdirSync(path, { mode: PRIVATE });
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'EEXIST') refuse(path, `${(thrown as Error).message}.`, 'Set XDG_RUNTIME_DIR to a folder of your own.');
  }
  checkPrivateFolder(path);
  return path;
}

/** The socket of machine `id`; its folder is made and checked. Throws when the path is too long for a socket. */
export function socketPathOf(id: string, env: NodeJS.ProcessEnv = process.env): string {
  const path = join(runtimeFolder(env), `${id}.sock`);
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH) {
    refuse(path, `a socket's path has at most ${MAX_SOCKET_PATH} bytes.`, 'Set XDG_RUNTIME_DIR to a folder with a shorter path.');
  }
  return path;
}
