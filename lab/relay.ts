// A process in the lab that serves a Unix socket there, as if it were here: its output, its end, and streams to its socket.

import type net from 'node:net';
import type { Readable } from 'node:stream';
import { connectInLab } from './client.ts';
import type { CommandResult, LabCommand } from './client.ts';
import type { LabHost } from './host.ts';

export interface StartInLab {
  argv: readonly string[];
  env?: Record<string, string>;
  cwd: string;
  /** The Unix socket's path in the lab. */
  socketInLab: string;
  /** Speaks with the process before it has its input closed. */
  begin?: (command: LabCommand) => Promise<void>;
}

export interface ProcessInLab {
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Settles when the process has ended; rejects when the lab is gone. */
  readonly exited: Promise<CommandResult>;
  /** Opens a stream of bytes to the process's socket. */
  connect(): Promise<net.Socket>;
  /** Resolves when the socket takes connections, or false if the process ended before. */
  listening(): Promise<boolean>;
  signal(name: NodeJS.Signals): void;
  /** Kills it with everything it started. So does the end of this process. */
  kill(): void;
}

const LOOK_MILLISECONDS = 50;

/** Starts a process in the lab, as the ordinary user. It sees the host's files as they are now. */
export async function startInLab(lab: LabHost, { argv, env = {}, cwd, socketInLab, begin }: StartInLab): Promise<ProcessInLab> {
  const command = await lab.start(argv, { cwd, env, fresh: true });
  try {
    await begin?.(command);
  } catch (thrown) {
    command.kill();
    throw thrown;
  }
  command.stdin.end();
  const connect = (): Promise<net.Socket> => connectInLab(lab.endpoint, socketInLab);
  return {
    stdout: command.stdout,
    stderr: command.stderr,
    exited: command.exited,
    connect,
    async listening() {
      const end = command.exited.then(() => 'ended' as const, () => 'ended' as const);
      for (;;) {
        try {
          (await connect()).destroy();
          return true;
        } catch {
          let timer: NodeJS.Timeout | undefined;
          const pause = new Promise<'look'>((resolve) => (timer = setTimeout(() => resolve('look'), LOOK_MILLISECONDS)));
          const what = await Promise.race([end, pause]);
          clearTimeout(timer);
          if (what === 'ended') return false;
        }
      }
    },
    signal: (name) => command.signal(name),
    kill: () => command.kill()
  };
}
