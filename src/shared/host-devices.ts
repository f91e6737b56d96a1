// The host's PCI devices as people and scripts see them: what each is, who uses it, what stands in the way of giving it to a machine,
// and one verdict per IOMMU group. src/main/host-devices reads it from sysfs; the pages and the command line only show it.
// A value that is not known is absent: patches of the protocol use null for "gone".
import * as v from 'valibot';
import { problemSchema } from './protocol/wire.ts';

/**
 * What can stand in the way, in the order in which it is looked for. Stable words for scripts; some have an `aspect` that says which of
 * several things of one kind it is.
 */
export const FINDING_CODES = [
  /** CPU virtualisation is off, or /dev/kvm cannot be used. Aspects: missing, module, permission. */
  'kvm-unusable',
  /** The IOMMU is off. Aspects: firmware, parameter, kernel, hypervisor. */
  'iommu-off',
  /** Interrupts are not remapped, so a device could send any. */
  'no-interrupt-remapping',
  /** Others are in the group. Aspects: functions (of the same card), others, bridge, needed (one of them must stay). */
  'group-shared',
  /** The computer cannot do without it. Aspects: root, home, boot, mount, swap, volume, network, firmware. */
  'host-needs-it',
  /** The group was split by the kernel parameter pcie_acs_override. */
  'acs-override',
  /** A driver of the host has it. Aspects: idle, screen, graphics, network, sound, input, usb, programs, board, volume. */
  'driver-in-use',
  /** The boot framebuffer lies on it. */
  'boot-framebuffer',
  /** The only graphics card. Aspects: desktop (asked from a desktop that runs on it), console. */
  'only-gpu',
  /** No usable reset, or one that takes others along. Aspects: none, bus, together. */
  'no-reset',
  /** The ROM is missing or shadowed. Aspects: missing, shadowed. */
  'rom-missing',
  /** The MSI-X table shares a BAR with registers. */
  'msix-shared-bar',
  /** BARs of 4 GiB and more, or under a page. Aspects: large, small. */
  'bar-size',
  /** No access to /dev/vfio/N. */
  'no-vfio-access',
  /** The limit of locked memory is under the guest's RAM. */
  'memlock-low',
  /** Aspects: missing (modules), unloaded (one that is there), lockdown, virtual-functions (offered by an SR-IOV card). */
  'kernel-modules',
  /** Another machine has it. Aspects: running, program (not one of ours), off. */
  'claimed',
  /** The guest's RAM is pinned all at once. */
  'memory-pinned',
] as const;
export type FindingCode = (typeof FINDING_CODES)[number];

/** `information`: good to know. `care`: possible, and something stops or must be done. `refused`: not as things are. */
export const SEVERITIES = ['information', 'care', 'refused'] as const;
export type Severity = (typeof SEVERITIES)[number];

export const VERDICTS = ['ready', 'with-care', 'not-possible'] as const;
export type Verdict = (typeof VERDICTS)[number];
/** The verdicts as words for people. */
export const VERDICT_WORDS: Record<Verdict, string> = { ready: 'ready', 'with-care': 'with care', 'not-possible': 'not possible' };

export const findingSchema = v.object({
  code: v.picklist(FINDING_CODES),
  aspect: v.optional(v.string()),
  severity: v.picklist(SEVERITIES),
  /** What is so, for people: "Your screen runs on this." */
  sentence: v.string(),
  /** What to do; empty when nothing is to be done. */
  remedy: v.string(),
  /** The same in a terminal, a line each, where it can be done so; and how it is undone. */
  commands: v.optional(v.array(v.string())),
  undo: v.optional(v.array(v.string())),
  /** What a button can do about it. `set-functions` asks for a number first; `ask-rom` asks for a file, which becomes a part of the plan. */
  actions: v.optional(v.array(v.object({
    label: v.string(),
    verb: v.picklist(['load-modules', 'reserve', 'unreserve', 'set-functions', 'restore-functions', 'move', 'ask-rom']),
    /** For load-modules. */
    modules: v.optional(v.picklist(['vfio', 'kvm'])),
    /** For what is about a device. */
    address: v.optional(v.string()),
    /** For move: the machine that has it, by id. */
    machine: v.optional(v.string()),
    /** For set-functions: the most that the card can have. */
    most: v.optional(v.number()),
  }))),
  /** Addresses, names and numbers behind the sentence. Sizes are in bytes. */
  facts: v.record(v.string(), v.union([v.string(), v.number(), v.boolean(), v.array(v.string())])),
});
export type Finding = v.InferOutput<typeof findingSchema>;

/** A kind of device, for its picture and its word. */
export const DEVICE_KINDS = ['graphics', 'audio', 'network', 'wireless', 'nvme', 'storage', 'usb', 'bridge', 'board', 'serial', 'input', 'accelerator', 'other'] as const;
export type DeviceKind = (typeof DEVICE_KINDS)[number];

/** Who uses a device, and for what. */
export const USE_KINDS = ['root', 'home', 'boot', 'mount', 'swap', 'volume', 'network', 'screen', 'framebuffer', 'sound', 'input', 'usb', 'programs'] as const;

export const useSchema = v.object({
  kind: v.picklist(USE_KINDS),
  /** "Your home directory is on this." */
  sentence: v.string(),
  /** The technical name beside it: "/home on nvme0n1p3". */
  detail: v.string(),
});
export type Use = v.InferOutput<typeof useSchema>;

export const barSchema = v.object({
  /** 0 to 5. */
  index: v.number(),
  kind: v.picklist(['io', 'memory32', 'memory64']),
  prefetchable: v.boolean(),
  /** Bytes. */
  size: v.number(),
});
export type Bar = v.InferOutput<typeof barSchema>;

