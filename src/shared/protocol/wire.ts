// The wire that every process of Vitrine speaks: one WebSocket, text messages in JSON, binary messages for frames and input.
//
//   client → server   {id, call, params}     call a method, answered by one result or error
//                     {id, watch, params?}   watch a topic: a snapshot, then numbered patches
//                     {id, end: true}        cancel that call, or end that watch
//   server → client   {id, result}           the call's answer; also the last word on a watch that the client ended
//                     {id, error}            a Problem; ends the call or the watch
//                     {id, seq: 0, snapshot} the topic as it stands
//                     {id, seq, patch}       an object topic: a JSON merge patch (RFC 7396); a stream topic: {append: …}
//                     {id, progress}         how far a long call has come
//
// Ids are chosen by the client and free again after the result or error. A merge patch says "remove" with null, so a topic's value
// never contains null: what is not there is absent. Binary messages: the first byte is the kind; frames.ts and input.ts have them.
import * as v from 'valibot';
import type { Problem } from '../errors.ts';

/** The longest text message that a server accepts, in bytes: pasted text and a machine's file are far below it. */
export const MAX_TEXT = 2 ** 20;
/** Calls and watches that one connection may have open at a time. */
export const MAX_OPEN = 256;

export const problemSchema = v.object({
  attempted: v.string(),
  on: v.string(),
  why: v.string(),
  remedy: v.string(),
  code: v.string(),
}) satisfies v.GenericSchema<unknown, Problem>;

const id = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER));

/** How far a long call has come: `done` of `total` (a call that cannot know its total leaves it out), with a line for people. */
export const progressSchema = v.object({ done: v.number(), total: v.optional(v.number()), text: v.string() });
export type Progress = v.InferOutput<typeof progressSchema>;

export const clientMessage = v.union([
  v.object({ id, call: v.string(), params: v.optional(v.unknown()) }),
  v.object({ id, watch: v.string(), params: v.optional(v.unknown()) }),
  v.object({ id, end: v.literal(true) }),
]);
export type ClientMessage = v.InferOutput<typeof clientMessage>;

export const serverMessage = v.union([
  v.object({ id, error: problemSchema }),
  v.object({ id, progress: progressSchema }),
  v.object({ id, seq: v.literal(0), snapshot: v.unknown() }),
  v.object({ id, seq: v.pipe(v.number(), v.integer(), v.minValue(1)), patch: v.unknown() }),
  v.object({ id, result: v.unknown() }),
]);
export type ServerMessage = v.InferOutput<typeof serverMessage>;

type Schema = v.GenericSchema;

/** A method: what it takes and what it answers. */
export interface MethodSpec {
  params: Schema;
  result: Schema;
}

/** A topic whose value is an object, kept up to date by merge patches. */
export interface ObjectTopicSpec {
  kind: 'object';
  params: Schema;
  snapshot: Schema;
}

/** A topic to which things are appended: the snapshot is the back-log, each patch is `{append}`. */
export interface StreamTopicSpec {
  kind: 'stream';
  params: Schema;
  snapshot: Schema;
  append: Schema;
}

export interface ProtocolSpec {
  methods: Record<string, MethodSpec>;
  topics: Record<string, ObjectTopicSpec | StreamTopicSpec>;
}

/** Nothing: the params or the result of a method that has none. Other members are dropped. */
export const nothing = v.object({});

export type MethodName<P extends ProtocolSpec> = keyof P['methods'] & string;
export type TopicName<P extends ProtocolSpec> = keyof P['topics'] & string;
/** What a caller passes. */
export type Params<P extends ProtocolSpec, M extends MethodName<P>> = v.InferInput<P['methods'][M]['params']>;
/** What a server's handler gets: validated, defaults filled in. */
export type CheckedParams<P extends ProtocolSpec, M extends MethodName<P>> = v.InferOutput<P['methods'][M]['params']>;
export type Result<P extends ProtocolSpec, M extends MethodName<P>> = v.InferOutput<P['methods'][M]['result']>;
export type TopicParams<P extends ProtocolSpec, T extends TopicName<P>> = v.InferInput<P['topics'][T]['params']>;
/** As CheckedParams, of a topic. */
export type CheckedTopicParams<P extends ProtocolSpec, T extends TopicName<P>> = v.InferOutput<P['topics'][T]['params']>;
export type Snapshot<P extends ProtocolSpec, T extends TopicName<P>> = v.InferOutput<P['topics'][T]['snapshot']>;
/** What a stream topic's patches append; `never` for object topics. */
export type Append<P extends ProtocolSpec, T extends TopicName<P>> = P['topics'][T] extends { append: infer A extends Schema } ? v.InferOutput<A> : never;

export type ObjectTopicName<P extends ProtocolSpec> = { [T in TopicName<P>]: P['topics'][T]['kind'] extends 'object' ? T : never }[TopicName<P>];
export type StreamTopicName<P extends ProtocolSpec> = { [T in TopicName<P>]: P['topics'][T]['kind'] extends 'stream' ? T : never }[TopicName<P>];

/** Valibot's findings as one sentence: `memory: A machine needs at least 16 MiB of memory.` */
export function issuesText(issues: readonly v.BaseIssue<unknown>[]): string {
  return issues
    .map((issue) => {
      const where = v.getDotPath(issue);
      return where === null ? issue.message : `${where}: ${issue.message}`;
    })
    .join(' ');
}
