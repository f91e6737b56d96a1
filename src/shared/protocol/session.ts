// The server's end of the wire (wire.ts) for one connection: checks every message, runs calls, feeds watches. Used by the machine
// process and by the front; knows nothing of sockets, so it is tested without one.
import * as v from 'valibot';
import type { Problem } from '../errors.ts';
import { toProblem } from '../errors.ts';
import { diff } from './patch.ts';
import type { Append, CheckedParams, CheckedTopicParams, MethodName, ObjectTopicName, Progress, ProtocolSpec, Result, Snapshot, StreamTopicName, TopicName } from './wire.ts';
import { MAX_OPEN, clientMessage, issuesText } from './wire.ts';

/** What a handler of a call may use beside its parameters. */
export interface CallContext {
  /** Aborted when the client cancels or goes away. */
  signal: AbortSignal;
  progress: (progress: Progress) => void;
}

/** Stops feeding a watch. */
export type Stop = () => void;

export type MethodHandlers<P extends ProtocolSpec> = {
  [M in MethodName<P>]: (params: CheckedParams<P, M>, context: CallContext) => Result<P, M> | Promise<Result<P, M>>;
};

/** Calls `update` with the whole value at once (before it returns) and after every change, a new object each time; equal values send nothing. */
export type ObjectTopic<T, P = unknown> = (update: (value: T) => void, end: (problem: Problem) => void, params: P) => Stop;
/** Calls `start` with the back-log at once (before it returns) and `append` for what follows. */
export type StreamTopic<T, A, P = unknown> = (start: (backlog: T) => void, append: (item: A) => void, end: (problem: Problem) => void, params: P) => Stop;

export type TopicHandlers<P extends ProtocolSpec> = { [T in ObjectTopicName<P>]: ObjectTopic<Snapshot<P, T>, CheckedTopicParams<P, T>> } & {
  [T in StreamTopicName<P>]: StreamTopic<Snapshot<P, T>, Append<P, T>, CheckedTopicParams<P, T>>;
};

export interface SessionOptions<P extends ProtocolSpec> {
  spec: P;
  methods: MethodHandlers<P>;
  topics: TopicHandlers<P>;
  /** Sends one text message. */
  send: (text: string) => void;
}

type Handler = (params: unknown, context: CallContext) => unknown;

export class Session<P extends ProtocolSpec> {
  readonly #options: SessionOptions<P>;
  /** What is open, by the client's id, with how to end it. */
  readonly #open = new Map<number, Stop>();
  #closed = false;

  constructor(options: SessionOptions<P>) {
    this.#options = options;
  }

