// The lab: an emulated host with a real /dev/kvm, started for this process. See lab/README.md.
//
// QEMU gets SIGKILL from the kernel when this process dies (setpriv --pdeathsig), and the agent powers off by itself when no
// connection is left, so nothing stays behind whatever happens here. The run's folder is removed as soon as the lab has read it.

import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import type net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { text as readText } from 'node:stream/consumers';
import { createInterface } from 'node:readline';
import { VitrineError } from '../src/shared/errors.ts';
import { findProgram, labPaths } from '../scripts/setup/lab.mjs';
import { agentProgram } from './agent-program.ts';
import { connectInLab, holdLab, shutDownLab, startCommand } from './client.ts';
import type { CommandOptions, CommandResult, LabCommand, LabEndpoint } from './client.ts';
import { newRunFolder } from './folders.ts';
import type { LabOptions, LabShare } from './options.ts';
import { AGENT_PORT, FAILED_LINE, READY_LINE } from './protocol.ts';
import { LAB_CPU, makeImages, qemuArguments, writeInitConfig } from './qemu.ts';
import { Qmp } from './qmp.ts';

export interface RunOptions extends CommandOptions {
  /** Written to the command's input, which then ends. */
  input?: string | Uint8Array;
  /** Milliseconds until the command is killed and `run` throws. */
  timeout?: number;
  /** Called with output as it comes; it is collected all the same. */
  onStdout?: (chunk: Buffer) => void;
  onStderr?: (chunk: Buffer) => void;
}

export interface RunResult extends CommandResult {
  stdout: string;
  stderr: string;
}

/** A running lab. Several commands may run at once. */
export class LabHost {
  readonly endpoint: LabEndpoint;
  /** Resolves when the lab is gone, with what its console said last if it did not end by itself. */
  readonly ended: Promise<string>;
  private readonly hold: net.Socket;
  private readonly onStop: () => Promise<void>;

  /** Made by startLab and ensureLab. `hold` keeps the lab alive. */
  constructor(endpoint: LabEndpoint, hold: net.Socket, ended: Promise<string>, onStop: () => Promise<void>) {
    this.endpoint = endpoint;
    this.hold = hold;
    this.ended = ended;
    this.onStop = onStop;
  }

  /** Starts a command and gives its streams. */
  start(argv: readonly string[], options: CommandOptions = {}): Promise<LabCommand> {
    return startCommand(this.endpoint, argv, options);
  }

  /**
   * Runs a command to its end and collects its output.
   * @throws VitrineError 'lab-timeout' or 'lab-gone'; an exit code other than 0 is no error
   */
  async run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const command = await this.start(argv, options);
    if (options.onStdout !== undefined) command.stdout.on('data', options.onStdout);
    if (options.onStderr !== undefined) command.stderr.on('data', options.onStderr);
    command.stdin.end(options.input ?? '');
    let late = false;
    const timer = options.timeout === undefined ? undefined : setTimeout(() => {
      late = true;
      command.kill();
    }, options.timeout);
    try {
      const [stdout, stderr, result] = await Promise.all([readText(command.stdout), readText(command.stderr), command.exited]);
      if (late) {
        const tail = `${stdout.slice(-2000)}${stderr.slice(-2000)}`.trim();
        throw new VitrineError({
          attempted: 'run a command in the lab', on: argv.join(' '), code: 'lab-timeout',
          why: `it did not end within ${options.timeout} ms.${tail === '' ? '' : ` Its last words:\n${tail}`}`, remedy: ''
        });
      }
      return { ...result, stdout, stderr };
    } finally {
      clearTimeout(timer);
    }
  }

  /** A function that opens a stream of bytes to a Unix socket in the lab. */
  forward(unixSocketInLab: string): () => Promise<net.Socket> {
    return () => connectInLab(this.endpoint, unixSocketInLab);
  }

  /** Lets go of the lab without waiting: it powers off by itself when nobody else has a connection to it. */
  release(): void {
    this.hold.destroy();
  }

  /** Lets go of the lab: a lab of this process's own is powered off, a shared one only when nobody else needs it. */
  async stop(): Promise<void> {
    this.hold.destroy();
    await this.onStop();
  }
}

