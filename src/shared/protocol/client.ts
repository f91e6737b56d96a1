// The client's end of the wire (wire.ts), over anything that looks like a WebSocket: the renderer's own, or `ws` in the CLI.
// It pairs answers with calls, keeps each watched object up to date, and hands binary messages on. It does not reconnect: who
// opened the socket knows whether and how.
import * as v from 'valibot';
import type { Problem } from '../errors.ts';
import { VitrineError } from '../errors.ts';
import { applyPatch } from './patch.ts';
import type {
  Append, MethodName, ObjectTopicName, Params, Progress, ProtocolSpec, Result, Snapshot, StreamTopicName, TopicParams,
} from './wire.ts';
import { issuesText, serverMessage } from './wire.ts';

/** What the client needs of a socket that is open. */
export interface ClientSocket {
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(): void;
}

export interface CallOptions {
  /** Aborting cancels the call; it then rejects with code "cancelled", unless its answer was quicker. */
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
}

interface Open {
  progress: ((progress: Progress) => void) | null;
  snapshot: ((value: unknown) => void) | null;
  patch: ((patch: unknown, seq: number) => void) | null;
  result: (value: unknown) => void;
  error: (problem: Problem) => void;
}

/** Ends a watch; calling it again does nothing. */
export type EndWatch = () => void;

function lost(attempted: string, why: string): Problem {
  return { attempted, on: '', why, remedy: '', code: 'connection-lost' };
}

export class ProtocolClient<P extends ProtocolSpec> {
  /** Binary messages (frames), as they come. */
  onBinary: ((message: Uint8Array<ArrayBuffer>) => void) | null = null;

  readonly #spec: P;
  readonly #socket: ClientSocket;
  readonly #open = new Map<number, Open>();
  #nextId = 1;
  #closed: Problem | null = null;

  /**
   * @param socket already open; the owner passes what arrives to `receive` and calls `closed` once when it is gone
   */
  constructor(spec: P, socket: ClientSocket) {
    this.#spec = spec;
    this.#socket = socket;
  }

  /** Calls a method. Rejects with a VitrineError: the server's Problem, or code "connection-lost". */
  call<M extends MethodName<P>>(method: M, params: Params<P, M>, options: CallOptions = {}): Promise<Result<P, M>> {
    return new Promise((resolve, reject) => {
      if (this.#closed !== null) {
        reject(new VitrineError(this.#closed));
        return;
      }
      const id = this.#nextId++;
      const cancel = () => this.#send({ id, end: true });
      const settled = () => options.signal?.removeEventListener('abort', cancel);
      this.#open.set(id, {
        progress: options.onProgress ?? null,
        snapshot: null,
        patch: null,
        result: (value) => {
          settled();
          const result = v.safeParse(this.#spec.methods[method].result, value);
          if (result.success) resolve(result.output as Result<P, M>);
          else reject(new VitrineError({ attempted: `understand the answer to ${method}`, on: '', why: issuesText(result.issues), remedy: '', code: 'protocol' }));
        },
        error: (problem) => {
          settled();
          reject(new VitrineError(problem));
        },
      });
      this.#send({ id, call: method, params });
      if (options.signal?.aborted) cancel();
      else options.signal?.addEventListener('abort', cancel, { once: true });
    });
  }

  /** Watches an object topic: `onValue` gets the whole value, first as it stands and then after every change. */
  watch<T extends ObjectTopicName<P>>(topic: T, onValue: (value: Snapshot<P, T>) => void, onEnd: (problem: Problem) => void, params?: TopicParams<P, T>): EndWatch {
    let value: unknown;
    return this.#watch(topic, params, {
      snapshot: (snapshot) => {
        value = snapshot;
        onValue(value as Snapshot<P, T>);
      },
      patch: (patch) => {
        value = applyPatch(value, patch);
        onValue(value as Snapshot<P, T>);
      },
      onEnd,
    });
  }

  /** Watches a stream topic: the back-log once, then what is appended. */
  stream<T extends StreamTopicName<P>>(
    topic: T, onBacklog: (backlog: Snapshot<P, T>) => void, onAppend: (item: Append<P, T>) => void, onEnd: (problem: Problem) => void, params?: TopicParams<P, T>,
  ): EndWatch {
    return this.#watch(topic, params, {
      snapshot: (snapshot) => onBacklog(snapshot as Snapshot<P, T>),
      patch: (patch) => onAppend((patch as { append: Append<P, T> }).append),
      onEnd,
    });
  }

  /** Sends a binary message: input, or a frame's acknowledgement. Dropped when the connection is gone. */
  sendBinary(message: Uint8Array<ArrayBuffer>): void {
    if (this.#closed === null) this.#socket.send(message);
  }

  /** Takes one message from the socket. A message that is not of the protocol closes the connection. */
  receive(data: string | ArrayBuffer | Uint8Array<ArrayBuffer>): void {
    if (this.#closed !== null) return;
    if (typeof data !== 'string') {
      this.onBinary?.(data instanceof Uint8Array ? data : new Uint8Array(data));
      return;
    }
    let parsed: unknown;
    try {
      parsed = JSON.parse(data);
    } catch {
      this.#fail('the server sent a message that is not JSON.');
      return;
    }
    const checked = v.safeParse(serverMessage, parsed);
    if (!checked.success) {
      this.#fail('the server sent a message that this version does not know.');
      return;
    }
    const message = checked.output;
    const open = this.#open.get(message.id);
    // Nobody waits any more: an answer that crossed with the end of its watch.
    if (open === undefined) return;
    if ('progress' in message) open.progress?.(message.progress);
    else if ('snapshot' in message) open.snapshot?.(message.snapshot);
    else if ('patch' in message) open.patch?.(message.patch, message.seq);
    else {
      this.#open.delete(message.id);
      if ('error' in message) open.error(message.error);
      else open.result(message.result);
    }
  }

  /** The socket is gone: everything open ends with code "connection-lost". */
  closed(why = 'the connection was closed.'): void {
    if (this.#closed !== null) return;
    this.#closed = lost('talk to the machine or the front', why);
    const open = [...this.#open.values()];
    this.#open.clear();
    for (const one of open) one.error(this.#closed);
  }

  close(): void {
    this.closed('the connection was closed here.');
    this.#socket.close();
  }

  #watch(
    topic: string, params: unknown, handlers: { snapshot: (value: unknown) => void; patch: (patch: unknown) => void; onEnd: (problem: Problem) => void },
  ): EndWatch {
    if (this.#closed !== null) {
      handlers.onEnd(this.#closed);
      return () => {};
    }
    const id = this.#nextId++;
    let expected = 0;
    let ended = false;
    this.#open.set(id, {
      progress: null,
      snapshot: (value) => {
        if (ended) return;
        expected = 1;
        handlers.snapshot(value);
      },
      patch: (patch, seq) => {
        if (ended) return;
        if (seq !== expected) {
          this.#fail(`a patch of ${topic} is missing (${seq} came after ${expected - 1}).`);
          return;
        }
        expected++;
        handlers.patch(patch);
      },
      result: () => {},
      error: (problem) => {
        if (!ended) handlers.onEnd(problem);
      },
    });
    this.#send({ id, watch: topic, params: params ?? {} });
    return () => {
      if (ended) return;
      ended = true;
      if (this.#open.has(id)) this.#send({ id, end: true });
    };
  }

  #send(message: unknown): void {
    if (this.#closed === null) this.#socket.send(JSON.stringify(message));
  }

  #fail(why: string): void {
    this.closed(why);
    this.#socket.close();
  }
}
