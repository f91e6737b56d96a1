// A tether ties a process to the one that starts it: when the starter is gone, however it went, the process is told to end (SIGTERM). The
// process begins as a shell, which leaves a watcher behind at the end of a pipe from the starter and then becomes the process. So there is no
// moment in which the process is there and nobody watches: a starter that is killed before the watcher reads has ended the pipe all the same.
import type { ChildProcess } from 'node:child_process';
import type { Writable } from 'node:stream';

/** Where the watcher reads. Those before are a lease's (host-lease.ts). */
const DESCRIPTOR = 5;
/** The watcher holds nothing but the pipe: not the lease at 4, and not the log. $$ is the process that the shell becomes. */
const SCRIPT = `{ read -r word <&${DESCRIPTOR}; [ "$word" = done ] || kill -TERM $$; } 3<&- 4<&- >/dev/null 2>&1 & exec "$@" ${DESCRIPTOR}<&-`;

export interface Tether {
  /** The process is over, or may outlive its starter. */
  loose(): void;
}

/** What is run in the place of the command, with a pipe at descriptor 5. */
export function tethered(command: readonly string[]): string[] {
  return ['/bin/sh', '-c', SCRIPT, 'sh', ...command];
}

/** The starter's end for a child that was begun so. */
export function tetherOf(child: ChildProcess): Tether {
  const end = (child.stdio as readonly unknown[])[DESCRIPTOR] as Writable;
  end.on('error', () => {
    // The watcher is gone, with its process.
  });
  return { loose: () => void end.end('done\n', () => end.destroy()) };
}