const GIB = 2 ** 30;
const DEFAULT_MEMORY = 2 * GIB;
const MEMORY_LIMIT = 64 * GIB;
const SMP_LIMIT = 8;
/** More are quicker, and now and then hang or crash the lab: QEMU's emulation of nested guests is not safe with several processors. */
const DEFAULT_SMP = 1;
const BOOT_MILLISECONDS = 120_000;
const IDLE_MILLISECONDS = 5_000;
const STOP_MILLISECONDS = 15_000;
/** Console lines kept for messages. */
const CONSOLE_LINES = 30;
/** The ordinary user inside when root starts the lab. */
const LAB_UID = 1000;

function refuse(why: string, remedy = '', code = 'lab-options'): VitrineError {
  return new VitrineError({ attempted: 'start the lab', on: '', why, remedy, code });
}

/** Paths that the lab covers with file systems of its own: what lies there is seen inside only through a share. */
const COVERED = ['/run', '/var/run', '/dev', '/proc', '/sys'];

/** True if the lab sees this path of the host through its root. */
export function seenThroughRoot(file: string): boolean {
  return !COVERED.some((folder) => file === folder || file.startsWith(`${folder}/`));
}

function normaliseShares(shares: LabShare[]): Required<LabShare>[] {
  // parents before what lies in them, or a parent would cover it
  const sorted = [...shares].sort((a, b) => a.path.length - b.path.length);
  return sorted.map(({ path: folder, writable = true, mode = 'coherent' }) => {
    if (!path.isAbsolute(folder) || /[\n\t]/.test(folder)) throw refuse(`"${folder}" cannot be shared: give an absolute path.`);
    if (!fs.existsSync(folder)) throw refuse(`the folder ${folder} that it should share does not exist.`);
    return { path: folder, writable, mode };
  });
}

/**
 * Boots a lab of this process's own; it ends with `stop()`, or with the process.
 * @throws VitrineError: not prepared, bad options, or no boot (with the console's last lines)
 */
