// Tells when the library's folder or a machine's files change, whoever changed them: inotify through fs.watch on the folder and on each
// machine's folder (Node's recursive watching is not in every runtime we have), and a look round every few seconds for file systems
// without inotify, or when its watches have run out.
import type { FSWatcher } from 'node:fs';
import { readdirSync, statSync, watch } from 'node:fs';
import { join } from 'node:path';
import { CONFIG_FILE, LOCK_FILE, OUTCOME_FILE } from '../../vmm/server/run-record.ts';

const LOOK_ROUND = 5000;
/** Events come in bursts; the look waits until they are over, in milliseconds. */
const SETTLE = 30;
const WATCHED_FILES = [CONFIG_FILE, LOCK_FILE, OUTCOME_FILE];

/** Changes when any watched file of the machine is another, or has another content. */
function fingerprint(folder: string): string {
  return WATCHED_FILES.map((name) => {
    try {
      const stat = statSync(join(folder, name));
      return `${stat.ino}:${stat.size}:${stat.mtimeMs}:${stat.mode}`;
    } catch (thrown) {
      return (thrown as NodeJS.ErrnoException).code ?? 'error';
    }
  }).join(' ');
}

export interface LibraryWatcher {
  /** Looks at once instead of when an event comes. */
  look(): void;
  close(): void;
}

/**
 * Watches the library in `folder`. Calls `changed(id)` for each machine that is there now, `changed` again when one of its files has
 * changed, and `gone(id)` when its folder has gone.
 */
export function watchLibrary(folder: string, changed: (id: string) => void, gone: (id: string) => void): LibraryWatcher {
  const known = new Map<string, { print: string; watcher: FSWatcher | null }>();
  let closed = false;
  let settling: NodeJS.Timeout | null = null;

  const soon = () => {
    if (closed || settling !== null) return;
    settling = setTimeout(() => {
      settling = null;
      look();
    }, SETTLE);
  };
  const watched = (path: string): FSWatcher | null => {
    try {
      // Not on each file: those are replaced by renames.
      const watcher = watch(path, { persistent: false }, (_event, name) => {
        if (path === folder || name === null || WATCHED_FILES.includes(name)) soon();
      });
      watcher.on('error', () => watcher.close());
      return watcher;
    } catch {
      // Out of watches, or the folder has just gone: the look round sees what happens.
      return null;
    }
  };
  const look = () => {
    if (closed) return;
    let names: string[] = [];
    try {
      names = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory() && !entry.name.startsWith('.')).map((entry) => entry.name);
    } catch {
      // The library's folder itself is gone: so are the machines, until it is back.
    }
    for (const [id, { watcher }] of known) {
      if (names.includes(id)) continue;
      watcher?.close();
      known.delete(id);
      gone(id);
    }
    for (const id of names) {
      const path = join(folder, id);
      const before = known.get(id);
      // The watch comes before the look, so that no change falls between.
      const watcher = before === undefined ? watched(path) : before.watcher;
      const print = fingerprint(path);
      known.set(id, { print, watcher });
      if (before?.print !== print) changed(id);
    }
  };

  const own = watched(folder);
  look();
  const timer = setInterval(look, LOOK_ROUND);
  timer.unref();
  return {
    look,
    close() {
      closed = true;
      clearInterval(timer);
      if (settling !== null) clearTimeout(settling);
      own?.close();
      for (const { watcher } of known.values()) watcher?.close();
      known.clear();
    },
  };
}
