// The commands on machines of the library: create, start, stop, pause, resume, list, screenshot, their devices. They speak to the machines themselves, so no
// window needs to be open.
import { writeFileSync } from 'node:fs';
import type { Problem } from '../shared/errors.ts';
import { sentence, toProblem, VitrineError } from '../shared/errors.ts';
import { whyNotFor, type DeviceChange } from '../shared/device-change.ts';
import type { LibraryEntry, NewMachine } from '../shared/protocol/front.ts';
import type { Progress } from '../shared/protocol/wire.ts';
import { isHeld, lastOutcome } from '../vmm/server/run-record.ts';
import { claimsOf } from '../main/host-devices/claims.ts';
import { readHostDevices } from '../main/host-devices/read.ts';
import { realRoots, TREE_VARIABLE } from '../main/host-devices/roots.ts';
import { hostPlace, leaseOn } from '../main/passthrough/place.ts';
import { settleDevices } from '../main/passthrough/before-start.ts';
import { hostDevicesOf } from '../shared/machine-config.ts';
import type { MachineConfig } from '../shared/machine-config.ts';
import { addDevice, changeDevice as changeDeviceOf, devicesOf, removeDevice as removeDeviceOf, type DevicePlace } from '../main/devices/change.ts';
import type { BackendChoice } from '../main/launcher/backend.ts';
import { entryOf } from '../main/front/tracker.ts';
import { chooseBackend } from '../main/launcher/backend.ts';
import { connectRunning, firstState, startMachine, whyThere } from '../main/launcher/launch.ts';
import { ensureBuiltins } from '../main/library/builtin.ts';
import { Library } from '../main/library/library.ts';
import type { MachineConnection } from '../main/machine-connection.ts';
import type { DeviceWish } from './device-words.ts';
import { EXIT_OK, exitCodeOf } from './exit-codes.ts';

const LOOK = 20;

/** Where a command writes to. */
export interface Output {
  out: (text: string) => void;
  err: (text: string) => void;
}

function say({ err }: Output, problem: Problem): number {
  err(`vitrine: ${sentence(problem)}\n`);
  return exitCodeOf(problem);
}

/** The library, with the built-in machines, also where no window was ever open. */
async function openLibrary(): Promise<Library> {
  const library = new Library();
  await ensureBuiltins(library);
  return library;
}

/** Does it for each machine; the exit code is the first failure's. One that fails does not keep the others from it. */
async function forEach(names: string[], output: Output, attempted: string, action: (id: string, library: Library) => Promise<void>): Promise<number> {
  const library = await openLibrary();
  let code = EXIT_OK;
  for (const name of names) {
    try {
      await action(library.find(name), library);
    } catch (thrown) {
      const failed = say(output, toProblem(thrown, attempted, name));
      if (code === EXIT_OK) code = failed;
    }
  }
  return code;
}

function notRunning(attempted: string, id: string): VitrineError {
  return new VitrineError({ attempted, on: id, why: 'it does not run.', remedy: '`vitrine start` starts it.', code: 'not-running' });
}

/** A connection to the running machine. Throws code "not-running" when it does not run. */
async function connected(library: Library, id: string, attempted: string): Promise<MachineConnection> {
  const connection = await connectRunning(library.folderOf(id), id);
  if (connection === null) throw notRunning(attempted, id);
  return connection;
}

/** Shows what a start that takes longer than a second is doing: each new line once, or in place on a terminal. */
export function showProgress({ err }: Output): { progress: (progress: Progress) => void; end: () => void } {
  const inPlace = process.stderr.isTTY === true;
  let last = '';
  return {
    progress: ({ done, text }) => {
      if (done < 1) return;
      const line = inPlace ? text : text.replace(/ \(\d+ s\)$/, '');
      if (line === last) return;
      last = line;
      err(inPlace ? `\r\u001b[K${line}` : `${line}\n`);
    },
    end: () => {
      if (inPlace && last !== '') err('\r\u001b[K');
    },
  };
}

/** The configuration to start with: host devices are where its file says, or have certainly moved. Throws codes "device-…". */
async function settled(library: Library, config: MachineConfig, choice: BackendChoice, { err }: Output): Promise<MachineConfig> {
  const written = (process.env[TREE_VARIABLE] ?? '') !== '';
  if (hostDevicesOf(config).length === 0 || (choice.backend.linux === 'lab' && !written) || isHeld(library.folderOf(config.id))) return config;
  const claims = claimsOf(library);
  const found = readHostDevices({ roots: realRoots(), claims, machine: { id: config.id, name: config.name, memory: config.memory } });
  return settleDevices(config, { library, found, claims, onNote: (note) => err(`${note}\n`) });
}

