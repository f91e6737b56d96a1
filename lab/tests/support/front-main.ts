// Runs in the lab: a front as the app has it (src/main/front/service.ts) on the library that is named, told what to do by JSON lines on standard
// input. Gone when that ends.
//   in:  { id, call, params }   a method of the front's protocol
//        { id, topic }          the first value that says "ready", or has no state
//   out: { id: 0, result: { pid } } when it is open; { id, progress } for each line of it, then { id, result } | { id, problem }
import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { toProblem } from '../../../src/shared/errors.ts';
import { FrontService } from '../../../src/main/front/service.ts';
import { Library } from '../../../src/main/library/library.ts';

export interface FrontCall {
  id: number;
  call?: string;
  params?: unknown;
  topic?: string;
}

const send = (message: object): void => void writeSync(1, `${JSON.stringify(message)}\n`);

const service = await FrontService.open({ shell: 'browser', env: process.env, library: new Library(process.argv[2]!) });
const methods = service.methods as unknown as Record<string, (params: unknown, context: { progress: (progress: { text: string }) => void; signal: AbortSignal }) => unknown>;
const topics = service.topics as unknown as Record<string, (update: (value: { state?: string }) => void) => () => void>;

async function call({ id, call: name = '', params }: FrontCall): Promise<unknown> {
  const progress = ({ text }: { text: string }): void => send({ id, progress: text });
  return methods[name]!(params, { progress, signal: new AbortController().signal });
}

async function value(name: string): Promise<unknown> {
  let stop: (() => void) | undefined;
  const found = await new Promise((resolve) => (stop = topics[name]!((now) => void ((now.state ?? 'ready') === 'ready' && resolve(now)))));
  stop!();
  return found;
}

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const asked = JSON.parse(line) as FrontCall;
    (asked.topic === undefined ? call(asked) : value(asked.topic)).then(
      (result) => send({ id: asked.id, result }),
      (thrown: unknown) => send({ id: asked.id, problem: toProblem(thrown, asked.call ?? asked.topic ?? '') }),
    );
  })
  .on('close', () => process.exit());
send({ id: 0, result: { pid: process.pid } });
