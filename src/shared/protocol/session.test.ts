import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import * as v from 'valibot';
import { VitrineError } from '../errors.ts';
import { ProtocolClient } from './client.ts';
import type { MethodHandlers, TopicHandlers } from './session.ts';
import { Session } from './session.ts';
import { MAX_OPEN, nothing } from './wire.ts';

const spec = {
  methods: {
    add: { params: v.object({ a: v.number(), b: v.number() }), result: v.number() },
    wait: { params: nothing, result: nothing },
    fail: { params: nothing, result: nothing },
    slow: { params: nothing, result: v.string() },
  },
  topics: {
    thing: { kind: 'object', params: nothing, snapshot: v.object({ n: v.number(), extra: v.optional(v.string()) }) },
    lines: { kind: 'stream', params: nothing, snapshot: v.array(v.string()), append: v.string() },
    broken: { kind: 'object', params: nothing, snapshot: nothing },
  },
} as const;
type Spec = typeof spec;

function pair() {
  const wires: string[] = [];
  const state = { stops: 0, update: (_: { n: number; extra?: string }) => {}, append: (_: string) => {}, aborted: false };
  const methods: MethodHandlers<Spec> = {
    add: ({ a, b }) => a + b,
    wait: (_, { signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          state.aborted = true;
          reject(signal.reason as Error);
        });
      }),
    fail: () => {
      throw new VitrineError({ attempted: 'do it', on: 'that', why: 'it is so.', remedy: '', code: 'so' });
    },
    slow: (_, { progress }) => {
      progress({ done: 1, total: 2, text: 'half' });
      return 'done';
    },
  };
  const topics: TopicHandlers<Spec> = {
    thing: (update) => {
      state.update = update;
      update({ n: 1 });
      return () => state.stops++;
    },
    lines: (start, append) => {
      state.append = append;
      start(['old']);
      return () => state.stops++;
    },
    broken: () => {
      throw new Error('no such thing');
    },
  };
  let client: ProtocolClient<Spec> | null = null;
  const session = new Session<Spec>({
    spec, methods, topics,
    send: (text) => {
      wires.push(text);
      queueMicrotask(() => client?.receive(text));
    },
  });
  client = new ProtocolClient(spec, { send: (text) => session.receive(text as string), close: () => session.close() });
  return { session, client, wires, state };
}

const settle = () => new Promise((resolve) => setImmediate(resolve));
const noEnd = () => assert.fail('the watch ended');

test('calls are answered, and errors keep their form', async () => {
  const { client } = pair();
  assert.equal(await client.call('add', { a: 2, b: 3 }), 5);
  await assert.rejects(client.call('fail', {}), (e) => e instanceof VitrineError && e.problem.code === 'so' && e.problem.on === 'that');
  await assert.rejects(client.call('add', { a: 'x' as unknown as number, b: 3 }), (e) => e instanceof VitrineError && e.problem.code === 'bad-parameters');
  await assert.rejects(client.call('nonsense' as 'add', { a: 1, b: 1 }), (e) => e instanceof VitrineError && e.problem.code === 'unknown-method');
  await assert.rejects(client.call('toString' as 'add', { a: 1, b: 1 }), (e) => e instanceof VitrineError && e.problem.code === 'unknown-method');
});

test('progress comes before the answer', async () => {
  const { client } = pair();
  const seen: string[] = [];
  assert.equal(await client.call('slow', {}, { onProgress: (p) => seen.push(p.text) }), 'done');
  assert.deepEqual(seen, ['half']);
});

test('a call is cancelled by its signal, and by the end of the connection', async () => {
  const { client, session, state } = pair();
  const abort = new AbortController();
  const waiting = client.call('wait', {}, { signal: abort.signal });
  abort.abort();
  await assert.rejects(waiting, (e) => e instanceof VitrineError && e.problem.code === 'cancelled');
  state.aborted = false;
  const second = client.call('wait', {});
  session.close();
  client.closed();
  await assert.rejects(second, (e) => e instanceof VitrineError && e.problem.code === 'connection-lost');
  assert.ok(state.aborted);
});

test('an object topic: snapshot, patches of what changed, silence when nothing did', async () => {
  const { client, state, wires } = pair();
  const seen: unknown[] = [];
  const end = client.watch('thing', (value) => seen.push(value), noEnd);
  await settle();
  state.update({ n: 2, extra: 'x' });
  state.update({ n: 2, extra: 'x' });
  state.update({ n: 2 });
  await settle();
  assert.deepEqual(seen, [{ n: 1 }, { n: 2, extra: 'x' }, { n: 2 }]);
  assert.deepEqual(JSON.parse(wires[2]), { id: 1, seq: 2, patch: { extra: null } });
  end();
  end();
  await settle();
  assert.equal(state.stops, 1);
  state.update({ n: 9 });
  await settle();
  assert.equal(seen.length, 3);
});

test('a stream topic: back-log, then what is appended', async () => {
  const { client, state } = pair();
  const seen: unknown[] = [];
  client.stream('lines', (backlog) => seen.push(backlog), (line) => seen.push(line), noEnd);
  await settle();
  state.append('a');
  state.append('b');
  await settle();
  assert.deepEqual(seen, [['old'], 'a', 'b']);
});

test('a topic that fails or does not exist ends with words', async () => {
  const { client } = pair();
  const problems: string[] = [];
  client.watch('broken', () => assert.fail(), (problem) => problems.push(problem.why));
  client.watch('none' as 'thing', () => assert.fail(), (problem) => problems.push(problem.code));
  await settle();
  assert.deepEqual(problems, ['no such thing', 'unknown-topic']);
});

test('one connection cannot open without end', async () => {
  const { client } = pair();
  const calls = Array.from({ length: MAX_OPEN }, () => client.call('wait', {}));
  for (const call of calls) call.catch(() => {});
  await assert.rejects(client.call('add', { a: 1, b: 1 }), (e) => e instanceof VitrineError && e.problem.why.includes('open already'));
  client.close();
});

test('a missed patch closes the client instead of showing a wrong state', async () => {
  const { client } = pair();
  let ended = '';
  client.watch('thing', () => {}, (problem) => (ended = problem.why));
  await settle();
  client.receive(JSON.stringify({ id: 1, seq: 5, patch: {} }));
  assert.match(ended, /is missing/);
});

test('whatever is sent, the session answers with problems and never throws', () => {
  const message = fc.oneof(fc.string(), fc.json(), fc.record({ id: fc.jsonValue(), call: fc.jsonValue(), watch: fc.jsonValue(), params: fc.jsonValue(), end: fc.jsonValue() }, { requiredKeys: [] }).map((m) => JSON.stringify(m)));
  fc.assert(
    fc.property(fc.array(message, { maxLength: 5 }), (messages) => {
      const answers: string[] = [];
      const { session } = pair();
      for (const text of messages) session.receive(text);
      const strict = new Session<Spec>({ spec, methods: {} as MethodHandlers<Spec>, topics: {} as TopicHandlers<Spec>, send: (text) => answers.push(text) });
      for (const text of messages) strict.receive(text);
      for (const answer of answers) assert.equal(typeof JSON.parse(answer).id, 'number');
    }),
    { numRuns: 500 },
  );
});
