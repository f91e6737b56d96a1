// A machine as it lies on disk: `machines/ID/machine.json` in the library. Version 1.
import * as v from 'valibot';
import { conflictsOf } from './device-conflicts.ts';
import { virtioVariants } from './virtio-config.ts';

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
], 'A machine has at most one display backend, and it is "canvas" or "none".');

/** Slots of bus 0 that devices may have; the others have the chipset (0 and 31) and the display (2). */
export const FIRST_SLOT = 1;
export const LAST_SLOT = 30;
export const DISPLAY_SLOT = 2;

const NO_SLOT = `A PCI device goes into a slot from ${FIRST_SLOT} to ${LAST_SLOT}.`;
const slot = v.pipe(
  v.number(), v.integer(NO_SLOT), v.minValue(FIRST_SLOT, NO_SLOT), v.maxValue(LAST_SLOT, NO_SLOT),
  v.notValue(DISPLAY_SLOT, `Slot ${DISPLAY_SLOT} is the display's.`),
);

const KIB = 2 ** 10;
const WINDOW = 'A memory window is a power of two, from 128 KiB to 512 GiB.';

/** Domain, bus, device and function of a device of the host. */
export const HOST_ADDRESS = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$/;

/** A PCI device that a machine has beside its chipset and its display. */
export const deviceConfig = v.variant('kind', [
  /** Made for tests of guests and of PCI itself (src/vmm/devices/pci-test): every kind of BAR, of interrupt and of capability. */
  v.object({
    kind: v.literal('pci-test'),
    /** The lowest free one unless told. */
    slot: v.optional(slot),
    /** How many functions it has, alike. */
    functions: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1, 'A device has at least one function.'), v.maxValue(8, 'A device has at most 8 functions.')), 1),
    /** Bytes of its 64-bit BAR. */
    window: v.optional(v.pipe(v.number(), v.integer(WINDOW), v.minValue(128 * KIB, WINDOW), v.maxValue(2 ** 39, WINDOW), v.check((bytes) => Number.isInteger(Math.log2(bytes)), WINDOW)), 128 * KIB),
    /** KVM notes which pages of its mapped memory are written. */
    dirtyLog: v.optional(v.boolean(), false),
    /** MSI-X table and pending bits lie in BAR 0, beside the registers, and not in a BAR of their own. */
    sharedMsix: v.optional(v.boolean(), false),
  }),
  /** A device of the host, by VFIO (src/vmm/vfio): bound to vfio-pci when the machine starts. */
  v.object({
    kind: v.literal('vfio-pci'),
    slot: v.optional(slot),
    /** As Linux writes it. */
    address: v.pipe(v.string(), v.regex(HOST_ADDRESS, 'An address looks like 0000:03:00.0.')),
    /** What it was when it was given: it is looked for by this when another device, or none, has the address. */
    identity: v.optional(v.object({
      name: v.string(),
      /** Four hexadecimal digits each. */
      vendorId: v.string(), deviceId: v.string(), subsystemVendorId: v.optional(v.string()), subsystemDeviceId: v.optional(v.string()),
      /** Tells two of one kind apart, where the device has it: the PCI Express serial number or a MAC address. */
      serial: v.optional(v.string()),
    })),
    /** Its expansion ROM: the device's own unless told. */
    rom: v.optional(v.union([v.literal('off'), v.object({ file: path })])),
  }),
  ...virtioVariants(slot),
], (issue) => `There is no PCI device of the kind ${issue.received}.`);
export type DeviceConfig = v.InferOutput<typeof deviceConfig>;
export type PciTestConfig = Extract<DeviceConfig, { kind: 'pci-test' }>;
export type HostDeviceConfig = Extract<DeviceConfig, { kind: 'vfio-pci' }>;
export type VirtioConfig = Extract<DeviceConfig, { kind: `virtio-${string}` }>;
/** The configuration of one kind of virtio device: `VirtioConfigOf<'virtio-blk'>`. */
export type VirtioConfigOf<Kind extends VirtioConfig['kind']> = Extract<VirtioConfig, { kind: Kind }>;

/** The devices of one machine, with what cannot be together found (device-conflicts.ts). */
const deviceList = v.pipe(v.array(deviceConfig), v.rawCheck(({ dataset, addIssue }) => {
  if (!dataset.typed) return;
  const devices = dataset.value;
  for (const { device, path, message } of conflictsOf(devices)) {
    let input: unknown = devices;
    const items = [device, ...path].map((key) => {
      const item = { type: 'unknown' as const, origin: 'value' as const, input, key, value: (input as Record<string | number, unknown>)[key] };
      input = item.value;
      return item;
    });
    addIssue({ message, path: items as [typeof items[0], ...typeof items] });
  }
}));

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
  /** PCI devices, in the order in which they take the slots that are free. */
  devices: v.optional(deviceList, []),
  /** What a guest's reset does, and what a triple fault does: boot again, or end the machine. */
  onReset: v.optional(v.picklist(['restart', 'stop']), 'restart'),
  /** Devices for test guests: the debug port 0xE9 and isa-debug-exit at 0xF4. */
  testDevices: v.optional(v.boolean(), false),
  /** End the machine when every vCPU halts with interrupts off (`--exit-on-halt`). */
  exitOnHalt: v.optional(v.boolean(), false),
});

export type MachineConfig = v.InferOutput<typeof machineConfig>;

/** The devices of the host that a machine has, in order; none of one whose file cannot be read. */
export function hostDevicesOf(config: Pick<MachineConfig, 'devices'> | undefined): HostDeviceConfig[] {
  return (config?.devices ?? []).filter((device) => device.kind === 'vfio-pci');
}

export function isVirtio(device: DeviceConfig): device is VirtioConfig {
  return device.kind.startsWith('virtio-');
}
