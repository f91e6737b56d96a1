// A reporter for node:test: what failed in full, and one line of JSON per outcome, marked so that it is found again between whatever
// else was printed, also when the run comes out of the lab. A test that fails only because a part of it failed is not counted again.
import { inspect } from 'node:util';

export const mark = '@vitrine-test ';

/** One outcome as counted: 'passed', 'failed' or 'skipped'; undefined for what is not counted. */
export function outcomeOf(type, data) {
  if (data.details?.type === 'suite' && (type === 'test:pass' || data.details.error?.failureType === 'subtestsFailed')) return undefined;
  if (type === 'test:pass') return data.skip === undefined || data.skip === false ? 'passed' : 'skipped';
  if (type === 'test:fail') return data.details?.error?.failureType === 'subtestsFailed' ? undefined : 'failed';
  return undefined;
}

export default async function* report(events) {
  for await (const { type, data } of events) {
    if (type === 'test:stdout' || type === 'test:stderr') yield data.message;
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    const outcome = outcomeOf(type, data);
    if (outcome === undefined) continue;
    const seconds = (data.details?.duration_ms ?? 0) / 1000;
    if (outcome === 'failed') {
      const error = data.details?.error;
      yield `\nFAILED ${data.name}\n  at ${data.file ?? '?'}:${data.line ?? '?'} after ${seconds.toFixed(1)} s\n${inspect(error?.cause ?? error, { depth: 6 })}\n\n`;
    }
    yield `${mark}${JSON.stringify({ outcome, name: data.name, file: data.file, seconds })}\n`;
  }
}