export async function startLab(options: LabOptions = {}): Promise<LabHost> {
  const { kernel: name = '6.1', iommu = 'none', devices = [], smp = DEFAULT_SMP, memory = DEFAULT_MEMORY } = options;
  if (!Number.isInteger(smp) || smp < 1 || smp > SMP_LIMIT) throw refuse(`${smp} is no number of processors for it (1 to ${SMP_LIMIT}).`);
  if (!(memory >= GIB / 4 && memory <= MEMORY_LIMIT)) throw refuse(`its memory must be between 256 MiB and 64 GiB, not ${memory} bytes.`);
  const paths = labPaths(options.cache);
  const kernel = paths.kernels[name];
  const qemu = paths.qemu;
  if (kernel?.initramfs === undefined || qemu === undefined) {
    throw refuse(qemu === undefined ? 'qemu-system-x86_64 is not installed.' : `its kernel ${name} is not prepared.`, 'Run: npm run lab -- --prepare', 'lab-not-prepared');
  }
  const shares = normaliseShares(options.shares ?? []);
  const node = options.node ?? ownNode();
  if (!seenThroughRoot(node.path) && !shares.some((share) => node.path.startsWith(`${share.path}/`))) {
    shares.push({ path: path.dirname(node.path), writable: false, mode: 'cached' });
  }
  const { uid, gid, user, home } = labUser(options);
  const token = randomBytes(32).toString('hex');
  const folder = newRunFolder();
  try {
    makeImages(folder, devices);
    const config = path.join(folder, 'config');
    const bootTimeout = options.bootTimeout ?? BOOT_MILLISECONDS;
    writeInitConfig(config, {
      agent: { token, port: AGENT_PORT, uid, gid, user, home, idleMilliseconds: options.idle ?? IDLE_MILLISECONDS, firstMilliseconds: bootTimeout },
      program: agentProgram(), node: node.path, nodeEnv: node.env ?? {}, iommu, devices, driversLater: options.driversLater ?? false, shares
    });
    const argv = qemuArguments({ kernel: { ...kernel, initramfs: kernel.initramfs }, cache: paths.cache, folder, iommu, devices, smp, memory, cpu: options.cpu ?? LAB_CPU, shares });
    return await boot({ qemu, argv, folder, token, bootTimeout, onConsole: options.onConsole });
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** This process's own Node: plain, or Electron as Node. */
export function ownNode(): { path: string; env: Record<string, string> } {
  return { path: fs.realpathSync(process.execPath), env: process.versions['electron'] === undefined ? {} : { ELECTRON_RUN_AS_NODE: '1' } };
}

/** The ordinary user inside: the caller, or for root a user of the lab's own. */
function labUser(options: LabOptions): { uid: number; gid: number; user: string; home: string } {
  const own = process.getuid!();
  const uid = options.uid ?? (own === 0 ? LAB_UID : own);
  const gid = options.gid ?? (own === 0 ? uid : process.getgid!());
  if (uid === 0) throw refuse("its ordinary user's id cannot be 0.");
  const line = fs.readFileSync('/etc/passwd', 'utf8').split('\n').map((entry) => entry.split(':')).find((fields) => fields[2] === String(uid));
  if (line !== undefined) return { uid, gid, user: line[0]!, home: line[5]! };
  if (uid === own) return { uid, gid, user: os.userInfo().username, home: os.homedir() };
  return { uid, gid, user: 'lab', home: '/home/lab' };
}

interface BootPlan {
  qemu: string;
  argv: string[];
  folder: string;
  token: string;
  bootTimeout: number;
  onConsole: ((line: string) => void) | undefined;
}

async function boot(plan: BootPlan): Promise<LabHost> {
  const setpriv = findProgram('setpriv');
  if (setpriv === undefined) throw refuse('the program setpriv is missing.', 'Install the package util-linux.', 'lab-not-prepared');
  const child = spawn(setpriv, ['--pdeathsig', 'KILL', '--', plan.qemu, ...plan.argv], { stdio: ['ignore', 'pipe', 'pipe'] });
  const tail: string[] = [];
  const { ready, ended } = watchConsole(child, tail, plan.onConsole);
  let timer: NodeJS.Timeout | undefined;
  try {
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(refuse(`it was not up after ${plan.bootTimeout / 1000} s. Its console's last lines:\n${tail.join('\n')}`, '', 'lab-boot')), plan.bootTimeout);
    });
    await Promise.race([ready, late]);
    const qmp = await Qmp.connect(path.join(plan.folder, 'qmp'));
    const endpoint: LabEndpoint = { port: await qmp.forwardedPort(AGENT_PORT), token: plan.token };
    const hold = await holdLab(endpoint);
    return new LabHost(endpoint, hold, ended, async () => {
      const stuck = setTimeout(() => child.kill('SIGKILL'), STOP_MILLISECONDS);
      try {
        await shutDownLab(endpoint).catch(() => child.kill('SIGKILL'));
        await ended;
      } finally {
        clearTimeout(stuck);
        qmp.close();
      }
    });
  } catch (error) {
    child.kill('SIGKILL');
    await ended;
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** Reads the serial console and QEMU's own messages line by line. */
function watchConsole(child: ChildProcess, tail: string[], onConsole: ((line: string) => void) | undefined): { ready: Promise<void>; ended: Promise<string> } {
  let up: () => void;
  let fail: (error: Error) => void;
  const ready = new Promise<void>((resolve, reject) => {
    up = resolve;
    fail = reject;
  });
  ready.catch(() => {}); // boot() waits for it unless it has failed already
  const take = (line: string): void => {
    const clean = line.replace(/\r/g, '');
    tail.push(clean);
    if (tail.length > CONSOLE_LINES) tail.shift();
    onConsole?.(clean);
    if (clean.includes(READY_LINE)) up();
    else if (clean.includes(FAILED_LINE)) fail(refuse(`${clean.slice(clean.indexOf(FAILED_LINE) + FAILED_LINE.length).trim()} failed in it. Its console's last lines:\n${tail.join('\n')}`, '', 'lab-boot'));
  };
  createInterface({ input: child.stdout! }).on('line', take);
  createInterface({ input: child.stderr! }).on('line', take);
  const ended = new Promise<string>((resolve) => {
    child.on('error', (error) => {
      fail(refuse(`QEMU does not start: ${error.message}.`, '', 'lab-boot'));
      resolve(error.message);
    });
    child.on('close', () => {
      fail(refuse(`QEMU ended before it was up. Its last words:\n${tail.join('\n')}`, '', 'lab-boot'));
      resolve(tail.join('\n'));
    });
  });
  return { ready, ended };
}
