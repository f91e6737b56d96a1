// Devices of a machine that come, go and change, whether it is off or running: a running machine is told first, then its file says so too. The window
// and the commands use the same.
import * as v from 'valibot';
import { changedConfig, whyNotFor, type DeviceChange } from '../../shared/device-change.ts';
import { conflictsOf } from '../../shared/device-conflicts.ts';
import { VitrineError } from '../../shared/errors.ts';
import { deviceConfig, type DeviceConfig } from '../../shared/machine-config.ts';
import type { MachineState } from '../../shared/protocol/machine.ts';
import { sameJson } from '../../shared/protocol/patch.ts';
import { chooseSlots, withSlots } from '../../shared/slots.ts';
import { derivedMac, macText } from '../../vmm/net/mac.ts';
import { isHeld } from '../../vmm/server/run-record.ts';
import { checkDeviceFiles } from '../launcher/device-files.ts';
import { addDeviceTo } from '../launcher/host-lease.ts';
import { connectRunning, firstState } from '../launcher/launch.ts';
import type { Library, PlacedDevice } from '../library/library.ts';
import type { MachineConnection } from '../machine-connection.ts';

export interface DevicePlace {
  readonly library: Library;
  readonly env: NodeJS.ProcessEnv;
}

/** How long a machine that is held but does not answer is waited for; and between two looks; milliseconds. */
const PATIENCE = 1000;
const LOOK = 20;

interface Running {
  readonly connection: MachineConnection;
  readonly state: MachineState;
}

function refuse(attempted: string, on: string, why: string, remedy: string, code: string): VitrineError {
  return new VitrineError({ attempted, on, why, remedy, code });
}

const isRefusal = (thrown: unknown, code: string): boolean => thrown instanceof VitrineError && thrown.problem.code === code;

/** Does it with the running machine, or with null when it is off. Throws code "machine-starting" when it is between the two. */
async function withMachine<T>({ library, env }: DevicePlace, id: string, attempted: string, work: (running: Running | null) => Promise<T>): Promise<T> {
  const folder = library.folderOf(id);
  const { name } = library.config(id);
  let connection: MachineConnection | null = null;
  // Who only looks at the machine's file, or changes it, holds it for a moment.
  for (const end = Date.now() + PATIENCE; ; await new Promise((resolve) => setTimeout(resolve, LOOK))) {
    if (!isHeld(folder)) return work(null);
    connection = await connectRunning(folder, id, env);
    if (connection !== null || Date.now() >= end) break;
  }
  if (connection === null) throw refuse(attempted, name, 'it is just starting or ending.', 'Try again in a moment.', 'machine-starting');
  try {
    return await work({ connection, state: await firstState(connection) });
  } finally {
    connection.close();
  }
}

/** Devices as the machine's file has them, with their slots. */
export function devicesOf(library: Library, id: string): PlacedDevice[] {
  return withSlots(library.config(id).devices);
}

/** The MAC addresses of its network cards, by slot. */
export function addressesOf(library: Library, id: string): Record<string, string> {
  const cards = devicesOf(library, id).filter((device) => device.kind === 'virtio-net');
  return Object.fromEntries(cards.map(({ slot, mac }) => [String(slot), mac ?? macText(derivedMac(id, slot))]));
}

function deviceAt(place: DevicePlace, id: string, slot: number, attempted: string): PlacedDevice {
  const device = devicesOf(place.library, id).find((each) => each.slot === slot);
  if (device === undefined) throw refuse(attempted, `slot ${slot} of ${place.library.config(id).name}`, 'the machine has no device there that can be changed.', '`vitrine device list` shows them.', 'no-such-device');
  return device;
}

type Drive = Extract<DeviceConfig, { kind: 'virtio-scsi' }>['drives'][number];
const driveUse = (drive: Drive): string => `${drive.kind === 'cdrom' || drive.readonly} ${drive.file}`;

