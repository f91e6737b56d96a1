// The header before every frame between driver and device, and between the kernel's TAP and us: what is left to do for the frame (virtio 1.3
// §5.1.6, struct virtio_net_hdr; linux/virtio_net.h). Twelve bytes, little-endian, also without mergeable buffers (§5.1.6.1).
//
//   flags (1), gso_type (1), hdr_len (2), gso_size (2), csum_start (2), csum_offset (2), num_buffers (2)

export const HEADER_BYTES = 12;
export const HDR_NUM_BUFFERS = 10;

export const HDR_F_NEEDS_CSUM = 1;
export const HDR_F_DATA_VALID = 2;

export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
export const GSO_UDP = 3;
export const GSO_TCPV6 = 4;
export const GSO_UDP_L4 = 5;
export const GSO_ECN = 0x80;

const FLAGS = 0;
const GSO_TYPE = 1;
const HDR_LEN = 2;
const GSO_SIZE = 4;
const CSUM_START = 6;
const CSUM_OFFSET = 8;
const CSUM_BYTES = 2;

export const ETHERNET_BYTES = 14;
/** Ethernet, IPv6 with nothing between, TCP without options: less than these no frame with segments to be made can have. */
const SMALLEST_GSO_FRAME = ETHERNET_BYTES + 20 + 8;

/** What the driver may leave to the device, as it was negotiated. */
export interface Offloads {
  readonly checksum: boolean;
  readonly tcp4: boolean;
  readonly tcp6: boolean;
  readonly ecn: boolean;
  readonly udp: boolean;
}

/**
 * Why the driver may not send such a frame, or undefined when it may.
 * @param header a private copy: the guest's own may change after it was looked at
 * @param bytes of the frame after it
 */
export function headerFault(header: DataView, bytes: number, offloads: Offloads): string | undefined {
  if (bytes < ETHERNET_BYTES) return 'it is shorter than an Ethernet header';
  const needsChecksum = (header.getUint8(FLAGS) & HDR_F_NEEDS_CSUM) !== 0;
  if (needsChecksum) {
    if (!offloads.checksum) return 'it wants a checksum, which was not negotiated';
    if (header.getUint16(CSUM_START, true) + header.getUint16(CSUM_OFFSET, true) + CSUM_BYTES > bytes) return 'its checksum lies outside the frame';
  }
  const type = header.getUint8(GSO_TYPE);
  if (type === GSO_NONE) return undefined;
  const kind = type & ~GSO_ECN;
  const negotiated = kind === GSO_TCPV4 ? offloads.tcp4 : kind === GSO_TCPV6 ? offloads.tcp6 : kind === GSO_UDP_L4 ? offloads.udp : false;
  if (!negotiated) return 'it wants segmentation of a kind that was not negotiated';
  if ((type & GSO_ECN) !== 0 && (!offloads.ecn || kind === GSO_UDP_L4)) return 'it wants congestion notification, which was not negotiated';
  if (!needsChecksum) return 'it wants segmentation without checksums';
  if (header.getUint16(GSO_SIZE, true) === 0) return 'it wants segments of no bytes';
  if (bytes < SMALLEST_GSO_FRAME) return 'it wants segmentation and has no room for the headers';
  if (header.getUint16(HDR_LEN, true) > bytes) return 'its headers are longer than the frame';
  return undefined;
}