  /** Takes one text message; what is no message of the protocol is answered with a problem under its id, or id 0. */
  receive(text: string): void {
    if (this.#closed) return;
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch {
      this.#refuse(0, 'understand a message', 'it is not JSON.');
      return;
    }
    const checked = v.safeParse(clientMessage, parsed);
    if (!checked.success) {
      const id = (parsed as { id?: unknown } | null)?.id;
      this.#refuse(Number.isSafeInteger(id) ? (id as number) : 0, 'understand a message', issuesText(checked.issues));
      return;
    }
    const message = checked.output;
    if ('end' in message) {
      this.#open.get(message.id)?.();
      return;
    }
    if (this.#open.has(message.id)) {
      this.#refuse(message.id, 'open a call or a watch', `its id ${message.id} is in use.`);
      return;
    }
    if (this.#open.size >= MAX_OPEN) {
      this.#refuse(message.id, 'open a call or a watch', `this connection has ${MAX_OPEN} open already.`);
      return;
    }
    if ('call' in message) this.#call(message.id, message.call, message.params ?? {});
    else this.#watch(message.id, message.watch, message.params ?? {});
  }

  /** The connection is gone: every call is told to stop, every watch ends. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const stops = [...this.#open.values()];
    this.#open.clear();
    for (const stop of stops) stop();
  }

  #call(id: number, method: string, params: unknown): void {
    const { spec, methods } = this.#options;
    if (!Object.hasOwn(spec.methods, method)) {
      this.#refuse(id, `call ${method}`, 'there is no such method.', 'unknown-method');
      return;
    }
    const checked = v.safeParse(spec.methods[method].params, params);
    if (!checked.success) {
      this.#refuse(id, `call ${method}`, issuesText(checked.issues), 'bad-parameters');
      return;
    }
    const abort = new AbortController();
    this.#open.set(id, () => abort.abort());
    const context: CallContext = {
      signal: abort.signal,
      progress: (progress) => {
        if (this.#open.has(id)) this.#send({ id, progress });
      },
    };
    const run = async () => (methods as unknown as Record<string, Handler>)[method](checked.output, context);
    run().then(
      (result) => this.#finish({ id, result: result ?? {} }),
      (thrown: unknown) => {
        const cancelled: Problem = { attempted: method, on: '', why: 'it was cancelled.', remedy: '', code: 'cancelled' };
        const aborted = abort.signal.aborted && thrown instanceof Error && thrown.name === 'AbortError';
        this.#finish({ id, error: aborted ? cancelled : toProblem(thrown, method) });
      },
    );
  }

  #watch(id: number, topic: string, params: unknown): void {
    const { spec, topics } = this.#options;
    if (!Object.hasOwn(spec.topics, topic)) {
      this.#refuse(id, `watch ${topic}`, 'there is no such topic.', 'unknown-topic');
      return;
    }
    const checked = v.safeParse(spec.topics[topic].params, params);
    if (!checked.success) {
      this.#refuse(id, `watch ${topic}`, issuesText(checked.issues), 'bad-parameters');
      return;
    }
    let stopFeeding: Stop | null = null;
    let over = false;
    const stop = (last: { id: number; result: unknown } | { id: number; error: Problem } | null) => {
      if (over) return;
      over = true;
      stopFeeding?.();
      if (last !== null) this.#finish(last);
    };
    this.#open.set(id, () => stop(this.#closed ? null : { id, result: {} }));
    const feed = spec.topics[topic].kind === 'object' ? this.#objectFeed(id, () => over) : this.#streamFeed(id, () => over);
    const end = (problem: Problem) => stop({ id, error: problem });
    try {
      const handler = (topics as unknown as Record<string, (...parts: unknown[]) => Stop>)[topic];
      stopFeeding = handler(...feed, end, checked.output);
      // The topic ended while it was being set up.
      if (over) stopFeeding();
    } catch (thrown) {
      end(toProblem(thrown, `watch ${topic as TopicName<P>}`));
    }
  }

  #objectFeed(id: number, over: () => boolean): unknown[] {
    let seq = 0;
    let last: unknown;
    return [
      (value: unknown) => {
        if (over()) return;
        if (seq === 0) this.#send({ id, seq: 0, snapshot: value });
        else {
          const patch = diff(last, value);
          if (patch === undefined) return;
          this.#send({ id, seq, patch });
        }
        seq++;
        last = value;
      },
    ];
  }

  #streamFeed(id: number, over: () => boolean): unknown[] {
    let seq = 0;
    return [
      (backlog: unknown) => {
        if (!over() && seq++ === 0) this.#send({ id, seq: 0, snapshot: backlog });
      },
      (append: unknown) => {
        if (!over()) this.#send({ id, seq: seq++, patch: { append } });
      },
    ];
  }

  #finish(message: { id: number; result: unknown } | { id: number; error: Problem }): void {
    if (this.#closed) return;
    this.#open.delete(message.id);
    this.#send(message);
  }

  #refuse(id: number, attempted: string, why: string, code = 'protocol'): void {
    const error: Problem = { attempted, on: '', why, remedy: '', code };
    this.#send({ id, error });
  }

  #send(message: object): void {
    if (!this.#closed) this.#options.send(JSON.stringify(message));
  }
}
