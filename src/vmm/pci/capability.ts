// Capabilities without behaviour of their own: PCI Express for an integrated endpoint, and vendor-specific bytes. With behaviour: msi.ts, msix.ts.
import type { Capability } from './function.ts';

const ID_VENDOR = 0x09;
const ID_PCI_EXPRESS = 0x10;

const RC_INTEGRATED_ENDPOINT = 0x9 << 4;
const CAPABILITY_VERSION = 2;
const ROLE_BASED_ERRORS = 0x8000; // must be set since PCIe 1.1
const MAX_READ_REQUEST_512 = 0x2000;

/**
 * The PCI Express capability, version 2, of a Root Complex Integrated Endpoint (PCIe 3.0 §7.8): no link registers, which such a device has not.
 * Reset by function (FLR) is not offered.
 */
export function expressEndpoint(): Capability {
  return {
    id: ID_PCI_EXPRESS,
    bytes: 0x3c,
    install(image, offset) {
      image.set(offset + 2, 2, RC_INTEGRATED_ENDPOINT | CAPABILITY_VERSION);
      image.set(offset + 4, 4, ROLE_BASED_ERRORS);
      image.set(offset + 8, 2, MAX_READ_REQUEST_512).allow(offset + 8, 2, 0x7fff);
      image.clearByOne(offset + 10, 2, 0xf);
    },
  };
}

/** A vendor-specific capability (PCI 3.0 §6.7 and appendix H): byte 2 is its length, then `content`; read-only except bits of `writable`. */
export function vendorCapability(content: Uint8Array, writable?: Uint8Array): Capability {
  const bytes = 3 + content.length;
  return {
    id: ID_VENDOR,
    bytes,
    install(image, offset) {
      image.set(offset + 2, 1, bytes);
      content.forEach((byte, index) => image.set(offset + 3 + index, 1, byte));
      writable?.forEach((byte, index) => image.allow(offset + 3 + index, 1, byte));
    },
  };
}
