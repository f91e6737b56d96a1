// When a guest is entered for the first time, whoever runs it: from the kernel's own trace (Linux Documentation/trace/ftrace.rst). Needs root.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const TRACING = '/sys/kernel/tracing';
const EVENT = 'events/kvm/kvm_entry/enable';

const set = (file: string, value: string): void => writeFileSync(join(TRACING, file), value);

/** Begins to wait for the next first entry. */
export function watchEntry(): void {
  if (!existsSync(join(TRACING, 'trace'))) spawnSync('mount', ['-t', 'tracefs', 'tracefs', TRACING], { stdio: 'inherit' });
  set(EVENT, '0');
  set('trace_clock', 'mono');
  set('options/overwrite', '0');
  set('buffer_size_kb', '16');
  set('trace', '');
  set('tracing_on', '1');
  set(EVENT, '1');
}

/** CLOCK_MONOTONIC in seconds of the first entry since `watchEntry`, or null. Tracing ends when there was one, so that it costs nothing afterwards. */
export function firstEntry(): number | null {
  const line = readFileSync(join(TRACING, 'trace'), 'latin1').split('\n').find((text) => text.includes('kvm_entry:'));
  if (line === undefined) return null;
  set(EVENT, '0');
  return Number(/(\d+\.\d+): kvm_entry:/.exec(line)![1]);
}
