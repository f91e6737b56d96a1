// The thread of one vCPU. It sits in KVM_RUN or in a handler: no timers, promises or events here once the loop runs.
import { parentPort, receiveMessageOnPort, workerData, type MessagePort } from 'node:worker_threads';
import { PoisonedError } from '../sync/mutex.ts';
import { obeyPlugMail, type PlugMail } from './hot-plug.ts';
import { threadId } from './kick.ts';
import { buildThread, type ThreadDescription } from './thread.ts';
import type { ThreadMessage } from './thread-platform.ts';
import { VcpuLoop, type GuestStop } from './vcpu-loop.ts';

export interface VcpuWorkerData {
  readonly thread: ThreadDescription;
  readonly id: number;
  readonly fd: number;
  readonly mail: MessagePort;
}

/** What the control thread sends; each is answered. */
export interface Letter {
  readonly number: number;
  readonly mail: PlugMail;
}

/** What a vCPU's thread posts to the control thread. */
export type VcpuMessage =
  | ThreadMessage
  /** Built, and about to wait for the start. */
  | { kind: 'ready' }
  /** To letter `number`: done, or why not. */
  | { kind: 'answer'; number: number; error?: string }
  | { kind: 'stopped'; id: number; stop: GuestStop; boot: number }
  /** A defect of ours: the machine is poisoned and ends. */
  | { kind: 'failed'; id: number; why: string };

const { thread: description, id, fd, mail } = workerData as VcpuWorkerData;
const post = (message: VcpuMessage): void => parentPort!.postMessage(message);
const thread = buildThread(description, id, post);

function readMail(): void {
  for (let next = receiveMessageOnPort(mail); next !== undefined; next = receiveMessageOnPort(mail)) {
    const letter = next.message as Letter;
    try {
      obeyPlugMail(thread, letter.mail);
      post({ kind: 'answer', number: letter.number });
    } catch (thrown) {
      if (thrown instanceof PoisonedError) throw thrown;
      post({ kind: 'answer', number: letter.number, error: thrown instanceof Error ? thrown.message : String(thrown) });
    }
  }
}

thread.states.listen(readMail);
try {
  const loop = new VcpuLoop({
    id, fd,
    run: description.runs[id]!,
    states: thread.states,
    ports: thread.devices.io,
    memory: thread.devices.memory,
    stopped: (stop) => post({ kind: 'stopped', id, stop, boot: thread.boots.number }),
  });
  post({ kind: 'ready' });
  loop.run(threadId());
} catch (thrown) {
  Atomics.store(thread.arena.poison, 0, 1);
  if (!(thrown instanceof PoisonedError)) post({ kind: 'failed', id, why: thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown) });
}
