// Giving devices of the computer to machines, as pages, the command line and scripts see it: the plan of what would change, what is given
// away just now, and what can be done about a finding at the press of a button. src/main/passthrough makes and does all of it.
import * as v from 'valibot';
import { findingSchema, VERDICTS } from './host-devices.ts';
import { problemSchema } from './protocol/wire.ts';

/** One change on the computer, or of the machine, in the order in which they are made. */
export const planStepSchema = v.object({
  /**
   * machine: its configuration. module: loaded. unbind: a driver of the computer lets go. bind: to vfio-pci. permit: the group's node.
   * memlock: memory that the machine's process may lock.
   */
  what: v.picklist(['machine', 'module', 'unbind', 'bind', 'permit', 'memlock']),
  /** "Stop the driver amdgpu for slot 03:00.0". Parts between backquotes are technical names. */
  sentence: v.string(),
  /** What that means: "The screen on its DisplayPort goes dark." May be empty. */
  detail: v.string(),
  /** How it is undone: "Give it back to amdgpu". Empty for what needs no undoing. */
  undo: v.string(),
  /** The devices that it is about. */
  addresses: v.array(v.string()),
});
export type PlanStep = v.InferOutput<typeof planStepSchema>;

/**
 * start: the computer gives the devices when the machine starts, and has them back when it stops. kept: now, until they are released or
 * the computer restarts.
 */
export const GIVE_MODES = ['start', 'kept'] as const;
export type GiveMode = (typeof GIVE_MODES)[number];

/** The expansion ROM that a guest sees in the place of the device's own, by address. */
export const romChoices = v.record(v.string(), v.union([v.literal('off'), v.object({ file: v.string() })]));

/** What was chosen in the wizard. */
export const giveChoice = v.object({
  /** The machine. */
  id: v.string(),
  /** Keys of groups, each given whole, in addition to what the machine has. */
  groups: v.array(v.string()),
  mode: v.picklist(GIVE_MODES),
  roms: v.optional(romChoices, {}),
});
export type GiveChoice = v.InferOutput<typeof giveChoice>;

export const planSchema = v.object({
  /** Addresses that go, in the order in which the guest gets them. */
  devices: v.array(v.string()),
  verdict: v.picklist(VERDICTS),
  /** Why it cannot be done as things are; then there are no steps. */
  problem: v.optional(problemSchema),
  steps: v.array(planStepSchema),
  /**
   * What has to be known before: findings of the devices and of the computer that are not mere information, and that the steps do not mend.
   * Each with the addresses of the devices that it is about; none for the computer as a whole.
   */
  warnings: v.array(v.object({ ...findingSchema.entries, devices: v.array(v.string()) })),
  /**
   * Who allows it. none: nothing needs permission. password: polkit asks. granted: it was allowed for this machine and these devices.
   * terminal: nobody can be asked here, the commands do it. helper: the privileged helper must be installed first.
   */
  permission: v.picklist(['none', 'password', 'granted', 'terminal', 'helper']),
  /** The same in a terminal, and how it is undone there. */
  commands: v.array(v.string()),
  undo: v.array(v.string()),
  /** Of what the plan rests on. Giving with another one is refused: nothing is done that was not shown. */
  digest: v.string(),
});
export type Plan = v.InferOutput<typeof planSchema>;

/** A device that is away from its own driver because of Vitrine. */
export const givenDeviceSchema = v.object({
  address: v.string(),
  /** The driver that it goes back to; absent for none. */
  driver: v.optional(v.string()),
  /** held: for as long as a machine runs. kept: until it is released. reserved: from the computer's start, by a file. */
  how: v.picklist(['held', 'kept', 'reserved']),
  /** The machine that has it or is to have it. */
  machine: v.optional(v.object({ id: v.string(), name: v.string() })),
  /** Reserved, and not yet in effect: from the computer's next start. */
  waiting: v.optional(v.boolean()),
  /** Kept by another user of this computer: only that one, or an administrator, can release it. */
  foreign: v.optional(v.boolean()),
});
export type GivenDevice = v.InferOutput<typeof givenDeviceSchema>;

/** Devices that a machine may be given without a password. */
export const grantSchema = v.object({
  machine: v.object({ id: v.string(), name: v.string() }),
  /** There is no such machine any more; its name is its id then. */
  gone: v.optional(v.boolean()),
  addresses: v.array(v.string()),
  /** Bytes that it may lock. */
  memory: v.number(),
  /** Withdraws it in a terminal. */
  withdraw: v.array(v.string()),
});
export type Grant = v.InferOutput<typeof grantSchema>;

/** What Vitrine has changed on this computer and what it may change. */
export const leasesSchema = v.object({
  state: v.picklist(['reading', 'ready']),
  given: v.array(givenDeviceSchema),
  grants: v.array(grantSchema),
  /** Cards whose number of virtual functions was set, by address, with the number that they had before. */
  functions: v.record(v.string(), v.object({ now: v.number(), before: v.number() })),
  helper: v.object({
    state: v.picklist(['installed', 'missing', 'untrusted', 'outdated']),
    why: v.string(),
    /** Somebody can be asked for permission here: polkit has its action, and pkexec is there. */
    canAsk: v.boolean(),
    install: v.array(v.string()),
    remove: v.array(v.string()),
  }),
});
export type Leases = v.InferOutput<typeof leasesSchema>;

/** What is wrong with a device that a machine has in its configuration: said before the machine is started. */
export const deviceTroubleSchema = v.object({
  /** As the machine's file has it. */
  address: v.string(),
  name: v.string(),
  /**
   * gone: no such device any more. moved: it has another address now. replaced: another device has its address. taken: another machine that
   * runs has it.
   */
  kind: v.picklist(['gone', 'moved', 'replaced', 'taken']),
  sentence: v.string(),
  /** What to do; empty when nothing is to be done. */
  remedy: v.string(),
  /** For moved: where it is now, for the remedy "use-at". Absent when there are several that it could be. */
  to: v.optional(v.string()),
});
export type DeviceTrouble = v.InferOutput<typeof deviceTroubleSchema>;

/** What a button beside a finding does. Everything but `use-at` and `move` is the privileged helper's and asks for permission. */
export const remedyRequest = v.variant('verb', [
  /** Loads the modules that are missing: VFIO's or KVM's. */
  v.object({ verb: v.literal('load-modules'), modules: v.picklist(['vfio', 'kvm']) }),
  /** From start-up no driver of the computer touches the card at this address (all of its functions). */
  v.object({ verb: v.picklist(['reserve', 'unreserve']), address: v.string() }),
  /** Sets the number of virtual functions of a card; `restore-functions` sets the number that it had. */
  v.object({ verb: v.literal('set-functions'), address: v.string(), count: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65535)) }),
  v.object({ verb: v.literal('restore-functions'), address: v.string() }),
  /** A machine that is off has the device at `to` in the place of the one that it had at `address`. */
  v.object({ verb: v.literal('use-at'), id: v.string(), address: v.string(), to: v.string() }),
  /** Takes the devices out of the configuration of a machine that is off, so that another can have them. */
  v.object({ verb: v.literal('move'), addresses: v.array(v.string()), from: v.string() }),
  /** Gives back what is kept. */
  v.object({ verb: v.literal('release'), addresses: v.array(v.string()) }),
  /** This machine may have these devices without a password from now on; and no more. */
  v.object({ verb: v.picklist(['grant', 'revoke']), id: v.string(), addresses: v.array(v.string()) }),
  v.object({ verb: v.picklist(['install-helper', 'remove-helper']) }),
]);
export type RemedyRequest = v.InferOutput<typeof remedyRequest>;
