// Runs in the lab: one machine in this process, told what to do by JSON lines on standard input, telling what happens on standard output.
//   in:  { id, call, args }             a method of Machine's, or one of those below
//   out: { id, result } | { id, error }, and unasked { serial: base64 }, { console: SLOT.PORT, data: base64 }, { facts }, { log }, { stats }, { outcome }
import { createInterface } from 'node:readline';
import * as v from 'valibot';
import type { DeviceChange } from '../../../src/shared/device-change.ts';
import { deviceConfig, machineConfig } from '../../../src/shared/machine-config.ts';
import type { PointerInput, TabletInput } from '../../../src/shared/protocol/input.ts';
import { encodePng } from '../../../src/vmm/display/png.ts';
import { Machine } from '../../../src/vmm/machine/machine.ts';
import { Canvas } from '../../../src/vmm/testing/canvas.ts';

export interface Call {
  id: number;
  call: string;
  args: unknown[];
}

const send = (message: object): void => void process.stdout.write(`${JSON.stringify(message)}\n`);

const config = v.parse(machineConfig, JSON.parse(process.argv[2]!));
const machine = new Machine({ config, backend: 'kvm', log: (text) => send({ log: text }) });
machine.serial.subscribe((bytes) => send({ serial: Buffer.from(bytes).toString('base64') }));
machine.facts.subscribe((facts) => send({ facts }));
void machine.ended.then((outcome) => send({ outcome }));

const canvas = new Canvas();

const calls: Record<string, (...args: never[]) => unknown> = {
  start: () => machine.start(),
  pause: () => machine.pause(),
  resume: () => machine.resume(),
  reset: () => machine.reset(),
  powerButton: () => machine.powerButton(),
  forceOff: () => machine.forceOff(),
  listDevices: () => machine.listDevices(),
  addDevice: (device: object) => machine.addDevice(v.parse(deviceConfig, device)),
  removeDevice: (slot: number, options: { force: boolean; seconds: number }) => machine.removeDevice(slot, options),
  changeDevice: (slot: number, change: DeviceChange) => machine.changeDevice(slot, change),
  screenshot: async () => {
    const { png, width, height } = await machine.screenshot();
    return { png: Buffer.from(png).toString('base64'), width, height };
  },
  serialWrite: (base64: string) => machine.serialWrite(Buffer.from(base64, 'base64'), new AbortController().signal),
  /** What the guest writes to a port of a virtio console is told from now on. */
  watchConsole: (slot: number, port: number) => {
    const backlog = machine.console(slot, port);
    const tell = (bytes: Uint8Array): void => send({ console: `${slot}.${port}`, data: Buffer.from(bytes).toString('base64') });
    tell(backlog.backlog().bytes);
    backlog.subscribe(tell);
  },
  consoleWrite: (slot: number, port: number, base64: string) => machine.consoleWrite(slot, port, Buffer.from(base64, 'base64'), new AbortController().signal),
  consoleSize: (slot: number, port: number, columns: number, rows: number) => machine.consoleSize(slot, port, columns, rows),
  setBalloon: (bytes: number) => machine.setBalloon(bytes),
  key: (code: number, down: boolean) => machine.key(code, down),
  pointer: (input: PointerInput) => machine.pointer(input),
  tablet: (input: TabletInput) => machine.tablet(input),
  now: () => Date.now(),
  addressMap: () => machine.addressMap(),
  /** A viewer from now on; `watched` is what it sees. */
  watchScreen: () => void canvas.watch(machine, 'driver'),
  watched: async () => ({ png: Buffer.from(await encodePng(canvas.width, canvas.height, canvas.pixels)).toString('base64'), frames: canvas.frames }),
  watchStats: () => void machine.watchStats((stats) => send({ stats })),
};

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const { id, call, args } = JSON.parse(line) as Call;
    const method = calls[call] as ((...args: unknown[]) => unknown) | undefined;
    Promise.resolve()
      .then(() => {
        if (method === undefined) throw new Error(`the driver has no ${call}`);
        return method(...args);
      })
      .then((result) => send({ id, result: result ?? null }), (error: Error) => send({ id, error: error.message }));
  })
  .on('close', () => void machine.forceOff().then(() => process.exit(0)));
send({ facts: machine.facts.value });
