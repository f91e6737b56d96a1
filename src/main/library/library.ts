// The library of machines on disk, as any number of fronts and commands share it: the folder is the truth. A machine comes into being
// by one rename, its file changes by another under the machine's lock, and it goes by a third; so whoever looks sees whole machines.
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import * as v from 'valibot';
import { VitrineError } from '../../shared/errors.ts';
import type { DeviceConfig, MachineConfig } from '../../shared/machine-config.ts';
import { CONFIG_VERSION, machineConfig } from '../../shared/machine-config.ts';
import type { MachineChanges, NewMachine } from '../../shared/protocol/front.ts';
import { issuesText } from '../../shared/protocol/wire.ts';
import { withSlots } from '../../shared/slots.ts';
import { removeLeftovers, syncFolder, writeFileAtomic } from '../../vmm/server/atomic-file.ts';
import type { Lock } from '../../vmm/server/lock.ts';
import { lockWithin } from '../../vmm/server/lock.ts';
import { CONFIG_FILE, LOCK_FILE } from '../../vmm/server/run-record.ts';
import { DISKS_FOLDER } from '../../shared/disks.ts';
import { idFromName, isMachineId, libraryFolder } from './folders.ts';
import type { ReadMachine } from './machine-file.ts';
import { readMachine } from './machine-file.ts';

/** Names that begin so are no machines: machines in the making, and ones being removed. */
const HIDDEN = '.';
/** Held while a machine's file is changed: its devices change while it runs, too, when another holds the machine's own lock. */
const CHANGE_LOCK_FILE = 'change.lock';
/** Changes of a file come one after another, each a matter of moments; milliseconds. */
const TURN = 5000;
/** How long a change waits for another writer before it takes the machine to be running, in milliseconds. */
const PATIENCE = 500;

function problem(attempted: string, on: string, why: string, remedy: string, code: string, cause?: unknown): VitrineError {
  return new VitrineError({ attempted, on, why, remedy, code }, { cause });
}

/** Node's errors of the file system in words; everything else as it is. */
function inWords(attempted: string, on: string, thrown: unknown): unknown {
  const error = thrown as NodeJS.ErrnoException;
  if (thrown instanceof VitrineError || error.code === undefined) return thrown;
  const known: Record<string, [string, string]> = {
    ENOSPC: ['the disk is full.', 'Make room, then try again.'],
    EDQUOT: ['the disk quota is used up.', 'Make room, then try again.'],
    EACCES: ['this user may not write there.', 'Check who owns the folder.'],
    EPERM: ['this user may not write there.', 'Check who owns the folder.'],
    EROFS: ['the file system is read-only.', ''],
  };
  const [why, remedy] = known[error.code] ?? [`${error.message}.`, ''];
  return problem(attempted, on, why, remedy, 'library-write', thrown);
}