/** What of this computer's files it uses, each with whether it only reads it. */
function usesOf(device: DeviceConfig): string[] {
  if (device.kind === 'virtio-blk') return [`${device.readonly} ${device.file}`];
  if (device.kind === 'virtio-9p') return [`${device.readonly} ${device.folder}`];
  return device.kind === 'virtio-scsi' ? device.drives.map(driveUse) : [];
}

/** What must be looked at when `before` becomes `device`: an image that has long been in a drive may be gone without standing in the way. */
function whatIsNew(device: DeviceConfig, before: DeviceConfig): DeviceConfig[] {
  const known = new Set(usesOf(before));
  if (device.kind === 'virtio-scsi') return [{ ...device, drives: device.drives.filter((drive) => !known.has(driveUse(drive))) }];
  const uses = usesOf(device);
  return uses.length > 0 && uses.every((use) => known.has(use)) ? [] : [device];
}

/** What must be looked at for this change of the device: the medium that is put in. */
function whatComes(device: DeviceConfig, change: DeviceChange): DeviceConfig[] {
  return change.kind === 'medium' && change.file !== null && device.kind === 'virtio-scsi' ? [{ ...device, drives: device.drives.slice(change.drive, change.drive + 1) }] : [];
}

/**
 * What the device names must be there, and what it has must not be another's.
 * @param others the machine's other devices
 * @param files the device as far as its files are looked at
 */
function checkDevice(place: DevicePlace, device: DeviceConfig, others: readonly DeviceConfig[], attempted: string, running: Running | null, files: readonly DeviceConfig[] = [device]): void {
  const conflict = conflictsOf([...others, device]).find((each) => each.device === others.length);
  if (conflict !== undefined) throw refuse(attempted, device.kind, conflict.message, '', 'device-conflict');
  checkDeviceFiles(files, { attempted, ...(running?.state.backend === 'lab' ? { lab: place.library.folder } : {}) });
}

/**
 * The file's entry of the device that is in this slot. A running machine may lack a device that its file still has, and then the file's stands for it; it
 * may also have another one there, lent to it alone, and that one is not the file's.
 */
async function filedAt(place: DevicePlace, id: string, slot: number, running: Running): Promise<PlacedDevice | undefined> {
  const { devices } = await running.connection.client.call('listDevices', {});
  const there = devices.find((each) => each.slot === slot);
  return devicesOf(place.library, id).find((each) => each.slot === slot && (there === undefined || there.kind === each.kind));
}

export interface AddOptions {
  /** A running machine has it after its next start, too. One that is off always has. */
  readonly keep: boolean;
}

/** Adds it in a slot that is free in the running machine and in its file: the guest may have given back what the file still has. */
async function addToBoth({ library }: DevicePlace, id: string, device: DeviceConfig, { connection, state }: Running, attempted: string): Promise<{ slot: number; told: boolean }> {
  const tried: number[] = [];
  for (;;) {
    const there = (await connection.client.call('listDevices', {})).devices;
    const [slot] = chooseSlots([device], [...tried, ...[...there, ...devicesOf(library, id)].map((each) => each.slot)], attempted) as [number];
    try {
      return await addDeviceTo(connection, state, { ...device, slot });
    } catch (thrown) {
      // Another device came into it meanwhile, or has not quite left it.
      if (device.slot !== undefined || !isRefusal(thrown, 'slot-taken')) throw thrown;
      tried.push(slot);
    }
  }
}

