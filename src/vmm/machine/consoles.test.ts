import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ConsolePort } from '../../shared/protocol/machine.ts';
import type { ConsoleMail } from '../virtio/console/backend.ts';
import { Consoles } from './consoles.ts';

/** A device that takes `room` bytes of input, and notes what it is told. */
function device(room = Infinity) {
  const mails: ConsoleMail[] = [];
  const input: number[] = [];
  let listed: ConsolePort[] = [];
  const state = { room, mails, input, listed: () => listed, gone: false };
  const consoles = new Consoles({
    send: async (_slot, mail) => {
      if (state.gone) throw new Error('the device is gone');
      mails.push(mail);
      if (mail.kind !== 'console-input') return undefined;
      const taken = Math.min(state.room, mail.bytes.length);
      state.room -= taken;
      input.push(...mail.bytes.subarray(0, taken));
      return taken;
    },
    changed: (ports) => (listed = ports),
  });
  return { consoles, state };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const never = new AbortController().signal;

test('names ports as a Linux guest does, in the order of their slots', () => {
  const { consoles, state } = device();
  consoles.expect(9, 1);
  consoles.expect(4, 2);
  consoles.told(4, { kind: 'console-open', port: 1, open: true });
  assert.deepEqual(state.listed(), [
    { slot: 4, port: 0, name: 'hvc0', open: false }, { slot: 4, port: 1, name: 'org.vitrine.1', open: true }, { slot: 9, port: 0, name: 'hvc1', open: false },
  ]);
  consoles.gone(4);
  assert.deepEqual(state.listed(), [{ slot: 9, port: 0, name: 'hvc0', open: false }]);
  assert.throws(() => consoles.backlog(4, 0), /there is no such console/);
});

test('keeps output, and says that it was taken: later while a watcher lags behind', async () => {
  const { consoles, state } = device();
  consoles.expect(4, 1);
  let behind = true;
  consoles.backlog(4, 0).subscribe(() => {}, () => behind);
  consoles.told(4, { kind: 'console', port: 0, bytes: Buffer.from('slow') });
  assert.deepEqual(state.mails, []);
  behind = false;
  consoles.told(4, { kind: 'console', port: 0, bytes: Buffer.from('quick') });
  assert.deepEqual(state.mails, [{ kind: 'console-taken', port: 0, bytes: 5 }]);
  while (state.mails.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(state.mails[1], { kind: 'console-taken', port: 0, bytes: 4 });
  assert.equal(Buffer.from(consoles.backlog(4, 0).backlog().bytes).toString(), 'slowquick');
});

test('writes in order, as far as there is room, and goes on when there is more', async () => {
  const { consoles, state } = device(3);
  consoles.expect(4, 1);
  const done: string[] = [];
  const given = new AbortController();
  void consoles.write(4, 0, Uint8Array.of(1, 2), never).then(() => done.push('first'));
  void consoles.write(4, 0, Uint8Array.of(3, 4, 5), never).then(() => done.push('second'));
  void consoles.write(4, 0, Uint8Array.of(6), given.signal).then(() => done.push('given up'));
  void consoles.write(4, 0, Uint8Array.of(7), never).then(() => done.push('last'));
  await turn();
  assert.deepEqual(done, ['first']);
  given.abort();
  state.room = 10;
  consoles.told(4, { kind: 'console-room', port: 0 });
  while (done.length < 4) await turn();
  assert.deepEqual(state.input, [1, 2, 3, 4, 5, 7]);
  state.room = 0;
  const waiting = consoles.write(4, 0, Uint8Array.of(8), never);
  await turn();
  state.gone = true;
  consoles.gone(4);
  await waiting;
});
