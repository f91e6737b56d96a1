// Where the lab keeps what lives as long as it runs: a private folder of the user's.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { VitrineError } from '../src/shared/errors.ts';

const PREFIX = 'lab-';

/**
 * $XDG_RUNTIME_DIR/vitrine, or a folder of the user's own under the temporary directory; made if it is missing, mode 0700.
 * @throws VitrineError if it is somebody else's or others can read it
 */
export function runtimeFolder(): string {
  const uid = process.getuid!();
  const parent = process.env['XDG_RUNTIME_DIR'];
  const folder = parent === undefined || parent === '' ? path.join(os.tmpdir(), `vitrine-${uid}`) : path.join(parent, 'vitrine');
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  const stat = fs.lstatSync(folder);
  if (!stat.isDirectory() || stat.uid !== uid || (stat.mode & 0o077) !== 0) {
    throw new VitrineError({
      attempted: 'use the folder for sockets', on: folder, code: 'runtime-folder',
      why: 'it does not belong to you alone.', remedy: 'Remove it, or set XDG_RUNTIME_DIR to a folder of your own with mode 0700.'
    });
  }
  return folder;
}

/** A new private folder for one lab; what labs whose process is gone have left is removed on the way. */
export function newRunFolder(): string {
  const runtime = runtimeFolder();
  for (const entry of fs.readdirSync(runtime)) {
    const pid = /^lab-(\d+)-/.exec(entry)?.[1];
    if (pid !== undefined && !fs.existsSync(`/proc/${pid}`)) fs.rmSync(path.join(runtime, entry), { recursive: true, force: true });
  }
  return fs.mkdtempSync(path.join(runtime, `${PREFIX}${process.pid}-`));
}