function serialise(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** A device with the slot that it has. */
export type PlacedDevice = DeviceConfig & { slot: number };

export class Library {
  /** The folder of all machines' folders. */
  readonly folder: string;

  /** @param folder made, for this user alone, when it is not there */
  constructor(folder = libraryFolder()) {
    this.folder = folder;
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
    } catch (thrown) {
      throw inWords('open the library of machines', folder, thrown);
    }
  }

  folderOf(id: string): string {
    if (!isMachineId(id)) throw problem('find a machine', id, 'that is no machine\'s id.', '', 'no-such-machine');
    return join(this.folder, id);
  }

  /** Names of the folders that are machines, sound or damaged, sorted. */
  ids(): string[] {
    return readdirSync(this.folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith(HIDDEN))
      .map((entry) => entry.name)
      .sort();
  }

  /** The machine as its file says; throws when there is no such folder. */
  read(id: string): ReadMachine {
    const folder = this.folderOf(id);
    try {
      if (statSync(folder).isDirectory()) return readMachine(folder);
    } catch {
      // Told below.
    }
    throw problem('find a machine', id, 'there is no such machine.', '', 'no-such-machine');
  }

  /** The configuration; throws the file's problem when it is damaged. */
  config(id: string): MachineConfig {
    const read = this.read(id);
    if ('damaged' in read) throw new VitrineError(read.damaged.problem);
    return read.config;
  }

  /** The one machine that is called so, by id or by name. Throws when there is none, or several by that name. */
  find(idOrName: string): string {
    const ids = this.ids();
    if (ids.includes(idOrName)) return idOrName;
    const named = ids.filter((id) => {
      const read = readMachine(join(this.folder, id));
      return 'config' in read && read.config.name.toLowerCase() === idOrName.toLowerCase();
    });
    if (named.length === 1) return named[0];
    if (named.length > 1) throw problem('find a machine', idOrName, `several machines have this name: ${named.join(', ')}.`, 'Use the id.', 'several-machines');
    throw problem('find a machine', idOrName, 'there is no such machine.', '`vitrine list` shows them all.', 'no-such-machine');
  }

  /** The folder for disks of a machine, if `file` would lie in one: it goes with the machine. */
  disksFolderFor(file: string): string | undefined {
    const folder = dirname(file);
    return this.ids().map((id) => join(this.folder, id, DISKS_FOLDER)).find((each) => each === folder);
  }

  /** Adds a machine and returns its id, which is like its name. @param isTaken an id that no new machine may have */
  create(machine: NewMachine, isTaken: (id: string) => boolean = () => false): string {
    const base = idFromName(machine.name);
    for (let attempt = 0; ; attempt++) {
      const id = attempt === 0 ? base : `${base}-${randomBytes(3).toString('hex')}`;
      if (!isTaken(id) && this.createAs(id, machine)) return id;
    }
  }

  /** Adds a machine under this id; false when the id is taken. */
  createAs(id: string, machine: NewMachine, origin: MachineConfig['origin'] = 'user'): boolean {
    const attempted = 'create the machine';
    const checked = v.safeParse(machineConfig, { ...machine, version: CONFIG_VERSION, id, origin });
    if (!checked.success) throw problem(attempted, machine.name, issuesText(checked.issues), '', 'bad-machine');
    let making = '';
    try {
      making = mkdtempSync(join(this.folder, `${HIDDEN}new-`));
      writeFileAtomic(join(making, CONFIG_FILE), serialise(checked.output));
      writeFileSync(join(making, LOCK_FILE), '', { mode: 0o600 });
      // An empty folder would be replaced: rename(2). A machine's folder is never empty.
      renameSync(making, join(this.folder, id));
      syncFolder(this.folder);
      return true;
    } catch (thrown) {
      if (making !== '') rmSync(making, { recursive: true, force: true });
      const { code } = thrown as NodeJS.ErrnoException;
      if (code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'ENOTDIR') return false;
      throw inWords(attempted, machine.name, thrown);
    }
  }

  /** Changes a machine that is off. Members of the file that this version does not know stay. */
  async update(id: string, changes: MachineChanges | Pick<MachineConfig, 'boot'>): Promise<void> {
    const attempted = 'change the machine';
    const lock = await this.#lock(id, attempted);
    try {
      await this.#rewrite(id, attempted, () => changes);
    } finally {
      lock.release();
    }
  }

  /**
   * Changes the devices in a machine's file, also while it runs: then it was told of the change before. In the file each has its slot from now on.
   * @param change gets them with their slots
   */
  async updateDevices(id: string, change: (devices: PlacedDevice[]) => readonly DeviceConfig[]): Promise<void> {
    const attempted = 'change the devices';
    this.read(id);
    await this.#rewrite(id, attempted, ({ devices }) => ({ devices: withSlots(change(withSlots(devices, attempted)), attempted) }));
  }

  /** Puts members into a machine's file, one change after another. */
  async #rewrite(id: string, attempted: string, change: (config: MachineConfig) => MachineChanges | Pick<MachineConfig, 'boot'>): Promise<void> {
    const path = join(this.folderOf(id), CONFIG_FILE);
    let lock: Lock | null = null;
    try {
      lock = await lockWithin(join(this.folderOf(id), CHANGE_LOCK_FILE), TURN);
      if (lock === null) throw problem(attempted, id, 'its file is being changed by another window or command.', 'Try again.', 'machine-busy');
      const read = this.read(id);
      if ('damaged' in read) throw new VitrineError(read.damaged.problem);
      const merged = { ...read.raw, ...change(read.config) };
      const checked = v.safeParse(machineConfig, merged);
      if (!checked.success) throw problem(attempted, read.config.name, issuesText(checked.issues), '', 'bad-machine');
      removeLeftovers(path);
      writeFileAtomic(path, serialise({ ...merged, ...checked.output }));
    } catch (thrown) {
      throw inWords(attempted, id, thrown);
    } finally {
      lock?.release();
    }
  }

  /** Removes a machine that is off, sound or damaged, with everything in its folder. */
  async remove(id: string): Promise<void> {
    const attempted = 'remove the machine';
    this.read(id);
    const lock = await this.#lock(id, attempted);
    try {
      const going = join(this.folder, `${HIDDEN}removed-${id}-${randomBytes(4).toString('hex')}`);
      renameSync(this.folderOf(id), going);
      syncFolder(this.folder);
      rmSync(going, { recursive: true, force: true });
    } catch (thrown) {
      throw inWords(attempted, id, thrown);
    } finally {
      lock.release();
    }
  }

  async #lock(id: string, attempted: string): Promise<Lock> {
    this.read(id);
    let lock: Lock | null;
    try {
      lock = await lockWithin(join(this.folderOf(id), LOCK_FILE), PATIENCE);
    } catch (thrown) {
      throw inWords(attempted, id, thrown);
    }
    if (lock === null) throw problem(attempted, id, 'it is running.', 'Shut it down first.', 'machine-running');
    return lock;
  }
}
