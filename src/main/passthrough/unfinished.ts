// Giving devices that was cut off: what a machine had before is written down in its folder before its file is changed, and put back at the
// next start of the app if the process that was at it is gone. The computer's side is the helper's, which undoes by itself what was not yet to
// stay; where it was to stay already, everything was done.
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { VitrineError } from '../../shared/errors.ts';
import type { MachineConfig } from '../../shared/machine-config.ts';
import { deviceConfig } from '../../shared/machine-config.ts';
import { writeFileAtomic } from '../../vmm/server/atomic-file.ts';
import { tryLock } from '../../vmm/server/lock.ts';
import type { Library } from '../library/library.ts';
import { givenDevices } from './given.ts';
import type { HostPlace } from './place.ts';

const RECORD = 'giving.json';
/** Held by whoever is at it: the kernel lets go of it with the process. */
const LOCK = 'giving.lock';

const record = v.object({ before: v.array(deviceConfig), fresh: v.array(v.string()) });

/** Writes down what is about to be changed. Call `end` when it is done or undone. Throws code "giving" when another process is at it. */
export function beginGiving(folder: string, config: MachineConfig, fresh: string[]): { end: () => void } {
  const lock = tryLock(join(folder, LOCK));
  if (lock === null) throw new VitrineError({ attempted: 'give devices to the machine', on: config.name, why: 'it is just being given devices from another window.', remedy: 'Wait for the end of that.', code: 'giving' });
  writeFileAtomic(join(folder, RECORD), `${JSON.stringify({ before: config.devices, fresh })}\n`);
  return {
    end() {
      rmSync(join(folder, RECORD), { force: true });
      rmSync(join(folder, LOCK), { force: true });
      lock.release();
    },
  };
}

async function undo(library: Library, place: HostPlace, id: string): Promise<void> {
  const folder = library.folderOf(id);
  const lock = tryLock(join(folder, LOCK));
  if (lock === null) return; // somebody is at it
  try {
    const { before, fresh } = v.parse(record, JSON.parse(readFileSync(join(folder, RECORD), 'utf8')));
    const kept = new Set(givenDevices(place, []).filter(({ how }) => how === 'kept').map(({ address }) => address));
    if (!fresh.every((address) => kept.has(address))) await library.update(id, { devices: before });
    rmSync(join(folder, RECORD), { force: true });
  } finally {
    rmSync(join(folder, LOCK), { force: true });
    lock.release();
  }
}

/** Puts back what was cut off, of all machines. Never throws: one that runs, or cannot be written, is tried again at the next start. */
export async function undoUnfinished(library: Library, place: HostPlace): Promise<void> {
  for (const id of library.ids()) {
    if (!existsSync(join(library.folder, id, RECORD))) continue;
    await undo(library, place, id).catch(() => {});
  }
}
