// `vitrine run`: a machine that lives as long as the command. It lies in the library like any other while it runs, so open windows show
// it and the other commands reach it; its folder goes when it ends. Should this process be killed, at whatever moment, the machine ends with it
// (src/main/launcher/tether.ts), and the next `run` clears its folder away.
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sentence, toProblem, VitrineError } from '../shared/errors.ts';
import type { NewMachine } from '../shared/protocol/front.ts';
import type { Outcome } from '../shared/protocol/machine.ts';
import type { Progress } from '../shared/protocol/wire.ts';
import type { BackendChoice } from '../main/launcher/backend.ts';
import { chooseBackend } from '../main/launcher/backend.ts';
import { connectRunning, firstState, readLogTail, startMachine, whyThere } from '../main/launcher/launch.ts';
import type { Tether } from '../main/launcher/tether.ts';
import { Library } from '../main/library/library.ts';
import type { MachineConnection } from '../main/machine-connection.ts';
import { isHeld, lastOutcome } from '../vmm/server/run-record.ts';
import { AWAIT_CONSOLE } from '../vmm/server/serve.ts';
import type { Terminal } from './arguments.ts';
import { openConsole } from './console.ts';
import { EXIT_SIGNAL, exitCodeAfter, exitCodeOf } from './exit-codes.ts';
import type { Output } from './machines.ts';
import { showProgress } from './machines.ts';

/** In the folder of a machine that goes with its command: the command's process id. */
const EPHEMERAL = 'ephemeral';
const LOOK = 10;
const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

export interface RunOptions {
  machine: NewMachine;
  terminal: Terminal;
  choice?: BackendChoice;
  /** Runs instead of the machine process; for tests. */
  entry?: string;
}

/** A machine that was started for this command alone. */
export interface EphemeralMachine {
  readonly connection: MachineConnection | null;
  /** How it ended; the folder is gone then. */
  ended(): Promise<{ outcome: Outcome; log: string }>;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Clears away what killed commands left, once the machine is over. */
async function clearLeftovers(library: Library): Promise<void> {
  for (const id of library.ids()) {
    let owner: number;
    try {
      owner = Number(readFileSync(join(library.folder, id, EPHEMERAL), 'utf8'));
    } catch {
      continue;
    }
    if (owner > 0 && !isAlive(owner) && !isHeld(join(library.folder, id))) await library.remove(id).catch(() => {});
  }
}

/** Makes the machine and starts it. Rejects with the reason when it cannot start; nothing is left behind then. */
export async function startEphemeral(options: RunOptions, note: (line: string) => void, progress?: (progress: Progress) => void): Promise<EphemeralMachine> {
  const library = new Library();
  await clearLeftovers(library);
  const id = `run-${randomBytes(4).toString('hex')}`;
  library.createAs(id, options.machine);
  const folder = library.folderOf(id);
  let tether: Tether | null = null;
  const over = async () => {
    while (isHeld(folder)) await new Promise((resolve) => setTimeout(resolve, LOOK));
    tether?.loose();
    const result = { outcome: lastOutcome(folder), log: readLogTail(folder) };
    await library.remove(id);
    return result;
  };
  try {
    writeFileSync(join(folder, EPHEMERAL), String(process.pid));
    const choice = options.choice ?? (await chooseBackend());
    const why = options.entry === undefined ? whyThere(library.config(id), choice) : '';
    if (why !== '') note(why);
    const env = options.terminal !== 'none' ? { ...process.env, [AWAIT_CONSOLE]: '1' } : process.env;
    await startMachine({ folder, config: library.config(id), choice, env, progress, entry: options.entry, onTether: (made) => (tether = made) });
    const connection = await connectRunning(folder, id);
    return {
      connection,
      ended: async () => {
        await connection?.closed;
        const { outcome, log } = await over();
        return { outcome: outcome ?? { endedAt: Date.now(), how: 'killed' }, log };
      },
    };
  } catch (thrown) {
    await over().catch(() => {});
    throw thrown;
  }
}

/** @returns what gives the terminal back @param cut ends the machine */
async function onTerminal(connection: MachineConnection, terminal: 'serial' | 'console', cut: () => void): Promise<() => void> {
  const { client } = connection;
  const show = (data: string) => void process.stdout.write(Buffer.from(data, 'base64'));
  const begin = ({ data }: { data: string }) => show(data);
  if (terminal === 'serial') {
    client.stream('serial', begin, show, () => {});
    return openConsole(process.stdin, { write: async (bytes) => void (await client.call('serialWrite', { data: Buffer.from(bytes).toString('base64') })), end: cut });
  }
  const first = (await firstState(connection)).consoles?.[0];
  if (first === undefined) return () => {};
  const place = { slot: first.slot, port: first.port };
  client.stream('console', begin, show, () => {}, place);
  const size = (): void => {
    const { columns, rows } = process.stdout;
    if (process.stdout.isTTY) client.call('consoleSize', { ...place, columns, rows }).catch(() => {}); // it has ended, or not begun
  };
  size();
  process.stdout.on('resize', size);
  const close = openConsole(process.stdin, { write: async (bytes) => void (await client.call('consoleWrite', { ...place, data: Buffer.from(bytes).toString('base64') })), end: cut });
  return () => {
    process.stdout.off('resize', size);
    close();
  };
}

/** Runs the machine to its end with its serial port on the terminal, and returns the exit code. */
export async function run(options: RunOptions, output: Output): Promise<number> {
  let signalled: keyof typeof SIGNALS | null = null;
  let cut = () => {};
  const handlers = Object.keys(SIGNALS).map((name) => {
    const handler = () => {
      signalled = name as keyof typeof SIGNALS;
      cut();
    };
    process.on(name, handler);
    return [name, handler] as const;
  });
  let closeConsole = () => {};
  try {
    const shown = showProgress(output);
    const machine = await startEphemeral(options, (line) => output.err(`${line}\n`), shown.progress).finally(shown.end);
    const { connection } = machine;
    if (connection !== null) {
      cut = () => void connection.client.call('forceOff', {}).catch(() => {});
      if (signalled !== null) cut();
      if (options.terminal !== 'none') closeConsole = await onTerminal(connection, options.terminal, cut);
    }
    const { outcome, log } = await machine.ended();
    closeConsole();
    if (signalled !== null) return EXIT_SIGNAL + SIGNALS[signalled as keyof typeof SIGNALS];
    if (outcome.problem !== undefined) {
      output.err(`\nvitrine: ${sentence(outcome.problem)}\n`);
      // The folder with the log is gone.
      if (outcome.how === 'killed') output.err(log);
    }
    return exitCodeAfter(outcome);
  } catch (thrown) {
    const problem = toProblem(thrown, 'run the machine', options.machine.boot.kernel);
    output.err(`vitrine: ${sentence(problem)}\n`);
    if (!(thrown instanceof VitrineError) && thrown instanceof Error) output.err(`${thrown.stack ?? ''}\n`);
    return exitCodeOf(problem);
  } finally {
    closeConsole();
    for (const [name, handler] of handlers) process.off(name, handler);
  }
}