/** @returns its slot; `told` is false when the running guest must look for it by itself */
export function addDevice(place: DevicePlace, id: string, wish: v.InferInput<typeof deviceConfig>, { keep }: AddOptions): Promise<{ slot: number; told: boolean }> {
  const attempted = 'add the device';
  return withMachine(place, id, attempted, async (running) => {
    const device = v.parse(deviceConfig, wish);
    const { library } = place;
    if (device.kind === 'vfio-pci' && (keep || running === null)) {
      const why = running === null ? 'it does not run, and devices of this computer are given to it in Vitrine\'s window.' : 'devices of this computer are given for longer in Vitrine\'s window.';
      throw refuse(attempted, device.address, why, '`vitrine plan` shows what giving it would change.', running === null ? 'not-running' : 'give-in-window');
    }
    checkDevice(place, device, library.config(id).devices, attempted, running);
    if (running === null) {
      let slot = -1;
      await library.updateDevices(id, (devices) => {
        const placed = withSlots([...devices, device], attempted);
        slot = placed.at(-1)!.slot;
        return placed;
      });
      return { slot, told: true };
    }
    const added = await addToBoth(place, id, device, running, attempted);
    if (keep) await library.updateDevices(id, (devices) => [...devices, { ...device, slot: added.slot }]);
    return added;
  });
}

/** A running guest is asked to give it back first, unless by force; then the machine's file has it no more. */
export function removeDevice(place: DevicePlace, id: string, slot: number, options: { force: boolean; seconds: number }): Promise<void> {
  const attempted = 'remove the device';
  return withMachine(place, id, attempted, async (running) => {
    const inFile = running === null ? deviceAt(place, id, slot, attempted) : await filedAt(place, id, slot, running);
    // A device of this computer that was lent to a running machine stays its own in the file.
    const filed = inFile !== undefined && (running === null || inFile.kind !== 'vfio-pci');
    await running?.connection.client.call('removeDevice', { slot, ...options }).catch((thrown: unknown) => {
      // The guest gave it back before: it is still to be taken out of the file.
      if (!filed || !isRefusal(thrown, 'no-such-device')) throw thrown;
    });
    if (filed) await place.library.updateDevices(id, (devices) => devices.filter((each) => each.slot !== slot));
  });
}

/** Another medium, a cable pulled: at once if the machine runs, and in its file where the change is one that stays. */
export function changeDevice(place: DevicePlace, id: string, slot: number, change: DeviceChange): Promise<void> {
  const attempted = 'change the device';
  return withMachine(place, id, attempted, async (running) => {
    const { library } = place;
    const inFile = running === null ? deviceAt(place, id, slot, attempted) : await filedAt(place, id, slot, running);
    if (inFile !== undefined) {
      const why = whyNotFor(inFile, change);
      if (why !== null) throw refuse(attempted, `slot ${slot} of ${library.config(id).name}`, why, '', 'wrong-device');
      const others = devicesOf(library, id).filter((each) => each.slot !== slot);
      const changed = changedConfig(inFile, change);
      checkDevice(place, changed, others, attempted, running, whatComes(changed, change));
    }
    if (running !== null) await running.connection.client.call('changeDevice', { slot, change });
    else if (change.kind === 'balloon') throw refuse(attempted, library.config(id).name, 'it does not run.', '`vitrine start` starts it.', 'not-running');
    if (inFile === undefined || sameJson(changedConfig(inFile, change), inFile)) return;
    await library.updateDevices(id, (devices) => devices.map((each) => (each.slot === slot ? changedConfig(each, change) : each)));
  });
}

/** Other settings for a device of a machine that is off. */
export async function replaceDevice(place: DevicePlace, id: string, slot: number, device: DeviceConfig): Promise<void> {
  const attempted = 'change the device';
  await withMachine(place, id, attempted, async (running) => {
    const { library } = place;
    const before = deviceAt(place, id, slot, attempted);
    if (running !== null) throw refuse(attempted, library.config(id).name, 'it runs, and this holds from a start on.', 'Shut it down first.', 'machine-running');
    if (before.kind !== device.kind) throw refuse(attempted, `slot ${slot} of ${library.config(id).name}`, `it is a ${before.kind}, not a ${device.kind}.`, '', 'wrong-device');
    checkDevice(place, device, devicesOf(library, id).filter((each) => each.slot !== slot), attempted, running, whatIsNew(device, before));
    await library.updateDevices(id, (devices) => devices.map((each) => (each.slot === slot ? { ...device, slot } : each)));
  });
}