export function start(names: string[], output: Output): Promise<number> {
  const choice = chooseBackend();
  const told = new Set<string>();
  return forEach(names, output, 'start the machine', async (id, library) => {
    const chosen = await choice;
    const config = await settled(library, library.config(id), chosen, output);
    const why = whyThere(config, chosen);
    if (why !== '' && !told.has(why)) output.err(`${why}\n`);
    told.add(why);
    const { progress, end } = showProgress(output);
    try {
      await startMachine({ folder: library.folderOf(id), config, choice: chosen, progress, lease: leaseOn(hostPlace(process.env)) });
    } finally {
      end();
    }
  });
}

/** Waits until nobody holds the machine; false when that took longer than `seconds`. */
async function wentOff(folder: string, seconds: number): Promise<boolean> {
  const deadline = Date.now() + seconds * 1000;
  while (isHeld(folder)) {
    if (Date.now() >= deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, LOOK));
  }
  return true;
}

export function stop(names: string[], force: boolean, seconds: number, output: Output): Promise<number> {
  const attempted = 'stop the machine';
  return forEach(names, output, attempted, async (id, library) => {
    const folder = library.folderOf(id);
    const connection = await connected(library, id, attempted);
    try {
      await connection.client.call(force ? 'forceOff' : 'powerButton', {});
      if (seconds === 0 && !force) return;
      if (await wentOff(folder, Math.max(seconds, force ? 30 : 0))) {
        const outcome = lastOutcome(folder);
        if (outcome?.how === 'failed' && outcome.problem !== undefined) throw new VitrineError(outcome.problem);
        return;
      }
    } catch (thrown) {
      // Gone before it could answer: that is what was wanted.
      if (!(thrown instanceof VitrineError && thrown.problem.code === 'connection-lost' && (await wentOff(folder, 5)))) throw thrown;
      return;
    } finally {
      connection.close();
    }
    throw new VitrineError({ attempted, on: id, why: `the guest did not shut down within ${seconds} seconds.`, remedy: '--force cuts the power; what it has not saved is lost.', code: 'still-running' });
  });
}

export function pauseOrResume(which: 'pause' | 'resume', names: string[], output: Output): Promise<number> {
  const attempted = `${which} the machine`;
  return forEach(names, output, attempted, async (id, library) => {
    const connection = await connected(library, id, attempted);
    try {
      await connection.client.call(which, {});
    } finally {
      connection.close();
    }
  });
}

interface ListedDevice {
  slot: number;
  function: number;
  label: string;
  kind?: string;
  removable: boolean;
}

/** Of a machine that is off: what its file says. */
function devicesInFile(library: Library, id: string): ListedDevice[] {
  return devicesOf(library, id).map(({ slot, kind }) => ({ slot, function: 0, label: kind, kind, removable: true }));
}

export function listDevices(name: string, json: boolean, output: Output): Promise<number> {
  return forEach([name], output, 'list the devices', async (id, library) => {
    const connection = await connectRunning(library.folderOf(id), id);
    try {
      const devices: ListedDevice[] = connection === null ? devicesInFile(library, id) : (await connection.client.call('listDevices', {})).devices;
      if (json) output.out(`${JSON.stringify(devices, null, 2)}\n`);
      else output.out(table([['SLOT', 'REMOVABLE', 'DEVICE'], ...devices.map((each) => [`${each.slot}.${each.function}`, each.removable ? 'yes' : 'no', each.label])]));
    } finally {
      connection?.close();
    }
  });
}

export async function create(machine: NewMachine, output: Output): Promise<number> {
  output.out(`${(await openLibrary()).create(machine)}\n`);
  return EXIT_OK;
}

/** The machine's devices change at its process, if it runs, and in its file. */
function place(library: Library): DevicePlace {
  return { library, env: process.env };
}

export function addDevices(name: string, devices: readonly DeviceWish[], keep: boolean, output: Output): Promise<number> {
  return forEach([name], output, 'add the device', async (id, library) => {
    for (const device of devices) {
      const { slot, told } = await addDevice(place(library), id, device, { keep });
      output.out(`${slot}\n`);
      if (!told) output.err('The guest does not listen for new devices: it finds this one when it looks for PCI devices again.\n');
    }
  });
}

export function removeDevice(name: string, slot: number, options: { force: boolean; seconds: number }, output: Output): Promise<number> {
  return forEach([name], output, 'remove the device', (id, library) => removeDeviceOf(place(library), id, slot, options));
}

