// A machine process without a VMM, for tests of what starts and controls machine processes: same arguments, same lock, same socket,
// same outcome file. What it does is said by its machine.json's kernel path: "fake:run", "fake:fail", "fake:crash", "fake:exit:N",
// "fake:hello" (writes a line to the serial port and powers off).
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { DeviceConfig } from '../../../shared/machine-config.ts';
import type { Outcome } from '../../../shared/protocol/machine.ts';
import { beginRun, CONFIG_FILE, EXIT_ALREADY_RUNNING } from '../run-record.ts';
import { serveMachine } from '../serve.ts';
import { FakeMachine } from './fake-machine.ts';

const { values } = parseArgs({ options: { folder: { type: 'string' }, socket: { type: 'string' }, lease: { type: 'string' } } });
const folder = values.folder!;
const socketPath = values.socket!;
console.log(`fake machine in ${folder}, pid ${process.pid}`);
const run = await beginRun(folder, socketPath).catch(() => process.exit(EXIT_ALREADY_RUNNING));
const config = JSON.parse(readFileSync(join(folder, CONFIG_FILE), 'utf8')) as { id: string; name: string; boot: { kernel: string }; devices?: DeviceConfig[] };
const behaviour = config.boot.kernel;

if (behaviour === 'fake:fail') {
  const problem = { attempted: 'load the kernel', on: '/nowhere', why: 'it is not there.', remedy: 'Choose another.', code: 'kernel-missing' };
  run.writeOutcome({ endedAt: Date.now(), how: 'failed', problem });
  process.exit(1);
}
if (behaviour === 'fake:crash') {
  console.error('fake crash');
  process.kill(process.pid, 'SIGKILL');
}

const machine = new FakeMachine(config.id, config.name);
machine.devices.push(...(config.devices ?? []));
const server = await serveMachine({ socketPath, machine });
let over = false;
const end = async (outcome: Outcome) => {
  if (over) return;
  over = true;
  run.writeOutcome(outcome);
  machine.facts.update({ state: 'ended', outcome });
  await server.close();
  process.exit(0);
};
machine.onOff = (how) => setImmediate(() => void end({ endedAt: Date.now(), how }));
process.on('SIGTERM', () => void end({ endedAt: Date.now(), how: 'forced' }));

const exit = /^fake:exit:(\d+)$/.exec(behaviour);
// Ends by itself only once somebody has come to see it.
if (exit !== null || behaviour === 'fake:hello') {
  const waiting = setInterval(() => {
    if (server.connections === 0) return;
    clearInterval(waiting);
    machine.serial.push(Buffer.from('hello from the guest\r\n'));
    void end(exit === null ? { endedAt: Date.now(), how: 'powered-off' } : { endedAt: Date.now(), how: 'debug-exit', exitCode: (Number(exit[1]) << 1) | 1 });
  }, 5);
}
