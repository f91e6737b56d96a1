// The protocol that a machine process serves on its Unix socket, and that a front pipes through under /machine/ID.
import * as v from 'valibot';
import { deviceChange } from '../device-change.ts';
import { deviceConfig } from '../machine-config.ts';
import type { CheckedParams, Result, Snapshot } from './wire.ts';
import { nothing, problemSchema } from './wire.ts';

/** How a machine's life went: starting → running ⇄ paused → stopping → ended. */
export const RUN_STATES = ['starting', 'running', 'paused', 'stopping', 'ended'] as const;
export const BACKENDS = ['kvm', 'lab'] as const;
export type Backend = (typeof BACKENDS)[number];

/**
 * How a machine ended. `powered-off`: the guest did it. `reset`: it reset and its file says to stop then. `halted`: every vCPU
 * halted for good (`exitOnHalt`). `debug-exit`: the guest wrote isa-debug-exit. `forced`: cut by the user. `killed`: the process was
 * gone without a word. `failed`: an error of ours, of KVM or of the configuration.
 */
export const outcomeSchema = v.object({
  /** Milliseconds since 1970. */
  endedAt: v.number(),
  how: v.picklist(['powered-off', 'reset', 'halted', 'debug-exit', 'forced', 'killed', 'failed']),
  /** With `debug-exit`: what a process would exit with, (value << 1) | 1. */
  exitCode: v.optional(v.number()),
  problem: v.optional(problemSchema),
});
export type Outcome = v.InferOutput<typeof outcomeSchema>;

/** Base64 of bytes. */
const base64 = v.pipe(v.string(), v.base64('Not base64.'));

/** The most that one serialWrite may carry, in characters of base64. */
const MAX_SERIAL_WRITE = 64 * 1024;
/** The back-log of the serial console that a new watcher is given, in bytes. */
export const SERIAL_BACKLOG = 256 * 1024;
/** Lines of the log that a new watcher is given. */
export const LOG_BACKLOG = 1000;

/** Slots of the PCI bus, and ports of a console device. */
const slotNumber = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(31));
const portNumber = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(15));
const terminalSide = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(0xffff));

const consolePort = v.object({
  slot: v.number(),
  port: v.number(),
  /** As a Linux guest knows it: "hvc0", "org.vitrine.1". */
  name: v.string(),
  /** Something in the guest has it open. */
  open: v.boolean(),
});
export type ConsolePort = v.InferOutput<typeof consolePort>;

/** Bytes. */
const balloonState = v.object({
  /** What the guest shall keep of its memory. */
  target: v.number(),
  /** What it has of it. */
  actual: v.number(),
  /** A device is passed through, so that nothing can be taken from the guest. */
  off: v.boolean(),
});
export type BalloonState = v.InferOutput<typeof balloonState>;

export const machineStateSchema = v.object({
  id: v.string(),
  name: v.string(),
  state: v.picklist(RUN_STATES),
  pid: v.number(),
  /** Effective user id of the machine process: never 0 in normal use. */
  euid: v.number(),
  /** Milliseconds since 1970. */
  startedAt: v.number(),
  /** When a vCPU first entered the guest, milliseconds since 1970; absent before. */
  firstRunAt: v.optional(v.number()),
  /** Milliseconds spent paused, the present pause not counted. */
  pausedFor: v.number(),
  /** How many times the guest was reset. */
  resets: v.number(),
  backend: v.picklist(BACKENDS),
  cpus: v.number(),
  /** Bytes. */
  memory: v.number(),
  display: v.picklist(['canvas', 'none']),
  /** The guest's mode in pixels; absent while nothing is shown. */
  screen: v.optional(v.object({ width: v.number(), height: v.number() })),
  leds: v.object({ caps: v.boolean(), num: v.boolean(), scroll: v.boolean() }),
  /** The guest works a tablet: viewers tell it where the pointer is (TabletInput), and need not lock it. */
  tablet: v.boolean(),
  /** The ports of virtio consoles, in order. */
  consoles: v.optional(v.array(consolePort)),
  /** Absent without one. */
  balloon: v.optional(balloonState),
  /** Viewers that have the screen attached. */
  viewers: v.number(),
  /** The viewer whose keys and pointer the guest gets; absent when nobody took the input. */
  inputOwner: v.optional(v.string()),
  /** The asking connection's own viewer id. */
  you: v.string(),
  /** What went wrong, while the machine lives on or as the reason of its end. */
  problem: v.optional(problemSchema),
  /** Present once `state` is 'ended'. */
  outcome: v.optional(outcomeSchema),
});

export const logLine = v.object({
  /** Milliseconds since 1970. */
  at: v.number(),
  level: v.picklist(['debug', 'info', 'warning', 'error']),
  text: v.string(),
});
export type LogLine = v.InferOutput<typeof logLine>;

/** What a guest says of its memory, through its balloon's driver: bytes. A guest need not say all of it. */
export const guestMemoryStats = v.object({
  total: v.number(),
  free: v.optional(v.number()),
  /** What programs could still get, caches given up. */
  available: v.optional(v.number()),
  caches: v.optional(v.number()),
  /** Since it started. */
  swapIn: v.optional(v.number()),
  swapOut: v.optional(v.number()),
});
export type GuestMemoryStats = v.InferOutput<typeof guestMemoryStats>;