/** The device that a change means when nobody said which: the only one that it fits. */
function meantBy(change: DeviceChange, library: Library, id: string): number {
  const fitting = devicesOf(library, id).filter((device) => whyNotFor(device, change) === null);
  if (fitting.length === 1) return fitting[0]!.slot;
  const what = change.kind === 'link' ? 'network card' : 'controller with such a CD-ROM drive';
  const why = fitting.length === 0 ? `it has no ${what}.` : `it has several: slots ${fitting.map(({ slot }) => slot).join(', ')}.`;
  throw new VitrineError({ attempted: 'change the device', on: library.config(id).name, why, remedy: fitting.length === 0 ? '`vitrine device add` adds one.' : 'Say which with --slot.', code: fitting.length === 0 ? 'no-such-device' : 'usage' });
}

export function changeDevice(name: string, slot: number | undefined, change: DeviceChange, output: Output): Promise<number> {
  return forEach([name], output, 'change the device', (id, library) => changeDeviceOf(place(library), id, slot ?? meantBy(change, library, id), change));
}

/** Asks the guest to keep `bytes` of its memory, or shows what it has of it. */
export function balloon(name: string, bytes: number | undefined, output: Output): Promise<number> {
  const attempted = 'change the guest\'s memory';
  return forEach([name], output, attempted, async (id, library) => {
    const connection = await connected(library, id, attempted);
    try {
      if (bytes !== undefined) {
        await connection.client.call('setBalloon', { bytes });
        return;
      }
      const state = await firstState(connection);
      const mebibytes = (size: number): string => `${Math.round(size / 2 ** 20)} MiB`;
      const { balloon: has, memory } = state;
      if (has === undefined) throw new VitrineError({ attempted: 'look at the guest\'s memory', on: state.name, why: 'it has no balloon.', remedy: `Add one: vitrine device add ${name} virtio-balloon.`, code: 'no-balloon' });
      const aim = has.target === has.actual ? '' : `, and shall have ${mebibytes(has.target)}`;
      output.out(`The guest has ${mebibytes(has.actual)} of ${mebibytes(memory)}${aim}.${has.off ? ' A device is passed through, so the balloon is off.' : ''}\n`);
    } finally {
      connection.close();
    }
  });
}

export function screenshot(name: string, file: string, output: Output): Promise<number> {
  const attempted = 'take a screenshot';
  return forEach([name], output, attempted, async (id, library) => {
    const connection = await connected(library, id, attempted);
    try {
      const png = Buffer.from((await connection.client.call('screenshot', {})).png, 'base64');
      try {
        writeFileSync(file === '-' ? 1 : file, png);
      } catch (thrown) {
        throw new VitrineError({ attempted: 'save the screenshot', on: file, why: `${(thrown as Error).message}.`, remedy: '', code: 'screenshot-file' }, { cause: thrown });
      }
    } finally {
      connection.close();
    }
  });
}

/** Every machine as it stands, asked of those that run. */
export async function allMachines(library: Library): Promise<LibraryEntry[]> {
  return Promise.all(
    library.ids().map(async (id) => {
      const folder = `${library.folder}/${id}`;
      let connection: MachineConnection | null = null;
      try {
        connection = await connectRunning(folder, id);
        const live = connection === null ? null : await firstState(connection);
        return entryOf(id, folder, live, false);
      } catch {
        // It went while it was asked.
        return entryOf(id, folder, null, false);
      } finally {
        connection?.close();
      }
    }),
  );
}

function table(rows: string[][]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) => `${row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column]))).join('  ')}\n`).join('');
}

export async function list(json: boolean, output: Output): Promise<number> {
  const entries = await allMachines(await openLibrary());
  if (json) {
    output.out(`${JSON.stringify(entries, null, 2)}\n`);
    return EXIT_OK;
  }
  if (entries.length === 0) {
    output.out('There are no machines.\n');
    return EXIT_OK;
  }
  const rows = entries.map(({ id, config, state, backend, damaged }) => [
    id,
    damaged === undefined ? state : 'damaged',
    backend ?? '-',
    config === undefined ? '-' : `${config.memory / 2 ** 20} MiB`,
    config === undefined ? '-' : String(config.cpus),
    // A name may hold anything; a terminal must not obey it.
    config === undefined ? damaged!.problem.why : config.name.replaceAll(/\p{C}/gu, '?'),
  ]);
  output.out(table([['ID', 'STATE', 'ON', 'MEMORY', 'CPUS', 'NAME'], ...rows]));
  return EXIT_OK;
}
