// A machine as it lies on disk: `machines/ID/machine.json` in the library. Version 1.
import * as v from 'valibot';

export const CONFIG_VERSION = 1;
const MiB = 2 ** 20;
export const MIN_MEMORY = 16 * MiB;
export const MAX_MEMORY = 1024 * 1024 * MiB;
export const MAX_CPUS = 32;
export const MAX_NAME = 200;

const path = v.pipe(v.string(), v.minLength(1, 'A path must not be empty.'));

/** How the machine begins: a kernel loaded directly (bzImage, PVH ELF, or Multiboot 1 ELF, told by the file itself). */
const boot = v.object({
  kernel: path,
  initrd: v.optional(path),
  append: v.optional(v.string(), ''),
});

const display = v.variant('kind', [
  v.object({
    kind: v.literal('canvas'),
    width: v.optional(v.pipe(v.number(), v.integer(), v.minValue(640), v.maxValue(2560)), 1280),
    height: v.optional(v.pipe(v.number(), v.integer(), v.minValue(480), v.maxValue(1600)), 800),
  }),
  v.object({ kind: v.literal('none') }),
]);

export const machineConfig = v.object({
  version: v.literal(CONFIG_VERSION),
  /** Stable, also the folder's name: lower-case letters, digits and dashes. */
  id: v.pipe(v.string(), v.regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'An id has lower-case letters, digits and dashes.')),
  name: v.pipe(v.string(), v.trim(), v.minLength(1, 'A machine needs a name.'), v.maxLength(MAX_NAME, `A name has at most ${MAX_NAME} characters.`)),
  /** Where it comes from: 'builtin' machines are prepared by set-up and can be restored. */
  origin: v.optional(v.picklist(['user', 'builtin']), 'user'),
  /** Guest RAM in bytes, whole MiB. */
  memory: v.pipe(
    v.number(), v.integer(),
    v.minValue(MIN_MEMORY, 'A machine needs at least 16 MiB of memory.'),
    v.maxValue(MAX_MEMORY, 'A machine can have at most 1 TiB of memory.'),
    v.multipleOf(MiB, 'Memory is given in whole MiB.'),
  ),
  cpus: v.pipe(v.number(), v.integer(), v.minValue(1, 'A machine needs at least one CPU.'), v.maxValue(MAX_CPUS, `A machine can have at most ${MAX_CPUS} CPUs.`)),
  boot,
  display: v.optional(display, { kind: 'canvas', width: 1280, height: 800 }),
  /** What a guest's reset does, and what a triple fault does: boot again, or end the machine. */
  onReset: v.optional(v.picklist(['restart', 'stop']), 'restart'),
  /** Devices for test guests: the debug port 0xE9 and isa-debug-exit at 0xF4. */
  testDevices: v.optional(v.boolean(), false),
  /** End the machine when every vCPU halts with interrupts off (`--exit-on-halt`). */
  exitOnHalt: v.optional(v.boolean(), false),
});

export type MachineConfig = v.InferOutput<typeof machineConfig>;