export const statsSchema = v.object({
  /** When these were taken, milliseconds since 1970. */
  at: v.number(),
  /** Per vCPU, the share of one host core over the last second, 0 to 1. */
  cpu: v.array(v.number()),
  /** Exits per second, by kind ("io", "mmio", "halt"). */
  exits: v.record(v.string(), v.number()),
  /** Frames sent per second, of all viewers together. */
  frames: v.number(),
  /** Resident memory of the machine process, bytes. */
  resident: v.number(),
  /** Absent unless the machine has a balloon whose driver runs. */
  guest: v.optional(guestMemoryStats),
});

/** A function on the machine's PCI bus. */
const pluggedDevice = v.object({
  slot: v.number(),
  function: v.number(),
  /** As it appears in the log: "00:03.0 pci-test". */
  label: v.string(),
  /** What the machine's file or addDevice said; absent for the chipset and the display. */
  kind: v.optional(v.string()),
  /** removeDevice can take it out. */
  removable: v.boolean(),
});
export type PluggedDevice = v.InferOutput<typeof pluggedDevice>;

/** How long removeDevice waits for the guest unless told, in seconds. */
export const REMOVE_SECONDS = 30;

export const machineProtocol = {
  methods: {
    pause: { params: nothing, result: nothing },
    resume: { params: nothing, result: nothing },
    /** Presses the ACPI power button: asks the guest to shut down. */
    powerButton: { params: nothing, result: nothing },
    /** Resets the guest at once, as the button on a case would. */
    reset: { params: nothing, result: nothing },
    /** Cuts the power: the machine ends at once, unsaved work in the guest is lost. Answered before the process goes. */
    forceOff: { params: nothing, result: nothing },
    /** What is on the PCI bus, in slot order. */
    listDevices: { params: nothing, result: v.object({ devices: v.array(pluggedDevice) }) },
    /** Puts a PCI device into the running machine. `told` is false when the guest does not listen for that: it finds the device when it looks. */
    addDevice: { params: v.object({ device: deviceConfig }), result: v.object({ slot: v.number(), told: v.boolean() }) },
    /** Asks the guest to give a PCI device back; answered when it is gone, or has not gone within `seconds`. `force` takes it without asking. */
    removeDevice: {
      params: v.object({
        slot: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(31)),
        force: v.optional(v.boolean(), false),
        seconds: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(3600)), REMOVE_SECONDS),
      }),
      result: nothing,
    },
    /** Changes a device that is in the machine, at once; the machine's file is the caller's to change. */
    changeDevice: { params: v.object({ slot: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(31)), change: deviceChange }), result: nothing },
    /** The guest's screen as it stands, a PNG in base64. */
    screenshot: { params: nothing, result: v.object({ png: base64, width: v.number(), height: v.number() }) },
    /** Bytes for the guest's serial port; answered when the port has taken them all into its queue. */
    serialWrite: { params: v.object({ data: v.pipe(base64, v.maxLength(MAX_SERIAL_WRITE, 'Too much at once.')) }), result: nothing },
    /** Bytes for a port of a virtio console; answered when the port has taken them all into its queue. */
    consoleWrite: { params: v.object({ slot: slotNumber, port: portNumber, data: v.pipe(base64, v.maxLength(MAX_SERIAL_WRITE, 'Too much at once.')) }), result: nothing },
    /** The size of the terminal in which a console is shown, in letters. */
    consoleSize: { params: v.object({ slot: slotNumber, port: portNumber, columns: terminalSide, rows: terminalSide }), result: nothing },
    /** Asks the guest, through its balloon, to keep so many bytes of its memory; answered at once, "balloon" of the state says how far it is. */
    setBalloon: { params: v.object({ bytes: v.pipe(v.number(), v.integer(), v.minValue(0)) }), result: nothing },
    /** Presses evdev key codes in order, then releases them in reverse order: combinations such as Ctrl+Alt+Del. */
    sendKeys: {
      params: v.object({ codes: v.pipe(v.array(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(0x2ff))), v.minLength(1), v.maxLength(16)) }),
      result: nothing,
    },
    /** From now on this connection gets frames, beginning with a whole one; it must acknowledge them. */
    attachScreen: { params: nothing, result: nothing },
    detachScreen: { params: nothing, result: nothing },
    /** Takes the keyboard and the pointer, also from another viewer; keys that it held are released in the guest. */
    takeInput: { params: nothing, result: nothing },
    releaseInput: { params: nothing, result: nothing },
  },
  topics: {
    machine: { kind: 'object', params: nothing, snapshot: machineStateSchema },
    /** What the guest wrote to its first serial port: bytes in base64. `dropped` bytes before the back-log are gone. */
    serial: { kind: 'stream', params: nothing, snapshot: v.object({ data: base64, dropped: v.number() }), append: base64 },
    /** What the guest wrote to a port of a virtio console, as `serial`. */
    console: { kind: 'stream', params: v.object({ slot: slotNumber, port: portNumber }), snapshot: v.object({ data: base64, dropped: v.number() }), append: base64 },
    log: { kind: 'stream', params: nothing, snapshot: v.object({ lines: v.array(logLine) }), append: v.array(logLine) },
    /** Once a second while somebody watches. */
    stats: { kind: 'object', params: nothing, snapshot: statsSchema },
  },
} as const;

export type MachineProtocol = typeof machineProtocol;
export type MachineState = Snapshot<MachineProtocol, 'machine'>;
export type MachineStats = Snapshot<MachineProtocol, 'stats'>;
export type MachineMethod = keyof MachineProtocol['methods'];
export type MachineParams<M extends MachineMethod> = CheckedParams<MachineProtocol, M>;
export type MachineResult<M extends MachineMethod> = Result<MachineProtocol, M>;