export const hostDeviceSchema = v.object({
  /** "0000:03:00.0" */
  address: v.string(),
  /** As people know it: "Radeon RX 7600". Never empty. */
  name: v.string(),
  /** "Advanced Micro Devices, Inc. [AMD/ATI]"; "Vendor 1234" when no list knows it. */
  vendor: v.string(),
  /** The device's entry in pci.ids, whole. */
  model: v.string(),
  kind: v.picklist(DEVICE_KINDS),
  /** "VGA compatible controller" */
  className: v.string(),
  /** endpoint: can be given away. bridge: leads to others and stays. board: a part of the computer's board itself. */
  role: v.picklist(['endpoint', 'bridge', 'board']),
  /** Four hexadecimal digits each; subsystem absent where there is none. */
  vendorId: v.string(),
  deviceId: v.string(),
  subsystemVendorId: v.optional(v.string()),
  subsystemDeviceId: v.optional(v.string()),
  /** Six hexadecimal digits: class, subclass, programming interface. */
  classCode: v.string(),
  revision: v.optional(v.string()),
  /** Tells two of one kind apart, where the device or its driver says it: a serial number, a network card's own address. */
  serial: v.optional(v.string()),
  /** What the firmware calls the place: "Onboard LAN", "Slot 3". */
  place: v.optional(v.string()),
  /** The bridge that it is behind; absent on a root bus. */
  parent: v.optional(v.string()),
  driver: v.optional(v.string()),
  driverOverride: v.optional(v.string()),
  /** Bound to vfio-pci or one of its variants. */
  onVfio: v.boolean(),
  bars: v.array(barSchema),
  /** Bytes; absent without a ROM. */
  rom: v.optional(v.object({ size: v.number(), shadowed: v.boolean() })),
  bootVga: v.boolean(),
  /** As the kernel would try them: "flr", "pm", "bus", "device_specific". */
  resets: v.array(v.string()),
  numaNode: v.optional(v.number()),
  virtualFunctions: v.optional(v.object({ total: v.number(), enabled: v.number(), addresses: v.array(v.string()) })),
  /** The card of which this is a virtual function. */
  physicalFunction: v.optional(v.string()),
  link: v.optional(v.object({ speed: v.string(), width: v.number(), maxSpeed: v.string(), maxWidth: v.number() })),
  /** "D0" to "D3cold". */
  power: v.optional(v.string()),
  /** The key of its group in `groups`. */
  group: v.string(),
  uses: v.array(useSchema),
  verdict: v.picklist(VERDICTS),
  /** The reason for the verdict. */
  sentence: v.string(),
  findings: v.array(findingSchema),
});
export type HostDevice = v.InferOutput<typeof hostDeviceSchema>;

export const deviceGroupSchema = v.object({
  /** The IOMMU group's number, or the slot where there is no IOMMU. */
  key: v.string(),
  /** Absent where there is no IOMMU: the devices of one slot then stand together. */
  number: v.optional(v.number()),
  /** Addresses, in order. */
  devices: v.array(v.string()),
  /** Those that go along when the group is given: bridges stay. */
  given: v.array(v.string()),
  /** The worst of its members. */
  verdict: v.picklist(VERDICTS),
  sentence: v.string(),
});
export type DeviceGroup = v.InferOutput<typeof deviceGroupSchema>;

export const iommuSchema = v.object({
  on: v.boolean(),
  kind: v.picklist(['intel', 'amd', 'smmu', 'virtio', 'other', 'none']),
  /** Names in /sys/class/iommu. */
  units: v.array(v.string()),
  groups: v.number(),
  /** Which of the firmware's tables describe one: DMAR, IVRS, IORT, VIOT. */
  tables: v.array(v.string()),
  /** Parameters of the running kernel that have to do with it. */
  parameters: v.array(v.string()),
  interruptRemapping: v.picklist(['yes', 'no', 'unknown']),
  unsafeInterruptsAllowed: v.boolean(),
  /** The value of pcie_acs_override, when it is set. */
  acsOverride: v.optional(v.string()),
});
export type IommuFacts = v.InferOutput<typeof iommuSchema>;

export const hostFactsSchema = v.object({
  cpuVendor: v.picklist(['intel', 'amd', 'arm', 'other']),
  /** This host is a guest itself. */
  virtual: v.boolean(),
  kernel: v.string(),
  /** Bytes. */
  memory: v.object({ total: v.number(), available: v.number() }),
  /** Bytes that one process may lock; absent: no limit. */
  memlock: v.optional(v.number()),
  lockdown: v.optional(v.string()),
  vfioModule: v.picklist(['loaded', 'available', 'missing', 'unknown']),
});

/** The machine that is asked for, when one is. */
export const forMachine = v.object({ id: v.optional(v.string()), name: v.string(), /** Bytes. */ memory: v.number() });
export type ForMachine = v.InferOutput<typeof forMachine>;

export const hostDevicesSchema = v.object({
  /** 'reading' until it was read once; 'failed' with a problem when it could not be. */
  state: v.picklist(['reading', 'ready', 'failed']),
  problem: v.optional(problemSchema),
  /** Where these devices are: this computer, or the lab. */
  on: v.picklist(['host', 'lab']),
  host: v.optional(hostFactsSchema),
  iommu: v.optional(iommuSchema),
  /** What concerns the computer as a whole. */
  findings: v.array(findingSchema),
  devices: v.record(v.string(), hostDeviceSchema),
  groups: v.record(v.string(), deviceGroupSchema),
});
export type HostDevices = v.InferOutput<typeof hostDevicesSchema>;
