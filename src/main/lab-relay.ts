// A machine that runs in the lab, as its process on this host: it holds the machine's lock (file locks are not shared with the lab),
// has the machine process started in the lab, and serves the usual Unix socket, each of whose connections it pipes through. So no
// front sees a difference. The library's folder is shared into the lab at the same path, so configuration, log and outcome are the
// machine's own; only when the lab itself dies under it does the relay say how the run ended.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { basename, dirname, join, resolve } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import type { LabCommand } from '../../lab/client.ts';
import { LAB_SOCKETS } from '../../lab/protocol.ts';
import { startInLab } from '../../lab/relay.ts';
import type { ProcessInLab } from '../../lab/relay.ts';
import { ensureLab } from '../../lab/shared.ts';
import { VitrineError, toProblem } from '../shared/errors.ts';
import { hostDevicesOf } from '../shared/machine-config.ts';
import { closeInherited } from '../vmm/machine/inherited.ts';
import { EXIT_ALREADY_RUNNING, LOCK_FILE, beginRun } from '../vmm/server/run-record.ts';
import { entryPath, nodeRuntime } from './install.ts';
import { leaseInLab, letGoOn, waiting } from './lab-lease.ts';
import type { Lease } from './lease/lease.ts';
import { lockedBytes } from './lease/pinned.ts';
import { readMachine } from './library/machine-file.ts';

export interface RelayOptions {
  /** The machine's folder on this host. */
  folder: string;
  /** The Unix socket to serve on this host. */
  socketPath: string;
  /** What is started in the lab instead of Node with the machine's entry; for tests. `--folder`, `--socket` and `--backend` are added. */
  command?: readonly string[];
  /** Handed on to the machine. */
  env?: NodeJS.ProcessEnv;
}

const EXIT_FAILED = 1;
const OWNER_ONLY = 0o177;
/** Of this host alone: they would name folders or a backend that the lab has not. */
const NOT_HANDED_ON = new Set(['VITRINE_BACKEND', 'VITRINE_LAB_CACHE', 'VITRINE_IN_LAB']);

function environment(env: NodeJS.ProcessEnv): Record<string, string> {
  const handed: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined && name.startsWith('VITRINE_') && !NOT_HANDED_ON.has(name)) handed[name] = value;
  }
  return handed;
}

/** Pipes every connection to the machine's socket in the lab. Resolves when the socket is there. */
async function serve(socketPath: string, machine: ProcessInLab): Promise<net.Server> {
  rmSync(socketPath, { force: true }); // left by a run that was killed: we hold the lock
  const server = net.createServer({ allowHalfOpen: true }, (near) => {
    near.on('error', () => near.destroy());
    near.pause();
    machine.connect().then(
      (far) => {
        far.on('error', () => far.destroy());
        far.on('close', () => near.destroySoon());
        near.on('close', () => far.destroy());
        if (near.destroyed) far.destroy();
        else near.pipe(far).pipe(near);
      },
      () => near.destroy()
    );
  });
  const mask = process.umask(OWNER_ONLY);
  try {
    await new Promise<void>((done, fail) => {
      server.once('error', fail);
      server.listen(socketPath, done);
    });
  } finally {
    process.umask(mask);
  }
  return server;
}

/** The machine in the lab has noted itself as the one who runs; on this host it is us. */
function noteRelay(folder: string, note: string): void {
  writeFileSync(join(folder, LOCK_FILE), note);
}

/** What the machine in this folder is to have of the lab. One whose file cannot be read says so itself. */
function devicesIn(folder: string): { addresses: string[]; bytes: number } {
  const read = readMachine(folder);
  return 'config' in read ? { addresses: hostDevicesOf(read.config).map(({ address }) => address), bytes: lockedBytes(read.config) } : { addresses: [], bytes: 0 };
}

/** Runs the machine in the lab until it ends; gives the exit code for this process. */
export async function relayMachine({ folder, socketPath, command, env = process.env }: RelayOptions): Promise<number> {
  const run = await beginRun(folder, socketPath);
  const note = readFileSync(join(folder, LOCK_FILE), 'utf8');
  let machine: ProcessInLab | undefined;
  let server: net.Server | undefined;
  let lease: Lease | null = null;
  let runs = false;
  try {
    const lab = await ensureLab({ library: dirname(folder), node: nodeRuntime(), log: (line) => console.log(line) });
    const node = nodeRuntime();
    // a run that was killed may have left a socket there
    const socketInLab = `${LAB_SOCKETS}/${process.pid}-${basename(socketPath)}`;
    const argv = command ?? [node.path, '--disable-warning=ExperimentalWarning', entryPath('machine')];
    const words = [...argv, '--folder', folder, '--socket', socketInLab, '--backend', 'lab'];
    const { addresses, bytes } = devicesIn(folder);
    const held = addresses.length === 0 ? null : await leaseInLab(lab, addresses);
    lease = held;
    const how = held === null ? { argv: words } : { argv: waiting(words), begin: (process: LabCommand) => letGoOn(process, held, bytes) };
    const started = await startInLab(lab, { ...how, env: { ...environment(env), ...node.env }, cwd: folder, socketInLab });
    machine = started;
    started.stdout.pipe(process.stdout, { end: false });
    started.stderr.pipe(process.stderr, { end: false });
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => started.signal(signal));
    if (await started.listening()) {
      noteRelay(folder, note);
      server = await serve(socketPath, started);
      runs = true;
    }
    return (await started.exited).code;
  } catch (thrown) {
    const problem = toProblem(thrown, runs ? 'keep the machine running in the lab' : 'start the machine in the lab', folder);
    run.writeOutcome({ endedAt: Date.now(), how: 'failed', problem });
    console.error(thrown instanceof Error ? thrown.message : String(thrown));
    return EXIT_FAILED;
  } finally {
    machine?.kill();
    server?.close();
    // Until it has them back, another start would meet this lease.
    lease?.release();
    await lease?.ended;
    rmSync(socketPath, { force: true });
    run.release();
  }
}

async function main(): Promise<number> {
  closeInherited();
  const { values } = parseArgs({ options: { folder: { type: 'string' }, socket: { type: 'string' } } });
  if (values.folder === undefined || values.socket === undefined) {
    console.error('usage: lab-relay --folder FOLDER --socket PATH');
    return EXIT_FAILED;
  }
  try {
    return await relayMachine({ folder: resolve(values.folder), socketPath: values.socket });
  } catch (thrown) {
    console.error((thrown as Error).message);
    return thrown instanceof VitrineError && thrown.problem.code === 'already-running' ? EXIT_ALREADY_RUNNING : EXIT_FAILED;
  }
}

if (/^lab-relay\.[jt]s$/.test(basename(process.argv[1] ?? ''))) {
  main().then((code) => process.exit(code), (thrown: Error) => {
    console.error(thrown.stack);
    process.exit(EXIT_FAILED);
  });
}
