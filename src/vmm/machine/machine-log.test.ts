import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MachineLog } from './machine-log.ts';

test('a guest that floods the log is cut off, and what is left out is counted', () => {
  let now = 0;
  const written: string[] = [];
  const log = new MachineLog((text) => written.push(text), () => now);
  for (let i = 0; i < 100_000; i++) log.sayOfGuest('info', 'reset: keyboard controller');
  assert.equal(written.length, 1000);
  log.say('error', 'of ours');
  assert.equal(written.length, 1001, 'ours are never left out');
  now = 500;
  log.sayOfGuest('info', 'again');
  assert.match(written[1001]!, /99000 lines that the guest caused are left out$/);
  assert.match(written[1002]!, /again$/);
  // An hour of flooding is two lines a second, each with its count.
  for (const start = now; now < start + 3_600_000; now += 10) log.sayOfGuest('info', 'flood');
  assert.ok(written.length < 1003 + 2 * 2 * 3600 + 2, `${written.length}`);
});

test('a full bucket does not become fuller', () => {
  let now = 0;
  const written: string[] = [];
  const log = new MachineLog((text) => written.push(text), () => now);
  now = 1e9;
  for (let i = 0; i < 3000; i++) log.sayOfGuest('info', 'x');
  assert.equal(written.length, 1000);
});

test('the debug port gives lines, however they arrive, without control characters', () => {
  const log = new MachineLog(() => {});
  const print = (text: string): void => log.debugOutput(Buffer.from(text, 'latin1'));
  print('hel');
  print('lo\r\nforged\x1b[2J\x9b line\n\n');
  print('rest');
  const lines = (): string[] => log.lines.backlog().map(({ text }) => text);
  assert.deepEqual(lines(), ['debug port: hello', 'debug port: forged\\x1b[2J\\x9b line']);
  log.endLine();
  assert.equal(lines().at(-1), 'debug port: rest');
  print('y'.repeat(1000));
  assert.deepEqual(lines().slice(3).map((line) => line.length), [412, 412]);
});
