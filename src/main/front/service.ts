// What a front knows and does, for all of its connections: the library's machines as they stand, this host, and the calls of the front's
// protocol (src/shared/protocol/front.ts).
import { release } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { VitrineError } from '../../shared/errors.ts';
import type { FrontProtocol, Host, Library as LibraryTopic, LibraryEntry, MachineChanges } from '../../shared/protocol/front.ts';
import { sameJson } from '../../shared/protocol/patch.ts';
import type { MethodHandlers, TopicHandlers } from '../../shared/protocol/session.ts';
import { Watched } from '../../vmm/server/control.ts';
import { LOG_FILE } from '../../vmm/server/run-record.ts';
import type { HostDevices } from '../../shared/host-devices.ts';
import type { MachineConfig } from '../../shared/machine-config.ts';
import { hostDevicesOf } from '../../shared/machine-config.ts';
import type { GiveChoice } from '../../shared/passthrough.ts';
import { isHeld } from '../../vmm/server/run-record.ts';
import { claimsIn, claimsOf } from '../host-devices/claims.ts';
import type { Claim } from '../host-devices/findings/finding.ts';
import { TREE_VARIABLE } from '../host-devices/roots.ts';
import type { Reader } from '../host-devices/watch.ts';
import { DeviceWatch, readOnce, startReader } from '../host-devices/watch.ts';
import { addDevice, addressesOf, changeDevice, removeDevice, replaceDevice } from '../devices/change.ts';
import { onDisks } from '../disks/run.ts';
import { vitrineVersion } from '../install.ts';
import type { BackendChoice } from '../launcher/backend.ts';
import { chooseBackend } from '../launcher/backend.ts';
import { readLogTail, startMachine } from '../launcher/launch.ts';
import { ensureBuiltins } from '../library/builtin.ts';
import type { Library } from '../library/library.ts';
import type { LibraryWatcher } from '../library/watch.ts';
import { watchLibrary } from '../library/watch.ts';
import { settleDevices } from '../passthrough/before-start.ts';
import { grantsOf, LeasesWatch } from '../passthrough/given.ts';
import type { Performing } from '../passthrough/perform.ts';
import { giveDevices, takeDevices } from '../passthrough/perform.ts';
import type { HostPlace } from '../passthrough/place.ts';
import { hostPlace, leaseOn } from '../passthrough/place.ts';
import type { PlanQuestion } from '../passthrough/plan.ts';
import { planFor } from '../passthrough/plan.ts';
import { undoUnfinished } from '../passthrough/unfinished.ts';
import { doRemedy } from '../passthrough/remedies.ts';
import { Tracker } from './tracker.ts';
import { TroubleWatch } from './troubles.ts';

export interface ServiceOptions {
  shell: Host['shell'];
  env: NodeJS.ProcessEnv;
  library: Library;
  /** Runs instead of the machine process; for tests. */
  entry?: string;
}

function without<T>(record: Record<string, T>, key: string): Record<string, T> {
  const { [key]: _gone, ...rest } = record;
  return rest;
}

/** Paths mean something to whoever wrote them; the machine runs in another folder. */
function checkPaths(boot: MachineChanges['boot'], name: string): void {
  for (const path of [boot?.kernel, boot?.initrd]) {
    if (path === undefined || isAbsolute(path)) continue;
    throw new VitrineError({ attempted: 'set up the machine', on: name, why: `the path "${path}" does not begin with a slash.`, remedy: 'Give the whole path.', code: 'bad-machine' });
  }
}

export class FrontService {
  readonly machines = new Watched<LibraryTopic>({});
  readonly host: Watched<Host>;
  readonly #options: ServiceOptions;
  readonly #trackers = new Map<string, Tracker>();
  readonly #choice: Promise<BackendChoice>;
  readonly #devices: DeviceWatch;
  readonly #place: HostPlace;
  readonly #leases: LeasesWatch;
  readonly #troubles: TroubleWatch;
  /** How many watch the machines. */
  #watching = 0;
  /** Devices are read on this host, written or real, and not in the lab: known when KVM was probed. */
  #here = false;
  /** Changes of one machine's devices that are under way: they come one after another. */
  readonly #changes = new Map<string, Promise<unknown>>();
  #watcher: LibraryWatcher | null = null;

