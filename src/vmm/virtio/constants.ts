// Numbers of virtio 1.3 that all devices share, in the specification's order.

/** Device status (§2.1). */
export const STATUS_ACKNOWLEDGE = 0x01;
export const STATUS_DRIVER = 0x02;
export const STATUS_DRIVER_OK = 0x04;
export const STATUS_FEATURES_OK = 0x08;
export const STATUS_NEEDS_RESET = 0x40;
export const STATUS_FAILED = 0x80;

/** Device types (§5). */
export const TYPE_NET = 1;
export const TYPE_BLOCK = 2;
export const TYPE_CONSOLE = 3;
export const TYPE_RNG = 4;
export const TYPE_BALLOON = 5;
export const TYPE_SCSI = 8;
export const TYPE_9P = 9;
export const TYPE_INPUT = 18;
export const TYPE_VSOCK = 19;

/** Features of every device, by number (§6). */
export const F_RING_INDIRECT_DESC = 28;
export const F_RING_EVENT_IDX = 29;
export const F_VERSION_1 = 32;
export const F_RING_PACKED = 34;
export const F_RING_RESET = 40;

/** A queue without a vector, and what a vector reads as that could not be had (§4.1.4.3). */
export const NO_VECTOR = 0xffff;
