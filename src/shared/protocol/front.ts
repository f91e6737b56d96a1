// The protocol of a front server, under /front: the library of machines and what this host can do. Control of a running machine
// goes to /machine/ID, which is piped straight to the machine process.
import * as v from 'valibot';
import { diskDescription, lookedAt, newDisk, newSize } from '../disks.ts';
import { hostDevicesSchema } from '../host-devices.ts';
import { deviceChange } from '../device-change.ts';
import { deviceConfig, machineConfig } from '../machine-config.ts';
import { DISK_FORMATS } from '../virtio-config.ts';
import { deviceTroubleSchema, giveChoice, leasesSchema, planSchema, remedyRequest } from '../passthrough.ts';
import { BACKENDS, outcomeSchema, REMOVE_SECONDS } from './machine.ts';
import type { Snapshot } from './wire.ts';
import { nothing, problemSchema } from './wire.ts';

const id = v.pipe(v.string(), v.regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'Not the id of a machine.'));

/** Of one question. */
const MOST_DISKS = 256;

const slotNumber = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(31));

/** How a machine looks from outside. `failed`: it is off, and its last run ended with `problem`. */
export const LIBRARY_STATES = ['off', 'starting', 'running', 'paused', 'stopping', 'failed'] as const;

/** A file that could not be read: it stays where it is, under its own name. */
export const damageSchema = v.object({ path: v.string(), problem: problemSchema });

export const libraryEntry = v.object({
  id: v.string(),
  /** Absent exactly when the machine's file is damaged or of a newer version. */
  config: v.optional(machineConfig),
  state: v.picklist(LIBRARY_STATES),
  /** Where it runs; absent while it is off. */
  backend: v.optional(v.picklist(BACKENDS)),
  /** Why it failed. */
  problem: v.optional(problemSchema),
  lastOutcome: v.optional(outcomeSchema),
  damaged: v.optional(damageSchema),
  /** Devices of this computer that it is to have and that are not there as it knows them; looked for while somebody watches. */
  deviceTroubles: v.optional(v.array(deviceTroubleSchema)),
});
export type LibraryEntry = v.InferOutput<typeof libraryEntry>;

export const hostSchema = v.object({
  /** 'probing' until KVM has been tried; the rest is then final. */
  state: v.picklist(['probing', 'ready']),
  kvm: v.object({
    /** A small freestanding guest runs. */
    usable: v.boolean(),
    /** The instructions that a Linux kernel needs run. */
    canBootLinux: v.boolean(),
    problem: v.optional(problemSchema),
  }),
  /** Where machines with a Linux kernel run, and where freestanding (Multiboot) guests do. */
  backend: v.object({ linux: v.picklist(BACKENDS), freestanding: v.picklist(BACKENDS) }),
  /** Whether the user chose the backend (--kvm, --lab). */
  forced: v.boolean(),
  /** One line for people: why this backend, and what it means ("slower"). Empty when everything runs on KVM. */
  why: v.string(),
  euid: v.number(),
  shell: v.picklist(['electron', 'browser']),
  versions: v.object({ vitrine: v.string(), node: v.string(), electron: v.optional(v.string()), kernel: v.string() }),
  /** The library's folder. */
  library: v.string(),
});

/** What a new machine is described by: its file without version, id and origin. */
export const newMachine = v.omit(machineConfig, ['version', 'id', 'origin']);
/** What may be changed of a machine that is off: any of its members, each replaced whole. */
export const machineChanges = v.partial(newMachine);
export type NewMachine = v.InferInput<typeof newMachine>;
export type MachineChanges = v.InferInput<typeof machineChanges>;

export const frontProtocol = {
  methods: {
    createMachine: { params: newMachine, result: v.object({ id }) },
    updateMachine: { params: v.object({ id, changes: machineChanges }), result: nothing },
    /** Removes a machine that is off, with its folder; files that its configuration names elsewhere stay. */
    removeMachine: { params: v.object({ id }), result: nothing },
    /** Progress; answered once the machine's socket answers (also when it runs already), or with its problem. */
    startMachine: { params: v.object({ id }), result: nothing },
    /** A device for a machine from now on, whether it runs or not. Devices of this computer have giveDevices. `told`: as machine.ts has it. */
    addDevice: { params: v.object({ id, device: deviceConfig }), result: v.object({ slot: v.number(), told: v.boolean() }) },
    /** Takes it out of the machine, of a running one when its guest has given it back, and out of its file. */
    removeDevice: {
      params: v.object({ id, slot: slotNumber, force: v.optional(v.boolean(), false), seconds: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(3600)), REMOVE_SECONDS) }),
      result: nothing,
    },
    /** What can be changed while the machine runs: at once if it does, and in its file. */
    changeDevice: { params: v.object({ id, slot: slotNumber, change: deviceChange }), result: nothing },
    /** Other settings for a device of a machine that is off. */
    replaceDevice: { params: v.object({ id, slot: slotNumber, device: deviceConfig }), result: nothing },
    /** The MAC addresses of a machine's network cards, by slot. */
    networkAddresses: { params: v.object({ id }), result: v.object({ addresses: v.record(v.string(), v.string()) }) },
    /** What these images are, each in its place; also of those that a machine uses. */
    describeDisks: {
      params: v.object({ files: v.pipe(v.array(v.object({ file: v.string(), format: v.optional(v.picklist(DISK_FORMATS)) })), v.maxLength(MOST_DISKS)) }),
      result: v.object({ disks: v.array(lookedAt) }),
    },
    /** A new image; an existing file is never touched. In a machine's own folder for disks, that folder is made, too. */
    createDisk: { params: newDisk, result: v.object({ disk: diskDescription }) },
    /** Another size for an image that no machine uses. */
    resizeDisk: { params: newSize, result: v.object({ disk: diskDescription }) },
    /** The devices as they are judged for one machine: its memory, and what is its own already. */
    devicesFor: { params: v.object({ id }), result: hostDevicesSchema },
    /** What giving these groups to the machine would change; changes nothing. */
    planDevices: { params: giveChoice, result: planSchema },
    /**
     * Does what `planDevices` showed, with progress: the machine has the devices in its configuration, and with the mode 'kept' the computer
     * has let go of them. Refused with the code "plan-changed" when `digest` is another than the plan's now.
     */
    giveDevices: { params: v.object({ ...giveChoice.entries, digest: v.string() }), result: nothing },
    /** Takes devices out of the configuration of a machine that is off; what was kept for it is released. */
    takeDevices: { params: v.object({ id, addresses: v.array(v.string()) }), result: nothing },
    /** Does what a button beside a finding says; a person may be asked for permission meanwhile. */
    remedy: { params: remedyRequest, result: nothing },
    /** The end of the machine's log file, at most 256 KiB. */
    readLog: { params: v.object({ id }), result: v.object({ text: v.string(), path: v.string() }) },
  },
  topics: {
    machines: { kind: 'object', params: nothing, snapshot: v.record(v.string(), libraryEntry) },
    host: { kind: 'object', params: nothing, snapshot: hostSchema },
    /** The PCI devices that can be given to machines; read while somebody watches. */
    devices: { kind: 'object', params: nothing, snapshot: hostDevicesSchema },
    /** What Vitrine has changed on this computer for machines; read while somebody watches. */
    leases: { kind: 'object', params: nothing, snapshot: leasesSchema },
  },
} as const;

export type FrontProtocol = typeof frontProtocol;
export type Library = Snapshot<FrontProtocol, 'machines'>;
export type Host = Snapshot<FrontProtocol, 'host'>;