  private constructor(options: ServiceOptions) {
    this.#options = options;
    this.#devices = new DeviceWatch(() => this.#startReader());
    this.#place = hostPlace(options.env);
    this.#leases = new LeasesWatch(this.#place, () => this.#claims(), (id) => this.#nameOf(id));
    this.#troubles = new TroubleWatch(this.#devices, () => this.#showAll());
    this.machines.subscribe(() => {
      this.#devices.setClaims(this.#claims());
      this.#wantTroubles();
      this.#leases.look();
    });
    this.host = new Watched<Host>({
      state: 'probing',
      kvm: { usable: false, canBootLinux: false },
      backend: { linux: 'kvm', freestanding: 'kvm' },
      forced: false,
      why: '',
      euid: process.geteuid!(),
      shell: options.shell,
      versions: { vitrine: vitrineVersion(), node: process.versions.node, electron: process.versions.electron, kernel: release() },
      library: options.library.folder,
    });
    this.#choice = chooseBackend(options.env);
    this.#choice.then(
      ({ kvm, backend, forced, why }) => {
        this.#here = backend.linux !== 'lab' || this.#written;
        this.#wantTroubles();
        this.host.update({ state: 'ready', kvm: { usable: kvm.usable, canBootLinux: kvm.canBootLinux, problem: kvm.problem ?? undefined }, backend, forced, why });
      },
      // VITRINE_BACKEND holds nonsense: said here, and again by each start.
      (thrown: unknown) => this.host.update({ state: 'ready', why: thrown instanceof Error ? thrown.message : String(thrown) }),
    );
  }

  /** Opens the library, makes the built-in machines, and begins to watch. */
  static async open(options: ServiceOptions): Promise<FrontService> {
    const service = new FrontService(options);
    const { library } = options;
    await ensureBuiltins(library);
    await undoUnfinished(library, service.#place);
    service.#watcher = watchLibrary(library.folder, (id) => service.#look(id), (id) => service.#gone(id));
    return service;
  }

  close(): void {
    this.#watcher?.close();
    this.#devices.close();
    this.#troubles.want(false);
    this.#leases.close();
    for (const tracker of this.#trackers.values()) tracker.close();
    this.#trackers.clear();
  }

  readonly methods: MethodHandlers<FrontProtocol> = {
    createMachine: (machine) => {
      checkPaths(machine.boot, machine.name);
      // What was allowed for a machine that is gone is not for a new one of its name.
      const granted = new Set(grantsOf(this.#place, () => undefined, false).map((grant) => grant.machine.id));
      const id = this.#options.library.create(machine, (taken) => granted.has(taken));
      this.#watcher?.look();
      return { id };
    },
    updateMachine: async ({ id, changes }) => {
      checkPaths(changes.boot, changes.name ?? id);
      await this.#options.library.update(id, changes);
      this.#watcher?.look();
      return {};
    },
    removeMachine: async ({ id }) => {
      await this.#options.library.remove(id);
      this.#watcher?.look();
      return {};
    },
    startMachine: async ({ id }, { progress, signal }) => {
      const { library, env, entry } = this.#options;
      const choice = await this.#choice;
      const start = async () => {
        const config = await this.#settled(library.config(id), (text) => progress({ done: 0, text }), signal);
        return startMachine({ folder: library.folderOf(id), config, choice, env, progress, signal, entry, lease: leaseOn(this.#place) });
      };
      const tracker = this.#trackers.get(id);
      await (tracker === undefined ? start() : tracker.launching(start));
      return {};
    },
    addDevice: ({ id, device }) => this.#looking(() => addDevice(this.#options, id, device, { keep: true })),
    removeDevice: ({ id, slot, force, seconds }) => this.#looking(() => removeDevice(this.#options, id, slot, { force, seconds }).then(() => ({}))),
    changeDevice: ({ id, slot, change }) => this.#looking(() => changeDevice(this.#options, id, slot, change).then(() => ({}))),
    replaceDevice: ({ id, slot, device }) => this.#looking(() => replaceDevice(this.#options, id, slot, device).then(() => ({}))),
    networkAddresses: ({ id }) => ({ addresses: addressesOf(this.#options.library, id) }),
    describeDisks: ({ files }, { signal }) => onDisks({ do: 'describe', files }, this.#options.env, signal),
    createDisk: (disk, { signal }) => onDisks({ do: 'create', disk, makeFolder: this.#options.library.disksFolderFor(disk.file) }, this.#options.env, signal),
    resizeDisk: (disk, { signal }) => onDisks({ do: 'resize', disk }, this.#options.env, signal),
    devicesFor: ({ id }, { signal }) => this.#read(this.#options.library.config(id), signal),
    planDevices: async (choice, { signal }) => planFor(await this.#question(choice, signal)),
    giveDevices: (choice, { progress, signal }) => this.#changing(choice.id, async () => giveDevices(choice, await this.#question(choice, signal), this.#performing(progress, signal))),
    takeDevices: (request, { progress, signal }) => this.#changing(request.id, () => takeDevices(request, this.#performing(progress, signal))),
    remedy: (request, { progress, signal }) => this.#changing('id' in request ? request.id : request.verb === 'move' ? request.from : '', () => doRemedy(request, { ...this.#performing(progress, signal), read: (until) => this.#read(undefined, until) })),
    readLog: ({ id }) => {
      this.#options.library.read(id);
      const folder = this.#options.library.folderOf(id);
      return { text: readLogTail(folder), path: join(folder, LOG_FILE) };
    },
  };

  readonly topics: TopicHandlers<FrontProtocol> = {
    machines: (update) => {
      this.#watching++;
      this.#wantTroubles();
      update(this.machines.value);
      const stop = this.machines.subscribe(update);
      let over = false;
      return () => {
        stop();
        if (over) return;
        over = true;
        this.#watching--;
        this.#wantTroubles();
      };
    },
    host: (update) => {
      update(this.host.value);
      return this.host.subscribe(update);
    },
    devices: (update) => this.#devices.watch(update),
    leases: (update) => this.#leases.watch(update),
  };

  get #written(): boolean {
    return (this.#options.env[TREE_VARIABLE] ?? '') !== '';
  }

  /** Devices are read where Linux machines run: on this host, or in the lab. */
  async #startReader(): Promise<Reader> {
    const { env, library } = this.#options;
    const inLab = !this.#written && (await this.#choice.then(({ backend }) => backend.linux === 'lab', () => false));
    return startReader(env, inLab ? library.folder : undefined)();
  }

  /** Watches the devices while somebody watches the machines and one has devices of this computer; the lab is not started for that. */
  #wantTroubles(): void {
    const some = Object.values(this.machines.value).some(({ config }) => config !== undefined && hostDevicesOf(config).length > 0);
    this.#troubles.want(this.#watching > 0 && some && this.#here);
  }

  /** The machine with its troubles. */
  #show({ deviceTroubles: _, ...entry }: LibraryEntry): LibraryEntry {
    const deviceTroubles = this.#troubles.of(entry.config, this.#claims());
    return deviceTroubles === undefined ? entry : { ...entry, deviceTroubles };
  }

  #showAll(): void {
    const shown = Object.fromEntries(Object.entries(this.machines.value).map(([id, entry]) => [id, this.#show(entry)]));
    if (!sameJson(shown, this.machines.value)) this.machines.set(shown);
  }

  /** The configuration to start with. A machine that runs is left alone; in the lab, the machine itself says what it lacks. */
  async #settled(config: MachineConfig, onNote: (note: string) => void, signal: AbortSignal): Promise<MachineConfig> {
    const { library } = this.#options;
    if (hostDevicesOf(config).length === 0 || !this.#here || isHeld(library.folderOf(config.id))) return config;
    const found = await this.#read(config, signal);
    return settleDevices(config, { library, found, claims: claimsOf(library), onNote });
  }

  /** Of a machine that is there; its id where the file cannot be read. */
  #nameOf(id: string): string | undefined {
    const entry = this.machines.value[id];
    return entry === undefined ? undefined : (entry.config?.name ?? id);
  }

  #claims(): Claim[] {
    return claimsIn(Object.values(this.machines.value));
  }

  /** The devices as they are now, judged for a machine if one is meant. */
  #read(machine: MachineConfig | undefined, signal: AbortSignal | undefined): Promise<HostDevices> {
    const judged = machine === undefined ? {} : { machine: { id: machine.id, name: machine.name, memory: machine.memory } };
    return readOnce(() => this.#startReader(), { claims: this.#claims(), ...judged }, signal);
  }

  async #question(choice: GiveChoice, signal: AbortSignal): Promise<PlanQuestion> {
    const { library } = this.#options;
    const found = await this.#read(library.config(choice.id), signal);
    // The machine's file as it is now, not before the devices were read.
    return { found, config: library.config(choice.id), running: isHeld(library.folderOf(choice.id)), claims: this.#claims(), choice, helper: this.#place.helper(), root: this.#place.root, grants: grantsOf(this.#place, () => undefined, true) };
  }

  #performing(progress: Performing['progress'], signal: AbortSignal): Performing {
    return { library: this.#options.library, place: this.#place, progress, signal };
  }

  /** Does it, and looks at the machines' files after it. A guest that does not give a device back keeps nobody from another change. */
  async #looking<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } finally {
      this.#watcher?.look();
    }
  }

  /** Does it after what is under way for the same machine; '' for the computer. */
  async #changing(id: string, work: () => Promise<void>): Promise<Record<string, never>> {
    const before = this.#changes.get(id) ?? Promise.resolve();
    const done = before.catch(() => {}).then(work);
    this.#changes.set(id, done);
    try {
      await done;
    } finally {
      if (this.#changes.get(id) === done) this.#changes.delete(id);
      this.#watcher?.look();
      this.#leases.look();
    }
    return {};
  }

  #look(id: string): void {
    const tracker = this.#trackers.get(id);
    if (tracker !== undefined) {
      tracker.look();
      return;
    }
    const set = (entry: LibraryEntry) => {
      const shown = this.#show(entry);
      if (!sameJson(this.machines.value[id], shown)) this.machines.set({ ...this.machines.value, [id]: shown });
    };
    this.#trackers.set(id, new Tracker(id, join(this.#options.library.folder, id), this.#options.env, set));
  }

  #gone(id: string): void {
    this.#trackers.get(id)?.close();
    this.#trackers.delete(id);
    this.machines.set(without(this.machines.value, id));
  }
}
