// The virtio devices that a machine may have, as they lie in its file (src/vmm/virtio has what they do).
import * as v from 'valibot';

const path = v.pipe(v.string(), v.minLength(1, 'A path must not be empty.'));

const port = v.pipe(v.number(), v.integer(), v.minValue(1, 'A port is a number from 1 to 65535.'), v.maxValue(65535, 'A port is a number from 1 to 65535.'));

/** What an image is: found out from its first bytes unless told. A file that begins like another format is never taken for raw unless told. */
export const DISK_FORMATS = ['raw', 'qcow2'] as const;
export type DiskFormat = (typeof DISK_FORMATS)[number];

/** writeback: the host's page cache, a flush is a real flush. none: past the page cache (O_DIRECT). unsafe: flushes are ignored. */
export const DISK_CACHES = ['writeback', 'none', 'unsafe'] as const;
export type DiskCache = (typeof DISK_CACHES)[number];

/** Of a serial number, as virtio-blk and SCSI have it. */
export const MAX_SERIAL = 20;

const disk = {
  /** An image or a block device. */
  file: path,
  format: v.optional(v.picklist(DISK_FORMATS, 'The format of a disk is raw or qcow2.')),
  readonly: v.optional(v.boolean(), false),
  cache: v.optional(v.picklist(DISK_CACHES, 'The cache of a disk is writeback, none or unsafe.'), 'writeback'),
  /** Made from the machine's id and the slot, of a SCSI drive also its number, unless told: another file there has the same one. */
  serial: v.optional(v.pipe(v.string(), v.regex(/^[\x21-\x7e]{1,20}$/, `A serial number has 1 to ${MAX_SERIAL} letters, digits and signs.`))),
  /** When the host cannot read or write: the guest gets an I/O error, or the machine pauses and tries again when it is resumed. */
  onError: v.optional(v.picklist(['report', 'pause']), 'report'),
};

const scsiDrive = v.variant('kind', [
  v.object({ kind: v.literal('cdrom'), /** The medium; null for an empty drive. */ file: v.nullable(path) }),
  v.object({ kind: v.literal('disk'), ...disk }),
], 'A SCSI drive is a "cdrom" or a "disk".');

/** Who may reach a forwarded port: 127.0.0.1 unless told. */
export const forward = v.object({
  protocol: v.optional(v.picklist(['tcp', 'udp'], 'A port is forwarded by tcp or udp.'), 'tcp'),
  address: v.optional(v.pipe(v.string(), v.regex(/^[0-9a-fA-F:.]+$/, 'The address of a forwarded port is one of this computer\'s, in numbers.'))),
  /** On this computer. */
  host: port,
  guest: port,
});

export type Forward = v.InferOutput<typeof forward>;

const netBackend = v.variant('kind', [
  /** By passt, without any rights. */
  v.object({ kind: v.literal('user'), forwards: v.optional(v.array(forward), []) }),
  /** A TAP interface that was prepared for the user. */
  v.object({
    kind: v.literal('tap'),
    name: v.pipe(v.string(), v.regex(/^[^\s/:]{1,15}$/, 'An interface has a name of 1 to 15 characters.')),
    queues: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(8, 'A network card has at most 8 queues.')), 1),
  }),
  /** A card without a cable. */
  v.object({ kind: v.literal('none') }),
], 'A network is "user", "tap" or "none".');

const mac = v.pipe(
  v.string(), v.regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/, 'A MAC address looks like 52:54:00:12:34:56.'),
  v.check((text) => (Number.parseInt(text.slice(0, 2), 16) & 1) === 0, 'The MAC address of a card is not a group\'s: its first byte is even.'),
);

const RINGS = ['split', 'packed'] as const;

/** The variants of a machine's `devices` that are virtio devices. @param slot the schema of a device's slot */
export function virtioVariants<Slot extends v.GenericSchema<unknown, number>>(slot: Slot) {
  const common = {
    slot: v.optional(slot),
    /** packed: packed rings are offered to the driver besides split ones (virtio 1.3 §2.8). */
    rings: v.optional(v.picklist(RINGS), 'split'),
  };
  return [
    v.object({ kind: v.literal('virtio-blk'), ...common, ...disk, queues: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(16, 'A disk has at most 16 queues.')), 1) }),
    v.object({ kind: v.literal('virtio-scsi'), ...common, drives: v.pipe(v.array(scsiDrive), v.maxLength(64, 'A SCSI controller has at most 64 drives.')) }),
    v.object({ kind: v.literal('virtio-net'), ...common, /** Made from the machine's id and the slot unless told. */ mac: v.optional(mac), backend: netBackend, linkUp: v.optional(v.boolean(), true) }),
    v.object({
      kind: v.literal('virtio-9p'), ...common,
      /** What the guest mounts. */
      tag: v.pipe(v.string(), v.regex(/^[\x21-\x2b\x2d-\x7e]{1,32}$/, 'The tag of a shared folder has 1 to 32 letters, digits and signs, without spaces and commas.')),
      folder: path,
      readonly: v.optional(v.boolean(), false),
    }),
    v.object({ kind: v.literal('virtio-console'), ...common, ports: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(16, 'A console has at most 16 ports.')), 1) }),
    v.object({ kind: v.literal('virtio-rng'), ...common }),
    v.object({ kind: v.literal('virtio-balloon'), ...common }),
    v.object({ kind: v.literal('virtio-input'), ...common, form: v.picklist(['keyboard', 'tablet'], 'An input device is a keyboard or a tablet.') }),
    v.object({ kind: v.literal('virtio-vsock'), ...common, /** The guest's number. */ cid: v.pipe(v.number(), v.integer(), v.minValue(3, 'A context id is a number from 3 on.'), v.maxValue(0xffff_fffe)) }),
  ] as const;
}
