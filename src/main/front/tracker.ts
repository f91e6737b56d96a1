// How one machine of the library stands: its file, whether it runs, how it last ended. While it runs, a connection to its socket tells
// every change; while it does not, its folder does. A machine may be started and ended by anybody, so nothing here is assumed.
import { VitrineError } from '../../shared/errors.ts';
import type { LibraryEntry } from '../../shared/protocol/front.ts';
import type { MachineState } from '../../shared/protocol/machine.ts';
import { isHeld, lastOutcome, readRunInfo } from '../../vmm/server/run-record.ts';
import { connectRunning } from '../launcher/launch.ts';
import { readMachine } from '../library/machine-file.ts';
import type { MachineConnection } from '../machine-connection.ts';

/**
 * The machine as the library shows it.
 * @param live what the running machine last said of itself, or null when nobody is connected to it
 * @param launching whether a start is under way here
 */
export function entryOf(id: string, folder: string, live: MachineState | null, launching: boolean): LibraryEntry {
  const read = readMachine(folder);
  const file = 'config' in read ? { config: read.config } : { damaged: read.damaged };
  const base = { id, ...file };
  if (live !== null) {
    const { state, backend, problem } = live;
    return { ...base, state: state === 'ended' ? 'stopping' : state, backend, problem };
  }
  if (launching) return { ...base, state: 'starting' };
  try {
    const held = isHeld(folder);
    const outcome = lastOutcome(folder);
    if (held && readRunInfo(folder) !== null) {
      // A run takes the last outcome away when it begins, and leaves its own just before it ends.
      return { ...base, state: outcome === null || outcome.how === 'killed' ? 'starting' : 'stopping' };
    }
    if (outcome === null) return { ...base, state: 'off' };
    const failed = outcome.how === 'failed' || outcome.how === 'killed';
    return { ...base, state: failed ? 'failed' : 'off', lastOutcome: outcome, problem: outcome.problem };
  } catch (thrown) {
    const why = thrown instanceof VitrineError ? thrown.problem.why : `${(thrown as Error).message}.`;
    return { ...base, state: 'failed', problem: { attempted: 'see how the machine stands', on: folder, why, remedy: '', code: 'folder-unreadable' } };
  }
}

/** How soon a machine that is held but does not answer is looked at again, in milliseconds. */
const LOOK_AGAIN = 40;

export class Tracker {
  readonly id: string;
  readonly #folder: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #changed: (entry: LibraryEntry) => void;
  #connection: MachineConnection | null = null;
  #live: MachineState | null = null;
  /** Starts of this front that have not been answered yet. */
  #launching = 0;
  #looking = false;
  #lookAgain = false;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;

  /** @param changed called with the entry at once and after every look; it may be the same as before */
  constructor(id: string, folder: string, env: NodeJS.ProcessEnv, changed: (entry: LibraryEntry) => void) {
    this.id = id;
    this.#folder = folder;
    this.#env = env;
    this.#changed = changed;
    this.look();
  }

  /** Looks at the folder, and connects if the machine has come to run. */
  look(): void {
    if (this.#closed) return;
    this.#tell();
    if (this.#looking) {
      this.#lookAgain = true;
      return;
    }
    this.#looking = true;
    this.#connect()
      .catch(() => {})
      .then(() => {
        this.#looking = false;
        this.#tell();
        if (this.#lookAgain) {
          this.#lookAgain = false;
          this.look();
        }
      });
  }

  /** Shows the machine as starting while `start` is under way. */
  async launching(start: () => Promise<void>): Promise<void> {
    this.#launching++;
    this.#tell();
    try {
      await start();
    } finally {
      this.#launching--;
      this.look();
    }
  }

  close(): void {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#connection?.close();
  }

  async #connect(): Promise<void> {
    if (this.#connection !== null || !isHeld(this.#folder)) return;
    const connection = await connectRunning(this.#folder, this.id, this.#env);
    if (connection === null) {
      // Still starting, or just ending.
      if (!this.#closed) this.#later();
      return;
    }
    if (this.#closed) {
      connection.close();
      return;
    }
    this.#connection = connection;
    connection.client.watch('machine', (state) => {
      this.#live = state;
      this.#tell();
    }, () => connection.close());
    void connection.closed.then(() => {
      this.#connection = null;
      this.#live = null;
      this.look();
      // The process may hold its lock for a moment longer than its socket.
      this.#later();
    });
  }

  #later(): void {
    if (this.#closed || this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.look();
    }, LOOK_AGAIN);
  }

  #tell(): void {
    if (!this.#closed) this.#changed(entryOf(this.id, this.#folder, this.#live, this.#launching > 0));
  }
}
