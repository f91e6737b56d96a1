// The processes of one test, found by the runtime folder in their environment, whoever their parent is: a machine is detached from
// the app that started it. Linux, Documentation/filesystems/proc.rst.
import { readFileSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Running {
  pid: number;
  /** The effective user id. */
  euid: number;
  command: string;
}

/** Processes whose environment names `runtime` as XDG_RUNTIME_DIR, this one excepted. */
export function processesOf(runtime: string): Running[] {
  const wanted = `XDG_RUNTIME_DIR=${runtime}`;
  const found: Running[] = [];
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      if (!readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(wanted)) continue;
      const euid = Number(/^Uid:\s+\d+\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]);
      found.push({ pid, euid, command: readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').trim() });
    } catch {
      // Gone meanwhile, or another user's.
    }
  }
  return found;
}

export class Processes {
  readonly #runtime: string;

  constructor(runtime: string) {
    this.#runtime = runtime;
  }

  machines(): Running[] {
    return processesOf(this.#runtime).filter(({ command }) => /\/machine(\/main)?\.(js|ts)\b/.test(command));
  }

  /** A sentence for every process that runs as root. A machine with euid 0 fails the test. */
  asRoot(): string[] {
    return processesOf(this.#runtime)
      .filter(({ euid }) => euid === 0)
      .map(({ pid, command }) => `process ${pid} runs as root: ${command}`);
  }

  /** Ends all that is left: SIGTERM, and SIGKILL after 2 s. */
  async end(): Promise<void> {
    for (let turn = 0; turn < 100; turn++) {
      const left = processesOf(this.#runtime);
      if (left.length === 0) return;
      for (const { pid } of left) {
        try {
          if (turn === 0) process.kill(pid, 'SIGTERM');
          else if (turn >= 20) process.kill(pid, 'SIGKILL');
        } catch {
          // Gone meanwhile.
        }
      }
      await sleep(100);
    }
    throw new Error(`These processes of the test do not end: ${JSON.stringify(processesOf(this.#runtime))}`);
  }
}
